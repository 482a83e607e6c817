"""The champion answers: which one, from what, what happens where it cannot, and that all can be computed again."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from small_model import small_model
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import app
from app.config import get_settings
from app.db import database_url, session_for_jobs, session_for_user
from app.ml.artefact import encode_artefact
from app.ml.category_model import model_to_artefact
from app.ml.registry import TrainingRecord, log_training
from app.ml.serving import FEW_ROWS, open_model, score_rows
from app.ml.tracking import artefact_root
from app.request_pool import close_request_pool
from app.services import answering, deployments, model_answers, served_models
from app.services.categories import rename_or_merge
from app.services.credentials import new_token, revoke_token
from app.services.labels import remove_labels, write_labels
from app.services.model_versions import add_version
from app.services.replay import replay_suggestions
from app.services.rules import RuleDraft, add_rule
from app.services.served_models import SERVER, ModelServer
from app.services.suggestions import Suggestion, suggest, suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fastapi.testclient import TestClient

    from app.ml.evidence import Place
    from app.ml.serving import ServedModel
    from tests.integration.conftest import Ledger

LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
BECAUSE = {"actor": "a test", "reason": "to see"}


def promote(ledger: Ledger, version: int) -> None:
    with session_for_jobs() as session:
        deployments.promote(session, ledger.user_id, version, **BECAUSE)


def suggested(ledger: Ledger, txn_id: int, **options: Any) -> Suggestion:
    (made,) = suggest_now(ledger.user_id, [txn_id], **options).suggestions
    return made


def confidences(made: Suggestion) -> dict[str, float]:
    return {candidate.label: candidate.confidence for candidate in made.candidates}


def last_event(connection: psycopg.Connection) -> dict[str, Any]:
    cursor = connection.execute("SELECT * FROM suggestion_events ORDER BY id DESC LIMIT 1")
    names = [column.name for column in cursor.description or ()]
    return dict(zip(names, cursor.fetchone() or (), strict=True))


def fallbacks(reason: str) -> float:
    return REGISTRY.get_sample_value("lm_model_fallbacks_total", {"reason": reason}) or 0.0


# --- who answers -----------------------------------------------------------------------------------------------------


def test_the_champion_answers_and_its_event_says_from_what(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    made = suggested(labelled, new)
    assert (made.source, made.model_version, made.candidates[0].label) == ("model", str(champion), "Groceries")
    event = last_event(admin_connection)
    assert (event["source"], event["model_version"], event["mode"]) == ("model", str(champion), "auto")
    assert len(event["features_hash"]) == 32
    assert event["inputs"]["counts"]
    assert made.candidates[0].reasons


def test_what_speaks_for_a_payment_never_seen_is_its_words(labelled: Ledger, champion: int) -> None:
    assert champion
    known, new = labelled.add("2025-02-01,ALDI 0041 LEEDS,-9.00,card,", "2025-02-01,LEEDS ALDI ALDI,-9.00,joint,")
    (said, *_) = suggested(labelled, known, min_confidence=0.0).candidates
    assert said.reasons == ("This same payment was labelled Groceries 12 of 12 times.",)
    (best, *_) = suggested(labelled, new, min_confidence=0.0).candidates
    assert best.label == "Groceries"
    assert any('"aldi"' in reason for reason in best.reasons)


def test_where_the_heuristics_are_asked_for_they_answer(labelled: Ledger, champion: int) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    assert suggested(labelled, new, mode="heuristic").source == "rule"


def test_a_rule_of_one_s_own_wins_over_the_model(labelled: Ledger, champion: int) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    condition = {"match": "all", "conditions": [{"field": "description", "operator": "contains", "value": "0077"}]}
    draft = {"name": "that shop", "condition": condition, "category": "Household", "priority": 0}
    with session_for_user(labelled.user_id) as session:
        add_rule(session, labelled.user_id, RuleDraft.model_validate(draft))
    ruled = suggested(labelled, new)
    assert (ruled.source, ruled.candidates[0].label) == ("rule", "Household")
    assert suggested(labelled, new, mode="model").source == "model"


def test_the_command_says_who_answered(labelled: Ledger, champion: int) -> None:
    labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    told = CliRunner().invoke(app, ["suggest", "--user", "somebody"])
    assert told.exit_code == 0, told.output
    assert f"Answered: 1 by model version {champion}." in told.stdout
    with session_for_jobs() as session:
        deployments.retire_champion(session, labelled.user_id, **BECAUSE)
    told = CliRunner().invoke(app, ["suggest", "--user", "somebody"])
    assert "Answered: 1 by rules and counts." in told.stdout


def test_a_model_s_own_doubts_are_said_and_logged(labelled: Ledger, champion: int) -> None:
    strange, torn = labelled.add("2025-02-01,QQZZ UNHEARD OF,-9.00,card,", "2025-02-01,CORNER SHOP,-9.00,card,")
    made = suggested(labelled, strange, min_confidence=0.0)
    assert (made.source, made.model_version) == ("model", str(champion))
    assert (made.candidates, made.abstention) == ((), "no_candidate")
    unsure = suggested(labelled, torn, min_confidence=0.99)
    assert (unsure.candidates, unsure.abstention) == ((), "below_confidence")
    asked_for = suggested(labelled, torn, min_confidence=0.0)
    assert len(asked_for.candidates) == 3
    assert sum(confidences(asked_for).values()) <= 1.0001


def test_many_at_once_get_what_each_gets_alone(labelled: Ledger, champion: int) -> None:
    assert champion
    ids = labelled.add(*[f"2025-02-{day:02},SHOP {day} YORK,-{day}.00,card," for day in range(1, 29)])
    together = suggest_now(labelled.user_id, ids, min_confidence=0.0).suggestions
    assert len(ids) > FEW_ROWS
    for made in together:
        alone = suggested(labelled, made.txn_id, min_confidence=0.0)
        assert confidences(made) == pytest.approx(confidences(alone), abs=1.5e-4)


# --- what is known ---------------------------------------------------------------------------------------------------


def test_one_correction_moves_the_next_suggestion_and_taking_it_back_moves_it_back(
    labelled: Ledger, champion: int
) -> None:
    assert champion
    first, second = labelled.add("2025-02-01,CORNER SHOP,-3.50,card,", "2025-02-02,CORNER SHOP,-3.50,card,")
    before = confidences(suggested(labelled, second, min_confidence=0.0))
    loser = "Household" if next(iter(before)) == "Groceries" else "Groceries"
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {first: loser}, source="human")
    after = confidences(suggested(labelled, second, min_confidence=0.0))
    assert next(iter(after)) == loser
    assert after[loser] > before[loser]
    with session_for_user(labelled.user_id) as session:
        remove_labels(session, [first])
    assert confidences(suggested(labelled, second, min_confidence=0.0)) == before


def test_a_label_counts_however_late_the_transaction_that_wrote_it_ends(labelled: Ledger, champion: int) -> None:
    assert champion
    first, other, asked = labelled.add(*[f"2025-02-0{day},NEW SHOP,-3.50,card," for day in (1, 2, 3)])
    url = database_url("admin").set(drivername="postgresql").render_as_string(hide_password=False)
    write = "INSERT INTO transaction_labels (txn_id, label, source) VALUES (%s, 'Household', 'human')"
    with psycopg.connect(url) as slow:
        slow.execute(write, [first])
        # Another label is written and seen meanwhile; its event has the higher number.
        with session_for_user(labelled.user_id) as session:
            write_labels(session, {other: "Groceries"}, source="human")
        between = confidences(suggested(labelled, asked, min_confidence=0.0))
        slow.commit()
    after = confidences(suggested(labelled, asked, min_confidence=0.0))
    assert after["Household"] > between["Household"]


def test_a_transaction_s_own_label_is_no_evidence_for_itself(labelled: Ledger, champion: int) -> None:
    assert champion
    (only,) = labelled.add("2025-02-01,SEEN ONCE,-9.00,card,")
    before = confidences(suggested(labelled, only, min_confidence=0.0))
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {only: "Household"}, source="human")
    assert confidences(suggested(labelled, only, min_confidence=0.0)) == pytest.approx(before, abs=0.02)


def test_categories_are_suggested_under_the_names_of_today(labelled: Ledger, champion: int) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,CORNER SHOP,-3.50,card,")
    before = confidences(suggested(labelled, new, min_confidence=0.0))
    with session_for_user(labelled.user_id) as session:
        rename_or_merge(session, labelled.user_id, "Groceries", "Food")
    renamed = confidences(suggested(labelled, new, min_confidence=0.0))
    assert renamed.pop("Food") == before.pop("Groceries")
    assert renamed == before
    with session_for_user(labelled.user_id) as session:
        rename_or_merge(session, labelled.user_id, "Household", "Food")
    merged = confidences(suggested(labelled, new, min_confidence=0.0))
    assert set(merged) == {"Food", "Fuel"}
    assert merged["Food"] > 0.9
    assert replay_suggestions(LONG_AGO).differing == 0


def test_an_import_counts_at_once(labelled: Ledger, champion: int) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,HARBOUR CAFE,-3.50,card,")
    assert suggested(labelled, new, min_confidence=0.0).abstention == "no_candidate"
    labelled.add(*[f"2025-03-{day:02},HARBOUR CAFE,-3.50,card,Household" for day in range(1, 6)])
    assert suggested(labelled, new).candidates[0].label == "Household"


# --- where it cannot -------------------------------------------------------------------------------------------------


def test_without_a_champion_the_heuristics_answer_and_it_is_counted(
    labelled: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    before = fallbacks("none")
    monkeypatch.setattr(answering, "_without_champion", set())
    with caplog.at_level(logging.WARNING):
        assert suggested(labelled, new).source == "rule"
        assert suggested(labelled, new).source == "rule"
    assert fallbacks("none") == before + 2
    assert caplog.text.count(f"Category set {labelled.user_id} has no champion") == 1


def test_a_champion_whose_file_was_changed_answers_nobody(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    spoil(admin_connection, champion)
    before = fallbacks("broken")
    with caplog.at_level(logging.ERROR):
        made = suggested(labelled, new)
    assert (made.source, made.candidates[0].label, made.model_version) == ("rule", "Groceries", None)
    assert fallbacks("broken") == before + 1
    assert f"Model version {champion} answers nobody" in caplog.text
    # It is not tried again at once.
    caplog.clear()
    assert suggested(labelled, new).source == "rule"
    assert not caplog.text


def spoil(connection: psycopg.Connection, version: int) -> None:
    """Change one byte of a model's file."""
    (name,) = connection.execute(
        "SELECT artefact_name FROM model_versions WHERE version = %s", [version]
    ).fetchone() or ("",)
    path = artefact_root() / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("count", [1, 20])
def test_a_champion_that_fails_is_answered_for_and_left_alone(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    assert champion
    ids = labelled.add(*[f"2025-02-{day:02},ALDI 0077 YORK,-9.00,card," for day in range(1, count + 1)])
    asked = []

    def fail(*_: object) -> None:
        asked.append(1)
        raise MemoryError("ALDI 0077 YORK")

    SERVER.look_once(labelled.user_id)
    monkeypatch.setattr("app.services.model_answers.score_rows", fail)
    monkeypatch.setattr("app.ml.serving.score_rows", fail)
    before = fallbacks("broken")
    made = suggest_now(labelled.user_id, ids).suggestions
    assert {each.source for each in made} == {"rule"}
    assert fallbacks("broken") == before + len(ids)
    assert "ALDI" not in caplog.text
    assert suggest_now(labelled.user_id, ids).suggestions[0].source == "rule"
    assert len(asked) == 2  # the second to see whether it was for the transactions


def test_a_champion_that_fails_on_one_transaction_answers_the_others(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd, new = labelled.add("2025-02-01,ALDI 0041 LEEDS,-9.00,card,", "2025-02-02,ALDI 0077 YORK,-9.00,card,")

    def fail_on_one(served: ServedModel, places: Sequence[Place], *rest: Any) -> Any:
        if any("leeds" in place.norm_desc for place in places):
            raise ZeroDivisionError("ALDI 0041 LEEDS")
        return score_rows(served, places, *rest)

    monkeypatch.setattr("app.services.model_answers.score_rows", fail_on_one)
    before = fallbacks("failed"), fallbacks("broken")
    assert suggested(labelled, odd).source == "rule"
    assert suggested(labelled, new).model_version == str(champion)
    assert (fallbacks("failed"), fallbacks("broken")) == (before[0] + 1, before[1])
    assert f"model version {champion} fails on: ZeroDivisionError" in caplog.text
    assert "ALDI" not in caplog.text


def test_a_champion_that_is_slow_is_answered_for_and_left_alone_for_a_while(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    before = fallbacks("slow")
    monkeypatch.setattr(answering, "PATIENCE_SECONDS", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(model_answers, "score_rows", working(0.6))
        assert suggested(labelled, new).source == "model"  # nobody knows yet
        assert suggested(labelled, new).source == "rule"
    assert suggested(labelled, new).source == "rule"
    assert fallbacks("slow") == before + 2
    monkeypatch.setattr(time, "monotonic", lambda: time.perf_counter() + 1e6)
    assert suggested(labelled, new).model_version == str(champion)


def test_a_champion_that_has_to_wait_for_a_processor_is_not_left_alone_for_that(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = labelled.add(*[f"2025-02-{day:02},ALDI 0077 YORK,-9.00,card," for day in range(1, FEW_ROWS + 2)])
    before = fallbacks("slow")
    monkeypatch.setattr(answering, "PATIENCE_SECONDS", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(model_answers, "score_rows", waiting(0.5))
        assert {each.source for each in suggest_now(labelled.user_id, ids).suggestions} == {"rule"}
    assert fallbacks("slow") == before + len(ids)
    assert {each.model_version for each in suggest_now(labelled.user_id, ids).suggestions} == {str(champion)}


def test_a_champion_that_becomes_slow_holds_others_up_once(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was quick is asked without a thread; one that was not, in one, so that others are answered."""
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    monkeypatch.setattr(answering, "PATIENCE_SECONDS", 5.0)
    SERVER.look_once(labelled.user_id)
    assert SERVER.is_quick(champion)

    async def longest_hold_up() -> float:
        pause = 0.0

        async def watch() -> None:
            nonlocal pause
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.005)
                pause = max(pause, time.perf_counter() - began)

        watching = asyncio.ensure_future(watch())
        (made,) = (await suggest(labelled.user_id, [new])).suggestions
        watching.cancel()
        assert made.model_version == str(champion)
        return pause

    async def work() -> list[float]:
        await suggest(labelled.user_id, [new])
        with monkeypatch.context() as patch:
            patch.setattr(model_answers, "score_rows", working(0.6))
            slow = [await longest_hold_up() for _ in range(2)]
        assert not SERVER.is_quick(champion)
        await suggest(labelled.user_id, [new])
        assert SERVER.is_quick(champion)
        await close_request_pool()
        return slow

    first, second = asyncio.run(work())
    assert first > 0.55
    assert second < 0.4


def working(seconds: float) -> Callable[..., Any]:
    def score_slowly(*args: Any) -> Any:
        began = time.thread_time()
        while time.thread_time() - began < seconds:
            pass
        return score_rows(*args)

    return score_slowly


def waiting(seconds: float) -> Callable[..., Any]:
    def score_late(*args: Any) -> Any:
        time.sleep(seconds)
        return score_rows(*args)

    return score_late


def test_several_at_once_wait_for_one_opening_and_one_that_hangs_takes_one_thread(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    opened: list[int] = []
    held = threading.Event()

    def open_late(path: Path, sha256: str, version: int) -> ServedModel:
        opened.append(version)
        held.wait(20)
        return open_model(path, sha256, version)

    monkeypatch.setattr(served_models, "open_model", open_late)
    monkeypatch.setattr(answering, "PATIENCE_SECONDS", 0.3)

    async def at_once(count: int) -> set[str]:
        made = await asyncio.gather(*[suggest(labelled.user_id, [new]) for _ in range(count)])
        return {each.suggestions[0].source for each in made}

    async def work() -> None:
        SERVER.look_once(None)
        assert await at_once(1) == {"rule"}
        threads = threading.active_count()
        for _ in range(4):
            assert await at_once(5) == {"rule"}
        assert threading.active_count() <= threads + 1
        monkeypatch.setattr(answering, "PATIENCE_SECONDS", 10.0)
        waiting_for_it = asyncio.ensure_future(at_once(5))
        await asyncio.sleep(0.1)
        held.set()
        assert await waiting_for_it == {"model"}
        await close_request_pool()

    asyncio.run(work())
    assert opened == [champion]


@pytest.mark.parametrize("array", ["wording.idf", "wording.alone_bias"])
def test_a_file_that_is_nonsense_though_it_is_what_was_registered_stops_nobody(
    labelled: Ledger, champion: int, array: str, caplog: pytest.LogCaptureFixture
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    bad = register_without(labelled, array)
    deploy_untried(labelled, bad)
    server = ModelServer()
    server.start()
    try:
        assert f"Model version {bad} answers nobody" in caplog.text
        assert suggested(labelled, new).source == "rule"
        promote(labelled, champion)
        wait_for(server, labelled, champion, 2)
    finally:
        server.stop()


def test_a_model_that_fails_on_whatever_is_counted_is_noticed_before_anybody_asks_it(labelled: Ledger) -> None:
    arrays, header = model_to_artefact(small_model())
    arrays["pool.evidence"] = arrays["pool.evidence"][:5]
    bad = register(labelled, encode_artefact(arrays, header))
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    before = fallbacks("broken")
    deploy_untried(labelled, bad)
    assert suggested(labelled, new).source == "rule"
    assert fallbacks("broken") == before + 1


def register_without(ledger: Ledger, array: str) -> int:
    """Register a version whose file lacks an array."""
    arrays, header = model_to_artefact(small_model())
    return register(ledger, encode_artefact({name: each for name, each in arrays.items() if name != array}, header))


def deploy_untried(ledger: Ledger, version: int) -> None:
    """Make a version champion as by a program that does not try it first."""
    with session_for_jobs() as session:
        session.execute(
            text("""
                INSERT INTO model_deployments (user_id, role, action, version, actor, reason)
                VALUES (:user_id, 'champion', 'promote', :version, 'a test', 'to see')
            """),
            {"user_id": ledger.user_id, "version": version},
        )


def register(ledger: Ledger, artefact: bytes) -> int:
    with session_for_jobs() as session:
        run_id: int = session.execute(
            text("""
                INSERT INTO ml_training_runs (status, user_id, seed, accuracy, f1_macro, as_of, metrics)
                VALUES ('succeeded', :user_id, 7, 0.9, 0.8, now(), '{}') RETURNING run_id
            """),
            {"user_id": ledger.user_id},
        ).scalar_one()
        made = log_training(TrainingRecord(ledger.user_id, "d" * 64, {"seed": 7}, {"accuracy": 0.9}, artefact))
        add_version(session, ledger.user_id, run_id, made)
    return made.version


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_challenger_will_be_told_changes_no_answer(
    labelled: Ledger,
    champion: int,
    train_version: Callable[[Ledger], int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    fails: bool,
) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    alone = suggested(labelled, new, mode="heuristic")
    second = train_version(labelled)
    with session_for_jobs() as session:
        deployments.challenge(session, labelled.user_id, second, **BECAUSE)

    def fail(*_: object) -> None:
        raise OverflowError("ALDI 0077 YORK")

    if fails:
        monkeypatch.setattr("app.services.answering.inputs_for_models", fail)
    beside = suggested(labelled, new, mode="heuristic")
    assert replace(beside, event_id=0) == replace(alone, event_id=0)
    assert ("could not be told" in caplog.text) is fails
    assert "ALDI" not in caplog.text


# --- following what is deployed --------------------------------------------------------------------------------------


@pytest.fixture
def following(champion: int, labelled: Ledger) -> Iterator[tuple[ModelServer, int]]:
    """A server that follows, while the champion answers."""
    assert labelled
    SERVER.start()
    yield SERVER, champion
    SERVER.stop()


def wait_for(server: ModelServer, ledger: Ledger, version: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while server.deployed.champions[ledger.user_id].version != version:
        assert time.monotonic() < until, "it was not followed in time"
        time.sleep(0.005)


def test_a_promotion_and_a_rollback_are_followed_without_being_looked_for(
    labelled: Ledger,
    train_version: Callable[[Ledger], int],
    following: tuple[ModelServer, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, first = following
    monkeypatch.setattr(served_models, "POLL_SECONDS", 1e9)
    second = train_version(labelled)
    time.sleep(0.3)
    promote(labelled, second)
    wait_for(server, labelled, second, 2)
    assert server.at_hand(server.deployed.champions[labelled.user_id]) != "loading"
    with session_for_jobs() as session:
        deployments.rollback(session, labelled.user_id, **BECAUSE)
    wait_for(server, labelled, first, 2)
    assert server.at_hand(server.deployed.champions[labelled.user_id]) != "loading"


def test_a_lost_message_is_made_up_for(
    labelled: Ledger,
    train_version: Callable[[Ledger], int],
    following: tuple[ModelServer, int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, _ = following
    monkeypatch.setattr(served_models, "POLL_SECONDS", 1e9)
    second = train_version(labelled)
    time.sleep(0.5)
    admin_connection.execute("ALTER TABLE model_deployments DISABLE TRIGGER deployed")
    try:
        promote(labelled, second)
        time.sleep(0.5)
        assert server.deployed.champions[labelled.user_id].version != second
        monkeypatch.setattr(served_models, "POLL_SECONDS", 0.1)
        wait_for(server, labelled, second, 3)
    finally:
        admin_connection.execute("ALTER TABLE model_deployments ENABLE TRIGGER deployed")


def test_a_server_that_loses_its_connection_keeps_answering_and_comes_back(
    labelled: Ledger,
    train_version: Callable[[Ledger], int],
    following: tuple[ModelServer, int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, first = following
    monkeypatch.setattr(served_models, "RECONNECT_SECONDS", 0.1)
    ended = admin_connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%running_experiments()%' "
        "AND pid <> pg_backend_pid() AND datname = current_database()"
    )
    assert ended.fetchall() == [(True,)]
    assert server.deployed.champions[labelled.user_id].version == first
    second = train_version(labelled)
    promote(labelled, second)
    wait_for(server, labelled, second, 5)


def test_one_request_is_answered_by_one_version(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int], client: TestClient
) -> None:
    ids = labelled.add(*[f"2025-02-{day:02},SHOP {day},-9.00,card," for day in range(1, 29)])
    second = train_version(labelled)
    seen = set()
    promote(labelled, second)
    until = time.monotonic() + 5
    while str(second) not in seen:
        assert time.monotonic() < until
        answer = client.post("/suggestions", json={"txn_ids": ids})
        assert answer.status_code == 200
        versions = {each["model_version"] for each in answer.json()["suggestions"]}
        assert len(versions) == 1
        seen |= versions
    assert seen <= {str(champion), str(second)}


# --- whom it answers -------------------------------------------------------------------------------------------------


def test_a_token_that_ends_is_refused_at_once_by_a_process_that_knows_it(
    labelled: Ledger, champion: int, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    with session_for_user(labelled.user_id) as session:
        writers = [new_token(session, labelled.user_id, name="writes", scope="write") for _ in range(2)]
        tokens = [*writers, new_token(session, labelled.user_id, name="reads", scope="read")]

    def ask(number: int) -> int:
        headers = {"Authorization": f"Bearer {tokens[number].secret}"}
        return client.post("/suggestions", json={"txn_ids": [new]}, headers=headers).status_code

    assert [ask(0), ask(0), ask(1), ask(2), ask(2)] == [200, 200, 200, 403, 403]
    with session_for_user(labelled.user_id) as session:
        revoke_token(session, tokens[0].token.id)
    assert [ask(0), ask(1)] == [401, 200]
    admin_connection.execute(
        "UPDATE credentials SET expires_at = now() - interval '1 second' WHERE id = %s", [tokens[1].token.id]
    )
    assert ask(1) == 401
    count = admin_connection.execute("SELECT count(*) FROM suggestion_events").fetchone()
    assert count == (4,)


def test_a_token_that_ended_does_not_spend_its_owner_s_allowance(
    labelled: Ledger, champion: int, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert champion
    monkeypatch.setenv("LM_RATE_LIMIT_PER_MINUTE", "20")
    get_settings.cache_clear()
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    with session_for_user(labelled.user_id) as session:
        leaked, good = (new_token(session, labelled.user_id, name=name, scope="write") for name in ("one", "another"))

    def ask(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return client.post("/suggestions", json={"txn_ids": [new]}, headers=headers).status_code

    assert [ask(leaked.secret), ask(good.secret)] == [200, 200]
    with session_for_user(labelled.user_id) as session:
        revoke_token(session, leaked.token.id)
    refused = {ask(leaked.secret) for _ in range(25)}
    assert refused == {401, 429}
    assert ask(good.secret) == 200
    get_settings.cache_clear()


# --- replay ----------------------------------------------------------------------------------------------------------


def test_what_was_suggested_comes_out_again_whatever_was_learnt_since(labelled: Ledger, champion: int) -> None:
    assert champion
    ids = labelled.add(
        *[f"2025-02-{day:02},{shop},-{day}.00,card," for day in range(1, 20) for shop in ("CORNER SHOP", f"NEW {day}")]
    )
    suggest_now(labelled.user_id, ids, min_confidence=0.0)
    suggested(labelled, ids[0])
    suggest_now(labelled.user_id, ids, mode="heuristic", min_confidence=0.0)
    with session_for_user(labelled.user_id) as session:
        write_labels(session, dict.fromkeys(ids, "Household"), source="human")
    suggest_now(labelled.user_id, ids)
    found = replay_suggestions(LONG_AGO, user_id=labelled.user_id)
    assert found.events == {"model": 2 * len(ids) + 1, "rule": len(ids)}
    assert (found.differing, dict(found.missing)) == (0, {})


@pytest.mark.parametrize(
    ("spoilt", "what"),
    [
        ("candidates = jsonb_set(candidates, '{0,confidence}', '0.5')", "confidence"),
        ("candidates = jsonb_set(candidates, '{0,label}', '\"Fishing\"')", "categories"),
        ("candidates = '[]'", "categories"),
        ("features_hash = repeat('0', 32)", "features"),
    ],
)
def test_what_comes_out_otherwise_is_reported(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection, spoilt: str, what: str
) -> None:
    assert champion
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    made = suggested(labelled, new)
    admin_connection.execute(f"UPDATE suggestion_events SET {spoilt} WHERE id = %s", [made.event_id])
    found = replay_suggestions(LONG_AGO)
    assert [(each.event_id, each.what) for each in found.first] == [(made.event_id, what)]
    assert found.differing == 1


def test_what_cannot_be_computed_again_is_counted_with_the_reason(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    suggested(labelled, new)
    spoil(admin_connection, champion)
    found = replay_suggestions(LONG_AGO)
    assert found.differing == 0
    assert [reason.startswith(f"Version {champion}: ") for reason in found.missing] == [True]
