"""What the answers say of a challenger beside the champion.

Both were told the same of each transaction. What it is may have been said afterwards, by an answer to the suggestion or
a label. People correct what is wrong more often than they confirm what is right, so among answers alone the champion's
mistakes, which a challenger can only win by, would be too many. For a challenger, silence therefore counts as the
champion's being right. What anybody says later can only move that towards the challenger, so an interval above zero is
above zero with the truth as well, at every look. (It is the lower one of the bounds of Manski 1990, for outcomes that
are missing for whatever reason.)

Against a challenger speaks only what is independent: truths that more than an accept vouches for. Among these the
champion's mistakes are too many again, which is in the challenger's favour.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import text

from app.ml.confidence_sequences import FEWEST_PLANNED
from app.ml.count_evidence import disagreement_evidence
from app.ml.sequential import ALPHA, PLANNED_ANSWERS, compare_on_same_answers
from app.services.todays_names import shown_today

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from app.ml.count_evidence import DisagreementEvidence
    from app.ml.sequential import Comparison

MANY_USERS: Final = 20
"""From how many users on they are the units, and not their merchants: what suits one user need not suit another."""

Unit = tuple[int, str]


@dataclass(frozen=True)
class PairedAnswer:
    """A transaction that the champion was due to suggest for and the challenger was asked about, before its truth.

    Attributes:
        unit: The user and the merchant.
        truth: What it is; None while nobody said so.
        champion: What the champion suggested, or the heuristics where it could not answer. None for nothing, and for
            what was rejected and nobody said what is right.
        challenger: What the challenger would have suggested.
        is_independent: Whether more than the accept of a suggestion says so.
    """

    unit: Unit
    truth: str | None
    champion: str | None
    challenger: str | None
    is_independent: bool

    @property
    def difference(self) -> int:
        """1 where the challenger alone is right, -1 where the champion alone is; where nobody said anything, it is."""
        if self.truth is None:
            return -int(self.champion not in (None, self.challenger))
        return (self.challenger == self.truth) - (self.champion == self.truth)


@dataclass(frozen=True)
class CategoryRecord:
    """How the two did on the transactions of one category.

    Attributes:
        comparison: On all whose truth is known.
        independent: On the independent ones; its alpha is the category's part of what all categories have together.
    """

    category: str
    comparison: Comparison
    independent: Comparison


@dataclass(frozen=True)
class PairedEvidence:
    """How the two did, each time the share that the challenger has right less the champion's.

    Attributes:
        comparison: On all suggestions, where silence counts as the champion's being right.
        answered: How many of them have a truth.
        independent: On those whose truth is independent.
        unit: What is taken as independent, in the plural.
        disagreements: Units by whom their first disagreement has right: the challenger's wins and its losses.
        categories: Those with the fewest answers that count, the worst first.
    """

    comparison: Comparison
    answered: int
    independent: Comparison
    unit: str
    disagreements: DisagreementEvidence
    categories: tuple[CategoryRecord, ...]


def weigh_answers(answers: Sequence[PairedAnswer], *, known_categories: int, category_answers: int) -> PairedEvidence:
    """Compare champion and challenger on the same suggestions, as often as wanted.

    Units are users where MANY_USERS or more have any, else merchants of users.

    Args:
        answers: Of all suggestions, in the order in which they were made.
        known_categories: How many categories an answer may be of. They share one alpha, so the number should not
            depend on the answers.
        category_answers: From how many answers on a category is listed.
    """
    is_by_user = len({each.unit[0] for each in answers}) >= MANY_USERS
    if is_by_user:
        answers = [replace(each, unit=(each.unit[0], "")) for each in answers]
    by_category: defaultdict[str, list[PairedAnswer]] = defaultdict(list)
    for each in answers:
        if each.truth is not None:
            by_category[each.truth].append(each)
    alpha = ALPHA / max(known_categories, len(by_category), 1)
    categories = [
        CategoryRecord(category, _compare(found), _compare(_independent(found), alpha, FEWEST_PLANNED))
        for category, found in by_category.items()
        if len(found) >= category_answers
    ]
    return PairedEvidence(
        comparison=_compare(answers),
        answered=sum(map(len, by_category.values())),
        independent=_compare(_independent(answers)),
        unit="users" if is_by_user else "merchants of users",
        disagreements=_weigh_disagreements(answers),
        categories=tuple(sorted(categories, key=lambda each: (each.comparison.difference, each.category))),
    )


def read_answers(
    session: Session, category_set: int | None, *, champion: int | None, challenger: int, since: dt.datetime
) -> list[PairedAnswer]:
    """Read transactions that the champion was due to suggest for, once each, by their first suggestions, in order.

    Where an experiment's other arm, another version or, on request, the heuristics answered, the champion was not due.

    Args:
        session: Of the role lm_jobs.
        category_set: Whose models they are.
        champion: None where there is none, and the heuristics are what is to be beaten.
        challenger: The version that was asked in the shadow.
        since: Since when suggestions count.
    """
    rows = session.execute(
        text(f"""
            WITH paired AS (
                SELECT DISTINCT ON (served.txn_id)
                    served.id, served.txn_id, served.user_id, served.created_at,
                    coalesce(ml_features.merchant, '') AS merchant,
                    {shown_today("served.user_id", "truth.label")} AS truth,
                    CASE WHEN truth.txn_id IS NOT NULL OR last_answer.action IS DISTINCT FROM 'reject' THEN
                        {shown_today("served.user_id", "served.candidates -> 0 ->> 'label'")}
                    END AS champion,
                    {shown_today("served.user_id", "shadow.candidates -> 0 ->> 'label'")} AS challenger
                FROM suggestion_events AS shadow
                INNER JOIN suggestion_events AS served ON served.id = shadow.served_event_id
                INNER JOIN users ON users.id = served.user_id
                LEFT JOIN transaction_labels AS truth
                    ON truth.txn_id = served.txn_id AND truth.source IN ('human', 'import')
                        AND truth.updated_at > served.created_at
                LEFT JOIN LATERAL (
                    SELECT action FROM suggestion_feedback AS answer WHERE answer.event_id = served.id
                    ORDER BY answer.created_at DESC, answer.id DESC LIMIT 1
                ) AS last_answer ON true
                LEFT JOIN ml_features ON ml_features.txn_id = served.txn_id
                LEFT JOIN experiments ON experiments.name = served.experiment
                LEFT JOIN experiment_arms AS arms ON arms.experiment_id = experiments.id AND arms.name = served.arm
                WHERE shadow.source = 'shadow' AND shadow.model_version = :challenger AND served.created_at >= :since
                    AND CASE WHEN users.own_categories OR users.is_demo THEN users.id END
                        IS NOT DISTINCT FROM CAST(:category_set AS bigint)
                    AND (
                        served.model_version = :champion
                        OR (
                            served.source = 'rule' AND served.mode <> 'heuristic'
                            AND (
                                served.experiment IS NULL OR arms.engine = 'champion'
                                OR arms.version::text = CAST(:champion AS text)
                            )
                        )
                    )
                ORDER BY served.txn_id, served.id
            )
            SELECT
                user_id, merchant, truth, champion, challenger,
                truth IS NOT NULL AND EXISTS (
                    SELECT FROM label_events AS labelled
                    WHERE labelled.txn_id = paired.txn_id AND labelled.known_at > paired.created_at
                        AND labelled.source IN ('human', 'import')
                        AND {shown_today("paired.user_id", "labelled.label")} = paired.truth
                        AND NOT (
                            labelled.source = 'human' AND EXISTS (
                                SELECT FROM suggestion_feedback AS accepted
                                INNER JOIN suggestion_events AS shown ON shown.id = accepted.event_id
                                WHERE shown.txn_id = paired.txn_id AND accepted.action = 'accept'
                                    AND accepted.created_at = labelled.known_at
                            )
                        )
                ) AS is_independent
            FROM paired ORDER BY id
        """),  # noqa: S608 -- of literals
        {
            "champion": None if champion is None else str(champion),
            "challenger": str(challenger),
            "since": since,
            "category_set": category_set,
        },
    )
    return [PairedAnswer((row[0], row[1]), *row[2:]) for row in rows.all()]


def count_categories(session: Session, category_set: int | None) -> int:
    """Count the categories that a category set has."""
    query = text("SELECT count(*) FROM categories WHERE user_id IS NOT DISTINCT FROM CAST(:category_set AS bigint)")
    count: int = session.execute(query, {"category_set": category_set}).scalar_one()
    return count


def _independent(answers: Iterable[PairedAnswer]) -> list[PairedAnswer]:
    return [each for each in answers if each.is_independent]


def _compare(
    answers: Iterable[PairedAnswer], alpha: float = ALPHA, planned_answers: float = PLANNED_ANSWERS
) -> Comparison:
    units: defaultdict[Unit, list[int]] = defaultdict(list)
    for each in answers:
        units[each.unit].append(each.difference)
    return compare_on_same_answers(
        np.array([sum(differences) for differences in units.values()], dtype=np.int64),
        np.array([len(differences) for differences in units.values()], dtype=np.int64),
        alpha=alpha,
        planned_answers=planned_answers,
    )


def _weigh_disagreements(answers: Sequence[PairedAnswer]) -> DisagreementEvidence:
    """Weigh the first disagreement of each unit: further ones of it would be more of the same."""
    first: dict[Unit, int] = {}
    for each in answers:
        if each.difference:
            first.setdefault(each.unit, each.difference)
    wins = sum(difference > 0 for difference in first.values())
    return disagreement_evidence(wins, len(first) - wins)
