"""Which rules match which transactions, and which of them decides: pure, for one row or a whole ledger.

Of several rules that match a transaction the one with the highest priority wins, of equal ones the oldest, which has
the lowest id.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from app.services.rules.conditions import (
    AccountCondition,
    AmountCondition,
    Condition,
    MccCondition,
    SignCondition,
    TextCondition,
    WeekdayCondition,
    engine_pattern,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from app.services.rules.conditions import Part

TRANSACTION_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "description": pl.String(),
        "merchant": pl.String(),
        "merchant_canonical": pl.String(),
        "amount": pl.Decimal(18, 2),
        "account": pl.String(),
        "mcc": pl.String(),
        "date": pl.Date(),
    }
)
MATCH_SCHEMA: Final = pl.Schema({"txn_id": pl.Int64(), "rule_id": pl.Int64(), "wins": pl.Boolean()})
WINNER_SCHEMA: Final = pl.Schema(
    {"txn_id": pl.Int64(), "rule_id": pl.Int64(), "revision": pl.Int64(), "category": pl.String()}
)

# Bounds the memory of an answer: so many rows times the number of rules, a byte each.
SLICE_ROWS: Final = 50_000

_TEXT_COLUMNS: Final = {"description": ("description",), "merchant": ("merchant", "merchant_canonical")}


@dataclass(frozen=True)
class ActiveRule:
    """A rule that is in force, as its latest revision says."""

    rule_id: int
    revision: int
    name: str
    condition: Condition
    category: str
    priority: int


def in_winning_order(rules: Sequence[ActiveRule]) -> list[ActiveRule]:
    """Sort rules so that of those that match a transaction the first decides."""
    return sorted(rules, key=lambda rule: (-rule.priority, rule.rule_id))


def match_rules(transactions: pl.DataFrame, rules: Sequence[ActiveRule]) -> pl.DataFrame:
    """Find every rule that matches a transaction, and the one that wins it.

    Args:
        transactions: At least the columns of `TRANSACTION_SCHEMA`. Text that is null matches nothing.
        rules: Rules in any order, each id once.

    Returns:
        `MATCH_SCHEMA`: a row for each transaction and rule that matches it, in the transactions' order and then in
        that of the rules' precedence; `wins` is true for the first of each transaction.
    """
    found = []
    for rows, matches in match_matrices(transactions, rules):
        row, column = np.nonzero(matches)
        ids = np.array([rule.rule_id for rule in in_winning_order(rules)], dtype=np.int64)
        wins = np.ones(len(row), dtype=bool)
        wins[1:] = row[1:] != row[:-1]
        found.append(
            pl.DataFrame({"txn_id": rows["txn_id"].gather(row), "rule_id": ids[column], "wins": wins}, MATCH_SCHEMA)
        )
    return pl.concat(found) if found else MATCH_SCHEMA.to_frame()


def winning_rules(transactions: pl.DataFrame, rules: Sequence[ActiveRule]) -> pl.DataFrame:
    """Find the rule that decides each transaction.

    Args:
        transactions: As `match_rules` takes them.
        rules: Rules in any order, each id once.

    Returns:
        `WINNER_SCHEMA`, in the transactions' order; no row for a transaction that no rule matches.
    """
    ordered = in_winning_order(rules)
    decisions = pl.DataFrame(
        [(rule.rule_id, rule.revision, rule.category) for rule in ordered],
        schema=list(WINNER_SCHEMA.items())[1:],
        orient="row",
    )
    found = []
    for rows, matches in match_matrices(transactions, rules):
        decided = np.flatnonzero(matches.any(axis=1))
        winners = matches[decided].argmax(axis=1)
        found.append(pl.concat([rows.select("txn_id")[decided], decisions[winners]], how="horizontal"))
    return pl.concat(found) if found else WINNER_SCHEMA.to_frame()


def match_matrices(
    transactions: pl.DataFrame, rules: Sequence[ActiveRule]
) -> Iterator[tuple[pl.DataFrame, npt.NDArray[np.bool_]]]:
    """Say of every transaction and every rule whether they match, a slice of the transactions at a time.

    Args:
        transactions: As `match_rules` takes them.
        rules: Rules in any order.

    Yields:
        The slice, and its matrix: a row for each transaction and a column for each rule `in_winning_order`. Nothing
        is yielded where there are no rules.
    """
    questions = [
        _question(rule.condition).fill_null(value=False).alias(str(position))
        for position, rule in enumerate(in_winning_order(rules))
    ]
    if not questions:
        return
    columns = [column for names in _TEXT_COLUMNS.values() for column in names]
    forms = [fold_text(pl.col(column)).alias(f"folded {column}") for column in columns]
    if any(_has_pattern(rule.condition) for rule in rules):
        forms += [pl.col(column).str.normalize("NFC").alias(f"composed {column}") for column in columns]
    for rows in transactions.iter_slices(SLICE_ROWS):
        asked = rows.with_columns(*forms, pl.col("amount").abs().alias("absolute")).select(questions)
        yield rows, asked.to_numpy()


def fold_text(text: pl.Expr) -> pl.Expr:
    """Give text the one form that case, and the way accents are encoded, make no difference to."""
    # Capitals, for they know no final sigma, and ß is SS among them; composed, for a bank may send e and an accent.
    return text.str.to_uppercase().str.normalize("NFC")


def _has_pattern(condition: Condition) -> bool:
    return any(isinstance(part, TextCondition) and part.operator == "regex" for part in condition.conditions)


@lru_cache(maxsize=4096)
def _question(condition: Condition) -> pl.Expr:
    combine = operator.and_ if condition.match == "all" else operator.or_
    return reduce(combine, [_answer(part) for part in condition.conditions])


def _answer(part: Part) -> pl.Expr:
    match part:
        case TextCondition():
            return reduce(operator.or_, [_text_answer(part, column) for column in _TEXT_COLUMNS[part.field]])
        case AmountCondition(minimum=minimum, maximum=maximum):
            amount = pl.col("absolute")
            bounds = [amount >= pl.lit(minimum)] if minimum is not None else []
            bounds += [amount <= pl.lit(maximum)] if maximum is not None else []
            return reduce(operator.and_, bounds)
        case SignCondition(is_=sign):
            return pl.col("amount") < 0 if sign == "spending" else pl.col("amount") > 0
        case AccountCondition(equals=account):
            return pl.col("account") == account
        case MccCondition(equals=mcc):
            return pl.col("mcc") == mcc
        case WeekdayCondition(days=days):
            return (pl.col("date").dt.weekday() - 1).is_in([*days])


def _text_answer(part: TextCondition, column: str) -> pl.Expr:
    if part.operator == "regex":
        # Checked when the rule was written; should a later engine refuse it, the rule is silent and others still speak.
        return pl.col(f"composed {column}").str.contains(engine_pattern(part.value), strict=False)
    value: str = pl.select(fold_text(pl.lit(part.value))).item()
    folded = pl.col(f"folded {column}")
    return folded == value if part.operator == "equals" else folded.str.contains(value, literal=True)
