"""Write a loaded file's categories as labels of source import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def write_import_labels(connection: psycopg.Connection[Any], user_id: int) -> int:
    """Write the file's categories as labels of source import; return how many are new or changed.

    A label that a person or a rule gave is never touched, and one that a person removed does not come back.
    """
    # Whoever labels locks the transaction before its label; a row that is new here nobody else has seen.
    connection.execute("""
        SELECT FROM transactions
        INNER JOIN matched ON matched.id = transactions.id AND NOT matched.is_new AND matched.category IS NOT NULL
        LEFT JOIN transaction_labels ON transaction_labels.txn_id = transactions.id
        WHERE transaction_labels.label IS DISTINCT FROM matched.category
        ORDER BY transactions.id
        FOR NO KEY UPDATE OF transactions
    """)
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
    _learn_categories(connection, user_id)
    return labels


def _learn_categories(connection: psycopg.Connection[Any], user_id: int) -> None:
    """Give the user the file's categories that they do not have, and with those a category set of their own.

    Who has the shared set and brings nothing but that, or what they added to it themselves, keeps it. Who leaves it
    takes along what their labels say and what they renamed categories to.
    """
    owner = {"user_id": user_id}
    leaves_shared_set = connection.execute(
        """
        UPDATE users SET own_categories = true
        WHERE users.id = %(user_id)s AND NOT users.own_categories
            AND EXISTS (
                SELECT FROM matched
                WHERE matched.category IS NOT NULL AND matched.category NOT IN (SELECT categories.name FROM categories)
            )
        """,
        owner,
    ).rowcount
    if leaves_shared_set:
        connection.execute(
            """
            INSERT INTO categories (user_id, name, group_name)
            SELECT %(user_id)s, shared.name, shared.group_name FROM categories AS shared
            WHERE shared.user_id IS NULL
                AND (
                    shared.name IN (SELECT transaction_labels.label FROM transaction_labels)
                    OR shared.name IN (
                        SELECT category_names.shown_as FROM category_names WHERE category_names.valid_to IS NULL
                    )
                )
            ORDER BY shared.id
            ON CONFLICT (user_id, name) DO NOTHING
            """,
            owner,
        )
    connection.execute(
        """
        INSERT INTO categories (user_id, name)
        SELECT DISTINCT users.id, matched.category
        FROM matched INNER JOIN users ON users.id = %(user_id)s AND users.own_categories
        WHERE matched.category IS NOT NULL
        ORDER BY matched.category
        ON CONFLICT (user_id, name) DO NOTHING
        """,
        owner,
    )


def hold_back_categories(connection: psycopg.Connection[Any]) -> None:
    """Put the categories of the loaded file's last month that has any aside, so that they are not imported."""
    connection.execute("""
        CREATE TEMP TABLE held_back ON COMMIT DROP AS
        SELECT identified.record, identified.category FROM identified
        WHERE identified.category IS NOT NULL
            AND identified.date >= (
                SELECT date_trunc('month', max(labelled.date)) FROM identified AS labelled
                WHERE labelled.category IS NOT NULL
            );
        UPDATE identified SET category = NULL FROM held_back WHERE held_back.record = identified.record
    """)


def read_held_back(connection: psycopg.Connection[Any]) -> dict[int, str]:
    """Return the categories that were held back, by transaction."""
    rows = connection.execute("""
        SELECT matched.id, held_back.category
        FROM held_back INNER JOIN matched ON matched.record = held_back.record ORDER BY matched.id
    """)
    return dict(rows.fetchall())
