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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.ml.associations import Words
    from app.ml.evidence import Place
    from app.ml.ngrams import Ngrams
    from app.ml.wording import Wording

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

    def said(self, weights: NDArray[np.floating], classes: NDArray[np.int64], words: int) -> NDArray[np.float64]:
        """Add up what the features say of some classes.

        Args:
            weights: Shape (table, all classes).
            classes: Which are asked about, shape (classes,).
            words: How many words there are.

        Returns:
            Shape (words, classes).
        """
        weighed = weights.take(self.position, axis=0).take(classes, axis=1) * self.value[:, None]
        cell = self.word[:, None] * classes.size + np.arange(classes.size)
        added = np.bincount(cell.ravel(), weighed.ravel(), minlength=words * classes.size)
        return added.reshape(words, classes.size).astype(np.float64, copy=False)


@dataclass(frozen=True)
class ReadWords:
    """One row's words, and what stands in them; whoever asks about several labels reads them once.

    Attributes:
        words: Each once, NO_WORD first.
        alone: Of the first reading, its n-grams.
        on_account: Of the second, n-grams and what is crossed with the account.
        associated: The words themselves, and pairs, that were counted.
        gains: What each of these is worth, shape (rows, classes).
    """

    words: tuple[str, ...]
    alone: WordFeatures
    on_account: WordFeatures
    associated: WordFeatures
    gains: NDArray[np.float64]


def read_words(wording: Wording, place: Place) -> ReadWords:
    """Divide what one row's wording says among its words.

    Args:
        wording: What was learnt.
        place: Of the row.
    """
    spoken = place.norm_desc.split()
    number = {word: index for index, word in enumerate(dict.fromkeys([NO_WORD, *spoken]))}
    numbers = [number[word] for word in spoken]
    found = find_ngrams([place.norm_desc])
    counted = find_words(found)
    position, value, is_learnt = _ngram_values(wording, found)
    row, gains, is_known = _associations(wording, counted)
    run, word, share = _divide(
        np.concatenate([found.start[is_learnt], counted.start[is_known]]),
        np.concatenate([found.length[is_learnt], counted.length[is_known]]),
        spoken,
        numbers,
    )
    ngrams = int(run.searchsorted(position.size))
    of_ngrams, of_counted = run[:ngrams], run[ngrams:] - position.size
    alone = WordFeatures(word[:ngrams], position[of_ngrams], value[of_ngrams] * share[:ngrams])
    crossed = _read_crossed(wording, place, numbers)
    return ReadWords(
        words=tuple(number),
        alone=alone,
        on_account=WordFeatures(
            word=np.concatenate([alone.word, crossed.word]),
            position=np.concatenate([alone.position, crossed.position + wording.columns.size]),
            value=np.concatenate([alone.value, crossed.value]),
        ),
        associated=WordFeatures(word[ngrams:], row[of_counted], share[ngrams:]),
        gains=gains,
    )


def _ngram_values(wording: Wording, found: Ngrams) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return position and value of each learnt n-gram, at each place where it stands, and which these are."""
    weighed = weigh_ngrams(wording, found)
    feature, is_learnt = look_up(found.column, wording.columns[weighed.position])
    value = weighed.value / np.bincount(feature, minlength=weighed.position.size)
    return weighed.position[feature], value[feature], is_learnt


def _associations(wording: Wording, counted: Words) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return row of each known word, at each place where it stands, what rows are worth there, and which these are."""
    gains = weigh_words(wording.associations, counted)
    # Gains of a word stand together, so its first one gives it a number.
    row, is_known = look_up(counted.fingerprint, gains.fingerprint)
    times = np.bincount(row, minlength=gains.value.size)
    first = gains.fingerprint.searchsorted(gains.fingerprint)
    table = np.zeros((gains.value.size, wording.alone_bias.size))
    table[first, gains.label] = gains.value / times[first]
    return row, table, is_known


def _read_crossed(wording: Wording, place: Place, numbers: Sequence[int]) -> WordFeatures:
    """Read what the account itself says and what each word on it says."""
    columns, values = zip(*crossed_features(place.user_id, place.account, place.norm_desc), strict=True)
    position, is_learnt = look_up(np.array(columns), wording.crossed_columns)
    return WordFeatures(np.array([0, *numbers])[is_learnt], position, np.array(values)[is_learnt])


def _divide(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], words: Sequence[str], numbers: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Divide runs of bytes among the words that they cover; spaces are nobody's, save where there is nothing else.

    Args:
        starts: Where they begin in the text with its spaces around it, shape (runs,).
        lengths: In bytes, shape (runs,).
        words: Of the text, in their order.
        numbers: Of these.

    Returns:
        Of each run and word that it covers, run by run: index of the run, number of the word and the word's share.
    """
    sizes = np.array([len(word.encode()) for word in words] or [2])
    begins = (sizes + 1).cumsum() - sizes if words else np.zeros(1, dtype=np.int64)
    closes, ends = begins + sizes, starts + lengths
    first = closes.searchsorted(starts, side="right")
    covers = begins.searchsorted(ends) - first
    run = np.arange(starts.size).repeat(covers)
    word = np.arange(run.size) + (first - covers.cumsum() + covers)[run]
    size = np.minimum(closes[word], ends[run]) - np.maximum(begins[word], starts[run])
    share = size / np.bincount(run, size, minlength=starts.size)[run]
    return run, np.array(numbers or [0])[word], share
