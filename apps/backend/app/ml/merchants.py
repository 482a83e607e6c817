"""The merchant's name from the bank's string alone, without anything learnt."""

from __future__ import annotations

from typing import Final

import polars as pl

from app.ml import text_patterns

_PLACE: Final = pl.col("folded").str.extract(text_patterns.PLACE_AFTER_NUMBER).fill_null("")


def _unless_nobody(name: str, otherwise: str) -> pl.Expr:
    nobody = pl.col(name).str.contains(text_patterns.NAMES_NOBODY)
    return pl.when(nobody).then(pl.col(otherwise)).otherwise(pl.col(name)).alias(name)


# Steps to be carried out one after the other, for each reads what the ones before it made.
_MERCHANT_STEPS: Final = (
    pl.col("norm_desc").str.replace(text_patterns.LEADING_NOISE, "").alias("_headed"),
    _unless_nobody("_headed", "norm_desc"),
    pl.col("_headed").str.strip_suffix(_PLACE).str.replace(text_patterns.TRAILING_NOISE, "").alias("_name"),
    _unless_nobody("_name", "_headed"),
    pl.when(pl.col("norm_desc") != "").then(pl.col("_name")).alias("merchant"),
)


def extract_merchant(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Name the merchant as people would recognise it: `SQ *BLUE BTL 0047 OAKLND` gives "blue btl".

    What a payment processor or card scheme puts before the name goes, then what stands behind it: the place that
    follows a store number, towns and countries, web domains and corporate suffixes. A strip that leaves nothing, or
    only a kind of place ("parking", "university of"), is undone: two names for one shop are cheap, one name for
    two shops is not.

    Args:
        rows: With `folded` and `norm_desc`, as `features.fold` and `features.normalise` make them.

    Returns:
        The rows with `merchant` added: lower case, never empty, null where norm_desc is empty.
    """
    for step in _MERCHANT_STEPS:
        rows = rows.with_columns(step)
    return rows.drop("_headed", "_name")
