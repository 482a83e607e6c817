"""Suggest categories for transactions, and write down what was suggested and why."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import event

from app.db import driver_connection
from app.errors import InvalidInput
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.services.heuristics import MOST_CANDIDATES, Candidate, RankedCandidates, rank_by_heuristics
from app.services.metrics import SUGGESTION_SECONDS, SUGGESTIONS_ABSTAINED, SUGGESTIONS_TOTAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from sqlalchemy.orm import Session

Mode = Literal["heuristic", "model", "auto"]
Source = Literal["rule", "model"]
Abstention = Literal["no_candidate", "below_confidence"]

MOST_TRANSACTIONS: Final = 1000
DEFAULT_CANDIDATES: Final = 3


@dataclass(frozen=True)
class Suggestion:
    """What was suggested for a transaction, and where that is written down.

    Attributes:
        event_id: The event that an answer refers to.
        candidates: Best first; empty where nothing is suggested.
        source: The engine that answered: `rule` for the heuristics.
        model_version: The model's, where one answered.
        abstention: Why nothing is suggested; None where something is.
    """

    txn_id: int
    event_id: int
    candidates: tuple[Candidate, ...]
    source: Source
    model_version: str | None
    abstention: Abstention | None


@dataclass(frozen=True)
class Suggestions:
    """Suggestions in the order asked for, and the ids that are no transaction of the user's."""

    suggestions: tuple[Suggestion, ...]
    unknown: tuple[int, ...]


def suggest(
    session: Session,
    user_id: int,
    txn_ids: Sequence[int],
    *,
    mode: Mode = "auto",
    top_k: int = DEFAULT_CANDIDATES,
    min_confidence: float | None = None,
) -> Suggestions:
    """Suggest categories for a user's transactions and log each suggestion, also where it is to say nothing.

    Args:
        session: A session of the user; the events are written in its transaction.
        user_id: Whose transactions.
        txn_ids: Which; at most MOST_TRANSACTIONS. One that is named twice is answered once.
        mode: The engine asked for. Where there is no model, the heuristics answer for it.
        top_k: How many candidates each is given at the most.
        min_confidence: Say nothing where the best candidate is less sure; None: what the user has set, else the
            engine's own threshold.

    Raises:
        InvalidInput: Too many transactions or candidates, or a confidence that is no probability.
    """
    _check(txn_ids, top_k, min_confidence)
    started = time.perf_counter()
    connection = driver_connection(session)
    threshold = _threshold(connection, user_id, min_confidence)
    ranked = rank_by_heuristics(session, user_id, txn_ids, most=top_k)
    event_ids = _log(connection, user_id, ranked, mode=mode, threshold=threshold)
    suggestions = tuple(
        Suggestion(
            txn_id=each.txn_id,
            event_id=event_ids[each.txn_id],
            candidates=_offered(each, threshold),
            source="rule",
            model_version=None,
            abstention=_abstention(each, threshold),
        )
        for each in ranked
    )
    found = {each.txn_id for each in ranked}
    outcomes = Counter(suggestion.abstention for suggestion in suggestions)
    event.listen(session, "after_commit", partial(_count, outcomes, time.perf_counter() - started), once=True)
    return Suggestions(suggestions, tuple(txn_id for txn_id in dict.fromkeys(txn_ids) if txn_id not in found))


def _check(txn_ids: Sequence[int], top_k: int, min_confidence: float | None) -> None:
    if len(txn_ids) > MOST_TRANSACTIONS:
        raise InvalidInput(f"Suggestions are for at most {MOST_TRANSACTIONS:,} transactions at a time; ask in parts.")
    if not 1 <= top_k <= MOST_CANDIDATES:
        raise InvalidInput(f"top_k is a number from 1 to {MOST_CANDIDATES}.")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise InvalidInput("min_confidence is a probability, from 0 to 1.")


def _threshold(connection: psycopg.Connection[Any], user_id: int, asked: float | None) -> float:
    if asked is not None:
        return asked
    row = connection.execute("SELECT min_confidence FROM users WHERE id = %s", [user_id]).fetchone()
    return OWN_THRESHOLD if row is None or row[0] is None else float(row[0])


def _offered(ranked: RankedCandidates, threshold: float) -> tuple[Candidate, ...]:
    return ranked.candidates if _abstention(ranked, threshold) is None else ()


def _abstention(ranked: RankedCandidates, threshold: float) -> Abstention | None:
    if not ranked.candidates:
        return "no_candidate"
    return "below_confidence" if ranked.candidates[0].confidence < threshold else None


def _log(
    connection: psycopg.Connection[Any],
    user_id: int,
    ranked: Sequence[RankedCandidates],
    *,
    mode: Mode,
    threshold: float,
) -> dict[int, int]:
    """Write one event for each transaction in one statement; return the events' ids by transaction."""
    rows = connection.execute(
        """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates, inputs)
        SELECT answer.txn_id, %(user_id)s, %(mode)s, 'rule', answer.candidates, answer.inputs
        FROM unnest(%(txn_ids)s::bigint[], %(candidates)s::jsonb[], %(inputs)s::jsonb[])
            WITH ORDINALITY AS answer (txn_id, candidates, inputs, position)
        ORDER BY answer.position
        RETURNING txn_id, id
        """,
        {
            "user_id": user_id,
            "mode": mode,
            "txn_ids": [each.txn_id for each in ranked],
            "candidates": [json.dumps([asdict(one) for one in _offered(each, threshold)]) for each in ranked],
            "inputs": [json.dumps(each.inputs | {"min_confidence": threshold}) for each in ranked],
        },
    )
    return dict(rows.fetchall())


def _count(outcomes: Counter[Abstention | None], seconds: float, _session: Session) -> None:
    SUGGESTION_SECONDS.labels(source="rule").observe(seconds)
    SUGGESTIONS_TOTAL.labels(source="rule").inc(outcomes.pop(None, 0))
    for reason, count in outcomes.items():
        SUGGESTIONS_ABSTAINED.labels(source="rule", reason=reason).inc(count)
