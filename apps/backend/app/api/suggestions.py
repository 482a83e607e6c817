"""`/suggestions`: what transactions probably are, and what a person answers to that."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import ActingUser, SignedIn, UserSession
from app.api.fields import BodyId, CategoryName, PathId, Probability
from app.services.asked_transactions import MOST_TRANSACTIONS
from app.services.feedback import answer_suggestion
from app.services.heuristics import MOST_CANDIDATES
from app.services.suggestions import DEFAULT_CANDIDATES, suggest

router = APIRouter(prefix="/suggestions", tags=["suggestions"])


class SuggestionRequest(BaseModel):
    """Which transactions suggestions are wanted for, and how."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"txn_ids": [4711, 4712], "mode": "auto", "top_k": 3}]}
    )

    txn_ids: Annotated[list[BodyId], Field(min_length=1, max_length=MOST_TRANSACTIONS)]
    mode: Literal["heuristic", "model", "auto"] = "auto"
    top_k: Annotated[int, Field(ge=1, le=MOST_CANDIDATES, strict=True)] = DEFAULT_CANDIDATES
    min_confidence: Probability | None = None


class CandidateAnswer(BaseModel):
    """A category that may be right: how probably, and why."""

    model_config = ConfigDict(from_attributes=True)

    label: str
    confidence: float
    reasons: list[str]


class SuggestionAnswer(BaseModel):
    """What is suggested for one transaction; where that is nothing, `abstention` says why."""

    model_config = ConfigDict(from_attributes=True)

    txn_id: int
    event_id: int
    candidates: list[CandidateAnswer]
    source: Literal["rule", "model"]
    model_version: str | None
    abstention: Literal["no_candidate", "below_confidence"] | None


class SuggestionsAnswer(BaseModel):
    """Suggestions in the order asked for; `unknown` are ids of no transaction of the user's."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "suggestions": [
                        {
                            "txn_id": 4711,
                            "event_id": 90210,
                            "candidates": [
                                {
                                    "label": "Coffee",
                                    "confidence": 0.9731,
                                    "reasons": ["This same payment was labelled Coffee 12 of 12 times."],
                                }
                            ],
                            "source": "rule",
                            "model_version": None,
                            "abstention": None,
                        }
                    ],
                    "unknown": [4712],
                }
            ]
        },
    )

    suggestions: list[SuggestionAnswer]
    unknown: list[int]


class FeedbackRequest(BaseModel):
    """An answer: accept (the best candidate, or the one named), reject (perhaps with what is right), undo."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"action": "accept"}, {"action": "reject", "label": "Groceries"}]},
    )

    action: Literal["accept", "reject", "undo"]
    label: CategoryName | None = None


class FeedbackAnswer(BaseModel):
    """What became of an answer; `category` is what the transaction is now."""

    event_id: int
    txn_id: int
    action: Literal["accept", "reject", "undo"]
    label: str | None
    category: str | None
    repeated: bool


@router.post("")
async def create(request: SuggestionRequest, identity: SignedIn) -> SuggestionsAnswer:
    """Suggest categories for transactions. Every suggestion is logged, also where it is to say nothing."""
    made = await suggest(
        identity.user_id,
        request.txn_ids,
        mode=request.mode,
        top_k=request.top_k,
        min_confidence=request.min_confidence,
        credential_id=identity.credential_id,
    )
    return SuggestionsAnswer.model_validate(made)


@router.post("/{event_id}/feedback")
def answer(
    event_id: PathId,
    request: FeedbackRequest,
    user_id: ActingUser,
    session: UserSession,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    ] = None,
) -> FeedbackAnswer:
    """Answer a suggestion; the last answer counts, and the same one twice is one."""
    given = answer_suggestion(
        session, user_id, event_id, request.action, label=request.label, idempotency_key=idempotency_key
    )
    return FeedbackAnswer.model_validate(asdict(given))
