"""`lm serve`: the API."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.config import BACKEND_DIR, get_settings
from app.db import forget_engines
from app.errors import Conflict, InvalidInput
from app.services import installation


def serve(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    api_only: Annotated[
        bool, typer.Option("--api-only", help="Serve the API and nothing else; so far there is nothing else.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; --workers above one needs --api-only.")] = 1,
) -> None:
    """Serve the API until interrupted."""
    if workers > 1 and not api_only:
        raise InvalidInput("--workers above one needs --api-only.")
    run_dir = _make_run_dir(port)
    # What the server would meet at its start, with a traceback, is a sentence here.
    installation.prepare_installation()
    forget_engines()
    # prometheus_client looks at its variable once, when it is imported, which has happened here already: this process
    # becomes the server, under the same number, so that whoever started it can signal it.
    os.execve(  # noqa: S606
        sys.executable,
        [
            # -P and --app-dir: the program is the installed one, whatever the working directory holds.
            sys.executable, "-P", "-m", "uvicorn", "app.main:create_app", "--factory", f"--app-dir={BACKEND_DIR}",
            f"--host={host}", f"--port={port}", f"--workers={workers}", "--log-level=info",
            # Paths hold ids; the header names what to attack; and who calls is who connects, not what a header says.
            "--no-access-log", "--no-server-header", "--no-proxy-headers",
            # There are none, and the log of one that is refused has its path and query.
            "--ws=none",
        ],
        os.environ | {"LM_RUN_DIR": str(run_dir), "PROMETHEUS_MULTIPROC_DIR": str(run_dir / "metrics")},
    )  # fmt: skip


def _make_run_dir(port: int) -> Path:
    """Make the folder of a server's processes, empty; it is this server's own for as long as it runs.

    Raises:
        Conflict: A server with the same data folder and port is running.
    """
    run_dir = get_settings().data_dir.resolve() / "run" / str(port)
    run_dir.mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    lock = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(f"A server with this data folder is running on port {port}; stop it, or use another.") from None
    # Held by the program that this process becomes; its workers do not inherit it.
    os.set_inheritable(lock, True)
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (run_dir / "metrics").mkdir(mode=0o700)
    (run_dir / "pid").write_text(str(os.getpid()))
    return run_dir
