"""Intervals, against what is known without resampling, and two systems on the same rows."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from app.ml.bootstrap import (
    Block,
    compare_paired,
    f1_macro,
    mcnemar_exact,
    percentile_interval,
    ratio,
    resample_sums,
    share_interval,
    string_clusters,
    total,
)


def predictions(said: list[str], truths: list[str], strings: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "txn_id": range(len(said)),
            "description": strings
            or [f"SHOP {'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[row % 26]}{row}" for row in range(len(said))],
            "truth": truths,
            "predicted": said,
        }
    )


def width(hits: np.ndarray, clusters: np.ndarray) -> float:
    sums = resample_sums(clusters, {"hits": total(hits), "rows": total(np.ones(hits.size))}, seed=0)
    interval = percentile_interval(ratio(sums["hits"], sums["rows"])[:, 0])
    return interval.high - interval.low


def test_the_first_sums_are_of_the_rows_as_they_are() -> None:
    block = Block(np.array([0, 2, 2]), 3, np.array([1.0, 2.0, 3.0]))
    sums = resample_sums(np.array([0, 1, 1]), {"plain": total(np.ones(3)), "by_code": block}, seed=0, resamples=50)
    assert sums["plain"].shape == (51, 1)
    assert sums["plain"][0, 0] == 3
    assert sums["by_code"][0].tolist() == [1, 0, 5]


def test_rows_of_a_cluster_are_drawn_together_and_always_as_many_clusters() -> None:
    clusters = np.array([0, 0, 0, 1, 2, 3])
    each = Block(clusters, 4, np.ones(6))
    drawn = resample_sums(clusters, {"each": each}, seed=0, resamples=200)["each"]
    assert (drawn[:, 0] % 3 == 0).all()
    assert (drawn[:, 0] / 3 + drawn[:, 1:].sum(axis=1) == 4).all()


def test_with_a_row_in_each_cluster_the_interval_is_the_textbook_one() -> None:
    hits = np.tile([1.0, 1.0, 1.0, 0.0], 250)
    expected = 2 * 1.96 * math.sqrt(0.75 * 0.25 / 1000)
    assert width(hits, np.arange(1000)) == pytest.approx(expected, rel=0.08)


def test_rows_that_are_right_or_wrong_together_give_wider_intervals() -> None:
    hits = np.repeat(np.tile([1.0, 1.0, 1.0, 0.0], 10), 25)
    ratio_of_widths = width(hits, np.repeat(np.arange(40), 25)) / width(hits, np.arange(1000))
    # 25 rows of a string say no more than one.
    assert ratio_of_widths == pytest.approx(5, rel=0.15)


def test_the_same_seed_gives_the_same_intervals_and_another_others() -> None:
    ours = predictions(["A", "B"] * 30, ["A"] * 60)
    theirs = predictions(["B", "A", "A"] * 20, ["A"] * 60)
    first, again, other = (compare_paired(ours, theirs, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.accuracy != other.accuracy


def test_a_share_of_all_or_none_still_has_an_interval() -> None:
    rows = np.full(101, 20.0)
    sure = share_interval(rows, rows)
    # Wilson's bound for 20 of 20.
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low == pytest.approx(20 / (20 + 1.96**2), abs=1e-4)
    none = share_interval(np.zeros(101), rows)
    assert none.low == 0.0
    assert none.high == pytest.approx(1 - sure.low)


def test_macro_f1_leaves_out_what_a_resample_does_not_hold() -> None:
    hits, true, said = (
        np.array([[2.0, 0.0], [2.0, 0.0]]),
        np.array([[2.0, 0.0], [2.0, 1.0]]),
        np.array([[2.0, 0.0]] * 2),
    )
    assert f1_macro(hits, true, said).tolist() == [1.0, 0.5]


def test_store_numbers_and_references_make_no_other_string() -> None:
    codes = string_clusters(pl.Series(["TESCO STORES 2617 LEEDS", "TESCO STORES 9759 LEEDS", "ALDI LEEDS", None, ""]))
    assert codes[0] == codes[1] != codes[2]
    assert codes[3] == codes[4]
    assert sorted(set(codes.tolist())) == [0, 1, 2]


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (1, 7, 2 * 9 / 256), (8, 2, 2 * 56 / 1024)],
)
def test_mcnemar_is_a_fair_coin_for_each_row_that_differs(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p)


def test_mcnemar_of_many_rows_neither_overflows_nor_vanishes() -> None:
    assert mcnemar_exact(3000, 3000) == 1.0
    assert 0 < mcnemar_exact(2000, 2400) < 1e-8


def test_differences_are_ours_minus_theirs() -> None:
    truths = ["A", "A", "B", "B"] * 25
    ours, theirs = predictions(truths, truths), predictions(["A", "B", "B", "B"] * 25, truths)
    better, worse = compare_paired(ours, theirs), compare_paired(theirs, ours)
    assert better.accuracy.value == pytest.approx(0.25)
    assert 0 < better.accuracy.low < 0.25 < better.accuracy.high
    # Theirs: A has F1 2/3, B 4/5.
    assert better.f1_macro.value == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)
    assert (better.only_ours_right, better.only_theirs_right, better.rows) == (25, 0, 100)
    assert better.mcnemar_p == pytest.approx(2 / 2**25)
    assert worse.accuracy.value == -better.accuracy.value
    assert worse.only_theirs_right == 25


def test_what_is_hard_for_both_does_not_widen_the_difference() -> None:
    truths = ["A"] * 400
    ours = predictions(["A", "B"] * 200, truths)
    theirs = predictions(["A", "B"] * 199 + ["B", "B"], truths)
    difference = compare_paired(ours, theirs).accuracy
    assert difference.high - difference.low < 0.02


def test_the_order_of_rows_decides_nothing() -> None:
    truths = ["A", "B"] * 50
    ours, theirs = predictions(["A"] * 100, truths), predictions(["B"] * 30 + ["A"] * 70, truths)
    assert compare_paired(ours.reverse(), theirs.sample(fraction=1, shuffle=True, seed=0)) == compare_paired(
        ours, theirs
    )


@pytest.mark.parametrize(
    "theirs",
    [
        predictions(["A", "A"], ["A", "B"]),
        predictions(["A"] * 4, ["A"] * 4),
        predictions(["A"] * 3, ["A", "A", "B"]),
        predictions(["A"] * 3, ["A"] * 3).with_columns(txn_id=pl.col("txn_id") + 1),
    ],
    ids=["fewer", "more", "another truth", "other transactions"],
)
def test_systems_that_predicted_other_rows_are_not_compared(theirs: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="same transactions"):
        compare_paired(predictions(["A"] * 3, ["A"] * 3), theirs)


def test_no_rows_are_not_compared() -> None:
    nothing = predictions(["A"], ["A"]).clear()
    with pytest.raises(ValueError, match="same transactions"):
        compare_paired(nothing, nothing)
