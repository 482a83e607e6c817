"""Which categories words have been seen with, however rarely: counts that are looked up.

What a linear reading learns of a word that a single description has is worth nothing, and so it leaves such words out.
Counted, such a word says which categories it may stand for. A word that n descriptions of a category have, each for its
share, is worth

    log(1 + n / (_STRENGTH * base rate))

to that category, as the labels of a place are (`evidence`), and nothing to others: naive Bayes with the terms left out
that all categories have alike. What the known words of a description say is added up and divided by the root of their
number, for they are not independent. Words are single ones, pairs, and the one that a description begins with, told
apart by fingerprints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.sparse as sp

from app.ml.ngrams import look_up, ones_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.ngrams import Ngrams

_STRENGTH: Final = 0.05  # in descriptions
# Makes another fingerprint of a word that stands first.
_FIRST: Final = np.uint32(0x85EBCA6B)


@dataclass(frozen=True)
class Associations:
    """What each word is worth to the categories that it was seen with.

    Attributes:
        fingerprints: Of the words, ascending, shape (words,).
        starts: Where each word's entries begin, and where the last one's end, shape (words + 1,).
        labels: Of each entry, shape (entries,).
        gains: What it is worth, shape (entries,).
    """

    fingerprints: NDArray[np.uint32]
    starts: NDArray[np.int32]
    labels: NDArray[np.uint32]
    gains: NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """Words of texts, each as often as it occurs.

    Attributes:
        row: Index of the text, ascending for one kind of word after the other, shape (n,).
        start: First byte within the text with its spaces around it, shape (n,).
        length: Bytes, the spaces around included, shape (n,).
        fingerprint: Shape (n,).
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    fingerprint: NDArray[np.uint32]


@dataclass(frozen=True)
class Gains:
    """What the words of one text are worth.

    Attributes:
        fingerprint: Of the word, shape (n,).
        label: Of the category, shape (n,).
        value: What the word is worth to it there, shape (n,).
    """

    fingerprint: NDArray[np.uint32]
    label: NDArray[np.uint32]
    value: NDArray[np.float32]


def find_words(found: Ngrams) -> Words:
    """Pick the words, the pairs and the first words out of n-grams."""
    words = np.flatnonzero(found.words > 0)
    first = words[(found.start[words] == 0) & (found.words[words] == 1)]
    chosen = np.concatenate([words, first])
    fingerprint = found.fingerprint[chosen]
    fingerprint[words.size :] ^= _FIRST
    return Words(found.row[chosen], found.start[chosen], found.length[chosen], fingerprint)


def fit_associations(words: Words, shares: NDArray[np.floating]) -> Associations:
    """Count which categories words occur with.

    Args:
        words: Of distinct descriptions.
        shares: How each description's labels divide among the categories, shape (descriptions, categories).
    """
    fingerprints, position = np.unique(words.fingerprint, return_inverse=True)
    occurs = ones_matrix(words.row, position, (shares.shape[0], fingerprints.size))
    counts = (occurs.T @ sp.csr_matrix(shares.astype(np.float64))).tocsr()
    counts.sort_indices()
    base_rates = shares.sum(axis=0, dtype=np.float64) + 0.5
    base_rates /= base_rates.sum()
    gains = np.log1p(counts.data / (_STRENGTH * base_rates[counts.indices]))
    return Associations(
        fingerprints=fingerprints,
        starts=counts.indptr.astype(np.int32),
        labels=counts.indices.astype(np.uint32),
        # As the artefact keeps them, so that a fresh model and a stored one say the same.
        gains=gains.astype(np.float16).astype(np.float32),
    )


def read_associations(associations: Associations, words: Words, texts: int, categories: int) -> NDArray[np.float32]:
    """Say what the words of texts are worth to categories.

    Args:
        associations: What was counted.
        words: Of the texts.
        texts: How many there are.
        categories: How many categories were counted.

    Returns:
        Shape (texts, categories).
    """
    position, is_known = look_up(words.fingerprint, associations.fingerprints)
    occurs = ones_matrix(words.row[is_known], position, (texts, associations.fingerprints.size))
    known = np.diff(occurs.indptr).clip(min=1)
    occurs.data /= np.repeat(np.sqrt(known), np.diff(occurs.indptr)).astype(np.float32)
    table = sp.csr_matrix(
        (associations.gains, associations.labels.astype(np.int32), associations.starts),
        shape=(associations.fingerprints.size, categories),
    )
    said: NDArray[np.float32] = (occurs @ table).toarray()
    return said


def weigh_words(associations: Associations, words: Words) -> Gains:
    """Say what each word of one text is worth to which category."""
    position = np.unique(look_up(words.fingerprint, associations.fingerprints)[0])
    starts = associations.starts[position]
    widths = associations.starts[position + 1] - starts
    entry = np.arange(widths.sum()) + np.repeat(starts - np.cumsum(widths) + widths, widths)
    value = associations.gains[entry] / np.float32(max(position.size, 1) ** 0.5)
    fingerprint = np.repeat(associations.fingerprints[position], widths)
    return Gains(fingerprint, associations.labels[entry], value)
