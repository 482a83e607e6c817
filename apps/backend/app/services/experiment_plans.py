"""What experiments can be: arms with their shares, the steps of a ramp, and guardrails."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from app.errors import Conflict, InvalidInput
from app.services.deployments import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.services.experiment_assignment import Arm, Unit

CANARY_RAMP: Final = (0.01, 0.1, 0.5, 1.0)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_MOST_ARMS: Final = 10
_ROUNDING: Final = 1e-9
_LEAST_SHARE: Final = 1e-6


@dataclass(frozen=True)
class Guardrails:
    """What stops a treatment by itself, each judged with its whole interval.

    Attributes:
        acceptance_margin: How far its accepted share may lie below the control's.
        coverage_margin: How far the share of transactions that something is suggested for may.
        most_fallbacks: What share of its suggestions the heuristics may have made in the model's place.
        step_answers: Answers that each arm needs before the ramp goes a step further.
        most_loss: What share of all suggestions might be accepted no more at the next step, as far as is known.
    """

    acceptance_margin: float = 0.05
    coverage_margin: float = 0.1
    most_fallbacks: float = 0.02
    step_answers: int = 100
    most_loss: float = 0.05


@dataclass(frozen=True)
class Plan:
    """What is to be divided between what.

    Attributes:
        name: Small letters, digits and hyphens; no other experiment's.
        unit: What is divided: users, or merchants of users.
        arms: The control first.
        ramp: Shares of the treatments' final shares, ascending to 1, that they are given one after the other.
        guardrails: What stops a treatment by itself.
    """

    name: str
    unit: Unit
    arms: tuple[Arm, ...]
    ramp: tuple[float, ...] = (1.0,)
    guardrails: Guardrails = Guardrails()


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out.

    Raises:
        InvalidInput: Name, arms, ramp or guardrails cannot be used.
    """
    arms, ramp = plan.arms, plan.ramp
    if not _NAME.fullmatch(plan.name):
        raise InvalidInput("An experiment's name has 1 to 60 small letters, digits and hyphens.")
    if not 1 < len(arms) <= _MOST_ARMS:
        raise InvalidInput(f"An experiment has a control and 1 to {_MOST_ARMS - 1} treatments.")
    if len({arm.name for arm in arms}) < len(arms) or not all(_NAME.fullmatch(arm.name) for arm in arms):
        raise InvalidInput("Arms have names of their own, of small letters, digits and hyphens.")
    if any((arm.version is None) == (arm.engine == "version") for arm in arms):
        raise InvalidInput(
            "An arm asks the heuristics (rule), the champion, the challenger, or a version by its number."
        )
    if any(not 0 <= arm.share <= 1 for arm in arms) or abs(sum(arm.share for arm in arms) - 1) > _ROUNDING:
        raise InvalidInput("The shares of the arms are 0 to 100 % each and 100 % together.")
    if any(arm.share < _LEAST_SHARE for arm in arms[1:]):
        raise InvalidInput("A treatment has a share of more than 0 %; without one it would never be judged.")
    if not ramp or list(ramp) != sorted(set(ramp)) or ramp[0] <= 0 or ramp[-1] != 1:
        raise InvalidInput("A ramp rises from step to step and ends at 100 %.")
    if arms[0].share < _LEAST_SHARE and len(ramp) == 1:
        raise InvalidInput(
            "A control without a share needs a ramp of several steps, or there is nothing to compare with."
        )
    if any(not 0 <= limit <= 1 for name, limit in asdict(plan.guardrails).items() if name != "step_answers"):
        raise InvalidInput("Guardrails are shares from 0 to 100 %.")


def check_roles(session: Session, category_set: int | None, arms: Sequence[Arm]) -> None:
    """Refuse arms that nobody would answer in, and a version beside itself.

    Raises:
        Conflict: There are such.
    """
    roles = asdict(current(session, category_set))
    for arm in arms:
        if arm.engine in roles and roles[arm.engine] is None:
            raise Conflict(
                f"There is no {arm.engine} that the arm {arm.name} could ask; `lm models list` shows what is."
            )
    versions = {arm.version for arm in arms if arm.version is not None}
    for role in {arm.engine for arm in arms} & roles.keys():
        if roles[role] in versions:
            raise Conflict(f"Version {roles[role]} is {role}, so two arms would ask it; put another version beside it.")
