"""What a person says their transactions are: one at a time, or many at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import event

from app.errors import InvalidInput, NotFound
from app.services.categories import require_category
from app.services.labels import lock_transactions, remove_labels, write_labels
from app.services.metrics import LABELS_TOTAL
from app.services.transactions import NO_TRANSACTION, TransactionDetail, read_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class LabelsWritten:
    """What became of labels that a person gave in bulk.

    Attributes:
        changed: Transactions that now have another label, or have theirs from the person.
        unchanged: Transactions that the person had labelled so before.
        unknown: Ids of no transaction of the person's, in order.
    """

    changed: int
    unchanged: int
    unknown: tuple[int, ...]


def categorise_transaction(session: Session, user_id: int, txn_id: int, category: str | None) -> TransactionDetail:
    """Give a transaction a person's label, or take its label away, whoever gave it; return what it is then.

    Raises:
        NotFound: The user has no such transaction.
        InvalidInput: The user has no such category.
    """
    if txn_id not in lock_transactions(session, [txn_id]):
        raise NotFound(NO_TRANSACTION)
    if category is None:
        remove_labels(session, [txn_id])
    else:
        label_transactions(session, user_id, [(txn_id, category)])
    return read_transaction(session, user_id, txn_id)


def label_transactions(session: Session, user_id: int, labels: Iterable[tuple[int, str]]) -> LabelsWritten:
    """Give transactions a person's labels: all of them, or none when one is refused.

    Args:
        session: A session of the user.
        user_id: Who says so.
        labels: Ids of transactions, each with the name of its category.

    Raises:
        InvalidInput: The user has no such category, or one transaction is given two.
    """
    given = list(labels)
    categories = {name: require_category(session, user_id, name) for name in sorted({name for _, name in given})}
    wanted: dict[int, str] = {}
    for txn_id, name in given:
        if wanted.setdefault(txn_id, categories[name]) != categories[name]:
            raise InvalidInput("A transaction is given two different labels; give it one.")
    present = lock_transactions(session, wanted)
    changed = len(write_labels(session, wanted, source="human"))
    event.listen(session, "after_commit", partial(_count, changed), once=True)
    return LabelsWritten(changed, len(present) - changed, tuple(sorted(wanted.keys() - present)))


def _count(changed: int, _session: Session) -> None:
    LABELS_TOTAL.labels(source="human").inc(changed)
