"""What an experiment says so far, in a form that may be looked at at any time, and what its guardrails make of that.

Units are what was randomised, so outcomes are summed by unit. Arms are compared over the time since the shares last
changed: across the steps of a ramp a drift would look like a difference of the arms.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import text

from app.db import session_for_jobs
from app.ml.count_evidence import AssignmentPeriod, sample_ratio_evidence
from app.ml.sequential import UnitOutcomes, compare_arms, share_sequence, tell_comparison
from app.services import experiments
from app.services.deployments import category_sets_with_models, take_turns

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.ml.sequential import Comparison, ShareSequence
    from app.services.experiments import Experiment

ACTOR: Final = "the guardrails"
# A canary that fails outright is to be stopped within some hundred answers.
PLANNED_ANSWERS: Final = 500


@dataclass(frozen=True)
class ArmResult:
    """What an arm did since the shares last changed, and a treatment beside the control.

    Attributes:
        units: Units that something was suggested to, or not.
        suggestions: Transactions that were asked about.
        acceptance: Share of answered suggestions that were accepted.
        precision: Share of first candidates that are the label of now, where more than the accept says so.
        coverage: Share of transactions that something was suggested for.
        fallbacks: Share that the heuristics answered in a model's place.
        acceptance_difference: Treatment less control; None for the control, as are the next two.
        sentence: The first of them, for a person.
    """

    arm: str
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


@dataclass(frozen=True)
class _Row:
    """A suggestion of an experiment. Outcomes are None where nothing tells them."""

    unit: tuple[int, str]
    arm: str
    at: dt.datetime
    is_accepted: bool | None
    is_correct: bool | None
    is_covered: bool
    is_fallback: bool


def analyse_experiment(session: Session, experiment: Experiment) -> ExperimentResult:
    """Compare the arms of an experiment.

    Args:
        session: Of the role lm_jobs.
        experiment: Started or not.
    """
    rows = _read_rows(session, experiment)
    since = _since(experiment)
    recent = [row for row in rows if since is None or row.at >= since]
    by_arm = {arm.name: [row for row in recent if row.arm == arm.name] for arm in experiment.arms}
    control, *treatments = experiment.arms
    results = [_arm_result(control.name, by_arm[control.name], None)]
    results += [_arm_result(arm.name, by_arm[arm.name], by_arm[control.name]) for arm in treatments]
    evidence = sample_ratio_evidence(_periods(experiment, rows))
    return ExperimentResult(
        experiment=experiment.name,
        since=since,
        arms=tuple(results),
        sample_ratio_e_value=evidence.e_value,
        is_suspect=evidence.is_suspect,
        broken=_broken(experiment, results),
    )


def advance_experiments() -> list[str]:
    """Stop arms whose guardrails are broken, and take ramps a step further; say what was done, in sentences."""
    with session_for_jobs() as session:
        sets = category_sets_with_models(session)
    return [done for category_set in sets for done in _advance(category_set)]


def _advance(category_set: int | None) -> list[str]:
    with session_for_jobs() as session:
        running = [each for each in experiments.list_experiments(session, category_set) if each.status == "running"]
    done = []
    for each in running:
        with session_for_jobs() as session:
            take_turns(session, category_set)
            # As it is now: another process may have been here meanwhile.
            experiment = experiments.show_experiment(session, category_set, each.name)
            if experiment.status != "running":
                continue
            result = analyse_experiment(session, experiment)
            decision = {"actor": ACTOR}
            for arm, reason in result.broken.items():
                experiments.stop_arm(session, category_set, experiment.name, arm, reason=reason, **decision)
                done.append(f"{experiment.name}: {arm} was stopped. {reason}")
            if not result.broken and not result.is_suspect and (step := _next_step(experiment, result)):
                reason = f"All guardrails hold after {_fewest_answers(result):,} answers and more in each arm."
                experiments.ramp_experiment(session, category_set, experiment.name, step, reason=reason, **decision)
                done.append(f"{experiment.name}: the ramp is at {step:.0%}. {reason}")
    return done


def _next_step(experiment: Experiment, result: ExperimentResult) -> float | None:
    ahead = [step for step in experiment.ramp if step > experiment.ramp_now]
    if not ahead or _fewest_answers(result) < experiment.guardrails.step_answers:
        return None
    return ahead[0]


def _fewest_answers(result: ExperimentResult) -> int:
    return min(arm.acceptance.answers for arm in result.arms)


def _since(experiment: Experiment) -> dt.datetime | None:
    """Give the moment since which the arms have had their shares."""
    shares = [change for change in experiment.changes if change.action != "stop"]
    return shares[-1].created_at if shares else None


def _arm_result(name: str, rows: Sequence[_Row], control: Sequence[_Row] | None) -> ArmResult:
    outcomes = {outcome: _outcomes(rows, outcome) for outcome in _OUTCOMES}
    differences: dict[str, Comparison | None] = dict.fromkeys(_OUTCOMES)
    if control is not None:
        differences = {
            outcome: compare_arms(outcomes[outcome], _outcomes(control, outcome), planned_answers=PLANNED_ANSWERS)
            for outcome in _OUTCOMES
        }
    accepted = differences["is_accepted"]
    return ArmResult(
        arm=name,
        units=len({row.unit for row in rows}),
        suggestions=len(rows),
        acceptance=share_sequence(outcomes["is_accepted"]),
        precision=share_sequence(outcomes["is_correct"]),
        coverage=share_sequence(outcomes["is_covered"]),
        fallbacks=share_sequence(outcomes["is_fallback"]),
        acceptance_difference=accepted,
        precision_difference=differences["is_correct"],
        coverage_difference=differences["is_covered"],
        sentence=None if accepted is None else tell_comparison(name, "accepts", accepted),
    )


_OUTCOMES: Final = ("is_accepted", "is_correct", "is_covered", "is_fallback")


def _outcomes(rows: Sequence[_Row], outcome: str) -> UnitOutcomes:
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
            broken[arm.name] = f"{result.sentence} At most {guardrails.acceptance_margin:.0%} less are let pass."
        elif covered.upper < -guardrails.coverage_margin:
            told = tell_comparison(arm.name, "suggests for", covered)
            broken[arm.name] = f"{told} At most {guardrails.coverage_margin:.0%} less are let pass."
        elif arm.engine != "rule" and result.fallbacks.lower > guardrails.most_fallbacks:
            broken[arm.name] = (
                f"The heuristics answered {result.fallbacks.share or 0:.1%} of its suggestions in the model's place; "
                f"{guardrails.most_fallbacks:.0%} are the most."
            )
    return broken


def _periods(experiment: Experiment, rows: Sequence[_Row]) -> list[AssignmentPeriod]:
    """Count units by arm in each period in which the shares stood still, where they first appeared in it."""
    starts = [change for change in experiment.changes if change.action != "stop"]
    names = [arm.name for arm in experiment.arms]
    periods = []
    stopped: set[str | None] = set()
    for number, change in enumerate(starts):
        if change.action == "stop_arm":
            stopped.add(change.arm)
        until = starts[number + 1].created_at if number + 1 < len(starts) else None
        first: dict[tuple[int, str], str] = {}
        for row in rows:
            if row.at >= change.created_at and (until is None or row.at < until):
                first.setdefault(row.unit, row.arm)
        shares = [0.0 if arm.name in stopped else arm.share * change.ramp for arm in experiment.arms[1:]]
        every = [1 - sum(shares), *shares]
        there = [position for position, share in enumerate(every) if share > 0]
        if len(there) > 1:
            counts = [sum(arm == names[position] for arm in first.values()) for position in there]
            periods.append(AssignmentPeriod(counts, [every[position] for position in there]))
    return periods


def _read_rows(session: Session, experiment: Experiment) -> list[_Row]:
    """Read the suggestions of an experiment with what became of them, from the first to the last."""
    rows = session.execute(
        text("""
            SELECT
                events.user_id, CASE WHEN :unit = 'user_merchant' THEN coalesce(ml_features.merchant, '') ELSE '' END,
                events.arm, events.created_at,
                CASE WHEN first_label.label IS NOT NULL THEN last_answer.action = 'accept' END,
                -- The label that the accept itself wrote vouches for nothing.
                CASE
                    WHEN first_label.label IS NULL OR transaction_labels.label IS NULL THEN NULL
                    WHEN coalesce(truth_name.shown_as, transaction_labels.label)
                        <> coalesce(first_name.shown_as, first_label.label) THEN false
                    WHEN last_answer.action = 'accept' AND transaction_labels.updated_at = last_answer.created_at
                        THEN NULL
                    ELSE true
                END,
                first_label.label IS NOT NULL,
                events.source = 'rule' AND NOT events.inputs ? 'rule' AND arms.engine <> 'rule'
            FROM suggestion_events AS events
            INNER JOIN experiment_arms AS arms ON arms.experiment_id = :id AND arms.name = events.arm
            CROSS JOIN LATERAL (SELECT events.candidates -> 0 ->> 'label' AS label) AS first_label
            LEFT JOIN ml_features ON ml_features.txn_id = events.txn_id
            LEFT JOIN LATERAL (
                SELECT action, created_at FROM suggestion_feedback AS answer WHERE answer.event_id = events.id
                ORDER BY answer.created_at DESC, answer.id DESC LIMIT 1
            ) AS last_answer ON last_answer.action <> 'undo'
            LEFT JOIN transaction_labels
                ON transaction_labels.txn_id = events.txn_id AND transaction_labels.updated_at >= events.created_at
            LEFT JOIN category_names AS truth_name
                ON truth_name.user_id = events.user_id AND truth_name.name = transaction_labels.label
                    AND truth_name.valid_to IS NULL
            LEFT JOIN category_names AS first_name
                ON first_name.user_id = events.user_id AND first_name.name = first_label.label
                    AND first_name.valid_to IS NULL
            WHERE events.experiment = :name AND events.source <> 'shadow' AND events.user_id IS NOT NULL
            ORDER BY events.created_at, events.id
        """),
        {"id": experiment.id, "name": experiment.name, "unit": experiment.unit},
    )
    return [_Row((row[0], row[1]), *row[2:]) for row in rows.all()]
