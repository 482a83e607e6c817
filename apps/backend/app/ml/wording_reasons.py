"""What each word of a description says, as the readings of the wording have it.

N-grams and pairs of words are divided among the words in which they stand, in proportion to the bytes that they cover,
and a feature that stands at several places among these. The shares of a feature add up to one, so nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.ml.associations import find_words, weigh_words
from app.ml.ngrams import find_ngrams, look_up
from app.ml.single import weigh_ngrams
from app.ml.wording import crossed_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.ml.evidence import Place
    from app.ml.ngrams import Ngrams
    from app.ml.wording import Wording

    Shares = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

# Stands for the account itself, and for an empty description.
NO_WORD: Final = ""


@dataclass(frozen=True)
class WordFeatures:
    """The words' shares of features.

    Attributes:
        word: Number of the word, shape (shares,).
        position: Row of the feature in its table of weights, shape (shares,).
        value: What the feature is multiplied by, times the word's share of it, shape (shares,).
    """

    word: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.float64]

    def said(self, weights: NDArray[np.float32], classes: NDArray[np.int64], words: int) -> NDArray[np.float64]:
        """Add up what the features say of some classes.

        Args:
            weights: Shape (table, all classes).
            classes: Which are asked about, shape (classes,).
            words: How many words there are.

        Returns:
            Shape (words, classes).
        """
        weighed = weights[self.position[:, None], classes] * self.value[:, None]
        cell = self.word[:, None] * classes.size + np.arange(classes.size)
        added = np.bincount(cell.ravel(), weighed.ravel(), minlength=words * classes.size)
        return added.reshape(words, classes.size)


@dataclass(frozen=True)
class ReadWords:
    """One row's words, and what stands in them; whoever asks about several labels reads them once.

    Attributes:
        words: Each once, NO_WORD first.
        ngrams: Of the first reading.
        on_account: Of the second, n-grams and what is crossed with the account.
        associated: What the words, and the pairs that they are in, are worth by count, shape (words, classes).
    """

    words: tuple[str, ...]
    ngrams: WordFeatures
    on_account: WordFeatures
    associated: NDArray[np.float64]


def read_words(wording: Wording, place: Place) -> ReadWords:
    """Divide what one row's wording says among its words.

    Args:
        wording: What was learnt.
        place: Of the row.
    """
    text = place.norm_desc
    found = find_ngrams([text])
    number = {word: index for index, word in enumerate(dict.fromkeys([NO_WORD, *text.split()]))}
    ngrams = _read_ngrams(wording, text, found, number)
    crossed = _read_crossed(wording, place, number)
    return ReadWords(
        words=tuple(number),
        ngrams=ngrams,
        on_account=WordFeatures(
            word=np.concatenate([ngrams.word, crossed.word]),
            position=np.concatenate([ngrams.position, crossed.position + wording.columns.size]),
            value=np.concatenate([ngrams.value, crossed.value]),
        ),
        associated=_read_associations(wording, text, found, number),
    )


def _read_ngrams(wording: Wording, text: str, found: Ngrams, number: Mapping[str, int]) -> WordFeatures:
    position, is_learnt = look_up(found.column, wording.columns)
    weighed = weigh_ngrams(wording, found)
    feature = np.searchsorted(weighed.position, position)
    value = weighed.value / np.bincount(feature, minlength=weighed.position.size)
    occurrence, word, share = _divide(text, found.start[is_learnt], found.length[is_learnt], number)
    return WordFeatures(word, position[occurrence], value[feature[occurrence]] * share)


def _read_crossed(wording: Wording, place: Place, number: Mapping[str, int]) -> WordFeatures:
    """Read what the account itself says and what each word on it says."""
    features = crossed_features(place.user_id, place.account, place.norm_desc)
    columns, values = zip(*features, strict=True)
    position, is_learnt = look_up(np.array(columns), wording.crossed_columns)
    word = np.array([0, *(number[word] for word in place.norm_desc.split())])
    return WordFeatures(word[is_learnt], position, np.array(values)[is_learnt])


def _read_associations(
    wording: Wording, text: str, found: Ngrams, number: Mapping[str, int]
) -> NDArray[np.float64]:
    words, classes = find_words(found), wording.alone_bias.size
    gains = weigh_words(wording.associations, words)
    known = np.unique(gains.fingerprint)
    table = np.zeros((known.size, classes))
    table[np.searchsorted(known, gains.fingerprint), gains.label] = gains.value
    feature, is_known = look_up(words.fingerprint, known)
    table /= np.bincount(feature, minlength=known.size).clip(min=1)[:, None]
    occurrence, word, share = _divide(text, words.start[is_known], words.length[is_known], number)
    return WordFeatures(word, feature[occurrence], share).said(table, np.arange(classes), len(number))


def _divide(text: str, starts: NDArray[np.int64], lengths: NDArray[np.int64], number: Mapping[str, int]) -> Shares:
    """Divide runs of bytes among the words that they cover; spaces are nobody's, save where there is nothing else.

    Args:
        text: With a space before and behind, in which the runs stand.
        starts: Where they begin, shape (runs,).
        lengths: In bytes, shape (runs,).
        number: Of each word.

    Returns:
        Index of the run, number of the word and the word's share, of each run and word that it covers.
    """
    words = text.split()
    sizes = np.array([len(word.encode()) for word in words] or [2])
    begins = np.cumsum(sizes + 1) - sizes if words else np.zeros(1, dtype=np.int64)
    ends = starts + lengths
    first = np.searchsorted(begins + sizes, starts, side="right")
    covered = np.searchsorted(begins, ends) - first
    run = np.repeat(np.arange(starts.size), covered)
    word = first[run] + np.arange(run.size) - (np.cumsum(covered) - covered)[run]
    size = np.minimum((begins + sizes)[word], ends[run]) - np.maximum(begins[word], starts[run])
    numbers = np.array([number[each] for each in words or [NO_WORD]])
    return run, numbers[word], size / np.bincount(run, size, minlength=starts.size)[run]
