"""What the heuristics would have predicted without rules, in the form that evaluation reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from app.ml.builtin_knowledge import builtin_categories
from app.ml.evidence import day_numbers
from app.ml.hierarchical_prior import (
    LABEL_SCHEMA,
    MERCHANT_LEVELS,
    OWN_THRESHOLD,
    count_labels,
    fit_profile,
    rank_candidates,
)
from app.ml.predictions import describe_predictions

if TYPE_CHECKING:
    from app.ml.hierarchical_prior import LabelProfile


@dataclass(frozen=True)
class LearntCounts:
    """What the heuristics know after some rows."""

    profile: LabelProfile
    counts: dict[str, pl.DataFrame]


def learn(known: pl.DataFrame) -> LearntCounts:
    """Count labels.

    Args:
        known: ESTIMATOR_SCHEMA with label and label_source.
    """
    labels = _described(known).with_columns(known["label"], known["label_source"], labels=pl.lit(1, pl.Int64))
    labels = labels.select(list(LABEL_SCHEMA))
    return LearntCounts(fit_profile(labels), {level: count_labels(labels, level) for level in MERCHANT_LEVELS})


def predict(learnt: LearntCounts, rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Predict rows; where nothing speaks for any category, the most frequent one is the forced choice.

    Args:
        learnt: From `known`.
        rows: ESTIMATOR_SCHEMA with txn_id, description and label.
        known: What was learnt from.

    Returns:
        PREDICTION_SCHEMA, in the order of `rows`.
    """
    numbered = rows.with_columns(txn_id=pl.int_range(pl.len(), dtype=pl.Int64))
    transactions = _described(numbered).with_columns(numbered["txn_id"])
    ranked = rank_candidates(transactions, learnt.profile, learnt.counts).with_columns(
        rank=pl.int_range(1, pl.len() + 1).over("txn_id"), square=pl.col("probability") ** 2
    )
    best = ranked.group_by("txn_id", maintain_order=True).agg(
        pl.col("label").first(), pl.col("probability").first(), pl.col("square").sum()
    )
    truths = ranked.select("txn_id", truth="label", of_truth="probability", rank="rank")
    usual, usual_rate = max(learnt.profile.base_rates.items(), key=lambda item: (item[1], item[0]))
    is_usual = pl.col("truth") == usual
    predicted = (
        numbered.select("txn_id", truth="label")
        .join(best, on="txn_id", how="left", maintain_order="left")
        .join(truths, on=["txn_id", "truth"], how="left", maintain_order="left")
        .with_columns(is_guess=pl.col("label").is_null())
        .select(
            predicted=pl.col("label").fill_null(usual),
            confidence=pl.col("probability").fill_null(usual_rate),
            truth_probability=pl.when("is_guess")
            .then(is_usual.cast(pl.Float64) * usual_rate)
            .otherwise(pl.col("of_truth").fill_null(0.0)),
            truth_rank=pl.when(pl.col("is_guess") & is_usual).then(1).otherwise("rank").cast(pl.Int32),
            probability_squares=pl.col("square").fill_null(usual_rate**2),
            is_applied=~pl.col("is_guess") & (pl.col("probability") >= OWN_THRESHOLD),
        )
    )
    every = np.full(rows.height, int(day_numbers(known["date"]).max(initial=-1)) + 1)
    return describe_predictions(rows, predicted, known, every)


def _described(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        pl.col("merchant").str.strip_chars().replace("", None),
        "norm_desc",
        pl.col("account").fill_null(""),
        builtin_categories(rows).alias("builtin"),
    )
