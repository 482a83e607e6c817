"""Tenants are separated by the database: whatever a request's SQL says, it sees one user's rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Literal

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.db import database_url, get_db, get_engine, session_for_jobs, session_for_user
from app.orm_models import Transaction
from app.services import installation

OWNED = [
    "transactions", "imports", "import_rejections", "merchant_aliases", "transaction_labels", "ml_features",
    "label_events", "suggestion_events", "suggestion_feedback", "users", "credentials", "category_names", "rules",
    "rule_revisions", "rule_applications", "rule_application_labels", "knowledge_revisions",
]  # fmt: skip


@pytest.fixture
def two_users(admin_connection: psycopg.Connection) -> tuple[int, int]:
    """Two users with one row in each table that a user owns."""
    return own_rows(admin_connection, "one"), own_rows(admin_connection, "two")


def own_rows(connection: psycopg.Connection, name: str) -> int:
    user_id = installation.ensure_user(name)
    connection.execute(
        """
        WITH import AS (
            INSERT INTO imports (user_id, file_name, action, layout) VALUES (%(user)s, 'f', 'append', '{}') RETURNING id
        ), rejection AS (
            INSERT INTO import_rejections SELECT id, 1, 1, 'no amount' FROM import
        ), transaction AS (
            INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
            VALUES (%(user)s, 'a', '2025-01-01', -1, 'x', sha256('x')) RETURNING id
        ), features AS (
            INSERT INTO ml_features
            SELECT id, '2025-01-01', -1, 1, 'x', NULL, NULL, NULL, 2, false, false, 'x', '{x}', 1 FROM transaction
        ), alias AS (
            INSERT INTO merchant_aliases (user_id, merchant, canonical, source) VALUES (%(user)s, 'x', 'X', 'human')
        ), event AS (
            INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates)
            SELECT id, %(user)s, 'heuristic', 'rule', '[]' FROM transaction RETURNING id
        ), credential AS (
            INSERT INTO credentials (user_id, kind, name, scope, secret_hash)
            VALUES (%(user)s, 'token', 'x', 'read', sha256(%(user)s::text::bytea))
        ), name AS (
            INSERT INTO category_names (user_id, name, shown_as) VALUES (%(user)s, 'x', 'y')
        ), rule AS (
            INSERT INTO rules (user_id) VALUES (%(user)s) RETURNING id
        ), revision AS (
            INSERT INTO rule_revisions (rule_id, revision, name, condition, category, priority, is_enabled)
            SELECT id, 1, 'x', '{}', 'x', 0, true FROM rule
        ), application AS (
            INSERT INTO rule_applications (user_id, rule_id, revision, labels)
            SELECT %(user)s, id, 1, 1 FROM rule RETURNING id
        ), application_label AS (
            INSERT INTO rule_application_labels (application_id, txn_id, label_event_id)
            SELECT id, 1, 1 FROM application
        )
        INSERT INTO suggestion_feedback (event_id, action) SELECT id, 'reject' FROM event
        """,
        {"user": user_id},
    )
    connection.execute(
        "INSERT INTO transaction_labels SELECT id, 'Groceries', 'human' FROM transactions WHERE user_id = %s", [user_id]
    )
    return user_id


@pytest.mark.parametrize("table", OWNED)
def test_a_request_sees_its_own_user_s_rows_and_no_others(two_users: tuple[int, int], table: str) -> None:
    for user_id in two_users:
        with session_for_user(user_id) as session:
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1


@pytest.mark.parametrize("table", OWNED)
def test_a_connection_that_names_no_user_sees_nothing(two_users: tuple[int, int], table: str) -> None:
    assert two_users
    url = database_url("app").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


@pytest.fixture
def three_categories(two_users: tuple[int, int], admin_connection: psycopg.Connection) -> tuple[int, int]:
    """A category of each user, called after its owner, and one that all share."""
    admin_connection.execute("DELETE FROM categories")
    for name, owner in [("one", two_users[0]), ("two", two_users[1]), ("shared", None)]:
        admin_connection.execute("INSERT INTO categories (name, user_id) VALUES (%s, %s)", [name, owner])
    return two_users


def category_names(connection: psycopg.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM categories").fetchall()}


def test_a_request_sees_its_user_s_categories_and_the_shared_ones(three_categories: tuple[int, int]) -> None:
    for user_id, expected in zip(three_categories, [{"one", "shared"}, {"two", "shared"}], strict=True):
        with session_for_user(user_id) as session:
            assert set(session.scalars(text("SELECT name FROM categories"))) == expected


def test_a_connection_that_names_no_user_sees_shared_categories_alone(three_categories: tuple[int, int]) -> None:
    assert three_categories
    url = database_url("app").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        assert category_names(connection) == {"shared"}


@pytest.mark.parametrize("statement", ["UPDATE categories SET name = name || ', mine'", "DELETE FROM categories"])
def test_a_request_changes_its_own_categories_and_no_shared_or_foreign_ones(
    three_categories: tuple[int, int], admin_connection: psycopg.Connection, statement: str
) -> None:
    with session_for_user(three_categories[0]) as session:
        session.execute(text(statement))
    assert category_names(admin_connection) - {"one, mine"} == {"two", "shared"}


@pytest.mark.parametrize("owner", ["NULL", ":other"])
def test_a_request_adds_no_category_for_all_and_none_for_another_user(
    three_categories: tuple[int, int], owner: str
) -> None:
    statement = text(f"INSERT INTO categories (name, user_id) VALUES ('mine', {owner})")
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        session_for_user(three_categories[0]) as session,
    ):
        session.execute(statement, {"other": three_categories[1]} if owner == ":other" else {})


@pytest.mark.parametrize("owner", ["NULL", ":other"])
def test_a_request_gives_its_category_neither_to_all_nor_to_another_user(
    three_categories: tuple[int, int], owner: str
) -> None:
    statement = text(f"UPDATE categories SET user_id = {owner} WHERE name = 'one'")
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        session_for_user(three_categories[0]) as session,
    ):
        session.execute(statement, {"other": three_categories[1]} if owner == ":other" else {})


@pytest.fixture
def three_models(two_users: tuple[int, int], admin_connection: psycopg.Connection) -> tuple[int, int]:
    """A champion of each user's own category set, and one of the shared set, whose version is 3."""
    for version, owner in enumerate([*two_users, None], start=1):
        admin_connection.execute(
            """
            WITH run AS (
                INSERT INTO ml_training_runs (status, user_id) VALUES ('succeeded', %(owner)s) RETURNING run_id
            ), version AS (
                INSERT INTO model_versions (version, user_id, run_id, sha256, artefact_name, mlflow_run_id, recipe)
                SELECT %(version)s, %(owner)s, run_id, repeat('0', 64), %(version)s::text, 'x', 'x' FROM run
            )
            INSERT INTO model_deployments (user_id, role, action, version, actor, reason)
            VALUES (%(owner)s, 'champion', 'promote', %(version)s, 'x', 'x')
            """,
            {"owner": owner, "version": version},
        )
    return two_users


@pytest.mark.parametrize(
    ("table", "key"), [("model_versions", "version"), ("model_deployments", "version"), ("ml_training_runs", "run_id")]
)
def test_a_request_sees_the_models_of_the_category_set_that_its_user_has(
    three_models: tuple[int, int], admin_connection: psycopg.Connection, table: str, key: str
) -> None:
    def seen() -> list[list[int]]:
        found = []
        for user_id in three_models:
            with session_for_user(user_id) as session:
                found.append(list(session.scalars(text(f"SELECT {key} FROM {table}"))))
        return found

    one, _ = three_models
    assert seen() == [[3], [3]], "both have the shared set"
    admin_connection.execute("UPDATE users SET own_categories = true WHERE id = %s", [one])
    assert seen() == [[1], [3]]
    admin_connection.execute("UPDATE users SET own_categories = false, is_demo = true WHERE id = %s", [one])
    assert seen() == [[1], [3]], "a demo's is its own, whatever its categories are"
    with session_for_jobs() as session:
        assert set(session.scalars(text(f"SELECT {key} FROM {table}"))) == {1, 2, 3}


@pytest.mark.parametrize("table", ["model_versions", "model_deployments", "ml_training_runs"])
def test_a_connection_that_names_no_user_or_one_that_is_gone_sees_no_models(
    three_models: tuple[int, int], table: str
) -> None:
    count = text(f"SELECT count(*) FROM {table}")
    with Session(get_engine("app")) as session:
        assert session.execute(count).scalar_one() == 0
    with session_for_user(max(three_models) + 1) as session:
        assert session.execute(count).scalar_one() == 0


@pytest.mark.parametrize("role", ["app", "jobs"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model_deployments SET version = 3",
        "DELETE FROM model_deployments",
        "UPDATE model_versions SET sha256 = repeat('1', 64)",
        "DELETE FROM model_versions",
        "TRUNCATE model_deployments",
    ],
)
def test_nobody_rewrites_what_was_decided_about_models(
    three_models: tuple[int, int], role: Literal["app", "jobs"], statement: str
) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        Session(get_engine(role), info={"user_id": three_models[0]}) as session,
        session.begin(),
    ):
        session.execute(text(statement))


def test_with_a_user_go_their_models_and_no_others(
    three_models: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    with session_for_jobs() as session:
        session.execute(text("DELETE FROM users WHERE id = :id"), {"id": three_models[0]})
    for table in ("ml_training_runs", "model_versions", "model_deployments"):
        left = admin_connection.execute(f"SELECT user_id FROM {table}".encode()).fetchall()
        assert set(left) == {(three_models[1],), (None,)}, table


def test_the_user_of_one_transaction_is_forgotten_by_the_next(two_users: tuple[int, int]) -> None:
    pid = text("SELECT pg_backend_pid()")
    get_engine("app").dispose()  # of several connections the pool could give another one next
    with session_for_user(two_users[0]) as session:
        assert session.query(Transaction).count() == 1
        first: int = session.execute(pid).scalar_one()
    with Session(get_engine("app")) as session:
        assert session.execute(pid).scalar_one() == first, "the pool gave another connection; nothing was proved"
        assert session.query(Transaction).count() == 0


@pytest.mark.parametrize(
    "statement",
    [
        """
        INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
        VALUES (:other, 'a', '2025-01-01', 1, 'x', 'x')
        """,
        "INSERT INTO transaction_labels SELECT max(id) + 1, 'x', 'human' FROM transactions",
        "UPDATE transactions SET amount = 0",
        "UPDATE transactions SET description = 'mine'",
        "DELETE FROM transactions",
        "INSERT INTO label_events (txn_id, user_id, label) VALUES (1, 1, 'x')",
        "SELECT password_hash FROM user_passwords",
        "DELETE FROM credentials",
        "UPDATE credentials SET scope = 'write'",
        "UPDATE category_names SET shown_as = 'z'",
        "UPDATE rule_revisions SET category = 'z'",
        "DELETE FROM rules",
        "UPDATE suggestion_events SET candidates = '[]'",
        "DELETE FROM suggestion_feedback",
        "INSERT INTO shared_merchant_priors VALUES ('x', 'x', 3, 3)",
        """
        INSERT INTO model_deployments (user_id, role, action, version, actor, reason)
        VALUES (:other, 'champion', 'promote', 1, 'x', 'x')
        """,
        "UPDATE label_events SET label = 'x'",
        "DELETE FROM label_events",
        "DELETE FROM ml_training_runs",
        "UPDATE ml_training_runs SET notes = 'x'",
        "SELECT * FROM marts.dim_merchants",
        "CREATE TABLE mine (id int)",
        "SET ROLE lm_owner",
    ],
)
def test_a_request_cannot_write_elsewhere_change_what_the_bank_said_or_leave_its_role(
    two_users: tuple[int, int], statement: str
) -> None:
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|row-level security|must be|violates"),
        session_for_user(two_users[0]) as session,
    ):
        session.execute(text(statement), {"other": two_users[1]} if ":other" in statement else {})


def test_every_table_of_users_rows_has_row_level_security_on(admin_connection: psycopg.Connection) -> None:
    unguarded = admin_connection.execute("""
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT relrowsecurity ORDER BY relname
    """).fetchall()
    # These hold nothing that is anybody's: requests have no grant on the first, and the last counts users.
    assert [name for (name,) in unguarded] == ["alembic_version", "shared_merchant_priors"]


def test_get_db_gives_the_local_user_s_session(
    two_users: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    assert two_users
    local = own_rows(admin_connection, "local")
    with contextmanager(get_db)() as db:
        transaction = db.query(Transaction).one()
        assert transaction.user_id == local
        assert transaction.label is not None
        assert transaction.label.label == "Groceries"
        assert transaction.features is not None
        assert transaction.features.tokens == ["x"]
