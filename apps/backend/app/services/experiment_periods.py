"""The times in which an experiment's shares stood still, and how units were assigned in them."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, zip_longest
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

from app.ml.count_evidence import AssignmentPeriod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.services.experiments import Experiment

# Servers follow a change within a second, or five should a message be lost; until then some assign as before it.
SETTLING: Final = dt.timedelta(seconds=10)
_LEAST_SHARE: Final = 1e-9


@dataclass(frozen=True)
class Exposure:
    """That a unit was in an arm at a moment.

    Attributes:
        unit: The user, and the merchant where that is part of the unit.
        is_unit_known: Whether the transaction has features, which say its merchant.
    """

    unit: tuple[int, str]
    is_unit_known: bool
    arm: str
    at: dt.datetime


@dataclass(frozen=True)
class Period:
    """A time from one change of the shares to the next.

    Attributes:
        until: None for the one that lasts.
        shares: Of the arms, in their order; they add up to 1.
    """

    since: dt.datetime
    until: dt.datetime | None
    shares: tuple[float, ...]

    def has(self, position: int) -> bool:
        """Say whether an arm has units in it."""
        return self.shares[position] > _LEAST_SHARE


_Exposed = TypeVar("_Exposed", bound=Exposure)


def periods_of(experiment: Experiment) -> list[Period]:
    """List the periods of an experiment from the first to the last; none before it was started."""
    periods = []
    stopped: set[str | None] = set()
    for change, following in zip_longest(experiment.changes, experiment.changes[1:]):
        if change.action == "stop":
            break
        if change.action == "stop_arm":
            stopped.add(change.arm)
        treatments = [0.0 if arm.name in stopped else arm.share * change.ramp for arm in experiment.arms[1:]]
        until = following.created_at if following else None
        periods.append(Period(change.created_at, until, (max(1 - sum(treatments), 0.0), *treatments)))
    return periods


def within(rows: Sequence[_Exposed], since: dt.datetime, until: dt.datetime | None) -> Sequence[_Exposed]:
    """Return those of a time that ends before `until`, of rows in the order of time."""
    at = attrgetter("at")
    return rows[bisect_left(rows, since, key=at) : None if until is None else bisect_left(rows, until, key=at)]


def count_assignments(experiment: Experiment, exposures: Sequence[Exposure]) -> list[AssignmentPeriod]:
    """Count units by the arm that they were assigned to, and say how probable each arm was.

    A unit that comes back after a change is no new draw: where it was before leaves only a part of [0, 1) for its point
    (`experiment_assignment.assign`), and the arms' shares of that part are how probable they are now. So each unit is
    counted once in each period, by its first exposure, beside those of which the same was known. What came within
    SETTLING of a change is left out, but for the start, before which nobody is assigned.

    Args:
        experiment: The experiment.
        exposures: In the order of time.
    """
    periods = periods_of(experiment)
    slots = _Slots(experiment, periods)
    possible: defaultdict[tuple[int, str], int] = defaultdict(lambda: slots.everything)
    counts: defaultdict[tuple[float, ...], list[int]] = defaultdict(lambda: [0] * len(experiment.arms))
    positions = {arm.name: position for position, arm in enumerate(experiment.arms)}
    for number, period in enumerate(periods):
        since = period.since + SETTLING if number else period.since
        until = period.until and period.until - SETTLING
        first: dict[tuple[int, str], int] = {}
        for each in within(exposures, since, until):
            if each.is_unit_known:
                first.setdefault(each.unit, positions[each.arm])
        for unit, position in first.items():
            counts[slots.shares(possible[unit], number)][position] += 1
            owned = slots.owned[number][position]
            # Where it cannot be by what was known, the evidence says so; what is known begins anew.
            possible[unit] = possible[unit] & owned or owned or slots.everything
    return [AssignmentPeriod(assigned, shares) for shares, assigned in counts.items()]


class _Slots:
    """[0, 1) cut wherever any period has the end of a slot; sets of the pieces are bits of a number.

    Attributes:
        everything: All pieces.
        owned: Of each period and arm, the pieces that are the arm's.
    """

    def __init__(self, experiment: Experiment, periods: Sequence[Period]) -> None:
        starts = [0.0]
        for arm in experiment.arms[1:]:
            starts.append(starts[-1] + arm.share)
        ends = [[start + share for start, share in zip(starts, period.shares[1:], strict=False)] for period in periods]
        cuts = sorted({0.0, 1.0, *(min(cut, 1.0) for cuts in (starts, *ends) for cut in cuts)})
        self._widths = [after - before for before, after in pairwise(cuts)]
        self.everything = (1 << len(self._widths)) - 1
        self.owned: list[list[int]] = []
        for of_period in ends:
            treatments = [
                sum(1 << piece for piece, cut in enumerate(cuts[:-1]) if start <= cut < end)
                for start, end in zip(starts, of_period, strict=False)
            ]
            self.owned.append([self.everything & ~sum(treatments), *treatments])
        self.shares = cache(self._shares)

    def _shares(self, possible: int, number: int) -> tuple[float, ...]:
        widths = [self._width(possible & owned) for owned in self.owned[number]]
        return tuple(round(width / sum(widths), 12) for width in widths)

    def _width(self, pieces: int) -> float:
        return sum(width for piece, width in enumerate(self._widths) if pieces >> piece & 1)
