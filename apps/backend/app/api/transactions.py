"""`/transactions`: the ledger in pages, one transaction with its history, and what a person says it is."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict, JsonValue

from app.api.access import ActingUser, UserSession
from app.api.fields import CategoryName, Day, PathId, Text
from app.services.labelling import categorise_transaction
from app.services.transactions import (
    DEFAULT_LIMIT,
    MOST_ROWS,
    TransactionFilter,
    list_transactions,
    read_transaction,
)

router = APIRouter(prefix="/transactions", tags=["transactions"])

LONGEST_CURSOR = 64

Word = Annotated[Text, Field(max_length=200)]
Money = Annotated[Decimal, Field(max_digits=18, decimal_places=2, allow_inf_nan=False)]

_TRANSACTION: JsonDict = {
    "id": 4711,
    "date": "2025-03-03",
    "posted_at": "2025-03-03T14:05:00",
    "account": "card",
    "amount": "-4.50",
    "currency": "EUR",
    "description": "SQ *BLUE BTL 0047 OAKLND",
    "merchant": "Blue Bottle",
    "mcc": "5814",
    "category": "Coffee",
    "label": {"label": "Coffee", "source": "human", "updated_at": "2025-03-04T08:00:00Z"},
}
_HISTORY: list[JsonValue] = [
    {"at": "2025-03-03T20:00:00Z", "label": "Eating out", "source": "import"},
    {"at": "2025-03-04T08:00:00Z", "label": "Coffee", "source": "human"},
]


class TransactionQuery(BaseModel):
    """Conditions, all of which a transaction meets to be listed, and which page of them is wanted."""

    model_config = ConfigDict(extra="forbid")

    account: Word | None = None
    date_from: Annotated[Day | None, Field(alias="from", description="The first day.")] = None
    date_to: Annotated[Day | None, Field(alias="to", description="The last day, included.")] = None
    category: Annotated[Word | None, Field(description="The category's name as it is shown today.")] = None
    uncategorised: Annotated[bool, Field(description="Only transactions without a category.")] = False
    labelled_by: Literal["human", "rule", "import"] | None = None
    amount_min: Annotated[Money | None, Field(description="The smallest amount; spending is negative.")] = None
    amount_max: Annotated[Money | None, Field(description="The largest amount.")] = None
    merchant: Annotated[Word | None, Field(description="The merchant's name as it is shown.")] = None
    search: Annotated[
        Word, Field(description="Words that all occur in the description or the merchant's name, in whatever case.")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = DEFAULT_LIMIT
    after: Annotated[
        str | None, Field(max_length=LONGEST_CURSOR, description="`next` of the page before; leave out to start.")
    ] = None

    def filter(self) -> TransactionFilter:
        """Return the conditions alone."""
        return TransactionFilter(**self.model_dump(exclude={"limit", "after"}))


class LabelAnswer(BaseModel):
    """A label, in the word that was given, and who gave it."""

    label: str
    source: Literal["human", "rule", "import"]
    updated_at: dt.datetime


class LabelEventAnswer(BaseModel):
    """What happened to a label when; both are null where it was removed."""

    at: dt.datetime
    label: str | None
    source: Literal["human", "rule", "import"] | None


class TransactionAnswer(BaseModel):
    """A transaction: what the bank said, and its category under the name it has today."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TRANSACTION]})

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
    label: LabelAnswer | None


class TransactionWithHistory(TransactionAnswer):
    """A transaction and all that happened to its label, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TRANSACTION | {"history": _HISTORY}]})

    history: list[LabelEventAnswer]


class TransactionsAnswer(BaseModel):
    """A page, the latest transactions first; `next` says where the following one begins, null that there is none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"transactions": [_TRANSACTION], "next": "MS8yMDI1LTAzLTAzLzQ3MTE"}]}
    )

    transactions: list[TransactionAnswer]
    next: str | None


class CategoryChange(BaseModel):
    """What a person says the transaction is; null takes its category away."""

    # The framework drops nulls from examples, so there is none of taking a category away.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"category": "Coffee"}]})

    category: CategoryName | None


@router.get("")
def read_page(
    query: Annotated[TransactionQuery, Query()], user_id: ActingUser, session: UserSession
) -> TransactionsAnswer:
    """List transactions, the latest first. Pages stay in step while transactions arrive."""
    page = list_transactions(session, user_id, query.filter(), limit=query.limit, after=query.after)
    return TransactionsAnswer.model_validate(asdict(page))


@router.get("/{txn_id}")
def read(txn_id: PathId, user_id: ActingUser, session: UserSession) -> TransactionWithHistory:
    """Read a transaction and the history of its label."""
    return TransactionWithHistory.model_validate(asdict(read_transaction(session, user_id, txn_id)))


@router.patch("/{txn_id}")
def categorise(
    txn_id: PathId, change: CategoryChange, user_id: ActingUser, session: UserSession
) -> TransactionWithHistory:
    """Label a transaction as a person, or remove its label."""
    changed = categorise_transaction(session, user_id, txn_id, change.category)
    return TransactionWithHistory.model_validate(asdict(changed))
