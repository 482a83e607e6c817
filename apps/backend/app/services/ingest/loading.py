"""Load a file's records into temporary tables, with their features, and say which are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.db import copy_in
from app.ml.feature_build import open_staging, stage_features
from app.ml.features import TRANSACTION_SCHEMA, build_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psycopg

    from app.services.statements import StatementBatch

# Each is a row that is kept; a file may have one in every line.
MOST_KEPT_REJECTIONS: Final = 100_000


def load_records(
    connection: psycopg.Connection[Any],
    import_id: int,
    batches: Iterable[StatementBatch],
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Copy the file's records into `identified`, their features beside them, and the first bad ones to the rejections.

    Returns:
        How many were good, and how many bad, of which no more than MOST_KEPT_REJECTIONS are kept.
    """
    connection.execute("""
        CREATE TEMP TABLE incoming (
            record bigint, line bigint, account text, date date, posted_at timestamp, amount numeric(18, 2),
            currency text, description text, merchant text, mcc text, channel_hint text, category text, external_id text
        ) ON COMMIT DROP;
        CREATE TEMP TABLE rejected (record bigint, line bigint, reason text) ON COMMIT DROP
    """)
    open_staging(connection)
    rows = rejected = 0
    for batch in batches:
        # Until the rows have ids, the numbers of their records stand for them.
        features = build_features(batch.rows.select(pl.col("record").alias("txn_id"), *list(TRANSACTION_SCHEMA)[1:]))
        stage_features(connection, features)
        copy_in(connection, "incoming", batch.rows.with_columns(features["merchant"]))
        copy_in(connection, "rejected", batch.rejected.head(max(0, MOST_KEPT_REJECTIONS - rejected)))
        rows += batch.rows.height
        rejected += batch.rejected.height
        progress(rows + rejected)
    # PostgreSQL does not COPY into a table under row-level security.
    connection.execute(
        "INSERT INTO import_rejections (import_id, record, line, reason) SELECT %s, record, line, reason FROM rejected",
        (import_id,),
    )
    # Identity is everything the bank says that tells one movement from another. Identical rows of one file are
    # twins, told apart by their count; identical rows of two files are one movement reported twice.
    connection.execute("""
        CREATE TEMP TABLE identified ON COMMIT DROP AS
        SELECT
            fingerprinted.*,
            row_number() OVER (PARTITION BY fingerprint ORDER BY record) AS occurrence
        FROM (
            SELECT
                incoming.*,
                sha256(convert_to(jsonb_build_array(
                    account, external_id, date, posted_at, amount, currency, description
                )::text, 'UTF8')) AS fingerprint
            FROM incoming
        ) AS fingerprinted;
        DROP TABLE incoming;
        ANALYZE identified
    """)
    return rows, rejected
