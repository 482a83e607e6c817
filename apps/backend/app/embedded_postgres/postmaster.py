"""Whether a cluster's server is up, on its way or down, as its postmaster.pid and its port tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg import pq

from app.embedded_postgres.cluster import run_program

if TYPE_CHECKING:
    from app.embedded_postgres.cluster import Cluster

HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Postmaster:
    """The server that a cluster's postmaster.pid names.

    Attributes:
        pid: Its process.
        data: The directory it serves.
        port: Where it listens.
    """

    pid: int
    data: Path
    port: int


def read_postmaster(cluster: Cluster) -> Postmaster | None:
    """Return the server that postmaster.pid names, whether or not it still runs; None without such a file."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), data=Path(lines[1]), port=int(lines[3]))
    except (OSError, ValueError, IndexError):
        return None


def is_up(cluster: Cluster, port: int) -> bool:
    """Tell our server that answers from one that is down, starts, recovers or stops, and from any other's."""
    postmaster = read_postmaster(cluster)
    if postmaster is None or postmaster.data != cluster.data or postmaster.port != port:
        return False
    try:
        os.kill(postmaster.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as the unprivileged user that root started it as
    # An open port is not enough, nor the word "ready" in postmaster.pid, which stays there while the server
    # recovers from the crash of one of its children: it refuses sessions in both cases.
    answer = pq.PGconn.ping(f"host={HOST} port={port} connect_timeout=2".encode())
    return answer == pq.Ping.OK


def is_running(cluster: Cluster) -> bool:
    """Tell whether our server's process is there, be it starting, recovering or stopping."""
    postmaster = read_postmaster(cluster)
    if postmaster is None or postmaster.data != cluster.data:
        return False
    return run_program(cluster, "pg_ctl", "status", "-D", str(cluster.data)).returncode == 0


def forget_copied_postmaster(cluster: Cluster) -> bool:
    """Remove a postmaster.pid that came with a copy of another server's files; return whether there was one.

    Should the files have been moved under a running server, PostgreSQL's own lock on their shared memory keeps a
    second one out until the first has noticed and left.
    """
    postmaster = read_postmaster(cluster)
    if postmaster is None or postmaster.data == cluster.data:
        return False
    (cluster.data / "postmaster.pid").unlink()
    return True
