"""What a challenger in the shadow adds to the time of answers, beside what nothing adds.

One server takes the same requests in short rounds, with the shadow's process at work and stopped. The differences of
rounds that follow each other are what is looked at, so that what else goes on meanwhile weighs on both; of two rounds
with it stopped they are how far such differences can be trusted.
"""

from __future__ import annotations

import signal
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import text

from app.db import session_for_jobs
from app.services import deployments

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Sequence

BLOCKS = 6
ROUND_SECONDS = 2.5
LEAD_SECONDS = 1.0
STARTING_SECONDS = 60.0
CATCHING_UP_SECONDS = 6.0
# So long after it was made, a suggestion is scored where the challenger keeps up.
KEEPING_UP_SECONDS = 4.0


def shadow_added(p99_ms: Callable[[float], float], server: int, user_id: int, challenger: int) -> dict[str, Any]:
    """Measure the 99th of a hundred answers with and without the shadow.

    A block has a round with it, one without beside that, and one without apart; every other block goes backwards.

    Args:
        p99_ms: Asks for so many seconds and gives the milliseconds of the 99th of a hundred answers.
        server: The number of the server's process.
        user_id: Whose category set.
        challenger: The version.

    Returns:
        shadow_added_p99_ms: the median of the differences. shadow_added_p99_interval: of that median, at 96 %.
        nothing_added_p99_ms, nothing_added_p99_interval: the same of two rounds without. shadow_due, shadow_dropped,
        shadow_scored_share: suggestions that the challenger was to be asked about, those that it never was, and the
        share of the others.
    """
    with session_for_jobs() as session:
        decision = {"actor": "the benchmark", "reason": "To see what it costs."}
        since = deployments.challenge(session, user_id, challenger, **decision).created_at
    p99_ms(LEAD_SECONDS)
    wait_until_caught_up(since, STARTING_SECONDS, lambda: time.sleep(LEAD_SECONDS))
    (process,) = [
        each for each in psutil.Process(server).children(recursive=True) if "app.jobs.shadow" in each.cmdline()
    ]
    added, nothing_added = [], []
    for block in range(BLOCKS):
        measured: dict[str, float] = {}
        for side in ("apart", "beside", "with") if block % 2 == 0 else ("with", "beside", "apart"):
            if side == "with":
                # What waited for it while it was stopped is not to be in the round.
                wait_until_caught_up(since, CATCHING_UP_SECONDS, lambda: p99_ms(LEAD_SECONDS))
                measured[side] = p99_ms(ROUND_SECONDS)
            else:
                with stopped(process):
                    measured[side] = p99_ms(ROUND_SECONDS)
        added.append(measured["with"] - measured["beside"])
        nothing_added.append(measured["apart"] - measured["beside"])
    wait_until_caught_up(since, CATCHING_UP_SECONDS, lambda: time.sleep(LEAD_SECONDS))
    due, scored = count_scored(since)
    return {
        "shadow_added_p99_ms": round(statistics.median(added), 2),
        "shadow_added_p99_interval": interval(added),
        "nothing_added_p99_ms": round(statistics.median(nothing_added), 2),
        "nothing_added_p99_interval": interval(nothing_added),
        "shadow_due": due,
        "shadow_dropped": due - scored,
        "shadow_scored_share": round(scored / due, 3),
    }


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Let a process do nothing until the end of the block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_until_caught_up(since: dt.datetime, seconds: float, work: Callable[[], object]) -> None:
    """Do something again and again until all is scored that should be, or for so many seconds."""
    deadline = time.monotonic() + seconds
    is_caught_up = False
    while not is_caught_up and time.monotonic() < deadline:
        work()
        due, scored = count_scored(since)
        is_caught_up = 0 < due <= scored


def count_scored(since: dt.datetime) -> tuple[int, int]:
    """Count suggestions since a moment, but for the last few seconds, and those of them that have a shadow."""
    with session_for_jobs() as session:
        row = session.execute(
            text("""
                SELECT count(*), count(shadow.id)
                FROM suggestion_events AS served
                LEFT JOIN suggestion_events AS shadow ON shadow.served_event_id = served.id
                WHERE served.source <> 'shadow' AND served.created_at >= :since
                    AND served.created_at < now() - make_interval(secs => :keeping_up)
            """),
            {"since": since, "keeping_up": KEEPING_UP_SECONDS},
        ).one()
    return row[0], row[1]


def interval(differences: Sequence[float]) -> list[float]:
    """Give the interval that holds the median: of six, from the least to the greatest in 97 of 100 cases."""
    return [round(min(differences), 2), round(max(differences), 2)]
