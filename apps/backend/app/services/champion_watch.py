"""After a promotion: does the new champion keep what it promises? If not, it is taken back.

People reject what is wrong more often than they accept what is right. A suggestion that nobody said anything about
therefore counts as right: too many mistakes are then proven, whoever answers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs
from app.errors import ArtefactRefused, Conflict
from app.ml.sequential import UnitOutcomes, share_sequence
from app.services import deployments
from app.services.model_aliases import mirror_aliases
from app.services.todays_names import shown_today

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

    from app.ml.sequential import ShareSequence
    from app.services.deployments import Deployment

logger = logging.getLogger(__name__)

ACTOR: Final = "the watch"


@dataclass(frozen=True)
class Promise:
    """What a champion was sure of, and how many of its suggestions proved wrong.

    Attributes:
        version: The champion.
        since: When it became that.
        promised: How sure it was of its first candidates on average: the share that should be right.
        answered: Of how many of them anything is known.
        live: The share of all of them that did not prove wrong, with its sequence of intervals.
        tolerance: How far below the promise the interval must lie.
    """

    version: int
    since: dt.datetime
    promised: float
    answered: int
    live: ShareSequence
    tolerance: float

    @property
    def is_broken(self) -> bool:
        """Whether the answers rule out what was promised."""
        return self.live.upper < self.promised - self.tolerance

    @property
    def sentence(self) -> str:
        """The same, for a person."""
        if self.live.share is None:
            return "It suggested nothing yet since it became champion."
        return (
            f"Of {self.live.answers:,} suggestions since it became champion {self.answered:,} were answered or "
            f"labelled. Where silence counts as right, {self.live.share:.1%} were right, "
            f"[{self.live.lower:.1%}, {self.live.upper:.1%}]; it was sure of {self.promised:.1%}."
        )


def watch_champions() -> list[Deployment]:
    """Take back every champion whose answers rule out what it promised; return the decisions.

    It goes back to what it replaced, or to the heuristics where it replaced nothing.
    """
    with session_for_jobs() as session:
        sets = deployments.category_sets_with_models(session)
    decisions = []
    for category_set in sets:
        try:
            _, made = watch_champion(category_set, apply=True)
        except Exception:
            # Whatever is wrong with one category set must not hold up the others.
            logger.exception("The champion of category set %s cannot be watched.", category_set or "shared")
            continue
        if made is not None:
            decisions.append(made)
    if decisions:
        mirror_aliases()
    return decisions


def watch_champion(category_set: int | None, *, apply: bool) -> tuple[Promise | None, Deployment | None]:
    """Compare what a category set's champion promised with what came, and, if that is wanted, take it back.

    Returns:
        The promise, None where there is no champion; and what was decided, None where it stays.
    """
    with session_for_jobs() as session:
        promise = read_promise(session, category_set)
    if not apply or promise is None or not promise.is_broken:
        return promise, None
    # Only what is to be decided is read where others have to wait: somebody may be going back in a hurry.
    with session_for_jobs() as session:
        deployments.take_turns(session, category_set)
        promise = read_promise(session, category_set)
        if promise is None or not promise.is_broken:
            return promise, None
        return promise, _take_back(session, category_set, promise)


def read_promise(session: Session, category_set: int | None) -> Promise | None:
    """Compare what the champion promised with what came of what it suggested since it became champion.

    A suggestion is right if its first candidate is what a person, or an import, called the transaction afterwards, else
    what the last answer to it says, under today's names; or if nobody said anything. A transaction counts once, with
    the first suggestion that something is known of, else with the first. Units are merchants of users, whose
    transactions are alike. None where there is no champion.
    """
    decided = next(
        (each for each in deployments.history(session, category_set) if each.action in ("promote", "rollback")), None
    )
    if decided is None or deployments.current(session, category_set).champion != decided.version:
        return None
    rows = session.execute(
        text(f"""
            SELECT
                sum(is_right::integer) AS right, count(*) AS answers, sum(is_known::integer) AS answered,
                sum(confidence) AS promised
            FROM (
                SELECT DISTINCT ON (events.txn_id)
                    events.user_id, ml_features.merchant, known.is_known,
                    (events.candidates -> 0 ->> 'confidence')::float8 AS confidence,
                    -- A rejection that names nothing right says that what was suggested is wrong.
                    NOT known.is_known OR coalesce(
                        {shown_today("events.user_id", "events.candidates -> 0 ->> 'label'")}
                        = {shown_today("events.user_id", "coalesce(labelled.label, last_answer.label)")}, false
                    ) AS is_right
                FROM suggestion_events AS events
                INNER JOIN users ON users.id = events.user_id
                LEFT JOIN LATERAL (
                    SELECT action, label FROM suggestion_feedback AS answer WHERE answer.event_id = events.id
                    ORDER BY answer.created_at DESC, answer.id DESC LIMIT 1
                ) AS last_answer ON last_answer.action <> 'undo'
                LEFT JOIN transaction_labels AS labelled
                    ON labelled.txn_id = events.txn_id AND labelled.source IN ('human', 'import')
                        AND labelled.updated_at > events.created_at
                CROSS JOIN LATERAL (
                    SELECT last_answer.action IS NOT NULL OR labelled.txn_id IS NOT NULL AS is_known
                ) AS known
                LEFT JOIN ml_features ON ml_features.txn_id = events.txn_id
                WHERE events.source = 'model' AND events.model_version = :version AND events.created_at >= :since
                    AND jsonb_array_length(events.candidates) > 0
                    AND CASE WHEN users.own_categories OR users.is_demo THEN users.id END
                        IS NOT DISTINCT FROM CAST(:category_set AS bigint)
                ORDER BY events.txn_id, known.is_known DESC, events.id
            ) AS suggestions
            GROUP BY user_id, merchant
        """),  # noqa: S608 -- of literals
        {"version": str(decided.version), "since": decided.created_at, "category_set": category_set},
    ).all()
    answers = np.array([row.answers for row in rows], dtype=np.int64)
    right = np.array([row.right for row in rows], dtype=np.int64)
    promised = sum(row.promised for row in rows) / max(int(answers.sum()), 1)
    return Promise(
        version=decided.version,
        since=decided.created_at,
        promised=promised,
        answered=sum(row.answered for row in rows),
        live=share_sequence(UnitOutcomes(answers, right)),
        tolerance=get_settings().promotion.promise_tolerance,
    )


def _take_back(session: Session, category_set: int | None, promise: Promise) -> Deployment:
    reason = f"Version {promise.version} did not keep its promise. {promise.sentence}"
    logger.warning("%s", reason)
    try:
        return deployments.rollback(session, category_set, actor=ACTOR, reason=reason)
    except (ArtefactRefused, Conflict):
        # There is nothing to go back to, or it cannot be opened.
        return deployments.retire_champion(session, category_set, actor=ACTOR, reason=reason)
