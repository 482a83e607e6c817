"""The days that a ledger covers."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.services.sample.draws import IntArray

MAX_MONTHS = 600
EARLIEST_YEAR = 1900


class Period(NamedTuple):
    """Whole months up to a last day; days are counted from 0 at the start."""

    start: date
    end: date
    months: int

    @property
    def days(self) -> npt.NDArray[np.datetime64]:
        """Every day, in order."""
        return np.arange(np.datetime64(self.start, "D"), np.datetime64(self.end, "D") + 1)

    @property
    def month_starts(self) -> npt.NDArray[np.datetime64]:
        """The first of every month."""
        first = np.datetime64(self.start, "M")
        return np.arange(first, first + self.months).astype("datetime64[D]")


def period_ending(end: date, months: int) -> Period:
    """The `months` calendar months whose last one holds `end`, and stops there.

    Raises:
        InvalidInput: There are no months, or too many, or they start too early.
    """
    if not 1 <= months <= MAX_MONTHS:
        raise InvalidInput(f"A sample covers 1 to {MAX_MONTHS} months, not {months}. Give another --months.")
    first = end.year * 12 + end.month - months  # months since year 0
    if first < EARLIEST_YEAR * 12:
        raise InvalidInput(f"A sample starts in {EARLIEST_YEAR} or later. Give a later --end or fewer --months.")
    return Period(date(first // 12, first % 12 + 1, 1), end, months)


def month_of_year(days: npt.NDArray[np.datetime64]) -> IntArray:
    """1 to 12."""
    return days.astype("datetime64[M]").astype(np.int64) % 12 + 1
