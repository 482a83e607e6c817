"""What a server remembers of a user, so that a suggestion takes no pass over their labels; and how it stays true.

Every request asks in one query for the transactions it is about, for the state of what is remembered, and for the label
events since the last look: those that were written by a database transaction which was not over then. The number of
such a one is at least the lowest of those that were running, so no label is missed, however long its transaction takes.
Labels are moved one by one; where an import, a rename or a setting has changed something else, all is read anew.

One event loop at a time uses it. A process keeps the users whom it saw last.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl
from anyio.to_thread import run_sync

from app.config import get_settings
from app.db import driver_connection, read_frame, session_for_user
from app.errors import NotFound, NotSignedIn
from app.ml.builtin_knowledge import builtin_categories
from app.ml.evidence import Place, day_numbers, place_columns
from app.ml.label_memory import GivenLabel, LabelMemory
from app.ml.serving import LabelSpace, ServedModel, label_space
from app.request_pool import prepare
from app.services.asked_transactions import ASKED_COLUMNS, AskedTransaction, described
from app.services.categories import category_names, shown_names
from app.services.credentials import IS_LIVE, NO_SUCH_CREDENTIAL
from app.services.learnt_cache import TOLERATED_GROWTH

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import psycopg

    from app.request_pool import RequestTransaction
    from app.services.heuristics import Habits

# Labels of some hundred bytes each, over all users that a process keeps.
MOST_LABELS: Final = 300_000
# Of more than so many labels that have moved, one by one takes longer than all anew.
MOST_MOVED: Final = 1_000

_LABEL_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "user_id": pl.Int64(),
        "date": pl.Date(),
        "amount": pl.Decimal(18, 2),
        "account": pl.String(),
        "merchant": pl.String(),
        "norm_desc": pl.String(),
        "mcc": pl.String(),
        "channel": pl.String(),
        "label": pl.String(),
        "source": pl.String(),
    }
)

# What a model may learn from is what it counts: the same rows as in the training set.
_LABELS: Final = """
    SELECT
        transactions.id, transactions.user_id, transactions.date, transactions.amount, transactions.account,
        ml_features.merchant, ml_features.norm_desc, ml_features.mcc, ml_features.channel,
        transaction_labels.label, transaction_labels.source
    FROM transactions
    INNER JOIN transaction_labels ON transaction_labels.txn_id = transactions.id
    INNER JOIN ml_features ON ml_features.txn_id = transactions.id
    WHERE transactions.user_id = %(user_id)s AND transactions.deleted_at IS NULL AND transactions.amount <> 0
        AND trim(ml_features.merchant) <> '' AND trim(transaction_labels.label) <> ''
"""

_STATE_COLUMNS: Final = """
    users.created_at, users.min_confidence, users.own_categories, users.is_demo,
    (SELECT written_in FROM knowledge_revisions WHERE user_id = users.id)
"""
_BASIS: Final = prepare(
    "suggestion_basis",
    ("bigint", "bigint[]", "bigint", "bigint"),
    f"""
    SELECT
        {IS_LIVE.format(credential_id="$4")},
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
        ARRAY(SELECT id FROM label_events WHERE user_id = users.id AND written_in >= $3),
        {_STATE_COLUMNS},
        {ASKED_COLUMNS}
    FROM users
    LEFT JOIN transactions
        ON transactions.id = ANY($2) AND transactions.user_id = users.id AND transactions.deleted_at IS NULL
    LEFT JOIN ml_features ON ml_features.txn_id = transactions.id
    WHERE users.id = $1
    """,  # noqa: S608 -- the parts are constants
)
# No database transaction has a number as high as this.
_FAR_AHEAD: Final = 2**62


class UserState(NamedTuple):
    """What knowledge of a user depends on beside labels.

    Attributes:
        revision: Of their imports, categories and rules; None before the first.
    """

    created_at: dt.datetime
    min_confidence: float | None
    own_categories: bool
    is_demo: bool
    revision: int | None


_STATE: Final = slice(3, 3 + len(UserState._fields))
_TRANSACTION: Final = slice(_STATE.stop, None)


@dataclass
class UserKnowledge:
    """What is remembered of a user.

    Attributes:
        state: Another one is another knowledge.
        horizon: Label events of database transactions from this number on may not be in it yet.
        seen: Those of them that are.
        category_set: The user, if their categories are their own; None for the shared set.
        memory: Their labels, under the words that were given.
        shown: The name that a word is shown under, of words that are shown under another.
        categories: The names that the user has.
        has_rules: Whether they ever had a rule.
        habits: How they label and their rules, once somebody asked; see `remember`.
    """

    user_id: int
    state: UserState
    horizon: int
    seen: frozenset[int]
    category_set: int | None
    memory: LabelMemory
    shown: Mapping[str, str]
    categories: frozenset[str]
    has_rules: bool
    habits: Habits | None = None
    _moved: int = 0
    _spaces: dict[int | None, tuple[int, LabelSpace]] = field(default_factory=dict)

    @property
    def min_confidence(self) -> float | None:
        """Below it the user wants no suggestion; None leaves that to the engine."""
        return self.state.min_confidence

    @property
    def has_moved_on(self) -> bool:
        """Whether so many labels have moved since the habits were read that they hold no longer."""
        return self._moved > len(self.memory.given) * TOLERATED_GROWTH

    def count_moved(self, labels: int) -> None:
        """Note that labels have moved."""
        self._moved += labels

    def remember(self, habits: Habits) -> None:
        """Keep how the user labels."""
        self.habits, self._moved = habits, 0

    def space_of(self, served: ServedModel) -> LabelSpace:
        """Say what the user can be told by a model."""
        return self._space(served.version, served.model.classes)

    @property
    def bare_space(self) -> LabelSpace:
        """What the user's labels are, without any model."""
        return self._space(None, ())

    def _space(self, version: int | None, classes: Sequence[str]) -> LabelSpace:
        kept = self._spaces.get(version)
        if kept is None or kept[0] != self.memory.vocabulary:
            space = label_space(classes, self.memory.words, self.memory.in_use, self.shown)
            self._spaces[version] = kept = (self.memory.vocabulary, space)
        return kept[1]


_known: OrderedDict[int, UserKnowledge] = OrderedDict()
_readings: dict[tuple[int, UserState], asyncio.Future[UserKnowledge]] = {}


def look_at(user_id: int, txn_ids: Sequence[int], credential_id: int | None) -> bytes:
    """Write the query for some transactions of a user and what of the user's knowledge may have changed."""
    known = _known.get(user_id)
    return _BASIS.call(user_id, list(txn_ids), known.horizon if known else _FAR_AHEAD, credential_id)


async def read_asked(
    transaction: RequestTransaction, user_id: int, txn_ids: Sequence[int]
) -> tuple[UserKnowledge, list[AskedTransaction]]:
    """Read transactions of a user and what is known of the user now.

    Args:
        transaction: Of the user's, begun with `look_at`.
        user_id: Who.
        txn_ids: Which; those that the user does not have, or has deleted, are passed over.

    Returns:
        The knowledge, and a transaction for each id, the first mention counting.

    Raises:
        NotFound: The user is gone.
        NotSignedIn: The credential that the request shows has ended.
    """
    known, rows = _known.get(user_id), transaction.first
    if not rows:
        _known.pop(user_id, None)
        raise NotFound("There is no such user any more.")
    is_live, horizon, events = rows[0][: _STATE.start]
    if not is_live:
        raise NotSignedIn(NO_SUCH_CREDENTIAL)
    state = UserState(*rows[0][_STATE])
    if known is None or known.state != state or len(events) > MOST_MOVED:
        known = await _read_once(user_id, state)
    else:
        await _move_labels(transaction.connection, known, horizon, frozenset(events))
    _known.move_to_end(user_id)
    asked = described(user_id, [row[_TRANSACTION] for row in rows if row[_TRANSACTION][0] is not None])
    return known, [asked[txn_id] for txn_id in dict.fromkeys(txn_ids) if txn_id in asked]


def read_knowledge(user_id: int) -> UserKnowledge:
    """Read what is known of a user now, for a program that does not remember it.

    Raises:
        NotFound: There is no such user.
    """
    with session_for_user(user_id) as session:
        query = f"SELECT {_STATE_COLUMNS} FROM users WHERE users.id = %s"  # noqa: S608 -- the columns are a constant
        row = driver_connection(session).execute(query.encode(), [user_id]).fetchone()
    if row is None:
        raise NotFound("There is no such user.")
    return _read_all(user_id, UserState(*row))


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
            (_LABELS + " AND transactions.id = ANY(%(moved)s)").encode(), {"user_id": known.user_id, "moved": moved}
        )
        labels = pl.DataFrame(await rows.fetchall(), schema=_LABEL_SCHEMA, orient="row")
    # Of two requests at once, one that looked earlier may come later: what it found is in the knowledge already.
    if horizon < known.horizon:
        return
    if labels is not None:
        given = _given(labels)
        for txn_id in moved:
            if txn_id in given:
                known.memory.put(txn_id, given[txn_id])
            else:
                known.memory.remove(txn_id)
        known.count_moved(len(moved))
    known.horizon, known.seen = horizon, events


async def _read_once(user_id: int, state: UserState) -> UserKnowledge:
    """Read everything anew; requests that come together wait for one reading."""
    key = (user_id, state)
    reading = _readings.get(key)
    if reading is None:
        reading = _readings[key] = asyncio.ensure_future(run_sync(_read_all, user_id, state))
        reading.add_done_callback(lambda _: _readings.pop(key, None))
    # Whoever gives up waiting does not end it for the others.
    known = await asyncio.shield(reading)
    _keep(known)
    return known


def _read_all(user_id: int, state: UserState) -> UserKnowledge:
    """Read everything anew. What happens meanwhile is after the horizon, and another state is seen the next time."""
    with session_for_user(user_id) as session:
        connection = driver_connection(session)
        look = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        ((horizon,),) = connection.execute(look).fetchall()
        labels = read_frame(connection, _LABELS, _LABEL_SCHEMA, {"user_id": user_id})
        ((has_rules,),) = connection.execute(
            "SELECT EXISTS (SELECT FROM rules WHERE user_id = %s)", [user_id]
        ).fetchall()
        return UserKnowledge(
            user_id=user_id,
            state=state,
            horizon=horizon,
            seen=frozenset(),
            category_set=user_id if state.own_categories or state.is_demo else None,
            memory=LabelMemory(_given(labels), get_settings().label_weights.by_source()),
            shown=shown_names(session, user_id),
            categories=frozenset(category_names(session, user_id)),
            has_rules=has_rules,
        )


def _given(labels: pl.DataFrame) -> dict[int, GivenLabel]:
    places = place_columns(labels.with_columns(builtin_categories(labels).alias("builtin")))
    days = day_numbers(labels["date"]).tolist()
    # Equal places are one object.
    one: dict[Place, Place] = {}
    return {
        txn_id: GivenLabel(one.setdefault(place, place), day, label, source)
        for txn_id, label, source, place, day in zip(
            labels["txn_id"], labels["label"], labels["source"], map(Place._make, places.iter_rows()), days, strict=True
        )
    }


def _keep(known: UserKnowledge) -> None:
    _known[known.user_id] = known
    while len(_known) > 1 and sum(len(each.memory.given) for each in _known.values()) > MOST_LABELS:
        _known.popitem(last=False)
