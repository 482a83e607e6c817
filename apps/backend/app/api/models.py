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
from app.services import deployments, version_catalogue
from app.services.changed_suggestions import first_changes
from app.services.model_preview import MOST_DAYS, preview_version

router = APIRouter(prefix="/models", tags=["models"])

DEFAULT_DAYS = 90
DEFAULT_CHANGES = 100
MOST_CHANGES = 1000


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
    currency: str | None
    before: str | None
    before_confidence: float | None
    after: str | None
    after_confidence: float | None
    label: str | None
    verdict: Literal["wrong → right", "right → wrong", "wrong → wrong"] | None


class SumAnswer(BaseModel):
    """Money of one currency, whichever way it went; null is what the bank gave no currency for."""

    currency: str | None
    amount: Decimal


class ChangedMerchantAnswer(BaseModel):
    """A merchant, how many suggestions would change there, the money they are about, and the first of them."""

    merchant: str
    changed: int
    sums: list[SumAnswer]
    suggestions: list[ChangedSuggestionAnswer]


class PreviewAnswer(BaseModel):
    """What would be suggested otherwise if a version were champion.

    `champion` is null where the heuristics suggest; if there is a champion all the same, `champion_problem` says why.
    `changed` says how many would change; `merchants` hold the first `limit` of them.
    """

    version: int
    champion: int | None
    champion_problem: str | None
    since: dt.date
    until: dt.date
    transactions: int
    by_rule: int
    changed: int
    right_to_wrong: int
    right_to_nothing: int
    wrong_to_right: int
    nothing_to_right: int
    sums: list[SumAnswer]
    merchants: list[ChangedMerchantAnswer]


@router.get("")
def list_models(user_id: ActingUser, session: UserSession) -> list[ModelAnswer]:
    """List the models of the user's category set, the latest first."""
    versions = version_catalogue.list_versions(session, deployments.category_set_of(session, user_id))
    return [ModelAnswer.model_validate(asdict(version)) for version in versions]


@router.get("/{version}/preview")
def preview(
    version: PathId,
    user_id: ActingUser,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = DEFAULT_DAYS,
    limit: Annotated[int, Query(ge=1, le=MOST_CHANGES)] = DEFAULT_CHANGES,
) -> PreviewAnswer:
    """Show what would change in the user's ledger, over so many days to the latest transaction."""
    found = first_changes(preview_version(user_id, version, days=days), limit)
    return PreviewAnswer.model_validate(asdict(found))
