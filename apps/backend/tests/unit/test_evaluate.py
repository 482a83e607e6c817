"""Scores, against calculations by hand and against the properties they must have."""

from __future__ import annotations

import polars as pl
import pytest

from app.ml.evaluate import score_forced, score_selective

ROWS = pl.DataFrame(
    [("A", "A", 0.9), ("A", "B", 0.6), ("B", "B", 0.8), ("C", "B", 0.3)],
    schema=["truth", "predicted", "confidence"],
    orient="row",
)


def test_accuracy_is_the_share_of_right_predictions() -> None:
    assert score_forced(ROWS).accuracy == 0.5


def test_macro_f1_gives_every_category_that_is_true_or_predicted_the_same_say() -> None:
    # A: precision 1, recall 1/2; B: precision 1/3, recall 1; C is never predicted.
    assert score_forced(ROWS).f1_macro == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    invented = pl.concat([ROWS, pl.DataFrame([("A", "D", 0.1)], schema=ROWS.schema, orient="row")])
    assert score_forced(invented).f1_macro == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)


def test_calibration_error_is_the_mean_distance_of_confidence_from_accuracy() -> None:
    # 0.9, 0.8, 0.6 and 0.3 fall into bins of their own.
    assert score_forced(ROWS).ece == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    honest = pl.DataFrame({"truth": ["A"] * 10, "predicted": ["A"] * 8 + ["B"] * 2, "confidence": [0.8] * 10})
    assert score_forced(honest).ece == pytest.approx(0)


def test_a_confidence_of_one_belongs_to_the_last_bin() -> None:
    sure = pl.DataFrame({"truth": ["A", "A"], "predicted": ["A", "B"], "confidence": [1.0, 0.99]})
    assert score_forced(sure).ece == pytest.approx(0.495)


def test_selective_scores_count_what_is_said_and_how_much_of_that_is_wrong() -> None:
    said = score_selective(ROWS, 0.6)
    assert said.coverage == 0.75
    assert said.error == pytest.approx(1 / 3)
    assert score_selective(ROWS, 0.95) == score_selective(ROWS, 1.0)
    assert (score_selective(ROWS, 0.95).coverage, score_selective(ROWS, 0.95).error) == (0.0, 0.0)
    assert score_selective(ROWS, 0.0, offered=pl.col("truth") != "C").coverage == 0.75
