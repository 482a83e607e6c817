"""`lm models` on a terminal: lists, decisions, and what it says where there is nothing."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import app as lm
from app.db import session_for_jobs
from app.errors import ArtefactRefused, Conflict, NotFound
from app.ml.tracking import artefact_root, open_tracking
from app.services.installation import ensure_user

if TYPE_CHECKING:
    from collections.abc import Callable


def run(*arguments: str, typed: str = "") -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(lm, ["models", *arguments], input=typed)


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def champion() -> int | None:
    listed = json.loads(printed("list", "--json"))
    return next((row["version"] for row in listed if row["role"] == "champion"), None)


def test_without_a_model_it_says_what_makes_one(user_id: int) -> None:
    assert user_id
    assert "No model yet: `lm train`" in printed("list")
    assert "Nothing was decided yet" in printed("history")
    assert (json.loads(printed("list", "--json")), json.loads(printed("history", "--json"))) == ([], [])
    assert isinstance(run("show", "1").exception, NotFound)
    assert isinstance(run("promote", "1").exception, NotFound)
    assert isinstance(run("rollback").exception, Conflict)


def test_versions_are_promoted_and_taken_back_with_who_and_why(user_id: int, make_version: Callable[..., int]) -> None:
    assert user_id
    first, second = make_version(), make_version()
    assert champion() is None
    assert f"Version {first} is the champion now." in printed("promote", str(first))
    said = printed("promote", str(second), "--reason", "Fewer mistakes.", "--by", "ada")
    assert f"Version {second} is the champion now; it was version {first}." in said
    assert champion() == second
    client, _ = open_tracking()
    assert client.get_registered_model("transaction-category").aliases == {"champion": second}
    assert f"it was version {second}" in printed("rollback", "--reason", "It surprised people.")
    assert champion() == first
    decisions = json.loads(printed("history", "--json"))
    assert [(row["action"], row["version"], row["actor"], row["reason"]) for row in decisions] == [
        ("rollback", first, getpass.getuser(), "It surprised people."),
        ("promote", second, "ada", "Fewer mistakes."),
        ("promote", first, getpass.getuser(), "By hand."),
    ]
    assert "Fewer mistakes." in printed("history")


def test_a_version_is_shown_with_schema_libraries_classes_hash_metrics_and_decisions(
    user_id: int, make_version: Callable[..., int]
) -> None:
    assert user_id
    version = make_version()
    printed("promote", str(version))
    with session_for_jobs() as session:
        sha256 = session.execute(text("SELECT sha256 FROM model_versions")).scalar_one()
    shown = printed("show", str(version))
    for part in ("champion", "norm_desc: String", "numpy 2", "Fuel, Groceries", sha256, "0.0200", "gate.passed"):
        assert part in shown
    assert "promote" in shown
    details = json.loads(printed("show", str(version), "--json"))
    assert details["card"]["classes"] == ["Fuel", "Groceries"]
    assert details["metrics"] == {"ece": 0.02, "gate": {"passed": True}}
    assert (details["row"]["role"], details["refusal"]) == ("champion", None)
    assert [row["action"] for row in details["deployments"]] == ["promote"]


def test_a_broken_file_is_shown_as_refused_and_not_promoted(user_id: int, make_version: Callable[..., int]) -> None:
    assert user_id
    version = make_version()
    name = json.loads(printed("list", "--json"))[0]["artefact_name"]
    (artefact_root() / name).write_bytes(b"\x80\x04N.")
    shown = run("show", str(version))
    assert shown.exit_code == 0
    assert "SHA-256 differs" in shown.stderr
    refused = run("promote", str(version)).exception
    assert isinstance(refused, ArtefactRefused)
    assert refused.exit_code == 4
    assert champion() is None


def test_a_user_s_own_categories_have_their_own_models(make_version: Callable[..., int]) -> None:
    ada, bob = ensure_user("ada"), ensure_user("bob")
    with session_for_jobs() as session:
        session.execute(text("UPDATE users SET own_categories = true WHERE id = :id"), {"id": ada})
    shared, own = make_version(), make_version(ada)
    printed("promote", str(own), "--user", "ada")
    assert isinstance(run("promote", str(own), "--user", "bob").exception, NotFound)
    assert [row["version"] for row in json.loads(printed("list", "--json", "--user", "bob"))] == [shared]
    assert [row["version"] for row in json.loads(printed("list", "--json", "--user", "ada"))] == [own]
    assert bob


@pytest.mark.parametrize("version", ["0", "-1", "x", str(2**63)])
def test_a_version_is_a_number_that_there_can_be(user_id: int, version: str) -> None:
    assert user_id
    assert run("show", version).exit_code == 2
