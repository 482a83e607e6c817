"""The process that scores challengers; it ends with whoever started it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Final

from app.services.shadow import DATABASE_GONE, ShadowScorer

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.5
BREATH_SECONDS: Final = 0.05
RECONNECT_SECONDS: Final = 2.0


def main(parent: int) -> None:
    """Score what waits until the process that started this one is gone.

    Args:
        parent: Its number. To ask for it here would be too late: it may have ended while this one was starting.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s shadow: %(message)s")
    # An interrupt is for the server, which tells this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    scorer, is_database_gone = ShadowScorer(), False
    while os.getppid() == parent:
        try:
            pause = BREATH_SECONDS if scorer.score_waiting() else PAUSE_SECONDS
        except DATABASE_GONE as error:
            if not is_database_gone:
                logger.warning("The database does not answer; waiting until it does: %s", _reason(error))
            is_database_gone, pause = True, RECONNECT_SECONDS
        else:
            if is_database_gone:
                logger.info("The database answers again")
            is_database_gone = False
        time.sleep(pause)


def _reason(error: Exception) -> str:
    """Give the driver's first line."""
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]


if __name__ == "__main__":
    main(int(sys.argv[1]))
