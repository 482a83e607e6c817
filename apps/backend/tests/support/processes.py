"""Programs that tests run beside themselves: our server as people start it, and others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from app.config import BACKEND_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METRICS_TOKEN = "what a scraper shows"
PATIENCE_SECONDS = 60
STOPPING_SECONDS = 20


@contextmanager
def server(*, workers: int = 1, **environment: str) -> Iterator[str]:
    """Serve the API for this test's database; give its address.

    Args:
        workers: Processes that answer.
        environment: Further settings, by their variables' names.
    """
    address = free_address()
    command = [sys.executable, "-m", "app.cli", "serve", "--api-only", "--port", address.partition(":")[2]]
    command += ["--workers", str(workers)]
    settings = {"LM_LOCAL_TRUST": "true", "LM_METRICS_TOKEN": METRICS_TOKEN} | environment
    with running(command, environment=settings):
        wait_until(lambda: answers(f"http://{address}/readyz"))
        yield address


@contextmanager
def running(command: list[str], *, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a program until the end of the block."""
    with subprocess.Popen(
        command,
        cwd=BACKEND_DIR,
        env=os.environ | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOPPING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def free_address() -> str:
    """Return an address on this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    return f"{host}:{port}"


def answers(url: str) -> bool:
    """Tell whether something answers with success."""
    try:
        return httpx2.get(url, timeout=1).is_success
    except httpx2.HTTPError:
        return False


def wait_until(true: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
