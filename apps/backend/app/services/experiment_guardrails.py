"""What an experiment's guardrails make of what it says: which arms are to be stopped, and whether a ramp may go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.ml.sequential import tell_comparison

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.services.experiment_analysis import ArmResult
    from app.services.experiment_assignment import Arm
    from app.services.experiments import Experiment

    Versions = Mapping[str, int | None]


@dataclass(frozen=True)
class NextStep:
    """The step of a ramp that comes next.

    Attributes:
        ramp: What part of their final shares it gives the treatments.
        is_due: Whether it may be taken.
        sentence: Why, or why not.
    """

    ramp: float
    is_due: bool
    sentence: str


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

    Args:
        experiment: Started or not.
        results: Of its arms.
        due: The versions that arms are answered by now.

    Returns:
        None at the last step, where no treatment is left, and where a person took the ramp back to nothing.
    """
    ahead = [step for step in experiment.ramp if step > experiment.ramp_now]
    going_on = [
        (arm, result) for arm, result in zip(experiment.arms[1:], results[1:], strict=True) if not arm.is_stopped
    ]
    if experiment.status != "running" or not ahead or experiment.ramp_now == 0 or not going_on:
        return None
    step, guardrails = ahead[0], experiment.guardrails
    loss = 0.0
    for arm, result in going_on:
        compared = result.acceptance_difference
        is_of_now = result.change == experiment.changes[-1].id and _is_due(experiment, arm, result.versions, due)
        answers = min(compared.treatment_answers, compared.control_answers) if compared and is_of_now else 0
        if compared is None or answers < guardrails.step_answers:
            enough = f"{guardrails.step_answers:,} answers of each arm at this one"
            return NextStep(step, is_due=False, sentence=f"The step to {step:.0%} waits for {enough}.")
        loss += max(-compared.lower, 0.0) * arm.share * step
    is_due = loss < guardrails.most_loss
    return NextStep(
        step,
        is_due=is_due,
        sentence=f"{'At' if is_due else 'The ramp stays: at'} {step:.0%}, up to {loss:.1%} of all suggestions could be "
        f"accepted no more; less than {guardrails.most_loss:.1%} {'are' if is_due else 'would be'} let pass.",
    )


def _reason_to_stop(experiment: Experiment, arm: Arm, result: ArmResult, due: Versions) -> str | None:
    guardrails = experiment.guardrails
    if arm.engine != "rule" and due.get(arm.name) is None:
        return f"There is no {arm.engine} any more, so the heuristics answer in its place."
    accepted, covered = result.acceptance_difference, result.coverage_difference
    if accepted is not None and covered is not None and _is_due(experiment, arm, result.versions, due):
        if accepted.upper < -guardrails.acceptance_margin:
            return f"{result.sentence}. At most {guardrails.acceptance_margin:.1%} less are let pass."
        if covered.upper < -guardrails.coverage_margin:
            told = tell_comparison(arm.name, "suggests for", covered)
            return f"{told}. At most {guardrails.coverage_margin:.1%} less are let pass."
    last, margin = result.last_step, guardrails.acceptance_margin
    if last is not None and last.versions.get(arm.name) == due.get(arm.name):
        now, then = last.acceptance.upper, last.control.lower
        if now < then - margin:
            return (
                f"At most {now:.1%} of its suggestions are accepted at the last step, and at least {then:.1%} of "
                f"{experiment.arms[0].name}'s were before it; at most {margin:.1%} less are let pass."
            )
    is_due = result.fallback_versions.get(arm.name) == due.get(arm.name)
    if is_due and result.fallbacks.lower > guardrails.most_fallbacks:
        return (
            f"The heuristics answered {result.fallbacks.share or 0:.1%} of its transactions in the model's place; "
            f"{guardrails.most_fallbacks:.1%} are the most."
        )
    return None


def _is_due(experiment: Experiment, arm: Arm, versions: Versions, due: Versions) -> bool:
    """Say whether an arm and the control are answered by the same versions as then."""
    return all(versions.get(name) == due.get(name) for name in (arm.name, experiment.arms[0].name))
