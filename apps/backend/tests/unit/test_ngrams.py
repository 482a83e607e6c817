"""N-grams: the columns are those that plain Python finds, whatever stands beside a text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml.ngrams import HASH_BITS, find_ngrams, ngram_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

MULTIPLIER = 0x9E3779B97F4A7C15
MIX = 0xD6E8FEB86659FD93
WORDS = st.text(alphabet="abé🙂東7", min_size=1, max_size=7)
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)


def column(ngram: bytes) -> int:
    """Hash as the module promises: byte times power, the length, and a mix of high and low bits."""
    total = sum((byte + 1) * pow(MULTIPLIER, place, 2**64) for place, byte in enumerate(ngram))
    mixed = (total + len(ngram)) % 2**64
    return ((mixed ^ (mixed >> 32)) * MIX % 2**64) >> (64 - HASH_BITS)


def enumerate_ngrams(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield start, length and column of each run of 2 to 5 bytes and of one or two words."""
    padded = f" {text} ".encode()
    for length in range(2, 6):
        for start in range(len(padded) - length + 1):
            yield start, length, column(padded[start : start + length])
    words = text.encode().split()
    for count in (1, 2):
        start = 0
        for first in range(len(words) - count + 1):
            ngram = b" " + b" ".join(words[first : first + count]) + b" "
            yield start, len(ngram), column(ngram)
            start += len(words[first]) + 1


def found(texts: list[str]) -> list[Counter[tuple[int, int, int]]]:
    ngrams = find_ngrams(texts)
    rows = zip(ngrams.row.tolist(), ngrams.start.tolist(), ngrams.length.tolist(), ngrams.column.tolist(), strict=True)
    of_text: list[Counter[tuple[int, int, int]]] = [Counter() for _ in texts]
    for row, *ngram in rows:
        of_text[row][ngram[0], ngram[1], ngram[2]] += 1
    return of_text


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_the_columns_are_those_of_a_plain_enumeration_whatever_stands_beside_a_text(texts: list[str]) -> None:
    assert found(texts) == [Counter(enumerate_ngrams(text)) for text in texts]


@pytest.mark.parametrize("size", [4_094, 4_095, 9_000])
def test_a_text_of_any_length_has_its_columns(size: int) -> None:
    text = "ab" * (size // 2)
    assert found(["x", text, "y"]) == [Counter(enumerate_ngrams(each)) for each in ("x", text, "y")]


def test_an_empty_text_has_no_word_and_no_text_at_all_has_no_row() -> None:
    assert found([""]) == [Counter([(0, 2, column(b"  "))])]
    assert ngram_matrix([]).shape == (0, 1 << HASH_BITS)


def test_the_matrix_has_a_one_in_each_column_of_a_text() -> None:
    texts = ["la la la land", "", "shell york"]
    matrix = ngram_matrix(texts)
    assert matrix.dtype == np.float32
    for text, row in zip(texts, matrix.toarray(), strict=True):
        assert set(np.flatnonzero(row)) == {column for _, _, column in enumerate_ngrams(text)}
        assert set(row.tolist()) <= {0.0, 1.0}
