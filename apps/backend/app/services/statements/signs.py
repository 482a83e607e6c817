"""Telling spending from income: decided once for a file, from all of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from app.services.statements import amounts

# How spending is told from income.
Signs = Literal[
    "written",  # the amounts carry their signs
    "credit_marked",  # only income is marked (12.00 CR); what is unmarked is spending
    "indicator",  # amounts have no sign, another column says debit or credit
    "pair",  # a debit and a credit column, both without signs
    "pair_written",  # a debit and a credit column, debits with a minus
]

DEBIT_WORDS = frozenset(
    (
        "d",
        "dr",
        "db",
        "debit",
        "debet",
        "débit",
        "debito",
        "débito",
        "s",
        "soll",
        "af",
        "cargo",
        "dare",
        "uscita",
        "out",
        "-",
    )
)
CREDIT_WORDS = frozenset(
    ("c", "cr", "credit", "crédit", "credito", "crédito", "h", "haben", "bij", "abono", "avere", "entrata", "in", "+")
)

_ENOUGH_ROWS = 10


def is_debit(indicator: pl.Expr) -> pl.Expr:
    """True for a debit word, False for a credit word, null for anything else."""
    word = indicator.str.to_lowercase().str.strip_chars(" .")
    return pl.when(word.is_in(DEBIT_WORDS)).then(True).when(word.is_in(CREDIT_WORDS)).then(False)


@dataclass
class SignEvidence:
    """How many amounts that are not zero carry which sign.

    Attributes:
        amounts: Counts by (what the indicator column says, mark such as CR, negative).
        debits: Counts of the debit column by negative.
    """

    amounts: Counter[tuple[bool | None, str | None, bool]] = field(default_factory=Counter)
    debits: Counter[bool] = field(default_factory=Counter)

    def add(self, rows: pl.DataFrame) -> None:
        """Count one batch of raw rows."""
        if "amount" in rows.columns:
            said = is_debit(pl.col("indicator")) if "indicator" in rows.columns else pl.lit(None, pl.Boolean)
            for said_debit, mark, negative, count in _count(rows.select(said=said, text="amount")):
                self.amounts[said_debit, mark, negative] += count
        if "debit" in rows.columns:
            nothing_said = pl.lit(None, pl.Boolean)
            for _, _, negative, count in _count(rows.select(said=nothing_said, text="debit")):
                self.debits[negative] += count

    def decide(self, columns: frozenset[str]) -> Signs:
        """The convention that all rows follow."""
        if "amount" not in columns:
            return "pair_written" if self.debits[True] and not self.debits[False] else "pair"
        if "indicator" in columns:
            minus_with_debit = sum(count for (said, _, negative), count in self.amounts.items() if said and negative)
            plus_with_debit = sum(count for (said, _, negative), count in self.amounts.items() if said and not negative)
            minus = sum(count for (_, _, negative), count in self.amounts.items() if negative)
            return "written" if minus and minus == minus_with_debit and not plus_with_debit else "indicator"
        marks = {mark for _, mark, _ in self.amounts}
        return "credit_marked" if marks == {"C", None} and not self._any_negative() else "written"

    def _any_negative(self) -> bool:
        return any(negative for _, _, negative in self.amounts)

    def all_positive(self) -> bool:
        """Whether there are ten amounts or more, and none has a sign."""
        return self.amounts.total() >= _ENOUGH_ROWS and {(mark, negative) for _, mark, negative in self.amounts} == {
            (None, False)
        }


def _count(told: pl.DataFrame) -> list[tuple[bool | None, str | None, bool, int]]:
    distinct = told.group_by("said", "text").len()
    signs = amounts.read_signs(distinct["text"])
    counted = distinct.hstack(signs).filter("nonzero").group_by("said", "mark", "negative").agg(pl.col("len").sum())
    return counted.rows()
