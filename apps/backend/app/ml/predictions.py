"""Predictions in the form that evaluation reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from app.ml.category_model import known_labels, labels_of, places_of, score_places
from app.ml.evaluate import PREDICTION_SCHEMA
from app.ml.evidence import day_numbers, month_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel
    from app.ml.evidence import KnownLabels

# However many rows there are, memory holds what belongs to so many places, with n-grams and counts of some 10 KB each,
# and to so many pairs of a place and a label, of some 60 bytes each.
_PLACES_AT_ONCE: Final = 40_000
_CELLS_AT_ONCE: Final = 4_000_000


def predict(model: CategoryModel, rows: pl.DataFrame, known: pl.DataFrame, *, by_month: bool = True) -> pl.DataFrame:
    """Predict labelled rows.

    Args:
        model: What was learnt.
        rows: ESTIMATOR_SCHEMA with txn_id, description and label.
        known: ESTIMATOR_SCHEMA with description, label and sample_weight: labels that may be known.
        by_month: Whether each row is predicted from labels of the months before its own alone; else from all `known`.

    Returns:
        PREDICTION_SCHEMA, in the order of `rows`.
    """
    days = day_numbers(rows["date"])
    everything = int(day_numbers(known["date"]).max(initial=-1)) + 1
    as_of = month_starts(days) if by_month else np.full(days.size, everything)
    placed = places_of(rows).with_columns(as_of=as_of)
    distinct = placed.unique(maintain_order=True).with_columns(number=pl.int_range(pl.len(), dtype=pl.Int64))
    number = placed.join(distinct, on=placed.columns, how="left", maintain_order="left")["number"].to_numpy()
    labels = labels_of(model, known)
    prepared = known_labels(known, labels)
    predicted = pl.concat(
        [
            pl.DataFrame(schema=_PREDICTED | {"row": pl.Int64()}),
            *(
                _predict_some(model, rows["label"], number, part, prepared, labels)
                for part in distinct.iter_slices(min(_PLACES_AT_ONCE, max(_CELLS_AT_ONCE // len(labels), 1)))
            ),
        ]
    )
    return describe_predictions(rows, predicted.sort("row").drop("row"), known, as_of)


_PREDICTED: Final = {
    name: PREDICTION_SCHEMA[name]
    for name in ("predicted", "confidence", "truth_probability", "truth_rank", "probability_squares", "is_applied")
}


def describe_predictions(
    rows: pl.DataFrame, predicted: pl.DataFrame, known: pl.DataFrame, as_of: NDArray[np.int64]
) -> pl.DataFrame:
    """Put what is evaluated beside predictions.

    Args:
        rows: txn_id, date, account, description, amount and label.
        predicted: The columns of PREDICTION_SCHEMA that a system says.
        known: date, account and description of the labels that may be known.
        as_of: For each row the day before which they are.
    """
    return (
        rows.select(
            "txn_id",
            pl.col("date").dt.month_start().alias("month"),
            pl.col("account").fill_null(""),
            "description",
            pl.col("label").alias("truth"),
            pl.col("amount").cast(pl.Float64),
            pl.Series("is_unseen", _is_new(rows["description"], known["description"], known["date"], as_of)),
            pl.Series("is_unseen_account", _is_new(rows["account"], known["account"], known["date"], as_of)),
        )
        .hstack(predicted)
        .select(PREDICTION_SCHEMA.names())
    )


def _predict_some(
    model: CategoryModel,
    truths: pl.Series,
    number: NDArray[np.int64],
    distinct: pl.DataFrame,
    known: KnownLabels,
    labels: tuple[str, ...],
) -> pl.DataFrame:
    """Predict the rows at some of the distinct places; `number` says at which each row is."""
    scored = score_places(model, distinct, known, distinct["as_of"].to_numpy())
    probabilities = scored.probabilities
    first = distinct["number"][0]
    rows = np.flatnonzero((number >= first) & (number < first + distinct.height))
    at = number[rows] - first
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    index = {label: position for position, label in enumerate(labels)}
    truth = truths[rows].replace_strict(index, default=-1, return_dtype=pl.Int64).to_numpy()
    of_truth = np.where(truth >= 0, probabilities[at, truth], 0.0)
    rank = 1 + (probabilities[at] > of_truth[:, None]).sum(axis=1)
    return pl.DataFrame(
        {
            "predicted": pl.Series(labels, dtype=pl.String).gather(best[at]),
            "confidence": confidence[at],
            "truth_probability": of_truth,
            "truth_rank": pl.Series(rank, dtype=pl.Int32),
            "probability_squares": (probabilities**2).sum(axis=1)[at],
            "is_applied": ((confidence >= model.threshold) & scored.is_familiar)[at],
            "row": rows,
        }
    ).with_columns(pl.when(pl.Series(truth >= 0)).then("truth_rank"))


def _is_new(values: pl.Series, known: pl.Series, dates: pl.Series, as_of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of each value whether it was not known before the row's moment."""
    first = pl.DataFrame({"value": known.fill_null(""), "day": day_numbers(dates)}).group_by("value").min()
    found = pl.DataFrame({"value": values.fill_null("")}).join(first, on="value", how="left", maintain_order="left")
    return found["day"].is_null().to_numpy() | (found["day"].fill_null(0).to_numpy() >= as_of)
