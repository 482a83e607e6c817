"""Write labels and take them back: the one place from which requests change what a transaction is.

The database shows a label as its transaction's category and keeps the history; this decides which label yields to
which, and remembers what each change found, so that it can be undone exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from app.db import driver_connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

LabelSource = Literal["human", "rule"]

# A person's word stands above their rule's, and a rule's above an import's.
_YIELDING_SOURCES: Final[dict[LabelSource, list[str]]] = {
    "human": ["human", "rule", "import"],
    "rule": ["rule", "import"],
}


@dataclass(frozen=True)
class LabelChange:
    """A label that was written, and what it found.

    Attributes:
        label_event_id: The event in the label's history that this was.
        previous_label: The label before, None if there was none.
        previous_source: That label's source.
    """

    txn_id: int
    label_event_id: int
    previous_label: str | None
    previous_source: str | None


def lock_transactions(session: Session, txn_ids: Iterable[int]) -> set[int]:
    """Let nobody else change the labels of these transactions until the session's transaction ends.

    Returns:
        Those of them that the user has and has not deleted.
    """
    # In order of id, so that two requests about the same transactions wait for each other and never both.
    rows = driver_connection(session).execute(
        "SELECT id FROM transactions WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        [sorted(set(txn_ids))],
    )
    return {txn_id for (txn_id,) in rows}


def write_labels(session: Session, labels: Mapping[int, str], *, source: LabelSource) -> list[LabelChange]:
    """Give transactions of the session's user their labels.

    What is labelled so already, or by a source that does not yield to this one, is left alone; so are transactions
    that the user does not have.

    Args:
        session: A session of the user.
        labels: The label of each transaction, by its id.
        source: Who says so.

    Returns:
        The changes, by transaction id.
    """
    present = lock_transactions(session, labels)
    wanted = {txn_id: label for txn_id, label in sorted(labels.items()) if txn_id in present}
    if not wanted:
        return []
    connection = driver_connection(session)
    parameters = {
        "txn_ids": list(wanted),
        "labels": list(wanted.values()),
        "source": source,
        "yielding": _YIELDING_SOURCES[source],
    }
    before = {
        txn_id: (label, previous_source)
        for txn_id, label, previous_source in connection.execute(
            "SELECT txn_id, label, source FROM transaction_labels WHERE txn_id = ANY(%(txn_ids)s)", parameters
        )
    }
    written = connection.execute(
        """
        INSERT INTO transaction_labels (txn_id, label, source)
        SELECT wanted.txn_id, wanted.label, %(source)s
        FROM unnest(%(txn_ids)s::bigint[], %(labels)s::text[]) AS wanted (txn_id, label)
        ORDER BY wanted.txn_id
        ON CONFLICT (txn_id) DO UPDATE SET label = excluded.label, source = excluded.source, updated_at = now()
        WHERE transaction_labels.source = ANY(%(yielding)s)
            AND (transaction_labels.label, transaction_labels.source) IS DISTINCT FROM (excluded.label, excluded.source)
        RETURNING txn_id
        """,
        parameters,
    )
    changed = sorted(txn_id for (txn_id,) in written)
    events = last_label_events(session, changed)
    return [LabelChange(txn_id, events[txn_id], *before.get(txn_id, (None, None))) for txn_id in changed]


def remove_labels(session: Session, txn_ids: Iterable[int]) -> int:
    """Take the labels of transactions away, whoever gave them; return how many there were."""
    present = lock_transactions(session, txn_ids)
    connection = driver_connection(session)
    return connection.execute("DELETE FROM transaction_labels WHERE txn_id = ANY(%s)", [sorted(present)]).rowcount


def restore_labels(session: Session, changes: Iterable[LabelChange]) -> int:
    """Bring back what changes found, where nothing has happened to the label since; return how many were restored."""
    by_id = {change.txn_id: change for change in changes}
    present = lock_transactions(session, by_id)
    events = last_label_events(session, sorted(present))
    untouched = [by_id[txn_id] for txn_id in sorted(present) if events.get(txn_id) == by_id[txn_id].label_event_id]
    connection = driver_connection(session)
    connection.execute(
        "DELETE FROM transaction_labels WHERE txn_id = ANY(%s)",
        [[change.txn_id for change in untouched if change.previous_label is None]],
    )
    relabelled = [change for change in untouched if change.previous_label is not None]
    connection.execute(
        """
        UPDATE transaction_labels SET label = previous.label, source = previous.source, updated_at = now()
        FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS previous (txn_id, label, source)
        WHERE transaction_labels.txn_id = previous.txn_id
        """,
        [
            [change.txn_id for change in relabelled],
            [change.previous_label for change in relabelled],
            [change.previous_source for change in relabelled],
        ],
    )
    return len(untouched)


def last_label_events(session: Session, txn_ids: list[int]) -> dict[int, int]:
    """Return the id of the last thing that happened to each transaction's label."""
    rows = driver_connection(session).execute(
        "SELECT txn_id, max(id) FROM label_events WHERE txn_id = ANY(%s) GROUP BY txn_id", [txn_ids]
    )
    return dict(rows.fetchall())
