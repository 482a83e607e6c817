"""Trainings over HTTP: queued by a request, done by the worker, and seen by those whose category set it is."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app.config import BACKEND_DIR, get_settings
from app.db import session_for_jobs, session_for_user
from app.jobs.tasks import train as train_task
from app.services.credentials import new_token
from app.services.deployments import category_set_of
from app.services.training import train_model
from app.services.training_runs import list_runs, request_training, start_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.testclient import TestClient

    from app.services.training_runs import QueuedTraining
    from tests.integration.conftest import Ledger

pytestmark = pytest.mark.usefixtures("empty_queue")

SHOPS = ("ALDI LEEDS", "SHELL YORK", "COSTA")
CATEGORIES = ("Einkauf", "Tanken", "Kaffee")
HISTORY = [
    f"{dt.date(2025, 1, 1) + dt.timedelta(days=day)},{SHOPS[day % 3]},-{day}.50,card,{CATEGORIES[day % 3]}"
    for day in range(240)
]


@pytest.fixture
def empty_queue(admin_connection: psycopg.Connection) -> None:
    admin_connection.execute("TRUNCATE jobs.procrastinate_jobs, jobs.procrastinate_workers RESTART IDENTITY CASCADE")


def ask(user_id: int) -> QueuedTraining:
    with session_for_user(user_id) as session:
        return request_training(session, user_id, as_of=None, seed=0, promote=True, may_promote_shared=True)


def begin_trainings(connection: psycopg.Connection, *, minutes_ago: int) -> None:
    """Let workers have begun whatever waits; what was begun before is over."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = jobs")
        connection.execute("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'doing'")
        begun = connection.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo' RETURNING id")
        connection.execute(
            """
            UPDATE procrastinate_events SET at = now() - make_interval(mins => %s)
            WHERE type = 'started' AND job_id = ANY(%s)
            """,
            [minutes_ago, [job for (job,) in begun]],
        )


def jobs(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("""
        SELECT task_name, lock, args -> 'category_set', status::text FROM jobs.procrastinate_jobs ORDER BY id
    """).fetchall()


def test_a_training_is_queued_by_a_request_and_done_by_the_worker(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    ledger.add(*HISTORY)
    answer = client.post("/ml/train", json={"as_of": "2025-08-01T00:00:00Z", "seed": 5})
    assert answer.status_code == 202
    assert answer.json() == {
        "job_id": 1, "is_repeated": False, "as_of": "2025-08-01T00:00:00Z", "seed": 5, "promote": True,
    }  # fmt: skip
    assert client.get("/ml/runs").json() == [], "nothing was done in the request"
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "worker", "--once"],
        cwd=BACKEND_DIR, env=os.environ, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert jobs(admin_connection)[0][3] == "succeeded", done.stderr
    (run,) = client.get("/ml/runs").json()
    assert (run["status"], run["seed"], run["as_of"]) == ("succeeded", 5, "2025-08-01T00:00:00Z")
    assert run["version"] >= 1
    assert run["accuracy"] > 0.9
    assert "champion" in done.stderr
    assert "the heuristics" in run["notes"]


def test_one_waiting_training_of_a_category_set_is_enough(
    ledger: Ledger, client: TestClient, ledger_of: Callable[[str], Ledger], admin_connection: psycopg.Connection
) -> None:
    assert ledger
    first = client.post("/ml/train", json={"seed": 1}).json()
    again = client.post("/ml/train", json={"seed": 2, "promote": False}).json()
    assert again == first | {"is_repeated": True}, "it is the first, as that was asked for"
    neighbour, own = ledger_of("neighbour"), ledger_of("own")
    own.add("2025-01-01,ALDI,-1.00,card,Einkauf")
    for each in (neighbour, own):
        made = ask(each.user_id)
        assert made.is_repeated is (each is neighbour), "a neighbour has the same set, and the other does not"
    assert jobs(admin_connection) == [
        ("train_model", "train_model of shared", None, "todo"),
        ("train_model", f"train_model of {own.user_id}", own.user_id, "todo"),
    ]
    # One that has begun does not know what came since: another may be asked for.
    begin_trainings(admin_connection, minutes_ago=11)
    assert not ask(own.user_id).is_repeated


def test_a_training_is_no_more_asked_for_when_the_last_of_the_set_began_a_moment_ago(
    ledger: Ledger, client: TestClient, ledger_of: Callable[[str], Ledger], admin_connection: psycopg.Connection
) -> None:
    own = ledger_of("own")
    own.add("2025-01-01,ALDI,-1.00,card,Einkauf")
    admin_connection.execute("UPDATE users SET is_demo = true WHERE id = %s", [own.user_id])  # else no one is trusted
    assert client.post("/ml/train", json={}).status_code == 202
    begin_trainings(admin_connection, minutes_ago=9)
    answer = client.post("/ml/train", json={})
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    assert f"in {answer.headers['Retry-After']} seconds" in answer.json()["detail"]
    assert [job[3] for job in jobs(admin_connection)] == ["doing"]
    assert not ask(own.user_id).is_repeated, "another set's trainings are none of this one's"
    admin_connection.execute("UPDATE jobs.procrastinate_events SET at = at - interval '1 minute'")
    assert client.post("/ml/train", json={}).status_code == 202, "ten minutes have passed"
    assert ledger.user_id > 0


def test_the_pause_between_trainings_is_a_setting_and_what_waits_is_no_beginning(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minutes, expected in (("60", 429), ("0", 202)):
        monkeypatch.setenv("LM_TRAINING_PAUSE_MINUTES", minutes)
        get_settings.cache_clear()
        ask(ledger.user_id)
        assert client.post("/ml/train", json={}).json()["is_repeated"]
        begin_trainings(admin_connection, minutes_ago=59)
        assert client.post("/ml/train", json={}).status_code == expected
        admin_connection.execute("TRUNCATE jobs.procrastinate_jobs CASCADE")


def test_the_command_line_neither_waits_nor_lets_others_wait(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    ledger.add(*HISTORY)
    assert client.post("/ml/train", json={}).status_code == 202
    begin_trainings(admin_connection, minutes_ago=0)
    train_model(ledger.user_id, requested_by="a test")
    train_model(ledger.user_id, requested_by="a test")
    admin_connection.execute("TRUNCATE jobs.procrastinate_jobs CASCADE")
    assert client.post("/ml/train", json={}).status_code == 202


def test_with_a_token_nobody_makes_a_champion_of_the_set_that_others_share(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    with session_for_user(ledger.user_id) as session:
        secret = new_token(session, ledger.user_id, name="x", scope="write").secret
    token = {"Authorization": f"Bearer {secret}"}
    for body in ({}, {"promote": True}):
        refused = client.post("/ml/train", json=body, headers=token)
        assert refused.status_code == 403
        for word in ("ask who runs the installation", "lm train", "promote=false"):
            assert word in refused.json()["detail"]
    assert jobs(admin_connection) == []
    queued = client.post("/ml/train", json={"promote": False}, headers=token)
    assert (queued.status_code, queued.json()["promote"]) == (202, False)
    # Of categories of their own they decide, by whatever they show.
    ledger.add(*HISTORY)
    queued = client.post("/ml/train", json={"promote": True}, headers=token)
    assert (queued.status_code, queued.json()["promote"]) == (202, True)
    assert [job[2] for job in jobs(admin_connection)] == [None, ledger.user_id]


def test_on_a_machine_that_is_trusted_its_one_user_may_promote_the_shared_set_s_model(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    assert ledger
    assert client.post("/ml/train", json={"promote": True}).status_code == 202
    assert jobs(admin_connection)[0][2] is None


def test_a_demo_s_training_is_of_its_own_rows_though_it_uses_the_shared_categories(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute("UPDATE users SET is_demo = true")
    ask(ledger.user_id)
    with session_for_user(ledger.user_id) as session:
        assert category_set_of(session, ledger.user_id) == ledger.user_id
    assert jobs(admin_connection)[0][2] == ledger.user_id


@pytest.mark.parametrize(
    "body",
    [
        {"seed": -1}, {"seed": 2**32}, {"seed": "1"}, {"seed": 1.5}, {"promote": "yes"}, {"promote": None},
        {"as_of": 1735689600}, {"as_of": "2025-01-01"}, {"as_of": "2025-01-01T00:00:00"}, {"as_of": "x"},
        {"category_set": 1}, [], None,
    ],
)  # fmt: skip
def test_what_is_no_training_is_refused(ledger: Ledger, client: TestClient, body: Any) -> None:
    assert ledger
    assert client.post("/ml/train", json=body).status_code == 422


def test_a_moment_to_come_is_refused_before_it_is_queued(
    ledger: Ledger, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    assert ledger
    answer = client.post("/ml/train", json={"as_of": "2999-01-01T00:00:00Z"})
    assert answer.status_code == 400
    assert "has passed" in answer.json()["detail"]
    assert jobs(admin_connection) == []


def test_runs_are_shown_to_those_whose_category_set_they_are_of(
    ledger: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    own = ledger_of("own")
    own.add("2025-01-01,ALDI,-1.00,card,Einkauf")
    moment = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    with session_for_jobs() as session:
        shared = [start_run(session, None, as_of=moment, seed=seed) for seed in range(3)]
        theirs = start_run(session, own.user_id, as_of=moment, seed=0)
    for user_id, expected in ((ledger.user_id, shared[:0:-1]), (own.user_id, [theirs])):
        with session_for_user(user_id) as session:
            runs = list_runs(session, category_set_of(session, user_id), limit=2)
            assert [run.run_id for run in runs] == expected
    with session_for_user(ledger.user_id) as session:
        assert set(session.execute(text("SELECT run_id FROM ml_training_runs")).scalars()) == set(shared)


def test_a_job_whose_training_cannot_succeed_is_not_tried_again(ledger: Ledger) -> None:
    arguments: dict[str, Any] = {"as_of": None, "seed": 0, "promote": True, "user_id": ledger.user_id}
    said = train_task(category_set=None, **arguments)
    assert "nothing to learn from" in said
    assert "not there any more" in train_task(category_set=4711, **arguments)
