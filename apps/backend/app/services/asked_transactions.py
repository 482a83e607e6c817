"""The transactions that suggestions are asked for, with what engines look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.ml.builtin_knowledge import builtin_category
from app.ml.evidence import Place, place_of
from app.ml.features import FEATURE_SCHEMA, FEATURE_VERSION, TRANSACTION_SCHEMA, build_features, hash_features

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

ASKED_COLUMNS: Final = """
    transactions.id, transactions.date, transactions.posted_at, transactions.amount, transactions.description,
    transactions.mcc, transactions.channel_hint, transactions.account, transactions.merchant,
    transactions.merchant_canonical,
    ml_features.ts_month, ml_features.amount, ml_features.abs_amount, ml_features.merchant, ml_features.mcc,
    ml_features.channel, ml_features.hour_of_day, ml_features.dow, ml_features.is_weekend,
    ml_features.is_subscription, ml_features.norm_desc, ml_features.tokens, ml_features.feature_version
"""
"""What `described` takes, of transactions with their features, if any."""

MOST_TRANSACTIONS: Final = 1000
"""So many may be asked about at a time."""

_EPOCH_ORDINAL: Final = 719_163  # 1970-01-01, from which `evidence.day_numbers` counts
_KERNEL_COLUMNS: Final = len(TRANSACTION_SCHEMA)
_COLUMNS: Final = (*TRANSACTION_SCHEMA, "account", "merchant", "merchant_canonical")
_FEATURES: Final = tuple(name for name in FEATURE_SCHEMA if name != "txn_id")


@dataclass(frozen=True)
class AskedTransaction:
    """A transaction that somebody asks about.

    Attributes:
        row: What the bank said, by the names of `features.TRANSACTION_SCHEMA`, account, merchant, merchant_canonical.
        place: Where it is, for counts and wording.
        mcc: As the features have it.
        day: Of its date, as `evidence.day_numbers` counts.
        features_hash: Of its features, as `features.hash_features` gives it.
    """

    txn_id: int
    row: Mapping[str, Any]
    place: Place
    mcc: str | None
    day: int
    features_hash: str


def described(user_id: int, rows: Sequence[tuple[Any, ...]]) -> dict[int, AskedTransaction]:
    """Describe transactions by the features that were built when they came, or by the kernel where there are none.

    Args:
        user_id: Whose they are.
        rows: The columns of TRANSACTION_SCHEMA, account, merchant, merchant_canonical, then those of FEATURE_SCHEMA
            but txn_id, null or of another version where they were not built.

    Returns:
        By id.
    """
    features = {row[0]: row[len(_COLUMNS) :] for row in rows if row[-1] == FEATURE_VERSION}
    missing = [row[:_KERNEL_COLUMNS] for row in rows if row[0] not in features]
    if missing:
        built = build_features(pl.DataFrame(missing, schema=TRANSACTION_SCHEMA, orient="row"))
        features |= {row[0]: row[1:] for row in built.iter_rows()}
    return {row[0]: _described(user_id, row[: len(_COLUMNS)], features[row[0]]) for row in rows}


def _described(user_id: int, row: tuple[Any, ...], features: tuple[Any, ...]) -> AskedTransaction:
    given = dict(zip(_COLUMNS, row, strict=True))
    feature = dict(zip(_FEATURES, features, strict=True))
    date: dt.date = given["date"]
    amount: Decimal = feature["amount"]
    norm_desc, mcc = feature["norm_desc"], feature["mcc"]
    builtin = builtin_category(norm_desc, mcc, feature["channel"], amount > 0)
    return AskedTransaction(
        txn_id=given["txn_id"],
        row=given,
        place=place_of(user_id, given["account"], feature["merchant"], norm_desc, builtin, amount),
        mcc=mcc,
        day=date.toordinal() - _EPOCH_ORDINAL,
        features_hash=hash_features(features),
    )
