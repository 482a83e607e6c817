"""Confidence that can be believed, and the confidence from which on a suggestion may be applied without asking.

Scores are divided by one temperature (Guo et al. 2017), chosen on months that the wording and the pool have not seen. The
threshold comes from the same months by fixed-sequence testing, as in Learn then Test (Angelopoulos et al. 2021, arXiv
2110.01052; for selective classification Geifman and El-Yaniv 2017): thresholds are tried from the highest down, until "more
than `target_error` of what reaches it is wrong" is no longer rejected by the binomial tail at `RISK_CONFIDENCE`.

The promise holds with that confidence, over all suggestions together, and while the months stay alike. It says nothing of a
single merchant, and nothing of the month in which a large merchant changes its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import binom

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET_ERROR: Final = 0.01
RISK_CONFIDENCE: Final = 0.9
# Of what may be wrong so much is kept for merchants that will change their meaning, which these months cannot show.
DRIFT_RESERVE: Final = 0.2
MOST_DRIFT_RESERVE: Final = 0.01
# What no confidence reaches: nothing is applied without asking.
NEVER: Final = 2.0

_COLDEST, _HOTTEST = 0.25, 8.0
_THRESHOLDS: Final = 200


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


def risk_controlled_threshold(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], month: NDArray[np.int64], target_error: float
) -> float:
    """Find the lowest confidence from which on at most `target_error` is wrong, as far as these rows can tell.

    Of the thresholds that the tests let through the lowest is taken at which no month on its own had more wrong: the
    tests take rows for exchangeable, and months show best that they are not. DRIFT_RESERVE of the tolerated error is kept
    back throughout.

    Args:
        confidence: Of rows that may be applied at all, shape (rows,).
        is_right: Whether each was right.
        month: Its month, as any number.
        target_error: Share of wrong ones that is tolerated, between 0 and 1.

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
    # The first test needs rows enough that a clean record could pass it; where the others stand is fixed by counts.
    fewest = int(np.ceil(np.log(1 - RISK_CONFIDENCE) / np.log1p(-tolerated)))
    if confidence.size < fewest:
        return NEVER
    wanted = np.linspace(fewest, confidence.size, _THRESHOLDS)
    chosen = NEVER
    for rows in ends[np.unique(np.searchsorted(ends, wanted).clip(max=ends.size - 1))]:
        if binom.cdf(wrong[rows - 1], rows, tolerated) > 1 - RISK_CONFIDENCE:
            break
        if (wrong_of_month[rows - 1] <= tolerated * rows_of_month[rows - 1]).all():
            chosen = float(sorted_confidence[rows - 1])
    return chosen
