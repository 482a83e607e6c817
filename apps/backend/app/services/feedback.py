"""Answers to suggestions: each sets the label that the person means, and can be taken back exactly.

All answers to one suggestion take turns on its transaction's row. The last one by (created_at, id) counts, which is
also what the warehouse says; one that began before another and comes after it is kept, but changes nothing.

Labels are compared under the names that they are shown under. What is kept of an accept is the candidate's own word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import event, text

from app.db import driver_connection
from app.errors import Conflict, InvalidInput, NotFound
from app.services.categories import require_category, shown_names
from app.services.labels import LabelChange, last_label_events, lock_transactions, restore_labels, write_labels
from app.services.metrics import LABELS_TOTAL, SUGGESTIONS_ACCEPT, SUGGESTIONS_REJECT

if TYPE_CHECKING:
    import datetime as dt

    import psycopg
    from sqlalchemy.orm import Session

Action = Literal["accept", "reject", "undo"]

_ANSWER_COUNTERS: Final = {"accept": SUGGESTIONS_ACCEPT, "reject": SUGGESTIONS_REJECT}
NO_EVENT: Final = "There is no such suggestion, or its transaction is gone."


@dataclass(frozen=True)
class Answer:
    """What became of an answer.

    Attributes:
        label: The label that the answer names: the accepted candidate, or what was typed instead.
        category: What the transaction is now.
        repeated: Whether the answer had been given already, so that nothing was done.
    """

    event_id: int
    txn_id: int
    action: Action
    label: str | None
    category: str | None
    repeated: bool


@dataclass(frozen=True)
class _Event:
    """The suggestion that is answered."""

    event_id: int
    txn_id: int
    source: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """An answer as it was recorded."""

    action: Action
    label: str | None
    created_at: dt.datetime
    change: LabelChange | None


@dataclass(frozen=True)
class _Answers:
    """What has been answered to a suggestion before.

    Attributes:
        last: The answer that counts; None if there is none or it was taken back.
        same_key: The answer with the same idempotency key.
        is_late: Whether an answer that began later than this one is there already.
    """

    last: _Given | None
    same_key: _Given | None
    is_late: bool


def answer_suggestion(
    session: Session,
    user_id: int,
    event_id: int,
    action: Action,
    *,
    label: str | None = None,
    idempotency_key: str | None = None,
) -> Answer:
    """Record an answer to a suggestion and do what it means.

    `accept` labels the transaction as suggested: with the best candidate, or with the one that `label` names. `reject`
    labels it with `label`, or takes back what an earlier answer to the suggestion did. `undo` takes that back and
    leaves the suggestion unanswered. A label that has changed since is left alone.

    Args:
        session: A session of the user.
        user_id: Who answers.
        event_id: Which suggestion.
        action: The answer.
        label: The accepted candidate, or the right category; by the word suggested or the name of today.
        idempotency_key: What the client calls this answer; the same key twice is one, whatever became of categories.

    Raises:
        NotFound: The user has no such suggestion, or its transaction is gone.
        InvalidInput: The label does not go with the action.
        Conflict: The key was used for another answer.
    """
    connection = driver_connection(session)
    suggestion = _read_event(connection, event_id)
    if suggestion is None or suggestion.txn_id not in lock_transactions(session, [suggestion.txn_id]):
        raise NotFound(NO_EVENT)
    given = _read_answers(connection, suggestion, idempotency_key)
    # Before any name is looked up: what was answered stays answered, also where it could no longer be said today.
    if given.same_key is not None:
        if not _is_repetition(session, user_id, suggestion, given.same_key, action, label):
            raise Conflict("This idempotency key was used for another answer to the suggestion; take a new one.")
        return _answer(connection, suggestion, action, given.same_key.label, repeated=True)
    shown = shown_names(session, user_id)
    named, label_to_set = _meant(session, user_id, suggestion, action, label, shown)
    last = given.last
    if last is None and action == "undo":
        return _answer(connection, suggestion, action, None, repeated=True)
    if last is not None and last.action == action and _today(last.label, shown) == _today(named, shown):
        return _answer(connection, suggestion, action, last.label, repeated=True)
    earlier = last.change if last else None
    change = None if given.is_late else _carry_out(session, suggestion.txn_id, label_to_set, earlier)
    _record(connection, suggestion, action, named, idempotency_key, change)
    # A late answer is not the one that counts, and where nothing was suggested nothing can have been rejected.
    verdict = action if action in _ANSWER_COUNTERS and suggestion.labels and not given.is_late else None
    has_written = change is not None and change != earlier
    event.listen(session, "after_commit", partial(_count, verdict, suggestion.source, has_written), once=True)
    return _answer(connection, suggestion, action, named, repeated=False)


def _today(label: str | None, shown: dict[str, str]) -> str | None:
    return None if label is None else shown.get(label, label)


def _is_repetition(
    session: Session, user_id: int, suggestion: _Event, recorded: _Given, action: Action, label: str | None
) -> bool:
    """Say whether an answer is the recorded one: the same action, and a label that was or is shown as the same."""
    sent = suggestion.labels[0] if action == "accept" and label is None and suggestion.labels else label
    if (recorded.action, recorded.label) == (action, sent):
        return True
    if recorded.action != action or recorded.label is None or sent is None:
        return False
    # The name that was sent may have meant the word that was recorded only then, or, where a rename committed while
    # the answer was on its way, only since.
    is_same: bool = session.execute(
        text("""
            SELECT bool_or(coalesce(sent.shown_as, :sent) = coalesce(recorded.shown_as, :recorded))
            FROM (VALUES (CAST(:answered_at AS timestamptz)), ('infinity')) AS moments (moment)
            LEFT JOIN category_names AS sent
                ON sent.user_id = :user_id AND sent.name = :sent
                    AND sent.valid_from <= moment AND coalesce(sent.valid_to > moment, true)
            LEFT JOIN category_names AS recorded
                ON recorded.user_id = :user_id AND recorded.name = :recorded
                    AND recorded.valid_from <= moment AND coalesce(recorded.valid_to > moment, true)
        """),
        {"user_id": user_id, "sent": sent, "recorded": recorded.label, "answered_at": recorded.created_at},
    ).scalar_one()
    return is_same


def _meant(
    session: Session, user_id: int, suggestion: _Event, action: Action, label: str | None, shown: dict[str, str]
) -> tuple[str | None, str | None]:
    """Say which label the answer names, in the suggestion's words, and which one is to be set, under today's name."""
    if action == "undo":
        if label is not None:
            raise InvalidInput("undo takes no label.")
        return None, None
    if action == "accept":
        if not suggestion.labels:
            raise InvalidInput("Nothing was suggested here, so there is nothing to accept; reject it with a label.")
        named = suggestion.labels[0] if label is None else _candidate(suggestion, label, shown)
        if named is None:
            raise InvalidInput("Only what was suggested can be accepted; reject the suggestion with the right label.")
        return named, require_category(session, user_id, named)
    if label is None:
        return None, None
    resolved = require_category(session, user_id, label)
    if resolved in [_today(first, shown) for first in suggestion.labels[:1]]:
        raise InvalidInput("That is what was suggested; accept it instead.")
    return resolved, resolved


def _candidate(suggestion: _Event, label: str, shown: dict[str, str]) -> str | None:
    """Return the candidate that is called so, by its own word or else by the name that it is shown under today."""
    if label in suggestion.labels:
        return label
    meant = _today(label, shown)
    return next((word for word in suggestion.labels if _today(word, shown) == meant), None)


def _carry_out(session: Session, txn_id: int, label: str | None, earlier: LabelChange | None) -> LabelChange | None:
    """Bring the transaction to where the answer wants it; return what an undo of the answer would take back."""
    if earlier is not None and last_label_events(session, [txn_id]).get(txn_id) != earlier.label_event_id:
        earlier = None  # somebody has changed the label since the earlier answer: it is theirs now
    if label is None:
        if earlier is not None:
            restore_labels(session, [earlier])
        return None
    changes = write_labels(session, {txn_id: label}, source="human")
    if not changes:
        return earlier
    if earlier is None:
        return changes[0]
    # Two answers in a row are one step away from how the label was before the first of them.
    return LabelChange(txn_id, changes[0].label_event_id, earlier.previous_label, earlier.previous_source)


def _read_event(connection: psycopg.Connection[Any], event_id: int) -> _Event | None:
    row = connection.execute(
        "SELECT id, txn_id, source, candidates FROM suggestion_events WHERE id = %s AND source <> 'shadow'", [event_id]
    ).fetchone()
    if row is None:
        return None
    return _Event(row[0], row[1], row[2], tuple(candidate["label"] for candidate in row[3]))


def _read_answers(connection: psycopg.Connection[Any], suggestion: _Event, key: str | None) -> _Answers:
    rows = connection.execute(
        """
        SELECT
            action, label, created_at, idempotency_key, label_event_id, previous_label, previous_source,
            created_at > now()
        FROM suggestion_feedback WHERE event_id = %s ORDER BY created_at, id
        """,
        [suggestion.event_id],
    ).fetchall()
    last = same_key = None
    for action, label, created_at, used_key, label_event_id, previous_label, previous_source, _ in rows:
        change = (
            LabelChange(suggestion.txn_id, label_event_id, previous_label, previous_source) if label_event_id else None
        )
        given = _Given(action, label, created_at, change)
        last = None if action == "undo" else given
        if key is not None and used_key == key:
            same_key = given
    return _Answers(last, same_key, is_late=any(row[-1] for row in rows))


def _record(
    connection: psycopg.Connection[Any],
    suggestion: _Event,
    action: Action,
    label: str | None,
    key: str | None,
    change: LabelChange | None,
) -> None:
    connection.execute(
        """
        INSERT INTO suggestion_feedback (
            event_id, action, label, idempotency_key, label_event_id, previous_label, previous_source
        ) VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        [
            suggestion.event_id,
            action,
            label,
            key,
            change.label_event_id if change else None,
            change.previous_label if change else None,
            change.previous_source if change else None,
        ],
    )


def _answer(
    connection: psycopg.Connection[Any], suggestion: _Event, action: Action, label: str | None, *, repeated: bool
) -> Answer:
    row = connection.execute(
        """
        SELECT coalesce(category_names.shown_as, transactions.category)
        FROM transactions
        LEFT JOIN category_names
            ON category_names.user_id = transactions.user_id AND category_names.name = transactions.category
                AND category_names.valid_to IS NULL
        WHERE transactions.id = %s
        """,
        [suggestion.txn_id],
    ).fetchone()
    return Answer(suggestion.event_id, suggestion.txn_id, action, label, row[0] if row else None, repeated=repeated)


def _count(verdict: Action | None, source: str, has_written: bool, _session: Session) -> None:  # noqa: FBT001 -- bound
    if verdict is not None:
        _ANSWER_COUNTERS[verdict].labels(source=source).inc()
    if has_written:
        LABELS_TOTAL.labels(source="human").inc()
