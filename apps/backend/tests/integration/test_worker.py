"""The worker: real processes on a real queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.schema import SchemaManager
from psycopg import sql

from app.config import BACKEND_DIR
from app.db import database_url
from app.jobs.queue import CATCH_UP_SECONDS, DEAD_AFTER_SECONDS, MOST_ATTEMPTS, SCHEMA, job_queue
from app.jobs.tasks import build_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

PATIENCE_SECONDS = 90
OFTEN = {"judge_models", "advance_experiments"}

pytestmark = pytest.mark.usefixtures("empty_queue")


@pytest.fixture
def empty_queue(admin_connection: psycopg.Connection) -> None:
    admin_connection.execute("TRUNCATE jobs.procrastinate_jobs, jobs.procrastinate_workers RESTART IDENTITY CASCADE")


@pytest.fixture
def nothing_is_due(admin_connection: psycopg.Connection, empty_queue: None) -> None:
    """Every scheduled job has been queued at its last due time."""
    assert empty_queue is None
    deferrer = PeriodicDeferrer(job_queue.periodic_registry, max_delay=CATCH_UP_SECONDS)
    for periodic, due in deferrer.get_previous_tasks(at=time.time()):
        admin_connection.execute(
            "INSERT INTO jobs.procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp) "
            "VALUES (%s, %s, %s)",
            [periodic.task.name, periodic.periodic_id, due],
        )


def test_a_deferred_job_runs_and_leaves_its_result_in_the_database(
    admin_connection: psycopg.Connection, user_id: int
) -> None:
    add_transaction(admin_connection, user_id)
    job = defer_build()
    log = run_once()
    assert status(admin_connection, job) == "succeeded"
    assert admin_connection.execute("SELECT count(*) FROM ml_features").fetchone() == (1,)
    assert [line for line in log.splitlines() if "Success" in line] == log.splitlines()
    assert "1 transactions, 1 feature vectors new or changed" in log


@pytest.mark.usefixtures("nothing_is_due")
def test_two_workers_never_run_the_same_kind_of_job_at_once(admin_connection: psycopg.Connection) -> None:
    with held_up(admin_connection), worker(), worker():
        wait_until(lambda: count(admin_connection, "SELECT count(*) FROM jobs.procrastinate_workers") == 2)
        first, second = defer_build(), defer_build()
        wait_until(lambda: status(admin_connection, first) == "doing")
        time.sleep(1)  # the other worker has been told of both jobs by now
        assert status(admin_connection, second) == "todo"
        release(admin_connection)
        wait_until(lambda: status(admin_connection, second) == "succeeded")
    # Beside them may be what becomes due in the meantime.
    moments = admin_connection.execute(
        "SELECT job_id, type FROM jobs.procrastinate_events "
        "WHERE type IN ('started', 'succeeded') AND job_id = ANY(%s) ORDER BY id",
        [[first, second]],
    ).fetchall()
    assert moments == [(first, "started"), (first, "succeeded"), (second, "started"), (second, "succeeded")]


@pytest.mark.usefixtures("nothing_is_due")
def test_what_a_killed_worker_was_doing_is_done_by_the_next(admin_connection: psycopg.Connection, user_id: int) -> None:
    add_transaction(admin_connection, user_id)
    job = defer_build()
    with held_up(admin_connection):
        with worker() as killed:
            wait_until(lambda: status(admin_connection, job) == "doing")
            killed.send_signal(signal.SIGKILL)
        assert "will run again" not in run_once()  # nobody knows yet that it is dead
        admin_connection.execute(
            "UPDATE jobs.procrastinate_workers SET last_heartbeat = last_heartbeat - make_interval(secs => %s)",
            [DEAD_AFTER_SECONDS],
        )
        release(admin_connection)
        assert "its worker died; it will run again" in run_once()
    assert status(admin_connection, job) == "succeeded"
    assert admin_connection.execute("SELECT count(*) FROM ml_features").fetchone() == (1,)


def test_a_job_that_takes_every_worker_down_is_given_up(admin_connection: psycopg.Connection) -> None:
    job = defer_build()
    with admin_connection.transaction():
        admin_connection.execute("SET LOCAL search_path = jobs")
        admin_connection.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', attempts = %s WHERE id = %s", [MOST_ATTEMPTS - 1, job]
        )
    assert f"for the {MOST_ATTEMPTS}th time; given up" in run_once()
    assert status(admin_connection, job) == "failed"


@pytest.mark.usefixtures("nothing_is_due")
def test_an_interrupted_worker_finishes_its_job_first(admin_connection: psycopg.Connection) -> None:
    job = defer_build()
    with held_up(admin_connection), worker() as interrupted:
        wait_until(lambda: status(admin_connection, job) == "doing")
        interrupted.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            interrupted.wait(timeout=1)
        release(admin_connection)
        assert interrupted.wait(timeout=PATIENCE_SECONDS) == 0
    assert status(admin_connection, job) == "succeeded"
    assert count(admin_connection, "SELECT count(*) FROM jobs.procrastinate_workers") == 0


@pytest.mark.usefixtures("nothing_is_due")
def test_a_worker_that_loses_the_database_says_so_and_fails(admin_connection: psycopg.Connection) -> None:
    with worker() as bereft:
        wait_until(lambda: count(admin_connection, "SELECT count(*) FROM jobs.procrastinate_workers") == 1)
        limit_connections(admin_connection, 0)
        try:
            admin_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'lm_jobs' AND datname = current_database()"
            )
            _, log = bereft.communicate(timeout=PATIENCE_SECONDS)
        finally:
            limit_connections(admin_connection, -1)
    assert bereft.returncode == 3
    assert "The worker lost PostgreSQL and stopped." in log.splitlines()[-1]


def test_a_failed_job_is_tried_again_later(admin_connection: psycopg.Connection) -> None:
    job = defer_build()
    admin_connection.execute("ALTER TABLE transactions RENAME TO hidden")
    try:
        assert "Error, to retry" in run_once()
    finally:
        admin_connection.execute("ALTER TABLE hidden RENAME TO transactions")
    row = admin_connection.execute(
        "SELECT status::text, attempts, scheduled_at > now() FROM jobs.procrastinate_jobs WHERE id = %s", [job]
    ).fetchone()
    assert row == ("todo", 1, True)


def test_a_worker_that_starts_late_runs_what_it_missed_once(admin_connection: psycopg.Connection) -> None:
    scheduled = {"build_features", "refresh_shared_priors", "build_warehouse", "forget_old_jobs", *OFTEN}
    with worker():
        wait_until(lambda: ended(admin_connection) == scheduled)
    with worker():
        wait_until(lambda: count(admin_connection, "SELECT count(*) FROM jobs.procrastinate_workers") == 2)
        time.sleep(1)  # it has looked at what is due by now
    outcomes = admin_connection.execute("SELECT task_name, status::text FROM jobs.procrastinate_jobs").fetchall()
    # What is due every few minutes may have become due again just now.
    seldom = [(name, status) for name, status in outcomes if name not in OFTEN]
    assert sorted(seldom) == sorted((name, "succeeded") for name in scheduled - OFTEN)


def test_requests_cannot_see_the_queue(database: str) -> None:
    assert database
    url = database_url("app").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM jobs.procrastinate_jobs")


def test_the_queue_is_made_by_all_migrations_of_the_installed_library(migration: ModuleType) -> None:
    shipped = (resources.files("procrastinate") / "sql" / "migrations").iterdir()
    assert max(file.name for file in shipped if file.name.endswith(".sql")) == migration.NEWEST


def test_the_queue_is_the_one_the_installed_library_would_make(admin_connection: psycopg.Connection) -> None:
    with admin_connection.transaction(force_rollback=True):
        admin_connection.execute("CREATE SCHEMA expected")
        admin_connection.execute("SET LOCAL search_path = expected")
        admin_connection.execute(SchemaManager.get_schema())
        expected, found = definitions(admin_connection, "expected"), definitions(admin_connection, SCHEMA)
    assert len(expected) > 50
    assert found == expected


@pytest.fixture
def migration() -> ModuleType:
    """The newest of our migrations that runs the library's."""
    scripts = ScriptDirectory.from_config(Config(BACKEND_DIR / "alembic.ini"))
    return next(script.module for script in scripts.walk_revisions() if hasattr(script.module, "NEWEST"))


def definitions(connection: psycopg.Connection, schema: str) -> set[str]:
    """Everything that a schema holds, said in SQL without its name; the order of columns does not count."""
    rows = connection.execute(
        """
        SELECT format('%%s.%%s %%s %%s %%s', table_name, column_name, udt_name, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = %(schema)s
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = %(schema)s
        UNION ALL SELECT conrelid::regclass::text || pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
        UNION ALL SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
        INNER JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal
        UNION ALL SELECT typname || ': ' || string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum
        INNER JOIN pg_type ON pg_type.oid = enumtypid
        WHERE typnamespace = %(schema)s::regnamespace GROUP BY typname
        """,
        {"schema": schema},
    ).fetchall()
    return {re.sub(r"\b(jobs|expected)\.", "", text) for (text,) in rows}


def add_transaction(connection: psycopg.Connection, user_id: int) -> None:
    connection.execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
        VALUES (%s, 'current', current_date - 1, -3.20, 'COFFEE', sha256('1'))
        """,
        [user_id],
    )


def defer_build() -> int:
    with job_queue.open():
        return build_features.defer()


def status(connection: psycopg.Connection, job: int) -> str | None:
    row = connection.execute("SELECT status::text FROM jobs.procrastinate_jobs WHERE id = %s", [job]).fetchone()
    return None if row is None else row[0]


def ended(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT task_name FROM jobs.procrastinate_jobs WHERE status IN ('succeeded', 'failed')")
    return {name for (name,) in rows}


def count(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def limit_connections(connection: psycopg.Connection, most: int) -> None:
    """Let that many clients into this database, superusers aside; -1 is any number."""
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, sql.Literal(most)))


@contextmanager
def held_up(connection: psycopg.Connection) -> Iterator[None]:
    """Hold the lock that every feature build waits for, so that a build takes as long as a test wants."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended('feature_build', 0))")
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock_all()")


def release(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def worker(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "app.cli", "worker", *options]
    with subprocess.Popen(command, cwd=BACKEND_DIR, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_once() -> str:
    """Run a worker that leaves when the queue is empty; return what it logged."""
    with worker("--once") as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, log
    return log


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
