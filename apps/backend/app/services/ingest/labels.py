"""Write a loaded file's categories as labels of source import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def write_import_labels(connection: psycopg.Connection[Any], user_id: int) -> int:
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
