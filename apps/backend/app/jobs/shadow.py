"""The process that scores challengers: it yields to everything else, and ends with whoever started it."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Final

from sqlalchemy.exc import OperationalError

from app.services.shadow import ShadowScorer

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.5
BREATH_SECONDS: Final = 0.05
RECONNECT_SECONDS: Final = 2.0


def main() -> None:
    """Score what waits until the process that started this one is gone."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s shadow: %(message)s")
    _stand_back()
    parent, scorer = os.getppid(), ShadowScorer()
    while os.getppid() == parent:
        try:
            time.sleep(BREATH_SECONDS if scorer.score_waiting() else PAUSE_SECONDS)
        except OperationalError as error:
            logger.warning("The database does not answer: %s", str(error.orig).partition("\n")[0])
            time.sleep(RECONNECT_SECONDS)


def _stand_back() -> None:
    """Run only where a processor has nothing else to do, and be the first to go where memory is short."""
    # An interrupt is for the server, which tells this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
