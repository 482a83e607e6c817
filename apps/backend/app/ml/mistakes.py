"""Which predictions are wrong: which categories are taken for which, and what costs most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from app.ml.evaluation import Confusion, ConfusionMatrix

_CONFUSIONS: Final = 12
_MATRIX_CATEGORIES: Final = 12
_MISTAKES: Final = 12

_IS_WRONG: Final = pl.col("truth") != pl.col("predicted")


@dataclass(frozen=True)
class Mistake:
    """What a description was taken for, wrongly. It quotes what a bank wrote about a person.

    Attributes:
        description: The bank's string.
        truth: What it is.
        predicted: What was said.
        rows: How often.
        amount: The absolute amounts together.
    """

    description: str
    truth: str
    predicted: str
    rows: int
    amount: float


def costliest_mistakes(predictions: pl.DataFrame) -> tuple[Mistake, ...]:
    """List the wrong predictions with the most money in them, equal ones together.

    They are no part of an `Evaluation`, which is kept with a model for as long as that is kept: strings of people who
    asked to be erased would stay in it.

    Args:
        predictions: In `PREDICTION_SCHEMA`.
    """
    mistakes = (
        predictions.filter(_IS_WRONG)
        .group_by("description", "truth", "predicted")
        .agg(rows=pl.len(), amount=pl.col("amount").abs().sum())
        .sort("amount", "description", "truth", "predicted", descending=[True, False, False, False])
    )
    return tuple(Mistake(*each) for each in mistakes.head(_MISTAKES).iter_rows())


def largest_confusions(predictions: pl.DataFrame) -> tuple[Confusion, ...]:
    """List which categories are most often taken for which other.

    Args:
        predictions: In `PREDICTION_SCHEMA`.
    """
    pairs = (
        predictions.with_columns(pl.len().over("truth").alias("support"))
        .filter(_IS_WRONG)
        .group_by("truth", "predicted")
        .agg(rows=pl.len(), share=pl.len() / pl.col("support").first(), amount=pl.col("amount").abs().sum())
        .sort("rows", "truth", "predicted", descending=[True, False, False])
    )
    return tuple(Confusion(*pair) for pair in pairs.head(_CONFUSIONS).iter_rows())


def confusion_matrix(predictions: pl.DataFrame) -> ConfusionMatrix:
    """Count how the most frequent categories are predicted.

    Args:
        predictions: In `PREDICTION_SCHEMA`.
    """
    support = predictions.group_by("truth").len().sort("len", "truth", descending=[True, False])
    labels = support["truth"].head(_MATRIX_CATEGORIES).to_list()
    cells = predictions.group_by("truth", "predicted").len()
    counts = {(truth, predicted): rows for truth, predicted, rows in cells.iter_rows()}
    found = [[counts.get((truth, predicted), 0) for predicted in labels] for truth in labels]
    rows_of = dict(support.iter_rows())
    return ConfusionMatrix(
        tuple(labels),
        tuple((*row, rows_of[truth] - sum(row)) for truth, row in zip(labels, found, strict=True)),
    )
