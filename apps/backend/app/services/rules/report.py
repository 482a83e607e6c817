"""How a user's rules do, together: how often each is right, which contradict each other, which could go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.services.rules.ledger import read_ledger, read_truths
from app.services.rules.matching import in_winning_order, match_matrices
from app.services.rules.store import list_rules
from app.services.rules.track_records import NO_RECORD, measure_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import polars as pl
    from sqlalchemy.orm import Session

    from app.services.rules.matching import ActiveRule
    from app.services.rules.store import RuleRevision
    from app.services.rules.track_records import TrackRecord

SHOWN_CONFLICTS: Final = 100


@dataclass(frozen=True)
class RuleReport:
    """What a rule in force does.

    Attributes:
        matches: Transactions that it matches.
        wins: Transactions that it decides, there being no rule above it that matches.
        redundant_beside: A rule that makes this one unnecessary: its category is the same, it matches all that this
            one matches, and without this one every transaction would be decided the same way. None if there is none.
    """

    rule: RuleRevision
    matches: int
    wins: int
    record: TrackRecord
    redundant_beside: int | None


@dataclass(frozen=True)
class RuleConflict:
    """Two rules in force that match the same transactions and would give them different categories.

    Attributes:
        winner_id: The one of them that stands above the other.
        transactions: How many both match.
    """

    winner_id: int
    loser_id: int
    transactions: int


@dataclass(frozen=True)
class RulesReport:
    """All rules in force, by id, and what they disagree about, the largest disagreements first.

    Attributes:
        conflicts: At most `SHOWN_CONFLICTS`.
        conflict_count: How many there are.
    """

    rules: tuple[RuleReport, ...]
    conflicts: tuple[RuleConflict, ...]
    conflict_count: int


@dataclass(frozen=True)
class Overlap:
    """What rules match together; all in winning order.

    Attributes:
        shared: How many transactions rules i and j both match, at [i, j]; on the diagonal those that i matches.
        wins: How many transactions each rule decides.
        needed: How many of those would be decided otherwise, or not at all, without the rule.
    """

    shared: npt.NDArray[np.int64]
    wins: npt.NDArray[np.int64]
    needed: npt.NDArray[np.int64]


def report_rules(session: Session, user_id: int) -> RulesReport:
    """Measure the rules in force on the user's whole ledger."""
    revisions = list_rules(session)
    rules = in_winning_order([revision.active() for revision in revisions])
    if not rules:
        return RulesReport((), (), 0)
    ledger = read_ledger(session, user_id)
    records = measure_rules(ledger.join(read_truths(session, user_id), on="txn_id"), rules)
    overlap = measure_overlap(ledger, rules)
    position = {rule.rule_id: place for place, rule in enumerate(rules)}
    unneeded = redundant_rules(rules, overlap)
    reports = [
        RuleReport(
            revision,
            matches=int(overlap.shared[position[revision.rule_id], position[revision.rule_id]]),
            wins=int(overlap.wins[position[revision.rule_id]]),
            record=records.get(revision.rule_id, NO_RECORD),
            redundant_beside=unneeded.get(revision.rule_id),
        )
        for revision in revisions
    ]
    conflicts = rule_conflicts(rules, overlap)
    return RulesReport(tuple(reports), tuple(conflicts[:SHOWN_CONFLICTS]), len(conflicts))


def measure_overlap(transactions: pl.DataFrame, rules: Sequence[ActiveRule]) -> Overlap:
    """Count what rules match together.

    Args:
        transactions: As `match_rules` takes them.
        rules: At least one, in winning order.
    """
    size = len(rules)
    categories = np.unique([rule.category for rule in rules], return_inverse=True)[1]
    overlap = Overlap(np.zeros((size, size), np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64))
    for _, matches in match_matrices(transactions, rules):
        # Counts of a slice are far below 2**24, up to which this is exact, and this way the product is fast.
        numbers = matches.astype(np.float32)
        overlap.shared[...] += (numbers.T @ numbers).astype(np.int64)
        decided = matches[matches.any(axis=1)]
        rows, first = np.arange(len(decided)), decided.argmax(axis=1)
        decided[rows, first] = False
        second = decided.argmax(axis=1)
        has_same = decided[rows, second] & (categories[first] == categories[second])
        overlap.wins[...] += np.bincount(first, minlength=size)
        overlap.needed[...] += np.bincount(first[~has_same], minlength=size)
    return overlap


def rule_conflicts(rules: Sequence[ActiveRule], overlap: Overlap) -> list[RuleConflict]:
    """Find pairs of rules with different categories that match the same transactions, most transactions first.

    Args:
        rules: In winning order.
        overlap: What `measure_overlap` counted for them.
    """
    above, below = np.nonzero(np.triu(overlap.shared, k=1))
    conflicts = [
        RuleConflict(rules[winner].rule_id, rules[loser].rule_id, int(overlap.shared[winner, loser]))
        for winner, loser in zip(above.tolist(), below.tolist(), strict=True)
        if rules[winner].category != rules[loser].category
    ]
    return sorted(conflicts, key=lambda conflict: (-conflict.transactions, conflict.winner_id, conflict.loser_id))


def redundant_rules(rules: Sequence[ActiveRule], overlap: Overlap) -> dict[int, int]:
    """Find rules that could go without changing any decision, each with a rule that makes it unnecessary.

    Of two that match the same transactions and make each other unnecessary it is the later one. A rule that matches
    nothing yet is not called unnecessary. The answer holds for each rule alone: when one was removed, ask again.

    Args:
        rules: In winning order.
        overlap: What `measure_overlap` counted for them.
    """
    matched = overlap.shared.diagonal()
    found = {}
    for place in np.flatnonzero((overlap.needed == 0) & (matched > 0)).tolist():
        rule = rules[place]
        for other in np.flatnonzero(overlap.shared[place] == matched[place]).tolist():
            covers_more = matched[other] > matched[place] or overlap.needed[other] > 0
            is_older = rules[other].rule_id < rule.rule_id
            if other != place and rules[other].category == rule.category and (covers_more or is_older):
                found[rule.rule_id] = rules[other].rule_id
                break
    return found
