"""Diff my ledger: every suggestion that would change if another version were champion."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from app.db import driver_connection, session_for_user
from app.errors import ArtefactRefused
from app.ml.category_model import model_from_artefact
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.ml.serving import best_names, score_rows, serve_model
from app.services.asked_transactions import ASKED_COLUMNS, described
from app.services.deployments import category_set_of, current
from app.services.heuristics import deciding_rules, rank_by_heuristics, read_habits
from app.services.model_answers import model_evidence
from app.services.model_versions import open_version
from app.services.user_knowledge import read_knowledge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from app.ml.serving import ServedModel
    from app.services.asked_transactions import AskedTransaction
    from app.services.heuristics import Habits
    from app.services.user_knowledge import UserKnowledge

    Progress = Callable[[int, int | None], None]

MOST_DAYS: Final = 3660
_AT_ONCE: Final = 1_000

Verdict = Literal["wrong → right", "right → wrong", "wrong → wrong"]


@dataclass(frozen=True)
class ChangedSuggestion:
    """A transaction whose suggestion would change.

    Attributes:
        before: What is suggested now; None for nothing. `before_confidence` is how sure that is.
        after: What would be.
        label: What the person has labelled it as; None where they have not.
        verdict: How the change looks beside that label; nothing is suggested counts as wrong. None without one.
    """

    txn_id: int
    date: dt.date
    description: str
    amount: Decimal
    before: str | None
    before_confidence: float | None
    after: str | None
    after_confidence: float | None
    label: str | None
    verdict: Verdict | None


@dataclass(frozen=True)
class ChangedMerchant:
    """A merchant with suggestions that would change, and what they are about in all, whichever way the money went."""

    merchant: str
    amount: Decimal
    suggestions: tuple[ChangedSuggestion, ...]


@dataclass(frozen=True)
class Preview:
    """What would change.

    Attributes:
        champion: The version that suggests now; None for the heuristics.
        since: The first day that was looked at.
        transactions: How many there are from then on.
        by_rule: Those that a rule of the person's own decides, whichever model there is.
        changed: How many suggestions would change.
        right_to_wrong: Of those that the person has labelled, how many were right and would not be any more.
        wrong_to_right: And the reverse.
        merchants: By the money that the changes are about.
    """

    version: int
    champion: int | None
    since: dt.date
    until: dt.date
    transactions: int
    by_rule: int
    changed: int
    right_to_wrong: int
    wrong_to_right: int
    merchants: tuple[ChangedMerchant, ...]


def preview_version(user_id: int, version: int, *, days: int, progress: Progress | None = None) -> Preview:
    """Compare what a version would suggest for a user's latest transactions with what is suggested now.

    Each is told what is known now, but for the transaction's own label. What either has learnt from is no test of it: a
    version knows the wording of every label that was there when it was trained.

    Args:
        user_id: Whose transactions.
        version: Of the user's category set.
        days: How many days, to the date of the user's latest transaction.
        progress: Called with the number of transactions done, and of how many.

    Raises:
        ArtefactRefused: The version's file is missing, changed or of another format.
        NotFound: The user's category set has no such version.
    """
    with session_for_user(user_id) as session:
        category_set = category_set_of(session, user_id)
        candidate = serve_model(model_from_artefact(open_version(session, category_set, version)), version)
        champion = _open_champion(session, category_set)
        since, until, asked = _read_latest(session, user_id, days)
        habits = read_habits(session, user_id)
    knowledge = read_knowledge(user_id)
    ruled = deciding_rules(asked, habits)
    rest = [each for each in asked if each.txn_id not in ruled]
    changes: list[ChangedSuggestion] = []
    merchants: dict[int, str] = {}
    for start in range(0, len(rest), _AT_ONCE):
        some = rest[start : start + _AT_ONCE]
        now = _suggest(champion, some, knowledge) if champion else _suggest_by_heuristics(some, knowledge, habits)
        then = _suggest(candidate, some, knowledge)
        for each, before, after in zip(some, now, then, strict=True):
            if before[0] != after[0]:
                changes.append(_change(each, knowledge, before, after))
                merchants[each.txn_id] = each.place.merchant.strip() or "(no merchant)"
        if progress:
            progress(start + len(some), len(rest))
    verdicts = [change.verdict for change in changes]
    return Preview(
        version=version,
        champion=champion.version if champion else None,
        since=since,
        until=until,
        transactions=len(asked),
        by_rule=len(asked) - len(rest),
        changed=len(changes),
        right_to_wrong=verdicts.count("right → wrong"),
        wrong_to_right=verdicts.count("wrong → right"),
        merchants=_by_merchant(changes, merchants),
    )


def _open_champion(session: Session, category_set: int | None) -> ServedModel | None:
    """Open what answers now; where it cannot be opened the heuristics do."""
    version = current(session, category_set).champion
    if version is None:
        return None
    try:
        return serve_model(model_from_artefact(open_version(session, category_set, version)), version)
    except ArtefactRefused:
        return None


def _read_latest(session: Session, user_id: int, days: int) -> tuple[dt.date, dt.date, list[AskedTransaction]]:
    connection = driver_connection(session)
    query = "SELECT max(date) FROM transactions WHERE user_id = %s AND deleted_at IS NULL"
    ((latest,),) = connection.execute(query, [user_id]).fetchall()
    until: dt.date = latest or dt.datetime.now(tz=dt.UTC).date()
    since = until - dt.timedelta(days=min(days, (until - dt.date.min).days) - 1)
    rows = connection.execute(
        f"""
        SELECT {ASKED_COLUMNS} FROM transactions LEFT JOIN ml_features ON ml_features.txn_id = transactions.id
        WHERE transactions.user_id = %s AND transactions.deleted_at IS NULL AND transactions.date >= %s
        ORDER BY transactions.date, transactions.id
        """.encode(),  # noqa: S608 -- the columns are a constant
        [user_id, since],
    ).fetchall()
    return since, until, list(described(user_id, rows).values())


Suggested = tuple[str | None, float | None]


def _suggest(served: ServedModel, asked: Sequence[AskedTransaction], knowledge: UserKnowledge) -> list[Suggested]:
    space = knowledge.space_of(served)
    evidence = [model_evidence(each, knowledge, space) for each in asked]
    scores = score_rows(served, [each.place for each in asked], evidence, len(space.words))
    return [_offered(found, knowledge) for found in best_names(space, scores, knowledge.categories, 1)]


def _suggest_by_heuristics(
    asked: Sequence[AskedTransaction], knowledge: UserKnowledge, habits: Habits
) -> list[Suggested]:
    ranked = rank_by_heuristics(asked, knowledge, habits, {}, most=1)
    return [_offered({each.label: each.confidence for each in answer.candidates}, knowledge) for answer in ranked]


def _offered(found: Mapping[str, float], knowledge: UserKnowledge) -> Suggested:
    threshold = OWN_THRESHOLD if knowledge.min_confidence is None else knowledge.min_confidence
    for label, confidence in found.items():
        if confidence >= threshold:
            return label, confidence
    return None, None


def _change(
    asked: AskedTransaction, knowledge: UserKnowledge, before: Suggested, after: Suggested
) -> ChangedSuggestion:
    given = knowledge.memory.given.get(asked.txn_id)
    label = knowledge.shown.get(given.label, given.label) if given else None
    verdict: Verdict | None = None
    if label is not None:
        verdict = "wrong → right" if after[0] == label else "right → wrong" if before[0] == label else "wrong → wrong"
    row = asked.row
    return ChangedSuggestion(
        asked.txn_id, row["date"], row["description"], row["amount"], *before, *after, label, verdict
    )


def _by_merchant(changes: Sequence[ChangedSuggestion], merchants: Mapping[int, str]) -> tuple[ChangedMerchant, ...]:
    grouped: defaultdict[str, list[ChangedSuggestion]] = defaultdict(list)
    for change in changes:
        grouped[merchants[change.txn_id]].append(change)
    found = [
        ChangedMerchant(merchant, sum((abs(each.amount) for each in some), Decimal(0)), tuple(some))
        for merchant, some in grouped.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.amount, each.merchant)))
