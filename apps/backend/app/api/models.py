"""`/models`: the trained models of the user's category set, and what another champion would change."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from app.api.access import ActingUser, UserSession
from app.api.fields import PathId
from app.services import deployments
from app.services.model_preview import MOST_DAYS, preview_version

router = APIRouter(prefix="/models", tags=["models"])

DEFAULT_DAYS = 90


class ModelAnswer(BaseModel):
    """A version, and what it is at the moment."""

    version: int
    recipe: str
    role: Literal["champion", "challenger"] | None
    status: Literal["running", "succeeded", "failed", "refused"]
    as_of: dt.datetime | None
    train_size: int | None
    accuracy: float | None
    f1_macro: float | None
    created_at: dt.datetime


class ChangedSuggestionAnswer(BaseModel):
    """A transaction whose suggestion would change; null stands for no suggestion, or for no label."""

    txn_id: int
    date: dt.date
    description: str
    amount: Decimal
    before: str | None
    before_confidence: float | None
    after: str | None
    after_confidence: float | None
    label: str | None
    verdict: Literal["wrong → right", "right → wrong", "wrong → wrong"] | None


class ChangedMerchantAnswer(BaseModel):
    """A merchant with suggestions that would change, and the money that they are about."""

    merchant: str
    amount: Decimal
    suggestions: list[ChangedSuggestionAnswer]


class PreviewAnswer(BaseModel):
    """What would be suggested otherwise if a version were champion; `champion` is null where the heuristics suggest."""

    version: int
    champion: int | None
    since: dt.date
    until: dt.date
    transactions: int
    by_rule: int
    changed: int
    right_to_wrong: int
    wrong_to_right: int
    merchants: list[ChangedMerchantAnswer]


@router.get("")
def list_models(user_id: ActingUser, session: UserSession) -> list[ModelAnswer]:
    """List the models of the user's category set, the latest first."""
    versions = deployments.list_versions(session, deployments.category_set_of(session, user_id))
    return [ModelAnswer.model_validate(asdict(version)) for version in versions]


@router.get("/{version}/preview")
def preview(
    version: PathId, user_id: ActingUser, days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = DEFAULT_DAYS
) -> PreviewAnswer:
    """Show what would change in the user's ledger, over so many days to the latest transaction."""
    return PreviewAnswer.model_validate(asdict(preview_version(user_id, version, days=days)))
