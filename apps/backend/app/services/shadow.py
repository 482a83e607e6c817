"""What a challenger would have suggested, computed out of the way of everybody who waits.

The log of events is the queue: what was suggested is read a little later, the challenger is told the same counts, and
what it says is logged as an event of its own, with source `shadow`, that nobody is shown. Nothing of it is part of a
request, so nothing that goes wrong here can change an answer. Killed anywhere and begun again, it writes nothing twice.
Where it cannot keep up it skips, and counts what it skipped.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy.exc import OperationalError

from app.db import driver_connection, session_for_jobs
from app.ml.category_model import model_from_artefact
from app.ml.serving import ServedModel, serve_model
from app.services.kept_suggestions import read_kept, score_by_another
from app.services.metrics import SHADOW_DROPPED, SHADOW_FAILED, SHADOW_SCORED
from app.services.model_versions import open_any_version
from app.services.shadow_queue import keep_skipped, last_passed, read_following

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.services.kept_suggestions import KeptSuggestion

logger = logging.getLogger(__name__)

# Little by little: what the database does for it in one go, somebody may have to wait for.
AT_ONCE: Final = 25
# Of the log, for those: between what was suggested to the one category set are shadows and what others were suggested.
LOOKED_THROUGH: Final = 4 * AT_ONCE
# The same where all of it has waited too long.
SKIPPED_THROUGH: Final = 5_000
# An event has its number before others can see it; a request takes less than this to end.
SETTLING_SECONDS: Final = 2.0
# What has waited for longer is skipped.
MOST_SECONDS: Final = 30.0
# How often it is looked who is challenger, and how long each takes.
LOOK_SECONDS: Final = 1.0
# How often it is said that something was skipped.
SAY_SECONDS: Final = 60.0
MOST_CANDIDATES: Final = 3
# A challenger that fails on so many single suggestions, one after the other, is not asked about the rest.
FAILURES_IN_VAIN: Final = 3

DATABASE_GONE: Final = (OperationalError, psycopg.OperationalError)
"""What is raised where the database does not answer, through SQLAlchemy or past it."""


@dataclass
class ShadowScorer:
    """How far a process has come: by challenger, the number of the last event that is done, skipped or not for it."""

    _challengers: dict[int, int | None] = field(default_factory=dict)
    _looked_at: float = -math.inf
    _passed: dict[int, int] = field(default_factory=dict)
    _models: dict[int, ServedModel] = field(default_factory=dict)
    _classes: dict[int, Sequence[str]] = field(default_factory=dict)
    _timed_at: dict[int, float] = field(default_factory=dict)
    _unsaid: int = 0
    _said_at: float = -math.inf

    def score_waiting(self, *, settling: float = SETTLING_SECONDS) -> bool:
        """Score some of what waits for each challenger; return whether there may be more of it.

        Args:
            settling: Seconds that a suggestion must be old.

        Raises:
            sqlalchemy.exc.OperationalError, psycopg.OperationalError: The database does not answer. What it was at is
                still waiting.
        """
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look()
        more = [self._score_some(version, owner, settling) for version, owner in self._challengers.items()]
        return any(more)

    def _look(self) -> None:
        """See who is challenger."""
        with session_for_jobs() as session:
            query = "SELECT version, category_set FROM deployed_models() WHERE role = 'challenger'"
            self._challengers = dict(driver_connection(session).execute(query).fetchall())
        self._looked_at = time.monotonic()
        for version in self._passed.keys() - self._challengers.keys():
            # As a challenger again, it is asked about what comes then.
            del self._passed[version]
            self._models.pop(version, None)

    def _score_some(self, version: int, category_set: int | None, settling: float) -> bool:
        with session_for_jobs() as session:
            connection = driver_connection(session)
            passed = self._passed[version] if version in self._passed else last_passed(connection, version)
            if passed is None:
                return False
            ages = {"settling": settling, "longest": MOST_SECONDS}
            most = LOOKED_THROUGH
            following = read_following(connection, version, category_set, passed, **ages, most=most)
            if following and following[-1].is_late:
                most = SKIPPED_THROUGH
                following = read_following(connection, version, category_set, passed, **ages, most=most)
        settled = list(takewhile(lambda event: event.is_settled, following))
        if not settled:
            return False
        due = [event.event_id for event in settled if event.is_due and not event.is_late][:AT_ONCE]
        failed = self._score_due(version, due)
        last = due[-1] if len(due) == AT_ONCE else settled[-1].event_id
        skipped = sum(event.is_due and event.is_late for event in settled if event.event_id <= last)
        self._passed[version] = last
        if skipped or failed:
            keep_skipped(version, last)
        self._count(version, scored=len(due) - failed, failed=failed, skipped=skipped)
        return len(due) == AT_ONCE or len(settled) == most

    def _score_due(self, version: int, due: Sequence[int]) -> int:
        """Score events together, or one after the other where that fails; return of how many it fails."""
        why = self._score(version, due) if due else None
        if why is None:
            return 0
        failed = 0
        for number, event_id in enumerate(due, start=1):
            failed += self._score(version, [event_id]) is not None
            if failed == number == FAILURES_IN_VAIN:
                # It is not for single ones that it fails.
                failed = len(due)
                break
        logger.error("Challenger %d failed on %d of %d suggestions: %s", version, failed, len(due), why)
        return failed

    def _score(self, version: int, due: Sequence[int]) -> str | None:
        """Ask a challenger about events and log what it says; where it cannot say anything, return why."""
        try:
            with session_for_jobs() as session:
                connection = driver_connection(session)
                condition = "WHERE suggestion_events.id = ANY(%(due)s::bigint[]) ORDER BY suggestion_events.id"
                kept = read_kept(connection, condition, {"due": due})
                if kept:
                    answers = self._ask(session, version, kept)
                    _write(connection, version, kept, answers, self._time(session, version, kept[0]))
        except DATABASE_GONE:
            raise
        except Exception as error:  # noqa: BLE001 -- what one challenger does wrong must not hold up the others
            # Not its words, which may hold what somebody bought.
            return type(error).__name__
        return None

    def _count(self, version: int, *, scored: int, failed: int, skipped: int) -> None:
        SHADOW_SCORED.inc(scored)
        SHADOW_FAILED.inc(failed)
        SHADOW_DROPPED.inc(skipped)
        self._unsaid += skipped
        if self._unsaid and time.monotonic() - self._said_at >= SAY_SECONDS:
            logger.warning("Challenger %d cannot keep up: %d suggestions were skipped", version, self._unsaid)
            self._unsaid, self._said_at = 0, time.monotonic()

    def _ask(self, session: Session, version: int, kept: Sequence[KeptSuggestion]) -> list[dict[str, float]]:
        """Let the challenger say what it would have suggested, in words of the classes of whoever was told."""
        told = {each.counts_for_models["version"] for each in kept if each.counts_for_models} - {None}
        classes = {each: self._classes_of(session, each) for each in told}
        return score_by_another(self._open(session, version), kept, classes, MOST_CANDIDATES)

    def _time(self, session: Session, version: int, kept: KeptSuggestion) -> float | None:
        """Give the milliseconds of a processor that one suggestion takes the challenger, where it is time to look.

        Not the clock's: this process yields to all others, so most of what passes may be theirs.
        """
        if time.monotonic() - self._timed_at.get(version, -math.inf) < LOOK_SECONDS:
            return None
        began = time.thread_time()
        self._ask(session, version, [kept])
        self._timed_at[version] = time.monotonic()
        return round((time.thread_time() - began) * 1000, 3)

    def _open(self, session: Session, version: int) -> ServedModel:
        if version not in self._models:
            self._models[version] = serve_model(model_from_artefact(open_any_version(session, version)), version)
        return self._models[version]

    def _classes_of(self, session: Session, version: int) -> Sequence[str]:
        """Give a version's classes, which never change, without keeping the version in memory."""
        if version not in self._classes:
            self._classes[version] = tuple(open_any_version(session, version).header["classes"])
        return self._classes[version]


def _write(
    connection: psycopg.Connection[Any],
    version: int,
    kept: Sequence[KeptSuggestion],
    answers: Sequence[dict[str, float]],
    milliseconds: float | None,
) -> None:
    """Log what the challenger would have suggested: nothing where it is less sure than was asked for.

    The first of them keeps what one suggestion took, where that was measured.
    """
    rows: list[dict[str, Any]] = []
    for each, found in zip(kept, answers, strict=True):
        threshold = float(each.inputs["min_confidence"])
        offered = found if max(found.values(), default=0.0) >= threshold else {}
        candidates = [{"label": label, "confidence": sure, "reasons": []} for label, sure in offered.items()]
        inputs: dict[str, Any] = {"engine": "model", "min_confidence": threshold}
        inputs |= {} if rows or milliseconds is None else {"milliseconds": milliseconds}
        rows.append({"served_event_id": each.event_id, "candidates": candidates, "inputs": inputs})
    # What a crash of the database takes is only what nobody was shown.
    connection.execute("SET LOCAL synchronous_commit = off")
    connection.execute(
        """
        INSERT INTO suggestion_events (
            txn_id, user_id, mode, source, model_version, candidates, features_hash, inputs, experiment, arm,
            propensity, served_event_id
        )
        SELECT
            served.txn_id, served.user_id, served.mode, 'shadow', %(version)s, answer.candidates, served.features_hash,
            answer.inputs, served.experiment, served.arm, served.propensity, served.id
        FROM jsonb_to_recordset(%(answers)s::jsonb) AS answer (
            served_event_id bigint, candidates jsonb, inputs jsonb
        )
        INNER JOIN suggestion_events AS served ON served.id = answer.served_event_id
        ORDER BY served.id
        ON CONFLICT DO NOTHING
        """,
        {"version": str(version), "answers": json.dumps(rows)},
    )
