"""Evidence: counts equal a count by hand, and nothing at or after a row's moment takes part."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml.evidence import (
    GENERAL,
    HALF_LIVES,
    LEVELS,
    PARAMETERS,
    PIECES,
    SLOTS,
    Evidence,
    KnownLabels,
    evidence_values,
    gather_evidence,
    is_known_place,
    place_columns,
)

Place = dict[str, int | str]

LABELS = 3
PLACE = {
    "user_id": st.integers(1, 2),
    "account": st.sampled_from(["", "card"]),
    "merchant": st.sampled_from(["", "shell"]),
    "norm_desc": st.sampled_from(["", "shell york", "shell hull"]),
    "builtin": st.sampled_from(["", "transport.fuel"]),
    "first_word": st.sampled_from(["", "shell"]),
    "amount_band": st.integers(0, 1),
}
SOMEWHERE: Place = {name: 1 if name in ("user_id", "amount_band") else "x" for name in PLACE}
PLACES = st.fixed_dictionaries(PLACE)
LABEL = st.tuples(PLACES, st.integers(0, 400), st.integers(0, LABELS - 1), st.sampled_from([0.5, 1.0, 6.0]))


def frame(rows: list[Place]) -> pl.DataFrame:
    types = {name: pl.Int64 if name in ("user_id", "amount_band") else pl.String for name in PLACE}
    return pl.DataFrame(rows, schema=types)


def known_of(labels: list[tuple[Place, int, int, float]]) -> KnownLabels:
    return KnownLabels(
        places=frame([place for place, _, _, _ in labels]),
        days=np.array([day for _, day, _, _ in labels], dtype=np.int64),
        labels=np.array([label for _, _, label, _ in labels], dtype=np.int64),
        counts=np.array([count for _, _, _, count in labels], dtype=np.float64),
        label_count=LABELS,
    )


def counted(evidence: Evidence) -> dict[tuple[int, int, int], float]:
    entries = zip(
        evidence.row.tolist(), evidence.slot.tolist(), evidence.label.tolist(), evidence.count.tolist(), strict=True
    )
    found = {(row, slot, label): count for row, slot, label, count in entries}
    assert len(found) == evidence.row.size, "an entry is there twice"
    return found


def is_there(place: Place, elsewhere: Place, level: str) -> bool:
    """Say whether two places are one at a level; those without a merchant have none in common."""
    keys = ("user_id", *LEVELS[level])
    return all(place[key] == elsewhere[key] for key in keys) and not ("merchant" in keys and place["merchant"] == "")


def bytes_of(evidence: Evidence) -> bytes:
    return b"".join(part.tobytes() for part in (evidence.row, evidence.slot, evidence.label, evidence.count))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PLACES, st.integers(0, 420)), max_size=6), st.lists(LABEL, max_size=25))
def test_counts_equal_a_count_by_hand(
    rows: list[tuple[Place, int]], labels: list[tuple[Place, int, int, float]]
) -> None:
    as_of = np.array([moment for _, moment in rows], dtype=np.int64)
    expected: dict[tuple[int, int, int], float] = {}
    for number, (place, moment) in enumerate(rows):
        for slot, (level, life) in enumerate(SLOTS):
            for elsewhere, day, label, count in labels:
                if day < moment and is_there(place, elsewhere, level):
                    key = number, slot, label
                    expected[key] = expected.get(key, 0) + count * 0.5 ** ((moment - day) / HALF_LIVES[life])
    evidence = gather_evidence(frame([place for place, _ in rows]), as_of, known_of(labels))
    found = counted(evidence)
    # What has faded away is not carried along.
    assert {key for key, count in expected.items() if count > 0.0011} <= set(found) <= set(expected)
    assert found == pytest.approx({key: expected[key] for key in found})
    is_general = evidence.slot < len(GENERAL) * len(HALF_LIVES)
    assert is_general.tolist() == sorted(is_general, reverse=True), "the arithmetic takes general levels first"


@settings(max_examples=60, deadline=None)
@given(
    PLACES,
    st.lists(LABEL, min_size=1, max_size=20),
    st.lists(LABEL, max_size=10),
    st.integers(0, 400),
)
def test_whatever_happens_at_the_moment_or_later_changes_no_byte(
    place: Place,
    labels: list[tuple[Place, int, int, float]],
    planted: list[tuple[Place, int, int, float]],
    moment: int,
) -> None:
    rows, as_of = frame([place]), np.array([moment])
    before = bytes_of(gather_evidence(rows, as_of, known_of(labels)))
    past = [label for label in labels if label[1] < moment]
    mutated = [(place, day, (label + 1) % LABELS, 9.0) for _, day, label, _ in labels if day >= moment]
    later = [(place, moment + day, label, count) for _, day, label, count in planted]
    for future in ([], mutated, later, [*mutated, *later]):
        assert bytes_of(gather_evidence(rows, as_of, known_of(future + past))) == before
        assert bytes_of(gather_evidence(rows, as_of, known_of(past + future))) == before


def test_a_label_of_the_day_before_counts_and_one_of_the_day_does_not() -> None:
    for day, slots in ((9, len(SLOTS)), (10, 0), (11, 0)):
        evidence = gather_evidence(frame([SOMEWHERE]), np.array([10]), known_of([(SOMEWHERE, day, 0, 1.0)]))
        assert evidence.row.size == slots


def test_a_label_counts_half_after_each_half_life() -> None:
    found = counted(gather_evidence(frame([SOMEWHERE]), np.array([60]), known_of([(SOMEWHERE, 0, 0, 1.0)])))
    assert found[0, SLOTS.index(("merchant", "months")), 0] == pytest.approx(0.5)
    assert found[0, SLOTS.index(("merchant", "years")), 0] == pytest.approx(0.5 ** (60 / 540))


def test_a_place_is_known_by_its_merchant_or_description_and_not_by_its_account() -> None:
    account_alone = {**SOMEWHERE, "merchant": "y", "norm_desc": "y"}
    nowhere = {**SOMEWHERE, "user_id": 2}
    rows = frame([SOMEWHERE, account_alone, nowhere])
    evidence = gather_evidence(rows, np.full(3, 10), known_of([(SOMEWHERE, 1, 0, 1.0)]))
    assert is_known_place(evidence, 3).tolist() == [True, False, False]


def test_a_count_is_worth_what_it_adds_to_the_reference_and_its_share_of_the_place() -> None:
    base_rates, references = np.array([0.5, 0.3, 0.2]), np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    general, particular = SLOTS.index(("account", "years")), SLOTS.index(("merchant", "months"))
    evidence = Evidence(
        row=np.array([0, 0, 1, 1]),
        slot=np.array([general, general, particular, particular]),
        label=np.array([0, 2, 0, 1]),
        count=np.array([1.0, 0.25, 3.5, 11.5]),
    )
    entry, parameter, value = evidence_values(evidence, references, base_rates)
    first = [1 / (3 * 0.5), 0.25 / (3 * 0.2), 3.5 / 0.6, 4 / 0.3]
    further = math.log1p(11.5 / 0.3) - math.log1p(4 / 0.3)
    # The account has 1.25 labels, the merchant 15.
    share = [2.25 / 1.25, 2.25 / 2, 16 / 12.5, 16 / 4.5]
    expected = [*(math.log1p(each) for each in first), further, *(math.log(each) for each in share)]
    assert value == pytest.approx(expected, rel=1e-6)
    assert entry.tolist() == [0, 1, 2, 3, 3, 0, 1, 2, 3]
    slots = evidence.slot[entry] * len(PIECES)
    assert (parameter - slots).tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]
    assert max(parameter) < PARAMETERS


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 40), min_size=3, max_size=3),
    st.integers(0, 2),
    st.floats(0.01, 10),
    st.lists(st.floats(0, 2), min_size=PARAMETERS, max_size=PARAMETERS),
    st.sampled_from(range(len(SLOTS))),
)
def test_a_label_more_never_lowers_its_own_category_against_another(
    counts: list[float], label: int, more: float, weights: list[float], slot: int
) -> None:
    base_rates = np.array([0.5, 0.3, 0.2])

    def worth(counts: list[float]) -> np.ndarray:
        evidence = Evidence(np.zeros(3, np.int64), np.full(3, slot), np.arange(3), np.array(counts))
        entry, parameter, value = evidence_values(evidence, base_rates[None], base_rates)
        return np.bincount(entry, np.array(weights)[parameter] * value, minlength=3)

    before = worth(counts)
    after = worth([count + more * (number == label) for number, count in enumerate(counts)])
    gain = after - before
    assert (gain[label] - gain >= -1e-5).all()


def test_levels_are_in_the_order_that_the_arithmetic_takes_them_in() -> None:
    assert tuple(LEVELS)[: len(GENERAL)] == GENERAL
    assert [level for level, _ in SLOTS] == [level for level in LEVELS for _ in HALF_LIVES]


def test_places_are_named_without_nulls_and_amounts_by_size_and_direction() -> None:
    rows = pl.DataFrame(
        {
            "user_id": [1] * 4,
            "account": [None, "card", "card", "card"],
            "merchant": [None, "shell", "shell", "shell"],
            "norm_desc": ["", "shell york", "shell york", "shell york"],
            "amount": ["0.00", "-31.00", "-33.00", "33.00"],
            "builtin": [None, "transport.fuel", None, None],
        }
    ).with_columns(pl.col("amount").cast(pl.Decimal(18, 2)))
    places = place_columns(rows)
    assert places.null_count().sum_horizontal().item() == 0
    assert places["first_word"].to_list() == ["", "shell", "shell", "shell"]
    assert set(places.columns) == set(PLACE)
    _, first, second, received = places["amount_band"].to_list()
    assert first == second != received


def test_no_labels_and_no_rows_are_no_evidence() -> None:
    nothing = known_of([])
    assert gather_evidence(frame([SOMEWHERE]), np.array([10]), nothing).row.size == 0
    assert gather_evidence(frame([]), np.zeros(0, np.int64), known_of([(SOMEWHERE, 1, 0, 1.0)])).row.size == 0
