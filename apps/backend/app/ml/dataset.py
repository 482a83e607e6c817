"""Training sets as of a moment: what was known then, whatever happened since.

A model serves one category set, and a training set is that set's. The rows of a user with categories of their own are
theirs alone. The shared set's are those of everybody who uses it, under its own words: what a user calls a category,
or has added for themselves, is nothing that the others could be offered.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.config import LabelWeights
from app.db import read_frame
from app.ml.features import FEATURE_SCHEMA

if TYPE_CHECKING:
    import datetime as dt

    import psycopg

# The defaults; the setting `label_weights` can be another for a training. The priors always take these.
SAMPLE_WEIGHTS: Final = LabelWeights().by_source()

TRAINING_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "user_id": pl.Int64(),
        "account": pl.String(),
        "date": pl.Date(),
        "description": pl.String(),
        "label": pl.String(),
        "label_source": pl.String(),
        "label_is_assumed": pl.Boolean(),  # imported with its row, and taken to have been known on the row's date
        **{name: dtype for name, dtype in FEATURE_SCHEMA.items() if name != "txn_id"},
        "sample_weight": pl.Float64(),
    }
)

# Under the name that the category had then for the user.
_OWN_WORDS: Final = """
    SELECT * FROM labels_as_of(%(as_of)s, %(strict)s) WHERE user_id = %(category_set)s
"""
# Under the word that was given, if the shared set has it; else under the name that it was shown as then. Demo data sets
# are nobody's, and count where they are asked for by their user.
_SHARED_WORDS: Final = """
    SELECT txn_id, user_id, label, label_source, label_assumed_known_at
    FROM (
        SELECT
            known.txn_id, known.user_id, known.label_source, known.label_assumed_known_at,
            CASE WHEN given.word IN (SELECT name FROM categories WHERE user_id IS NULL)
                THEN given.word ELSE known.label END AS label
        FROM labels_as_of(%(as_of)s, %(strict)s) AS known
        INNER JOIN users ON users.id = known.user_id AND NOT users.own_categories AND NOT users.is_demo
        CROSS JOIN LATERAL (
            SELECT event.label AS word FROM label_events AS event
            WHERE event.txn_id = known.txn_id AND event.known_at = known.label_known_at
                AND event.assumed_known_at IS NOT DISTINCT FROM known.label_assumed_known_at
            ORDER BY event.id DESC LIMIT 1
        ) AS given
    ) AS worded
    WHERE label IN (SELECT name FROM categories WHERE user_id IS NULL)
"""


def read_training_set(
    connection: psycopg.Connection[Any],
    as_of: dt.datetime,
    *,
    category_set: int | None,
    strict: bool = False,
    weights: LabelWeights | None = None,
) -> pl.DataFrame:
    """Read the labelled transactions that were known before a moment and can teach something.

    The database's `labels_as_of` decides what was known. The rows are those of the warehouse's training view for the
    same moment: no amount of zero, no missing merchant, no blank label.

    Args:
        connection: With the rights to read every chosen user's rows.
        as_of: The moment, with its time zone.
        category_set: The user whose own categories are meant; None for the shared set, and all who use it. Which set
            somebody has is asked as it is today.
        strict: Whether imported history counts from when it was recorded, not from its own dates.
        weights: Of labels by their source; None for SAMPLE_WEIGHTS.

    Returns:
        A frame of TRAINING_SCHEMA, one row for each transaction, ordered by date and id.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of needs a time zone")
    by_source = SAMPLE_WEIGHTS if weights is None else weights.by_source()
    read = read_frame(
        connection,
        f"""
        SELECT {", ".join(_spelled(name) for name in TRAINING_SCHEMA)}
        FROM ({_SHARED_WORDS if category_set is None else _OWN_WORDS}) AS labels
        INNER JOIN transactions ON transactions.id = labels.txn_id
        INNER JOIN ml_features ON ml_features.txn_id = labels.txn_id
        WHERE ml_features.amount <> 0 AND trim(ml_features.merchant) <> '' AND trim(labels.label) <> ''
        ORDER BY transactions.date, labels.txn_id
        """,  # noqa: S608 -- the columns are the schema's
        {name: pl.String() if name == "tokens" else dtype for name, dtype in TRAINING_SCHEMA.items()},
        {"as_of": as_of, "strict": strict, "category_set": category_set, **by_source},
    )
    tokens = pl.col("tokens").str.split(" ").list.filter(pl.element() != "")
    return read.with_columns(tokens)


def _spelled(column: str) -> str:
    """Name a column of the query in a spelling that CSV carries without loss."""
    cases = " ".join(f"WHEN '{source}' THEN %({source})s::float8" for source in SAMPLE_WEIGHTS)
    spelled = {
        "sample_weight": f"CASE label_source {cases} END",
        "label_is_assumed": "(NOT %(strict)s AND labels.label_assumed_known_at IS NOT NULL)::text",
        "tokens": "array_to_string(ml_features.tokens, ' ')",
        **{name: f"labels.{name}" for name in ("txn_id", "user_id", "label", "label_source")},
        **{name: f"transactions.{name}" for name in ("account", "date", "description")},
    }
    cast = "::text" if TRAINING_SCHEMA[column] == pl.Boolean else ""
    return spelled.get(column, f"ml_features.{column}{cast}")


def dataset_hash(training_set: pl.DataFrame) -> str:
    """Return the SHA-256 of a training set: equal exactly when every value of every row is, and their order."""
    digest = hashlib.sha256()
    digest.update(training_set.write_ndjson().encode())
    return digest.hexdigest()
