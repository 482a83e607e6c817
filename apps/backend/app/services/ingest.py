"""Ingest a statement: what a bank's file says becomes transactions, labels and features, all or nothing.

The file's rows are copied into a temporary table, so memory does not grow with the file and duplicates, twins and
replacements are decided by the database over the whole file at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from psycopg import sql
from psycopg.types.json import Jsonb

from app.db import copy_in, driver_connection
from app.errors import InvalidInput
from app.ml.feature_build import open_staging, stage_features
from app.ml.features import FEATURE_SCHEMA, TRANSACTION_SCHEMA, build_features
from app.services.merchants import learn_aliases
from app.services.metrics import FEATURES_BUILT_TOTAL, INGEST_ROWS_TOTAL
from app.services.statements import StatementOptions, inspect_statement, read_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import psycopg
    from sqlalchemy.orm import Session

    from app.services.statements import StatementBatch, StatementLayout

Action = Literal["append", "replace"]

REPORTED_REJECTIONS = 100


@dataclass(frozen=True)
class Rejection:
    """A record of the file that is no transaction."""

    line: int
    reason: str


@dataclass(frozen=True)
class IngestResult:
    """What became of a file: rows = inserted + duplicates + rejected, always.

    Attributes:
        import_id: The row of `imports` that keeps this result.
        rows: Records in the file.
        inserted: New transactions, and deleted ones that came again.
        duplicates: Records that were there already.
        rejected: Records that are no transaction; all of them with reasons in `import_rejections`.
        deleted: Transactions that a replacement marked deleted, since the file no longer has them.
        labels: Labels of source import that are new or changed.
        warnings: What the reader should look at twice.
        rejections: The first of the rejected records.
    """

    import_id: int
    rows: int
    inserted: int
    duplicates: int
    rejected: int
    deleted: int
    labels: int
    warnings: tuple[str, ...] = ()
    rejections: tuple[Rejection, ...] = field(default=())


def ingest_statement(
    session: Session,
    user_id: int,
    path: Path,
    *,
    file_name: str | None = None,
    action: Action = "append",
    options: StatementOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestResult:
    """Ingest a file into a user's ledger inside the session's transaction.

    Args:
        session: A session of that user.
        user_id: Whose ledger.
        path: A CSV, OFX, QFX or QIF file, plain or gzip.
        file_name: What the person calls the file, where `path` is a temporary one.
        action: `append` adds what is new; `replace` makes the file's accounts hold exactly its rows within its dates.
        options: How to read the file where it does not say itself.
        progress: Called with the number of records read so far, and of how many.

    Raises:
        AmbiguousInput: The file can be read in more than one way; the question names the option that decides.
        InvalidInput: The file is not a statement, or the action is unknown.
    """
    if action not in ("append", "replace"):
        raise InvalidInput(f"The action is append or replace, not {action!r}.")
    options = options or StatementOptions()
    layout = inspect_statement(path, options, filename=file_name or path.name)
    connection = driver_connection(session)
    # Two files of one user at once would both find a twin missing, so they take turns.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('ingest', %s))", [user_id])
    import_id = _open_import(connection, user_id, file_name or path.name, action, layout)
    batches = read_statement(path, layout, options)

    def report(done: int) -> None:
        if progress:
            progress(done, layout.row_count)

    rows, rejected = _load(connection, import_id, batches, report)
    learn_aliases(connection, user_id)
    inserted = _insert_transactions(connection, user_id, import_id)
    _match_transactions(connection, user_id, import_id)
    inserted += _restore_deleted(connection)
    deleted = _delete_missing(connection, user_id) if action == "replace" else 0
    labels = _write_import_labels(connection, user_id)
    features = _write_features(connection)
    counts = {"rows": rows + rejected, "inserted": inserted, "duplicates": rows - inserted, "rejected": rejected}
    connection.execute(
        "UPDATE imports SET (rows, inserted, duplicates, rejected) = "
        "(%(rows)s, %(inserted)s, %(duplicates)s, %(rejected)s) WHERE id = %(id)s",
        counts | {"id": import_id},
    )
    for outcome in ("inserted", "duplicates", "rejected"):
        INGEST_ROWS_TOTAL.labels(outcome=outcome).inc(counts[outcome])
    FEATURES_BUILT_TOTAL.inc(features)
    return IngestResult(
        import_id=import_id,
        **counts,
        deleted=deleted,
        labels=labels,
        warnings=tuple(layout.warnings),
        rejections=_first_rejections(connection, import_id),
    )


def _open_import(
    connection: psycopg.Connection[Any], user_id: int, file_name: str, action: Action, layout: StatementLayout
) -> int:
    return _scalar(
        connection,
        "INSERT INTO imports (user_id, file_name, action, layout) VALUES (%s, %s, %s, %s) RETURNING id",
        (user_id, file_name, action, Jsonb(layout.to_dict())),
    )


def _load(
    connection: psycopg.Connection[Any],
    import_id: int,
    batches: Iterable[StatementBatch],
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Copy the file's records into `incoming`, and those that are none to the rejections; count both."""
    connection.execute("""
        CREATE TEMP TABLE incoming (
            line bigint, account text, date date, posted_at timestamp, amount numeric(18, 2), currency text,
            description text, merchant text, mcc text, channel_hint text, category text, external_id text
        ) ON COMMIT DROP;
        CREATE TEMP TABLE rejected (line bigint, reason text) ON COMMIT DROP
    """)
    open_staging(connection)
    rows = rejected = 0
    for batch in batches:
        # Until the rows have ids, their lines stand for them.
        features = build_features(batch.rows.select(pl.col("line").alias("txn_id"), *list(TRANSACTION_SCHEMA)[1:]))
        stage_features(connection, features)
        copy_in(connection, "incoming", batch.rows.with_columns(features["merchant"]))
        copy_in(connection, "rejected", batch.rejected)
        rows += batch.rows.height
        rejected += batch.rejected.height
        progress(rows + rejected)
    # PostgreSQL does not COPY into a table under row-level security.
    connection.execute(
        "INSERT INTO import_rejections (import_id, line, reason) SELECT %s, line, reason FROM rejected", (import_id,)
    )
    # Identity is everything the bank says that tells one movement from another. Identical rows of one file are
    # twins, told apart by their count; identical rows of two files are one movement reported twice.
    connection.execute("""
        CREATE TEMP TABLE identified ON COMMIT DROP AS
        SELECT
            fingerprinted.*,
            row_number() OVER (PARTITION BY fingerprint ORDER BY line) AS occurrence
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


def _insert_transactions(connection: psycopg.Connection[Any], user_id: int, import_id: int) -> int:
    """Insert the rows that are not there yet, in the file's order; return how many.

    What happened before an account was first imported is history: it is assumed to have been known on its own date.
    """
    return connection.execute(
        """
        INSERT INTO transactions (
            user_id, import_id, account, date, posted_at, amount, currency, description, merchant, merchant_canonical,
            mcc, channel_hint, category, external_id, fingerprint, occurrence, assumed_known_at
        )
        SELECT
            %(user_id)s, %(import_id)s, identified.account, identified.date, identified.posted_at, identified.amount,
            identified.currency, identified.description, identified.merchant,
            coalesce(merchant_aliases.canonical, identified.merchant), identified.mcc, identified.channel_hint,
            identified.category, identified.external_id, identified.fingerprint, identified.occurrence,
            CASE WHEN identified.date::timestamp AT TIME ZONE 'UTC' < history.ends_at
                THEN identified.date::timestamp AT TIME ZONE 'UTC' END
        FROM identified
        INNER JOIN (
            SELECT accounts.account, coalesce(min(transactions.known_at), now()) AS ends_at
            FROM (SELECT DISTINCT account FROM identified) AS accounts
            LEFT JOIN transactions ON transactions.user_id = %(user_id)s AND transactions.account = accounts.account
            GROUP BY accounts.account
        ) AS history ON history.account = identified.account
        LEFT JOIN merchant_aliases
            ON merchant_aliases.user_id = %(user_id)s AND merchant_aliases.merchant = identified.merchant
        ORDER BY identified.line
        ON CONFLICT (user_id, fingerprint, occurrence) DO NOTHING
        """,
        {"user_id": user_id, "import_id": import_id},
    ).rowcount


def _match_transactions(connection: psycopg.Connection[Any], user_id: int, import_id: int) -> None:
    """Find the transaction of each record of the file."""
    connection.execute(
        """
        CREATE TEMP TABLE matched ON COMMIT DROP AS
        SELECT
            transactions.id, transactions.account, transactions.date, transactions.deleted_at, identified.line,
            identified.category,
            transactions.import_id IS NOT DISTINCT FROM %(import_id)s AS is_new
        FROM identified
        INNER JOIN transactions
            ON transactions.user_id = %(user_id)s
                AND transactions.fingerprint = identified.fingerprint
                AND transactions.occurrence = identified.occurrence
        """,
        {"user_id": user_id, "import_id": import_id},
    )
    connection.execute("ANALYZE matched")


def _restore_deleted(connection: psycopg.Connection[Any]) -> int:
    """Bring back deleted rows that the file has again; when they were gone stays on record."""
    return connection.execute("""
        UPDATE transactions SET
            deleted_periods = deleted_periods + tstzmultirange(tstzrange(transactions.deleted_at, now())),
            deleted_at = NULL,
            updated_at = now()
        FROM matched
        WHERE matched.id = transactions.id AND matched.deleted_at IS NOT NULL
    """).rowcount


def _delete_missing(connection: psycopg.Connection[Any], user_id: int) -> int:
    """Mark deleted what the file's accounts hold within the file's dates and the file does not."""
    return connection.execute(
        """
        UPDATE transactions SET deleted_at = now(), updated_at = now()
        FROM (SELECT min(date) AS first_date, max(date) AS last_date FROM matched) AS span
        WHERE transactions.user_id = %(user_id)s
            AND transactions.deleted_at IS NULL
            AND transactions.date BETWEEN span.first_date AND span.last_date
            AND transactions.account IN (SELECT account FROM matched)
            AND NOT EXISTS (SELECT FROM matched WHERE matched.id = transactions.id)
        """,
        {"user_id": user_id},
    ).rowcount


def _write_import_labels(connection: psycopg.Connection[Any], user_id: int) -> int:
    """Write the file's categories as labels of source import; return how many are new or changed.

    A label that a person or a rule gave is never touched, and one that a person removed does not come back.
    """
    labels = connection.execute("""
        INSERT INTO transaction_labels (txn_id, label, source)
        SELECT matched.id, matched.category, 'import' FROM matched
        WHERE matched.category IS NOT NULL
            AND (
                matched.is_new
                OR NOT EXISTS (SELECT FROM label_events WHERE label_events.txn_id = matched.id)
                OR EXISTS (SELECT FROM transaction_labels WHERE transaction_labels.txn_id = matched.id)
            )
        ORDER BY matched.id
        ON CONFLICT (txn_id) DO UPDATE SET label = excluded.label, updated_at = now()
        WHERE transaction_labels.source = 'import' AND transaction_labels.label <> excluded.label
    """).rowcount
    connection.execute("""
        UPDATE transactions SET category = transaction_labels.label, updated_at = now()
        FROM matched
        INNER JOIN transaction_labels ON transaction_labels.txn_id = matched.id AND transaction_labels.source = 'import'
        WHERE transactions.id = matched.id
            AND NOT matched.is_new
            AND transactions.category IS DISTINCT FROM transaction_labels.label
    """)
    connection.execute(
        """
        INSERT INTO categories (user_id, name)
        SELECT DISTINCT %(user_id)s::bigint, category FROM matched WHERE category IS NOT NULL ORDER BY category
        ON CONFLICT (user_id, name) DO NOTHING
        """,
        {"user_id": user_id},
    )
    return labels


def _write_features(connection: psycopg.Connection[Any]) -> int:
    """Give the new transactions the features that were computed from their lines; return how many."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in FEATURE_SCHEMA if name != "txn_id")
    insert = sql.SQL("""
        INSERT INTO ml_features (txn_id, {columns})
        SELECT matched.id, {columns}
        FROM incoming_features
        INNER JOIN matched ON matched.line = incoming_features.txn_id
        WHERE matched.is_new
        ORDER BY matched.id
    """)
    return connection.execute(insert.format(columns=columns)).rowcount


def _first_rejections(connection: psycopg.Connection[Any], import_id: int) -> tuple[Rejection, ...]:
    rows = connection.execute(
        "SELECT line, reason FROM import_rejections WHERE import_id = %s ORDER BY line LIMIT %s",
        (import_id, REPORTED_REJECTIONS),
    )
    return tuple(Rejection(line, reason) for line, reason in rows)


def _scalar(connection: psycopg.Connection[Any], query: str, parameters: tuple[Any, ...]) -> int:
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise LookupError(query)
    return int(row[0])
