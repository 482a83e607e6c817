"""How much each source of belief is worth: the weights that put wording, base rates and counts into one score.

A log-linear pool (Genest and Zidek 1986): scores are weighted sums, so each source's part of a score can be told. The
weights maximise the likelihood of later months' labels given what was known before them, drawn towards a pool that
believes the wording and hardly any count, as far as there is little to learn from. What the wording is worth depends on
whether any label is known of the row's merchant or description: where there is none, it is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize

from app.ml.evidence import PARAMETERS, evidence_values
from app.ml.softmax_regression import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.evidence import Evidence

PARTS: Final = ("wording", "wording_on_account", "base_rate", "associations")
# Where the weights start, and what a quadratic penalty draws them to. Levels overlap, so little is enough for each.
DEFAULT_PARTS: Final = (0.4, 0.4, 0.0, 0.2)
STARTING_EVIDENCE: Final = 0.05
# What counts are worth in a ledger that is too small to learn that from: there, they are nearly all there is.
UNLEARNT_EVIDENCE: Final = 0.2
_CONVICTION: Final = 300.0
_MOST_STEPS: Final = 150
# What the wording leaves to every category, in proportion to how common it is.
_LEFT_TO_BASE: Final = 0.1


@dataclass(frozen=True)
class Beliefs:
    """What each source says of some rows, before it is weighed.

    Attributes:
        parts: Scores of each of PARTS, shape (parts, rows, categories).
        evidence: Counts at the rows' places.
        references: Probabilities that the counts are compared with, shape (rows, categories).
        base_rates: Shape (categories,).
        is_known_place: Whether any label is known of each row's merchant or description, shape (rows,).
    """

    parts: NDArray[np.floating]
    evidence: Evidence
    references: NDArray[np.floating]
    base_rates: NDArray[np.float64]
    is_known_place: NDArray[np.bool_]


@dataclass(frozen=True)
class PoolWeights:
    """How much each source is worth.

    Attributes:
        parts: Weights of PARTS, at strange places and at known ones, shape (2, parts).
        evidence: Shape (PARAMETERS,).
    """

    parts: NDArray[np.float64]
    evidence: NDArray[np.float64]


def default_weights() -> PoolWeights:
    """Return the pool for where there is too little to learn one from."""
    return PoolWeights(np.tile(DEFAULT_PARTS, (2, 1)), np.full(PARAMETERS, UNLEARNT_EVIDENCE))


def reference_probabilities(
    wording: NDArray[np.floating], on_account: NDArray[np.floating], base_rates: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Put the two readings of the wording together, and leave something to every category.

    Args:
        wording: Scores, shape (rows, categories).
        on_account: The same.
        base_rates: Shape (categories,).
    """
    both = softmax((wording + on_account) / 2)
    both *= 1 - _LEFT_TO_BASE
    both += (_LEFT_TO_BASE * base_rates).astype(both.dtype)
    return both


def pool_scores(beliefs: Beliefs, weights: PoolWeights) -> NDArray[np.float64]:
    """Weigh all that is believed into scores, shape (rows, categories)."""
    _, rows, categories = beliefs.parts.shape
    scores = _weigh_parts(beliefs, weights.parts)
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    cell = (beliefs.evidence.row * categories + beliefs.evidence.label)[entry]
    counted = np.bincount(cell, weights.evidence[parameter] * value, minlength=rows * categories)
    scores += counted.reshape(rows, categories)
    return scores


def fit_pool(beliefs: Beliefs, truth: NDArray[np.int64], importance: NDArray[np.float64]) -> PoolWeights:
    """Learn the weights.

    Args:
        beliefs: What was believed of rows before their labels were known.
        truth: The labels' indices, shape (rows,).
        importance: Each row's weight, shape (rows,), about 1.
    """
    _, rows, categories = beliefs.parts.shape
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    cell = (beliefs.evidence.row * categories + beliefs.evidence.label)[entry]
    sparse = sp.csr_matrix((value, (cell, parameter)), shape=(rows * categories, PARAMETERS))
    transposed = sparse.T.tocsr()
    start = np.concatenate([*[DEFAULT_PARTS] * 2, np.full(PARAMETERS, STARTING_EVIDENCE)])
    count = 2 * len(PARTS)
    is_of_place = np.stack([~beliefs.is_known_place, beliefs.is_known_place]).astype(np.float64)
    right = np.arange(rows) * categories + truth

    def loss_and_gradient(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat = _weigh_parts(beliefs, weights[:count].reshape(2, -1)).reshape(-1) + sparse @ weights[count:]
        scores = flat.reshape(rows, categories)
        scores -= scores.max(axis=1, keepdims=True)
        residual = np.exp(scores)
        sums = residual.sum(axis=1)
        loss = (importance * (np.log(sums) - flat[right])).sum()
        residual *= (importance / sums)[:, None]
        residual = residual.reshape(-1)
        residual[right] -= importance
        by_row = np.einsum("prc,rc->rp", beliefs.parts, residual.reshape(rows, categories))
        pull = _CONVICTION * (weights - start)
        gradient = np.concatenate([(is_of_place @ by_row).reshape(-1), transposed @ residual]) + pull
        return float(loss + pull @ (weights - start) / 2), gradient

    # No count may speak against its own category.
    bounds = [(None, None)] * count + [(0, None)] * PARAMETERS
    fitted = minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MOST_STEPS}
    )
    return PoolWeights(fitted.x[:count].reshape(2, -1), fitted.x[count:])


def _weigh_parts(beliefs: Beliefs, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up parts, each by its weight at the kind of place that a row is at; shape (rows, categories)."""
    of_row = weights[beliefs.is_known_place.astype(np.intp)].astype(beliefs.parts.dtype)
    weighed = np.zeros(beliefs.parts.shape[1:])
    for number, part in enumerate(beliefs.parts):
        weighed += of_row[:, number : number + 1] * part
    return weighed
