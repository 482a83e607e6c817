"""Merchant priors: what a merchant's transactions usually are to a user, P(category | merchant).

The one formula, which the mart dim_merchants computes in SQL:

    P(c | m) = (n_mc + k * p(c)) / (n_m + k)          p(c) = (n_c + 1) / (n + C + 1)

n_mc is the number of a user's labels c at merchant m, n_m that of all the user's labels there, n_c that of the
user's labels c anywhere and n that of all of them, each label counted with the weight of its source. C is the number
of categories that the user's labels use; the one more leaves room for those not used yet. k is the strength of the
prior in rule labels. It is the mean of a Dirichlet posterior whose prior mean is estimated from the user's own data:
empirical Bayes shrinkage (Robbins 1956; for counts, MacKay and Peto 1995).

How far a prior is to be trusted is another question, answered by the lower end of Wilson's score interval (Wilson
1927) for the top category's share of the labels. It counts labels and not weights, for three times the weight is not
three times the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.db import read_frame
from app.ml.dataset import SAMPLE_WEIGHTS

if TYPE_CHECKING:
    import datetime as dt

    import psycopg

# These and SAMPLE_WEIGHTS are vars in warehouse/dbt_project.yml; a test holds the two together.
PRIOR_STRENGTH: Final = 3.0
CONFIDENCE_Z: Final = 1.96
CONFIDENCE_HIGH: Final = 0.70
CONFIDENCE_MEDIUM: Final = 0.40

DECIMALS: Final = 9  # as in the mart: ties fall the same way, and equal is equal

LABEL_SCHEMA: Final = pl.Schema(
    {"user_id": pl.Int64(), "merchant": pl.String(), "label": pl.String(), "label_source": pl.String()}
)


def merchant_priors(labels: pl.DataFrame) -> pl.DataFrame:
    """Compute P(category | merchant) of every category seen at every merchant.

    Args:
        labels: One row for each label known at some moment, of a transaction with a merchant: `LABEL_SCHEMA`.

    Returns:
        user_id, merchant, label, label_count and probability, sorted by the first three. The probabilities of a
        merchant add up to less than 1; the rest belongs to the categories never seen there.
    """
    count, weight = pl.col("label_count"), pl.col("weight")
    by_merchant = weight.sum().over("user_id", "merchant")
    by_category = weight.sum().over("user_id", "label")
    by_user = weight.sum().over("user_id")
    categories = pl.col("label").n_unique().over("user_id")
    base_rate = (by_category + 1) / (by_user + categories + 1)
    probability = (weight + PRIOR_STRENGTH * base_rate) / (by_merchant + PRIOR_STRENGTH)
    return (
        labels.with_columns(weight=pl.col("label_source").replace_strict(SAMPLE_WEIGHTS, return_dtype=pl.Float64))
        .group_by("user_id", "merchant", "label")
        .agg(pl.len().cast(pl.Int64).alias("label_count"), weight.sum())
        .select("user_id", "merchant", "label", count, probability.round(DECIMALS).alias("probability"))
        .sort("user_id", "merchant", "label")
    )


def merchant_confidence(priors: pl.DataFrame) -> pl.DataFrame:
    """Say for each merchant what it most probably is, and how far to trust that.

    Args:
        priors: What `merchant_priors` returns.

    Returns:
        user_id, merchant, label_count, top_category (of equally probable ones the first by name), top_probability,
        top_share_lower and top_share_upper (Wilson's interval) and confidence (high, medium or low), sorted by the
        first two.
    """
    lower, upper = wilson_interval(pl.col("top_count"), pl.col("label_count"))
    confidence = (
        pl.when(pl.col("top_share_lower") >= CONFIDENCE_HIGH)
        .then(pl.lit("high"))
        .when(pl.col("top_share_lower") >= CONFIDENCE_MEDIUM)
        .then(pl.lit("medium"))
        .otherwise(pl.lit("low"))
    )
    return (
        priors.sort("probability", "label", descending=[True, False])
        .group_by("user_id", "merchant", maintain_order=True)
        .agg(
            pl.col("label_count").sum(),
            pl.col("label").first().alias("top_category"),
            pl.col("probability").first().alias("top_probability"),
            pl.col("label_count").first().alias("top_count"),
        )
        .with_columns(lower.alias("top_share_lower"), upper.alias("top_share_upper"))
        .with_columns(confidence.alias("confidence"))
        .drop("top_count")
        .sort("user_id", "merchant")
    )


def wilson_interval(hits: pl.Expr, total: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Give the ends of Wilson's score interval for a share, at `CONFIDENCE_Z`, rounded to `DECIMALS`.

    Args:
        hits: How many of the total; at most that many.
        total: How many there are; at least one, else the ends are not numbers.
    """
    square = CONFIDENCE_Z**2
    centre = hits + square / 2
    margin = CONFIDENCE_Z * (hits * (total - hits) / total + square / 4).sqrt()
    lower, upper = ((bound / (total + square)).round(DECIMALS) for bound in (centre - margin, centre + margin))
    return lower, upper


def read_merchant_priors(
    connection: psycopg.Connection[Any], as_of: dt.datetime, *, strict: bool = False
) -> pl.DataFrame:
    """Compute the priors of the labels that were known before a moment.

    Args:
        connection: Of a role that may see the users in question.
        as_of: The moment, with its time zone.
        strict: Let imported history count only from when it was recorded, not from its own dates.

    Returns:
        What `merchant_priors` does.
    """
    query = """
        SELECT labels.user_id, ml_features.merchant, labels.label, labels.label_source
        FROM labels_as_of(%s, %s) AS labels
        INNER JOIN ml_features ON ml_features.txn_id = labels.txn_id
        WHERE trim(ml_features.merchant) <> '' AND trim(labels.label) <> ''
    """
    return merchant_priors(read_frame(connection, query, LABEL_SCHEMA, (as_of, strict)))
