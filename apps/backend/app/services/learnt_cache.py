"""What a pass over all of a user's labels found, kept by the process while the labels have hardly changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from app.db import driver_connection
from app.services.category_map import category_map_revision

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import psycopg
    from sqlalchemy.orm import Session

MOST_USERS: Final = 256
TOLERATED_GROWTH: Final = 0.01

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Kept(Generic[Value]):
    """A value, and the labels that it was learnt from: how many, and the last thing that happened to one of them."""

    value: Value
    labels: int
    last_event: tuple[int, Any]
    state: Hashable


class LearntCache(Generic[Value]):
    """Values by user; one is learnt again once the labels have grown by a hundredth, or something else changed.

    For what moves slowly and costs a pass over all labels. A process keeps the users it saw last.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Kept[Value]] = OrderedDict()
        self._turn = threading.Lock()

    def value_for(
        self, session: Session, user_id: int, learn: Callable[[], tuple[Value, int]], *, state: Hashable = None
    ) -> Value:
        """Return a user's value, learning it where it is not kept or no longer holds.

        Args:
            session: A session of the user.
            user_id: Who.
            learn: Gives the value and the number of labels that it was learnt from.
            state: What else the value depends on; another state is another value.
        """
        connection = driver_connection(session)
        state = (state, category_map_revision(session, user_id))
        with self._turn:
            kept = self._kept.get(user_id)
        if kept is not None and kept.state == state and _still_holds(connection, user_id, kept):
            return kept.value
        # Read first: what happens while learning is then seen as growth, not overlooked.
        last_event = _last_event(connection, user_id)
        value, labels = learn()
        with self._turn:
            self._kept[user_id] = _Kept(value, labels, last_event, state)
            self._kept.move_to_end(user_id)
            while len(self._kept) > MOST_USERS:
                self._kept.popitem(last=False)
        return value


def _still_holds(connection: psycopg.Connection[Any], user_id: int, kept: _Kept[Any]) -> bool:
    """Whether the labels are still, but for a few new ones, those that the value was learnt from."""
    event_id, known_at = kept.last_event
    tolerated = int(kept.labels * TOLERATED_GROWTH)
    row = connection.execute(
        """
        SELECT count(*) - 1, bool_or(id = %(id)s AND known_at = %(known_at)s)
        FROM (
            SELECT id, known_at FROM label_events
            WHERE user_id = %(user_id)s AND id >= %(id)s ORDER BY id LIMIT %(most)s
        ) AS events
        """,
        {"id": event_id, "known_at": known_at, "user_id": user_id, "most": tolerated + 2},
    ).fetchone()
    return row is not None and bool(row[1]) and row[0] <= tolerated


def _last_event(connection: psycopg.Connection[Any], user_id: int) -> tuple[int, Any]:
    row = connection.execute(
        "SELECT id, known_at FROM label_events WHERE user_id = %s ORDER BY id DESC LIMIT 1", [user_id]
    ).fetchone()
    return (row[0], row[1]) if row else (0, None)
