"""The times in which nothing about an experiment changed, and how units were assigned in them.

A period is one change of the experiment and the versions that were due for its arms: shares stood still in it, and
every arm was answered by one model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from app.ml.count_evidence import AssignmentPeriod
from app.ml.sequential import UnitOutcomes

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from app.services.experiment_outcomes import Outcome, UnitSums
    from app.services.experiments import Experiment

NO_OUTCOMES: Final = UnitOutcomes(np.array([], dtype=np.int64), np.array([], dtype=np.int64))


@dataclass(frozen=True)
class Period:
    """A time in which the shares and the versions that were due for arms stood still.

    Attributes:
        change: The change in force.
        versions: Those that were due, by arm that asks a model; None where a role was empty.
        since: When its first suggestion was made.
        until: When the last one was, so far.
        units: By arm, what became of each.
    """

    change: int
    versions: Mapping[str, int | None]
    since: dt.datetime
    until: dt.datetime
    units: Mapping[str, Sequence[UnitSums]]

    def had(self, *arms: str) -> bool:
        """Say whether some arms all had units."""
        return all(arm in self.units for arm in arms)

    def since_of(self, arm: str) -> dt.datetime:
        """Say when the first suggestion of an arm was made, which had units."""
        return min(each.first_at for each in self.units[arm])

    def outcomes(self, arm: str, outcome: Outcome) -> UnitOutcomes:
        """Sum an outcome by the units of an arm."""
        known = [each.sums[outcome] for each in self.units.get(arm, ()) if each.sums[outcome][0]]
        return UnitOutcomes(
            answers=np.array([answers for answers, _ in known], dtype=np.int64),
            successes=np.array([successes for _, successes in known], dtype=np.int64),
        )


def periods_of(sums: Iterable[UnitSums]) -> list[Period]:
    """Divide what became of units into periods, the one whose last suggestion came last at the end."""
    found: defaultdict[tuple[int, frozenset[tuple[str, int | None]]], list[UnitSums]] = defaultdict(list)
    for each in sums:
        found[each.change, frozenset(each.versions.items())].append(each)
    periods = []
    for (change, versions), units in found.items():
        by_arm: defaultdict[str, list[UnitSums]] = defaultdict(list)
        for each in units:
            by_arm[each.arm].append(each)
        since, until = min(each.first_at for each in units), max(each.last_at for each in units)
        periods.append(Period(change, dict(versions), since, until, dict(by_arm)))
    return sorted(periods, key=lambda period: (period.change, period.until))


def shares_by_change(experiment: Experiment) -> dict[int, tuple[float, ...]]:
    """Return the shares of the arms, in their order, that each change but the end brought; they add up to 1."""
    shares = {}
    stopped: set[str | None] = set()
    for change in experiment.changes:
        if change.action == "stop":
            break
        if change.action == "stop_arm":
            stopped.add(change.arm)
        treatments = [0.0 if arm.name in stopped else arm.share * change.ramp for arm in experiment.arms[1:]]
        shares[change.id] = (max(1 - sum(treatments), 0.0), *treatments)
    return shares


def count_assignments(experiment: Experiment, sums: Iterable[UnitSums]) -> list[AssignmentPeriod]:
    """Count units by the arm that they were assigned to, and say how probable each arm was.

    A unit that comes back after a change is no new draw: where it was before leaves only a part of [0, 1) for its point
    (`experiment_assignment.assign`), and the arms' shares of that part are how probable they are now. So each unit is
    counted once for each change, by its first suggestion, beside those of which the same was known.

    Args:
        experiment: The experiment.
        sums: In the order of time.
    """
    shares = shares_by_change(experiment)
    first: defaultdict[int, dict[str, int]] = defaultdict(dict)
    positions = {arm.name: position for position, arm in enumerate(experiment.arms)}
    for each in sums:
        first[each.change].setdefault(each.unit, positions[each.arm])
    slots = _Slots(experiment, list(shares.values()))
    possible: defaultdict[str, int] = defaultdict(lambda: slots.everything)
    counts: defaultdict[tuple[float, ...], list[int]] = defaultdict(lambda: [0] * len(experiment.arms))
    for number, change in enumerate(shares):
        for unit, position in first[change].items():
            counts[slots.shares(possible[unit], number)][position] += 1
            owned = slots.owned[number][position]
            # Where it cannot be by what was known, the evidence says so; what is known begins anew.
            possible[unit] = possible[unit] & owned or owned or slots.everything
    return [AssignmentPeriod(assigned, shares) for shares, assigned in counts.items()]


class _Slots:
    """[0, 1) cut wherever any change has the end of a slot; sets of the pieces are bits of a number.

    Attributes:
        everything: All pieces.
        owned: Of each change and arm, the pieces that are the arm's.
    """

    def __init__(self, experiment: Experiment, shares: Sequence[tuple[float, ...]]) -> None:
        starts = [0.0]
        for arm in experiment.arms[1:]:
            starts.append(starts[-1] + arm.share)
        ends = [[start + share for start, share in zip(starts, each[1:], strict=False)] for each in shares]
        cuts = sorted({0.0, 1.0, *(min(cut, 1.0) for cuts in (starts, *ends) for cut in cuts)})
        self._widths = [after - before for before, after in pairwise(cuts)]
        self.everything = (1 << len(self._widths)) - 1
        self.owned: list[list[int]] = []
        for of_change in ends:
            treatments = [
                sum(1 << piece for piece, cut in enumerate(cuts[:-1]) if start <= cut < end)
                for start, end in zip(starts, of_change, strict=False)
            ]
            self.owned.append([self.everything & ~sum(treatments), *treatments])
        self.shares = cache(self._shares)

    def _shares(self, possible: int, number: int) -> tuple[float, ...]:
        widths = [self._width(possible & owned) for owned in self.owned[number]]
        return tuple(round(width / sum(widths), 12) for width in widths)

    def _width(self, pieces: int) -> float:
        return sum(width for piece, width in enumerate(self._widths) if pieces >> piece & 1)
