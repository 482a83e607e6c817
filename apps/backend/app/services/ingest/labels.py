"""Write a loaded file's categories as labels of source import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.services.category_map import WORDS_IN_USE, WORDS_OFFERED

if TYPE_CHECKING:
    import psycopg


def write_import_labels(connection: psycopg.Connection[Any], user_id: int) -> tuple[int, bool]:
    """Write the file's categories as labels of source import.

    A label that a person or a rule gave is never touched, and one that a person removed does not come back.

    Returns:
        How many labels are new or changed, and whether the file has given the user a category set of their own.
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
    return labels, _learn_categories(connection, user_id)


def _learn_categories(connection: psycopg.Connection[Any], user_id: int) -> bool:
    """Give the user the file's categories that they do not have, and with those a category set of their own.

    Who has the shared set and brings nothing but that, or what they added to it themselves, keeps it. Who leaves it
    takes along what their labels and rules say, what they renamed categories to, what an undo would bring back, and
    what suggestions that they have not answered offer.
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
            f"""
            INSERT INTO categories (user_id, name, group_name)
            SELECT %(user_id)s, shared.name, shared.group_name FROM categories AS shared
            WHERE shared.user_id IS NULL
                AND (
                    shared.name IN (
                        SELECT used.word FROM ({WORDS_IN_USE} UNION ALL {WORDS_OFFERED}) AS used
                        WHERE used.user_id = %(user_id)s
                    )
                    OR shared.name IN (
                        SELECT category_names.shown_as FROM category_names WHERE category_names.valid_to IS NULL
                    )
                )
            ORDER BY shared.id
            ON CONFLICT (user_id, name) DO NOTHING
            """.encode(),  # noqa: S608 -- the fragments are constants
            owner,
        )
    # Whoever removes one of the categories meanwhile waits and then sees these labels, or is seen here to have done so.
    connection.execute("SELECT FROM users WHERE id = %(user_id)s FOR SHARE", owner)
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
    return bool(leaves_shared_set)


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
