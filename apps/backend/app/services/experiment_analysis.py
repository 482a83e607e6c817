"""What an experiment says so far, in a form that may be looked at at any time, and what its guardrails make of that.

Units are what was randomised, so outcomes are summed by unit. A treatment is compared with the control over the last
time in which the shares stood still and both had units: across the steps of a ramp a drift would look like a
difference of the arms. All comparisons that an experiment was planned for share one alpha (Bonferroni), so none of its
treatments, at none of its steps, looks better or worse by chance more often than that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import text

from app.db import session_for_jobs
from app.ml.count_evidence import sample_ratio_evidence
from app.ml.sequential import ALPHA, UnitOutcomes, compare_arms, share_sequence, tell_comparison
from app.services import experiments
from app.services.experiment_outcomes import read_outcomes
from app.services.experiment_periods import count_assignments, periods_of, within

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.ml.sequential import Comparison, ShareSequence
    from app.services.experiment_outcomes import ServedSuggestion
    from app.services.experiment_periods import Period
    from app.services.experiments import Experiment

ACTOR: Final = "the guardrails"
# A canary that fails outright is to be stopped within some hundred answers.
PLANNED_ANSWERS: Final = 500


@dataclass(frozen=True)
class ArmResult:
    """What an arm did in the last time in which it and the control had units, and a treatment beside the control.

    Attributes:
        since: Since when that was; None before the start.
        until: Until when; None where it lasts.
        units: Units that something was suggested to, or not.
        suggestions: Transactions that were asked about.
        acceptance: Share of answered suggestions that were accepted.
        precision: Share of first candidates that are the label of now, where more than the accept says so.
        coverage: Share of transactions that something was suggested for.
        fallbacks: Of what a model was to answer, the share that the heuristics did; for the last time in which the arm
            had units at all.
        acceptance_difference: Treatment less control; None for the control, as are the next two.
        sentence: The first of them, for a person.
    """

    arm: str
    since: dt.datetime | None
    until: dt.datetime | None
    units: int
    suggestions: int
    acceptance: ShareSequence
    precision: ShareSequence
    coverage: ShareSequence
    fallbacks: ShareSequence
    acceptance_difference: Comparison | None
    precision_difference: Comparison | None
    coverage_difference: Comparison | None
    sentence: str | None


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment says so far.

    Attributes:
        since: Since when the shares are what they are.
        sample_ratio_e_value: How much the numbers of units speak against the shares; above 1,000 they are suspect.
        is_suspect: Whether they are: then nothing else is to be believed.
        broken: What guardrails say, by the arm that is to be stopped.
    """

    experiment: str
    since: dt.datetime | None
    arms: tuple[ArmResult, ...]
    sample_ratio_e_value: float
    is_suspect: bool
    broken: dict[str, str]


def analyse_experiment(session: Session, experiment: Experiment) -> ExperimentResult:
    """Compare the arms of an experiment.

    Args:
        session: Of the role lm_jobs.
        experiment: Started or not.
    """
    rows = read_outcomes(session, experiment)
    periods = periods_of(experiment)
    alpha = ALPHA / (len(experiment.arms[1:]) * len(experiment.ramp))
    compared = [_last_with(periods, 0, position) for position in range(1, len(experiment.arms))]
    latest = max((each for each in compared if each), key=lambda period: period.since, default=None)
    results = []
    for position, period in enumerate([latest, *compared]):
        served = within(rows, period.since, period.until) if period else []
        present = _last_with(periods, position)
        results.append(
            _arm_result(
                experiment.arms[position].name,
                period,
                served,
                within(rows, present.since, present.until) if present else [],
                None if position == 0 else experiment.arms[0].name,
                alpha,
            )
        )
    evidence = sample_ratio_evidence(count_assignments(experiment, rows))
    return ExperimentResult(
        experiment=experiment.name,
        since=periods[-1].since if periods else None,
        arms=tuple(results),
        sample_ratio_e_value=evidence.e_value,
        is_suspect=evidence.is_suspect,
        broken=_broken(experiment, results),
    )


def _last_with(periods: Sequence[Period], *positions: int) -> Period | None:
    """Return the last period in which some arms all had units."""
    return next((period for period in reversed(periods) if all(map(period.has, positions))), None)


def advance_experiments() -> list[str]:
    """Stop arms whose guardrails are broken, and take ramps a step further; say what was done, in sentences.

    An experiment whose units are not in the shares that were set goes no further, and that is said each time.
    """
    with session_for_jobs() as session:
        running = session.execute(text("SELECT category_set, name FROM running_experiments() ORDER BY name")).all()
    return [done for row in running for done in _advance(row[0], row[1])]


def _advance(category_set: int | None, name: str) -> list[str]:
    with session_for_jobs() as session:
        experiments.take_turns(session, category_set)
        # As it is now: another process may have been here meanwhile.
        experiment = experiments.show_experiment(session, category_set, name)
        if experiment.status != "running":
            return []
        result = analyse_experiment(session, experiment)
        done = []
        for arm, reason in result.broken.items():
            experiments.stop_arm(session, category_set, name, arm, actor=ACTOR, reason=reason)
            done.append(f"{name}: {arm} was stopped. {reason}")
        if done:
            return done
        if result.is_suspect:
            return [f"{name}: the ramp stays at {experiment.ramp_now:.0%}. Units are not in the shares that were set."]
        step = _next_step(experiment, result)
        if step is None:
            return []
        reason = f"All guardrails hold after {experiment.guardrails.step_answers:,} answers and more in each arm."
        experiments.ramp_experiment(session, category_set, name, step, actor=ACTOR, reason=reason)
        return [f"{name}: the ramp is at {step:.0%}. {reason}"]


def _next_step(experiment: Experiment, result: ExperimentResult) -> float | None:
    """Return the step that comes next, where every arm that goes on has its answers at this one."""
    ahead = [step for step in experiment.ramp if step > experiment.ramp_now]
    going_on = [each for arm, each in zip(experiment.arms, result.arms, strict=True) if not arm.is_stopped]
    if not ahead or experiment.ramp_now == 0 or len(going_on) == 1:
        return None
    fewest = min(each.acceptance.answers for each in going_on)
    return ahead[0] if fewest >= experiment.guardrails.step_answers else None


def _arm_result(
    name: str,
    period: Period | None,
    served: Sequence[ServedSuggestion],
    present: Sequence[ServedSuggestion],
    control: str | None,
    alpha: float,
) -> ArmResult:
    rows = [row for row in served if row.arm == name]
    outcomes = {outcome: _outcomes(rows, outcome) for outcome in _OUTCOMES}
    differences: dict[str, Comparison | None] = dict.fromkeys(_OUTCOMES)
    if control is not None:
        beside = [row for row in served if row.arm == control]
        differences = {
            outcome: compare_arms(
                outcomes[outcome], _outcomes(beside, outcome), alpha=alpha, planned_answers=PLANNED_ANSWERS
            )
            for outcome in _OUTCOMES
        }
    accepted = differences["is_accepted"]
    return ArmResult(
        arm=name,
        since=period.since if period else None,
        until=period.until if period else None,
        units=len({row.unit for row in rows}),
        suggestions=len(rows),
        acceptance=share_sequence(outcomes["is_accepted"]),
        precision=share_sequence(outcomes["is_correct"]),
        coverage=share_sequence(outcomes["is_covered"]),
        fallbacks=share_sequence(_outcomes([row for row in present if row.arm == name], "is_fallback")),
        acceptance_difference=accepted,
        precision_difference=differences["is_correct"],
        coverage_difference=differences["is_covered"],
        sentence=None if accepted is None else tell_comparison(name, "accepts", accepted),
    )


_OUTCOMES: Final = ("is_accepted", "is_correct", "is_covered")


def _outcomes(rows: Sequence[ServedSuggestion], outcome: str) -> UnitOutcomes:
    units: defaultdict[tuple[int, str], list[bool]] = defaultdict(list)
    for row in rows:
        if getattr(row, outcome) is not None:
            units[row.unit].append(getattr(row, outcome))
    return UnitOutcomes(
        answers=np.array([len(each) for each in units.values()], dtype=np.int64),
        successes=np.array([sum(each) for each in units.values()], dtype=np.int64),
    )


def _broken(experiment: Experiment, results: Sequence[ArmResult]) -> dict[str, str]:
    guardrails = experiment.guardrails
    broken = {}
    for arm, result in zip(experiment.arms[1:], results[1:], strict=True):
        accepted, covered = result.acceptance_difference, result.coverage_difference
        if arm.is_stopped or accepted is None or covered is None:
            continue
        if accepted.upper < -guardrails.acceptance_margin:
            broken[arm.name] = f"{result.sentence}. At most {guardrails.acceptance_margin:.0%} less are let pass."
        elif covered.upper < -guardrails.coverage_margin:
            told = tell_comparison(arm.name, "suggests for", covered)
            broken[arm.name] = f"{told}. At most {guardrails.coverage_margin:.0%} less are let pass."
        elif arm.engine != "rule" and result.fallbacks.lower > guardrails.most_fallbacks:
            broken[arm.name] = (
                f"The heuristics answered {result.fallbacks.share or 0:.1%} of its suggestions in the model's place; "
                f"{guardrails.most_fallbacks:.0%} are the most."
            )
    return broken
