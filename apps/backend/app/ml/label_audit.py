"""Labels that are probably wrong, the costliest first.

The method is confident learning (Northcutt, Jiang and Chuang 2021). Predictions are made out of fold, here in time
order: each month by what was known before it, so that no label vouches for itself. How sure a model is differs by
category: where groceries get 0.97 and gifts 0.6 on average, 0.7 is little for the one and much for the other. So each
category has a threshold of its own, the mean probability that rows of its label get for that label (self-confidence).
A label is doubted where another category comes out on top with at least that category's threshold, and the label
itself gets less than its own.

Two things that a ledger knows are added. A slip is rare: what a string is called time and again is a decision, as where
a shop sells two things or a habit changed. And money is at stake: a wrong label matters as much as its amount.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from app.ml.bootstrap import string_clusters
from app.ml.evaluate import PREDICTION_SCHEMA

# How many times likelier than the label the suggestion must be: near a tie there is nothing to correct.
LEAST_ODDS: Final = 4.0
# A label is a slip where its string has it no more often than this, or in no larger a share of its rows.
MOST_SLIPS: Final = 2
MOST_SLIPS_SHARE: Final = 0.05

AUDIT_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "month": pl.Date(),
        "account": pl.String(),
        "description": pl.String(),
        "amount": pl.Float64(),
        "label": pl.String(),
        "suggestion": pl.String(),
        "probability": pl.Float64(),  # P(suggestion)
        "label_probability": pl.Float64(),  # P(label)
        "stake": pl.Float64(),  # the absolute amount times the probability that the label is wrong
        "reason": pl.String(),
    }
)


def find_doubtful_labels(predictions: pl.DataFrame) -> pl.DataFrame:
    """List labels that are probably wrong, ranked by the money that they probably misplace.

    A label that the model had never seen when it predicted is not doubted: the first gift is no mistake for being the
    first.

    Args:
        predictions: In PREDICTION_SCHEMA, each month predicted by what was known before it, the truth being the label
            as it stands.

    Returns:
        A frame of AUDIT_SCHEMA, ordered by stake; empty where nothing is doubted.
    """
    truth, predicted = pl.col("truth"), pl.col("predicted")
    rows = predictions.select(PREDICTION_SCHEMA.names()).with_columns(
        pl.Series("string", string_clusters(predictions["description"]), dtype=pl.Int64)
    )
    rows = rows.with_columns(alike=pl.len().over("string", "truth"), string_rows=pl.len().over("string")).filter(
        pl.col("truth_rank").is_not_null()
    )
    usual = rows.group_by("truth").agg(own_threshold=pl.col("truth_probability").mean())
    return (
        rows.join(usual, on="truth")
        .join(usual.select(predicted="truth", other_threshold="own_threshold"), on="predicted", how="left")
        # Nobody uses the suggested category in these months: there is no self-confidence of its own to compare with.
        .with_columns(pl.col("other_threshold").fill_null(pl.col("truth_probability").mean()))
        .filter(
            predicted != truth,
            pl.col("confidence") >= pl.col("other_threshold"),
            pl.col("truth_probability") < pl.col("own_threshold"),
            pl.col("confidence") >= LEAST_ODDS * pl.col("truth_probability"),
            (pl.col("alike") <= MOST_SLIPS) | (pl.col("alike") <= MOST_SLIPS_SHARE * pl.col("string_rows")),
        )
        .select(
            *("txn_id", "month", "account", "description", "amount"),
            label="truth",
            suggestion="predicted",
            probability="confidence",
            label_probability="truth_probability",
            stake=pl.col("amount").abs() * (1 - pl.col("truth_probability")),
            reason=_reason(),
        )
        .sort("stake", "txn_id", descending=[True, False])
    )


def _reason() -> pl.Expr:
    """Say why a label is doubted, in two or three sentences."""
    likely = pl.format(
        "{} is {} likely, {} {}, and what is labelled {} usually gets {}.",
        "predicted",
        _percent("confidence"),
        "truth",
        _percent("truth_probability"),
        "truth",
        _percent("own_threshold"),
    )
    others = pl.format(
        " Of {} transactions with such a description, {} so labelled.",
        "string_rows",
        pl.when(pl.col("alike") == 1).then(pl.lit("this one alone is")).otherwise(pl.format("{} are", "alike")),
    )
    alone = pl.lit(" It is the only one with such a description, so others like it speak for this.")
    return pl.concat_str(likely, pl.when(pl.col("string_rows") == 1).then(alone).otherwise(others))


def _percent(probability: str) -> pl.Expr:
    """Write a probability; nothing is certain, and nothing is ruled out."""
    percent = pl.col(probability) * 100
    return (
        pl.when(percent > 99)  # noqa: PLR2004 -- of a hundred
        .then(pl.lit("over 99%"))
        .when(percent < 1)
        .then(pl.lit("under 1%"))
        .otherwise(pl.format("{}%", percent.round().cast(pl.Int64)))
    )
