"""Let the demo suggest for the month whose categories it held back, and answer as the file's owner would."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.db import driver_connection, session_for_user
from app.request_pool import close_request_pool
from app.services.deployments import category_set_of
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels
from app.services.served_models import SERVER
from app.services.suggestions import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

REPORTED_EVERY: Final = 100


@dataclass(frozen=True)
class SuggestionCounts:
    """How the suggestions of the month that was held back did.

    Attributes:
        count: Transactions that suggestions were asked for.
        covered: Those that got one.
        accepted: First candidates that were what the file says.
        rejected: Those that were not.
        precision: accepted / covered; 0 where nothing was suggested.
    """

    count: int
    covered: int
    accepted: int
    rejected: int
    precision: float


def suggest_and_answer(
    user_id: int, held_back: Mapping[int, str], progress: Callable[[int, int | None], None]
) -> tuple[SuggestionCounts, list[float]]:
    """Suggest for transactions whose categories are known but were not imported, and answer with those.

    What has been suggested to before is not suggested to again, so a second run changes nothing. Where nothing was
    suggested, the category becomes a label all the same: the person would have chosen it.

    Args:
        user_id: The demo's user.
        held_back: The category of each transaction.
        progress: Called with the number of transactions done, and of how many.

    Returns:
        How the suggestions did, and the seconds that each took that was made now.
    """
    waiting = sorted(set(held_back) - _suggested(user_id, held_back))
    done = len(held_back) - len(waiting)
    # All are suggested to before the first is answered: no answer of the month helps with the month.
    with session_for_user(user_id) as session:
        _add_categories(session, user_id, set(held_back.values()))
        category_set = category_set_of(session, user_id)
    SERVER.look_once(category_set)
    seconds = asyncio.run(_suggest_each(user_id, waiting))
    for event_id, txn_id, label in _unanswered(user_id, held_back):
        truth = held_back[txn_id]
        with session_for_user(user_id) as session:
            if label is None:
                write_labels(session, {txn_id: truth}, source="human")
            elif label == truth:
                answer_suggestion(session, user_id, event_id, "accept")
            else:
                answer_suggestion(session, user_id, event_id, "reject", label=truth)
        done += 1
        if done % REPORTED_EVERY == 0:
            progress(min(done, len(held_back)), len(held_back))
    return _count(user_id, held_back), seconds


async def _suggest_each(user_id: int, txn_ids: Sequence[int]) -> list[float]:
    """Ask for one transaction after the other, as people do; return what each took."""
    seconds = []
    try:
        for txn_id in txn_ids:
            began = time.perf_counter()
            await suggest(user_id, [txn_id])
            seconds.append(time.perf_counter() - began)
    finally:
        await close_request_pool()
    return seconds


def read_examples(user_id: int, held_back: Mapping[int, str], most: int) -> list[tuple[str, str, str, str]]:
    """Return a few of the month's suggestions, of each category one, the surest and the least sure in turn.

    Returns:
        Description, suggested category, confidence and first reason.
    """
    with session_for_user(user_id) as session:
        rows = driver_connection(session).execute(
            """
            SELECT description, label, confidence, reason
            FROM (
                SELECT DISTINCT ON (events.candidates -> 0 ->> 'label')
                    transactions.description, events.candidates -> 0 ->> 'label' AS label,
                    to_char((events.candidates -> 0 ->> 'confidence')::numeric, '0.00') AS confidence,
                    events.candidates -> 0 -> 'reasons' ->> 0 AS reason
                FROM suggestion_events AS events
                INNER JOIN transactions ON transactions.id = events.txn_id
                WHERE events.txn_id = ANY(%s) AND events.candidates -> 0 -> 'reasons' ->> 0 IS NOT NULL
                ORDER BY
                    events.candidates -> 0 ->> 'label',
                    abs((events.candidates -> 0 ->> 'confidence')::numeric - 0.9), events.id
            ) AS examples
            ORDER BY confidence DESC, label
            LIMIT %s
            """,
            [list(held_back), most],
        )
        return [(description, label, confidence.strip(), reason) for description, label, confidence, reason in rows]


def _add_categories(session: Session, user_id: int, names: set[str]) -> None:
    """Let the user have the file's categories that occur in the month that was held back alone."""
    driver_connection(session).execute(
        """
        INSERT INTO categories (user_id, name)
        SELECT users.id, wanted.name
        FROM unnest(%(names)s::text[]) AS wanted (name)
        INNER JOIN users ON users.id = %(user_id)s
        WHERE NOT EXISTS (
            SELECT FROM categories
            WHERE categories.name = wanted.name
                AND (categories.user_id = users.id OR (categories.user_id IS NULL AND NOT users.own_categories))
        )
        """,
        {"user_id": user_id, "names": sorted(names)},
    )


def _suggested(user_id: int, held_back: Mapping[int, str]) -> set[int]:
    with session_for_user(user_id) as session:
        rows = driver_connection(session).execute(
            "SELECT DISTINCT txn_id FROM suggestion_events WHERE txn_id = ANY(%s)", [list(held_back)]
        )
        return {txn_id for (txn_id,) in rows}


def _unanswered(user_id: int, held_back: Mapping[int, str]) -> list[tuple[int, int, str | None]]:
    """Return event, transaction and first candidate of the suggestions that nobody has answered."""
    with session_for_user(user_id) as session:
        rows = driver_connection(session).execute(
            """
            SELECT events.id, events.txn_id, events.candidates -> 0 ->> 'label'
            FROM suggestion_events AS events
            WHERE events.txn_id = ANY(%s)
                AND NOT EXISTS (SELECT FROM suggestion_feedback WHERE suggestion_feedback.event_id = events.id)
            ORDER BY events.id
            """,
            [list(held_back)],
        )
        return rows.fetchall()


def _count(user_id: int, held_back: Mapping[int, str]) -> SuggestionCounts:
    """Count from what was logged, so that a second run says what the first did."""
    with session_for_user(user_id) as session:
        row = (
            driver_connection(session)
            .execute(
                """
                SELECT
                    count(*), count(*) FILTER (WHERE jsonb_array_length(events.candidates) > 0),
                    count(*) FILTER (WHERE feedback.action = 'accept'),
                    count(*) FILTER (WHERE feedback.action = 'reject')
                FROM (
                    SELECT DISTINCT ON (txn_id) * FROM suggestion_events WHERE txn_id = ANY(%s) ORDER BY txn_id, id
                ) AS events
                LEFT JOIN LATERAL (
                    SELECT action FROM suggestion_feedback
                    WHERE suggestion_feedback.event_id = events.id ORDER BY created_at DESC, id DESC LIMIT 1
                ) AS feedback ON true
                """,
                [list(held_back)],
            )
            .fetchone()
        )
    count, covered, accepted, rejected = row or (0, 0, 0, 0)
    precision = round(accepted / covered, 4) if covered else 0.0
    return SuggestionCounts(count=count, covered=covered, accepted=accepted, rejected=rejected, precision=precision)
