"""Telling spending from income: decided once for a file, from all of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from app.errors import AmbiguousInput, InvalidInput
from app.services.statements import amounts

if TYPE_CHECKING:
    from collections.abc import Mapping

# How spending is told from income.
Signs = Literal[
    "written",  # the amounts carry their signs
    "credit_marked",  # only income is marked (12.00 CR); what is unmarked is spending
    "marked",  # amounts are marked (12.00 DR); those that are not carry their signs
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

    def decide(self, columns: Mapping[str, str], spending: str) -> Signs:
        """The convention that all rows follow.

        Args:
            columns: Field to column name.
            spending: "positive" when the person says that spending is written as positive amounts.

        Raises:
            AmbiguousInput: Some amounts are marked CR or DR, and nothing tells what the others are.
            InvalidInput: Spending is said to be positive, but the file says itself what is spending.
        """
        signs = self._convention(columns)
        if signs == "open" and spending != "positive":
            raise AmbiguousInput(
                f"Some amounts in column '{columns['amount']}' are marked CR or DR and others are not. "
                "Mark all of them, unless those without a mark and without a minus are spending.",
                option="spending",
                choices=("positive",),
            )
        if signs not in ("open", "written") and spending == "positive":
            raise InvalidInput("The file says itself what is debit and what is credit; leave out --spending positive.")
        return "written" if signs == "open" else signs

    def _convention(self, columns: Mapping[str, str]) -> Signs | Literal["open"]:
        if "amount" not in columns:
            return "pair_written" if self.debits[True] and not self.debits[False] else "pair"
        if "indicator" in columns:
            minus_with_debit = sum(count for (said, _, negative), count in self.amounts.items() if said and negative)
            plus_with_debit = sum(count for (said, _, negative), count in self.amounts.items() if said and not negative)
            minus = sum(count for (_, _, negative), count in self.amounts.items() if negative)
            return "written" if minus and minus == minus_with_debit and not plus_with_debit else "indicator"
        marks = {mark for _, mark, _ in self.amounts if mark}
        signs_without_mark = {negative for _, mark, negative in self.amounts if not mark}
        if not marks:
            return "written"
        if signs_without_mark and (len(marks) > 1 or len(signs_without_mark) > 1):
            return "open"
        return "credit_marked" if marks == {"C"} and signs_without_mark == {False} else "marked"

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
