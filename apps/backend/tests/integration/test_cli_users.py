"""Whom a command acts for, and what the command line says where it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import app as lm
from app.cli.who import acting_user
from app.config import BACKEND_DIR, get_settings
from app.db import session_for_jobs
from app.errors import InvalidInput, NotFound
from app.services.installation import ensure_user

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def statement(database: str, tmp_path: Path) -> str:
    assert database
    path = tmp_path / "statement.csv"
    path.write_text("date,description,amount\n2025-03-01,ALDI 0041,-3.50\n")
    return str(path)


def run(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(lm, arguments, input=typed)


def names() -> list[str]:
    with session_for_jobs() as session:
        return list(session.execute(text("SELECT name FROM users ORDER BY name")).scalars())


def owners() -> list[str]:
    with session_for_jobs() as session:
        query = text("SELECT users.name FROM transactions INNER JOIN users ON users.id = transactions.user_id")
        return list(session.execute(query).scalars())


@pytest.mark.parametrize(
    "command",
    [
        ("categories", "list"),
        ("ingest", "FILE"),
        ("merchants", "list"),
        ("rules", "list"),
        ("suggest",),
        ("token", "new"),
        ("transactions", "list"),
    ],
    ids=lambda words: words[0],
)
def test_a_mistyped_user_is_refused_and_added_by_no_command(statement: str, command: tuple[str, ...]) -> None:
    ensure_user("ada")
    words = [statement if word == "FILE" else word for word in command]
    refused = run(*words, "--user", "adda").exception
    assert isinstance(refused, NotFound)
    assert "lm user add" in str(refused)
    assert run(*words).exit_code == 0
    assert names() == ["ada"]


def test_without_a_name_the_local_user_comes_before_others(database: str) -> None:
    assert database
    ensure_user("ada")
    local = ensure_user(get_settings().local_user)
    assert acting_user(None) == local


def test_without_a_name_the_local_user_is_added_where_there_is_nobody(database: str) -> None:
    assert database
    acting_user(None)
    assert names() == [get_settings().local_user]


def test_a_demo_counts_where_there_is_nobody_else(database: str) -> None:
    assert database
    demo = ensure_user("demo", is_demo=True)
    assert acting_user(None) == demo
    ada = ensure_user("ada")
    assert acting_user(None) == ada


def test_a_statement_goes_into_a_demo_only_where_it_is_named(statement: str) -> None:
    ensure_user("demo", is_demo=True)
    assert run("ingest", statement).exit_code == 0
    assert owners() == [get_settings().local_user]
    assert run("ingest", statement, "--user", "demo").exit_code == 0
    assert sorted(owners()) == ["demo", get_settings().local_user]


def test_of_several_users_one_must_be_named(database: str) -> None:
    assert database
    ensure_user("ada")
    bob = ensure_user("bob")
    with pytest.raises(InvalidInput, match="--user"):
        acting_user(None)
    assert acting_user("bob") == bob
    assert names() == ["ada", "bob"]


def test_an_empty_password_from_standard_input_adds_nobody(database: str) -> None:
    assert database
    for typed in ("", "\n"):
        assert isinstance(run("user", "add", "ada", "--password-stdin", typed=typed).exception, InvalidInput)
    assert names() == []


@pytest.mark.parametrize(
    ("variables", "said", "exit_code"),
    [
        ({"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/finance"}, "PostgreSQL cannot be reached", 3),
        ({"LM_SESSION_HOURS": "zebra", "LM_DB_PORT": "zebra"}, "LM_DB_PORT, LM_SESSION_HOURS;", 2),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_sentence(
    database: str, variables: dict[str, str], said: str, exit_code: int
) -> None:
    assert database
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "65123"],
        cwd=BACKEND_DIR,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(hidden in done.stderr for hidden in ("zebra", "secret"))
