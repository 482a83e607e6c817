"""The embedded server: private, kept, and up again after a crash; each test runs `lm` as a person would."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from app.embedded_postgres.cluster import copied_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

LM = Path(sys.executable).parent / "lm"


class Clone:
    """One data folder and the commands that use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.postgres = root / "data" / "postgres"
        (root / "profiles").mkdir()

    def lm(self, *arguments: str, fails: bool = False, **settings: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        environment |= {
            "LM_DATA_DIR": str(self.root / "data"),
            "LM_PROFILES_DIR": str(self.root / "profiles"),
            "COLUMNS": "300",
        } | settings
        done = subprocess.run(
            [LM, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr

    def url(self, database: str = "finance") -> str:
        port, password = ((self.postgres / name).read_text() for name in ("port", "password"))
        return f"postgresql://myuser:{password}@127.0.0.1:{port}/{database}"

    def postmaster(self) -> int:
        return int((self.postgres / "data" / "postmaster.pid").read_text().split()[0])


@pytest.fixture
def clone() -> Iterator[Clone]:
    """A fresh data folder that everybody may enter."""
    yield from cloned("/tmp", 0o755)


@pytest.fixture
def another() -> Iterator[Clone]:
    """A second one beside it."""
    yield from cloned("/tmp", 0o755)


def cloned(parent: str, mode: int) -> Iterator[Clone]:
    root = Path(tempfile.mkdtemp(prefix="lm-clone-", dir=parent))
    root.chmod(mode)
    clone = Clone(root)
    yield clone
    clone.lm("db", "down")
    shutil.rmtree(root)


def test_up_reports_where_it_is_and_keeps_its_port_over_a_restart(clone: Clone) -> None:
    first = clone.lm("db", "up")
    assert re.search(r"embedded PostgreSQL 18 on 127\.0\.0\.1:\d+, database finance, schema [0-9a-f]{12}", first)
    assert "PostgreSQL stopped." in clone.lm("db", "down")
    assert "not running" in clone.lm("db", "down")
    assert clone.lm("db", "up") == first


def test_every_command_starts_the_server_when_it_is_not_up(clone: Clone) -> None:
    assert "(1 row)" in clone.lm("db", "psql", "-c", "SELECT 1")
    clone.lm("db", "down")
    assert "No merchants yet" in clone.lm("merchants", "list")


def test_the_password_is_the_owner_s_alone_and_is_asked_for(clone: Clone) -> None:
    clone.lm("db", "up")
    assert (clone.postgres / "password").stat().st_mode & 0o777 == 0o600
    assert (clone.root / "profiles" / "profiles.yml").stat().st_mode & 0o777 == 0o600
    port = int((clone.postgres / "port").read_text())
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=port, user="myuser", dbname="finance", password="wrong")
    password = (clone.postgres / "password").read_text()
    with psycopg.connect(host="127.0.0.1", port=port, user="myuser", dbname="finance", password=password) as connection:
        assert connection.execute(
            "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'lm_app'"
        ).fetchone() == (True,)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_the_server_does_not_run_as_root(clone: Clone) -> None:
    clone.lm("db", "up")
    assert Path(f"/proc/{clone.postmaster()}").stat().st_uid != 0


def test_a_server_killed_with_its_children_still_holding_on_recovers_on_the_next_command(clone: Clone) -> None:
    clone.lm("db", "psql", "-c", "CREATE TABLE kept (n int)", "-c", "INSERT INTO kept SELECT generate_series(1, 1000)")
    os.kill(clone.postmaster(), signal.SIGKILL)
    assert "1000" in clone.lm("db", "psql", "-c", "SELECT count(*) FROM kept")


def test_two_data_folders_side_by_side_do_not_collide(clone: Clone, another: Clone) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: each.lm("db", "psql", "-c", "CREATE TABLE mine (n int)"), (clone, another)))
    assert (clone.postgres / "port").read_text() != (another.postgres / "port").read_text()
    assert (clone.postgres / "password").read_text() != (another.postgres / "password").read_text()


def test_commands_that_start_it_at_once_start_one_server(clone: Clone) -> None:
    with ThreadPoolExecutor() as pool:
        ports = set(pool.map(lambda _: clone.lm("db", "up"), range(4)))
    assert len(ports) == 1


def test_a_taken_port_is_named_with_what_to_do(clone: Clone) -> None:
    clone.lm("db", "up")
    clone.lm("db", "down")
    port = int((clone.postgres / "port").read_text())
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        message = clone.lm("db", "up", fails=True)
    assert f"Port {port} on 127.0.0.1" in message
    assert "LM_DB_PORT" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_a_data_folder_that_others_cannot_enter_works_too() -> None:
    for clone in cloned("/tmp", 0o700):
        assert "database finance" in clone.lm("db", "up")
        assert not (clone.postgres / "data").exists()
        digest = hashlib.sha256(str(clone.postgres).encode()).hexdigest()[:16]
        elsewhere = Path("/var/lib/ledgermill") / digest
        assert (elsewhere / "data").stat().st_uid != 0
        clone.lm("db", "down")
        shutil.rmtree(elsewhere)


def test_an_unreachable_database_url_is_one_sentence(clone: Clone) -> None:
    message = clone.lm("merchants", "list", fails=True, DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/nowhere")
    assert "PostgreSQL cannot be reached" in message
    assert "Traceback" not in message


def test_a_copy_of_a_running_clone_leaves_the_original_alone(clone: Clone, another: Clone) -> None:
    clone.lm("db", "psql", "-c", "CREATE TABLE kept (n int)", "-c", "CHECKPOINT")
    original = clone.postmaster()
    subprocess.run(["/bin/cp", "-a", clone.root / "data", another.root], check=True)
    assert "not running" in another.lm("db", "down")
    another.lm("db", "psql", "-c", "DROP TABLE kept")
    assert (clone.postgres / "port").read_text() != (another.postgres / "port").read_text()
    assert clone.postmaster() == original
    assert "(0 rows)" in clone.lm("db", "psql", "-c", "SELECT n FROM kept")


def test_a_command_during_recovery_waits_for_its_end(clone: Clone) -> None:
    clone.lm("db", "psql", "-c", "CREATE TABLE kept AS SELECT n FROM generate_series(1, 300000) AS n")
    postmaster = clone.postmaster()
    os.kill(child(postmaster, "walwriter"), signal.SIGKILL)
    recovery = child(postmaster, "startup")
    os.kill(recovery, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        counts = [pool.submit(clone.lm, "db", "psql", "-c", "SELECT count(*) FROM kept") for _ in range(2)]
        time.sleep(4)
        assert not any(count.done() for count in counts)
        os.kill(recovery, signal.SIGCONT)
        assert all("300000" in count.result() for count in counts)
    assert clone.postmaster() == postmaster


def child(parent: int, kind: str) -> int:
    """Wait for a process of the server and return its id."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title = (folder / "cmdline").read_text()
                status = (folder / "status").read_text()
            except OSError:
                continue
            if title.startswith(f"postgres: {kind}") and f"PPid:\t{parent}\n" in status:
                return int(folder.name)
    raise TimeoutError(kind)


def test_what_a_kill_left_half_done_is_made_up_for_by_commands_at_once(clone: Clone) -> None:
    clone.lm("db", "up")
    port = (clone.postgres / "port").read_text()
    with psycopg.connect(clone.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE finance")
    (clone.postgres / "complete").unlink()
    (clone.postgres / "port").write_text("")
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(lambda _: clone.lm("db", "up"), range(3)))) == 1
    assert (clone.postgres / "port").read_text() == port
    clone.lm("db", "down")
    (clone.postgres / "port").write_text("damaged")
    assert f":{port}," not in clone.lm("db", "up")


def test_a_damaged_password_is_named_with_what_to_do(clone: Clone) -> None:
    clone.lm("db", "up")
    password = (clone.postgres / "password").read_text()
    (clone.postgres / "password").write_text("")
    assert "missing or damaged: put the file" in clone.lm("merchants", "list", fails=True)
    clone.lm("db", "down")
    (clone.postgres / "password").write_text(password[:20])
    assert "missing or damaged: put the file" in clone.lm("db", "up", fails=True)
    (clone.postgres / "password").write_text(password)
    clone.lm("db", "up")


def test_a_url_for_requests_alone_is_refused_before_a_server_is_made(clone: Clone) -> None:
    message = clone.lm("serve", fails=True, LM_APP_DATABASE_URL="postgresql://lm_app:x@127.0.0.1:1/nowhere")
    assert "need DATABASE_URL too" in message
    assert not clone.postgres.exists()


def test_requests_and_jobs_in_different_databases_are_refused(clone: Clone) -> None:
    clone.lm("db", "psql", "-c", "CREATE DATABASE other")
    clone.lm("db", "upgrade", DATABASE_URL=clone.url("other"))
    login = yaml.safe_load((clone.root / "profiles" / "profiles.yml").read_text())["ledgermill"]["outputs"]["local"]
    jobs = f"postgresql://lm_jobs:{login['password']}@127.0.0.1:{login['port']}/other"
    message = clone.lm("serve", fails=True, DATABASE_URL=clone.url(), LM_JOBS_DATABASE_URL=jobs)
    assert "Requests and jobs go to different databases" in message


def test_the_url_s_options_reach_dbt_and_psql_and_its_password_no_command_line(clone: Clone) -> None:
    clone.lm("db", "up")
    url = clone.url() + "?sslmode=prefer&connect_timeout=7&keepalives_idle=30&application_name=ledger"
    clone.lm("db", "up", DATABASE_URL=url)
    login = yaml.safe_load((clone.root / "profiles" / "profiles.yml").read_text())["ledgermill"]["outputs"]["local"]
    options = ("sslmode", "connect_timeout", "keepalives_idle", "application_name")
    assert [login[name] for name in options] == ["prefer", 7, 30, "ledger"]
    shown = clone.lm(
        "db", "psql", "-c", "SHOW application_name", "-c", r"\! tr '\0' ' ' < /proc/$PPID/cmdline", DATABASE_URL=url
    )
    assert " ledger\n" in shown
    assert "--dbname" in shown
    assert (clone.postgres / "password").read_text() not in shown


def test_a_revision_that_is_not_there_is_one_sentence(clone: Clone) -> None:
    for arguments in (("upgrade", "nonsense"), ("downgrade", "nonsense", "--yes")):
        message = clone.lm("db", *arguments, fails=True)
        assert "cannot go from" in message
        assert "Traceback" not in message
    clone.lm("db", "psql", "-c", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    message = clone.lm("merchants", "list", fails=True)
    assert "ffffffffffff, which this version does not know" in message
    assert "Traceback" not in message


def test_a_new_wheel_s_programs_are_copied_beside_the_old_ones(tmp_path: Path) -> None:
    old = copied_binaries(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.embedded_postgres.cluster.version", lambda _: "999.0")
        new = copied_binaries(tmp_path)
    assert old != new
    for binaries in (old, new):
        shown = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        assert "PostgreSQL" in shown.stdout
