"""The users whom this process saw last, so that a suggestion takes no pass over their labels; and how that stays true.

Every request asks in one query for the transactions it is about, for the state of what is remembered, and for the label
events since the last look: those that were written by a database transaction which was not over then. The number of
such a one is at least the lowest of those that were running, so no label is missed, however long its transaction takes.
Labels are moved one by one; where an import, a rename or a setting has changed something else, all is read anew.

That is read without the request's transaction, which would hold a connection meanwhile; the request then begins again.
Whatever was read since a request began is new enough for it. One event loop at a time uses this.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import polars as pl
from anyio.to_thread import run_sync

from app.db import session_for_user
from app.errors import NotFound, NotSignedIn
from app.request_pool import WaitFirst, prepare
from app.services.asked_transactions import ASKED_COLUMNS, AskedTransaction, described
from app.services.credentials import IS_LIVE, NO_SUCH_CREDENTIAL, forget
from app.services.heuristics import read_habits
from app.services.user_knowledge import (
    LABEL_SCHEMA,
    LABELS,
    STATE_COLUMNS,
    UserKnowledge,
    UserState,
    given_labels,
    read_knowledge,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    import psycopg

    from app.request_pool import RequestTransaction
    from app.services.heuristics import Habits

Value = TypeVar("Value")

# Labels of some hundred bytes each, over all users that a process keeps, and what else a user takes, in labels.
MOST_LABELS: Final = 300_000
LABELS_PER_USER: Final = 50
# Of more than so many labels that have moved, one by one takes longer than all anew.
MOST_MOVED: Final = 1_000

_BASIS: Final = prepare(
    "suggestion_basis",
    ("bigint", "bigint[]", "bigint", "bigint"),
    f"""
    SELECT
        {IS_LIVE.format(credential_id="$4")},
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
        ARRAY(SELECT id FROM label_events WHERE user_id = users.id AND written_in >= $3),
        {STATE_COLUMNS},
        {ASKED_COLUMNS}
    FROM users
    LEFT JOIN transactions
        ON transactions.id = ANY($2) AND transactions.user_id = users.id AND transactions.deleted_at IS NULL
    LEFT JOIN ml_features ON ml_features.txn_id = transactions.id
    WHERE users.id = $1
    """,  # noqa: S608 -- the parts are constants
)
_STATE: Final = slice(3, 3 + len(UserState._fields))
_TRANSACTION: Final = slice(_STATE.stop, None)
NO_SUCH_USER: Final = "There is no such user any more."
# No database transaction has a number as high as this.
_FAR_AHEAD: Final = 2**62

KNOWN: Final[OrderedDict[int, UserKnowledge]] = OrderedDict()
"""The users whom this process remembers; whom it saw last comes last."""

_readings: Final[dict[Hashable, asyncio.Future[Any]]] = {}


@dataclass
class Waited:
    """What a request has waited for: it is enough for it, however soon others push it out of memory.

    Attributes:
        since: When the request began, by the monotonic clock.
        known: The user's knowledge, if it was read for this request.
        opened: Versions of models.
    """

    since: float
    known: UserKnowledge | None = None
    opened: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Look:
    """What a request asks first, and what it asks that for.

    Attributes:
        user_id: Who asks.
        txn_ids: About which transactions.
        credential_id: What the request showed; it must be good still.
        known: What is remembered of the user.
        query: Gives `read_asked` what it takes.
    """

    user_id: int
    txn_ids: Sequence[int]
    credential_id: int | None
    known: UserKnowledge | None
    query: bytes


def look_at(user_id: int, txn_ids: Sequence[int], credential_id: int | None, waited: Waited) -> Look:
    """Write the query for some transactions of a user and what of the user's knowledge may have changed."""
    known = waited.known or KNOWN.get(user_id)
    query = _BASIS.call(user_id, list(txn_ids), known.horizon if known else _FAR_AHEAD, credential_id)
    return Look(user_id, txn_ids, credential_id, known, query)


async def read_asked(
    transaction: RequestTransaction, look: Look, waited: Waited
) -> tuple[UserKnowledge, list[AskedTransaction]]:
    """Read transactions of a user and what is known of the user now.

    Args:
        transaction: Of the user's, begun with the look's query.
        look: What that asked.
        waited: What the request has waited for.

    Returns:
        The knowledge, and a transaction for each id, the first mention counting.

    Raises:
        NotFound: The user is gone.
        NotSignedIn: The credential that the request shows has ended.
        WaitFirst: What is remembered holds no longer.
    """
    rows, user_id = transaction.first, look.user_id
    if not rows:
        KNOWN.pop(user_id, None)
        forget(look.credential_id)
        raise NotFound(NO_SUCH_USER)
    is_live, horizon, events = rows[0][: _STATE.start]
    if not is_live:
        forget(look.credential_id)
        raise NotSignedIn(NO_SUCH_CREDENTIAL)
    known, state = look.known, UserState(*rows[0][_STATE])
    if known is None or (known.read_at < waited.since and _holds_no_longer(known, state, events)):
        raise WaitFirst(partial(_wait_for_knowledge, waited, user_id, known))
    await _move_labels(transaction.connection, known, horizon, frozenset(events))
    if KNOWN.get(user_id) is known:
        KNOWN.move_to_end(user_id)
    asked = described(user_id, [row[_TRANSACTION] for row in rows if row[_TRANSACTION][0] is not None])
    return known, [asked[txn_id] for txn_id in dict.fromkeys(look.txn_ids) if txn_id in asked]


def habits_of(knowledge: UserKnowledge, waited: Waited) -> Habits:
    """Return how a user labels, not older than a hundredth of the labels.

    Args:
        knowledge: Of the user.
        waited: What the request has waited for.

    Raises:
        WaitFirst: They are not remembered.
    """
    habits = knowledge.habits
    if habits is None or (knowledge.has_moved_on and knowledge.habits_read_at < waited.since):
        raise WaitFirst(partial(_wait_for_habits, waited, knowledge))
    return habits


def _holds_no_longer(known: UserKnowledge, state: UserState, events: Sequence[int]) -> bool:
    """Whether something else than a few labels has changed since; events that are in it already may be many."""
    return known.state != state or (len(events) > MOST_MOVED and len(set(events) - known.seen) > MOST_MOVED)


async def _move_labels(
    connection: psycopg.AsyncConnection[Any], known: UserKnowledge, horizon: int, events: frozenset[int]
) -> None:
    """Bring labels that have moved since the last look up to date."""
    labels: pl.DataFrame | None = None
    moved: list[int] = []
    if not events <= known.seen:
        query = "SELECT DISTINCT txn_id FROM label_events WHERE id = ANY(%s)"
        moved = [row[0] async for row in await connection.execute(query, [sorted(events - known.seen)])]
        rows = await connection.execute(
            (LABELS + " AND transactions.id = ANY(%(moved)s)").encode(), {"user_id": known.user_id, "moved": moved}
        )
        labels = pl.DataFrame(await rows.fetchall(), schema=LABEL_SCHEMA, orient="row")
    # Of two requests at once, one that looked earlier may come later: what it found is in the knowledge already.
    if horizon < known.horizon or (horizon == known.horizon and not events >= known.seen):
        return
    if labels is not None:
        given = given_labels(labels)
        for txn_id in moved:
            if txn_id in given:
                known.memory.put(txn_id, given[txn_id])
            else:
                known.memory.remove(txn_id)
        known.moved += len(moved)
    known.horizon, known.seen = horizon, events


async def once(key: Hashable, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
    """Do something that takes time; requests that need the same wait for one of them.

    Args:
        key: Names what is done.
        work: Does it.
    """
    doing: asyncio.Future[Value] | None = _readings.get(key)
    if doing is None:
        doing = _readings[key] = asyncio.ensure_future(work())
        doing.add_done_callback(lambda _: _readings.pop(key, None))
    # Whoever gives up waiting does not end it for the others.
    return await asyncio.shield(doing)


async def _wait_for_knowledge(waited: Waited, user_id: int, found: UserKnowledge | None) -> None:
    known = KNOWN.get(user_id)
    # Another request may have read it since this one looked.
    if known is None or known is found:
        known = await once(("knowledge", user_id), partial(_read_anew, user_id))
    waited.known = known


async def _read_anew(user_id: int) -> UserKnowledge:
    known = await run_sync(read_knowledge, user_id)
    _keep(known)
    return known


async def _wait_for_habits(waited: Waited, knowledge: UserKnowledge) -> None:
    waited.known = knowledge
    await once(("habits", id(knowledge)), partial(_read_habits, knowledge))


async def _read_habits(knowledge: UserKnowledge) -> None:
    began, moved = time.monotonic(), knowledge.moved
    knowledge.habits = await run_sync(_habits, knowledge.user_id)
    knowledge.habits_read_at = began
    knowledge.moved -= moved


def _habits(user_id: int) -> Habits:
    with session_for_user(user_id) as session:
        return read_habits(session, user_id)


def _keep(known: UserKnowledge) -> None:
    KNOWN[known.user_id] = known
    KNOWN.move_to_end(known.user_id)
    while len(KNOWN) > 1 and sum(len(each.memory.given) + LABELS_PER_USER for each in KNOWN.values()) > MOST_LABELS:
        KNOWN.popitem(last=False)
