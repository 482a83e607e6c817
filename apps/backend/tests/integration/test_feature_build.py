"""The batch job: its flags, its log lines, and that it can be killed anywhere and run again."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.ml.feature_build import build_range, main

MARCH = (dt.date(2025, 3, 1), dt.date(2025, 3, 31))


@pytest.fixture
def transactions(admin_connection: psycopg.Connection, user_id: int) -> int:
    """Five thousand transactions over five months, without features; returns how many."""
    return add_transactions(admin_connection, user_id, 5000)


def add_transactions(connection: psycopg.Connection, user_id: int, count: int) -> int:
    connection.execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
        SELECT
            %(user)s, 'a', date '2025-01-01' + n %% 150, -n / 100.0, 'SHOP ' || n %% 37 || ' "é\\,{}',
            sha256(n::text::bytea)
        FROM generate_series(1, %(count)s) AS n
        """,
        {"user": user_id, "count": count},
    )
    return count


def stored(connection: psycopg.Connection) -> tuple[int, str]:
    row = connection.execute("""
        SELECT count(*), md5(string_agg((to_jsonb(ml_features) - 'created_at')::text, '' ORDER BY txn_id))
        FROM ml_features
    """).fetchone()
    assert row is not None
    return row


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.ml.feature_build", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_builds_every_transaction_and_says_so(transactions: int, jobs_connection: psycopg.Connection) -> None:
    done = run("--all", "--batch-size", "2000")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:4] == [
        "INFO Building features for 2025-01-01 to 2025-05-30",
        "INFO Processed 2000 transactions",
        "INFO Processed 4000 transactions",
        "INFO Processed 5000 transactions",
    ]
    assert "INFO ✅ Built 5000 feature vectors" in done.stderr
    assert stored(jobs_connection)[0] == transactions


def test_a_range_builds_its_days_both_ends_included(transactions: int, jobs_connection: psycopg.Connection) -> None:
    assert transactions
    assert main(["--start-date", "2025-03-01", "--end-date", "2025-03-31"]) == 0
    inside = jobs_connection.execute("SELECT count(*) FROM transactions WHERE date BETWEEN %s AND %s", MARCH).fetchone()
    assert inside == (stored(jobs_connection)[0],)


def test_days_counts_back_from_today_and_defaults_to_180(user_id: int, admin_connection: psycopg.Connection) -> None:
    admin_connection.execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
        SELECT %s, 'a', (now() AT TIME ZONE 'UTC')::date - n, -1, 'SHOP', sha256(n::text::bytea)
        FROM unnest(ARRAY[0, 30, 31, 180, 181]) AS n
        """,
        [user_id],
    )
    assert main(["--days", "30"]) == 0
    assert stored(admin_connection)[0] == 2
    assert main([]) == 0
    assert stored(admin_connection)[0] == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--start-date", "2025-02-30", "--end-date", "2025-03-01"], "not a date"),
        (["--start-date", "2025-03-02", "--end-date", "2025-03-01"], "inverted"),
        (["--start-date", "2025-03-02"], "go together"),
        (["--end-date", "2025-03-02"], "go together"),
        (["--days", "0"], "above zero"),
        (["--batch-size", "-5"], "above zero"),
        (["--days", "99999999"], "above zero"),
        (["--batch-size", "1" + "0" * 20], "above zero"),
        (["--all", "--days", "3"], "not allowed"),
        (["--all", "--end-date", "2025-03-02"], "do not go together"),
    ],
)
def test_a_bad_flag_is_one_clear_sentence_and_exit_code_2(database: str, arguments: list[str], complaint: str) -> None:
    assert database
    done = run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_ledger_builds_nothing_and_is_no_error(database: str) -> None:
    assert database
    done = run("--all")
    assert done.returncode == 0
    assert "Built 0 feature vectors" in done.stderr


def test_an_unchanged_rebuild_writes_nothing_and_a_difference_is_mended(
    transactions: int, admin_connection: psycopg.Connection
) -> None:
    span = (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
    assert build_range(*span).written == transactions
    built = stored(admin_connection)
    assert build_range(*span, batch_size=777).written == 0
    admin_connection.execute("UPDATE ml_features SET norm_desc = 'wrong' WHERE txn_id = 17")
    admin_connection.execute("UPDATE ml_features SET merchant = NULL WHERE txn_id = 18")
    admin_connection.execute("DELETE FROM ml_features WHERE txn_id = 19")
    assert build_range(*span).written == 3
    assert stored(admin_connection) == built


def test_killed_anywhere_and_run_again_it_ends_like_an_undisturbed_run(
    user_id: int, admin_connection: psycopg.Connection
) -> None:
    count = add_transactions(admin_connection, user_id, 20_000)
    assert main(["--all"]) == 0
    undisturbed = stored(admin_connection)
    assert undisturbed[0] == count
    kills = 0
    for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
        admin_connection.execute("TRUNCATE ml_features")
        process = subprocess.Popen(
            [sys.executable, "-m", "app.ml.feature_build", "--all", "--batch-size", "500"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        # Until the work has begun, there is nothing to interrupt.
        while "Processed" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.stderr.close()
        kills += process.wait() == -signal.SIGKILL
        assert main(["--all"]) == 0
        assert stored(admin_connection) == undisturbed
    assert kills >= 3


def test_builders_at_once_take_turns_and_none_deadlocks(
    transactions: int, admin_connection: psycopg.Connection
) -> None:
    span = (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: build_range(*span, batch_size=500).written, range(4)))
    assert sorted(written) == [0, 0, 0, transactions]
    assert stored(admin_connection)[0] == transactions


def test_a_database_without_schema_is_told_what_to_do(worker_database: str) -> None:
    with psycopg.connect(worker_database, autocommit=True) as connection:
        name = f"bare_{os.getpid()}"
        connection.execute(f"CREATE DATABASE {name}".encode())
        url = re.sub(r"/[^/]*$", f"/{name}", worker_database)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "app.ml.feature_build", "--all"],
                env=os.environ | {"DATABASE_URL": url},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())
    assert done.returncode == 3
    assert "lm db up" in done.stderr
