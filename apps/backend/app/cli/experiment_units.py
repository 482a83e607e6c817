"""How many units an experiment would have, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli.output import note, results
from app.services.experiment_units import FEW_UNITS, UNIT_DAYS, units_of_smaller_arm

if TYPE_CHECKING:
    from app.services.experiment_plans import Plan


def print_units(plan: Plan, units: int) -> None:
    """Print how many units the smaller arm would have at each step of the ramp, and warn where they are too few."""
    what = "users" if plan.unit == "user" else "merchants of users"
    at_steps = [(step, units_of_smaller_arm(plan.arms, units, step)) for step in plan.ramp]
    told = ", ".join(f"{count:,} at {step:.0%}" for step, count in at_steps)
    results.print(f"Of {units:,} {what} in the last {UNIT_DAYS} days the smaller arm has {told}.", soft_wrap=True)
    if at_steps[0][1] >= FEW_UNITS:
        return
    if len(plan.ramp) == 1:
        sentence = f"fewer than {FEW_UNITS} of an arm show only differences that are large."
    else:
        sentence = (
            f"with fewer than {FEW_UNITS} of an arm the first step cannot show what the next may cost, so the ramp "
            f"stays there; `lm experiments ramp {plan.name} --to {100 * plan.ramp[1]:g}` goes on by hand."
        )
    note("Few units:", sentence)
