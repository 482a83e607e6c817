"""Write a loaded file's rows into the ledger: insert, restore, mark deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from app.ml.features import FEATURE_SCHEMA

if TYPE_CHECKING:
    import psycopg


def insert_transactions(connection: psycopg.Connection[Any], user_id: int, import_id: int) -> int:
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
        ORDER BY identified.record
        ON CONFLICT (user_id, fingerprint, occurrence) DO NOTHING
        """,
        {"user_id": user_id, "import_id": import_id},
    ).rowcount


def match_transactions(connection: psycopg.Connection[Any], user_id: int, import_id: int) -> None:
    """Find the transaction of each record of the file."""
    connection.execute(
        """
        CREATE TEMP TABLE matched ON COMMIT DROP AS
        SELECT
            transactions.id, transactions.account, transactions.date, transactions.deleted_at, identified.record,
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


def restore_deleted(connection: psycopg.Connection[Any]) -> int:
    """Bring back deleted rows that the file has again; when they were gone stays on record; return how many.

    A row was there at the moment at which it was deleted, and is not yet at the one at which it came back: what is
    known at a moment is what was recorded before it.
    """
    return connection.execute("""
        UPDATE transactions SET
            deleted_periods = deleted_periods + tstzmultirange(tstzrange(
                transactions.deleted_at, greatest(now(), transactions.deleted_at), '(]'
            )),
            deleted_at = NULL,
            updated_at = now()
        FROM matched
        WHERE matched.id = transactions.id AND matched.deleted_at IS NOT NULL
    """).rowcount


def delete_missing(connection: psycopg.Connection[Any], user_id: int) -> int:
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


def write_features(connection: psycopg.Connection[Any]) -> int:
    """Give the new transactions the features that were computed from their records; return how many."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in FEATURE_SCHEMA if name != "txn_id")
    insert = sql.SQL("""
        INSERT INTO ml_features (txn_id, {columns})
        SELECT matched.id, {columns}
        FROM incoming_features
        INNER JOIN matched ON matched.record = incoming_features.txn_id
        WHERE matched.is_new
        ORDER BY matched.id
    """)
    return connection.execute(insert.format(columns=columns)).rowcount
