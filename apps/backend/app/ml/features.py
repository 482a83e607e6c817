"""The feature kernel: from transaction columns to model features.

Batch builds, requests, backtests and Spark all run `build_features`. It is pure: no database, no clock, nothing
learnt, and a row's features depend on that row alone, whatever stands beside it.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.ml import text_patterns
from app.ml.merchants import extract_merchant

if TYPE_CHECKING:
    from collections.abc import Iterable

# Raise it with every change that gives any row other features, word lists included.
FEATURE_VERSION: Final = 1

TRANSACTION_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "date": pl.Date(),
        "posted_at": pl.Datetime("us"),  # the bank's wall clock; null where it gives no time
        "amount": pl.Decimal(18, 2),
        "description": pl.String(),
        "mcc": pl.String(),  # nullable
        "channel_hint": pl.String(),  # the bank's own type; nullable
    }
)

FEATURE_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "ts_month": pl.Date(),
        "amount": pl.Decimal(18, 2),
        "abs_amount": pl.Decimal(18, 2),
        "merchant": pl.String(),  # null where the description says nothing
        "mcc": pl.String(),  # nullable
        "channel": pl.String(),  # null where neither the bank nor the description says
        "hour_of_day": pl.Int16(),  # null where the bank gives no time
        "dow": pl.Int16(),  # 0 is Monday
        "is_weekend": pl.Boolean(),
        "is_subscription": pl.Boolean(),
        "norm_desc": pl.String(),
        "tokens": pl.List(pl.String()),
        "feature_version": pl.Int16(),
    }
)

_HASHED: Final = [column for column in FEATURE_SCHEMA if column != "txn_id"]
_SATURDAY: Final = 6
_SAMPLE_ROWS: Final = 10_000
_SLICE_ROWS: Final = 125_000  # large enough to drown the cost of starting, small enough to stay in the caches

# One pass finds the phrases of both; channels come first, in the order of their precedence.
_CHANNEL_OF_PHRASE: Final = {
    f" {phrase} ": channel for channel, phrases in text_patterns.CHANNEL_PHRASES.items() for phrase in phrases
}
_PHRASES: Final = [*_CHANNEL_OF_PHRASE, *(f" {phrase} " for phrase in text_patterns.SUBSCRIPTION_PHRASES)]
_FIRST_SUBSCRIPTION: Final = len(_CHANNEL_OF_PHRASE)


def build_features(transactions: pl.DataFrame) -> pl.DataFrame:
    """Compute the features of each transaction from its own columns.

    Args:
        transactions: Columns as in TRANSACTION_SCHEMA, in any order; further ones are ignored. Any batch split and
            any order of rows give the same features.

    Returns:
        Columns as in FEATURE_SCHEMA, rows in the order given.

    Raises:
        TypeError: A column is missing or has another type.
    """
    for column, dtype in TRANSACTION_SCHEMA.items():
        if transactions.schema.get(column) != dtype:
            raise TypeError(f"Column {column!r} must be {dtype}, not {transactions.schema.get(column)}.")
    if not _repeats(transactions["description"]):
        return _with_text_features(transactions, select=_FEATURES)
    rows = transactions.select(TRANSACTION_SCHEMA.names())
    distinct = rows.select("description").unique()
    texts = _with_text_features(distinct, select=("description", "norm_desc", "tokens", "merchant", "phrases"))
    described = rows.join(texts, on="description", how="left", maintain_order="left", nulls_equal=True)
    return described.select(_FEATURES)


def feature_hashes(features: pl.DataFrame) -> pl.Series:
    """Hash each row of features, so that two builds can be compared row by row wherever they ran.

    The hash is BLAKE2b (16 bytes, as hex) of the columns of FEATURE_SCHEMA but txn_id, in that order, written as
    netstrings: `<characters>:<text>`, and `-` for null. Dates are ISO, amounts have two decimals, booleans are 1 and
    0, tokens are joined by spaces. Nothing in it depends on Polars' own hashing.

    Args:
        features: Columns as in FEATURE_SCHEMA.

    Returns:
        32 hexadecimal digits per row, named features_hash.
    """
    rows = features.select(_HASHED).iter_rows()
    return pl.Series("features_hash", [hash_features(row) for row in rows], dtype=pl.String)


def hash_features(row: Iterable[Any]) -> str:
    """Hash one row as `feature_hashes` does: the values of FEATURE_SCHEMA but txn_id, in that order."""
    return hashlib.blake2b("".join(map(_netstring, row)).encode(), digest_size=16).hexdigest()


def _netstring(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            value = "1" if value else "0"
        case list():
            value = " ".join(value)
        case Decimal():
            value = f"{value:.2f}"
    text = str(value)
    return f"{len(text)}:{text}"


def fold_beyond_ascii(descriptions: pl.Series) -> pl.Series:
    """Bring accented letters and exotic punctuation to ASCII; letters of other scripts stay.

    Strings within ASCII, usually nearly all, are left as they are and cost next to nothing.
    """
    beyond = descriptions.str.len_bytes() != descriptions.str.len_chars()
    if not beyond.any():
        return descriptions
    letters = text_patterns.LETTERS_WITHOUT_DECOMPOSITION
    folded = (
        descriptions.filter(beyond)
        .str.normalize("NFKD")
        .str.to_lowercase()
        .str.replace_all(text_patterns.COMBINING_ACCENTS, "")
        .str.replace_many(list(letters), list(letters.values()))
        .str.normalize("NFC")
        .str.replace_all(text_patterns.SEPARATORS_BEYOND_ASCII, " ")
    )
    return descriptions.clone().scatter(beyond.arg_true(), folded)


def fold(description: pl.Expr) -> pl.Expr:
    """Lower-case descriptions that `fold_beyond_ascii` has seen, and mend words that punctuation breaks."""
    rewrites = text_patterns.REWRITES
    return description.str.to_lowercase().str.replace_many(list(rewrites), list(rewrites.values()))


def normalise(folded: pl.Expr) -> pl.Expr:
    """Reduce folded descriptions to the words that identify the shop, separated by single spaces.

    Store numbers, order codes and trailing corporate suffixes go; processor names and card-scheme words stay, for
    they say how the money moved. The first word stays whatever its shape, so nothing with a letter in it becomes empty.
    """
    return folded.str.replace_all(text_patterns.NOISE, " ").str.strip_chars(" ")


def tokenise(norm_desc: pl.Expr) -> pl.Expr:
    """Split at spaces, leave stop words out, keep the order and at most the first 20."""
    left_out = ["", *sorted(text_patterns.STOP_WORDS)]
    return norm_desc.str.split(" ").list.filter(~pl.element().is_in(left_out)).list.head(text_patterns.MAX_TOKENS)


def find_phrases(norm_desc: pl.Expr) -> pl.Expr:
    """List the numbers of the known phrases in each description: lists of integers, empty where none is said.

    The spaces on both sides of phrase and description keep the match to whole tokens.
    """
    said = pl.format(" {} ", norm_desc).str.extract_many(_PHRASES, overlapping=True)
    return said.list.eval(pl.element().cast(pl.Enum(_PHRASES)).to_physical())


def _channel() -> pl.Expr:
    """Channel by the bank's own type where it is recognised, else by the first phrase in order of precedence."""
    hints = text_patterns.CHANNEL_HINTS
    hint = pl.col("channel_hint").str.to_lowercase().str.replace_all(text_patterns.HINT_SEPARATORS, " ")
    number = hint.str.strip_chars(" ").cast(pl.Enum(list(hints)), strict=False).to_physical()
    by_hint = pl.lit(pl.Series(list(hints.values()))).gather(number)
    no_channels = [None] * len(text_patterns.SUBSCRIPTION_PHRASES)
    channels = pl.Series([*_CHANNEL_OF_PHRASE.values(), *no_channels])
    return pl.coalesce(by_hint, pl.lit(channels).gather(pl.col("phrases").list.min()))


# Expressions are built once: for a single row that takes longer than carrying them out.
_WORDS: Final = normalise(pl.col("folded")).alias("norm_desc")
_FOLDED: Final = fold(pl.col("folded")).alias("folded")
_TEXT: Final = (
    tokenise(pl.col("norm_desc")).alias("tokens"),
    find_phrases(pl.col("norm_desc")).alias("phrases"),
)
_FEATURES: Final = (
    pl.col("txn_id"),
    pl.col("date").dt.month_start().alias("ts_month"),
    pl.col("amount"),
    pl.col("amount").abs().alias("abs_amount"),
    pl.col("merchant"),
    pl.col("mcc"),
    _channel().alias("channel"),
    pl.col("posted_at").dt.hour().cast(pl.Int16).alias("hour_of_day"),
    (pl.col("date").dt.weekday() - 1).cast(pl.Int16).alias("dow"),
    (pl.col("date").dt.weekday() >= _SATURDAY).alias("is_weekend"),
    (pl.col("phrases").list.max() >= _FIRST_SUBSCRIPTION).fill_null(value=False).alias("is_subscription"),
    pl.col("norm_desc"),
    pl.col("tokens"),
    pl.lit(FEATURE_VERSION, dtype=pl.Int16).alias("feature_version"),
)


def _repeats(descriptions: pl.Series) -> bool:
    """Tell from a sample whether ledgers repeat their strings enough for computing each only once to pay."""
    if descriptions.len() < _SAMPLE_ROWS:
        return False
    sample = descriptions.gather_every(descriptions.len() // _SAMPLE_ROWS)
    return sample.n_unique() < sample.len() / 2


def _with_text_features(rows: pl.DataFrame, *, select: tuple[str | pl.Expr, ...]) -> pl.DataFrame:
    """Select from rows with norm_desc, tokens, phrases and merchant beside what they have, slices in parallel."""
    rows = rows.with_columns(fold_beyond_ascii(rows["description"].fill_null("")).alias("folded"))
    plans = [
        rows.slice(start, _SLICE_ROWS)
        .lazy()
        .with_columns(_FOLDED)
        .with_columns(_WORDS)
        .with_columns(_TEXT)
        .pipe(extract_merchant)
        .select(select)
        for start in range(0, max(rows.height, 1), _SLICE_ROWS)
    ]
    # The streaming engine and the optimiser would cost a single row more than its features.
    return pl.concat(pl.collect_all(plans, engine="in-memory", optimizations=pl.QueryOptFlags.none()))
