"""What a process remembers of labels is what counting them all anew would give."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml.category_model import ESTIMATOR_SCHEMA, known_labels, places_of
from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.evidence import Evidence, Place, day_numbers, gather_evidence, place_of
from app.ml.label_memory import GivenLabel, LabelMemory

LABELS = ("Fuel", "Groceries", "Household")
ROWS = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["card", "joint", None]),
        "date": st.dates(dt.date(2023, 1, 1), dt.date(2025, 6, 1)) | st.dates(dt.date(1900, 1, 1), dt.date(2027, 1, 1)),
        "amount": st.sampled_from([Decimal("-3.50"), Decimal("-41.00"), Decimal("2000.00"), Decimal("-0.01")]),
        "merchant": st.sampled_from(["aldi", "shell", "", None]),
        "norm_desc": st.sampled_from(["aldi leeds", "aldi", "shell york", ""]),
        "label": st.sampled_from(LABELS),
        "source": st.sampled_from(sorted(SAMPLE_WEIGHTS)),
    }
)


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    whole = [{"user_id": 1, "mcc": None, "channel": None} | row for row in rows]
    weights = pl.Series([SAMPLE_WEIGHTS[row["source"]] for row in rows], dtype=pl.Float64)
    schema = dict(ESTIMATOR_SCHEMA) | {"label": pl.String, "source": pl.String}
    return pl.DataFrame(whole, schema=schema).with_columns(sample_weight=weights)


def given_labels(rows: list[dict[str, Any]]) -> dict[int, GivenLabel]:
    frame = frame_of(rows)
    places = [Place(*row) for row in places_of(frame).iter_rows()]
    days = day_numbers(frame["date"]).tolist()
    return {
        number: GivenLabel(place, day, row["label"], row["source"])
        for number, (row, place, day) in enumerate(zip(rows, places, days, strict=True))
    }


def counts(evidence: Evidence, words: list[str] | tuple[str, ...]) -> dict[tuple[int, str], float]:
    entries = zip(evidence.slot.tolist(), evidence.label.tolist(), evidence.count.tolist(), strict=True)
    return {(slot, words[label]): count for slot, label, count in entries}


def counted_anew(rows: list[dict[str, Any]], asked: int, as_of: int) -> dict[tuple[int, str], float]:
    """Count every other row's label at the place of one row."""
    others = [row for number, row in enumerate(rows) if number != asked]
    place = places_of(frame_of(rows))[asked : asked + 1]
    evidence = gather_evidence(place, np.array([as_of]), known_labels(frame_of(others), LABELS))
    return counts(evidence, LABELS)


@given(st.lists(ROWS, min_size=1, max_size=12), st.data())
def test_counts_are_those_of_all_labels_but_one_s_own(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    asked = data.draw(st.integers(0, len(rows) - 1))
    labels = given_labels(rows)
    memory = LabelMemory(labels, SAMPLE_WEIGHTS)
    as_of = memory.as_of(labels[asked].day)
    evidence = memory.evidence_at(labels[asked].place, as_of, without=asked)
    expected = counted_anew(rows, asked, as_of)
    assert counts(evidence, memory.words) == pytest.approx(expected, rel=1e-6)
    assert (np.diff(evidence.slot) >= 0).all() or evidence.slot.max(initial=0) < 16


@given(st.lists(ROWS, min_size=1, max_size=10), st.lists(st.tuples(st.integers(0, 9), ROWS), max_size=15))
def test_labels_that_move_leave_what_those_that_are_there_would_give(
    rows: list[dict[str, Any]], moves: list[tuple[int, dict[str, Any]]]
) -> None:
    memory = LabelMemory(given_labels(rows), SAMPLE_WEIGHTS)
    now = dict(enumerate(rows))
    for txn_id, row in moves:
        if txn_id in now and row["label"] == now[txn_id]["label"]:
            memory.remove(txn_id)
            del now[txn_id]
        else:
            # A transaction's place never changes, only its label does.
            now[txn_id] = now.get(txn_id, row) | {"label": row["label"], "source": row["source"]}
            memory.put(txn_id, given_labels([now[txn_id]])[0])
    left = list(now.values())
    anew = LabelMemory(given_labels(left), SAMPLE_WEIGHTS)
    assert memory.in_use == anew.in_use
    assert len(memory.given) == len(now)
    for row in rows[:3]:
        place = given_labels([row])[0].place
        as_of = max(memory.as_of(0), anew.as_of(0), 1)
        moved = counts(memory.evidence_at(place, as_of), memory.words)
        assert moved == pytest.approx(counts(anew.evidence_at(place, as_of), anew.words), rel=1e-5)
        for level in ("merchant", "description", "account_description"):
            tallies = {word: tally.by_source for word, tally in memory.tallies_at(place, level).items()}
            assert tallies == {word: tally.by_source for word, tally in anew.tallies_at(place, level).items()}


def test_a_vocabulary_is_another_one_once_a_category_comes_or_goes() -> None:
    place = place_of(1, "card", "aldi", "aldi leeds", None, Decimal(-3))
    memory = LabelMemory({1: GivenLabel(place, 100, "Fuel", "human")}, SAMPLE_WEIGHTS)
    before = memory.vocabulary
    memory.put(2, GivenLabel(place, 101, "Fuel", "human"))
    assert memory.vocabulary == before
    memory.put(1, GivenLabel(place, 100, "Groceries", "human"))
    assert memory.vocabulary > before
    assert set(memory.in_use) == {"Fuel", "Groceries"}


@given(ROWS)
def test_one_place_is_named_like_a_frame_s(row: dict[str, Any]) -> None:
    (named,) = [Place(*values) for values in places_of(frame_of([row])).iter_rows()]
    given_place = place_of(1, row["account"], row["merchant"], row["norm_desc"], named.builtin or None, row["amount"])
    assert given_place == named


def test_what_old_labels_count_is_there_again_once_later_ones_have_gone() -> None:
    place = place_of(1, "card", "aldi", "aldi leeds", None, Decimal(-3))
    old = {number: GivenLabel(place, 9_000 + number, "Groceries", "human") for number in range(3)}
    memory = LabelMemory(old | {9: GivenLabel(place, 20_000, "Groceries", "human")}, SAMPLE_WEIGHTS)
    memory.remove(9)
    as_of = memory.as_of(0)
    left, anew = memory.evidence_at(place, as_of), LabelMemory(old, SAMPLE_WEIGHTS).evidence_at(place, as_of)
    assert counts(left, memory.words) == pytest.approx(counts(anew, ["Groceries"]))
    assert anew.count.min() > 0
