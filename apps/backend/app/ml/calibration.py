"""Confidence that can be believed, and the confidence from which on a suggestion may be applied without asking.

Scores are divided by one temperature (Guo et al. 2017), chosen on months that the wording and the pool have not seen.
The threshold comes from the same months by Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052; for selective
classification Geifman and El-Yaniv 2017): the lowest one for which the hypothesis "more than `target_error` of what
reaches it is wrong" is rejected by the binomial tail, at a level that holds for all thresholds and targets tried.

The tests take rows for independent, which those of one string are not, and their scores for given, though the
temperature was fitted on the same rows; they are made with the model's draft, whose wording ends before these months.

The promise holds with that confidence, over all suggestions together, and while the months stay alike. It says nothing
of a single merchant, and nothing of the month in which a large merchant changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import binom

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What may be wrong of that which is applied without asking, where nobody says: the strictest with which at least half
# can be applied, else the last. Where people contradict themselves, one in a hundred can be promised of hardly any.
TARGET_ERRORS: Final = (0.01, 0.02, 0.05, 0.10)
USEFUL_COVERAGE: Final = 0.5
RISK_CONFIDENCE: Final = 0.9
# Of what may be wrong so much is kept for merchants that will change their meaning, which these months cannot show.
DRIFT_RESERVE: Final = 0.2
MOST_DRIFT_RESERVE: Final = 0.01
# What no confidence reaches: nothing is applied without asking.
NEVER: Final = 2.0

_COLDEST, _HOTTEST = 0.25, 8.0
_TESTS: Final = 25


def fit_temperature(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Find the temperature at which the labels are most probable.

    Args:
        scores: Shape (rows, categories).
        truth: Indices of the labels, shape (rows,).
    """
    rows = np.arange(truth.size)
    shifted = scores - scores.max(axis=1, keepdims=True)

    def loss(logarithm: float) -> float:
        scaled = shifted / np.exp(logarithm)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, truth]).sum())

    found = minimize_scalar(loss, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class AutoApply:
    """From which confidence on a suggestion may be applied, and what that promises."""

    target_error: float
    threshold: float


def choose_auto_apply(
    confidence: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    month: NDArray[np.int64],
    may_apply: NDArray[np.bool_],
    target_error: float | None,
) -> AutoApply:
    """Choose a threshold, and where nobody has said it, the error that is promised.

    Args:
        confidence: Shape (rows,).
        is_right: Whether each was right.
        month: Its month, as any number.
        may_apply: Which rows may be applied at all.
        target_error: What to promise; None for one of TARGET_ERRORS.
    """
    targets = TARGET_ERRORS if target_error is None else (target_error,)
    for target in targets:
        rows = (confidence[may_apply], is_right[may_apply], month[may_apply])
        chosen = AutoApply(target, risk_controlled_threshold(*rows, target, targets=len(targets)))
        if ((confidence >= chosen.threshold) & may_apply).mean() >= USEFUL_COVERAGE:
            break
    return chosen


def risk_controlled_threshold(
    confidence: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    month: NDArray[np.int64],
    target_error: float,
    *,
    targets: int = 1,
) -> float:
    """Find the lowest confidence from which on at most `target_error` is wrong, as far as these rows can tell.

    Thresholds at which so many hundredths of the rows are reached are tested side by side (Bonferroni), and of those
    that pass the lowest is taken at which no month on its own had a standard deviation more wrong than tolerated: the
    tests take rows for exchangeable, and months show best that they are not. DRIFT_RESERVE of the tolerated error is
    kept back throughout.

    Args:
        confidence: Of rows that may be applied at all, shape (rows,).
        is_right: Whether each was right.
        month: Its month, as any number.
        target_error: Share of wrong ones that is tolerated, between 0 and 1.
        targets: How many such shares are tried on the same rows.

    Returns:
        The threshold; NEVER where even the surest rows do not prove it.
    """
    tolerated = target_error - min(DRIFT_RESERVE * target_error, MOST_DRIFT_RESERVE)
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, is_wrong = confidence[order], ~is_right[order]
    wrong = np.cumsum(is_wrong)
    in_month = month[order][:, None] == np.unique(month)
    rows_of_month, wrong_of_month = np.cumsum(in_month, axis=0), np.cumsum(in_month & is_wrong[:, None], axis=0)
    # Rows of one confidence stand or fall together.
    ends = np.flatnonzero(np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)) + 1
    shares = np.arange(1, _TESTS + 1) / _TESTS
    if not confidence.size:
        return NEVER
    chosen = NEVER
    for rows in ends[np.unique(np.searchsorted(ends, shares * confidence.size).clip(max=ends.size - 1))]:
        is_proved = binom.cdf(wrong[rows - 1], rows, tolerated) <= (1 - RISK_CONFIDENCE) / (_TESTS * targets)
        expected = tolerated * rows_of_month[rows - 1]
        if is_proved and (wrong_of_month[rows - 1] <= expected + np.sqrt(expected)).all():
            chosen = float(sorted_confidence[rows - 1])
    return chosen
