"""`/rules`: the user's own rules, what they would do, did and are worth."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, ConfigDict

from app.api.access import ActingUser, UserSession
from app.api.fields import PathId
from app.services import rules

router = APIRouter(prefix="/rules", tags=["rules"])


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RuleAnswer(_Answer):
    """What a rule says; `is_enabled` is false once it was removed."""

    rule_id: int
    revision: int
    name: str
    condition: rules.Condition
    category: str
    priority: int
    is_enabled: bool
    created_at: dt.datetime


class PrecisionAnswer(_Answer):
    """How often the rule was right, over the transactions it decides whose category a person or a file has told.

    `lower` and `upper` are the ends of Wilson's 95 % interval; with `share` they are null where nothing is known yet.
    """

    hits: int
    total: int
    share: float | None
    lower: float | None
    upper: float | None


class MeasuredRuleAnswer(_Answer):
    """A rule in force, how many transactions it matches and decides, and the rule that makes it unnecessary, if any."""

    rule: RuleAnswer
    matches: int
    wins: int
    record: PrecisionAnswer
    redundant_beside: int | None


class ConflictAnswer(_Answer):
    """Two rules that match the same transactions and would give them different categories."""

    winner_id: int
    loser_id: int
    transactions: int


class RulesAnswer(_Answer):
    """The rules in force, by id, and their conflicts, the largest hundred of `conflict_count`."""

    rules: list[MeasuredRuleAnswer]
    conflicts: list[ConflictAnswer]
    conflict_count: int


class HistoryAnswer(BaseModel):
    """Every revision of a rule, the latest first."""

    revisions: list[RuleAnswer]


class ChangeAnswer(_Answer):
    """A transaction whose label would change."""

    txn_id: int
    date: dt.date
    description: str
    amount: Decimal
    from_label: str | None
    to_label: str


class PreviewAnswer(_Answer):
    """What applying the rule would do now: matches = overruled + labelled_otherwise + labelled_same + changes."""

    matches: int
    overruled: int
    labelled_otherwise: int
    labelled_same: int
    changes: int
    first: list[ChangeAnswer]


class ApplicationAnswer(_Answer):
    """What applying the rule did; the id takes it back."""

    application_id: int
    labels: int
    overruled: int
    labelled_otherwise: int
    labelled_same: int


class UndoneAnswer(_Answer):
    """What taking an application back did; `repeated` is true where that had been done before, and nothing was now."""

    application_id: int
    restored: int
    kept: int
    deleted: int
    repeated: bool
    sentence: str


class ProposalAnswer(_Answer):
    """A rule that the person's labels suggest; `POST /rules` takes `rule` as it is."""

    rule: rules.RuleDraft
    support: int
    hits: int
    precision: float
    lower: float


@router.get("")
def list_all(user_id: ActingUser, session: UserSession) -> RulesAnswer:
    """List the rules in force with how often each was right, what they contradict and which could go."""
    return RulesAnswer.model_validate(rules.report_rules(session, user_id))


@router.post("", status_code=status.HTTP_201_CREATED)
def add(draft: rules.RuleDraft, user_id: ActingUser, session: UserSession) -> RuleAnswer:
    """Add a rule. It speaks for new suggestions at once; past transactions change when it is applied."""
    return RuleAnswer.model_validate(rules.add_rule(session, user_id, draft))


@router.get("/proposals")
def propose(
    user_id: ActingUser, session: UserSession, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> list[ProposalAnswer]:
    """Propose rules that the person's own labels support; none is added."""
    return [ProposalAnswer.model_validate(each) for each in rules.propose_rules(session, user_id, limit=limit)]


@router.post("/preview")
def preview_draft(draft: rules.RuleDraft, user_id: ActingUser, session: UserSession) -> PreviewAnswer:
    """Say what a rule would do to past transactions, without adding it."""
    return PreviewAnswer.model_validate(rules.preview_draft(session, user_id, draft))


@router.post("/applications/{application_id}/undo")
def undo(application_id: PathId, session: UserSession) -> UndoneAnswer:
    """Take back what an application did, where nothing has happened since; a second time changes nothing."""
    return UndoneAnswer.model_validate(rules.undo_application(session, application_id))


@router.get("/{rule_id:int}")
def read(rule_id: PathId, session: UserSession) -> HistoryAnswer:
    """Read a rule and everything it ever said."""
    revisions = rules.rule_history(session, rule_id)
    return HistoryAnswer(revisions=[RuleAnswer.model_validate(revision) for revision in revisions])


@router.put("/{rule_id:int}")
def edit(rule_id: PathId, draft: rules.RuleDraft, user_id: ActingUser, session: UserSession) -> RuleAnswer:
    """Let a rule say something else; one that was removed is in force again. What it said before is kept."""
    return RuleAnswer.model_validate(rules.edit_rule(session, user_id, rule_id, draft))


@router.delete("/{rule_id:int}", status_code=status.HTTP_204_NO_CONTENT)
def remove(rule_id: PathId, user_id: ActingUser, session: UserSession) -> None:
    """Put a rule out of force. Its history and the labels that it gave remain."""
    rules.remove_rule(session, user_id, rule_id)


@router.post("/{rule_id:int}/preview")
def preview(rule_id: PathId, user_id: ActingUser, session: UserSession) -> PreviewAnswer:
    """Say what applying the rule would do to past transactions."""
    return PreviewAnswer.model_validate(rules.preview_rule(session, user_id, rule_id))


@router.post("/{rule_id:int}/apply")
def apply(rule_id: PathId, user_id: ActingUser, session: UserSession) -> ApplicationAnswer:
    """Label the past transactions that the rule decides; what a person labelled stays."""
    return ApplicationAnswer.model_validate(rules.apply_rule(session, user_id, rule_id))
