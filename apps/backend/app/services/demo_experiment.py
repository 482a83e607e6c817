"""The demo's experiment: the heuristics against the champion on the month whose categories were held back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.db import session_for_jobs
from app.errors import Conflict
from app.services import deployments, experiments
from app.services.experiment_assignment import Arm
from app.services.experiment_plans import Plan
from app.services.model_aliases import mirror_aliases
from app.services.served_models import SERVER

if TYPE_CHECKING:
    from app.services.experiments import Experiment

ACTOR: Final = "the demo"
PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.002


@dataclass(frozen=True)
class DemoExperiment:
    """What the experiment said.

    Attributes:
        answers: Transactions of both arms that were asked about.
        rule_accepted: Share of the heuristics' transactions whose suggestion was accepted, 0 to 1.
        champion_accepted: The same of the champion's.
        difference: Champion less heuristics, with its interval from lower to upper.
        is_decided: Whether the interval excludes zero.
        decision: The same as a sentence.
    """

    name: str
    answers: int
    rule_accepted: float | None
    champion_accepted: float | None
    difference: float | None
    lower: float
    upper: float
    is_decided: bool
    decision: str


def begin_experiment(category_set: int | None) -> bool:
    """Put the experiment under way, where there is a champion and there was none before; say whether it is."""
    name = _name(category_set)
    with session_for_jobs() as session:
        if deployments.current(session, category_set).champion is None or _find(category_set) is not None:
            return False
        arms = (Arm("rule", "rule", None, 0.5), Arm("champion", "champion", None, 0.5))
        experiments.create_experiment(session, category_set, Plan(name, "user_merchant", arms), actor=ACTOR)
        why = "To see who is right more often in the last month."
        experiments.start_experiment(session, category_set, name, actor=ACTOR, reason=why)
    return True


def end_experiment(category_set: int | None) -> DemoExperiment | None:
    """End the experiment, if it is under way, and say what came of it; None where there never was one."""
    from app.services.experiment_analysis import analyse_experiment  # noqa: PLC0415 -- libraries that help need not wait for

    experiment = _find(category_set)
    if experiment is None:
        return None
    with session_for_jobs() as session:
        found = analyse_experiment(session, experiment)
        if experiment.status == "running":
            why = found.arms[1].sentence or "The month is over."
            experiments.stop_experiment(session, category_set, experiment.name, actor=ACTOR, reason=why)
    rule, champion = found.arms
    compared = champion.acceptance_difference
    if compared is None:
        return None
    return DemoExperiment(
        name=experiment.name,
        answers=rule.acceptance.answers + champion.acceptance.answers,
        rule_accepted=_rounded(rule.acceptance.share),
        champion_accepted=_rounded(champion.acceptance.share),
        difference=_rounded(compared.difference),
        lower=round(compared.lower, 4),
        upper=round(compared.upper, 4),
        is_decided=compared.is_decided,
        decision=champion.sentence or "",
    )


def time_rollback(category_set: int | None) -> float | None:
    """Go back to the version before, as a server follows, and forward again.

    Returns:
        Milliseconds until the server had followed; None where it did not, or there is nothing to go back to.
    """
    with session_for_jobs() as session:
        champion = deployments.current(session, category_set).champion
    if champion is None:
        return None
    SERVER.start()
    try:
        began = time.perf_counter()
        try:
            with session_for_jobs() as session:
                decision = {"actor": ACTOR, "reason": "To see how long it takes."}
                before = deployments.rollback(session, category_set, **decision).version
        except Conflict:
            # As where the demo was ended between the two steps the last time.
            return None
        try:
            has_followed = _wait_for(category_set, before, began + PATIENCE_SECONDS)
            milliseconds = (time.perf_counter() - began) * 1000
        finally:
            # Whatever came of it, the demo goes on with its champion.
            with session_for_jobs() as session:
                deployments.promote(
                    session, category_set, champion, actor=ACTOR, reason="It was taken back to time that."
                )
    finally:
        SERVER.stop()
    mirror_aliases()
    return round(milliseconds, 1) if has_followed else None


def _wait_for(category_set: int | None, version: int, until: float) -> bool:
    """Wait until the server answers by a version; say whether it did in time."""
    while True:
        served = SERVER.deployed.champions.get(category_set)
        if served is not None and served.version == version:
            return True
        if time.perf_counter() > until:
            return False
        time.sleep(_POLL_SECONDS)


def _name(category_set: int | None) -> str:
    return f"demo-{category_set or 'shared'}-rule-or-champion"


def _find(category_set: int | None) -> Experiment | None:
    name = _name(category_set)
    with session_for_jobs() as session:
        found = experiments.list_experiments(session, category_set)
    return next((each for each in found if each.name == name), None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
