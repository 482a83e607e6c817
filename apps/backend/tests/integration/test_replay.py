"""`lm replay` finds whatever comes out otherwise, and passes over nothing in silence."""

from __future__ import annotations

import datetime as dt
import gc
import json
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.db import session_for_jobs, session_for_user
from app.ml.artefact import encode_artefact
from app.ml.serving import serve_model
from app.ml.tracking import artefact_root
from app.services import deployments, replay
from app.services.model_versions import open_any_version
from app.services.replay import KEPT_TOO_LITTLE, NOTHING_LEFT, OTHER_FEATURES, replay_suggestions
from app.services.rules import RuleDraft, add_rule
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from app.ml.category_model import CategoryModel
    from app.ml.serving import ServedModel
    from app.services.answering import Mode
    from app.services.suggestions import Suggestion
    from tests.integration.conftest import Ledger

LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
ALDI = "2025-02-01,ALDI 0077 YORK,-9.00,card,"


def suggested(ledger: Ledger, row: str = ALDI, **options: Any) -> Suggestion:
    (made,) = suggest_now(ledger.user_id, ledger.add(row), **options).suggestions
    return made


def promote(ledger: Ledger, version: int) -> None:
    with session_for_jobs() as session:
        deployments.promote(session, ledger.user_id, version, actor="a test", reason="to see")


def write_rule(ledger: Ledger) -> None:
    condition = {"match": "all", "conditions": [{"field": "description", "operator": "contains", "value": "0077"}]}
    draft = {"name": "that shop", "condition": condition, "category": "Household", "priority": 0}
    with session_for_user(ledger.user_id) as session:
        add_rule(session, ledger.user_id, RuleDraft.model_validate(draft))


def spoil(connection: psycopg.Connection, made: Suggestion, change: str) -> None:
    done = connection.execute(f"UPDATE suggestion_events SET {change} WHERE id = %s".encode(), [made.event_id])
    assert done.rowcount == 1


def run(*options: str) -> Result:
    return CliRunner().invoke(app, ["replay", "--since", "2000-01-01", *(options or ("--user", "somebody"))])


# --- what comes out otherwise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("candidates = jsonb_set(candidates, '{0,label}', '\"Fishing\"')", "categories"),
        ("candidates = jsonb_set(candidates, '{0,label}', '\"Fuel\"')", "categories"),
        ("candidates = jsonb_set(candidates, '{0,confidence}', '0.5')", "confidence"),
        ("candidates = '[]'", "categories"),
        ("inputs = jsonb_set(inputs, '{evidence}', '[]')", "categories"),
        ("inputs = jsonb_set(inputs, '{evidence,0,label}', '\"Fishing\"')", "categories"),
        ("inputs = jsonb_set(inputs, '{strengths,merchant}', '1')", "confidence"),
    ],
)
def test_a_wrong_suggestion_of_the_heuristics_is_reported(
    labelled: Ledger, admin_connection: psycopg.Connection, change: str, what: str
) -> None:
    made = suggested(labelled)
    assert (made.source, made.candidates[0].label) == ("rule", "Groceries")
    assert run().exit_code == 0
    spoil(admin_connection, made, change)
    found = replay_suggestions(LONG_AGO)
    assert ([(each.event_id, each.what) for each in found.first], found.missing) == ([(made.event_id, what)], {})
    assert run().exit_code == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("candidates = jsonb_set(candidates, '{0,label}', '\"Fishing\"')", "categories"),
        ("inputs = jsonb_set(inputs, '{rule,category}', '\"Fishing\"')", "categories"),
        ("inputs = jsonb_set(inputs, '{rule,confidence}', '0.9')", "confidence"),
    ],
)
def test_a_wrong_suggestion_of_a_rule_is_reported(
    labelled: Ledger, admin_connection: psycopg.Connection, change: str, what: str
) -> None:
    write_rule(labelled)
    made = suggested(labelled)
    assert made.candidates[0].label == "Household"
    assert run().exit_code == 0
    spoil(admin_connection, made, change)
    found = replay_suggestions(LONG_AGO)
    assert ([(each.event_id, each.what) for each in found.first], found.missing) == ([(made.event_id, what)], {})


@pytest.mark.parametrize("mode", ["heuristic", "model"])
def test_a_candidate_that_is_missing_at_the_end_is_reported(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection, mode: Mode
) -> None:
    promote(labelled, train_version(labelled))
    made = suggested(labelled, "2025-02-01,CORNER SHOP,-3.50,card,", mode=mode, min_confidence=0.0)
    assert len(made.candidates) > 1
    assert run().exit_code == 0
    spoil(admin_connection, made, "candidates = candidates - -1")
    assert [each.what for each in replay_suggestions(LONG_AGO).first] == ["categories"]


# --- what cannot be computed again -----------------------------------------------------------------------------------


def missing_of(*options: str) -> tuple[int, dict[str, int]]:
    """Run the command, which must warn where anything is missing; give its exit code and what is."""
    done = run(*(options or ("--user", "somebody")), "--json")
    told = json.loads(done.stdout)
    count = sum(told["missing"].values())
    assert (f"Warning: {count} of these suggestions were not computed again" in done.stderr) == bool(count)
    return done.exit_code, told["missing"]


def test_where_everything_came_out_again_nothing_is_missing(
    labelled: Ledger, train_version: Callable[[Ledger], int]
) -> None:
    write_rule(labelled)
    suggested(labelled)
    promote(labelled, train_version(labelled))
    suggested(labelled, "2025-02-01,SHELL YORK,-9.00,card,")
    assert json.loads(run("--user", "somebody", "--json").stdout)["events"] == {"rule": 1, "model": 1}
    assert missing_of() == (0, {})
    assert run().exit_code == 0


@pytest.mark.parametrize(
    "lacking",
    ["'{strengths}'", "'{evidence}'", "'{evidence,0,base}'", "'{min_confidence}'", "'{rule,category}'", "'{top_k}'"],
)
def test_fields_that_an_earlier_version_did_not_keep_are_missing_and_that_is_no_success(
    labelled: Ledger, admin_connection: psycopg.Connection, lacking: str
) -> None:
    write_rule(labelled)
    spoil(admin_connection, suggested(labelled), f"inputs = inputs #- {lacking}")
    assert missing_of() == (5, {KEPT_TOO_LITTLE: 1})


def test_the_same_is_so_of_a_model_s_fields(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> None:
    promote(labelled, train_version(labelled))
    for field in ("counts", "further", "min_confidence"):
        made = suggested(labelled, f"2025-02-01,ALDI {field},-9.00,card,")
        assert made.source == "model"
        spoil(admin_connection, made, f"inputs = inputs - '{field}'")
    assert missing_of() == (5, {KEPT_TOO_LITTLE: 3})


def test_what_was_made_from_features_of_another_version_is_missing_and_not_wrong(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    change = "features_hash = repeat('0', 32), inputs = jsonb_set(inputs, '{feature_version}', '0')"
    spoil(admin_connection, suggested(labelled), change)
    assert missing_of() == (5, {OTHER_FEATURES: 1})


def test_a_difference_weighs_more_than_what_is_missing(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    spoil(admin_connection, suggested(labelled), "inputs = inputs - 'strengths'")
    spoil(admin_connection, suggested(labelled, "2025-02-02,ALDI 0078,-9.00,card,"), "candidates = '[]'")
    assert missing_of() == (1, {KEPT_TOO_LITTLE: 1})


def test_a_version_that_cannot_be_opened_is_missing_and_that_is_no_success(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> None:
    version = train_version(labelled)
    promote(labelled, version)
    suggested(labelled)
    ((name,),) = admin_connection.execute("SELECT artefact_name FROM model_versions").fetchall()
    (artefact_root() / name).write_bytes(b"no model")
    code, missing = missing_of()
    ((reason, count),) = missing.items()
    assert (code, count, reason.startswith(f"Version {version}: ")) == (5, 1, True)
    assert "not computed again" in run().stdout


def test_a_version_whose_file_is_as_registered_and_nonsense_is_missing_too(
    labelled: Ledger, make_version: Callable[[int | None], int], admin_connection: psycopg.Connection
) -> None:
    version = make_version(labelled.user_id)
    promote(labelled, version)
    suggested(labelled)
    with session_for_jobs() as session:
        artefact = open_any_version(session, version)
    arrays = {name: array for name, array in artefact.arrays.items() if name != "wording.idf"}
    content = encode_artefact(arrays, artefact.header)
    change = "UPDATE model_versions SET sha256 = encode(sha256(%s), 'hex') RETURNING artefact_name"
    ((name,),) = admin_connection.execute(change, [content]).fetchall()
    (artefact_root() / name).write_bytes(content)
    code, missing = missing_of()
    assert (code, [reason.startswith(f"Version {version}: Its file cannot be read") for reason in missing]) == (
        5,
        [True],
    )


def test_suggestions_whose_person_was_erased_are_missing_for_whoever_asks_about_everybody(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], admin_connection: psycopg.Connection
) -> None:
    other = ledger_of("other")
    suggested(labelled)
    suggested(other)
    admin_connection.execute("DELETE FROM users WHERE id = %s", [other.user_id])
    assert missing_of("--everybody") == (5, {NOTHING_LEFT: 1})
    assert missing_of() == (0, {})


# --- what it takes ---------------------------------------------------------------------------------------------------


def test_few_versions_are_open_at_a_time(
    labelled: Ledger, train_version: Callable[[Ledger], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        promote(labelled, train_version(labelled))
        suggested(labelled, f"2025-02-01,ALDI {number},-9.00,card,")
    opened: list[weakref.ref[ServedModel]] = []
    most_open = 0

    def watched(model: CategoryModel, version: int) -> ServedModel:
        nonlocal most_open
        gc.collect()
        most_open = max(most_open, 1 + sum(each() is not None for each in opened))
        served = serve_model(model, version)
        opened.append(weakref.ref(served))
        return served

    monkeypatch.setattr(replay, "serve_model", watched)
    monkeypatch.setattr(replay, "MOST_OPEN", 2)
    found = replay_suggestions(LONG_AGO)
    assert (found.events, found.differing, found.missing) == ({"model": 4}, 0, {})
    assert len(opened) == 4
    # One more while it takes the place of another.
    assert most_open == 3
