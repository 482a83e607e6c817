"""How four banks put the same postings on paper, each in its own words.

The current account changes its wording on one day and gives no time; the joint account gives the time and cuts
every description at a fixed width; the card gives time and merchant category code; savings give neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from app.services.sample.household_plan import Form

if TYPE_CHECKING:
    from app.services.sample.period import Period

POSTING_SCHEMA = {
    "household": pl.Int64,
    "account": pl.String,
    "day": pl.Int64,
    "second": pl.Int64,
    "pence": pl.Int64,
    "form": pl.String,
    "category": pl.String,
    "mcc": pl.String,
    "trader": pl.String,
    "tail": pl.String,
}
"""What happened, before a bank writes it down; day counts from the period's start, second from midnight."""

JOINT_WIDTH = 22
"""Characters that the joint account's bank keeps of a description."""

FORMAT_CHANGES_AFTER = 60
"""Hundredths of the period after which the current account's bank changes its wording."""

_CARD_NAME_WIDTH = 25

_OLD_LEAD = {
    Form.CARD: "",
    Form.REFUND: "CR ",
    Form.CASH: "CASH ",
    Form.DIRECT_DEBIT: "DD ",
    Form.STANDING_ORDER: "SO ",
    Form.CREDIT: "BGC ",
    Form.TRANSFER: "",
    Form.CHARGE: "",
}
_NEW_LEAD = {
    Form.CARD: "Card payment to ",
    Form.REFUND: "Refund from ",
    Form.CASH: "Cash withdrawal at ",
    Form.DIRECT_DEBIT: "Direct Debit to ",
    Form.STANDING_ORDER: "Standing order to ",
    Form.CREDIT: "Received from ",
    Form.TRANSFER: "",
    Form.CHARGE: "",
}
_TYPE = {
    Form.CARD: "POS",
    Form.REFUND: "POS",
    Form.CASH: "ATM",
    Form.DIRECT_DEBIT: "DD",
    Form.STANDING_ORDER: "SO",
    Form.CREDIT: "BGC",
    Form.TRANSFER: "TFR",
    Form.CHARGE: "CHG",
}


def write_statements(postings: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Put postings into the words of their banks, in the order of date and time.

    Args:
        postings: Columns as `POSTING_SCHEMA`, all households together.
        period: The days that the postings count from.

    Returns:
        Columns date, time (null first within a day), description, amount, currency, account, mcc, type,
        true_category.
    """
    by_current = pl.col("account") == "current"
    gives_time = pl.col("account").is_in(["joint", "card"])
    household = pl.col("household")
    return (
        postings.with_columns(
            date=pl.lit(period.start) + pl.duration(days="day"),
            second=pl.when(gives_time).then("second"),
        )
        .sort("date", "second", nulls_last=False, maintain_order=True)
        .select(
            "date",
            (pl.col("second") * 1_000_000_000).cast(pl.Time).alias("time"),
            _description(len(period.days) * FORMAT_CHANGES_AFTER // 100).alias("description"),
            (pl.col("pence").cast(pl.Decimal(18, 2)) / 100).cast(pl.Decimal(18, 2)).alias("amount"),
            pl.lit("GBP").alias("currency"),
            pl.when(household == 0)
            .then("account")
            .otherwise(pl.format("{} {}", "account", household + 1))
            .alias("account"),
            pl.when(account="card").then("mcc").alias("mcc"),
            pl.when(by_current).then(_by_form(_TYPE)).alias("type"),
            pl.col("category").alias("true_category"),
        )
    )


def _description(change_day: int) -> pl.Expr:
    """Each bank's wording; `change_day` is the first day of the current account's new one."""
    full = pl.concat_str("trader", "tail", separator=" ").str.strip_chars_end()
    old = (_by_form(_OLD_LEAD) + full).str.to_uppercase()
    dated = pl.col("form").is_in([Form.CARD.value, Form.REFUND.value, Form.CASH.value])
    on_day = pl.when(dated).then(pl.col("date").dt.strftime(" on %d %b")).otherwise(pl.lit(""))
    new = _by_form(_NEW_LEAD) + pl.col("trader") + on_day
    cut = full.str.to_uppercase().str.head(JOINT_WIDTH).str.strip_chars_end()
    columns = pl.col("trader").str.pad_end(_CARD_NAME_WIDTH) + " " + pl.col("tail")
    return (
        pl.when((pl.col("account") == "current") & (pl.col("day") < change_day))
        .then(old)
        .when(account="current")
        .then(new)
        .when(account="joint")
        .then(cut)
        .otherwise(columns.str.strip_chars_end().str.to_uppercase())
    )


def _by_form(words: dict[Form, str]) -> pl.Expr:
    return pl.col("form").replace_strict({form.value: word for form, word in words.items()}, return_dtype=pl.String)
