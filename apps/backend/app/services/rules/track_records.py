"""How often each rule has been right.

A suggestion tells how often the rule behind it was right, and counting that is a pass over the whole ledger; so it is
counted again once a rule, a merchant's or a category's name changes, once a file was imported, or the labels have
grown by a hundredth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import polars as pl

from app.db import driver_connection
from app.ml.priors import wilson_interval
from app.services.learnt_cache import LearntCache
from app.services.rules.ledger import read_ledger, read_truths
from app.services.rules.matching import winning_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.services.rules.matching import ActiveRule


@dataclass(frozen=True)
class TrackRecord:
    """How often a rule was right, over the transactions it decides whose category a person or a file has told.

    Attributes:
        hits: How many of them the rule gives that very category.
        total: How many there are.
        share: hits / total; None where there are none.
        lower: Lower end of Wilson's interval for the share, None where there are none.
        upper: Its upper end.
    """

    hits: int
    total: int
    share: float | None
    lower: float | None
    upper: float | None


NO_RECORD: Final = TrackRecord(0, 0, None, None, None)


_records: Final[LearntCache[dict[int, TrackRecord]]] = LearntCache()


def rule_track_records(session: Session, user_id: int, rules: Sequence[ActiveRule]) -> dict[int, TrackRecord]:
    """Return how often rules were right, not older than a hundredth of the user's labels, on the ledger as it is.

    Args:
        session: A session of the user.
        user_id: Whose rules.
        rules: All rules in force; which of them decides a transaction depends on the others.

    Returns:
        A record for each rule, by its id.
    """

    def count() -> tuple[dict[int, TrackRecord], int]:
        truths = read_truths(session, user_id)
        return measure_rules(read_ledger(session, user_id).join(truths, on="txn_id"), rules), truths.height

    state = (tuple(sorted((rule.rule_id, rule.revision) for rule in rules)), _ledger_state(session, user_id))
    return _records.value_for(session, user_id, count, state=state)


def without_own(record: TrackRecord, rule: ActiveRule, truth: str | None) -> TrackRecord:
    """Take a transaction's own label out of the record of the rule that decides it.

    Otherwise a label would be evidence for itself: whoever labels a transaction and asks again would hear that the
    rule was right once more.

    Args:
        record: The rule's record.
        rule: The rule that decides the transaction.
        truth: What a person or an imported file says that the transaction is, under the name that its category is
            shown under; None where nobody says, or a rule does.

    Returns:
        The record of the other transactions; the same one where the label cannot have been counted, being newer than
        the record.
    """
    if truth is None:
        return record
    hit = int(truth == rule.category)
    hits, total = record.hits - hit, record.total - 1
    return _record(hits, total) if 0 <= hits <= total else record


@lru_cache(maxsize=4096)
def _record(hits: int, total: int) -> TrackRecord:
    if total == 0:
        return NO_RECORD
    lower, upper = wilson_interval(pl.lit(hits, pl.Int64), pl.lit(total, pl.Int64))
    ends = pl.select(lower=lower, upper=upper)
    return TrackRecord(hits, total, hits / total, *ends.row(0))


def _ledger_state(session: Session, user_id: int) -> tuple[object, ...]:
    """Return what changes with the transactions there are, and with what their merchants are called.

    Transactions come, go and come back with imports, of which a user makes one at a time; merchants get their names
    from aliases, of which there are few. What the bank said never changes.
    """
    query = """
        SELECT
            (SELECT max(id) FROM imports WHERE user_id = %(user_id)s),
            (
                SELECT sum(hashtextextended(merchant, hashtextextended(canonical, 0)))
                FROM merchant_aliases WHERE user_id = %(user_id)s
            )
    """
    (state,) = driver_connection(session).execute(query, {"user_id": user_id}).fetchall()
    return state


def measure_rules(known: pl.DataFrame, rules: Sequence[ActiveRule]) -> dict[int, TrackRecord]:
    """Compare what rules decide with what is known.

    Args:
        known: As `match_rules` takes transactions, with a column `truth`.
        rules: All rules in force.

    Returns:
        A record for each rule, by its id.
    """
    lower, upper = wilson_interval(pl.col("hits"), pl.col("total"))
    is_right = pl.col("category") == pl.col("truth")
    measured = (
        winning_rules(known, rules)
        .join(known.select("txn_id", "truth"), on="txn_id")
        .group_by("rule_id")
        .agg(hits=is_right.sum().cast(pl.Int64), total=pl.len().cast(pl.Int64))
        .select("rule_id", "hits", "total", share=pl.col("hits") / pl.col("total"), lower=lower, upper=upper)
    )
    records = {row[0]: TrackRecord(*row[1:]) for row in measured.iter_rows()}
    return {rule.rule_id: records.get(rule.rule_id, NO_RECORD) for rule in rules}
