"""Training sets as of a moment: what was known then, whatever happened since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.db import read_frame
from app.ml.features import FEATURE_SCHEMA

if TYPE_CHECKING:
    import datetime as dt

    import psycopg

SAMPLE_WEIGHTS: Final = {"human": 3.0, "rule": 1.0, "import": 0.5}

_WEIGHT_CASES: Final = " ".join(f"WHEN '{source}' THEN {weight}" for source, weight in SAMPLE_WEIGHTS.items())

TRAINING_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "user_id": pl.Int64(),
        "account": pl.String(),
        "date": pl.Date(),
        "label": pl.String(),
        "label_source": pl.String(),
        **{name: dtype for name, dtype in FEATURE_SCHEMA.items() if name != "txn_id"},
        "sample_weight": pl.Float64(),
    }
)


def read_training_set(
    connection: psycopg.Connection[Any], as_of: dt.datetime, *, user_id: int | None = None, strict: bool = False
) -> pl.DataFrame:
    """Read the labelled transactions that were known before a moment and can teach something.

    The database's `labels_as_of` decides what was known. The rows are those of the warehouse's training view for the
    same moment: no amount of zero, no missing merchant, no blank label.

    Args:
        connection: With the rights to read every chosen user's rows.
        as_of: The moment, with its time zone.
        user_id: One user's rows; None for everybody's.
        strict: Whether imported history counts from when it was recorded, not from its own dates.

    Returns:
        A frame of TRAINING_SCHEMA, one row for each transaction, ordered by date and id.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of needs a time zone")
    read = read_frame(
        connection,
        f"""
        SELECT {", ".join(_spelled(name) for name in TRAINING_SCHEMA)}
        FROM labels_as_of(%(as_of)s, %(strict)s) AS labels
        INNER JOIN transactions ON transactions.id = labels.txn_id
        INNER JOIN ml_features ON ml_features.txn_id = labels.txn_id
        WHERE (%(user_id)s::bigint IS NULL OR labels.user_id = %(user_id)s)
            AND ml_features.amount <> 0 AND trim(ml_features.merchant) <> '' AND trim(labels.label) <> ''
        ORDER BY transactions.date, labels.txn_id
        """,  # noqa: S608 -- the columns are the schema's
        {name: pl.String() if name == "tokens" else dtype for name, dtype in TRAINING_SCHEMA.items()},
        {"as_of": as_of, "strict": strict, "user_id": user_id},
    )
    tokens = pl.col("tokens").str.split(" ").list.filter(pl.element() != "")
    return read.with_columns(tokens)


def _spelled(column: str) -> str:
    """Name a column of the query in a spelling that CSV carries without loss."""
    if column == "sample_weight":
        return f"CASE label_source {_WEIGHT_CASES} END"
    if column in ("txn_id", "user_id", "label", "label_source"):
        return f"labels.{column}"
    if column in ("account", "date"):
        return f"transactions.{column}"
    if TRAINING_SCHEMA[column] == pl.Boolean:
        return f"ml_features.{column}::text"
    if column == "tokens":
        return "array_to_string(ml_features.tokens, ' ')"
    return f"ml_features.{column}"


def dataset_hash(training_set: pl.DataFrame) -> str:
    """Return the SHA-256 of a training set: equal exactly when every value of every row is."""
    digest = hashlib.sha256()
    digest.update(training_set.write_ndjson().encode())
    return digest.hexdigest()
