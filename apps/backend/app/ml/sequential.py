"""What an experiment says so far, in a form that stays valid however often it is looked at.

Outcomes come summed by the unit that was randomised; `app.ml.confidence_sequences` explains the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.ml.confidence_sequences import difference_bounds, mean_bounds, unit_moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.bootstrap import Floats
    from app.ml.confidence_sequences import Bounds, UnitMoments

ALPHA: Final = 0.05
# Where intervals are tightest, in answers of an arm; they are a tenth wider at a fifth and at twenty times of it. Early
# enough to stop an arm that fails outright within a hundred answers, late enough for differences of a few points.
PLANNED_ANSWERS: Final = 2_000
PLANNED_ANSWERS_OF_SHARE: Final = 500


@dataclass(frozen=True)
class UnitOutcomes:
    """Outcomes of one arm, summed by the unit that was randomised.

    Attributes:
        answers: (units,), how many outcomes each unit has; one without any tells nothing and counts for nothing.
        successes: (units,), how many of them were 1 and not 0.
    """

    answers: NDArray[np.int64]
    successes: NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Treatment less control, in shares from -1 to 1.

    Attributes:
        difference: Of the shares; None where an arm has no answers.
        lower: Lower bound, -1 where too little is known.
        upper: Upper bound, 1 where too little is known.
        alpha: How probable it is at most that the truth ever lies outside.
        treatment_units: Units with answers.
        control_units: The same of the control; for a comparison on the same answers the same units.
        treatment_answers: How many outcomes.
        control_answers: The same of the control.
    """

    difference: float | None
    lower: float
    upper: float
    alpha: float
    treatment_units: int
    control_units: int
    treatment_answers: int
    control_answers: int

    @property
    def is_decided(self) -> bool:
        """Whether the interval excludes that the two are equal."""
        return self.lower > 0 or self.upper < 0

    @property
    def is_informative(self) -> bool:
        """Whether the interval excludes anything at all."""
        return self.lower > -1 or self.upper < 1


@dataclass(frozen=True)
class ShareSequence:
    """One arm's share of successes.

    Attributes:
        share: None where there are no answers.
        lower: Lower bound, 0 where too little is known.
        upper: Upper bound, 1 where too little is known.
        alpha: How probable it is at most that the truth ever lies outside.
        units: Units with answers.
        answers: How many outcomes.
    """

    share: float | None
    lower: float
    upper: float
    alpha: float
    units: int
    answers: int


def compare_arms(
    treatment: UnitOutcomes,
    control: UnitOutcomes,
    *,
    alpha: float = ALPHA,
    planned_answers: float = PLANNED_ANSWERS,
) -> Comparison:
    """Compare the shares of successes of two arms of an experiment, as often as wanted.

    An asymptotic confidence sequence over clusters (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024). Compare over
    a time in which the arms' shares of units stood still: across the steps of a ramp, a drift of acceptance would look
    like a difference of the arms.

    Args:
        treatment: Outcomes of the one arm.
        control: Outcomes of the other, from other units.
        alpha: How probable it may be that the truth ever lies outside.
        planned_answers: Answers of each arm at which the interval is to be tightest, 300 or more.

    Raises:
        ValueError: Outcomes are not sums of 0 and 1, or alpha is not between 0 and 1, or planned_answers are too few.
    """
    first, second = _outcome_moments(treatment), _outcome_moments(control)
    bounds = difference_bounds(first, second, alpha=alpha, planned_answers=planned_answers)
    return _comparison(bounds, first, second, alpha)


def compare_on_same_answers(
    differences: NDArray[np.int64],
    answers: NDArray[np.int64],
    *,
    alpha: float = ALPHA,
    planned_answers: float = PLANNED_ANSWERS,
) -> Comparison:
    """Compare how often two systems are right about the same answers, as often as wanted.

    What is hard for both does not widen the interval. An asymptotic confidence sequence of one mean over clusters
    (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024).

    Args:
        differences: (units,), of each unit's answers, those that only the first has right less those that only the
            second has right.
        answers: (units,), how many answers each unit has, also those about which the two agree.
        alpha: How probable it may be that the truth ever lies outside.
        planned_answers: Answers at which the interval is to be tightest, 300 or more.

    Returns:
        The first as treatment, the second as control.

    Raises:
        ValueError: Differences exceed answers, or alpha is not between 0 and 1, or planned_answers are too few.
    """
    moments = unit_moments(answers, differences)
    bounds = mean_bounds(moments, (-1.0, 1.0), alpha=alpha, planned_answers=planned_answers)
    return _comparison(bounds, moments, moments, alpha)


def share_sequence(
    outcomes: UnitOutcomes, *, alpha: float = ALPHA, planned_answers: float = PLANNED_ANSWERS_OF_SHARE
) -> ShareSequence:
    """Bound one arm's share of successes, as often as wanted; for guardrails and for promises that are watched.

    An asymptotic confidence sequence of one mean over clusters (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024).

    Args:
        outcomes: Of the arm.
        alpha: How probable it may be that the truth ever lies outside, half of it on either side.
        planned_answers: Answers at which the interval is to be tightest, 300 or more.

    Raises:
        ValueError: Outcomes are not sums of 0 and 1, or alpha is not between 0 and 1, or planned_answers are too few.
    """
    moments = _outcome_moments(outcomes)
    bounds = mean_bounds(moments, (0.0, 1.0), alpha=alpha, planned_answers=planned_answers)
    return ShareSequence(
        share=_known(bounds.estimate),
        lower=float(bounds.lower),
        upper=float(bounds.upper),
        alpha=alpha,
        units=int(moments.units),
        answers=int(moments.answers),
    )


def tell_comparison(name: str, verb: str, comparison: Comparison, *, more: str = "more", fewer: str = "fewer") -> str:
    """Say a comparison in a sentence, as in "B accepts 3.1 points more, [1.2, 5.0]; enough to decide: yes".

    Args:
        name: Of the treatment.
        verb: What its successes are, such as "accepts" or "is right".
        comparison: What was found; the interval is of the difference and negative below 0.
        more: How the sentence goes on for a positive difference, such as "more" or "more often".
        fewer: The same for a negative one, such as "fewer" or "less often".
    """
    if comparison.difference is None or not comparison.is_informative:
        answers = f"{comparison.treatment_answers:,} answers against {comparison.control_answers:,}"
        subject = name.replace("The ", "the ", 1) if name.startswith("The ") else name
        return (
            f"Too little is known to say whether {subject} {verb} {more} or {fewer} ({answers}); enough to decide: no"
        )
    # Adding 0 takes the sign from a zero.
    points, lower, upper = (
        round(100 * share, 1) + 0.0 for share in (comparison.difference, comparison.lower, comparison.upper)
    )
    direction = fewer if points < 0 else more
    answer = "yes" if comparison.is_decided else "no"
    return f"{name} {verb} {abs(points)} points {direction}, [{lower}, {upper}]; enough to decide: {answer}"


def _outcome_moments(outcomes: UnitOutcomes) -> UnitMoments:
    if (outcomes.successes < 0).any():
        raise ValueError("no unit has fewer than 0 successes")
    return unit_moments(outcomes.answers, outcomes.successes)


def _known(estimate: Floats) -> float | None:
    return None if np.isnan(estimate) else float(estimate)


def _comparison(bounds: Bounds, treatment: UnitMoments, control: UnitMoments, alpha: float) -> Comparison:
    return Comparison(
        difference=_known(bounds.estimate),
        lower=float(bounds.lower),
        upper=float(bounds.upper),
        alpha=alpha,
        treatment_units=int(treatment.units),
        control_units=int(control.units),
        treatment_answers=int(treatment.answers),
        control_answers=int(control.answers),
    )
