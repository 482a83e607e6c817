"""Diff my ledger: what another champion would suggest otherwise, shown before anything is promoted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.db import session_for_jobs, session_for_user
from app.errors import ArtefactRefused, NotFound
from app.ml.tracking import artefact_root
from app.services import deployments
from app.services.labels import write_labels
from app.services.model_preview import preview_version
from app.services.rules import RuleDraft, add_rule
from app.services.served_models import SERVER
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from fastapi.testclient import TestClient

    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}


@pytest.fixture(autouse=True)
def _fresh_server() -> Iterator[None]:
    """Versions of another test's database have the same numbers."""
    yield
    SERVER.__init__()  # type: ignore[misc]


@pytest.fixture
def rivals(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> tuple[int, int]:
    """The champion, and a version that has learnt that ALDI sells fuel from labels that are gone again."""
    champion = train_version(labelled)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, champion, **BECAUSE)
    ids = labelled.add(*[f"2025-01-{day:02},ALDI {day} MARKET,-{day}.50,card,Fuel" for day in range(1, 29)])
    other = train_version(labelled)
    with session_for_user(labelled.user_id) as session:
        write_labels(session, dict.fromkeys(ids, "Groceries"), source="human")
    admin_connection.execute("UPDATE transactions SET deleted_at = now() WHERE id = ANY(%s)", [ids])
    admin_connection.execute("DELETE FROM transaction_labels WHERE txn_id = ANY(%s)", [ids])
    # So that doubts are no reason to say nothing.
    admin_connection.execute("UPDATE users SET min_confidence = 0.3")
    return champion, other


def test_every_change_is_one_that_asking_both_would_show(labelled: Ledger, rivals: tuple[int, int]) -> None:
    champion, other = rivals
    ids = labelled.add(
        *[f"2025-02-{day:02},{shop},-{day}.25,card," for day in (1, 9) for shop in ("ALDI 3 MARKET", "SHELL YORK")]
    )
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {ids[0]: "Groceries"}, source="human")
    found = preview_version(labelled.user_id, other, days=9)
    assert (found.version, found.champion, found.transactions, str(found.until)) == (other, champion, 4, "2025-02-09")
    changes = {change.txn_id: change for merchant in found.merchants for change in merchant.suggestions}
    assert found.changed == len(changes)
    before = {each.txn_id: each for each in suggest_now(labelled.user_id, ids).suggestions}
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, other, **BECAUSE)
    after = {each.txn_id: each for each in suggest_now(labelled.user_id, ids).suggestions}
    differing = {
        txn_id
        for txn_id in ids
        if [each.label for each in before[txn_id].candidates[:1]]
        != [each.label for each in after[txn_id].candidates[:1]]
    }
    assert set(changes) == differing
    assert differing
    for txn_id, change in changes.items():
        assert change.before == next((each.label for each in before[txn_id].candidates), None)
        assert change.after == next((each.label for each in after[txn_id].candidates), None)
    assert sum(merchant.amount for merchant in found.merchants) == sum(abs(each.amount) for each in changes.values())


def test_a_change_is_held_against_the_label_that_the_person_gave(labelled: Ledger, rivals: tuple[int, int]) -> None:
    champion, other = rivals
    (new,) = labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,Groceries")
    forth = preview_version(labelled.user_id, other, days=1)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, other, **BECAUSE)
    back = preview_version(labelled.user_id, champion, days=1)
    verdicts = [
        change.verdict
        for found in (forth, back)
        for merchant in found.merchants
        for change in merchant.suggestions
        if change.txn_id == new
    ]
    assert verdicts in (["right → wrong", "wrong → right"], ["wrong → right", "right → wrong"])
    assert (forth.right_to_wrong, forth.wrong_to_right) == (back.wrong_to_right, back.right_to_wrong)


def test_what_a_rule_decides_stays_and_a_version_changes_nothing_beside_itself(
    labelled: Ledger, rivals: tuple[int, int]
) -> None:
    champion, other = rivals
    labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,")
    assert preview_version(labelled.user_id, champion, days=90).changed == 0
    condition = {"match": "all", "conditions": [{"field": "description", "operator": "contains", "value": "aldi"}]}
    draft = {"name": "aldi", "condition": condition, "category": "Household", "priority": 0}
    with session_for_user(labelled.user_id) as session:
        add_rule(session, labelled.user_id, RuleDraft.model_validate(draft))
    found = preview_version(labelled.user_id, other, days=1)
    assert (found.transactions, found.by_rule, found.changed) == (1, 1, 0)


def test_without_a_champion_the_heuristics_are_compared_with(
    labelled: Ledger, train_version: Callable[[Ledger], int]
) -> None:
    version = train_version(labelled)
    labelled.add("2025-02-01,ALDI 0041 LEEDS,-3.25,card,")
    found = preview_version(labelled.user_id, version, days=1)
    assert (found.champion, found.transactions, found.changed) == (None, 1, 0)


def test_a_version_that_is_not_there_or_broken_is_refused(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    _, other = rivals
    with pytest.raises(NotFound):
        preview_version(labelled.user_id, 99_999, days=90)
    find = "SELECT artefact_name FROM model_versions WHERE version = %s"
    (name,) = admin_connection.execute(find, [other]).fetchone() or ("",)
    (artefact_root() / name).write_bytes(b"no model")
    with pytest.raises(ArtefactRefused):
        preview_version(labelled.user_id, other, days=90)


def test_the_command_the_api_and_a_promotion_show_the_same(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, client: TestClient
) -> None:
    _, other = rivals
    labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,")
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    answer = client.get(f"/models/{other}/preview", params={"days": 1})
    assert answer.status_code == 200, answer.text
    shown = run("models", "preview", str(other), "--days", "1", "--json", "--user", "somebody")
    assert json.loads(shown) == json.loads(answer.text) | {"merchants": json.loads(shown)["merchants"]}
    listed = client.get("/models").json()
    assert [(row["version"], row["role"]) for row in listed] == [(other, None), (rivals[0], "champion")]
    assert "would suggest something else" in run("models", "preview", str(other), "--user", "somebody")
    promoted = run("models", "promote", str(other), "--user", "somebody")
    assert promoted.index("would suggest something else") < promoted.index("is the champion now")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return str(done.stdout)
