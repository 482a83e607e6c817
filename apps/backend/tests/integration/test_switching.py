"""All processes of a server answer by another version within moments of a promotion or rollback, and nobody notices."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
from processes import server, wait_until

from app.db import session_for_jobs
from app.services import deployments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
WORKERS, CALLERS = 3, 4
# It takes some hundredths of a second; this is what it may take on a machine that does other things.
SWITCHING_SECONDS = 3
ENOUGH = 10 * WORKERS


@dataclass(frozen=True)
class Answered:
    """A request: when it was sent, its status, and the versions in its answer."""

    sent_at: float
    status: int
    versions: frozenset[str | None]


class Callers:
    """Programs that ask about the same transactions without a pause, each time on a connection of its own."""

    def __init__(self, address: str, txn_ids: Sequence[int]) -> None:
        self.url, self.txn_ids = f"http://{address}/suggestions", list(txn_ids)
        self.answered: list[Answered] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            sent_at = time.monotonic()
            answer = httpx2.post(self.url, json={"txn_ids": self.txn_ids}, timeout=30)
            made = answer.json()["suggestions"] if answer.is_success else []
            versions = frozenset(each["model_version"] for each in made)
            self.answered.append(Answered(sent_at, answer.status_code, versions))

    def next(self, count: int) -> list[Answered]:
        """Wait for so many answers to requests that are sent from now on."""
        now = time.monotonic()
        wait_until(lambda: len(self.sent_since(now)) >= count)
        return self.sent_since(now)

    def sent_since(self, moment: float) -> list[Answered]:
        return [each for each in list(self.answered) if each.sent_at > moment]


def test_all_processes_switch_together_without_a_failed_or_a_mixed_answer(
    labelled: Ledger, train_version: Callable[[Ledger], int]
) -> None:
    ids = labelled.add(*[f"2025-02-{day:02},SHOP {day},-9.00,card," for day in range(1, 9)])
    first, second = train_version(labelled), train_version(labelled)

    def promote(version: int) -> None:
        with session_for_jobs() as session:
            deployments.promote(session, labelled.user_id, version, **BECAUSE)

    def roll_back() -> None:
        with session_for_jobs() as session:
            deployments.rollback(session, labelled.user_id, **BECAUSE)

    promote(first)
    with server(workers=WORKERS, LM_RATE_LIMIT_PER_MINUTE="0") as api, ThreadPoolExecutor(CALLERS) as pool:
        callers = Callers(api, ids)
        running = [pool.submit(callers.run) for _ in range(CALLERS)]
        try:
            assert versions(callers.next(ENOUGH)) == {str(first)}
            promote(second)
            time.sleep(SWITCHING_SECONDS)
            assert versions(callers.next(ENOUGH)) == {str(second)}
            roll_back()
            time.sleep(SWITCHING_SECONDS)
            assert versions(callers.next(ENOUGH)) == {str(first)}
        finally:
            callers.stop.set()
            for each in running:
                each.result()
    assert {each.status for each in callers.answered} == {200}
    assert {len(each.versions) for each in callers.answered} == {1}


def versions(answered: Sequence[Answered]) -> set[str | None]:
    return {version for each in answered for version in each.versions}
