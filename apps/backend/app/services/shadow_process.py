"""The process that scores challengers, kept alive and within bounds by one of the server's processes.

It runs while some category set has a challenger, in one place however many workers the server has. One that ends is
started again after a pause that doubles; one that takes more memory than it may is ended.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.config import get_settings
from app.services.metrics import SHADOW_RESTARTS
from app.services.served_models import SERVER

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
# One that has run for so long did not fail at its start.
STABLE_SECONDS: Final = 60.0
STOPPING_SECONDS: Final = 5.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass
class ShadowKeeper:
    """A thread that tends the process, if it is this worker's turn to."""

    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Tend the process from now on. Without a folder that the server's processes share there is none."""
        settings = get_settings()
        if settings.run_dir is None or not settings.shadow:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._tend, args=(settings.run_dir / "shadow",), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tend(self, lock: Path) -> None:
        with lock.open("w") as handle:
            while not _lock(handle.fileno()):
                # Another worker tends it; should that one end, this one takes over.
                if self._stopping.wait(1):
                    return
            child: subprocess.Popen[bytes] | None = None
            started, pause, resume = 0.0, FIRST_PAUSE_SECONDS, 0.0
            while not self._stopping.wait(LOOK_SECONDS):
                now = time.monotonic()
                if child is not None and child.poll() is not None:
                    pause = FIRST_PAUSE_SECONDS if now - started > STABLE_SECONDS else pause
                    logger.error("The shadow process ended (%s); it begins again in %.0f s", child.returncode, pause)
                    SHADOW_RESTARTS.inc()
                    child, resume, pause = None, now + pause, min(pause * 2, LONGEST_PAUSE_SECONDS)
                wanted = bool(SERVER.deployed.challengers)
                if child is None and wanted and now >= resume:
                    try:
                        child, started = _start(), now
                    except OSError as error:
                        # Where memory is short it cannot even begin.
                        logger.error("The shadow process cannot begin (%s); it is tried in %.0f s", error, pause)  # noqa: TRY400
                        SHADOW_RESTARTS.inc()
                        resume, pause = now + pause, min(pause * 2, LONGEST_PAUSE_SECONDS)
                elif child is not None and not wanted:
                    _end(child)
                    child = None
                elif child is not None and _resident_mib(child.pid) > get_settings().shadow_memory_mib:
                    logger.error("The shadow process takes more than LM_SHADOW_MEMORY_MIB and is ended")
                    child.kill()
            if child is not None:
                _end(child)


SHADOW: Final = ShadowKeeper()
"""The keeper of this process."""


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "app.jobs.shadow", str(os.getpid())]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # It runs only where a processor has nothing else to do, and is the first to go where memory is short: from here,
    # while it has one thread. Those that libraries start when they are imported would keep what they began with.
    with suppress(OSError):  # it has ended already, which is noticed with the next look
        os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
    return child


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * _PAGE_BYTES / 2**20
