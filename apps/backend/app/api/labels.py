"""`POST /labels`: a person's labels for many transactions at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import ActingUser, UserSession
from app.api.fields import BodyId, CategoryName
from app.services.labelling import label_transactions

router = APIRouter(tags=["transactions"])

MOST_LABELS = 10_000


class LabelToWrite(BaseModel):
    """A transaction and the name of its category. Who says so is always the person, so it cannot be stated."""

    model_config = ConfigDict(extra="forbid")

    txn_id: BodyId
    label: CategoryName


class LabelsRequest(BaseModel):
    """Labels for transactions, each of which is named once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"labels": [{"txn_id": 4711, "label": "Coffee"}, {"txn_id": 4712, "label": "Groceries"}]}]
        },
    )

    labels: Annotated[list[LabelToWrite], Field(min_length=1, max_length=MOST_LABELS)]


class LabelsAnswer(BaseModel):
    """How many labels are new, how many the person had given before, and the ids of no transaction of theirs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"changed": 1, "unchanged": 0, "unknown": [4712]}]})

    changed: int
    unchanged: int
    unknown: list[int]


@router.post("/labels")
def write(request: LabelsRequest, user_id: ActingUser, session: UserSession) -> LabelsAnswer:
    """Label transactions as a person: all that are the person's own, or none when something is refused."""
    written = label_transactions(session, user_id, [(each.txn_id, each.label) for each in request.labels])
    return LabelsAnswer.model_validate(asdict(written))
