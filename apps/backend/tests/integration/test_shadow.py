"""A challenger proves itself without touching anyone: it is told what the champion was told, and nobody sees it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import psycopg
import pytest
from processes import METRICS_TOKEN, server, wait_until
from prometheus_client import REGISTRY

from app.db import session_for_jobs, session_for_user
from app.ml.tracking import artefact_root
from app.services import deployments, shadow
from app.services.credentials import new_token
from app.services.served_models import SERVER
from app.services.shadow import ShadowScorer
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
AT_ONCE = -1.0  # an event need not be old


@pytest.fixture(autouse=True)
def _fresh_server() -> Iterator[None]:
    """Versions of another test's database have the same numbers."""
    yield
    SERVER.__init__()  # type: ignore[misc]


def promote(ledger: Ledger, version: int) -> None:
    with session_for_jobs() as session:
        deployments.promote(session, ledger.user_id, version, **BECAUSE)


def challenge(ledger: Ledger, version: int) -> None:
    with session_for_jobs() as session:
        deployments.challenge(session, ledger.user_id, version, **BECAUSE)


@pytest.fixture
def rivals(labelled: Ledger, train_version: Callable[[Ledger], int]) -> tuple[int, int]:
    """The champion, and a challenger that has learnt a category more."""
    champion = train_version(labelled)
    promote(labelled, champion)
    labelled.add(*[f"2025-01-{day:02},GARDEN SHOP,-2.50,card,Allotment" for day in range(1, 6)])
    challenger = train_version(labelled)
    challenge(labelled, challenger)
    return champion, challenger


@pytest.fixture
def asked(labelled: Ledger) -> list[int]:
    """Transactions of merchants that are settled, torn, new, and of the further category."""
    shops = ("ALDI 0077 YORK", "CORNER SHOP", "QQZZ UNHEARD OF", "GARDEN SHOP", "SHELL YORK")
    return labelled.add(*[f"2025-02-0{day},{shop},-9.00,card," for day, shop in enumerate(shops, 1)])


def shadows(connection: psycopg.Connection) -> list[dict[str, Any]]:
    cursor = connection.execute("SELECT * FROM suggestion_events WHERE source = 'shadow' ORDER BY served_event_id")
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"lm_shadow_{name}_total") or 0.0


def test_what_a_challenger_would_have_said_is_what_it_says_as_champion(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection
) -> None:
    _, challenger = rivals
    made = suggest_now(labelled.user_id, asked, min_confidence=0.3).suggestions
    assert ShadowScorer().score_waiting(settling=AT_ONCE) == len(asked)
    logged = shadows(admin_connection)
    assert [(row["served_event_id"], row["txn_id"]) for row in logged] == [
        (each.event_id, each.txn_id) for each in made
    ]
    assert {(row["model_version"], row["user_id"], row["mode"]) for row in logged} == {
        (str(challenger), labelled.user_id, "auto")
    }
    promote(labelled, challenger)
    served = suggest_now(labelled.user_id, asked, min_confidence=0.3).suggestions
    for row, each in zip(logged, served, strict=True):
        said = {candidate["label"]: candidate["confidence"] for candidate in row["candidates"]}
        assert said == pytest.approx({c.label: c.confidence for c in each.candidates}, abs=1.5e-4)
    assert any(row["candidates"] for row in logged)
    assert any(not row["candidates"] for row in logged)


def test_a_first_challenger_is_asked_beside_the_heuristics(
    labelled: Ledger, train_version: Callable[[Ledger], int], asked: list[int], admin_connection: psycopg.Connection
) -> None:
    challenger = train_version(labelled)
    challenge(labelled, challenger)
    made = suggest_now(labelled.user_id, asked).suggestions
    assert {each.source for each in made} == {"rule"}
    assert ShadowScorer().score_waiting(settling=AT_ONCE) == len(asked)
    (first, *_) = shadows(admin_connection)
    assert first["candidates"][0]["label"] == made[0].candidates[0].label


def test_killed_and_begun_again_nothing_is_written_twice_or_left_out(
    labelled: Ledger,
    rivals: tuple[int, int],
    asked: list[int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rivals
    monkeypatch.setattr(shadow, "AT_ONCE", 2)
    suggest_now(labelled.user_id, asked)
    assert ShadowScorer().score_waiting(settling=AT_ONCE) == 2
    again = ShadowScorer()
    while again.score_waiting(settling=AT_ONCE):
        pass
    assert len(shadows(admin_connection)) == len(asked)
    suggest_now(labelled.user_id, asked[:1])
    assert again.score_waiting(settling=AT_ONCE) == 1


def test_a_suggestion_that_may_not_be_over_yet_waits(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int]
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)
    assert ShadowScorer().score_waiting(settling=3600) == 0


def test_where_it_cannot_keep_up_it_skips_and_counts(
    labelled: Ledger,
    rivals: tuple[int, int],
    asked: list[int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rivals
    monkeypatch.setattr(shadow, "LOOK_SECONDS", 0.0)
    suggest_now(labelled.user_id, asked)
    scorer = ShadowScorer()
    assert scorer.score_waiting(settling=3600) == 0
    admin_connection.execute("UPDATE suggestion_events SET created_at = created_at - interval '1 minute'")
    suggest_now(labelled.user_id, asked[:2])
    before = counted("dropped")
    assert scorer.score_waiting(settling=AT_ONCE) == 2
    assert counted("dropped") == before + len(asked)
    assert len(shadows(admin_connection)) == 2


def test_a_challenger_that_fails_is_counted_and_holds_up_nobody(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)
    scorer, before = ShadowScorer(), counted("failed")

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(shadow, "score_by_another", fail)
        scorer.score_waiting(settling=AT_ONCE)
    assert counted("failed") == before + len(asked)
    suggest_now(labelled.user_id, asked)
    assert scorer.score_waiting(settling=AT_ONCE) == len(asked)
    assert counted("failed") == before + len(asked)


# --- beside a server -------------------------------------------------------------------------------------------------


@pytest.fixture
def token(labelled: Ledger) -> str:
    """What a program of the ledger's owner shows."""
    with session_for_user(labelled.user_id) as session:
        return new_token(session, labelled.user_id, name="test", scope="write").secret


def bodies(api: str, token: str, asked: list[int]) -> list[str]:
    """Ask for all at once and for each alone; give the answers without the events' numbers."""
    found = []
    for txn_ids in (asked, *([each] for each in asked)):
        answer = httpx2.post(
            f"http://{api}/suggestions",
            json={"txn_ids": txn_ids},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        found.append(re.sub(r'"event_id":\d+', '"event_id":0', answer.text))
    return found


def every_suggestion_has_its_shadow(connection: psycopg.Connection) -> bool:
    count = "SELECT count(*) FILTER (WHERE source = 'shadow'), count(*) FROM suggestion_events"
    shadow_events, events = connection.execute(count).fetchone() or (0, 0)
    return 2 * shadow_events == events


def shadow_processes() -> list[int]:
    """Find the processes that score challengers for a server that this test has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            environment = (path.parent / "environ").read_bytes()
        except OSError:
            continue
        if b"app.jobs.shadow" in command and os.environ["LM_DATA_DIR"].encode() in environment:
            found.append(int(path.parent.name))
    return found


def metric(api: str, name: str) -> float:
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    text = httpx2.get(f"http://{api}/metrics", headers=headers, timeout=10).text
    return sum(float(value) for value in re.findall(rf"^{name} (\S+)$", text, re.MULTILINE))


def test_answers_are_the_same_with_shadow_on_off_stopped_failing_and_out_of_memory(
    rivals: tuple[int, int], asked: list[int], token: str, admin_connection: psycopg.Connection
) -> None:
    _, challenger = rivals
    with server(LM_SHADOW="false") as api:
        off = bodies(api, token, asked)
        assert not shadow_processes()
    with server(workers=2) as api:
        wait_until(shadow_processes)
        assert bodies(api, token, asked) == off
        wait_until(lambda: every_suggestion_has_its_shadow(admin_connection))
        assert metric(api, "lm_shadow_scored_total") == len(shadows(admin_connection))
        (stopped,) = shadow_processes()
        os.kill(stopped, signal.SIGSTOP)
        assert bodies(api, token, asked) == off
        os.kill(stopped, signal.SIGKILL)
        assert bodies(api, token, asked) == off
        wait_until(lambda: shadow_processes() not in ([], [stopped]))
        assert metric(api, "lm_shadow_restarts_total") == 1
        # It takes up where the other one was killed.
        wait_until(lambda: every_suggestion_has_its_shadow(admin_connection))
    wait_until(lambda: not shadow_processes())
    with server(LM_SHADOW_MEMORY_MIB="1") as api:
        wait_until(lambda: metric(api, "lm_shadow_restarts_total") > 0)
        assert bodies(api, token, asked) == off
    name = admin_connection.execute(
        "SELECT artefact_name FROM model_versions WHERE version = %s", [challenger]
    ).fetchone() or ("",)
    (artefact_root() / name[0]).write_bytes(b"no model")
    with server() as api:
        assert bodies(api, token, asked) == off
        wait_until(lambda: metric(api, "lm_shadow_failed_total") > 0)
        assert bodies(api, token, asked) == off
