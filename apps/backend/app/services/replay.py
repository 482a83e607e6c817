"""Compute past suggestions again from what their events kept, and report those that differ.

A suggestion is reproduced if the same categories come out in the same order, each as sure as before but for rounding:
sums are added in another order when there are many, so the last digit that is kept may differ by one, and with it the
order of equals and whether a confidence on the threshold is enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from app.db import driver_connection, session_for_jobs
from app.errors import LedgermillError
from app.ml.category_model import model_from_artefact
from app.ml.features import FEATURE_VERSION
from app.ml.serving import DECIMALS, ServedModel, serve_model
from app.services.heuristics import MOST_CANDIDATES, rank_again
from app.services.kept_suggestions import read_kept, score_again
from app.services.model_versions import open_any_version

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from app.services.kept_suggestions import KeptSuggestion

AT_ONCE: Final = 2_000
SHOWN_DIFFERENCES: Final = 20
# Each takes some tens of megabytes; those that were asked last are kept.
MOST_OPEN: Final = 4
TOLERANCE: Final = 1.5 * 10**-DECIMALS

KEPT_TOO_LITTLE: Final = "An earlier version of Ledgermill made it, and kept too little of what it was made from."
OTHER_FEATURES: Final = "It was made from features of another version."
NOTHING_LEFT: Final = "Its transaction is gone: whose it was has been erased."

# Suggestions that were made; what a challenger would have said is none.
_SERVED: Final = """
    WHERE suggestion_events.source <> 'shadow' AND suggestion_events.created_at >= %(since)s
        AND (%(user_id)s::bigint IS NULL OR suggestion_events.user_id = %(user_id)s)
"""

What = Literal["features", "categories", "confidence"]


@dataclass(frozen=True)
class Difference:
    """A suggestion that comes out otherwise: in what, what was said, and what is said now, with confidences."""

    event_id: int
    txn_id: int
    what: What
    said: Mapping[str, float]
    says: Mapping[str, float]


@dataclass
class Replay:
    """How a replay went.

    Attributes:
        events: Suggestions whose transactions are there still, by the engine that made them.
        differing: How many of them came out otherwise.
        first: The first of these.
        missing: Suggestions that could not be computed again, by the reason, which is a sentence.
    """

    events: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    first: list[Difference] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)


def replay_suggestions(
    since: dt.datetime, *, user_id: int | None = None, progress: Callable[[int, int | None], None] | None = None
) -> Replay:
    """Compute suggestions again.

    Args:
        since: Those made at this moment or later.
        user_id: Of this user alone; None for everybody's.
        progress: Called with the number of suggestions done, and of how many.
    """
    replay = Replay()
    total, gone = _count(since, user_id)
    if gone:
        replay.missing[NOTHING_LEFT] += gone
    # Versions alternate where an experiment has several arms.
    open_once = lru_cache(maxsize=MOST_OPEN)(_open)
    for kept in _read(since, user_id):
        by_version: defaultdict[str | None, list[KeptSuggestion]] = defaultdict(list)
        for each in kept:
            replay.events[each.source] += 1
            if not each.is_complete:
                replay.missing[KEPT_TOO_LITTLE] += 1
            elif each.inputs["feature_version"] != FEATURE_VERSION:
                replay.missing[OTHER_FEATURES] += 1
            elif each.features_hash not in (None, each.hash_now):
                _differs(replay, each, "features", {})
            else:
                by_version[each.model_version].append(each)
        for version, events in by_version.items():
            _replay_version(replay, version, events, open_once)
        if progress:
            progress(replay.events.total(), total - gone)
    return replay


def compare(kept: KeptSuggestion, says: Mapping[str, float]) -> What | None:
    """Say in what a suggestion differs from what comes out now; None where it does not.

    Args:
        kept: What was suggested.
        says: Names and confidences, best first, at least as many as were suggested.
    """
    threshold = float(kept.inputs["min_confidence"])
    best = max(says.values(), default=0.0)
    if not kept.candidates:
        return None if not says or best < threshold + TOLERANCE else "categories"
    said = _said(kept)
    if best < threshold - TOLERANCE or not said.keys() <= says.keys():
        return "categories"
    if any(abs(confidence - says[label]) > TOLERANCE for label, confidence in said.items()):
        return "confidence"
    if len(said) < min(kept.inputs["top_k"], len(says)):
        return "categories"
    # What comes before the last that was suggested was suggested, too, unless it is as good as equal.
    least = min(said.values())
    missed = [label for label, confidence in says.items() if label not in said and confidence > least + TOLERANCE]
    return "categories" if missed else None


def _replay_version(
    replay: Replay, version: str | None, events: Sequence[KeptSuggestion], open_once: Callable[[str], ServedModel | str]
) -> None:
    """Compute again what one version said, or, without a version, the heuristics."""
    if version is None:
        for each in events:
            _note(replay, each, rank_again(each.inputs))
        return
    served = open_once(version)
    if isinstance(served, str):
        replay.missing[served] += len(events)
        return
    for each, says in zip(events, score_again(served, events, MOST_CANDIDATES), strict=True):
        _note(replay, each, says)


def _open(version: str) -> ServedModel | str:
    """Open a version; where that cannot be, say why."""
    try:
        with session_for_jobs() as session:
            return serve_model(model_from_artefact(open_any_version(session, int(version))), int(version))
    except LedgermillError as error:
        return f"Version {version}: {error}"
    except Exception as error:  # noqa: BLE001 -- a file that is what was registered may still be nonsense
        return f"Version {version}: Its file cannot be read ({type(error).__name__}: {error})."


def _note(replay: Replay, kept: KeptSuggestion, says: Mapping[str, float]) -> None:
    what = compare(kept, says)
    if what is not None:
        _differs(replay, kept, what, says)


def _differs(replay: Replay, kept: KeptSuggestion, what: What, says: Mapping[str, float]) -> None:
    replay.differing += 1
    if len(replay.first) < SHOWN_DIFFERENCES:
        shown = dict(list(says.items())[: max(len(kept.candidates), 1)])
        replay.first.append(Difference(kept.event_id, kept.txn_id, what, _said(kept), shown))


def _said(kept: KeptSuggestion) -> dict[str, float]:
    return {candidate["label"]: candidate["confidence"] for candidate in kept.candidates}


def _count(since: dt.datetime, user_id: int | None) -> tuple[int, int]:
    """Count the suggestions, and those of them whose transactions are gone."""
    query = f"""
        SELECT
            count(*),
            count(*) FILTER (
                WHERE NOT EXISTS (
                    SELECT FROM transactions
                    WHERE transactions.id = suggestion_events.txn_id
                        AND transactions.user_id = suggestion_events.user_id
                )
            )
        FROM suggestion_events {_SERVED}
    """  # noqa: S608 -- the condition is a constant
    with session_for_jobs() as session:
        rows = driver_connection(session).execute(query.encode(), {"since": since, "user_id": user_id})
        ((count, gone),) = rows.fetchall()
        return count, gone


def _read(since: dt.datetime, user_id: int | None) -> Iterator[list[KeptSuggestion]]:
    last = 0
    while True:
        with session_for_jobs() as session:
            kept = read_kept(
                driver_connection(session),
                f"{_SERVED} AND suggestion_events.id > %(last)s ORDER BY suggestion_events.id LIMIT %(limit)s",
                {"since": since, "user_id": user_id, "last": last, "limit": AT_ONCE},
            )
        if not kept:
            return
        last = kept[-1].event_id
        yield kept
