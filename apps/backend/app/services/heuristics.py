"""Suggest categories without a trained model: the user's rules, what merchants usually are, and built-in knowledge.

All three are put into one probability for each category. The user's own labels move it the most, the installation's
other users less, built-in knowledge least (`app.ml.hierarchical_prior`); a rule that matches takes as much of the
whole as it has been right so far, and comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import iso18245
import polars as pl

from app.db import driver_connection, read_frame
from app.ml.builtin_knowledge import builtin_categories
from app.ml.builtin_mccs import MCC_KEYS
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.ml.hierarchical_prior import LABEL_SCHEMA, MERCHANT_LEVELS, SHARED_SCHEMA, count_labels, rank_candidates
from app.services.category_map import category_map_revision
from app.services.default_categories import DEFAULT_CATEGORIES
from app.services.label_profiles import BUILTIN_SCHEMA, profile_of
from app.services.rules import read_active_rules, rule_track_records, winning_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from sqlalchemy.orm import Session

    from app.ml.hierarchical_prior import LabelProfile
    from app.services.rules import ActiveRule, TrackRecord

# Below this the heuristics rather say nothing, unless the user asks for another confidence.
OWN_THRESHOLD: Final = 0.80
# A person who writes a rule means it: until labels say otherwise it counts as right this often, with as much weight
# as this many labels.
RULE_TRUST: Final = 0.95
RULE_TRUST_LABELS: Final = 3.0

MOST_CANDIDATES: Final = 10
_DECIMALS: Final = 4
_KEPT_FIGURES: Final = ("hits", "total", "share")


@dataclass(frozen=True)
class Candidate:
    """A category that may be right.

    Attributes:
        confidence: Probability that it is, between 0 and 1.
        reasons: Why, in sentences for the person.
    """

    label: str
    confidence: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class RankedCandidates:
    """All that the heuristics have to say about a transaction, best candidate first.

    Attributes:
        inputs: What was used, enough to compute the same again.
    """

    txn_id: int
    candidates: tuple[Candidate, ...]
    inputs: dict[str, Any]


def rank_by_heuristics(
    session: Session, user_id: int, txn_ids: Sequence[int], *, most: int = 3
) -> list[RankedCandidates]:
    """Rank categories for transactions, from what is known now.

    Args:
        session: A session of the user.
        user_id: Whose transactions.
        txn_ids: Which ones; those that the user does not have, or has deleted, are passed over.
        most: How many candidates each is given at the most.

    Returns:
        One entry for each transaction, in the order of `txn_ids`, the first mention counting.
    """
    connection = driver_connection(session)
    transactions = _read_transactions(connection, user_id, txn_ids)
    if not transactions.height:
        return []
    profile = profile_of(session, user_id)
    ranked = rank_candidates(
        transactions,
        profile,
        _read_counts(connection, transactions),
        shared=_read_shared(connection, user_id, transactions),
        builtin_labels=_builtin_labels(connection, user_id),
    )
    rules = read_active_rules(session)
    records = rule_track_records(session, user_id, rules) if rules else {}
    wins = winning_rules(transactions, rules).select("txn_id", "rule_id") if rules else None
    by_rule = dict(wins.iter_rows()) if wins is not None else {}
    used = {
        "engine": "heuristics",
        "category_map_revision": category_map_revision(session, user_id),
        "labels": profile.label_count,
        "strengths": {level: round(strength, 6) for level, strength in profile.strengths.items()},
    }
    evidence = ranked.group_by("txn_id", maintain_order=True).head(most + 1).partition_by("txn_id", as_dict=True)
    rows = {row["txn_id"]: row for row in transactions.iter_rows(named=True)}
    rules_by_id = {rule.rule_id: rule for rule in rules}
    answers = []
    for txn_id in dict.fromkeys(txn_id for txn_id in txn_ids if txn_id in rows):
        levels = evidence[(txn_id,)].to_dicts() if (txn_id,) in evidence else []
        rule = rules_by_id.get(by_rule.get(txn_id, -1))
        record = records.get(rule.rule_id) if rule else None
        candidates = _candidates(rows[txn_id], levels, rule, record, profile)[:most]
        inputs = used | {"evidence": [_kept_evidence(level) for level in levels[:most]]}
        if rule:
            inputs["rule"] = {"id": rule.rule_id, "revision": rule.revision, "confidence": rule_confidence(record)}
        answers.append(RankedCandidates(txn_id, tuple(candidates), inputs))
    return answers


def rule_confidence(record: TrackRecord | None) -> float:
    """Give the probability that a rule is right, from how often it was."""
    hits, total = (record.hits, record.total) if record else (0, 0)
    return round((hits + RULE_TRUST_LABELS * RULE_TRUST) / (total + RULE_TRUST_LABELS), _DECIMALS)


def _candidates(
    transaction: dict[str, Any],
    levels: list[dict[str, Any]],
    rule: ActiveRule | None,
    record: TrackRecord | None,
    profile: LabelProfile,
) -> list[Candidate]:
    """Put the rule that matches before what the counts say, and divide the rest of the probability among those."""
    share = rule_confidence(record) if rule else 0.0
    found = []
    for level in levels:
        is_rule_s = rule is not None and level["label"] == rule.category
        confidence = (share if is_rule_s else 0.0) + (1 - share) * level["probability"]
        reasons = _reasons(transaction, level, profile)
        if rule is not None and is_rule_s:
            reasons.insert(0, _rule_reason(rule, record))
        found.append(Candidate(level["label"], round(min(confidence, 1.0), _DECIMALS), tuple(reasons)))
    if rule is not None and all(candidate.label != rule.category for candidate in found):
        found.append(Candidate(rule.category, share, (_rule_reason(rule, record),)))
    return sorted(found, key=lambda candidate: (-candidate.confidence, candidate.label))


def _rule_reason(rule: ActiveRule, record: TrackRecord | None) -> str:
    if record and record.total:
        return f'Your rule "{rule.name}" says so; it was right {record.hits:,} of {record.total:,} times.'
    return f'Your rule "{rule.name}" says so.'


def _reasons(transaction: dict[str, Any], level: dict[str, Any], profile: LabelProfile) -> list[str]:
    """Say what speaks for a candidate, the particular before the general."""
    label, merchant = level["label"], transaction["merchant"]
    reasons = []
    if level["account_hits"] and level["account_total"] != level["description_total"]:
        reasons.append(f"This same payment on this account was labelled {label} {_of(level, 'account')}.")
    if level["description_hits"]:
        reasons.append(f"This same payment was labelled {label} {_of(level, 'description')}.")
    if level["merchant_hits"] and level["merchant_total"] != level["description_total"]:
        reasons.append(f'"{merchant}" was labelled {label} {_of(level, "merchant")}.')
    if level["shared_hits"] and not level["merchant_total"]:
        reasons.append(
            f'{level["shared_hits"]:,.0f} of {level["shared_total"]:,.0f} people here call "{merchant}" {label}.'
        )
    if transaction["builtin"] and not level["merchant_total"]:
        explanation = _builtin_reason(transaction)
        if level["builtin_hits"]:
            reasons.append(f"{explanation} Such payments were labelled {label} {_of(level, 'builtin')}.")
        elif not profile.label_count or label == _NAMES_BY_KEY.get(transaction["builtin"]):
            reasons.append(explanation)
    return reasons


def _builtin_reason(transaction: dict[str, Any]) -> str:
    if transaction["mcc"] in MCC_KEYS:
        kind = iso18245.get_mcc(transaction["mcc"])
        return f"The card scheme lists the merchant as {kind.iso_description or kind.range.description}."
    return f"Payments worded like this usually are {_NAMES_BY_KEY[transaction['builtin']]}."


def _of(level: dict[str, Any], name: str) -> str:
    hits, total = int(level[f"{name}_hits"]), int(level[f"{name}_total"])
    if total == 1:
        return "once before"
    return f"{hits:,} of {total:,} times"


def _kept_evidence(level: dict[str, Any]) -> dict[str, Any]:
    """Keep what a candidate's probability was computed from."""
    kept: dict[str, Any] = {"label": level["label"], "base": level["base"], "probability": level["probability"]}
    for name in ("builtin", "shared", *MERCHANT_LEVELS):
        if level[f"{name}_total"]:
            kept[name] = [level[f"{name}_{figure}"] for figure in _KEPT_FIGURES]
    return kept


_NAMES_BY_KEY: Final = {category.key: category.name for category in DEFAULT_CATEGORIES}


def _read_transactions(connection: psycopg.Connection[Any], user_id: int, txn_ids: Sequence[int]) -> pl.DataFrame:
    """Read what rules and priors look at, with features from the kernel where none are stored."""
    added = dict.fromkeys(("account", "merchant_canonical", "own_label", "own_source"), pl.String())
    read = read_frame(
        connection,
        """
        SELECT
            transactions.id, transactions.date, transactions.posted_at, transactions.amount, transactions.description,
            transactions.mcc, transactions.channel_hint, transactions.account, transactions.merchant_canonical,
            coalesce(category_names.shown_as, transaction_labels.label), transaction_labels.source
        FROM transactions
        LEFT JOIN transaction_labels ON transaction_labels.txn_id = transactions.id
        LEFT JOIN category_names
            ON category_names.user_id = transactions.user_id AND category_names.name = transaction_labels.label
                AND category_names.valid_to IS NULL
        WHERE transactions.id = ANY(%s) AND transactions.user_id = %s AND transactions.deleted_at IS NULL
        """,
        pl.Schema({**TRANSACTION_SCHEMA, **added}),
        [list(txn_ids), user_id],
    )
    features = build_features(read.select(list(TRANSACTION_SCHEMA)))
    described = read.with_columns(
        features["merchant"].str.strip_chars().replace("", None), features["norm_desc"], features["mcc"]
    )
    return described.with_columns(builtin_categories(features.select(list(BUILTIN_SCHEMA))).alias("builtin"))


def _read_counts(connection: psycopg.Connection[Any], transactions: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """Count the session's user's labels at the merchants of these transactions, as they are now."""
    labels = read_frame(
        connection,
        "SELECT merchant, norm_desc, account, NULL, label, label_source, labels FROM own_label_counts_at(%s)",
        dict(LABEL_SCHEMA),
        [transactions["merchant"].drop_nulls().unique().to_list()],
    )
    return {level: count_labels(labels, level) for level in MERCHANT_LEVELS}


def _read_shared(connection: psycopg.Connection[Any], user_id: int, transactions: pl.DataFrame) -> pl.DataFrame:
    """Read what users of the installation call these merchants, of the categories that this user has."""
    return read_frame(
        connection,
        """
        SELECT shared.merchant, shared.label, shared.users, shared.merchant_users
        FROM shared_merchant_priors AS shared
        WHERE shared.merchant = ANY(%s)
            AND EXISTS (
                SELECT FROM categories
                INNER JOIN users ON users.id = %s
                WHERE categories.name = shared.label
                    AND (categories.user_id = users.id OR (categories.user_id IS NULL AND NOT users.own_categories))
            )
        """,
        dict(SHARED_SCHEMA),
        [transactions["merchant"].drop_nulls().unique().to_list(), user_id],
    )


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
