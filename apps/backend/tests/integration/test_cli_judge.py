"""`lm models judge`: what it says of champion and challenger, and that it does what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from rivals import BECAUSE, BOTH_RIGHT, RIGHT_WRONG, WRONG_RIGHT, Served, log_suggestion, play, stem
from typer.testing import CliRunner

from app.cli import app as lm
from app.db import session_for_jobs, session_for_user
from app.services import deployments
from app.services.deployments import Current
from app.services.labels import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.integration.conftest import Ledger


def judged(*arguments: str) -> str:
    done = CliRunner().invoke(lm, ["models", "judge", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def current(ledger: Ledger) -> Current:
    with session_for_jobs() as session:
        return deployments.current(session, ledger.user_id)


@pytest.fixture
def rivals(labelled: Ledger, make_version: Callable[..., int]) -> tuple[int, int, int]:
    """A former champion, the champion and the challenger."""
    former, champion, challenger = (make_version(labelled.user_id) for _ in range(3))
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, former, **BECAUSE)
        deployments.promote(session, labelled.user_id, champion, **BECAUSE)
        deployments.challenge(session, labelled.user_id, challenger, **BECAUSE)
    return former, champion, challenger


def test_without_models_it_says_so(user_id: int) -> None:
    assert user_id
    said = judged("--apply")
    assert "There is no champion; the heuristics answer." in said
    assert "There is no challenger" in said
    assert json.loads(judged("--json")) == {"champion": None, "taken_back": None, "challenger": None}


def test_it_says_who_wins_the_disagreements_and_promotes_when_it_is_told_to(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    said = [WRONG_RIGHT] * 40 + [RIGHT_WRONG] * 2 + [BOTH_RIGHT] * 250
    play(admin_connection, labelled, Served(champion), challenger, said)
    told = judged()
    assert "Counting each of 292 merchants of users once" in told
    assert "40 for the challenger and 2 for the champion (e-value " in told
    assert "That is enough to make it champion." in told
    found: dict[str, Any] = json.loads(judged("--json"))["challenger"]
    evidence = found["evidence"]["disagreements"]
    assert (evidence["wins"], evidence["losses"], found["decision"]) == (40, 2, "promote")
    assert evidence["e_value"] > 1e6
    assert current(labelled) == Current(champion, challenger)
    judged("--apply")
    assert current(labelled) == Current(challenger, None)


def test_it_says_that_a_promise_is_broken_and_takes_the_champion_back_when_it_is_told_to(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    former, champion, challenger = rivals
    ids = labelled.add(*[f"2025-04-01,{stem(number)} SHOP,-{number}.00,card," for number in range(1, 91)])
    for txn_id in ids:
        log_suggestion(admin_connection, labelled, txn_id, ["Groceries"], Served(champion))
    with session_for_user(labelled.user_id) as session:
        write_labels(session, dict.fromkeys(ids, "Fuel"), source="human")
    assert "It does not keep its promise; `lm models judge --apply` takes it back." in judged()
    assert json.loads(judged("--json"))["champion"]["is_broken"] is True
    assert current(labelled) == Current(champion, challenger)
    assert f"was taken back. Version {former} is champion now." in judged("--apply")
    assert current(labelled) == Current(former, challenger)
