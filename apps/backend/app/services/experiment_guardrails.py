"""What an experiment's guardrails make of what it says: which arms are to be stopped, and whether a ramp may go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.ml.sequential import tell_comparison
from app.services.experiment_assignment import LEAST_SHARE
from app.services.experiment_units import FEW_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.services.experiment_analysis import ArmResult
    from app.services.experiment_assignment import Arm
    from app.services.experiments import Experiment

    Versions = Mapping[str, int | None]

BURST_HOURS: Final = 3
"""Fallbacks come in bursts, of many units at once: a model that is loaded, a pause, an outage. Those of fewer hours of
the clock than this are of too few moments to say anything of the version."""


@dataclass(frozen=True)
class NextStep:
    """What comes next by itself: a step of a ramp, or, after its last one, that the version becomes champion.

    Attributes:
        ramp: What part of their final shares the treatments have then.
        is_due: Whether it may be taken.
        sentence: Why, or why not.
        version: That becomes champion, whereupon the experiment ends; None for a step.
    """

    ramp: float
    is_due: bool
    sentence: str
    version: int | None = None


def reason_to_end(experiment: Experiment, due: Versions) -> str | None:
    """Say why an experiment is over by itself: a treatment and the control are answered by one version.

    Args:
        experiment: Started or not.
        due: The versions that arms are answered by now.
    """
    control = experiment.arms[0].name
    for arm in experiment.arms[1:]:
        version = due.get(arm.name)
        if not arm.is_stopped and version is not None and version == due.get(control):
            return f"Version {version} is due for {control} and {arm.name} by now: they are the same."
    return None


def broken_guardrails(experiment: Experiment, results: Sequence[ArmResult], due: Versions) -> dict[str, str]:
    """Say which treatments are to be stopped, and why.

    Args:
        experiment: Started or not.
        results: Of its arms.
        due: The versions that arms are answered by now; what was seen of others says nothing of these.
    """
    broken = {}
    for arm, result in zip(experiment.arms[1:], results[1:], strict=True):
        reason = None if arm.is_stopped else _reason_to_stop(experiment, arm, result, due)
        if reason is not None:
            broken[arm.name] = reason
    return broken


def next_step(experiment: Experiment, results: Sequence[ArmResult], due: Versions) -> NextStep | None:
    """Say which step of the ramp comes next, and whether what it could cost is known to be little enough.

    Of all suggestions, a treatment with a share s loses at most as many as -s times the lower bound of its difference.
    What may be lost is a part of those that people answer: where they say nothing, there is nothing to see.

    Args:
        experiment: Started or not.
        results: Of its arms.
        due: The versions that arms are answered by now.

    Returns:
        None at the last step, but for a canary's; where no treatment is left; and where a person took the ramp back to
        nothing.
    """
    going_on = [
        (arm, result) for arm, result in zip(experiment.arms[1:], results[1:], strict=True) if not arm.is_stopped
    ]
    if experiment.status != "running" or experiment.ramp_now == 0 or not going_on:
        return None
    ahead = [step for step in experiment.ramp if step > experiment.ramp_now]
    if not ahead:
        return _promotion(experiment, results[1], due)
    step, guardrails = ahead[0], experiment.guardrails
    if any(
        result.change != experiment.changes[-1].id or not _has_answers(experiment, arm, result, due)
        for arm, result in going_on
    ):
        enough = f"{guardrails.step_answers:,} answers of each arm at this one"
        return NextStep(step, is_due=False, sentence=f"The step to {step:.0%} waits for {enough}.")
    loss = sum(_loss(arm, result, step) for arm, result in going_on)
    let_pass = guardrails.most_loss * min(result.answered_share for _, result in going_on)
    is_due = loss < let_pass
    return NextStep(
        step,
        is_due=is_due,
        sentence=f"{'At' if is_due else 'The ramp stays: at'} {step:.0%}, up to {loss:.1%} of all suggestions could be "
        f"accepted no more; less than {let_pass:.1%} {'are' if is_due else 'would be'} let pass."
        + ("" if is_due else _tell_units(experiment, [result for _, result in going_on], step)),
    )


def _promotion(experiment: Experiment, result: ArmResult, due: Versions) -> NextStep | None:
    """Say whether a canary's version may become champion: what it could cost is known, and the last step held."""
    control, arm = experiment.arms[0], experiment.arms[1]
    # Where the control keeps a share, the two are compared for good.
    is_canary = control.engine == "champion" and control.share < LEAST_SHARE and not experiment.arms[2:]
    if not is_canary or arm.version is None:
        return None
    last, guardrails = result.last_step, experiment.guardrails
    answers = last.acceptance.answers if last and _is_due(experiment, arm, last.versions, due) else 0
    if answers < guardrails.step_answers:
        sentence = f"Version {arm.version} becomes champion after {guardrails.step_answers:,} answers at the last step."
        return NextStep(experiment.ramp_now, is_due=False, sentence=sentence, version=arm.version)
    loss, let_pass = _loss(arm, result, 1.0), guardrails.most_loss * result.answered_share
    is_due = _has_answers(experiment, arm, result, due) and loss < let_pass
    if is_due:
        sentence = (
            f"Version {arm.version} is due to become champion: its last step held for {answers:,} answers, and beside "
            f"{control.name} at most {loss:.1%} of all suggestions could be accepted no more; less than {let_pass:.1%} "
            "are let pass."
        )
    else:
        sentence = (
            f"Version {arm.version} becomes champion by hand alone, with `lm models promote {arm.version}`. Beside "
            f"{control.name} answers were few, or up to {loss:.1%} of all suggestions could be accepted no more; "
            f"less than {let_pass:.1%} would be let pass."
        )
    return NextStep(experiment.ramp_now, is_due=is_due, sentence=sentence, version=arm.version)


def _has_answers(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> bool:
    """Say whether there are enough answers of the arm and of the control beside it, of the versions that are due."""
    beside = result.control_answered
    answers = min(result.answered.answers, beside.answers) if beside else 0
    return _is_due(experiment, arm, result.versions, due) and answers >= experiment.guardrails.step_answers


def _loss(arm: Arm, result: ArmResult, step: float) -> float:
    """Return what share of all suggestions might be accepted no more at a step, as far as is known."""
    compared = result.acceptance_difference
    return (max(-compared.lower, 0.0) if compared else 1.0) * arm.share * step


def _tell_units(experiment: Experiment, results: Sequence[ArmResult], step: float) -> str:
    compared = [each.acceptance_difference for each in results if each.acceptance_difference]
    units = min(min(each.treatment_units, each.control_units) for each in compared)
    told = f" The smaller arm has {units:,} units"
    if units >= FEW_UNITS:
        return f"{told}."
    return (
        f"{told}: units are missing, for fewer than {FEW_UNITS} cannot show more, however many transactions they have. "
        f"`lm experiments ramp {experiment.name} --to {100 * step:g}` goes on by hand."
    )


def _reason_to_stop(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> str | None:
    if arm.engine != "rule" and due.get(arm.name) is None:
        return f"There is no {arm.engine} any more, so the heuristics answer in its place."
    return _beside_control(experiment, arm, result, due) or _at_last_step(experiment, arm, result, due) or (
        _fallen_back(experiment, arm, result, due)
    )  # fmt: skip


def _beside_control(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> str | None:
    guardrails = experiment.guardrails
    accepted, covered = result.acceptance_difference, result.coverage_difference
    if accepted is None or covered is None or not _is_due(experiment, arm, result.versions, due):
        return None
    # Whatever is not answered is alike in both arms and makes their difference smaller.
    if accepted.upper < -guardrails.acceptance_margin * result.answered_share:
        return (
            f"{result.sentence}. At most {guardrails.acceptance_margin:.1%} less of what people answer are let pass, "
            f"and they answer {result.answered_share:.1%}."
        )
    if covered.upper < -guardrails.coverage_margin:
        told = tell_comparison(arm.name, "suggests for", covered)
        return f"{told}. At most {guardrails.coverage_margin:.1%} less are let pass."
    return None


def _at_last_step(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> str | None:
    last, margin = result.last_step, experiment.guardrails.acceptance_margin
    if last is None or last.versions.get(arm.name) != due.get(arm.name):
        return None
    now, then = last.acceptance.upper, last.control.lower
    if now >= then - margin:
        return None
    return (
        f"At most {now:.1%} of its suggestions that people answer are accepted at the last step, and at least "
        f"{then:.1%} of {experiment.arms[0].name}'s were before it; at most {margin:.1%} less are let pass."
    )


def _fallen_back(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> str | None:
    most, compared = experiment.guardrails.most_fallbacks, result.fallback_difference
    if result.fallback_versions.get(arm.name) != due.get(arm.name) or result.fallback_hours < BURST_HOURS:
        return None
    told = f"The heuristics answered {result.fallbacks.share or 0:.1%} of its transactions in the model's place"
    # Without a difference there is no model beside it.
    if compared is None or compared.difference is None:
        return f"{told}; {most:.1%} are the most." if result.fallbacks.lower > most else None
    if compared.lower <= most:
        return None
    return (
        f"{told}, {100 * compared.difference:.1f} points more than of {experiment.arms[0].name}'s; {most:.1%} more are "
        "let pass."
    )


def _is_due(experiment: Experiment, arm: Arm, versions: Versions, due: Versions) -> bool:
    """Say whether an arm and the control are answered by the same versions as then."""
    return all(versions.get(name) == due.get(name) for name in (arm.name, experiment.arms[0].name))
