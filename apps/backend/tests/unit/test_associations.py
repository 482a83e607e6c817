"""Counts of words: what they are worth, and to whom."""

from __future__ import annotations

import numpy as np
import pytest

from app.ml.associations import Associations, Words, find_words, fit_associations, read_associations
from app.ml.ngrams import find_ngrams

FOOD, FUEL = 0, 1
TEXTS = ["corner shop", "corner garage", "shell"]
SHARES = np.array([[1, 0], [0.25, 0.75], [0, 1]], dtype=np.float32)


def words(*texts: str) -> Words:
    return find_words(find_ngrams(texts))


@pytest.fixture
def associations() -> Associations:
    return fit_associations(words(*TEXTS), SHARES)


def read(associations: Associations, *texts: str) -> np.ndarray:
    return read_associations(associations, words(*texts), len(texts), 2)


def test_words_are_single_ones_pairs_and_the_first() -> None:
    found = words("a bb a", "bb", "")
    padded = [" a bb a ", " bb ", "  "]
    read = [
        padded[row][start : start + length]
        for row, start, length in zip(found.row, found.start, found.length, strict=True)
    ]
    assert sorted(read) == sorted([" a ", " bb ", " a ", " bb ", " a bb ", " bb a ", " a ", " bb "])
    # The first word has a fingerprint of its own; the same word elsewhere has the same in every text.
    assert len(set(found.fingerprint.tolist())) == 6


def test_a_word_is_worth_the_logarithm_of_its_count_over_the_base_rate(associations: Associations) -> None:
    base_rates = (SHARES.sum(axis=0) + 0.5) / (SHARES.sum() + 1)
    shell = np.log1p([0, 1 / (0.05 * base_rates[FUEL])])
    # The word alone, and the word as first.
    assert read(associations, "shell")[0] == pytest.approx(2 * shell / np.sqrt(2), rel=1e-3)
    corner = np.log1p(np.array([1.25, 0.75]) / (0.05 * base_rates))
    assert read(associations, "my corner")[0] == pytest.approx(corner, rel=1e-3)


def test_what_was_never_seen_is_worth_nothing_and_dilutes_nothing(associations: Associations) -> None:
    said = read(associations, "zzqx", "", "garage", "garage zzqx")
    assert not said[:2].any()
    assert said[2].any()
    assert np.array_equal(said[2], said[3]), "neither word stands first in what was learnt from"


def test_a_word_that_one_description_has_speaks_for_its_category_alone(associations: Associations) -> None:
    food, fuel = read(associations, "new shop")[0]
    assert food > 0
    assert fuel == 0


def test_a_text_that_repeats_a_word_says_it_once(associations: Associations) -> None:
    assert np.array_equal(read(associations, "x shop shop"), read(associations, "x shop"))
