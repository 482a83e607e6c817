"""Random draws that are the same on every machine: whole numbers only, from PCG64's raw stream.

NumPy promises the raw stream of a bit generator for ever, but not what `Generator.normal` and its like make
of it; and logarithms differ in the last bit between processors. So everything here is integer arithmetic.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

_SIGMA = 0.45
_QUANTILES = 1024

SKEW_PER_MILLE: IntArray = np.array(
    [round(1000 * math.exp(_SIGMA * NormalDist().inv_cdf((index + 0.5) / _QUANTILES))) for index in range(_QUANTILES)],
    dtype=np.int64,
)
"""Quantiles of a log-normal factor with median 1, in thousandths: amounts have a long right tail."""


class Draws:
    """A stream of random integers; the same seed gives the same stream, anywhere."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, bound: int, size: int | tuple[int, ...]) -> IntArray:
        """Uniform integers in [0, bound); `bound` is up to 2**32, so that the product fits into 64 bits."""
        upper_half = self._bits.random_raw(size) >> np.uint64(32)
        return ((upper_half * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)

    def weighted(self, weights: IntArray, size: int) -> IntArray:
        """Indices into `weights`, each as likely as its weight says."""
        cumulative = np.cumsum(weights)
        drawn = self.below(int(cumulative[-1]), size)
        return np.searchsorted(cumulative, drawn, side="right").astype(np.int64)

    def happens(self, per_mille: int, size: int) -> BoolArray:
        """True in `per_mille` of a thousand cases."""
        return self.below(1000, size) < per_mille

    def skewed(self, typical: IntArray) -> IntArray:
        """Amounts around `typical` (pence), with a long right tail; at least 1."""
        factors = SKEW_PER_MILLE[self.below(_QUANTILES, len(typical))]
        amounts: IntArray = np.maximum(typical * factors // 1000, 1)
        return amounts

    def codes(self, size: int, length: int = 9) -> list[str]:
        """Order codes such as 2H4RT09X1."""
        alphabet = np.array(list("0123456789ABCDEFGHJKLMNPQRSTVWXYZ"))
        letters = alphabet[self.below(len(alphabet), (size, length))]
        return np.ascontiguousarray(letters).view(f"<U{length}").ravel().tolist() if size else []


def zipf_weights(count: int) -> IntArray:
    """Weights of ranks 0, 1, 2, … that fall as 1 / (rank + 1)."""
    return 1_000_000 // np.arange(1, count + 1, dtype=np.int64)
