"""What a challenger would have suggested, computed out of the way of everybody who waits.

The log of events is the queue: what was suggested is read a little later, the challenger is told the same counts, and
what it says is logged as an event of its own, with source `shadow`, that nobody is shown. Nothing of it is part of a
request, so nothing that goes wrong here can change an answer. Killed anywhere and begun again, it writes nothing twice.
Where it cannot keep up it skips, and counts what it skipped.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.db import driver_connection, session_for_jobs
from app.ml.category_model import model_from_artefact
from app.ml.serving import ServedModel, serve_model
from app.services.kept_suggestions import read_kept, score_by_another
from app.services.metrics import SHADOW_DROPPED, SHADOW_FAILED, SHADOW_SCORED
from app.services.model_versions import open_any_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from app.services.kept_suggestions import KeptSuggestion

logger = logging.getLogger(__name__)

# Little by little: what the database does for it in one go, somebody may have to wait for.
AT_ONCE: Final = 25
# An event has its number before others can see it; a request takes less than this to end.
SETTLING_SECONDS: Final = 2.0
# What has waited for longer is skipped.
MOST_SECONDS: Final = 30.0
# How often it is looked whether something has, and how long the challenger takes.
LOOK_SECONDS: Final = 1.0
MOST_CANDIDATES: Final = 3

# What was suggested to users of a category set, and what a model was told or would have been.
_SERVED: Final = """
    INNER JOIN users ON users.id = suggestion_events.user_id
    WHERE CASE WHEN users.own_categories OR users.is_demo THEN users.id END IS NOT DISTINCT FROM %(category_set)s
        AND suggestion_events.id > %(after)s AND suggestion_events.source <> 'shadow'
        AND (suggestion_events.source = 'model' OR suggestion_events.inputs ? 'model')
        AND suggestion_events.model_version IS DISTINCT FROM %(version)s
        AND suggestion_events.created_at < now() - make_interval(secs => %(seconds)s)
"""


@dataclass
class ShadowScorer:
    """How far a process has come: by challenger, the number of the last event that is done or skipped."""

    _after: dict[int, int] = field(default_factory=dict)
    _models: dict[int, ServedModel] = field(default_factory=dict)
    _looked_at: dict[int, float] = field(default_factory=dict)

    def score_waiting(self, *, settling: float = SETTLING_SECONDS) -> int:
        """Score some of what waits for each challenger; return how many suggestions that was.

        Args:
            settling: Seconds that a suggestion must be old.
        """
        with session_for_jobs() as session:
            query = "SELECT version, category_set FROM deployed_models() WHERE role = 'challenger'"
            challengers = dict(driver_connection(session).execute(query).fetchall())
        for version in self._models.keys() - challengers.keys():
            del self._models[version]
        return sum(self._score_some(version, owner, settling) for version, owner in challengers.items())

    def _score_some(self, version: int, category_set: int | None, settling: float) -> int:
        is_time_to_look = time.monotonic() - self._looked_at.get(version, -LOOK_SECONDS) >= LOOK_SECONDS
        with session_for_jobs() as session:
            connection = driver_connection(session)
            # What a crash of the database takes is only what nobody was shown.
            connection.execute("SET LOCAL synchronous_commit = off")
            chosen = {"category_set": category_set, "version": str(version), "after": self._after.get(version, 0)}
            if is_time_to_look:
                self._looked_at[version] = time.monotonic()
                chosen["after"] = self._skip_late(connection, version, chosen)
            condition = f"{_SERVED} ORDER BY suggestion_events.id LIMIT {AT_ONCE}"
            kept = read_kept(connection, condition, chosen | {"seconds": settling})
            if not kept:
                return 0
            try:
                answers = self._ask(version, kept)
                _write(connection, version, kept, answers, self._time(version, kept[0]) if is_time_to_look else None)
                SHADOW_SCORED.inc(len(kept))
            except Exception as error:  # noqa: BLE001 -- what one challenger does wrong must not hold up the others
                # Not its words, which may hold what somebody bought.
                logger.error("Challenger %d failed on %d suggestions: %s", version, len(kept), type(error).__name__)  # noqa: TRY400
                SHADOW_FAILED.inc(len(kept))
                session.rollback()
        self._after[version] = kept[-1].event_id
        return len(kept)

    def _skip_late(self, connection: psycopg.Connection[Any], version: int, chosen: dict[str, Any]) -> int:
        """Skip what has waited too long; return the number of the last event that is done or skipped."""
        query = f"SELECT count(*), max(suggestion_events.id) FROM suggestion_events {_SERVED}"  # noqa: S608 -- a constant
        ((late, last),) = connection.execute(query.encode(), chosen | {"seconds": MOST_SECONDS}).fetchall()
        # What was there before the process began is nobody's overload.
        if late and version in self._after:
            logger.warning("Challenger %d cannot keep up: %d suggestions were skipped", version, late)
            SHADOW_DROPPED.inc(late)
        after = max(self._after.get(version, 0), last or 0)
        self._after[version] = after
        return after

    def _ask(self, version: int, kept: Sequence[KeptSuggestion]) -> list[dict[str, float]]:
        """Let the challenger say what it would have suggested, in words of the classes of whoever was told."""
        told = {each.counts_for_models["version"] for each in kept if each.counts_for_models} - {None}
        classes = {each: self._open(each).model.classes for each in told}
        return score_by_another(self._open(version), kept, classes, MOST_CANDIDATES)

    def _time(self, version: int, kept: KeptSuggestion) -> float:
        """Give the milliseconds that the challenger takes for one suggestion."""
        told = (kept.counts_for_models or {})["version"]
        classes = {} if told is None else {told: self._open(told).model.classes}
        began = time.perf_counter()
        score_by_another(self._open(version), [kept], classes, MOST_CANDIDATES)
        return round((time.perf_counter() - began) * 1000, 3)

    def _open(self, version: int) -> ServedModel:
        if version not in self._models:
            with session_for_jobs() as session:
                artefact = open_any_version(session, version)
            self._models[version] = serve_model(model_from_artefact(artefact), version)
        return self._models[version]


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
