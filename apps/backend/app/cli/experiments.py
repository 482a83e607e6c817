"""`lm experiments`: who suggests to whom, and what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.cli.experiment_units import print_units
from app.cli.output import one_line, results
from app.cli.who import User, acting_user, ask_reason, os_user
from app.db import session_for_jobs
from app.errors import InvalidInput
from app.services import deployments, experiments
from app.services.experiment_assignment import Arm, Unit
from app.services.experiment_plans import CANARY_RAMP, Guardrails, Plan
from app.services.experiment_units import count_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.services.experiments import Experiment

app = typer.Typer(help="Put engines against each other on live answers.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept with the change.")]
By = Annotated[str | None, typer.Option(help="Who decides; default: the user of this computer.")]
UnitOption = Annotated[
    str, typer.Option("--unit", help="What is divided: user, or user_merchant where there are few users.")
]

AcceptanceMargin = Annotated[
    float | None,
    typer.Option(help="Points of what people answer that a treatment may accept less than the control; default: 5."),
]
CoverageMargin = Annotated[
    float | None, typer.Option(help="Points of coverage that a treatment may lie below the control; default: 10.")
]
MostFallbacks = Annotated[
    float | None,
    typer.Option(
        help="Per cent that the heuristics may answer in the model's place, beyond the control's; default: 2."
    ),
]
MostLoss = Annotated[
    float | None,
    typer.Option(help="Per cent of what people answer that the next step of the ramp may cost at most; default: 5."),
]
StepAnswers = Annotated[
    int | None, typer.Option(min=1, help="Answers of each arm before the next step of the ramp; default: 100.")
]

UNITS: dict[str, Unit] = {"user": "user", "user_merchant": "user_merchant"}


@app.command(name="list")
def list_(*, as_json: AsJson = False, user: User = None) -> None:
    """List the experiments of a user's categories, the latest first."""
    with session_for_jobs() as session:
        found = experiments.list_experiments(session, deployments.category_set_of(session, acting_user(user)))
    if as_json:
        _print_json([asdict(each) for each in found])
    elif not found:
        results.print("No experiment yet: `lm experiments new NAME` plans one.")
    else:
        table = Table("name", "is", "divides", "arms", "ramp", "since")
        for each in found:
            since = each.changes[-1].created_at if each.changes else each.created_at
            table.add_row(
                each.name, each.status, each.unit, _arms(each), f"{each.ramp_now:.0%}", f"{since:%Y-%m-%d %H:%M}"
            )
        results.print(table)


@app.command()
def new(
    name: Name,
    *,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=ENGINE:SHARE, the control first; engines are rule, champion, challenger and the number of a "
            "version, shares are per cent. Default: control=rule:50 and treatment=champion:50."
        ),
    ] = None,
    unit: UnitOption = "user_merchant",
    ramp: Annotated[str, typer.Option(help="Steps of the ramp, in per cent of the shares: 1,10,50,100.")] = "100",
    acceptance_margin: AcceptanceMargin = None,
    coverage_margin: CoverageMargin = None,
    most_fallbacks: MostFallbacks = None,
    most_loss: MostLoss = None,
    step_answers: StepAnswers = None,
    by: By = None,
    user: User = None,
) -> None:
    """Plan an experiment; nobody is in it before it is started."""
    plan = Plan(
        name=name,
        unit=_unit(unit),
        arms=tuple(_arm(each) for each in arm or ("control=rule:50", "treatment=champion:50")),
        ramp=tuple(_percent(step) for step in ramp.split(",")),
        guardrails=_guardrails(acceptance_margin, coverage_margin, most_fallbacks, most_loss, step_answers),
    )
    _create(plan, by, user)


@app.command()
def canary(
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The version that is to be let in.")],
    *,
    name: Annotated[str | None, typer.Option(help="What to call it; default: canary-VERSION.")] = None,
    unit: UnitOption = "user_merchant",
    acceptance_margin: AcceptanceMargin = None,
    coverage_margin: CoverageMargin = None,
    most_fallbacks: MostFallbacks = None,
    most_loss: MostLoss = None,
    step_answers: StepAnswers = None,
    by: By = None,
    user: User = None,
) -> None:
    """Plan to let a version answer 1, 10, 50 and 100 per cent in place of the champion, each step on its guardrails."""
    name = name or f"canary-{version}"
    arms = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", version, 1.0))
    guardrails = _guardrails(acceptance_margin, coverage_margin, most_fallbacks, most_loss, step_answers)
    _create(Plan(name, _unit(unit), arms, CANARY_RAMP, guardrails), by, user)


@app.command()
def start(name: Name, *, reason: Reason = None, by: By = None, user: User = None) -> None:
    """Put an experiment under way, at the first step of its ramp."""
    _report(_change(experiments.start_experiment, name, user, reason=reason, by=by))


@app.command()
def ramp(
    name: Name,
    *,
    to: Annotated[float, typer.Option(min=0, max=100, help="Per cent of the treatments' shares; may be less again.")],
    reason: Reason = None,
    by: By = None,
    user: User = None,
) -> None:
    """Give the treatments more of their shares, or less again."""
    _report(_change(experiments.ramp_experiment, name, user, to / 100, reason=reason, by=by))


@app.command()
def stop(
    name: Name,
    *,
    arm: Annotated[
        str | None, typer.Option(help="Stop this treatment alone; its units are the control's then.")
    ] = None,
    reason: Reason = None,
    by: By = None,
    user: User = None,
) -> None:
    """End an experiment, or one of its treatments; from the next request on nobody is in it."""
    if arm is None:
        _report(_change(experiments.stop_experiment, name, user, reason=reason, by=by))
    else:
        _report(_change(experiments.stop_arm, name, user, arm, reason=reason, by=by))


@app.command()
def show(name: Name, *, as_json: AsJson = False, user: User = None) -> None:
    """Show how an experiment was planned and what was done to it."""
    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, acting_user(user))
        found = experiments.show_experiment(session, category_set, name)
    if as_json:
        _print_json(asdict(found))
        return
    results.print(f"{found.name} is {found.status}; it divides by {found.unit} between {_arms(found)}.", soft_wrap=True)
    limits = found.guardrails
    results.print(
        f"A treatment is stopped at {limits.acceptance_margin:.1%} of acceptance or {limits.coverage_margin:.1%} of "
        f"coverage below the control, or {limits.most_fallbacks:.1%} more fallbacks. The ramp, "
        f"{', '.join(f'{step:.0%}' for step in found.ramp)}, goes on after {limits.step_answers:,} answers of each arm "
        f"where less than {limits.most_loss:.1%} of what people answer is at stake.",
        soft_wrap=True,
    )
    if found.changes:
        table = Table("when", "what", "ramp", "by", "why")
        table.columns[-1].overflow = "fold"
        for change in found.changes:
            what = f"{change.action} {change.arm}" if change.arm else change.action
            table.add_row(
                f"{change.created_at:%Y-%m-%d %H:%M}", what, f"{change.ramp:.0%}", one_line(change.actor),
                one_line(change.reason),
            )  # fmt: skip
        results.print(table)


@app.command(name="results")
def results_(name: Name, *, as_json: AsJson = False, user: User = None) -> None:
    """Say what an experiment says so far; looking often spoils nothing."""
    # Libraries that help need not wait for.
    from app.cli.experiment_results import print_results  # noqa: PLC0415
    from app.services.experiment_analysis import analyse_experiment  # noqa: PLC0415

    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, acting_user(user))
        found = analyse_experiment(session, experiments.show_experiment(session, category_set, name))
    if as_json:
        _print_json(asdict(found))
    else:
        print_results(found)


def _arms(experiment: Experiment) -> str:
    return ", ".join(
        f"{arm.name} ({arm.version or arm.engine}, {arm.share:.0%}{', stopped' if arm.is_stopped else ''})"
        for arm in experiment.arms
    )


def _guardrails(
    acceptance_margin: float | None,
    coverage_margin: float | None,
    most_fallbacks: float | None,
    most_loss: float | None,
    step_answers: int | None,
) -> Guardrails:
    """Make guardrails of per cents, with the default where there is none."""
    given: dict[str, Any] = {
        "acceptance_margin": acceptance_margin,
        "coverage_margin": coverage_margin,
        "most_fallbacks": most_fallbacks,
        "most_loss": most_loss,
    }
    limits = {name: percent / 100 for name, percent in given.items() if percent is not None}
    return Guardrails(**limits) if step_answers is None else Guardrails(**limits, step_answers=step_answers)


def _create(plan: Plan, by: str | None, user: str | None) -> None:
    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, acting_user(user))
        experiments.create_experiment(session, category_set, plan, actor=by or os_user())
        units = count_units(session, category_set, plan.unit)
    print_units(plan, units)
    results.print(f"{plan.name} is planned; `lm experiments start {plan.name}` puts it under way.")


def _change(
    function: Callable[..., Experiment], name: str, user: str | None, *values: Any, reason: str | None, by: str | None
) -> Experiment:
    decision = {"actor": by or os_user(), "reason": reason or ask_reason()}
    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, acting_user(user))
        return function(session, category_set, name, *values, **decision)


def _report(experiment: Experiment) -> None:
    ramp_now = f", its ramp at {experiment.ramp_now:.0%}" if experiment.status == "running" else ""
    results.print(f"{experiment.name} is {experiment.status} now{ramp_now}.")


def _unit(given: str) -> Unit:
    if given not in UNITS:
        raise InvalidInput(f"--unit is {' or '.join(UNITS)}, not {given!r}.")
    return UNITS[given]


def _arm(given: str) -> Arm:
    """Read NAME=ENGINE:SHARE."""
    name, _, rest = given.partition("=")
    engine, _, share = rest.partition(":")
    if engine.isdecimal():
        return Arm(name, "version", int(engine), _percent(share))
    match engine:
        case "rule" | "champion" | "challenger":
            return Arm(name, engine, None, _percent(share))
    raise InvalidInput(f"--arm is NAME=ENGINE:SHARE, such as treatment=champion:50, not {given!r}.")


def _percent(given: str) -> float:
    try:
        return float(given) / 100
    except ValueError:
        raise InvalidInput(f"A share is a number of per cent, not {given!r}.") from None


def _print_json(document: Any) -> None:
    results.print_json(json.dumps(document, default=str), indent=None)
