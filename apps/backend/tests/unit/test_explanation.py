"""Explanations: exact, complete, and readable."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from app.ml.category_model import known_labels, labels_of, places_of, score_places
from app.ml.evidence import LEVELS
from app.ml.explanation import BASE_RATE, REST, WORDS, WORDS_ON_ACCOUNT, Explanation, Reason, explain, tell
from app.ml.ngrams import find_ngrams

if TYPE_CHECKING:
    from app.ml.category_model import CategoryModel
    from app.ml.evidence import KnownLabels

    KnownAndLabels = tuple[tuple[str, ...], KnownLabels, int]

# Weights and sums of the wording are of single precision.
ROUNDING = 1e-5
STRANGE = ["", "zzqx", "a", "tesco tesco tesco", "café 東京 🙂", "aldi"]


@pytest.fixture(scope="module")
def rows(sample_rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that were learnt from, later ones, and strange ones; the last are of a category that no model has seen."""
    chosen = sample_rows.gather_every(97)
    strange = sample_rows.tail(len(STRANGE)).with_columns(
        norm_desc=pl.Series(STRANGE), merchant=pl.Series(STRANGE), label=pl.lit("Brand new")
    )
    return pl.concat([chosen, strange])


@pytest.fixture(scope="module")
def known(rows: pl.DataFrame, sample_model: CategoryModel) -> KnownAndLabels:
    labels = labels_of(sample_model, rows)
    prepared = known_labels(rows, labels)
    return labels, prepared, int(prepared.days.max()) + 1


def test_the_parts_add_up_to_every_score_and_every_difference(
    sample_model: CategoryModel, rows: pl.DataFrame, known: KnownAndLabels
) -> None:
    labels, prepared, end = known
    assert labels[-1] == "Brand new"
    places = places_of(rows)
    scores = score_places(sample_model, places, prepared, np.full(rows.height, end)).scores
    for number in range(rows.height):
        place = places[number : number + 1]
        order = np.argsort(-scores[number])
        asked = {int(order[0]), int(order[-1]), number % len(labels), len(labels) - 1}
        for label in asked:
            for against in (None, int(order[0]), int(order[1]), len(labels) - 1):
                explained = explain(
                    sample_model,
                    place,
                    prepared,
                    end,
                    labels,
                    label=labels[label],
                    against=None if against is None else labels[against],
                )
                expected = scores[number, label] - (0 if against is None else scores[number, against])
                assert explained.score == pytest.approx(expected, abs=ROUNDING)
                assert sum(reason.value for reason in explained.reasons) == pytest.approx(expected, abs=ROUNDING)


def test_what_is_the_same_for_every_label_is_no_reason_for_one_against_another(
    sample_model: CategoryModel, rows: pl.DataFrame, known: KnownAndLabels
) -> None:
    labels, prepared, end = known
    place = places_of(rows[:1])
    alone = explain(sample_model, place, prepared, end, labels, label="Groceries")
    compared = explain(sample_model, place, prepared, end, labels, label="Groceries", against="Fuel")
    assert REST in {reason.kind for reason in alone.reasons}
    assert REST not in {reason.kind for reason in compared.reasons}
    assert explain(sample_model, place, prepared, end, labels, label="Fuel", against="Fuel").reasons == ()


def test_reasons_are_words_of_the_description_and_places_with_their_counts(
    sample_model: CategoryModel, rows: pl.DataFrame, known: KnownAndLabels
) -> None:
    labels, prepared, end = known
    number = 9
    place, row = places_of(rows[number : number + 1]), rows.row(number, named=True)
    explained = explain(sample_model, place, prepared, end, labels, label=row["label"], against=labels[-1])
    words = {reason.what for reason in explained.reasons if reason.kind in (WORDS, WORDS_ON_ACCOUNT)}
    assert words <= {*row["norm_desc"].split(), ""}
    assert words - {""}
    sizes = [abs(reason.value) for reason in explained.reasons]
    assert sizes == sorted(sizes, reverse=True)
    (here,) = [reason for reason in explained.reasons if reason.kind == "account_description"]
    same = rows.filter(pl.col("norm_desc") == row["norm_desc"], pl.col("account") == row["account"])
    assert dict(here.labels) == dict(same.group_by("label").len().iter_rows())
    assert {reason.kind for reason in explained.reasons} <= {WORDS, WORDS_ON_ACCOUNT, BASE_RATE, *LEVELS}


def test_labels_of_the_day_itself_are_no_reason(
    sample_model: CategoryModel, rows: pl.DataFrame, known: KnownAndLabels
) -> None:
    labels, prepared, _ = known
    first = int(prepared.days.min())
    explained = explain(sample_model, places_of(rows[:1]), prepared, first, labels, label="Groceries")
    assert not {reason.kind for reason in explained.reasons} & set(LEVELS)


@pytest.mark.parametrize(
    ("ngram", "expected"),
    [
        ("shell", {"shell": 1.0}),
        ("hell ", {"shell": 1.0}),
        ("l y", {"shell": 0.5, "york": 0.5}),
        ("l yor", {"shell": 0.25, "york": 0.75}),
        (" york ", {"york": 1.0}),
    ],
)
def test_an_ngram_speaks_for_the_words_that_it_stands_in_by_what_it_covers_of_them(
    sample_model: CategoryModel, rows: pl.DataFrame, known: KnownAndLabels, ngram: str, expected: dict[str, float]
) -> None:
    labels, prepared, end = known
    text = "shell york"
    found = find_ngrams([text])
    padded = f" {text} "
    (column,) = {
        int(found.column[at])
        for at in range(found.row.size)
        if padded[found.start[at] : found.start[at] + found.length[at]] == ngram
    }
    classes = len(sample_model.classes)
    weights = np.zeros((1, classes), dtype=np.float32)
    weights[0, labels.index("Fuel")] = 1
    learnt = replace(
        sample_model.wording,
        columns=np.array([column], dtype=np.int32),
        idf=np.ones(1, dtype=np.float32),
        alone=weights,
        associations=replace(
            sample_model.wording.associations, gains=np.zeros_like(sample_model.wording.associations.gains)
        ),
        on_account=np.zeros((1 + sample_model.wording.crossed_columns.size, classes), dtype=np.float32),
    )
    place = places_of(rows[:1].with_columns(norm_desc=pl.lit(text)))
    explained = explain(
        replace(sample_model, wording=learnt), place, prepared, end, labels, label="Fuel", against="Groceries"
    )
    words = {reason.what: reason.value for reason in explained.reasons if reason.kind == WORDS}
    total = sum(words.values())
    assert total > 0
    assert {word: value / total for word, value in words.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reason", "against", "sentence"),
    [
        (Reason(WORDS, "shell", 2.0), "Travel", "The word 'shell' speaks for Fuel."),
        (Reason(WORDS, "shell", -2.0), "Travel", "But the word 'shell' speaks for Travel."),
        (Reason(WORDS, "shell", -2.0), None, "But the word 'shell' speaks against Fuel."),
        (Reason(WORDS, "", 1.0), None, "An empty description speaks for Fuel."),
        (Reason(WORDS_ON_ACCOUNT, "shell", 1.0), None, "On this account the word 'shell' speaks for Fuel."),
        (Reason(WORDS_ON_ACCOUNT, "", 1.0), None, "This account speaks for Fuel."),
        (Reason(BASE_RATE, "", 1.0), "Travel", "How common it is speaks for Fuel."),
        (
            Reason("account_merchant", "at 'shell' on this account", 1.0, (("Fuel", 12),)),
            "Travel",
            "All 12 earlier transactions at 'shell' on this account were Fuel.",
        ),
        (
            Reason("merchant", "at 'shell'", 1.0, (("Fuel", 1_012), ("Travel", 1))),
            "Travel",
            "1,012 of the 1,013 earlier transactions at 'shell' were Fuel.",
        ),
        (
            Reason("merchant", "at 'shell'", -1.0, (("Fuel", 12), ("Travel", 1))),
            "Travel",
            "But 1 of the 13 earlier transactions at 'shell' was Travel.",
        ),
        (
            Reason("merchant", "at 'shell'", 1.0, (("Fuel", 1),)),
            None,
            "The one earlier transaction at 'shell' was Fuel.",
        ),
        (
            Reason("merchant", "at 'shell'", 1.0, (("Travel", 1),)),
            "Travel",
            "The one earlier transaction at 'shell' was Travel.",
        ),
    ],
)
def test_a_reason_is_a_sentence(reason: Reason, against: str | None, sentence: str) -> None:
    assert tell(Explanation("Fuel", against, reason.value, (reason,))) == [sentence]


def test_the_largest_reasons_are_told_and_those_for_the_label_first() -> None:
    reasons = (Reason(REST, "", -9.0), Reason(WORDS, "a", -3.0), Reason(WORDS, "b", 2.0), Reason(WORDS, "c", 1.0))
    told = tell(Explanation("Fuel", "Travel", 0.0, reasons), most=2)
    assert told == ["The word 'b' speaks for Fuel.", "But the word 'a' speaks for Travel."]
