"""How much each source of belief is worth: the weights that put wording, base rates and counts into one score.

A log-linear pool (Genest and Zidek 1986): scores are weighted sums, so each source's part of a score can be told. The
weights maximise the likelihood of later months' labels given what was known before them, drawn towards a pool that
believes the wording and hardly any count, as far as there is little to learn from.
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

PARTS: Final = ("wording", "wording_on_account", "associations", "base_rate")
# Where the weights start, and what a quadratic penalty draws them to. Levels overlap, so little is enough for each.
DEFAULT_PARTS: Final = (0.4, 0.4, 0.2, 0.0)
STARTING_EVIDENCE: Final = 0.05
# What counts are worth in a ledger that is too small to learn that from: there, they are nearly all there is.
UNLEARNT_EVIDENCE: Final = 0.2
_CONVICTION: Final = 100.0
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
    """

    parts: NDArray[np.floating]
    evidence: Evidence
    references: NDArray[np.floating]
    base_rates: NDArray[np.float64]


@dataclass(frozen=True)
class PoolWeights:
    """Weights of PARTS, shape (parts,), and of evidence, shape (PARAMETERS,)."""

    parts: NDArray[np.float64]
    evidence: NDArray[np.float64]


def default_weights() -> PoolWeights:
    """Return the pool for where there is too little to learn one from."""
    return PoolWeights(np.array(DEFAULT_PARTS), np.full(PARAMETERS, UNLEARNT_EVIDENCE))


def reference_probabilities(
    wording: NDArray[np.floating], on_account: NDArray[np.floating], base_rates: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Put the two linear readings of the wording together, and leave something to every category.

    Associations are left out: they count labels as evidence does, and are no probabilities.

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
    return add_counts(pool_parts(beliefs.parts, weights), beliefs, weights)


def pool_parts(parts: NDArray[np.floating], weights: PoolWeights) -> NDArray[np.float64]:
    """Weigh what is believed without counts, shape (rows, categories)."""
    scores = np.zeros(parts.shape[1:])
    for weight, part in zip(weights.parts.tolist(), parts, strict=True):
        scores += weight * part
    return scores


def add_counts(scores: NDArray[np.float64], beliefs: Beliefs, weights: PoolWeights) -> NDArray[np.float64]:
    """Add to scores, shape (rows, categories), what counts are worth."""
    rows, categories = scores.shape
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    cell = (beliefs.evidence.row * categories + beliefs.evidence.label)[entry]
    counted = np.bincount(cell, weights.evidence[parameter] * value, minlength=rows * categories)
    with_counts: NDArray[np.float64] = scores + counted.reshape(rows, categories)
    return with_counts


def fit_pool(beliefs: Beliefs, truth: NDArray[np.int64], importance: NDArray[np.float64]) -> PoolWeights:
    """Learn the weights.

    Args:
        beliefs: What was believed of rows before their labels were known.
        truth: The labels' indices, shape (rows,).
        importance: Each row's weight, shape (rows,), about 1.
    """
    count, rows, categories = beliefs.parts.shape
    # In double precision: of a loss that moves in steps there is no gradient.
    dense = beliefs.parts.reshape(count, rows * categories).astype(np.float64)
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    cell = (beliefs.evidence.row * categories + beliefs.evidence.label)[entry]
    sparse = sp.csr_matrix((value, (cell, parameter)), shape=(rows * categories, PARAMETERS))
    transposed = sparse.T.tocsr()
    start = np.concatenate([DEFAULT_PARTS, np.full(PARAMETERS, STARTING_EVIDENCE)])
    right = np.arange(rows) * categories + truth

    def loss_and_gradient(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat = np.einsum("p,pc->c", weights[:count], dense) + sparse @ weights[count:]
        scores = flat.reshape(rows, categories)
        scores -= scores.max(axis=1, keepdims=True)
        residual = np.exp(scores)
        sums = residual.sum(axis=1)
        loss = (importance * (np.log(sums) - flat[right])).sum()
        residual *= (importance / sums)[:, None]
        residual = residual.reshape(-1)
        residual[right] -= importance
        pull = _CONVICTION * (weights - start)
        gradient = np.concatenate([np.einsum("pc,c->p", dense, residual), transposed @ residual]) + pull
        return float(loss + pull @ (weights - start) / 2), gradient

    # No count may speak against its own category.
    bounds = [(None, None)] * count + [(0, None)] * PARAMETERS
    fitted = minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MOST_STEPS}
    )
    return PoolWeights(fitted.x[:count], fitted.x[count:])
