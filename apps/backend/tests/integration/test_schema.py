"""The schema: what the migrations build is what the mapped classes say, and it can be taken back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import app.orm_models  # noqa: F401 -- fills Base.metadata
from app.db import Base, get_engine, session_for_user
from app.services import installation
from app.services.categories import add_category, list_categories, rename_or_merge
from app.services.default_categories import DEFAULT_CATEGORIES
from app.services.ingest import ingest_statement

if TYPE_CHECKING:
    from pathlib import Path

SPECIFIED = {
    "transaction_labels": ["txn_id", "label", "source", "created_at", "updated_at"],
    "ml_features": [
        "txn_id", "ts_month", "amount", "abs_amount", "merchant", "mcc", "channel", "hour_of_day", "dow",
        "is_weekend", "is_subscription", "norm_desc", "tokens", "feature_version", "created_at",
    ],
    "ml_training_runs": [
        "run_id", "started_at", "finished_at", "feature_count", "train_size", "test_size", "f1_macro", "accuracy",
        "class_count", "model_uri", "notes", "as_of", "dataset_hash", "metrics", "status", "user_id", "seed",
    ],
}  # fmt: skip


def test_mapped_classes_and_migrated_schema_agree(database: str) -> None:
    assert database
    with get_engine("admin").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, Base.metadata)
    assert differences == []


@pytest.mark.parametrize("table", SPECIFIED)
def test_ml_tables_have_the_specified_columns(admin_connection: psycopg.Connection, table: str) -> None:
    columns = admin_connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position", [table]
    ).fetchall()
    assert [name for (name,) in columns] == SPECIFIED[table]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("transaction_labels", "label"),
        ("transaction_labels", "source"),
        ("ml_features", "ts_month"),
        ("ml_features", "merchant"),
        ("ml_training_runs", "started_at"),
    ],
)
def test_specified_indexes_exist(admin_connection: psycopg.Connection, table: str, column: str) -> None:
    found = admin_connection.execute(
        "SELECT indexdef FROM pg_indexes WHERE indexname = %s", [f"ix_{table}_{column}"]
    ).fetchone()
    assert found is not None
    assert found[0].endswith(f"USING btree ({column})")


def test_constraint_names_follow_one_convention(admin_connection: psycopg.Connection) -> None:
    rows = admin_connection.execute("""
        SELECT conrelid::regclass::text, conname, contype::text FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'f', 'u', 'c')
            AND conrelid <> 'alembic_version'::regclass
    """).fetchall()
    prefixes = {"p": "pk", "f": "fk", "u": "uq", "c": "ck"}
    assert len(rows) > 20
    for table, name, kind in rows:
        suffix = "" if kind == "p" else "_[a-z_]+"
        assert re.fullmatch(f"{prefixes[kind]}_{table}{suffix}", name), name


@pytest.mark.parametrize("source", ["model", "shadow", "Human", ""])
def test_database_refuses_a_label_whose_source_is_not_human_rule_or_import(
    admin_connection: psycopg.Connection, user_id: int, source: str
) -> None:
    transaction = add_transaction(admin_connection, user_id)
    with pytest.raises(psycopg.errors.CheckViolation):
        admin_connection.execute("INSERT INTO transaction_labels VALUES (%s, 'Groceries', %s)", [transaction, source])


def test_labels_and_features_go_with_their_transaction_and_leave_a_removal_event(
    admin_connection: psycopg.Connection, user_id: int
) -> None:
    transaction = add_transaction(admin_connection, user_id)
    populate(admin_connection, transaction)
    admin_connection.execute("DELETE FROM transactions WHERE id = %s", [transaction])
    assert admin_connection.execute("SELECT count(*) FROM transaction_labels").fetchone() == (0,)
    assert admin_connection.execute("SELECT count(*) FROM ml_features").fetchone() == (0,)
    events = admin_connection.execute("SELECT txn_id, user_id, label FROM label_events ORDER BY id").fetchall()
    assert events == [(transaction, user_id, "Groceries"), (transaction, user_id, None)]


def test_with_a_user_goes_everything_that_is_theirs(admin_connection: psycopg.Connection, user_id: int) -> None:
    populate(admin_connection, add_transaction(admin_connection, user_id))
    admin_connection.execute(
        """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates)
        VALUES (1, %s, 'auto', 'rule', '[]')
        """,
        [user_id],
    )
    admin_connection.execute("DELETE FROM users WHERE id = %s", [user_id])
    for table in ("transactions", "transaction_labels", "ml_features", "label_events"):
        assert admin_connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table
    assert admin_connection.execute("SELECT user_id FROM suggestion_events").fetchone() == (None,)


def test_schema_goes_from_empty_to_head_and_back_with_rows_in_it(
    admin_connection: psycopg.Connection, user_id: int, tmp_path: Path
) -> None:
    transaction = add_transaction(admin_connection, user_id)
    populate(admin_connection, transaction)
    brought = installation.ensure_user("brought")
    # The second has the shared set, though they added to it, renamed and imported categories of it.
    with session_for_user(user_id) as session:
        add_category(session, user_id, "Allotment")
        rename_or_merge(session, user_id, "Groceries", "Food")
    for importer, category in ((brought, "Brought"), (user_id, "Allotment"), (user_id, "Rent")):
        statement = tmp_path / f"{category}.csv"
        statement.write_text(f"date,description,amount,account,category\n2025-03-02,{category},-5.00,card,{category}\n")
        with session_for_user(importer) as session:
            ingest_statement(session, importer, statement)
    # The warehouse's views may be of any table.
    for table in ("ml_features", "suggestion_feedback", "users", "categories", "category_names", "rules"):
        admin_connection.execute(f"CREATE VIEW staging.stg_probe_{table} AS SELECT * FROM {table}".encode())
    installation.downgrade("84517dc3bc96")
    labels = [("Allotment",), ("Brought",), ("Groceries",), ("Rent",)]
    assert admin_connection.execute("SELECT label FROM transaction_labels ORDER BY label").fetchall() == labels
    installation.upgrade()
    own = admin_connection.execute("SELECT id FROM users WHERE own_categories").fetchall()
    assert own == [(brought,)]
    with session_for_user(user_id) as session:
        found = {category.name: category.transactions for category in list_categories(session, user_id)}
    assert found.keys() >= {category.name for category in DEFAULT_CATEGORIES}
    assert (found["Allotment"], found["Rent"], found["Groceries"]) == (1, 1, 1)
    admin_connection.execute("DELETE FROM transactions WHERE id <> %s", [transaction])
    admin_connection.execute("DELETE FROM label_events WHERE txn_id <> %s", [transaction])
    # The log starts again with the labels as they stood.
    assert admin_connection.execute("SELECT txn_id, label FROM label_events").fetchall() == [(transaction, "Groceries")]
    try:
        installation.downgrade("base")
        left = admin_connection.execute("""
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
            UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT nspname FROM pg_namespace WHERE nspname IN ('staging', 'marts', 'jobs')
        """).fetchall()
        assert left == [("alembic_version",)]
    finally:
        installation.upgrade()


def add_transaction(connection: psycopg.Connection, user_id: int) -> int:
    row = connection.execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
        VALUES (%s, 'current', '2025-03-01', -3.20, 'COFFEE', sha256(random()::text::bytea)) RETURNING id
        """,
        [user_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


def populate(connection: psycopg.Connection, transaction: int) -> None:
    connection.execute("INSERT INTO transaction_labels VALUES (%s, 'Groceries', 'human')", [transaction])
    connection.execute(
        """
        INSERT INTO ml_features VALUES
        (%s, '2025-03-01', -3.20, 3.20, 'coffee', NULL, NULL, NULL, 5, true, false, 'coffee', '{coffee}', 1)
        """,
        [transaction],
    )
