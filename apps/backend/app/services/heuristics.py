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
from app.services.label_profiles import BUILTIN_SCHEMA, profile_of
from app.services.rules import read_active_rules, rule_track_records, winning_rules, without_own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from sqlalchemy.orm import Session

    from app.services.rules import ActiveRule, TrackRecord

# A person who writes a rule means it: until labels say otherwise it counts as right this often, with as much weight
# as this many labels.
RULE_TRUST: Final = 0.95
RULE_TRUST_LABELS: Final = 10.0

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
    counts = _read_counts(connection, transactions)
    builtin_labels = _builtin_labels(connection, user_id)
    ranked = rank_candidates(
        transactions,
        profile,
        counts,
        shared=_read_shared(connection, user_id, transactions, counts["merchant"]),
        builtin_labels=builtin_labels,
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
        row = rows[txn_id]
        record = _record_without(row, rule, records) if rule else None
        candidates = _candidates(row, levels, rule, record, builtin_labels)[:most]
        inputs = used | {"evidence": [_kept_evidence(level) for level in levels[:most]]}
        if rule:
            inputs["rule"] = {"id": rule.rule_id, "revision": rule.revision, "confidence": rule_confidence(record)}
        answers.append(RankedCandidates(txn_id, tuple(candidates), inputs))
    return answers


def _record_without(
    transaction: dict[str, Any], rule: ActiveRule, records: Mapping[int, TrackRecord]
) -> TrackRecord | None:
    """Give a rule's record without the transaction itself, whose label is no evidence for itself."""
    record = records.get(rule.rule_id)
    truth = transaction["own_label"] if transaction["own_source"] in ("human", "import") else None
    return without_own(record, rule, truth) if record else None


def rule_confidence(record: TrackRecord | None) -> float:
    """Give the probability that a rule is right, from how often it was."""
    hits, total = (record.hits, record.total) if record else (0, 0)
    return round((hits + RULE_TRUST_LABELS * RULE_TRUST) / (total + RULE_TRUST_LABELS), _DECIMALS)


def _candidates(
    transaction: dict[str, Any],
    levels: list[dict[str, Any]],
    rule: ActiveRule | None,
    record: TrackRecord | None,
    builtin_labels: Mapping[str, str],
) -> list[Candidate]:
    """Put the rule that matches before what the counts say, and divide the rest of the probability among those."""
    share = rule_confidence(record) if rule else 0.0
    found = []
    for level in levels:
        is_rule_s = rule is not None and level["label"] == rule.category
        confidence = (share if is_rule_s else 0.0) + (1 - share) * level["probability"]
        reasons = _reasons(transaction, level, builtin_labels)
        if rule is not None and is_rule_s:
            reasons.insert(0, _rule_reason(rule, record))
        found.append(Candidate(level["label"], round(min(confidence, 1.0), _DECIMALS), tuple(reasons)))
    if rule is not None and all(candidate.label != rule.category for candidate in found):
        found.append(Candidate(rule.category, share, (_rule_reason(rule, record),)))
    return sorted(found, key=lambda candidate: (-candidate.confidence, candidate.label))


def _rule_reason(rule: ActiveRule, record: TrackRecord | None) -> str:
    if record and record.total:
        return f'Your rule "{rule.name}" says so; it was right {_times(record.hits, record.total)}.'
    return f'Your rule "{rule.name}" says so.'


def _reasons(transaction: dict[str, Any], level: dict[str, Any], builtin_labels: Mapping[str, str]) -> list[str]:
    """Say what speaks for a candidate, the particular before the general."""
    label, merchant, builtin = level["label"], transaction["merchant"], transaction["builtin"]
    reasons = []
    if level["account_hits"] and level["account_total"] != level["description_total"]:
        reasons.append(f"This same payment on this account was labelled {label} {_of(level, 'account')}.")
    if level["description_hits"]:
        reasons.append(f"This same payment was labelled {label} {_of(level, 'description')}.")
    if level["merchant_hits"] and level["merchant_total"] != level["description_total"]:
        reasons.append(f'"{merchant}" was labelled {label} {_of(level, "merchant")}.')
    if level["shared_hits"]:
        hits, total = int(level["shared_hits"]), int(level["shared_total"])
        reasons.append(f'{hits:,} of {total:,} other people here call "{merchant}" {label}.')
    is_named = builtin_labels.get(builtin) == label
    if builtin and not reasons and (is_named or level["builtin_hits"]):
        if transaction["mcc"] in MCC_KEYS:
            kind = iso18245.get_mcc(transaction["mcc"])
            reasons.append(f"The card scheme lists the merchant as {kind.iso_description or kind.range.description}.")
        elif is_named:
            reasons.append(f"Payments of this kind usually are {label}.")
        if level["builtin_hits"]:
            reasons.append(f"Payments of this kind were labelled {label} {_of(level, 'builtin')}.")
    return reasons


def _of(level: dict[str, Any], name: str) -> str:
    return _times(int(level[f"{name}_hits"]), int(level[f"{name}_total"]))


def _times(hits: int, total: int) -> str:
    if total == 1:
        return "once before" if hits else "not the one time before"
    return f"{hits:,} of {total:,} times"


def _kept_evidence(level: dict[str, Any]) -> dict[str, Any]:
    """Keep what a candidate's probability was computed from."""
    kept: dict[str, Any] = {"label": level["label"], "base": level["base"], "probability": level["probability"]}
    for name in ("builtin", "shared", *MERCHANT_LEVELS):
        if level[f"{name}_total"]:
            kept[name] = [level[f"{name}_{figure}"] for figure in _KEPT_FIGURES]
    return kept


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


def _read_shared(
    connection: psycopg.Connection[Any], user_id: int, transactions: pl.DataFrame, own_counts: pl.DataFrame
) -> pl.DataFrame:
    """Read what other users call these merchants, of the categories that this user has, under this user's names.

    Only of merchants that the user has never labelled: at the others their own vote is among the users counted.
    """
    merchants = transactions["merchant"].drop_nulls().unique()
    return read_frame(
        connection,
        """
        SELECT
            shared.merchant, coalesce(category_names.shown_as, shared.label), sum(shared.users), shared.merchant_users
        FROM shared_merchant_priors AS shared
        INNER JOIN users ON users.id = %s
        LEFT JOIN category_names
            ON category_names.user_id = users.id AND category_names.name = shared.label
                AND category_names.valid_to IS NULL
        WHERE shared.merchant = ANY(%s)
            AND EXISTS (
                SELECT FROM categories
                WHERE categories.name IN (shared.label, category_names.shown_as)
                    AND (categories.user_id = users.id OR (categories.user_id IS NULL AND NOT users.own_categories))
            )
        GROUP BY 1, 2, shared.merchant_users
        """,
        dict(SHARED_SCHEMA),
        [user_id, merchants.filter(~merchants.is_in(own_counts["merchant"].implode())).to_list()],
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
