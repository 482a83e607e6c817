"""Rules as they are kept: each edit is a revision, and no revision is ever changed or deleted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from app.db import driver_connection
from app.errors import Conflict, NotFound
from app.services.categories import require_category
from app.services.rules.conditions import Condition, RuleDraft, TextCondition, check_patterns
from app.services.rules.matching import ActiveRule

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

# What all rules of a user in force may ask together: every suggestion asks it of its transaction.
MOST_RULES: Final = 500
MOST_CONDITIONS: Final = 2000
MOST_PATTERNS: Final = 100

# A category that was renamed or merged is known by the name that it is shown under now.
_REVISIONS: Final = """
    SELECT
        rule_revisions.rule_id, rule_revisions.revision, rule_revisions.name, rule_revisions.condition::text,
        coalesce(category_names.shown_as, rule_revisions.category), rule_revisions.priority,
        rule_revisions.is_enabled, rule_revisions.created_at
    FROM rules
    INNER JOIN rule_revisions ON rule_revisions.rule_id = rules.id
    LEFT JOIN category_names
        ON category_names.user_id = rules.user_id
            AND category_names.name = rule_revisions.category
            AND category_names.valid_to IS NULL
"""
_LATEST: Final = f"""
    {_REVISIONS}
    WHERE NOT EXISTS (
        SELECT FROM rule_revisions AS later
        WHERE later.rule_id = rule_revisions.rule_id AND later.revision > rule_revisions.revision
    )
"""


@dataclass(frozen=True)
class RuleRevision:
    """What a rule says from one edit to the next.

    Attributes:
        category: Under the name that the user's category is shown under now.
        is_enabled: False for a rule that was removed.
        created_at: When the rule began to say this.
    """

    rule_id: int
    revision: int
    name: str
    condition: Condition
    category: str
    priority: int
    is_enabled: bool
    created_at: dt.datetime

    def draft(self) -> RuleDraft:
        """Return what a person would write to get the same."""
        # Not checked again: what may be stored may have become stricter since.
        return RuleDraft.model_construct(
            name=self.name, condition=self.condition, category=self.category, priority=self.priority
        )

    def active(self) -> ActiveRule:
        """Return what `match_rules` takes."""
        return ActiveRule(self.rule_id, self.revision, self.name, self.condition, self.category, self.priority)


def read_active_rules(session: Session) -> list[ActiveRule]:
    """Read the rules that are in force for the session's user, by id."""
    return [rule.active() for rule in list_rules(session)]


def list_rules(session: Session, *, removed: bool = False) -> list[RuleRevision]:
    """Read the latest revision of each rule of the session's user, by id.

    Args:
        session: A session of the user.
        removed: Read the rules that were removed too.
    """
    return [rule for rule in _read(session, f"{_LATEST} ORDER BY rules.id", []) if removed or rule.is_enabled]


def read_rule(session: Session, rule_id: int) -> RuleRevision:
    """Read the latest revision of a rule, removed or not.

    Raises:
        NotFound: There is no such rule, or it is somebody else's.
    """
    for rule in _read(session, f"{_LATEST} AND rules.id = %s", [rule_id]):
        return rule
    raise NotFound(f"There is no rule {rule_id}.")


def rule_history(session: Session, rule_id: int) -> list[RuleRevision]:
    """Read every revision of a rule, the latest first.

    Raises:
        NotFound: There is no such rule, or it is somebody else's.
    """
    query = f"{_REVISIONS} WHERE rules.id = %s ORDER BY rule_revisions.revision DESC"
    revisions = _read(session, query, [rule_id])
    if not revisions:
        raise NotFound(f"There is no rule {rule_id}.")
    return revisions


def add_rule(session: Session, user_id: int, draft: RuleDraft) -> RuleRevision:
    """Add a rule, in force at once. It changes no label; `apply_rule` does.

    Raises:
        Conflict: The user's rules would be too many, or ask too much together.
        InvalidInput: The user has no such category, or a regular expression cannot be used.
    """
    draft = check_draft(session, user_id, draft)
    lock_rules(session, user_id)
    _check_totals(list_rules(session), draft)
    insert = "INSERT INTO rules (user_id) VALUES (%s) RETURNING id"
    ((rule_id,),) = driver_connection(session).execute(insert, [user_id]).fetchall()
    return _write(session, rule_id, 1, draft, is_enabled=True)


def edit_rule(session: Session, user_id: int, rule_id: int, draft: RuleDraft) -> RuleRevision:
    """Let a rule say something else from now on; one that was removed is in force again.

    Returns:
        The rule's latest revision: a new one, or the one there was where nothing changes.

    Raises:
        Conflict: The user's rules would be too many, or ask too much together.
        InvalidInput: The user has no such category, or a regular expression cannot be used.
        NotFound: There is no such rule, or it is somebody else's.
    """
    read_rule(session, rule_id)
    draft = check_draft(session, user_id, draft)
    lock_rules(session, user_id)
    rule = read_rule(session, rule_id)
    if rule.is_enabled and rule.draft() == draft:
        return rule
    _check_totals([other for other in list_rules(session) if other.rule_id != rule_id], draft)
    return _write(session, rule_id, rule.revision + 1, draft, is_enabled=True)


def enable_rule(session: Session, user_id: int, rule_id: int) -> RuleRevision:
    """Put a rule that was removed in force again, as it last was.

    Raises:
        Conflict: The user's rules would be too many, or ask too much together.
        InvalidInput: The user does not have its category any more.
        NotFound: There is no such rule, or it is somebody else's.
    """
    return edit_rule(session, user_id, rule_id, read_rule(session, rule_id).draft())


def remove_rule(session: Session, user_id: int, rule_id: int) -> RuleRevision:
    """Put a rule out of force. Its history and the labels that it gave remain.

    Returns:
        The rule's latest revision: a new one, or the one there was if the rule was removed before.

    Raises:
        NotFound: There is no such rule, or it is somebody else's.
    """
    lock_rules(session, user_id)
    rule = read_rule(session, rule_id)
    if not rule.is_enabled:
        return rule
    return _write(session, rule_id, rule.revision + 1, rule.draft(), is_enabled=False)


def check_draft(session: Session, user_id: int, draft: RuleDraft) -> RuleDraft:
    """Make sure that a draft could be added; return it with its category under the name that it is shown under now.

    Raises:
        InvalidInput: The user has no such category, or a regular expression cannot be used.
    """
    check_patterns(draft.condition)
    return draft.model_copy(update={"category": require_category(session, user_id, draft.category)})


def _check_totals(others: list[RuleRevision], draft: RuleDraft) -> None:
    asked = [*(other.condition for other in others), draft.condition]
    conditions = [part for condition in asked for part in condition.conditions]
    patterns = [part for part in conditions if isinstance(part, TextCondition) and part.operator == "regex"]
    for count, most, what in (
        (len(others) + 1, MOST_RULES, "rules"),
        (len(conditions), MOST_CONDITIONS, "conditions"),
        (len(patterns), MOST_PATTERNS, "regular expressions"),
    ):
        if count > most:
            raise Conflict(f"With this one the rules in force had more than {most:,} {what}; remove a rule first.")


def lock_rules(session: Session, user_id: int) -> None:
    """Let nobody else change or apply a user's rules until the session's transaction ends."""
    # Two edits at once would both write the same revision; a request may lock no row of `rules`.
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('rules of user ' || %s::bigint, 0))"
    driver_connection(session).execute(lock, [user_id])


def _write(session: Session, rule_id: int, revision: int, draft: RuleDraft, *, is_enabled: bool) -> RuleRevision:
    driver_connection(session).execute(
        """
        INSERT INTO rule_revisions (rule_id, revision, name, condition, category, priority, is_enabled)
        VALUES (%s, %s, %s, %s::jsonb, %s, %s, %s)
        """,
        [rule_id, revision, draft.name, draft.condition.to_json(), draft.category, draft.priority, is_enabled],
    )
    return read_rule(session, rule_id)


def _read(session: Session, query: str, parameters: list[int]) -> list[RuleRevision]:
    rows = driver_connection(session).execute(query.encode(), parameters)
    return [
        RuleRevision(rule_id, revision, name, _condition(condition), category, priority, is_enabled, created_at)
        for rule_id, revision, name, condition, category, priority, is_enabled, created_at in rows
    ]


@lru_cache(maxsize=4096)
def _condition(stored: str) -> Condition:
    return Condition.model_validate(json.loads(stored))
