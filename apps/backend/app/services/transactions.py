"""Transactions as a person looks at them: filtered, in pages, under the categories' names of today, with their history.

A page goes on after the last row of the one before (keyset), so rows that arrive in between neither repeat nor hide
others, and the thousandth page costs what the first does.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import operator
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import BigInteger, ColumnElement, Date, Row, Select, and_, func, literal, or_, select, tuple_

from app.errors import InvalidInput, NotFound
from app.orm_models import CategoryName, LabelEvent, Transaction, TransactionLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from sqlalchemy.orm import Session

LabelledBy = Literal["human", "rule", "import"]

DEFAULT_LIMIT: Final = 50
MOST_ROWS: Final = 500

NO_TRANSACTION: Final = "There is no such transaction."
_BAD_CURSOR: Final = "This is no place in the list; take `next` of the page before, or leave `after` out to start anew."
# Version, date and id of the row that the page before ended with.
_CURSOR: Final = re.compile(r"1/([0-9]{4}-[0-9]{2}-[0-9]{2})/([1-9][0-9]{0,18})")
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True)
class TransactionFilter:
    """Which transactions are wanted: those that meet every condition that is given.

    Attributes:
        date_from: The first day.
        date_to: The last day, included.
        category: The category's name as it is shown today.
        uncategorised: Only transactions without a category.
        labelled_by: Who gave the label.
        amount_min: The smallest amount, sign included: spending is negative.
        amount_max: The largest amount.
        merchant: The merchant's name as it is shown.
        search: Words that all occur in the description or the merchant's shown name, in whatever case.
    """

    account: str | None = None
    date_from: dt.date | None = None
    date_to: dt.date | None = None
    category: str | None = None
    uncategorised: bool = False
    labelled_by: LabelledBy | None = None
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    merchant: str | None = None
    search: str = ""


@dataclass(frozen=True)
class Label:
    """A transaction's label: the word it was given, which a category's later names do not change."""

    label: str
    source: str
    updated_at: dt.datetime


@dataclass(frozen=True)
class LabelHistoryEntry:
    """One thing that happened to a label; a removal has neither label nor source."""

    at: dt.datetime
    label: str | None
    source: str | None


@dataclass(frozen=True)
class TransactionRow:
    """A transaction as it is shown.

    Attributes:
        posted_at: The bank's wall clock, where it gives one.
        merchant: The name that the person sees.
        category: The category under its name of today.
    """

    id: int
    date: dt.date
    posted_at: dt.datetime | None
    account: str
    amount: Decimal
    currency: str | None
    description: str
    merchant: str | None
    mcc: str | None
    category: str | None
    label: Label | None


@dataclass(frozen=True)
class TransactionDetail(TransactionRow):
    """A transaction with all that happened to its label, the oldest first."""

    history: tuple[LabelHistoryEntry, ...]


@dataclass(frozen=True)
class TransactionPage:
    """Some rows of a list, and where the next ones begin; `next` is None on the last page."""

    transactions: tuple[TransactionRow, ...]
    next: str | None


# Labels keep their own word; today's name for it, where there is another, is in category_names.
_SHOWN_CATEGORY: Final = func.coalesce(CategoryName.shown_as, Transaction.category)

# Which column each condition of a filter compares, and how.
_COMPARISONS: Final[dict[str, tuple[Any, Callable[[Any, Any], Any]]]] = {
    "account": (Transaction.account, operator.eq),
    "date_from": (Transaction.date, operator.ge),
    "date_to": (Transaction.date, operator.le),
    "category": (_SHOWN_CATEGORY, operator.eq),
    "labelled_by": (TransactionLabel.source, operator.eq),
    "amount_min": (Transaction.amount, operator.ge),
    "amount_max": (Transaction.amount, operator.le),
    "merchant": (Transaction.merchant_canonical, operator.eq),
}


def list_transactions(
    session: Session,
    user_id: int,
    filters: TransactionFilter,
    *,
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> TransactionPage:
    """List a user's transactions that are not deleted, the latest first, by date and then id.

    Args:
        session: A session of the user.
        user_id: Whose transactions.
        filters: Which of them.
        limit: How many at most.
        after: Where to go on: `next` of the page before.

    Raises:
        InvalidInput: `after` is no such place.
    """
    query = _select_transactions(user_id).where(*_conditions(filters))
    if after is not None:
        date, txn_id = _read_cursor(after)
        query = query.where(
            tuple_(Transaction.date, Transaction.id) < tuple_(literal(date, Date), literal(txn_id, BigInteger))
        )
    # One more than the page holds says whether another page follows.
    query = query.order_by(Transaction.date.desc(), Transaction.id.desc()).limit(limit + 1)
    rows = [_transaction_row(row) for row in session.execute(query)]
    page = rows[:limit]
    return TransactionPage(tuple(page), _cursor_after(page[-1]) if len(rows) > limit else None)


def read_transaction(session: Session, user_id: int, txn_id: int) -> TransactionDetail:
    """Return one of the user's transactions with the history of its label.

    Raises:
        NotFound: There is none, it is deleted, or it is somebody else's.
    """
    row = session.execute(_select_transactions(user_id).where(Transaction.id == txn_id)).one_or_none()
    if row is None:
        raise NotFound(NO_TRANSACTION)
    history = session.execute(
        select(LabelEvent.known_at, LabelEvent.label, LabelEvent.source)
        .where(LabelEvent.txn_id == txn_id)
        .order_by(LabelEvent.id)
    )
    shown = _transaction_row(row)
    return TransactionDetail(
        **{field.name: getattr(shown, field.name) for field in fields(shown)},
        history=tuple(LabelHistoryEntry(*entry) for entry in history),
    )


def _select_transactions(user_id: int) -> Select[*tuple[Any, ...]]:
    return (
        select(
            Transaction.id,
            Transaction.date,
            Transaction.posted_at,
            Transaction.account,
            Transaction.amount,
            Transaction.currency,
            Transaction.description,
            Transaction.merchant_canonical,
            Transaction.mcc,
            _SHOWN_CATEGORY,
            TransactionLabel.label,
            TransactionLabel.source,
            TransactionLabel.updated_at,
        )
        .outerjoin(TransactionLabel, TransactionLabel.txn_id == Transaction.id)
        .outerjoin(
            CategoryName,
            and_(
                CategoryName.user_id == user_id,
                CategoryName.name == Transaction.category,
                CategoryName.valid_to.is_(None),
            ),
        )
        .where(Transaction.user_id == user_id, Transaction.deleted_at.is_(None))
    )


def _conditions(filters: TransactionFilter) -> Iterator[ColumnElement[bool]]:
    # Only what is asked for is in the statement, so that the planner sees how selective it is.
    for name, (column, compare) in _COMPARISONS.items():
        value = getattr(filters, name)
        if value is not None:
            yield compare(column, value)
    if filters.uncategorised:
        yield Transaction.category.is_(None)
    for word in filters.search.split():
        yield or_(_occurs(word, Transaction.description), _occurs(word, Transaction.merchant_canonical))


def _occurs(word: str, column: ColumnElement[Any] | Any) -> ColumnElement[bool]:
    # Not LIKE, so % and _ mean themselves; PostgreSQL lowers both sides, so they agree on every alphabet.
    return func.strpos(func.lower(column), func.lower(word)) > 0


def _transaction_row(row: Row[*tuple[Any, ...]]) -> TransactionRow:
    values: list[Any] = list(row)
    label = values[-3:]
    values[-3:] = [None if label[0] is None else Label(*label)]
    return TransactionRow(*values)


def _cursor_after(row: TransactionRow) -> str:
    place = f"1/{row.date.isoformat()}/{row.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[dt.date, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
        match = _CURSOR.fullmatch(place)
        if match is None:
            raise InvalidInput(_BAD_CURSOR)
        date, txn_id = dt.date.fromisoformat(match[1]), int(match[2])
    except (binascii.Error, ValueError):
        raise InvalidInput(_BAD_CURSOR) from None
    if txn_id > _LARGEST_ID:
        raise InvalidInput(_BAD_CURSOR)
    return date, txn_id
