"""Training data and merchants are what was known at a moment, and nothing later changes them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

from app.db import get_engine
from app.ml.dataset import read_training_set
from app.services.warehouse import WarehouseError, build_warehouse, check_warehouse

if TYPE_CHECKING:
    import psycopg
    from conftest import Dbt, Ledger, RunModels

MARTS = ("fct_training_view", "dim_merchants")


def contents(ledger: Ledger) -> list[list[tuple[Any, ...]]]:
    return [ledger.rows(f"SELECT mart::text FROM marts.{mart} AS mart ORDER BY 1") for mart in MARTS]


@pytest.mark.parametrize("moment", ["before the changes", "2024-09-01"])
def test_nothing_later_changes_what_was_known_as_of_a_moment(
    messy_ledger: Ledger, run_models: RunModels, moment: str
) -> None:
    ledger = messy_ledger
    as_of = ledger.now() if moment == "before the changes" else dt.datetime(2024, 9, 1, tzinfo=dt.UTC)
    run_models(*MARTS, as_of=as_of)
    before = contents(ledger)
    change_everything(ledger)
    run_models(*MARTS, as_of=as_of)
    assert contents(ledger) == before
    run_models(*MARTS)
    assert contents(ledger) != before


def change_everything(ledger: Ledger) -> None:
    """Correct, remove, add, delete and rename, for merchants that are known and for one that is not."""
    labelled = [txn_id for (txn_id,) in ledger.rows("SELECT txn_id FROM transaction_labels ORDER BY txn_id")]
    unlabelled = ledger.rows("SELECT id FROM transactions WHERE id NOT IN (SELECT txn_id FROM transaction_labels)")
    for txn_id in labelled[::4]:
        ledger.label(txn_id, "Corrected")
    for txn_id in labelled[1::4]:
        ledger.unlabel(txn_id)
    for txn_id in labelled[2::4]:
        ledger.mark_deleted(txn_id)
    for (txn_id,) in unlabelled[::2]:
        ledger.label(txn_id, "Late", "rule")
    user_id = ledger.user("ana")
    for merchant in ("tesco", "netflix", "never seen before"):
        ledger.label(ledger.transaction(user_id, merchant=merchant, date=dt.date(2024, 2, 1)), "New")
    ledger.connection.execute("UPDATE transactions SET merchant_canonical = 'Renamed', category = 'Renamed'")


def test_training_view_and_training_set_hold_the_same_rows(messy_ledger: Ledger, run_models: RunModels) -> None:
    as_of = messy_ledger.now()
    run_models("fct_training_view", as_of=as_of)
    stored = messy_ledger.rows("""
        SELECT txn_id, user_id, account, date, label, label_source, sample_weight, merchant, amount, hour_of_day, dow
        FROM marts.fct_training_view ORDER BY date, txn_id
    """)
    users = messy_ledger.rows("SELECT id FROM users")
    # Each as if the categories were that user's own: the view knows of no category sets.
    sets = [read_training_set(messy_ledger.connection, as_of, category_set=user_id) for (user_id,) in users]
    training_set = pl.concat(sets).sort("date", "txn_id")
    columns = ["txn_id", "user_id", "account", "date", "label", "label_source", "sample_weight", "merchant", "amount",
               "hour_of_day", "dow"]  # fmt: skip
    assert 0 < len(stored) < len(messy_ledger.rows("SELECT * FROM labels_as_of(now())"))
    assert stored == training_set.select(columns).rows()


def test_a_correction_long_after_the_transaction_is_training_data_and_no_leak(ledger: Ledger) -> None:
    txn_id = ledger.transaction(ledger.user("ana"), imported=("Travel", True), date=dt.date(2020, 1, 1))
    ledger.label(txn_id, "Groceries")
    result = build_warehouse()
    assert ledger.rows("SELECT label, label_source, sample_weight FROM marts.fct_training_view") == [
        ("Groceries", "human", 3)
    ]
    assert result.models == 18
    assert result.tests > 100


@pytest.mark.parametrize(
    "leak",
    [
        "amount = 7, abs_amount = 7",
        "ts_month = '2031-01-01'",
        "hour_of_day = 12",
        "dow = (dow + 1) % 5",
    ],
)
def test_a_feature_that_its_row_does_not_say_fails_the_tests(
    ledger: Ledger, dbt: Dbt, run_models: RunModels, leak: str
) -> None:
    ledger.label(ledger.transaction(ledger.user("ana"), date=dt.date(2025, 3, 5)), "Groceries")
    ledger.connection.execute(f"UPDATE ml_features SET {leak}")
    run_models("fct_training_view")
    results = {result.node.name: result for result in dbt("test", "--select", "features_describe_their_own_row").result}
    assert results["features_describe_their_own_row"].failures == 1


def test_a_label_that_escaped_the_history_fails_the_tests(
    ledger: Ledger, admin_connection: psycopg.Connection, run_models: RunModels
) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    ledger.label(txn_id, "Groceries")
    run_models("tag:staging")
    with admin_connection.transaction():
        admin_connection.execute("SET LOCAL session_replication_role = replica")  # triggers stay silent
        admin_connection.execute("UPDATE transaction_labels SET label = 'Travel'")
    with pytest.raises(WarehouseError, match="label_history_ends_with_the_labels"):
        check_warehouse(select=["label_history_ends_with_the_labels"])


def test_pandas_splits_the_training_view_by_month_as_a_string(ledger: Ledger, run_models: RunModels) -> None:
    user_id = ledger.user("ana")
    for month in (8, 9, 10):
        ledger.label(ledger.transaction(user_id, date=dt.date(2025, month, 15)), "Groceries")
    run_models("fct_training_view")
    frame = pd.read_sql("SELECT * FROM marts.fct_training_view", get_engine("jobs"))
    assert len(frame[frame["ts_month"] < "2025-10-01"]) == 2
    assert len(frame[frame["ts_month"] == "2025-10-01"]) == 1


def test_a_rename_moves_no_merchant(ledger: Ledger, run_models: RunModels) -> None:
    txn_id = ledger.transaction(ledger.user("ana"), merchant="sq *corner")
    ledger.connection.execute("UPDATE transactions SET merchant_canonical = 'Corner Shop' WHERE id = %s", [txn_id])
    run_models("dim_merchants")
    assert ledger.rows("SELECT merchant, label_count, confidence FROM marts.dim_merchants") == [
        ("sq *corner", 0, "low")
    ]
