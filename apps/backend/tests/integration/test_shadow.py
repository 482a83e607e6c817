"""A challenger proves itself without touching anyone: it is told what the champion was told, and nobody sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import psycopg
import pytest
from processes import METRICS_TOKEN, PATIENCE_SECONDS, server, wait_until
from prometheus_client import REGISTRY
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.config import BACKEND_DIR, get_settings
from app.db import driver_connection, session_for_jobs, session_for_user
from app.jobs.shadow import RECONNECT_SECONDS
from app.ml.tracking import artefact_root
from app.services import deployments, kept_suggestions, shadow
from app.services.credentials import new_token
from app.services.kept_suggestions import read_kept
from app.services.model_versions import open_any_version
from app.services.shadow import ShadowScorer
from app.services.shadow_queue import last_passed, read_following
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from app.ml.artefact import Artefact
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
AT_ONCE = -1.0  # an event need not be old


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


def score_all(scorer: ShadowScorer, **options: float) -> float:
    """Let it score what waits; return how many suggestions that was."""
    before = counted("scored")
    while scorer.score_waiting(**options):
        pass
    return counted("scored") - before


def age(connection: psycopg.Connection, seconds: float) -> None:
    """Let everything have happened so much earlier."""
    for table in ("suggestion_events", "model_deployments"):
        connection.execute(
            sql.SQL("UPDATE {} SET created_at = created_at - make_interval(secs => %s)").format(sql.Identifier(table)),
            [seconds],
        )


def test_what_a_challenger_would_have_said_is_what_it_says_as_champion(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection
) -> None:
    _, challenger = rivals
    made = suggest_now(labelled.user_id, asked, min_confidence=0.3).suggestions
    assert score_all(ShadowScorer(), settling=AT_ONCE) == len(asked)
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
    assert score_all(ShadowScorer(), settling=AT_ONCE) == len(asked)
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
    assert ShadowScorer().score_waiting(settling=AT_ONCE)
    assert len(shadows(admin_connection)) == 2
    again = ShadowScorer()
    score_all(again, settling=AT_ONCE)
    assert len(shadows(admin_connection)) == len(asked)
    suggest_now(labelled.user_id, asked[:1])
    assert score_all(again, settling=AT_ONCE) == 1


def test_a_suggestion_that_may_not_be_over_yet_waits(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int]
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)
    assert score_all(ShadowScorer(), settling=3600) == 0


def test_one_that_waits_holds_up_those_with_higher_numbers_so_that_none_is_left_out(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection
) -> None:
    assert rivals
    events = [each.event_id for each in suggest_now(labelled.user_id, asked).suggestions]
    # The first was numbered within a transaction that began later than those of the others.
    older = "UPDATE suggestion_events SET created_at = created_at - interval '10 seconds' WHERE id > %s"
    admin_connection.execute(older, [events[0]])
    admin_connection.execute("UPDATE model_deployments SET created_at = created_at - interval '10 seconds'")
    scorer = ShadowScorer()
    assert score_all(scorer, settling=5) == 0
    assert score_all(scorer, settling=AT_ONCE) == len(asked)


def test_where_it_cannot_keep_up_it_skips_and_counts(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)
    scorer = ShadowScorer()
    assert score_all(scorer, settling=3600) == 0
    age(admin_connection, 60)
    suggest_now(labelled.user_id, asked[:2])
    before = counted("dropped")
    assert score_all(scorer, settling=AT_ONCE) == 2
    assert counted("dropped") == before + len(asked)
    assert len(shadows(admin_connection)) == 2


def test_a_new_process_counts_what_was_skipped_since_it_last_scored_and_nothing_from_before_the_challenge(
    labelled: Ledger,
    train_version: Callable[[Ledger], int],
    asked: list[int],
    admin_connection: psycopg.Connection,
) -> None:
    promote(labelled, train_version(labelled))
    suggest_now(labelled.user_id, asked)  # before it is challenger
    age(admin_connection, 3600)
    challenge(labelled, train_version(labelled))
    suggest_now(labelled.user_id, asked[:3])
    age(admin_connection, 60)
    before = counted("dropped")
    assert score_all(ShadowScorer(), settling=AT_ONCE) == 0
    assert counted("dropped") == before + 3
    suggest_now(labelled.user_id, asked[:1])
    assert score_all(ShadowScorer(), settling=AT_ONCE) == 1
    suggest_now(labelled.user_id, asked[:2])
    age(admin_connection, 60)
    before = counted("dropped")
    assert score_all(ShadowScorer(), settling=AT_ONCE) == 0
    assert counted("dropped") == before + 2


def test_what_was_skipped_or_failed_is_not_counted_again_while_the_counters_live(
    labelled: Ledger,
    rivals: tuple[int, int],
    asked: list[int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert rivals
    monkeypatch.setenv("LM_RUN_DIR", str(tmp_path))
    get_settings.cache_clear()
    suggest_now(labelled.user_id, asked)
    age(admin_connection, 60)
    before = counted("dropped")
    for _ in range(2):  # two processes, one after the other
        score_all(ShadowScorer(), settling=AT_ONCE)
    assert counted("dropped") == before + len(asked)
    suggest_now(labelled.user_id, asked)
    failed = counted("failed")
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(shadow, "score_by_another", fail)
            score_all(ShadowScorer(), settling=AT_ONCE)
    assert counted("failed") == failed + len(asked)
    monkeypatch.undo()
    get_settings.cache_clear()


def test_what_others_are_suggested_is_looked_through_little_by_little_and_hides_nothing(
    labelled: Ledger,
    rivals: tuple[int, int],
    asked: list[int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rivals
    monkeypatch.setattr(shadow, "LOOKED_THROUGH", 4)
    before = counted("dropped")
    suggest_now(labelled.user_id, asked[:1])
    # Nine of an erased user, as there might be thousands of another category set.
    copy = """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates, inputs)
        SELECT txn_id, NULL, mode, 'model', candidates, inputs FROM suggestion_events, generate_series(1, 9)
    """
    admin_connection.execute(copy)
    suggest_now(labelled.user_id, asked[1:])
    assert score_all(ShadowScorer(), settling=AT_ONCE) == len(asked)
    assert counted("dropped") == before


@pytest.mark.parametrize("analyzed", ["never", "while it was empty"])
def test_a_look_reads_no_more_of_a_long_log_than_it_needs_before_the_database_has_looked_at_it(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection, analyzed: str
) -> None:
    _, challenger = rivals
    if analyzed != "never":
        admin_connection.execute("ANALYZE suggestion_events")
    (made,) = suggest_now(labelled.user_id, asked[:1]).suggestions
    admin_connection.execute("""
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, model_version, candidates, inputs, created_at)
        SELECT
            txn_id, user_id, mode, source, model_version, candidates, inputs,
            created_at - make_interval(days => 9, secs => number)
        FROM suggestion_events CROSS JOIN generate_series(1, 50000) AS number
    """)
    suggest_now(labelled.user_id, asked)
    with session_for_jobs() as session:
        connection = driver_connection(session)
        blocks = "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relname = 'suggestion_events'"

        def read(work: Callable[[], object]) -> int:
            """Count the blocks of the table that something reads."""
            counts = []
            for before_or_after in (lambda: None, work):
                before_or_after()
                connection.execute("SELECT pg_stat_force_next_flush()")
                connection.execute("COMMIT")
                counts.append((connection.execute(blocks.encode()).fetchone() or (0,))[0])
                connection.execute("COMMIT")
            return int(counts[1] - counts[0])

        passed = last_passed(connection, challenger)
        assert passed == made.event_id - 1
        assert read(lambda: last_passed(connection, challenger)) < 20
        owner = labelled.user_id
        look = partial(read_following, connection, challenger, owner, settling=AT_ONCE, longest=30.0, most=100)
        assert read(lambda: look(passed)) < 120
        last = look(passed + 50_001)
        due = {"due": [event.event_id for event in last if event.is_due]}
        assert len(due["due"]) == len(asked)
        condition = "WHERE suggestion_events.id = ANY(%(due)s::bigint[]) ORDER BY suggestion_events.id"
        assert read(lambda: read_kept(connection, condition, due)) < 20


def fail(*_: object) -> None:
    raise MemoryError


def test_a_challenger_that_fails_is_counted_and_holds_up_nobody(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)
    scorer, before = ShadowScorer(), counted("failed")
    with monkeypatch.context() as patch:
        patch.setattr(shadow, "score_by_another", fail)
        assert score_all(scorer, settling=AT_ONCE) == 0
    assert counted("failed") == before + len(asked)
    suggest_now(labelled.user_id, asked)
    assert score_all(scorer, settling=AT_ONCE) == len(asked)
    assert counted("failed") == before + len(asked)


def test_one_suggestion_that_a_challenger_fails_on_takes_no_other_with_it(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rivals
    suggest_now(labelled.user_id, asked)

    score = kept_suggestions.score_by_another

    def fail_on_one(served: Any, kept: Any, *rest: Any) -> list[dict[str, float]]:
        if any(each.txn_id == asked[1] for each in kept):
            raise ZeroDivisionError
        return score(served, kept, *rest)

    monkeypatch.setattr(shadow, "score_by_another", fail_on_one)
    before = counted("failed")
    assert score_all(ShadowScorer(), settling=AT_ONCE) == len(asked) - 1
    assert counted("failed") == before + 1


def test_the_files_of_champion_and_challenger_are_opened_once(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_and_count(session: Session, version: int) -> Artefact:
        opened.append(version)
        return open_any_version(session, version)

    monkeypatch.setattr(shadow, "open_any_version", open_and_count)
    monkeypatch.setattr(shadow, "LOOK_SECONDS", 0.0)
    scorer = ShadowScorer()
    for _ in range(3):
        suggest_now(labelled.user_id, asked)
        assert score_all(scorer, settling=AT_ONCE) == len(asked)
    assert sorted(opened) == sorted(rivals)


# --- a process of its own --------------------------------------------------------------------------------------------


@contextmanager
def shadow_process(parent: int) -> Iterator[subprocess.Popen[str]]:
    """Run the process as a server does, for a parent of the given number."""
    command = [sys.executable, "-P", "-m", "app.jobs.shadow", str(parent)]
    with subprocess.Popen(command, cwd=BACKEND_DIR, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_ends_at_once_where_its_parent_ended_while_it_started() -> None:
    with subprocess.Popen([sys.executable, "--version"], stdout=subprocess.DEVNULL) as gone:
        gone.wait()
    with shadow_process(gone.pid) as process:
        assert process.wait(PATIENCE_SECONDS) == 0


def test_it_says_once_that_the_database_is_gone_and_goes_on_when_it_is_back(
    labelled: Ledger, rivals: tuple[int, int], asked: list[int], admin_connection: psycopg.Connection, database: str
) -> None:
    assert rivals
    name = conninfo_to_dict(database)["dbname"]
    end = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = 'the shadow'
    """
    cancel = """
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = 'the shadow'
    """
    waits = """
        SELECT 1 FROM pg_stat_activity
        WHERE datname = %s AND application_name = 'the shadow' AND wait_event_type = 'Lock'
    """

    def let_in(connection: psycopg.Connection, *, everybody: bool) -> None:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(allow.format(sql.Identifier(str(name)), sql.Literal(everybody)))

    with (
        psycopg.connect(database, dbname="postgres", autocommit=True) as elsewhere,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PGAPPNAME", "the shadow")
        with shadow_process(os.getpid()) as process:
            with admin_connection.transaction():
                admin_connection.execute("LOCK TABLE model_deployments IN ACCESS EXCLUSIVE MODE")
                wait_until(lambda: elsewhere.execute(waits, [name]).fetchone())
                # A statement that fails where the connection lives reaches nobody but the driver.
                elsewhere.execute(cancel, [name])
                wait_until(lambda: not elsewhere.execute(waits, [name]).fetchone())
                let_in(elsewhere, everybody=False)
                try:
                    elsewhere.execute(end, [name])
                    time.sleep(2 * RECONNECT_SECONDS + 1)
                finally:
                    let_in(elsewhere, everybody=True)
            suggest_now(labelled.user_id, asked)
            wait_until(lambda: len(shadows(admin_connection)) == len(asked))
            assert process.poll() is None
            process.terminate()
            said = process.communicate()[1].splitlines()
    assert [line for line in said if "does not answer" in line] == said[:1]
    assert said[1:] == ["INFO shadow: The database answers again"]


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


def every_suggestion_is_scored_or_counted(api: str, connection: psycopg.Connection) -> bool:
    """Tell whether all have their shadow, but for those that a busy machine let wait for too long."""
    count = "SELECT count(*) FILTER (WHERE source = 'shadow'), count(*) FROM suggestion_events"
    shadow_events, events = connection.execute(count).fetchone() or (0, 0)
    return bool(2 * shadow_events + metric(api, "lm_shadow_dropped_total") == events)


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

    def are_the_same(api: str) -> bool:
        assert bodies(api, token, asked) == off
        return True

    with server(workers=2) as api:
        wait_until(shadow_processes)
        wait_until(lambda: are_the_same(api) and shadows(admin_connection))
        wait_until(lambda: every_suggestion_is_scored_or_counted(api, admin_connection))
        assert metric(api, "lm_shadow_scored_total") == len(shadows(admin_connection))
        (stopped,) = shadow_processes()
        os.kill(stopped, signal.SIGSTOP)
        assert are_the_same(api)
        os.kill(stopped, signal.SIGKILL)
        assert are_the_same(api)
        wait_until(lambda: shadow_processes() not in ([], [stopped]))
        assert metric(api, "lm_shadow_restarts_total") == 1
        # It takes up where the other one was killed.
        wait_until(lambda: every_suggestion_is_scored_or_counted(api, admin_connection))
    wait_until(lambda: not shadow_processes())
    with server(LM_SHADOW_MEMORY_MIB="1") as api:
        wait_until(lambda: metric(api, "lm_shadow_restarts_total") > 0)
        assert are_the_same(api)
    name = admin_connection.execute(
        "SELECT artefact_name FROM model_versions WHERE version = %s", [challenger]
    ).fetchone() or ("",)
    (artefact_root() / name[0]).write_bytes(b"no model")
    with server() as api:
        wait_until(lambda: are_the_same(api) and metric(api, "lm_shadow_failed_total") > 0)
        assert are_the_same(api)


def test_it_runs_only_where_a_processor_is_idle_and_ends_with_a_server_that_is_killed(
    rivals: tuple[int, int],
) -> None:
    assert rivals
    with server() as api:
        wait_until(shadow_processes)
        (process,) = shadow_processes()
        wait_until(lambda: Path(f"/proc/{process}/oom_score_adj").read_text() == "1000\n")
        policies = {os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{process}/task").iterdir()}
        assert policies == {os.SCHED_IDLE}
        run_dir = get_settings().data_dir / "run" / api.partition(":")[2]
        os.kill(int((run_dir / "pid").read_text()), signal.SIGKILL)
        wait_until(lambda: not shadow_processes(), seconds=20)
