"""What a rule would do to the transactions there are; doing it; and taking it back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import polars as pl
from sqlalchemy import event

from app.db import driver_connection
from app.errors import Conflict, InvalidInput, NotFound
from app.services.categories import require_category
from app.services.labels import LabelChange, lock_transactions, restore_labels, write_labels
from app.services.metrics import LABELS_TOTAL
from app.services.rules.ledger import LEDGER_SCHEMA, read_ledger
from app.services.rules.matching import ActiveRule, in_winning_order, match_matrices
from app.services.rules.store import check_draft, list_rules, lock_rules, read_rule

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from app.services.rules.conditions import RuleDraft

SHOWN_CHANGES: Final = 20

# A draft has no id yet: of rules with its priority it will be the youngest.
_NEXT_ID: Final = 2**63 - 1


@dataclass(frozen=True)
class PlannedChange:
    """A transaction whose label a rule would change; `from_label` is None where there is none yet."""

    txn_id: int
    date: dt.date
    description: str
    amount: Decimal
    from_label: str | None
    to_label: str


@dataclass(frozen=True)
class RulePreview:
    """What a rule would do now.

    Attributes:
        matches: Transactions that it matches: the sum of the next four.
        overruled: Those that a rule above it decides.
        labelled_otherwise: Those that the person labelled otherwise, which stay.
        labelled_same: Those that have its category already, from whomever.
        changes: Those whose label would change.
        first: The latest of these, by date.
    """

    matches: int
    overruled: int
    labelled_otherwise: int
    labelled_same: int
    changes: int
    first: tuple[PlannedChange, ...]


@dataclass(frozen=True)
class Application:
    """A rule was applied.

    Attributes:
        labels: How many labels it wrote; `undo_application` takes them back.
        overruled: As in `RulePreview`, and so the other two.
    """

    application_id: int
    labels: int
    overruled: int
    labelled_otherwise: int
    labelled_same: int


@dataclass(frozen=True)
class UndoneApplication:
    """An application of a rule was taken back.

    Attributes:
        restored: How many labels are what they were before it.
        kept: How many are not, because something happened to them since.
        deleted: How many are of transactions that were deleted since, and left alone.
        repeated: Whether it had been taken back before, so that nothing was done.
        sentence: The same, for a person.
    """

    application_id: int
    restored: int
    kept: int
    deleted: int
    repeated: bool
    sentence: str


def preview_rule(session: Session, user_id: int, rule_id: int) -> RulePreview:
    """Say what applying a rule would do now; one that was removed is looked at as if it were in force.

    Raises:
        NotFound: There is no such rule, or it is somebody else's.
    """
    return _preview(_outcome(session, user_id, read_rule(session, rule_id).active()))


def preview_draft(session: Session, user_id: int, draft: RuleDraft, *, rule_id: int | None = None) -> RulePreview:
    """Say what a rule would do that is not stored.

    Args:
        session: A session of the user.
        user_id: Whose transactions.
        draft: The rule.
        rule_id: The rule that it would take the place of, if it is an edit.

    Raises:
        InvalidInput: The user has no such category, or a regular expression cannot be used.
        NotFound: There is no such rule to edit.
    """
    if rule_id is not None:
        read_rule(session, rule_id)
    draft = check_draft(session, user_id, draft)
    place = _NEXT_ID if rule_id is None else rule_id
    rule = ActiveRule(place, 0, draft.name, draft.condition, draft.category, draft.priority)
    return _preview(_outcome(session, user_id, rule))


def apply_rule(session: Session, user_id: int, rule_id: int) -> Application:
    """Label the past transactions that a rule decides. A person's own label is never overwritten.

    Raises:
        Conflict: The rule was removed, or the user does not have its category any more.
        NotFound: There is no such rule, or it is somebody else's.
    """
    # First, so that no rule is applied that is being removed, edited or overruled.
    lock_rules(session, user_id)
    revision = read_rule(session, rule_id)
    if not revision.is_enabled:
        raise Conflict("The rule was removed; put it in force again, then apply it.")
    try:
        require_category(session, user_id, revision.category)
    except InvalidInput as error:
        raise Conflict(
            "The rule's category is not one of yours any more. Add the category, or give the rule another one, then "
            "apply it."
        ) from error
    outcome = _outcome(session, user_id, revision.active())
    wanted = outcome.filter(pl.col("outcome") == "changes")["txn_id"].to_list()
    changes = write_labels(session, dict.fromkeys(wanted, revision.category), source="rule")
    event.listen(session, "after_commit", partial(_count, len(changes)), once=True)
    application_id = _record(session, user_id, (rule_id, revision.revision), changes)
    counts = _counts(outcome)
    return Application(
        application_id, len(changes), counts["overruled"], counts["labelled_otherwise"], counts["labelled_same"]
    )


def undo_application(session: Session, application_id: int) -> UndoneApplication:
    """Take back what an application of a rule did: exactly that, and only where nothing has happened since.

    Raises:
        NotFound: There is no such application, or it is somebody else's.
    """
    connection = driver_connection(session)
    undone = connection.execute(
        "UPDATE rule_applications SET undone_at = now() WHERE id = %s AND undone_at IS NULL RETURNING id",
        [application_id],
    ).fetchone()
    if undone is None:
        known = connection.execute("SELECT FROM rule_applications WHERE id = %s", [application_id]).fetchone()
        if known is None:
            raise NotFound(f"There is no application {application_id} of a rule.")
        sentence = "This was taken back before; nothing changed now."
        return UndoneApplication(application_id, 0, 0, 0, repeated=True, sentence=sentence)
    changes = [
        LabelChange(*row)
        for row in connection.execute(
            """
            SELECT txn_id, label_event_id, previous_label, previous_source
            FROM rule_application_labels WHERE application_id = %s
            """,
            [application_id],
        )
    ]
    present = lock_transactions(session, [change.txn_id for change in changes])
    restored = restore_labels(session, changes)
    kept = len(present) - restored
    deleted = len(changes) - len(present)
    sentence = f"Labels that are again what they were before: {restored:,}."
    if kept:
        sentence += f" Labels that stay, because something happened to them since: {kept:,}."
    if deleted:
        sentence += f" Labels of transactions that were deleted since, which stay as they are: {deleted:,}."
    return UndoneApplication(application_id, restored, kept, deleted, repeated=False, sentence=sentence)


def _outcome(session: Session, user_id: int, rule: ActiveRule) -> pl.DataFrame:
    """Read the transactions that a rule matches, with what would become of each: a column `outcome`."""
    others = [other.active() for other in list_rules(session) if other.rule_id != rule.rule_id]
    ordered = in_winning_order([*others, rule])
    above = ordered[: ordered.index(rule) + 1]
    matched = []
    for rows, matches in match_matrices(read_ledger(session, user_id), above):
        overruled = pl.Series("overruled", matches[:, :-1].any(axis=1))
        matched.append(rows.with_columns(overruled).filter(pl.Series(matches[:, -1])))
    outcome = (
        pl.when("overruled")
        .then(pl.lit("overruled"))
        .when(pl.col("label") == rule.category)
        .then(pl.lit("labelled_same"))
        .when(pl.col("label_source") == "human")
        .then(pl.lit("labelled_otherwise"))
        .otherwise(pl.lit("changes"))
    )
    found = pl.concat(matched) if matched else LEDGER_SCHEMA.to_frame().with_columns(overruled=pl.lit(value=False))
    return found.with_columns(outcome.alias("outcome"), pl.lit(rule.category).alias("to_label"))


def _counts(outcome: pl.DataFrame) -> dict[str, int]:
    counted = dict(outcome["outcome"].value_counts().iter_rows())
    return {name: counted.get(name, 0) for name in ("overruled", "labelled_otherwise", "labelled_same", "changes")}


def _preview(outcome: pl.DataFrame) -> RulePreview:
    latest = (
        outcome.filter(pl.col("outcome") == "changes")
        .sort("date", "txn_id", descending=True)
        .head(SHOWN_CHANGES)
        .select("txn_id", "date", "description", "amount", pl.col("label").alias("from_label"), "to_label")
    )
    first = tuple(PlannedChange(**row) for row in latest.iter_rows(named=True))
    return RulePreview(matches=outcome.height, **_counts(outcome), first=first)


def _count(labels: int, _session: Session) -> None:
    LABELS_TOTAL.labels(source="rule").inc(labels)


def _record(session: Session, user_id: int, revision: tuple[int, int], changes: Sequence[LabelChange]) -> int:
    connection = driver_connection(session)
    insert = "INSERT INTO rule_applications (user_id, rule_id, revision, labels) VALUES (%s, %s, %s, %s) RETURNING id"
    ((application_id,),) = connection.execute(insert, [user_id, *revision, len(changes)]).fetchall()
    connection.execute(
        """
        INSERT INTO rule_application_labels (application_id, txn_id, label_event_id, previous_label, previous_source)
        SELECT %s, change.*
        FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])
            AS change (txn_id, label_event_id, previous_label, previous_source)
        """,
        [
            application_id,
            [change.txn_id for change in changes],
            [change.label_event_id for change in changes],
            [change.previous_label for change in changes],
            [change.previous_source for change in changes],
        ],
    )
    return int(application_id)
