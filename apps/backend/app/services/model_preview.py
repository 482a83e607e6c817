"""Diff my ledger: every suggestion that would change if another version were champion."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Final

from app.db import driver_connection, session_for_user
from app.errors import ArtefactRefused, InvalidInput, LedgermillError
from app.ml.artefact import resolve_artefact
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.ml.serving import best_names, open_model, score_rows
from app.ml.tracking import artefact_root
from app.services.asked_transactions import ASKED_COLUMNS, described
from app.services.changed_suggestions import ChangedSuggestion, Preview, add_up, group_by_merchant
from app.services.deployments import category_set_of, current
from app.services.heuristics import (
    deciding_rules,
    rank_by_heuristics,
    read_habits,
    read_shared_now,
    strange_merchants,
)
from app.services.model_answers import model_evidence
from app.services.model_versions import require_version
from app.services.suggestions import DEFAULT_CANDIDATES
from app.services.user_knowledge import read_knowledge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from app.ml.serving import ServedModel
    from app.services.asked_transactions import AskedTransaction
    from app.services.changed_suggestions import Verdict
    from app.services.heuristics import Habits, SharedCounts
    from app.services.user_knowledge import UserKnowledge

    Progress = Callable[[int, int | None], None]
    Suggested = tuple[str | None, float | None]
    Ask = Callable[[Sequence[AskedTransaction]], list[Suggested]]

MOST_DAYS: Final = 3660
_AT_ONCE: Final = 1_000


def preview_version(user_id: int, version: int, *, days: int, progress: Progress | None = None) -> Preview:
    """Compare what a version would suggest for a user's latest transactions with what is suggested now.

    Each is told what is known now, but for the transaction's own label. What either has learnt from is no test of it: a
    version knows the wording of every label that was there when it was trained. Where the champion cannot answer, the
    heuristics do, and are compared with.

    Args:
        user_id: Whose transactions.
        version: Of the user's category set.
        days: How many days, to the date of the user's latest transaction.
        progress: Called with the number of transactions done, and of how many.

    Raises:
        ArtefactRefused: The version's file is missing, changed, of another format or cannot be read.
        InvalidInput: The version was made by a recipe, or from features, that this Ledgermill does not know.
        NotFound: The user's category set has no such version.
    """
    with session_for_user(user_id) as session:
        category_set = category_set_of(session, user_id)
        candidate = _open(session, category_set, version)
        champion, problem = _open_champion(session, category_set)
        since, until, asked, currencies = _read_latest(session, user_id, days)
        habits = read_habits(session, user_id)
    knowledge = read_knowledge(user_id)
    with session_for_user(user_id) as session:
        shared = read_shared_now(session, user_id, strange_merchants(asked, knowledge))
    heuristics = partial(_ask_heuristics, knowledge=knowledge, habits=habits, shared=shared)
    ask_now = partial(_ask_model, champion, knowledge=knowledge) if champion else heuristics
    ask_then = partial(_ask_model, candidate, knowledge=knowledge)
    by_rule = 0
    changes: list[ChangedSuggestion] = []
    merchants: dict[int, str] = {}
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        rest = _left_by_rules(some, habits, heuristics)
        by_rule += len(some) - len(rest)
        for each, before, after in zip(rest, ask_now(rest), ask_then(rest), strict=True):
            if before[0] != after[0]:
                changes.append(_change(each, currencies[each.txn_id], knowledge, before, after))
                merchants[each.txn_id] = each.place.merchant.strip() or "(no merchant)"
        if progress:
            progress(start + len(some), len(asked))
    verdicts = [change.verdict for change in changes]
    sums = add_up(changes)
    return Preview(
        version=version,
        champion=champion.version if champion else None,
        champion_problem=problem,
        since=since,
        until=until,
        transactions=len(asked),
        by_rule=by_rule,
        changed=len(changes),
        right_to_wrong=verdicts.count("right → wrong"),
        right_to_nothing=sum(each.verdict == "right → wrong" and each.after is None for each in changes),
        wrong_to_right=verdicts.count("wrong → right"),
        nothing_to_right=sum(each.verdict == "wrong → right" and each.before is None for each in changes),
        sums=sums,
        merchants=group_by_merchant(changes, merchants, [each.currency for each in sums]),
    )


def _open(session: Session, category_set: int | None, version: int) -> ServedModel:
    """Open a version just as those who answer by it do."""
    name, sha256 = require_version(session, category_set, version)
    path = resolve_artefact(artefact_root(), name)
    try:
        return open_model(path, sha256, version)
    except LedgermillError:
        raise
    except Exception as error:
        # A file that is what was registered may still be nonsense.
        what = f"{type(error).__name__}: {error}"
        raise ArtefactRefused(f"The model's file {path} cannot be read ({what}); train a new one: lm train.") from error


def _open_champion(session: Session, category_set: int | None) -> tuple[ServedModel | None, str | None]:
    """Open what answers now; where it cannot be opened the heuristics do, and why is said."""
    version = current(session, category_set).champion
    if version is None:
        return None, None
    try:
        return _open(session, category_set, version), None
    except ArtefactRefused:
        # Where files are is not for everybody who may ask.
        why = f"Its file is refused; `lm models preview {version}` says why."
    except InvalidInput as error:
        why = str(error)
    return None, f"Version {version} is the champion and cannot answer, so the heuristics do. {why}"


def _read_latest(
    session: Session, user_id: int, days: int
) -> tuple[dt.date, dt.date, list[AskedTransaction], dict[int, str | None]]:
    """Read the transactions of so many days, and their currencies by id."""
    connection = driver_connection(session)
    query = "SELECT max(date) FROM transactions WHERE user_id = %s AND deleted_at IS NULL"
    ((latest,),) = connection.execute(query, [user_id]).fetchall()
    until: dt.date = latest or dt.datetime.now(tz=dt.UTC).date()
    since = until - dt.timedelta(days=min(days, (until - dt.date.min).days) - 1)
    rows = connection.execute(
        f"""
        SELECT transactions.currency, {ASKED_COLUMNS}
        FROM transactions LEFT JOIN ml_features ON ml_features.txn_id = transactions.id
        WHERE transactions.user_id = %s AND transactions.deleted_at IS NULL AND transactions.date >= %s
        ORDER BY transactions.date, transactions.id
        """.encode(),  # noqa: S608 -- the columns are a constant
        [user_id, since],
    ).fetchall()
    asked = described(user_id, [row[1:] for row in rows])
    return since, until, list(asked.values()), {row[1]: row[0] for row in rows}


def _left_by_rules(asked: Sequence[AskedTransaction], habits: Habits, heuristics: Ask) -> list[AskedTransaction]:
    """Leave out what a rule of the user's own decides surely enough: the model is not asked about that."""
    ruled = deciding_rules(asked, habits)
    by_rule = [each for each in asked if each.txn_id in ruled]
    decided = {each.txn_id for each, (label, _) in zip(by_rule, heuristics(by_rule), strict=True) if label is not None}
    return [each for each in asked if each.txn_id not in decided]


def _ask_model(served: ServedModel, asked: Sequence[AskedTransaction], *, knowledge: UserKnowledge) -> list[Suggested]:
    if not asked:
        return []
    space = knowledge.space_of(served)
    evidence = [model_evidence(each, knowledge, space) for each in asked]
    scores = score_rows(served, [each.place for each in asked], evidence, len(space.words))
    return [_offered(found, knowledge) for found in best_names(space, scores, 1)]


def _ask_heuristics(
    asked: Sequence[AskedTransaction],
    *,
    knowledge: UserKnowledge,
    habits: Habits,
    shared: Mapping[str, SharedCounts],
) -> list[Suggested]:
    # As many as whoever asks for suggestions gets: a rule's own category may be further down without it.
    ranked = rank_by_heuristics(asked, knowledge, habits, shared, most=DEFAULT_CANDIDATES)
    return [_offered({each.label: each.confidence for each in answer.candidates}, knowledge) for answer in ranked]


def _offered(found: Mapping[str, float], knowledge: UserKnowledge) -> Suggested:
    """Return the best of what was found where the user wants to hear of it."""
    threshold = OWN_THRESHOLD if knowledge.min_confidence is None else knowledge.min_confidence
    label, confidence = next(iter(found.items()), (None, None))
    return (label, confidence) if confidence is not None and confidence >= threshold else (None, None)


def _change(
    asked: AskedTransaction, currency: str | None, knowledge: UserKnowledge, before: Suggested, after: Suggested
) -> ChangedSuggestion:
    given = knowledge.memory.given.get(asked.txn_id)
    label = knowledge.shown.get(given.label, given.label) if given else None
    verdict: Verdict | None = None
    if label is not None:
        verdict = "wrong → right" if after[0] == label else "right → wrong" if before[0] == label else "wrong → wrong"
    row = asked.row
    return ChangedSuggestion(
        asked.txn_id, row["date"], row["description"], row["amount"], currency, *before, *after, label, verdict
    )
