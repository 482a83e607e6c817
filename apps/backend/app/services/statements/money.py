"""Signed amounts of rows, from one amount column or from a debit and a credit column."""

from __future__ import annotations

import polars as pl

from app.services.statements.amounts import read_amounts
from app.services.statements.signs import Signs, is_debit

_EXCERPT = 40


def sentence(what: str, text: pl.Expr, problem: pl.Expr) -> pl.Expr:
    """Say what is wrong: "date '31/02/2025' is not a calendar date", "no date"; null where nothing is."""
    excerpt = pl.when(text.str.len_chars() > _EXCERPT).then(text.str.head(_EXCERPT) + "…").otherwise(text)
    quoted = pl.format(what + " '{}' {}", excerpt, problem)
    return pl.when(text.is_null()).then(pl.lit(f"no {what}")).when(problem.is_not_null()).then(quoted)


def read_money(texts: pl.DataFrame, signs: Signs, decimal: str, spending: str) -> pl.DataFrame:
    """Read the amounts of raw rows.

    Args:
        texts: Trimmed texts of `amount`, `indicator`, `debit` and `credit`, null where blank.
        signs: How spending is told from income, as `signs.Signs`.
        decimal: Decimal mark.
        spending: "positive" flips amounts whose sign is only the one they are written with.

    Returns:
        `amount` (Decimal(18, 2), spending negative), `currency` (code written beside the amount, or null)
        and `reason` (String, why there is no amount; null where there is one).
    """
    if signs.startswith("pair"):
        return _from_pair(texts, decimal, written=signs == "pair_written")
    return _from_amount(texts, signs, decimal, flipped=spending == "positive")


def _signed(value: pl.Expr, spent: pl.Expr) -> pl.Expr:
    return pl.when(spent).then(-value).otherwise(value)


def _from_amount(texts: pl.DataFrame, signs: Signs, decimal: str, *, flipped: bool) -> pl.DataFrame:
    read = texts.select("amount", "indicator").hstack(read_amounts(texts["amount"], decimal))
    negative, marked = pl.col("negative"), pl.col("mark")
    reason = sentence("amount", pl.col("amount"), pl.col("problem"))
    if signs == "indicator":
        spent = is_debit(pl.col("indicator"))
        contradicted = pl.when(negative).then(pl.lit("has a minus although another column says debit or credit"))
        unknown = pl.when(spent.is_null()).then(pl.lit("is neither debit nor credit"))
        reason = pl.coalesce(
            reason,
            sentence("amount", pl.col("amount"), contradicted),
            sentence("debit or credit mark", pl.col("indicator"), unknown),
        )
    elif signs == "credit_marked":
        spent = marked.is_null()
    else:
        spent = pl.when(marked.is_not_null()).then(marked == "D").otherwise(negative ^ flipped)
    amount = pl.when(reason.is_null()).then(_signed(pl.col("value"), spent))
    return read.select(amount=amount, currency="currency", reason=reason)


def _from_pair(texts: pl.DataFrame, decimal: str, *, written: bool) -> pl.DataFrame:
    sides = {}
    for side in ("debit", "credit"):
        read = texts.select(side).hstack(read_amounts(texts[side], decimal))
        negative = pl.col("negative") if side == "credit" or written else ~pl.col("negative")
        sides[side] = read.select(
            # A zero in one column only says that the amount is in the other.
            filled=pl.col(side).is_not_null() & (pl.col("value").is_null() | (pl.col("value") != 0)),
            amount=_signed(pl.col("value"), negative),
            currency="currency",
            reason=pl.when(pl.col(side).is_not_null()).then(sentence(side, pl.col(side), pl.col("problem"))),
        )
    debit, credit = sides["debit"], sides["credit"]
    both = debit["filled"] & credit["filled"]
    neither = texts["debit"].is_null() & texts["credit"].is_null()
    return pl.select(
        amount=pl.when(debit["filled"]).then(debit["amount"]).otherwise(pl.coalesce(credit["amount"], debit["amount"])),
        currency=pl.coalesce(debit["currency"], credit["currency"]),
        reason=pl.coalesce(
            pl.when(neither).then(pl.lit("no amount")),
            debit["reason"],
            credit["reason"],
            pl.when(both).then(pl.lit("both a debit and a credit")),
        ),
    )
