"""Confidence sequences of means and of differences: intervals that hold at all times at once.

An interval of 95 % that is looked at every hour is left by the truth sooner or later. A confidence sequence is left at
any time at all with probability alpha or less, so an experiment may stop the moment that it says enough (Robbins 1970;
Ramdas, Grünwald, Vovk and Shafer 2023). This one is the asymptotic sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas (2024): with V the variance of a sum, and a for alpha, the sum stays within sqrt(V (1 + 1/x) log((1 + x) / a²))
for all time, by a normal mixture. x is V in units of a constant that makes the interval tightest at a planned number of
answers.

What is independent is the unit that was randomised, a user or a user's merchant, and not the answer. V is therefore the
cluster-robust variance of the ratio of sums (Liang and Zeger 1986; Deng, Knoblich and Lu 2018), from one residual a
unit: its outcomes less the mean times its answers. When units come back and answer much as before, later sums are tied
to earlier ones more closely than independent steps would tie them; by Slepian's inequality (1962) they then leave the
bounds less often, not more.

An approximation for many units must not be believed for few. Two corrections vanish as units come in. The normal
quantile gives way to Student's of the same tail, its degrees of freedom counted from the effective number of units,
which one unit with most of the answers makes small (Carter, Schnepel and Steigerwald 2017). And V is estimated as if
two more units had been seen, of the size that the average answer's unit has, one at either end of what is possible: a
run of nothing but successes has no spread and yet proves no certainty (Agresti and Caffo 2000 add outcomes in the same
way). With next to nothing seen, the interval is all that is possible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.special import lambertw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.bootstrap import Floats

# A sequence that is to be tightest sooner is an approximation where none holds: shares near 1 leave it too often.
FEWEST_PLANNED: Final = 300

# What an answer is planned to vary by: acceptance about one half; and a precision of 0.9, or systems that differ in an
# answer of ten. Where it varies by less or more, the interval is tightest later or sooner, and as valid.
_ACCEPTANCE_VARIANCE: Final = 0.25
_MEAN_VARIANCE: Final = 0.1
# Stands for none at all, so that nothing is divided by 0; far less than a single answer gives.
_LEAST_PROGRESS: Final = 1e-12
# e to this is still a float.
_MOST_LOG: Final = 700.0


class UnitMoments(NamedTuple):
    """Sums over units that a mean and its cluster-robust variance follow from, all of any one shape.

    Attributes:
        units: Units with answers.
        answers: Their answers.
        totals: Their outcomes.
        answer_squares: Squares of each unit's answers.
        total_squares: Squares of each unit's sum of outcomes.
        products: Each unit's answers times its sum of outcomes.
    """

    units: Floats
    answers: Floats
    totals: Floats
    answer_squares: Floats
    total_squares: Floats
    products: Floats


class Bounds(NamedTuple):
    """Estimates with their confidence sequences, all of any one shape.

    Attributes:
        estimate: NaN where there are no answers.
        lower: The least that is possible, where too little is known.
        upper: The most that is possible, where too little is known.
    """

    estimate: Floats
    lower: Floats
    upper: Floats


def unit_moments(answers: NDArray[np.int64], totals: NDArray[np.int64]) -> UnitMoments:
    """Sum over the last axis what means and variances are made of.

    Args:
        answers: (…, units), how many outcomes each unit has.
        totals: (…, units), the sum of its outcomes, each from -1 to 1.

    Raises:
        ValueError: The shapes differ, or a unit's outcomes exceed its answers.
    """
    if answers.shape != totals.shape or (np.abs(totals) > answers).any():
        raise ValueError("each unit needs its answers, and outcomes that add up to no more than those")
    many, sums = answers.astype(float), totals.astype(float)
    moments = ((many > 0).astype(float), many, sums, many * many, sums * sums, many * sums)
    return UnitMoments(*(np.asarray(moment.sum(axis=-1)) for moment in moments))


def mean_bounds(moments: UnitMoments, possible: tuple[float, float], *, alpha: float, planned_answers: float) -> Bounds:
    """Bound means of outcomes over all answers, at all times.

    Args:
        moments: Of any shape, one element for each mean.
        possible: The least and the most that an outcome can be.
        alpha: How probable it may be that the truth ever lies outside.
        planned_answers: Answers at which the interval is to be tightest, FEWEST_PLANNED or more.

    Raises:
        ValueError: alpha is not between 0 and 1, or planned_answers are too few.
    """
    _check(alpha, planned_answers)
    variance = _variance_of_sum(moments, possible)
    progress = variance / (planned_answers * _MEAN_VARIANCE)
    errors = np.sqrt(variance) / np.maximum(moments.answers, 1)
    return _bounds(_mean(moments), errors * _quantile(progress, _degrees_of_freedom(moments), alpha), possible)


def difference_bounds(treatment: UnitMoments, control: UnitMoments, *, alpha: float, planned_answers: float) -> Bounds:
    """Bound differences of the shares of successes of two arms, at all times.

    Time is counted in answers of two equal arms that would tell as much. Degrees of freedom are Satterthwaite's (1946).

    Args:
        treatment: Of any shape, one element for each comparison.
        control: Of the same shape.
        alpha: How probable it may be that the truth ever lies outside.
        planned_answers: Answers of each arm at which the interval is to be tightest, FEWEST_PLANNED or more.

    Raises:
        ValueError: alpha is not between 0 and 1, or planned_answers are too few.
    """
    _check(alpha, planned_answers)
    first, second = (
        _variance_of_sum(arm, (0.0, 1.0)) / np.maximum(arm.answers, 1) ** 2 for arm in (treatment, control)
    )
    variance = first + second
    freedoms = _degrees_of_freedom(treatment), _degrees_of_freedom(control)
    is_known = np.minimum(*freedoms) > 0
    shared = first**2 / np.where(is_known, freedoms[0], 1) + second**2 / np.where(is_known, freedoms[1], 1)
    # With this weight the difference is a sum over answers again, whose variance grows by the answer.
    weight = treatment.answers * control.answers / np.maximum(treatment.answers + control.answers, 1)
    progress = weight**2 * variance / (planned_answers / 2 * _ACCEPTANCE_VARIANCE)
    reach = np.sqrt(variance) * _quantile(progress, np.where(is_known, variance**2 / shared, 0), alpha)
    return _bounds(_mean(treatment) - _mean(control), reach, (-1.0, 1.0))


def _bounds(estimate: Floats, reach: Floats, possible: tuple[float, float]) -> Bounds:
    least, most = possible
    lower = np.where(np.isnan(estimate), least, np.maximum(estimate - reach, least))
    upper = np.where(np.isnan(estimate), most, np.minimum(estimate + reach, most))
    return Bounds(estimate, lower, upper)


def _mean(moments: UnitMoments) -> Floats:
    return np.where(moments.answers > 0, moments.totals / np.maximum(moments.answers, 1), np.nan)


def _variance_of_sum(moments: UnitMoments, possible: tuple[float, float]) -> Floats:
    """Estimate the variance of the sum of residuals; never 0, not even where all outcomes are the same."""
    least, most = possible
    # Of the two units that are added.
    size = np.maximum(moments.answer_squares, 1) / np.maximum(moments.answers, 1)
    mean = (moments.totals + size * (least + most)) / (np.maximum(moments.answers, 1) + 2 * size)
    squares = moments.total_squares - 2 * mean * moments.products + mean**2 * moments.answer_squares
    squares = squares + size**2 * ((least - mean) ** 2 + (most - mean) ** 2)
    return np.asarray(squares * np.maximum(moments.units, 1) / np.maximum(moments.units - 1, 1))


def _degrees_of_freedom(moments: UnitMoments) -> Floats:
    """Count as many units of equal size as would tell as much (Kish 1965), less one."""
    return np.asarray(moments.answers**2 / np.maximum(moments.answer_squares, 1) - 1)


def _quantile(progress: Floats, freedom: Floats, alpha: float) -> Floats:
    """Return how many standard errors the sequence reaches to either side.

    Args:
        progress: Of any shape, variance in units of what is planned.
        freedom: Of the same shape, degrees of freedom; where there are none, infinity is returned.
        alpha: How probable it may be that the truth ever lies outside.
    """
    # The x at which the bound is tightest solves log((1 + x) / alpha²) = x.
    tightest = -float(lambertw(-(alpha**2) / math.e, k=-1).real) - 1
    x = np.maximum(progress * tightest, _LEAST_PROGRESS)
    square = (1 + 1 / x) * np.log((1 + x) / alpha**2)
    # Student's quantile for a normal one, by Wallace's approximation (1959), which does not underflow far out.
    known = np.where(freedom > 0, freedom, 1)
    exponent = square / known * ((8 * known + 3) / (8 * known + 1)) ** 2
    return np.where(freedom > 0, np.sqrt(known * np.expm1(np.minimum(exponent, _MOST_LOG))), np.inf)


def _check(alpha: float, planned_answers: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is a probability between 0 and 1, not {alpha}")
    if planned_answers < FEWEST_PLANNED:
        raise ValueError(f"plan {FEWEST_PLANNED} answers or more; {planned_answers} are too few for an approximation")
