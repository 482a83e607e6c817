"""Suggest categories without a trained model: the user's rules, what merchants usually are, and built-in knowledge.

All three are put into one probability for each category. The user's own labels move it the most, the installation's
other users less, built-in knowledge least (`app.ml.hierarchical_prior`); a rule that matches takes as much of the
whole as it has been right so far, and comes first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.db import driver_connection
from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.hierarchical_prior import LEVELS, Counted, Share, leave_out, rank_labels, shrink
from app.ml.label_memory import SOURCES
from app.ml.serving import DECIMALS, Candidate, RankedCandidates
from app.services.category_map import category_map_revision
from app.services.label_profiles import profile_of
from app.services.reasons import tell_evidence, tell_rule
from app.services.rules import RULE_SCHEMA, read_active_rules, rule_track_records, winning_rules, without_own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from sqlalchemy.orm import Session

    from app.ml.hierarchical_prior import LabelProfile, PlaceCounts, RankedLabel
    from app.ml.label_memory import GivenLabel, Tally
    from app.services.asked_transactions import AskedTransaction
    from app.services.rules import ActiveRule, TrackRecord
    from app.services.user_knowledge import UserKnowledge

# A person who writes a rule means it: until labels say otherwise it counts as right this often, with as much weight
# as this many labels.
RULE_TRUST: Final = 0.95
RULE_TRUST_LABELS: Final = 10.0

MOST_CANDIDATES: Final = 10
# The levels at which the heuristics count, as a memory calls them.
MEMORY_LEVELS: Final = {"merchant": "merchant", "description": "description", "account": "account_description"}
_WEIGHTS: Final = tuple(SAMPLE_WEIGHTS[source] for source in SOURCES)
_SHARED: Final = b"""
    SELECT shared.merchant, coalesce(category_names.shown_as, shared.label), sum(shared.users), shared.merchant_users
    FROM shared_merchant_priors AS shared
    INNER JOIN users ON users.id = %s
    LEFT JOIN category_names
        ON category_names.user_id = users.id AND category_names.name = shared.label AND category_names.valid_to IS NULL
    WHERE shared.merchant = ANY(%s)
        AND EXISTS (
            SELECT FROM categories
            WHERE categories.name IN (shared.label, category_names.shown_as)
                AND (categories.user_id = users.id OR (categories.user_id IS NULL AND NOT users.own_categories))
        )
    GROUP BY 1, 2, shared.merchant_users
"""


@dataclass(frozen=True)
class Habits:
    """How a user labels and what rules they have: what changes slowly, or by their own doing.

    Attributes:
        profile: From all of their labels, not older than a hundredth of them.
        rules: All rules in force, by id.
        records: How often each was right.
        builtin_labels: For a user of the shared categories, the category that each built-in key is.
        category_map_revision: Of the names that all this is told under.
    """

    profile: LabelProfile
    rules: Mapping[int, ActiveRule]
    records: Mapping[int, TrackRecord]
    builtin_labels: Mapping[str, str]
    category_map_revision: int


@dataclass(frozen=True)
class SharedCounts:
    """What other users of the installation call a merchant, of the categories that this user has, and how many do."""

    users: Mapping[str, int]
    merchant_users: int


NOBODY: Final = SharedCounts({}, 0)


def read_habits(session: Session, user_id: int) -> Habits:
    """Read how a user labels, and their rules."""
    rules = read_active_rules(session)
    return Habits(
        profile=profile_of(session, user_id),
        rules={rule.rule_id: rule for rule in rules},
        records=rule_track_records(session, user_id, rules) if rules else {},
        builtin_labels=_builtin_labels(driver_connection(session), user_id),
        category_map_revision=category_map_revision(session, user_id),
    )


def rank_by_heuristics(
    asked: Sequence[AskedTransaction],
    knowledge: UserKnowledge,
    habits: Habits,
    shared: Mapping[str, SharedCounts],
    *,
    most: int = 3,
) -> list[RankedCandidates]:
    """Rank categories for transactions, from what is known now.

    Args:
        asked: The transactions.
        knowledge: Of the user.
        habits: The same user's.
        shared: What other users call merchants that this user has never labelled; at the others their own vote is
            among the users counted.
        most: How many candidates each is given at the most.

    Returns:
        One entry for each transaction, in their order.
    """
    by_rule = deciding_rules(asked, habits)
    used = {
        "engine": "heuristics",
        "category_map_revision": habits.category_map_revision,
        "labels": habits.profile.label_count,
        "strengths": {level: round(strength, 6) for level, strength in habits.profile.strengths.items()},
    }
    answers = []
    for each in asked:
        rule = by_rule.get(each.txn_id)
        own = knowledge.memory.given.get(each.txn_id)
        others = shared.get(each.place.merchant.strip(), NOBODY)
        record = _record_without(knowledge, own, rule, habits.records) if rule else None
        levels = rank_labels(
            habits.profile,
            _counts_at(each, knowledge, own, habits),
            shared=others.users,
            shared_total=others.merchant_users,
            named=habits.builtin_labels.get(each.place.builtin),
        )[: most + 1]
        candidates = _candidates(each, levels, rule, record, habits.builtin_labels)[:most]
        inputs: dict[str, Any] = used | {"evidence": [_kept_evidence(level) for level in levels]}
        if rule:
            inputs["rule"] = {
                "id": rule.rule_id,
                "revision": rule.revision,
                "category": rule.category,
                "confidence": rule_confidence(record),
            }
        answers.append(RankedCandidates(each.txn_id, tuple(candidates), inputs, by_rule=rule is not None))
    return answers


def rank_again(inputs: Mapping[str, Any]) -> dict[str, float]:
    """Rank categories from what an event kept.

    Args:
        inputs: As `rank_by_heuristics` gave them.

    Returns:
        Names and confidences, best first.
    """
    rule = inputs.get("rule")
    share = rule["confidence"] if rule else 0.0
    found = {rule["category"]: share} if rule else {}
    for kept in inputs["evidence"]:
        levels = {level: Share(*kept[level]) for level in LEVELS if level in kept}
        probability = shrink(kept["base"], levels, inputs["strengths"])
        is_rule_s = rule is not None and kept["label"] == rule["category"]
        confidence = (share if is_rule_s else 0.0) + (1 - share) * probability
        found[kept["label"]] = round(min(confidence, 1.0), DECIMALS)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def deciding_rules(asked: Sequence[AskedTransaction], habits: Habits) -> dict[int, ActiveRule]:
    """Find the user's own rule that decides each transaction, of those that one decides."""
    if not habits.rules:
        return {}
    frame = pl.DataFrame(
        [
            {name: each.row[name] for name in RULE_SCHEMA if name not in ("mcc", "merchant")}
            | {"mcc": each.mcc, "merchant": each.place.merchant.strip() or None}
            for each in asked
        ],
        schema=RULE_SCHEMA,
    )
    wins = winning_rules(frame, list(habits.rules.values()))
    return {txn_id: habits.rules[rule_id] for txn_id, rule_id in wins.select("txn_id", "rule_id").iter_rows()}


def _counts_at(
    asked: AskedTransaction, knowledge: UserKnowledge, own: GivenLabel | None, habits: Habits
) -> dict[str, PlaceCounts]:
    """Count the user's labels at a transaction's places, under the names of today, its own label left out."""
    counts: dict[str, PlaceCounts] = {
        level: under_names(knowledge.memory.tallies_at(asked.place, name, without=asked.txn_id), knowledge.shown)
        for level, name in MEMORY_LEVELS.items()
    }
    named = knowledge.shown.get(own.label, own.label) if own else None
    weight = SAMPLE_WEIGHTS[own.source] if own else 0.0
    builtin = habits.profile.builtin_counts.get(asked.place.builtin, {})
    return {"builtin": leave_out(builtin, named, weight), **counts}


def under_names(tallies: Mapping[str, Tally], shown: Mapping[str, str]) -> dict[str, Counted]:
    """Count labels under the names that their words are shown under today."""
    counts: dict[str, Counted] = {}
    for word, tally in tallies.items():
        name = shown.get(word, word)
        weight = sum(count * weight for count, weight in zip(tally.by_source, _WEIGHTS, strict=True))
        before = counts.get(name, Counted(0, 0.0))
        counts[name] = Counted(before.labels + tally.labels, before.weight + weight)
    return counts


def _record_without(
    knowledge: UserKnowledge, own: GivenLabel | None, rule: ActiveRule, records: Mapping[int, TrackRecord]
) -> TrackRecord | None:
    """Give a rule's record without the transaction itself, whose label is no evidence for itself."""
    record = records.get(rule.rule_id)
    told = own is not None and own.source in ("human", "import")
    truth = knowledge.shown.get(own.label, own.label) if own and told else None
    return without_own(record, rule, truth) if record else None


def rule_confidence(record: TrackRecord | None) -> float:
    """Give the probability that a rule is right, from how often it was."""
    hits, total = (record.hits, record.total) if record else (0, 0)
    return round((hits + RULE_TRUST_LABELS * RULE_TRUST) / (total + RULE_TRUST_LABELS), DECIMALS)


def _candidates(
    asked: AskedTransaction,
    levels: Sequence[RankedLabel],
    rule: ActiveRule | None,
    record: TrackRecord | None,
    builtin_labels: Mapping[str, str],
) -> list[Candidate]:
    """Put the rule that matches before what the counts say, and divide the rest of the probability among those."""
    share = rule_confidence(record) if rule else 0.0
    found = []
    for level in levels:
        is_rule_s = rule is not None and level.label == rule.category
        confidence = (share if is_rule_s else 0.0) + (1 - share) * level.probability
        reasons = tell_evidence(asked, level, builtin_labels)
        if rule is not None and is_rule_s:
            reasons.insert(0, tell_rule(rule, record))
        found.append(Candidate(level.label, round(min(confidence, 1.0), DECIMALS), tuple(reasons)))
    if rule is not None and all(candidate.label != rule.category for candidate in found):
        found.append(Candidate(rule.category, share, (tell_rule(rule, record),)))
    return sorted(found, key=lambda candidate: (-candidate.confidence, candidate.label))


def _kept_evidence(level: RankedLabel) -> dict[str, Any]:
    """Keep what a candidate's probability was computed from."""
    kept: dict[str, Any] = {"label": level.label, "base": level.base, "probability": level.probability}
    return kept | {name: list(share) for name, share in level.levels.items()}


def strange_merchants(asked: Sequence[AskedTransaction], knowledge: UserKnowledge) -> list[str]:
    """List the merchants of transactions that the user has never labelled, of which other users are heard."""
    strange = (each.place for each in asked if not knowledge.memory.tallies_at(each.place, "merchant"))
    return sorted({place.merchant.strip() for place in strange} - {""})


async def read_shared(
    connection: psycopg.AsyncConnection[Any], user_id: int, merchants: Sequence[str]
) -> dict[str, SharedCounts]:
    """Read what other users call some merchants, of the categories that this user has, under this user's names."""
    rows = await connection.execute(_SHARED, [user_id, list(merchants)])
    return _shared_counts(await rows.fetchall())


def read_shared_now(session: Session, user_id: int, merchants: Sequence[str]) -> dict[str, SharedCounts]:
    """Read the same for a program that may wait."""
    return _shared_counts(driver_connection(session).execute(_SHARED, [user_id, list(merchants)]).fetchall())


def _shared_counts(rows: Sequence[tuple[Any, ...]]) -> dict[str, SharedCounts]:
    users: dict[str, dict[str, int]] = defaultdict(dict)
    totals = {}
    for merchant, label, count, merchant_users in rows:
        users[merchant][label] = int(count)
        totals[merchant] = int(merchant_users)
    return {merchant: SharedCounts(users[merchant], totals[merchant]) for merchant in users}


def _builtin_labels(connection: psycopg.Connection[Any], user_id: int) -> dict[str, str]:
    """Say which category each built-in key is to a user of the shared set; nothing for one with a set of their own."""
    rows = connection.execute(
        """
        SELECT categories.key, coalesce(category_names.shown_as, categories.name)
        FROM categories
        INNER JOIN users ON users.id = %(user_id)s AND NOT users.own_categories
        LEFT JOIN category_names
            ON category_names.user_id = users.id AND category_names.name = categories.name
                AND category_names.valid_to IS NULL
        WHERE categories.key IS NOT NULL
        """,
        {"user_id": user_id},
    )
    return dict(rows.fetchall())
