"""What the benchmarks share: a throw-away database, whole processes with their peak memory, medians."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app import embedded_postgres
from app.config import get_settings
from app.db import forget_engines
from app.services import installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    rss_mib: float


def describe_machine() -> dict[str, str | int]:
    """Say what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processors": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


@contextmanager
def throwaway_database() -> Iterator[Path]:
    """Run an embedded server of this benchmark's own; gives a folder for files."""
    root = Path(tempfile.mkdtemp(prefix="lm-bench-"))
    root.chmod(0o755)
    os.environ.pop("DATABASE_URL", None)
    os.environ |= {"LM_DATA_DIR": str(root / "data"), "LM_PROFILES_DIR": str(root)}
    get_settings.cache_clear()
    # Of the section before, which had a database of its own.
    forget_engines()
    try:
        installation.prepare_installation()
        yield root
    finally:
        forget_engines()
        embedded_postgres.stop()
        shutil.rmtree(root)


def run_process(arguments: Sequence[str | Path]) -> Run:
    """Run a command of this environment to its end, as a person would; its output is shown only when it fails."""
    started = time.perf_counter()
    rss_kib = 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output)
        while process.poll() is None:
            rss_kib = max(rss_kib, _peak_rss_kib(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            output.seek(0)
            sys.exit(f"{arguments} failed:\n{output.read().decode()}")
    return Run(seconds, rss_kib / 1024)


def _peak_rss_kib(pid: int) -> int:
    """Read the peak that the kernel keeps for a process; unlike wait4's, it does not start at its parent's size."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def median_and_spread(values: Sequence[float]) -> str:
    """Format a median with its range."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} … {max(values):,.0f})"
