"""Rules that the person's own labels suggest: shown with what speaks for them, and never added by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from app.ml.priors import CONFIDENCE_MEDIUM, wilson_interval
from app.services.rules.conditions import LONGEST_TEXT, Condition, RuleDraft, TextCondition
from app.services.rules.ledger import read_ledger
from app.services.rules.matching import fold_text, winning_rules
from app.services.rules.store import read_active_rules

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LEAST_LABELS: Final = 3
LEAST_SHARE: Final = 0.9
# Three labels that agree reach it; it is also from where a merchant's prior counts as more than a guess.
LEAST_LOWER: Final = CONFIDENCE_MEDIUM


@dataclass(frozen=True)
class RuleProposal:
    """A rule that the person could add as it is.

    Attributes:
        rule: The rule.
        support: How many labels of the person's it would have decided, which no rule decides yet.
        hits: How many of those it gives the same category.
        precision: hits / support.
        lower: Lower end of Wilson's interval for the precision.
    """

    rule: RuleDraft
    support: int
    hits: int
    precision: float
    lower: float


def propose_rules(session: Session, user_id: int, *, limit: int = 50) -> list[RuleProposal]:
    """Find merchants that the person labels alike and no rule decides yet, the best supported first.

    Args:
        session: A session of the user.
        user_id: Whose labels.
        limit: How many at the most.
    """
    ledger = read_ledger(session, user_id).filter(pl.col("label_source") == "human")
    decided = winning_rules(ledger, read_active_rules(session)).select("txn_id")
    found = mine_merchants(ledger.join(decided, on="txn_id", how="anti")).head(limit)
    return [
        RuleProposal(_draft(row["shown_as"], row["label"]), row["support"], row["hits"], row["precision"], row["lower"])
        for row in found.iter_rows(named=True)
    ]


def mine_merchants(labelled: pl.DataFrame) -> pl.DataFrame:
    """Find merchants with enough labels, nearly all the same.

    Args:
        labelled: merchant, merchant_canonical and label of labelled transactions.

    Returns:
        shown_as (the merchant's name), label (the most frequent), hits, support, precision and lower, the most
        hits first. A merchant counts under the name that it is shown under, with every transaction that a rule about
        that name would match.
    """
    names = labelled.with_row_index("row").with_columns(
        pl.coalesce("merchant_canonical", "merchant").alias("shown_as"),
        pl.concat_list(fold_text(pl.col("merchant")), fold_text(pl.col("merchant_canonical"))).alias("name"),
    )
    shown = names.select(fold_text(pl.col("shown_as")).alias("name"), "shown_as").drop_nulls()
    spelt = shown.group_by("name").agg(pl.col("shown_as").min())
    counts = (
        names.select("row", pl.col("name").list.unique(), "label")
        .explode("name")
        .drop_nulls("name")
        .group_by("name", "label")
        .agg(pl.len().cast(pl.Int64).alias("hits"))
    )
    lower, _ = wilson_interval(pl.col("hits"), pl.col("support"))
    fits = [
        pl.col(column).str.len_chars().le(LONGEST_TEXT) & pl.col(column).str.strip_chars().ne("")
        for column in ("shown_as", "label")
    ]
    return (
        counts.with_columns(pl.col("hits").sum().over("name").alias("support"))
        .sort("hits", "label", descending=[True, False])
        .unique("name", keep="first", maintain_order=True)
        .with_columns((pl.col("hits") / pl.col("support")).alias("precision"), lower.alias("lower"))
        .filter(pl.col("support") >= LEAST_LABELS, pl.col("precision") >= LEAST_SHARE, pl.col("lower") >= LEAST_LOWER)
        .join(spelt, on="name")
        .filter(*fits)
        .sort("hits", "shown_as", descending=[True, False])
        .select("shown_as", "label", "hits", "support", "precision", "lower")
    )


def _draft(merchant: str, category: str) -> RuleDraft:
    condition = TextCondition(field="merchant", operator="equals", value=merchant)
    return RuleDraft(
        name=f"{merchant} is {category}"[:LONGEST_TEXT],
        condition=Condition(match="all", conditions=(condition,)),
        category=category,
    )
