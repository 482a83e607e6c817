"""Whether the challenger becomes champion: decided by a policy, from answers that came in while it stood in the shadow.

Both were told the same of each transaction, and what it is was said afterwards: by an answer to the suggestion, or a
label. An accepted suggestion is what the champion said, so such answers lean towards the champion; a challenger that
wins in spite of that has won.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs
from app.ml.sequential import compare_on_same_answers, tell_comparison
from app.services import deployments
from app.services.model_aliases import mirror_aliases

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.config import PromotionPolicy
    from app.ml.sequential import Comparison

ACTOR: Final = "the policy"

Decision = Literal["promote", "refuse", "wait"]


@dataclass(frozen=True)
class PairedAnswer:
    """A transaction that the champion and the challenger were asked about before anybody said what it is.

    Attributes:
        unit: The user and the merchant.
        truth: What it is.
        champion: What was suggested; None for nothing. The heuristics stand in where they answered.
        challenger: What the challenger would have suggested.
    """

    unit: tuple[int, str]
    truth: str
    champion: str | None
    challenger: str | None

    @property
    def difference(self) -> int:
        """1 where the challenger alone is right, -1 where the champion alone is."""
        return (self.challenger == self.truth) - (self.champion == self.truth)


@dataclass(frozen=True)
class CategoryRecord:
    """How the two did on the transactions of one category; difference is the mean of theirs."""

    category: str
    answers: int
    difference: float


@dataclass(frozen=True)
class ChallengerReport:
    """What is known of a challenger, and what follows from it.

    Attributes:
        since: When it became challenger.
        comparison: Of the shares that are right, challenger less champion.
        categories: Those with the fewest answers that count, the worst first.
        milliseconds: What it takes for one suggestion, the 95th of a hundred; None where none was timed.
        reasons: Why, in sentences.
    """

    version: int
    champion: int | None
    since: dt.datetime
    comparison: Comparison
    categories: tuple[CategoryRecord, ...]
    milliseconds: float | None
    decision: Decision
    reasons: tuple[str, ...]


def judge_challengers() -> list[ChallengerReport]:
    """Promote or refuse every challenger that there is enough evidence about, where the policy may do so by itself."""
    with session_for_jobs() as session:
        sets = deployments.category_sets_with_models(session)
    reports = []
    for category_set in sets:
        with session_for_jobs() as session:
            deployments.take_turns(session, category_set)
            report = report_challenger(session, category_set)
            if report is None:
                continue
            if get_settings().promotion.automatic:
                carry_out(session, category_set, report)
            reports.append(report)
    if any(report.decision != "wait" for report in reports):
        mirror_aliases()
    return reports


def carry_out(session: Session, category_set: int | None, report: ChallengerReport) -> None:
    """Do what a report says: promote the challenger, or refuse it and let it be challenger no longer."""
    decision = {"actor": ACTOR, "reason": " ".join(report.reasons)[: deployments.LONGEST_TEXT]}
    if report.decision == "promote":
        deployments.promote(session, category_set, report.version, **decision)
    elif report.decision == "refuse":
        deployments.record_refusal(session, category_set, report.version, **decision)
        deployments.withdraw(session, category_set, **decision)


def report_challenger(session: Session, category_set: int | None) -> ChallengerReport | None:
    """Say how the challenger did beside what was suggested, and what the policy makes of that.

    Args:
        session: Of the role lm_jobs.
        category_set: Whose challenger.

    Returns:
        None where there is no challenger.
    """
    roles = deployments.current(session, category_set)
    if roles.challenger is None:
        return None
    challenged = next(each for each in deployments.history(session, category_set) if each.action == "challenge")
    answers = _read_answers(session, category_set, roles.challenger, challenged.created_at)
    comparison = _compare(answers)
    categories = _by_category(answers, get_settings().promotion.category_answers)
    milliseconds = _read_milliseconds(session, roles.challenger, challenged.created_at)
    decision, reasons = decide(get_settings().promotion, comparison, categories, milliseconds)
    return ChallengerReport(
        version=roles.challenger,
        champion=roles.champion,
        since=challenged.created_at,
        comparison=comparison,
        categories=categories,
        milliseconds=milliseconds,
        decision=decision,
        reasons=tuple(reasons),
    )


def decide(
    policy: PromotionPolicy,
    comparison: Comparison,
    categories: Sequence[CategoryRecord],
    milliseconds: float | None,
) -> tuple[Decision, list[str]]:
    """Apply the policy to evidence; return the decision and its reasons."""
    reasons = [tell_comparison("The challenger", "is right on", comparison)]
    if comparison.treatment_answers < policy.least_answers:
        return "wait", [*reasons, f"{policy.least_answers:,} answers are the fewest that count."]
    if comparison.upper < 0:
        return "refuse", reasons
    worse = [each for each in categories if each.difference < -policy.category_margin]
    if worse:
        listed = ", ".join(f"{each.category} ({each.difference * 100:+.1f} points)" for each in worse)
        return "refuse", [*reasons, f"It is worse than may be on {listed}."]
    if milliseconds is not None and milliseconds > policy.milliseconds:
        slow = f"It takes {milliseconds:.1f} ms for a suggestion, and {policy.milliseconds:.1f} are the most."
        return "refuse", [*reasons, slow]
    if comparison.lower <= 0:
        return "wait", reasons
    return "promote", reasons


def _compare(answers: Sequence[PairedAnswer]) -> Comparison:
    units: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for each in answers:
        units[each.unit].append(each.difference)
    return compare_on_same_answers(
        np.array([sum(differences) for differences in units.values()], dtype=np.int64),
        np.array([len(differences) for differences in units.values()], dtype=np.int64),
    )


def _by_category(answers: Sequence[PairedAnswer], least: int) -> tuple[CategoryRecord, ...]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for each in answers:
        found[each.truth].append(each.difference)
    records = [
        CategoryRecord(category, len(differences), sum(differences) / len(differences))
        for category, differences in found.items()
        if len(differences) >= least
    ]
    return tuple(sorted(records, key=lambda record: (record.difference, record.category)))


def _read_answers(session: Session, category_set: int | None, version: int, since: dt.datetime) -> list[PairedAnswer]:
    """Read what was said of transactions after both were asked; of a transaction that was asked about often, once."""
    rows = session.execute(
        text("""
            SELECT DISTINCT ON (served.txn_id)
                served.user_id, coalesce(ml_features.merchant, '') AS merchant,
                coalesce(truth_name.shown_as, transaction_labels.label) AS truth,
                coalesce(served_name.shown_as, served.candidates -> 0 ->> 'label') AS champion,
                coalesce(shadow_name.shown_as, shadow.candidates -> 0 ->> 'label') AS challenger
            FROM suggestion_events AS shadow
            INNER JOIN suggestion_events AS served ON served.id = shadow.served_event_id
            INNER JOIN users ON users.id = served.user_id
            INNER JOIN transaction_labels
                ON transaction_labels.txn_id = served.txn_id AND transaction_labels.source IN ('human', 'import')
                    AND transaction_labels.updated_at > served.created_at
            LEFT JOIN ml_features ON ml_features.txn_id = served.txn_id
            LEFT JOIN category_names AS truth_name
                ON truth_name.user_id = served.user_id AND truth_name.name = transaction_labels.label
                    AND truth_name.valid_to IS NULL
            LEFT JOIN category_names AS served_name
                ON served_name.user_id = served.user_id AND served_name.name = served.candidates -> 0 ->> 'label'
                    AND served_name.valid_to IS NULL
            LEFT JOIN category_names AS shadow_name
                ON shadow_name.user_id = served.user_id AND shadow_name.name = shadow.candidates -> 0 ->> 'label'
                    AND shadow_name.valid_to IS NULL
            WHERE shadow.source = 'shadow' AND shadow.model_version = :version AND served.created_at >= :since
                AND CASE WHEN users.own_categories OR users.is_demo THEN users.id END
                    IS NOT DISTINCT FROM CAST(:category_set AS bigint)
            ORDER BY served.txn_id, served.id
        """),
        {"version": str(version), "since": since, "category_set": category_set},
    )
    return [PairedAnswer((row.user_id, row.merchant), row.truth, row.champion, row.challenger) for row in rows]


def _read_milliseconds(session: Session, version: int, since: dt.datetime) -> float | None:
    found: float | None = session.execute(
        text("""
            SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY (inputs ->> 'milliseconds')::float8)
            FROM suggestion_events
            WHERE source = 'shadow' AND model_version = :version AND created_at >= :since AND inputs ? 'milliseconds'
        """),
        {"version": str(version), "since": since},
    ).scalar_one()
    return found
