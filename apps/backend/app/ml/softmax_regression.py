"""Multinomial logistic regression on sparse rows, by stochastic gradients.

AdaGrad with one step size for each feature (Duchi, Hazan and Singer 2011), which suits features as rare as n-grams. It
sees distinct strings with the shares of their labels, not transactions, so it is done in seconds. Sparse products run
on one thread and in one order: the same input and seed give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP: Final = 0.7
_BIAS_STEP: Final = 0.05
_BATCH: Final = 256
_SHRINKAGE: Final = 1e-5


@dataclass(frozen=True)
class SoftmaxWeights:
    """What was learnt.

    Attributes:
        weights: Shape (features, classes), float32.
        bias: Shape (classes,), float32.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


def fit_softmax(
    features: sp.csr_matrix, shares: NDArray[np.float32], importance: NDArray[np.float64], *, epochs: int, seed: int
) -> SoftmaxWeights:
    """Fit P(class | features).

    Args:
        features: Shape (rows, features), float32, rows of about unit length.
        shares: How each row's labels divide among the classes, shape (rows, classes), each row adding up to 1.
        importance: Weight of each row in the loss, shape (rows,).
        epochs: Passes over the rows; the step size falls to zero over them.
        seed: Of the order in which rows are seen.
    """
    rows, columns = features.shape
    weights = np.zeros((columns, shares.shape[1]), dtype=np.float32)
    squared = np.full(columns, 1e-8, dtype=np.float32)
    bias = np.log((importance[:, None] * shares).sum(axis=0) + 1).astype(np.float32)
    bias -= bias.max()
    scale = (importance / importance.mean()).astype(np.float32)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        step = np.float32(_STEP * (1 - epoch / epochs))
        shuffled = order.permutation(rows)
        for start in range(0, rows, _BATCH):
            chosen = shuffled[start : start + _BATCH]
            batch = features[chosen]
            touched, position = np.unique(batch.indices, return_inverse=True)
            compact = sp.csr_matrix((batch.data, position, batch.indptr), shape=(chosen.size, touched.size))
            current = weights[touched]
            residual = softmax(compact @ current + bias) - shares[chosen]
            residual *= (scale[chosen] / np.float32(chosen.size))[:, None]
            gradient = compact.T @ residual + np.float32(_SHRINKAGE) * current
            squared[touched] += (gradient * gradient).sum(axis=1)
            weights[touched] = current - step * gradient / np.sqrt(squared[touched])[:, None]
            bias -= np.float32(_BIAS_STEP) * step * residual.sum(axis=0)
    return SoftmaxWeights(weights, bias)


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Turn scores into probabilities along the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: NDArray[Any] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities
