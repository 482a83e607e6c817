"""What the users of an installation call a merchant, without saying who."""

from __future__ import annotations

from typing import Final

from app.db import driver_connection, session_for_jobs

FEWEST_USERS: Final = 3
# What one user alone calls a merchant is nobody else's business.
FEWEST_WITH_LABEL: Final = 2


def refresh_shared_priors() -> int:
    """Count anew, for every merchant that enough users have labelled, how many of them call it what.

    Each user counts once for a merchant, with the label they give it most, so that nobody moves it by labelling much.
    Demo data sets are nobody and do not count.

    Returns:
        How many merchants are in it.
    """
    with session_for_jobs() as session:
        connection = driver_connection(session)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('shared_priors', 0))")
        connection.execute("DELETE FROM shared_merchant_priors")
        connection.execute(
            """
            INSERT INTO shared_merchant_priors (merchant, label, users, merchant_users)
            WITH label_counts AS (
                SELECT
                    transactions.user_id, trim(ml_features.merchant) AS merchant,
                    -- The shared set's own words are what users have in common, whatever each calls them now.
                    CASE
                        WHEN transaction_labels.label IN (SELECT name FROM categories WHERE user_id IS NULL)
                            THEN transaction_labels.label
                        ELSE coalesce(category_names.shown_as, transaction_labels.label)
                    END AS label,
                    count(*) AS labels
                FROM transaction_labels
                INNER JOIN transactions ON transactions.id = transaction_labels.txn_id
                INNER JOIN ml_features ON ml_features.txn_id = transaction_labels.txn_id
                INNER JOIN users ON users.id = transactions.user_id AND NOT users.is_demo
                LEFT JOIN category_names
                    ON category_names.user_id = transactions.user_id
                        AND category_names.name = transaction_labels.label AND category_names.valid_to IS NULL
                WHERE transactions.deleted_at IS NULL AND trim(ml_features.merchant) <> ''
                GROUP BY 1, 2, 3
            ),
            votes AS (
                SELECT DISTINCT ON (user_id, merchant) merchant, label
                FROM label_counts
                ORDER BY user_id, merchant, labels DESC, label COLLATE "C"
            ),
            merchants AS (
                SELECT merchant, count(*) AS merchant_users FROM votes GROUP BY merchant HAVING count(*) >= %s
            )
            SELECT votes.merchant, votes.label, count(*), merchants.merchant_users
            FROM votes
            INNER JOIN merchants ON merchants.merchant = votes.merchant
            GROUP BY votes.merchant, votes.label, merchants.merchant_users
            HAVING count(*) >= %s
            """,
            [FEWEST_USERS, FEWEST_WITH_LABEL],
        )
        row = connection.execute("SELECT count(DISTINCT merchant) FROM shared_merchant_priors").fetchone()
        return int(row[0]) if row else 0
