"""Whether the challenger becomes champion: decided by a policy, from answers while it stood in the shadow."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs
from app.errors import ArtefactRefused
from app.ml.sequential import UnitOutcomes, share_sequence, tell_comparison
from app.services import deployments
from app.services.challenger_evidence import count_categories, read_answers, weigh_answers
from app.services.model_aliases import mirror_aliases

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

    from app.config import PromotionPolicy
    from app.services.challenger_evidence import CategoryRecord, PairedEvidence

logger = logging.getLogger(__name__)

ACTOR: Final = "the policy"

Decision = Literal["promote", "refuse", "wait"]

# The share of suggestions that may take longer than the policy allows.
_SLOW_SHARE: Final = 0.05


@dataclass(frozen=True)
class Timings:
    """What one suggestion took the challenger, in processor time, each time that was measured.

    Attributes:
        count: How often it was.
        slow: How often it was more than the policy allows.
        milliseconds: The 95th of a hundred; None where none was timed.
    """

    count: int
    slow: int
    milliseconds: float | None


@dataclass(frozen=True)
class ChallengerReport:
    """What is known of a challenger, and what follows from it.

    Attributes:
        since: Since when answers count: since both became what they are.
        evidence: What the answers say of the two.
        timings: Since it became challenger.
        reasons: Why, in sentences.
    """

    version: int
    champion: int | None
    since: dt.datetime
    evidence: PairedEvidence
    timings: Timings
    decision: Decision
    reasons: tuple[str, ...]


def judge_challengers() -> list[ChallengerReport]:
    """Promote or refuse every challenger that there is enough evidence about, where the policy may do so by itself."""
    with session_for_jobs() as session:
        sets = deployments.category_sets_with_models(session)
    reports = []
    for category_set in sets:
        try:
            report = judge_challenger(category_set, apply=get_settings().promotion.automatic)
        except Exception:
            # Whatever is wrong with one category set must not hold up the others.
            logger.exception("The challenger of category set %s cannot be judged.", category_set or "shared")
            continue
        if report is not None:
            reports.append(report)
    if any(report.decision != "wait" for report in reports):
        mirror_aliases()
    return reports


def judge_challenger(category_set: int | None, *, apply: bool) -> ChallengerReport | None:
    """Report about a category set's challenger and, if that is wanted, do what the policy says.

    Returns:
        None where there is no challenger.
    """
    with session_for_jobs() as session:
        report = report_challenger(session, category_set)
    if not apply or report is None or report.decision == "wait":
        return report
    # Only what is to be decided is read where others have to wait: somebody may be going back in a hurry.
    with session_for_jobs() as session:
        deployments.take_turns(session, category_set)
        report = report_challenger(session, category_set)
        return None if report is None else carry_out(session, category_set, report)


def carry_out(session: Session, category_set: int | None, report: ChallengerReport) -> ChallengerReport:
    """Do what a report says: promote the challenger, or refuse it and let it be challenger no longer.

    Args:
        session: That took turns before it read the report.
        category_set: Whose challenger.
        report: What to do, and why.

    Returns:
        The report; a refusal where the challenger was to become champion and its file is not what was registered.
    """
    if report.decision == "promote":
        try:
            deployments.promote(session, category_set, report.version, actor=ACTOR, reason=_reason(report))
        except ArtefactRefused as error:
            # Nothing is written before the file is read.
            report = replace(report, decision="refuse", reasons=(str(error), *report.reasons))
    if report.decision == "refuse":
        decision = {"actor": ACTOR, "reason": _reason(report)}
        deployments.record_refusal(session, category_set, report.version, **decision)
        deployments.withdraw(session, category_set, report.version, **decision)
    return report


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
    policy = get_settings().promotion
    decided = deployments.history(session, category_set)
    challenged = next(each for each in decided if each.action == "challenge").created_at
    # Answers to a former champion's suggestions say nothing of this one.
    crowned = (each.created_at for each in decided if each.action in deployments.CHAMPION_CHANGES)
    since = max(challenged, next(crowned, challenged))
    answers = read_answers(session, category_set, champion=roles.champion, challenger=roles.challenger, since=since)
    evidence = weigh_answers(
        answers,
        known_categories=count_categories(session, category_set),
        category_answers=policy.category_answers,
    )
    timings = _read_timings(session, roles.challenger, challenged, policy.milliseconds)
    decision, reasons = decide(policy, evidence, timings)
    return ChallengerReport(roles.challenger, roles.champion, since, evidence, timings, decision, tuple(reasons))


def decide(policy: PromotionPolicy, evidence: PairedEvidence, timings: Timings) -> tuple[Decision, list[str]]:
    """Apply the policy to evidence; return the decision and its reasons.

    Refused is what an interval proves, from what is independent of the champion. What only looks bad makes it wait.
    """
    compared = evidence.comparison
    if not compared.treatment_answers:
        return "wait", [f"It was asked about nothing yet; {policy.least_answers:,} answers are the fewest that count."]
    reasons = [_tell_silence(evidence), f"{tell_comparison('The challenger', 'is right on', compared)}."]
    if evidence.answered < policy.least_answers:
        return "wait", [*reasons, f"{policy.least_answers:,} answers are the fewest that count."]
    against = _against(policy, evidence, timings)
    if against:
        return "refuse", [*reasons, *against]
    in_doubt = _in_doubt(policy, evidence, timings)
    if in_doubt or compared.lower <= 0:
        return "wait", [*reasons, *in_doubt]
    return "promote", reasons


def _against(policy: PromotionPolicy, evidence: PairedEvidence, timings: Timings) -> list[str]:
    """Say what is proven against a challenger."""
    reasons = []
    if evidence.independent.upper < 0:
        told = tell_comparison("it", "is right on", evidence.independent)
        reasons.append(f"Where more than an accept says what is right, {told}.")
    worse = [each for each in evidence.categories if each.independent.upper < -policy.category_margin]
    if worse:
        reasons.append(f"It is worse than may be on {_listed(worse, independent=True)}.")
    timed = np.arange(timings.count)
    slow = share_sequence(UnitOutcomes(np.ones_like(timed), (timed < timings.slow).astype(np.int64)))
    if timings.count >= policy.least_timings and slow.lower > _SLOW_SHARE:
        reasons.append(_tell_time(policy, timings))
    return reasons


def _in_doubt(policy: PromotionPolicy, evidence: PairedEvidence, timings: Timings) -> list[str]:
    """Say what is not proven against a challenger and yet keeps it from becoming champion."""
    reasons = []
    worse = [each for each in evidence.categories if (each.comparison.difference or 0) < -policy.category_margin]
    if worse:
        reasons.append(f"So far it is worse than may be on {_listed(worse, independent=False)}.")
    if timings.milliseconds is None or timings.count < policy.least_timings:
        reasons.append(f"It was timed {timings.count:,} times; {policy.least_timings:,} are the fewest that count.")
    elif timings.milliseconds > policy.milliseconds:
        reasons.append(_tell_time(policy, timings))
    return reasons


def _tell_silence(evidence: PairedEvidence) -> str:
    return (
        f"Of {evidence.comparison.treatment_answers:,} suggestions {evidence.answered:,} were answered or labelled; "
        "where the two differ and nobody said anything, the champion counts as right."
    )


def _listed(categories: list[CategoryRecord], *, independent: bool) -> str:
    found = [(each.category, each.independent if independent else each.comparison) for each in categories]
    return ", ".join(f"{category} ({(compared.difference or 0) * 100:+.1f} points)" for category, compared in found)


def _tell_time(policy: PromotionPolicy, timings: Timings) -> str:
    return f"It takes {timings.milliseconds:.1f} ms for a suggestion, and {policy.milliseconds:.1f} are the most."


def _reason(report: ChallengerReport) -> str:
    return " ".join(report.reasons)[: deployments.LONGEST_TEXT]


def _read_timings(session: Session, version: int, since: dt.datetime, most: float) -> Timings:
    row = session.execute(
        text("""
            SELECT
                count(*), count(*) FILTER (WHERE timed.milliseconds > :most),
                percentile_cont(0.95) WITHIN GROUP (ORDER BY timed.milliseconds)
            FROM suggestion_events
            CROSS JOIN LATERAL (SELECT (inputs ->> 'milliseconds')::float8 AS milliseconds) AS timed
            WHERE source = 'shadow' AND model_version = :version AND created_at >= :since AND inputs ? 'milliseconds'
        """),
        {"version": str(version), "since": since, "most": most},
    ).one()
    return Timings(count=row[0], slow=row[1], milliseconds=row[2])
