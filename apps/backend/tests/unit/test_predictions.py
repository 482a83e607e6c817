"""Predictions: what the model says of each row, from what was known before it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from app.ml import predictions
from app.ml.calibration import NEVER
from app.ml.category_model import known_labels, labels_of, places_of, score_places
from app.ml.evaluate import PREDICTION_SCHEMA
from app.ml.evidence import day_numbers
from app.ml.predictions import predict

if TYPE_CHECKING:
    from app.ml.category_model import CategoryModel

SAID = ["txn_id", "predicted", "confidence", "probability_squares", "is_applied", "is_unseen", "is_unseen_account"]


@pytest.fixture(scope="module")
def later(sample_rows: pl.DataFrame) -> pl.DataFrame:
    return sample_rows[2_000:2_600]


def in_bytes(predicted: pl.DataFrame) -> bytes:
    return predicted.write_ipc(None).getvalue()


@pytest.mark.parametrize("by_month", [True, False])
def test_each_row_is_predicted_as_it_is_scored_alone(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame, *, by_month: bool
) -> None:
    model = dataclasses.replace(sample_model, threshold=0.8)
    known = sample_rows if by_month else sample_rows.head(2_000)
    predicted = predict(model, later, known, by_month=by_month)
    assert predicted.schema == PREDICTION_SCHEMA
    assert predicted["txn_id"].to_list() == later["txn_id"].to_list()
    assert predicted["truth"].to_list() == later["label"].to_list()
    labels = labels_of(model, known)
    for number in range(0, later.height, 23):
        row, said = later[number : number + 1], predicted.row(number, named=True)
        moment = row["date"].dt.month_start() if by_month else pl.Series([dt.date(2100, 1, 1)])
        before = known.filter(pl.col("date") < moment[0])
        end = day_numbers(moment) if by_month else day_numbers(known["date"]).max(keepdims=True) + 1
        scored = score_places(model, places_of(row), known_labels(before, labels), end)
        probabilities = scored.probabilities[0]
        truth = probabilities[labels.index(said["truth"])]
        assert said["predicted"] == labels[probabilities.argmax()]
        assert said["confidence"] == pytest.approx(probabilities.max())
        assert said["truth_probability"] == pytest.approx(truth)
        assert said["truth_rank"] == 1 + (probabilities > truth).sum()
        assert said["probability_squares"] == pytest.approx((probabilities**2).sum())
        assert said["is_applied"] == (probabilities.max() >= 0.8 and scored.is_familiar[0])
        assert said["is_unseen"] == (said["description"] not in set(before["description"]))
        assert said["is_unseen_account"] == (said["account"] not in set(before["account"]))


def test_labels_of_the_rows_month_and_later_change_no_byte(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame
) -> None:
    month = later["date"].dt.month_start()[300]
    rows = later.filter(pl.col("date").dt.month_start() == month)
    past, future = sample_rows.filter(pl.col("date") < month), sample_rows.filter(pl.col("date") >= month)
    twisted = future.with_columns(label=pl.col("label").reverse(), sample_weight=3.0, description=pl.lit("x"))
    honest, *others = (
        in_bytes(predict(sample_model, rows, known).select(SAID))
        for known in (past, pl.concat([past, future]), pl.concat([past, twisted]), pl.concat([twisted, past]))
    )
    assert others == [honest] * 3
    assert in_bytes(predict(sample_model, rows, twisted).select(SAID)) != honest


def test_a_rows_own_label_is_not_known_to_it(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame
) -> None:
    other = later.with_columns(label=pl.lit("Cash"))
    said = [
        predict(sample_model, rows, sample_rows.head(2_000), by_month=False).select(SAID) for rows in (later, other)
    ]
    assert in_bytes(said[0]) == in_bytes(said[1])


def test_the_size_of_a_slice_decides_nothing(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sample_rows.head(2_000)
    expected = predict(sample_model, later, known, by_month=False)
    monkeypatch.setattr(predictions, "_CELLS_AT_ONCE", 17 * len(sample_model.classes))
    assert_frame_equal(predict(sample_model, later, known, by_month=False), expected, rel_tol=1e-12, abs_tol=1e-12)


def test_a_category_that_nobody_has_used_yet_has_no_rank_and_one_that_has_been_used_since_has(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame
) -> None:
    known = sample_rows.head(2_000)
    rows = later.head(3).with_columns(label=pl.lit("Brand new"))
    never = predict(sample_model, rows, known, by_month=False)
    assert never["truth_rank"].to_list() == [None] * 3
    assert never["truth_probability"].to_list() == [0.0] * 3
    since = predict(sample_model, rows, pl.concat([known, rows.with_columns(date=known["date"][-1])]), by_month=False)
    assert since["truth_rank"].null_count() == 0
    assert since["truth_probability"].min() > 0  # type: ignore[operator]


def test_nothing_is_applied_without_a_threshold_and_nothing_strange_with_any(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame
) -> None:
    known = sample_rows.head(2_000)
    strange = later.head(1).with_columns(norm_desc=pl.lit("qqzxj wvvkq"), merchant=pl.lit("qqzxj"))
    rows = pl.concat([known.tail(1), strange])
    for threshold, applied in ((NEVER, [False, False]), (0.0, [True, False])):
        model = dataclasses.replace(sample_model, threshold=threshold)
        assert predict(model, rows, known, by_month=False)["is_applied"].to_list() == applied


def test_no_rows_are_no_predictions_and_no_labels_are_no_obstacle(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, later: pl.DataFrame
) -> None:
    assert predict(sample_model, later.head(0), sample_rows.head(50)).schema == PREDICTION_SCHEMA
    alone = predict(sample_model, later, sample_rows.head(0))
    assert alone.height == later.height
    assert alone["is_unseen"].all()
    assert np.isfinite(alone["confidence"].to_numpy()).all()
