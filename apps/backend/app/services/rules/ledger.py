"""What rules are measured on: a user's transactions, their labels, and what a person or a bank's file said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from app.db import driver_connection, read_frame
from app.services.rules.matching import TRANSACTION_SCHEMA

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LEDGER_SCHEMA: Final = pl.Schema(TRANSACTION_SCHEMA | {"label": pl.String(), "label_source": pl.String()})
TRUTH_SCHEMA: Final = pl.Schema({"txn_id": pl.Int64(), "truth": pl.String()})


def read_ledger(session: Session, user_id: int) -> pl.DataFrame:
    """Read a user's transactions with their labels, under the names that the categories are shown under now.

    Returns:
        `LEDGER_SCHEMA`, by id; label and label_source are null where there is no label.
    """
    query = """
        SELECT
            transactions.id, transactions.description, transactions.merchant, transactions.merchant_canonical,
            transactions.amount, transactions.account, transactions.mcc, transactions.date,
            coalesce(category_names.shown_as, transaction_labels.label), transaction_labels.source
        FROM transactions
        LEFT JOIN transaction_labels ON transaction_labels.txn_id = transactions.id
        LEFT JOIN category_names
            ON category_names.user_id = transactions.user_id
                AND category_names.name = transaction_labels.label
                AND category_names.valid_to IS NULL
        WHERE transactions.user_id = %s AND transactions.deleted_at IS NULL
        ORDER BY transactions.id
    """
    return read_frame(driver_connection(session), query, LEDGER_SCHEMA, [user_id])


def read_truths(session: Session, user_id: int) -> pl.DataFrame:
    """Read what each transaction is according to the last word of a person or of an imported file.

    What a rule wrote since does not matter, so rules are not measured against themselves. A label that was taken away
    is no word at all.

    Returns:
        `TRUTH_SCHEMA`, under the names that the categories are shown under now.
    """
    query = """
        SELECT last_word.txn_id, coalesce(category_names.shown_as, last_word.label)
        FROM (
            SELECT DISTINCT ON (txn_id) txn_id, user_id, label
            FROM label_events
            WHERE user_id = %s AND (source IN ('human', 'import') OR label IS NULL)
            ORDER BY txn_id, id DESC
        ) AS last_word
        LEFT JOIN category_names
            ON category_names.user_id = last_word.user_id
                AND category_names.name = last_word.label
                AND category_names.valid_to IS NULL
        WHERE last_word.label IS NOT NULL
    """
    return read_frame(driver_connection(session), query, TRUTH_SCHEMA, [user_id])
