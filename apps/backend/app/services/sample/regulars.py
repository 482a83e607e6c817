"""Postings of what comes back every month, for all households at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from app.services.sample.household_plan import MOVES, REGULARS, Form, Move, Regular
from app.services.sample.period import Period, month_of_year

if TYPE_CHECKING:
    from app.services.sample.draws import Draws, IntArray

_LATE_LEG_PER_MILLE = 150
_MOVE_STEP = 500


def draw_regulars(draws: Draws, period: Period, households: int) -> pl.DataFrame:
    """Pay, bills, subscriptions, fees and both legs of transfers; columns as `statements.POSTING_SCHEMA`."""
    bills = [_bills(draws, period, households, regular) for regular in REGULARS]
    moves = [_legs(draws, period, households, move) for move in MOVES]
    return pl.concat(bills + moves)


def _bills(draws: Draws, period: Period, households: int, regular: Regular) -> pl.DataFrame:
    holders = np.flatnonzero(draws.below(100, households) < regular.share)
    personal = draws.below(401, len(holders)) + 800 if regular.personal else np.full(len(holders), 1000)
    references = draws.below(100_000_000, len(holders))
    months = np.flatnonzero(np.isin(month_of_year(period.month_starts), regular.months))

    changed = months >= period.months * regular.changes_after // 100
    price = np.where(changed & (regular.later_pence != 0), regular.later_pence, regular.pence)
    pence = (np.abs(price)[None, :] * personal[:, None] // 1000).ravel()
    if regular.varies:
        pence = draws.skewed(pence)
    days = _working_days(period, months, regular.day, early=regular.pence > 0)
    by_reference = regular.form is Form.DIRECT_DEBIT
    postings = pl.DataFrame(
        {
            "household": np.repeat(holders, len(months)),
            "day": np.tile(days, len(holders)),
            "pence": pence * np.sign(regular.pence),
            "reference": np.repeat(references, len(months)),
        }
    )
    return postings.filter(pl.col("day").is_between(0, len(period.days) - 1)).select(
        "household",
        pl.lit(regular.account).alias("account"),
        "day",
        pl.lit(None, pl.Int64).alias("second"),
        "pence",
        pl.lit(regular.form.value).alias("form"),
        pl.lit(regular.category).alias("category"),
        pl.lit(regular.mcc, pl.String).alias("mcc"),
        pl.lit(regular.name).alias("trader"),
        (pl.format("Ref {}", "reference") if by_reference else pl.lit("")).alias("tail"),
    )


def _legs(draws: Draws, period: Period, households: int, move: Move) -> pl.DataFrame:
    months = np.flatnonzero(np.isin(month_of_year(period.month_starts), move.months))
    count = households * len(months)
    typical = np.full(count, move.pence)
    pence = (draws.skewed(typical) // _MOVE_STEP + 1) * _MOVE_STEP
    leaves = np.tile(_working_days(period, months, move.day, early=False), households)
    arrives = leaves + draws.happens(_LATE_LEG_PER_MILLE, count)
    both = pl.DataFrame(
        {
            "household": np.repeat(np.arange(households), len(months)),
            "leaves": leaves,
            "arrives": arrives,
            "pence": pence,
        }
    ).filter(pl.col("arrives") < len(period.days))

    def leg(account: str, text: str, day: str, sign: int) -> pl.DataFrame:
        return both.select(
            "household",
            pl.lit(account).alias("account"),
            pl.col(day).alias("day"),
            pl.lit(None, pl.Int64).alias("second"),
            pl.col("pence") * sign,
            pl.lit(Form.TRANSFER.value).alias("form"),
            pl.lit("Transfers").alias("category"),
            pl.lit(None, pl.String).alias("mcc"),
            pl.lit(text).alias("trader"),
            pl.lit("").alias("tail"),
        )

    return pl.concat(
        [
            leg(move.source, move.source_text, "leaves", -1),
            leg(move.target, move.target_text, "arrives", 1),
        ]
    )


def _working_days(period: Period, months: IntArray, day: int, *, early: bool) -> IntArray:
    """Day numbers of `day` in those months; pay comes before a weekend, bills after it."""
    due = period.month_starts[months] + (day - 1)
    moved = np.busday_offset(due, 0, roll="backward" if early else "forward")
    return (moved - np.datetime64(period.start, "D")).astype(np.int64)
