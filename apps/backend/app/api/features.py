"""`/features`: feature vectors of stored transactions, and of any others."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime

from app.api.access import ActingUser, UserSession
from app.api.fields import Day, PathId, Text
from app.services.features import compute_features, read_features

router = APIRouter(prefix="/features", tags=["features"])

MOST_TRANSACTIONS = 1000


class TransactionToDescribe(BaseModel):
    """What the feature kernel reads of a transaction; `posted_at` is the bank's wall clock, without a zone."""

    model_config = ConfigDict(extra="forbid")

    date: Day
    description: Text
    amount: Annotated[Decimal, Field(max_digits=18, decimal_places=2, allow_inf_nan=False)]
    posted_at: NaiveDatetime | None = None
    mcc: Text | None = None
    channel_hint: Text | None = None


class FeatureVector(BaseModel):
    """The features of one transaction."""

    model_config = ConfigDict(from_attributes=True)

    ts_month: dt.date
    amount: Decimal
    abs_amount: Decimal
    merchant: str | None
    mcc: str | None
    channel: str | None
    hour_of_day: int | None
    dow: int
    is_weekend: bool
    is_subscription: bool
    norm_desc: str
    tokens: list[str]
    feature_version: int


class StoredFeatureVector(FeatureVector):
    """The features of a stored transaction."""

    txn_id: int


@router.get("/{txn_id}")
def read(txn_id: PathId, session: UserSession) -> StoredFeatureVector:
    """Read the features that were built when the transaction was ingested."""
    return StoredFeatureVector.model_validate(read_features(session, txn_id))


@router.post("")
async def compute(
    transactions: Annotated[list[TransactionToDescribe], Field(max_length=MOST_TRANSACTIONS)], _user_id: ActingUser
) -> list[FeatureVector]:
    """Compute the features of transactions that are not stored, in their order; nothing is kept."""
    return [
        FeatureVector.model_validate(features)
        for features in compute_features([transaction.model_dump() for transaction in transactions])
    ]
