"""The feature kernel: from transaction columns to model features, one row at a time in meaning.

Batch builds, requests, backtests and Spark all run `build_features`. It is pure: no database, no clock, nothing
learnt, and a row's features depend on that row alone, whatever stands beside it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import polars as pl

from app.ml import text_patterns
from app.ml.merchants import extract_merchant

FEATURE_VERSION: Final = 1

TRANSACTION_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "date": pl.Date(),
        "posted_at": pl.Datetime("us"),  # the bank's wall clock; null where it gives no time
        "amount": pl.Decimal(18, 2),
        "description": pl.String(),
        "mcc": pl.String(),  # nullable
        "channel_hint": pl.String(),  # nullable
    }
)

FEATURE_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "ts_month": pl.Date(),
        "amount": pl.Decimal(18, 2),
        "abs_amount": pl.Decimal(18, 2),
        "merchant": pl.String(),  # nullable
        "mcc": pl.String(),  # nullable
        "channel": pl.String(),  # nullable
        "hour_of_day": pl.Int16(),  # nullable
        "dow": pl.Int16(),
        "is_weekend": pl.Boolean(),
        "is_subscription": pl.Boolean(),
        "norm_desc": pl.String(),
        "tokens": pl.List(pl.String()),
        "feature_version": pl.Int16(),
    }
)

# One number for each phrase, found in one pass: channels by precedence from 0, subscriptions all the same.
_CHANNELS: Final = dict(enumerate(text_patterns.CHANNEL_PHRASES))
_SUBSCRIPTION: Final = len(_CHANNELS)
_PHRASE_MEANING: Final = {
    f" {phrase} ": rank
    for rank, channel in _CHANNELS.items()
    for phrase in text_patterns.CHANNEL_PHRASES[channel]
} | {f" {phrase} ": _SUBSCRIPTION for phrase in text_patterns.SUBSCRIPTION_PHRASES}

_STREAM_FROM_ROWS: Final = 20_000  # below it, starting the streaming engine costs more than its threads give


def fold(description: pl.Expr, *, ascii_only: bool = False) -> pl.Expr:
    """Lower-case descriptions and fold accents; letters of other scripts stay.

    Args:
        description: The bank's strings.
        ascii_only: A promise that no string holds anything beyond ASCII, which makes this several times faster and
            gives the same.

    Returns:
        Strings in which whatever separates words is ASCII.
    """
    if ascii_only:
        lowered = description.str.to_lowercase()
    else:
        by_hand = text_patterns.FOLDED_BY_HAND
        lowered = (
            description.str.normalize("NFKD")
            .str.to_lowercase()
            .str.replace_all(text_patterns.COMBINING_ACCENTS, "")
            .str.replace_many(list(by_hand), list(by_hand.values()))
            .str.normalize("NFC")
            .str.replace_all(text_patterns.SEPARATORS_BEYOND_ASCII, " ")
        )
    return lowered.str.replace_all(text_patterns.APOSTROPHE, "", literal=True).str.strip_chars(" ")


def normalise(folded: pl.Expr) -> pl.Expr:
    """Reduce folded descriptions to the words that identify the shop, separated by single spaces.

    Store numbers, order codes and trailing corporate suffixes go; processor names and card-scheme words stay, for
    they say how the money moved. A description's first word stays whatever its shape, so that nothing with a letter
    in it becomes empty.
    """
    return (
        folded.str.replace_all(text_patterns.GLUED_ORDER_CODE, "$1")
        .str.replace(text_patterns.LEADING_SEPARATORS, "")
        .str.replace_all(text_patterns.NOISE, " ")
        .str.strip_chars(" ")
        .str.replace(text_patterns.TRAILING_CORPORATE, "")
    )


def tokenise(norm_desc: pl.Expr) -> pl.Expr:
    """Split at spaces, leave stop words out, keep the order and at most the first 20."""
    return (
        norm_desc.str.split(" ")
        .list.filter(~pl.element().is_in(["", *sorted(text_patterns.STOP_WORDS)]))
        .list.head(text_patterns.MAX_TOKENS)
    )


def _meanings(norm_desc: pl.Expr) -> pl.Expr:
    """Meanings of the known phrases in each description; spaces around both keep the match to whole tokens."""
    phrases = pl.format(" {} ", norm_desc).str.extract_many(list(_PHRASE_MEANING), overlapping=True)
    return phrases.list.eval(pl.element().replace_strict(_PHRASE_MEANING, return_dtype=pl.UInt8))


def _with_text_features(rows: pl.LazyFrame, *, ascii_only: bool) -> pl.LazyFrame:
    """Add norm_desc, tokens, merchant, spoken_channel and is_subscription to rows with a description."""
    norm_desc, meanings = pl.col("norm_desc"), pl.col("meanings")
    return (
        rows.with_columns(folded=fold(pl.col("description"), ascii_only=ascii_only))
        .with_columns(norm_desc=normalise(pl.col("folded")))
        .with_columns(
            tokens=tokenise(norm_desc),
            merchant=extract_merchant(pl.col("folded"), norm_desc),
            meanings=_meanings(norm_desc),
        )
        .with_columns(
            spoken_channel=meanings.list.min().replace_strict(_CHANNELS, default=None, return_dtype=pl.String),
            is_subscription=(meanings.list.max() == _SUBSCRIPTION).fill_null(value=False),
        )
        .drop("folded", "meanings")
    )
