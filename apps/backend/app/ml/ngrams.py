"""Hashed character and word n-grams of normalised descriptions, as sparse rows.

An n-gram's column is a hash of its bytes, so no vocabulary is kept and any string has its columns at once (Weinberger
et al. 2009). The hash of every substring comes from one running sum: with an odd multiplier, sums of byte times power
can be moved to any position by the multiplier's inverse modulo 2^64 (after Karp and Rabin 1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HASH_BITS: Final = 17
CHARACTERS: Final = (2, 3, 4, 5)
_WORDS: Final = (1, 2)
_SPACE: Final = 32
_WORDS_OF_EACH_KIND: Final = np.array([0, *_WORDS], dtype=np.int8)

_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_INVERSE: Final = pow(_MULTIPLIER, -1, 2**64)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Ngrams:
    """Where n-grams stand in padded texts, and the column that each has.

    Attributes:
        row: Index of the text, shape (n,).
        start: First byte within the text with its spaces around it, shape (n,).
        length: Bytes, shape (n,).
        words: How many whole words it is made of; 0 for a run of bytes. Shape (n,).
        column: 0 to 2^HASH_BITS - 1, shape (n,).
        fingerprint: The same hash at full width, by which strange n-grams are told from known ones: columns are shared
            by too many for that. Shape (n,).
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    words: NDArray[np.int8]
    column: NDArray[np.int64]
    fingerprint: NDArray[np.uint32]


def find_ngrams(texts: Sequence[str]) -> Ngrams:
    """Find every run of 2 to 5 bytes and of one or two words in texts with a space before and behind.

    Args:
        texts: Normalised descriptions: words separated by single spaces.
    """
    padded = [b" " + text.encode() + b" " for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    content = np.frombuffer(b"".join(padded), dtype=np.uint8)
    powers, inverses = _powers(content.size + 1)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum((content + np.uint64(1)) * powers[:-1], dtype=np.uint64)])
    row_of = np.repeat(np.arange(len(padded)), lengths)
    begin, end = _byte_runs(content.size)
    within = row_of[begin] == row_of[end - 1]
    begins, ends = [begin[within]], [end[within]]
    spaces = np.flatnonzero(content == _SPACE)
    for words in _WORDS:
        begin, end = spaces[:-words], spaces[words:]
        # The empty text is two spaces and no word; the space that ends a text starts no word of the next one.
        within = (row_of[begin] == row_of[end]) & (end - begin > words)
        begins.append(begin[within])
        ends.append(end[within] + 1)
    begin, end = np.concatenate(begins), np.concatenate(ends)
    mixed = (sums[end] - sums[begin]) * inverses[begin] + (end - begin).astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return Ngrams(
        row=row_of[begin],
        start=begin - starts[row_of[begin]],
        length=end - begin,
        words=np.repeat(_WORDS_OF_EACH_KIND, [part.size for part in begins]),
        column=(mixed >> np.uint64(64 - HASH_BITS)).astype(np.int64),
        fingerprint=(mixed >> np.uint64(32)).astype(np.uint32),
    )


def ngram_matrix(texts: Sequence[str]) -> sp.csr_matrix:
    """Say which columns each text has.

    Returns:
        Ones, float32, shape (texts, 2^HASH_BITS).
    """
    return to_matrix(find_ngrams(texts), len(texts))


def to_matrix(found: Ngrams, texts: int) -> sp.csr_matrix:
    """Put a one at each column that a text has."""
    return ones_matrix(found.row, found.column, (texts, 1 << HASH_BITS))


def ones_matrix(row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, int]) -> sp.csr_matrix:
    """Put a one, float32, at each place that is named, once or several times."""
    matrix = sp.csr_matrix((np.ones(row.size, dtype=np.float32), (row, column)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def look_up(asked: NDArray[np.integer], learnt: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the positions among ascending columns or fingerprints of those that are there; say which these are."""
    if not learnt.size:
        return np.zeros(0, np.int64), np.zeros(asked.size, dtype=bool)
    # Of one type: else all that was learnt would be cast for each row.
    sought = asked.astype(learnt.dtype, copy=False)
    position = np.minimum(np.searchsorted(learnt, sought), learnt.size - 1)
    is_learnt: NDArray[np.bool_] = learnt[position] == sought
    return position[is_learnt], is_learnt


# A single string is not to wait for what is the same for all.
_KEPT_POWERS: Final = 4096
_KEPT_RUNS: Final = 256


def _byte_runs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where runs of each length begin and end in so many bytes, the shortest runs first."""
    return _runs_of_few(size) if size <= _KEPT_RUNS else _all_runs(size)


@cache
def _runs_of_few(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return _all_runs(size)


def _all_runs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    begins = [np.arange(max(size - length + 1, 0)) for length in CHARACTERS]
    ends = [begin + length for begin, length in zip(begins, CHARACTERS, strict=True)]
    return np.concatenate(begins), np.concatenate(ends)


def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return powers of the multiplier and of its inverse modulo 2^64, from the zeroth."""
    if size <= _KEPT_POWERS:
        powers, inverses = _few_powers()
        return powers[:size], inverses[:size]
    return _compute_powers(size)


@cache
def _few_powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return _compute_powers(_KEPT_POWERS)


def _compute_powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    factors = np.full((2, size), [[_MULTIPLIER], [_INVERSE]], dtype=np.uint64)
    factors[:, 0] = 1
    powers, inverses = np.cumprod(factors, axis=1, dtype=np.uint64)
    return powers, inverses
