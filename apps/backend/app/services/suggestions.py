"""Suggest categories for transactions, and write down what was suggested and why."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.errors import ForeignKeyViolation

from app.db import session_for_user
from app.errors import InvalidInput, NotFound
from app.ml.features import FEATURE_VERSION
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.request_pool import WaitFirst, close_request_pool, prepare, request_transaction
from app.services.answering import Answer, answer
from app.services.asked_transactions import MOST_TRANSACTIONS
from app.services.deployments import category_set_of
from app.services.heuristics import MOST_CANDIDATES
from app.services.metrics import SUGGESTION_SECONDS, SUGGESTIONS_ABSTAINED, SUGGESTIONS_TOTAL
from app.services.remembered_users import NO_SUCH_USER, Waited, look_at, read_asked
from app.services.served_models import SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.ml.serving import Candidate
    from app.request_pool import RequestTransaction
    from app.services.answering import Abstention, Mode, Source
    from app.services.experiment_assignment import Assignment
    from app.services.remembered_users import Look

DEFAULT_CANDIDATES: Final = 3

# All in one parameter: to write arrays of JSON as arrays takes longer than all the rest.
_LOG: Final = prepare(
    "log_suggestions",
    ("bigint", "text", "jsonb"),
    """
    INSERT INTO suggestion_events (
        txn_id, user_id, mode, source, model_version, candidates, features_hash, inputs, experiment, arm, propensity,
        created_at
    )
    SELECT
        answer.txn_id, $1, $2, answer.source, answer.model_version, answer.candidates,
        answer.features_hash, answer.inputs, answer.experiment, answer.arm, answer.propensity,
        -- Not when the request began: whoever reads the log in the order of numbers waits for what is young.
        clock_timestamp()
    FROM jsonb_to_recordset($3) AS answer (
        position integer, txn_id bigint, source text, model_version text, candidates jsonb, features_hash text,
        inputs jsonb, experiment text, arm text, propensity double precision
    )
    ORDER BY answer.position
    RETURNING id
    """,
)


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


async def suggest(
    user_id: int,
    txn_ids: Sequence[int],
    *,
    mode: Mode = "auto",
    top_k: int = DEFAULT_CANDIDATES,
    min_confidence: float | None = None,
    credential_id: int | None = None,
) -> Suggestions:
    """Suggest categories for a user's transactions and log each suggestion, also where it is to say nothing.

    Args:
        user_id: Whose transactions.
        txn_ids: Which; at most MOST_TRANSACTIONS. One that is named twice is answered once.
        mode: The engine asked for. Where there is no model, the heuristics answer for it.
        top_k: How many candidates each is given at the most.
        min_confidence: Say nothing where the best candidate is less sure; None: what the user has set, else
            OWN_THRESHOLD.
        credential_id: What the request showed; it must be good still.

    Raises:
        InvalidInput: Too many transactions or candidates, or a confidence that is no probability.
        NotSignedIn: The credential has ended.
        psycopg.OperationalError: The database does not answer.
    """
    _check(txn_ids, top_k, min_confidence)
    waited = Waited(since=time.monotonic())
    while True:
        look = look_at(user_id, txn_ids, credential_id, waited)
        try:
            answers, event_ids = await _suggest(look, waited, mode=mode, most=top_k, min_confidence=min_confidence)
            break
        except WaitFirst as missing:
            await missing.wait()
    _count(answers, time.monotonic() - waited.since)
    suggestions = tuple(
        Suggestion(
            txn_id=each.asked.txn_id,
            event_id=event_id,
            candidates=each.offered,
            source=each.source,
            model_version=each.model_version,
            abstention=each.abstention,
        )
        for each, event_id in zip(answers, event_ids, strict=True)
    )
    found = {each.txn_id for each in suggestions}
    return Suggestions(suggestions, tuple(txn_id for txn_id in dict.fromkeys(txn_ids) if txn_id not in found))


async def _suggest(
    look: Look, waited: Waited, *, mode: Mode, most: int, min_confidence: float | None
) -> tuple[list[Answer], list[int]]:
    """Answer in one transaction, which holds for all that is read and written; return the events' ids, too."""
    async with request_transaction(look.user_id, look.query) as transaction:
        knowledge, asked = await read_asked(transaction, look, waited)
        threshold = OWN_THRESHOLD if knowledge.min_confidence is None else knowledge.min_confidence
        if min_confidence is not None:
            threshold = min_confidence
        answers = await answer(
            transaction.connection, knowledge, asked, waited, mode=mode, most=most, threshold=threshold
        )
        return answers, await _log(transaction, look.user_id, answers, mode, most)


def suggest_now(user_id: int, txn_ids: Sequence[int], **options: Any) -> Suggestions:
    """Do the same for a program that serves no requests, with what is deployed at the moment."""

    async def ask() -> Suggestions:
        try:
            return await suggest(user_id, txn_ids, **options)
        finally:
            await close_request_pool()

    with session_for_user(user_id) as session:
        category_set = category_set_of(session, user_id)
    SERVER.look_once(category_set)
    return asyncio.run(ask())


def _check(txn_ids: Sequence[int], top_k: int, min_confidence: float | None) -> None:
    if len(txn_ids) > MOST_TRANSACTIONS:
        raise InvalidInput(f"Suggestions are for at most {MOST_TRANSACTIONS:,} transactions at a time; ask in parts.")
    if not 1 <= top_k <= MOST_CANDIDATES:
        raise InvalidInput(f"top_k is a number from 1 to {MOST_CANDIDATES}.")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise InvalidInput("min_confidence is a probability, from 0 to 1.")


async def _log(
    transaction: RequestTransaction, user_id: int, answers: Sequence[Answer], mode: Mode, most: int
) -> list[int]:
    """Write one event for each answer in one statement; return the events' ids, in the answers' order."""
    asked_for = {"top_k": most, "feature_version": FEATURE_VERSION}
    rows = [
        {
            "position": position,
            "txn_id": each.asked.txn_id,
            "source": each.source,
            "model_version": each.model_version,
            "candidates": [vars(candidate) for candidate in each.offered],
            "features_hash": each.asked.features_hash,
            "inputs": each.ranked.inputs | asked_for | {"min_confidence": each.threshold} | _exposure(each.assignment),
            **_arm(each.assignment),
        }
        for position, each in enumerate(answers)
    ]
    try:
        logged = await transaction.finish(_LOG.call(user_id, mode, json.dumps(rows)))
    except ForeignKeyViolation:
        # Erased since the request began.
        raise NotFound(NO_SUCH_USER) from None
    return [event_id for (event_id,) in logged]


def _arm(assignment: Assignment | None) -> dict[str, Any]:
    if assignment is None:
        return {}
    return {"experiment": assignment.experiment.name, "arm": assignment.arm.name, "propensity": assignment.propensity}


def _exposure(assignment: Assignment | None) -> dict[str, Any]:
    """Return what was randomised and what was due in all arms: whatever could tell that later may have changed."""
    if assignment is None:
        return {}
    experiment = assignment.experiment
    return {
        "exposure": {"unit": assignment.unit, "change": experiment.change, "versions": experiment.versions},
    }


def _count(answers: Sequence[Answer], seconds: float) -> None:
    """Count what was answered, once it is written down."""
    for source in {each.source for each in answers} or {"rule"}:
        SUGGESTION_SECONDS.labels(source=source).observe(seconds)
    for (source, abstention), count in Counter((each.source, each.abstention) for each in answers).items():
        if abstention is None:
            SUGGESTIONS_TOTAL.labels(source=source).inc(count)
        else:
            SUGGESTIONS_ABSTAINED.labels(source=source, reason=abstention).inc(count)
