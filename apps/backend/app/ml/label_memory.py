"""One user's labels as a process remembers them: counts at every place, moved by one label at a time.

Both engines count labels. The evidence of a model (`evidence`) are the labels at a transaction's places, older ones
counting less; the heuristics (`hierarchical_prior`) count them at the merchant. Here each label is counted once, where
it was given, and found again without a pass over the others.

A label that is half a life old counts half. As 0.5 ** ((now - day) / life) = 0.5 ** ((now - start) / life) *
2 ** ((day - start) / life), sums of the last factor are kept, and what has passed since the start is taken off when
they are asked for. The start is the day of the latest label, and once that goes another: factors of days that lie far
behind would leave nothing but rounding to count from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.evidence import HALF_LIVES, LABELS_PER_WEIGHT, LEAST_COUNT, LEVELS, Evidence, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Key = tuple[object, ...]

Counted = TypeVar("Counted", int, str)

SOURCES: Final = tuple(SAMPLE_WEIGHTS)
_LIVES: Final = tuple(HALF_LIVES.values())
_LEVELS: Final = tuple(LEVELS)
# What names a place at each level, and whether that takes a merchant.
_NAMED_BY: Final = tuple(
    (level, itemgetter(*map(Place._fields.index, columns)), "merchant" in columns)
    for level, columns in enumerate(LEVELS.values())
)


class GivenLabel(NamedTuple):
    """A label, where it was given, the day of its transaction (as `evidence.day_numbers` counts) and its source."""

    place: Place
    day: int
    label: str
    source: str


_NOTHING_GIVEN: Final = GivenLabel(Place(0, "", "", "", "", "", 0), 0, "", "")


@dataclass(slots=True)
class Tally:
    """Labels of one category at one place.

    Attributes:
        labels: How many.
        by_source: The same, in the order of SOURCES.
        decayed: What they count, for each of the HALF_LIVES, as of the memory's start.
    """

    labels: int = 0
    by_source: list[int] = field(default_factory=lambda: [0] * len(SOURCES))
    decayed: list[float] = field(default_factory=lambda: [0.0] * len(_LIVES))


class _Read(NamedTuple):
    """The labels at a place of a level, by category.

    Attributes:
        words: Positions in `words`, shape (n,).
        numbers: The same, each as often as there are half-lives, shape (n, half-lives).
        slots: The level's, shape (n, half-lives).
        decayed: What the labels count, shape (n, half-lives).
    """

    words: list[int]
    numbers: NDArray[np.int64]
    slots: NDArray[np.int64]
    decayed: NDArray[np.float64]


_NO_LABELS: Final[dict[str, Tally]] = {}
_NOTHING_READ: Final = _Read(
    [],
    np.zeros((0, len(_LIVES)), dtype=np.int64),
    np.zeros((0, len(_LIVES)), dtype=np.int64),
    np.zeros((0, len(_LIVES))),
)
# Days that the start may be ahead of all labels.
_MOST_AHEAD: Final = 365


class LabelMemory:
    """What a user has labelled as what.

    Attributes:
        given: The label of each transaction that has one.
        in_use: How many labels each category has.
        words: Every category that ever had one; `evidence_at` names them by their positions here.
        vocabulary: Counts how often a category came into use or out of it.
    """

    def __init__(self, labels: Mapping[int, GivenLabel], weights: Mapping[str, float]) -> None:
        """Count labels.

        Args:
            labels: By transaction.
            weights: What a label of each source weighs.
        """
        self.given: dict[int, GivenLabel] = {}
        self.in_use: Counter[str] = Counter()
        self.words: list[str] = []
        self.vocabulary = 0
        self._weights = {source: weight * LABELS_PER_WEIGHT for source, weight in weights.items()}
        self._start = max((label.day for label in labels.values()), default=0)
        self._days: Counter[int] = Counter()
        self._last_day: int | None = None  # None: not known
        self._tallies: dict[Key, dict[str, Tally]] = {}
        self._numbers: dict[str, int] = {}
        self._read: dict[Key, _Read] = {}
        for txn_id, label in labels.items():
            self.put(txn_id, label)

    def put(self, txn_id: int, label: GivenLabel) -> None:
        """Let a transaction have a label, in place of the one it had."""
        before = self.given.get(txn_id)
        if before == label:
            return
        self.given[txn_id] = label
        self._count(label, 1)
        if before is not None:
            self._count(before, -1)
            self._keep_near()

    def remove(self, txn_id: int) -> None:
        """Let a transaction have no label."""
        label = self.given.pop(txn_id, None)
        if label is not None:
            self._count(label, -1)
            self._keep_near()

    def tallies_at(self, place: Place, level: str, *, without: int | None = None) -> Mapping[str, Tally]:
        """Return the labels at a place of a level, by category.

        Args:
            place: The place.
            level: One of `evidence.LEVELS`.
            without: A transaction whose own label is left out.
        """
        number = _LEVELS.index(level)
        return self._at(_keys(place)[number], number, self._own(without))

    def labels_at(self, place: Place, level: str, *, without: int | None = None) -> dict[str, int]:
        """Count the same."""
        number = _LEVELS.index(level)
        key, own = _keys(place)[number], self._own(without)
        counts = {label: tally.labels for label, tally in self._tallies.get(key, _NO_LABELS).items()}
        if own.label in counts and (own.place == place or _keys(own.place)[number] == key):
            counts[own.label] -= 1
            if not counts[own.label]:
                del counts[own.label]
        return counts

    def as_of(self, day: int) -> int:
        """Return the day before which all labels are known to a transaction of a day: one after the latest of them."""
        latest = self._latest()
        return (day if latest is None else max(day, latest)) + 1

    def evidence_at(self, place: Place, as_of: int, *, without: int | None = None) -> Evidence:
        """Give the counts at a place, of row 0, as `evidence.gather_evidence` does, rounded to single precision.

        Args:
            place: Of the transaction.
            as_of: As the method of that name gives it.
            without: The transaction, whose own label is no evidence for itself.

        Returns:
            Labels are positions in `words`.
        """
        own = self._own(without)
        keys = _keys(place)
        read = [self._read_at(level, key) for level, key in enumerate(keys)]
        decayed = np.concatenate([each.decayed for each in read])
        if own is not _NOTHING_GIVEN:
            word, start, there = self._numbers[own.label], 0, []
            own_keys = keys if own.place == place else _keys(own.place)
            for each, key, own_key in zip(read, keys, own_keys, strict=True):
                if key and key == own_key:
                    there.append(start + each.words.index(word))
                start += len(each.words)
            decayed[there] -= self._worth(own)
        counts = (decayed * [0.5 ** ((as_of - self._start) / life) for life in _LIVES]).astype(np.float32).ravel()
        kept = np.flatnonzero(counts > LEAST_COUNT)
        return Evidence(
            row=np.zeros(kept.size, dtype=np.int64),
            slot=np.concatenate([each.slots for each in read]).ravel()[kept],
            label=np.concatenate([each.numbers for each in read]).ravel()[kept],
            count=counts[kept].astype(np.float64),
        )

    def _read_at(self, level: int, key: Key) -> _Read:
        """Bring the labels at a place into the form that they are counted in."""
        read = self._read.get(key)
        if read is None:
            here = self._tallies.get(key, _NO_LABELS)
            if not here:
                return _NOTHING_READ
            words = [self._numbers[label] for label in here]
            read = self._read[key] = _Read(
                words,
                np.repeat(np.array(words), len(_LIVES)).reshape(len(words), len(_LIVES)),
                np.tile(level * len(_LIVES) + np.arange(len(_LIVES)), (len(words), 1)),
                np.array([tally.decayed for tally in here.values()]),
            )
        return read

    def _latest(self) -> int | None:
        """Return the day of the latest label, if there is any."""
        if self._last_day is None and self._days:
            self._last_day = max(self._days)
        return self._last_day

    def _keep_near(self) -> None:
        """Count everything again from another start if the labels for which it was the right one have gone."""
        latest = self._latest()
        if latest is not None and self._start - latest > _MOST_AHEAD:
            self._start = latest
            self._tallies.clear()
            self._read.clear()
            for label in self.given.values():
                self._tally(label, 1)

    def _own(self, txn_id: int | None) -> GivenLabel:
        return _NOTHING_GIVEN if txn_id is None else self.given.get(txn_id, _NOTHING_GIVEN)

    def _at(self, key: Key, level: int, own: GivenLabel) -> Mapping[str, Tally]:
        here = self._tallies.get(key, _NO_LABELS)
        if own.label not in here or _keys(own.place)[level] != key:
            return here
        kept = here[own.label]
        less = Tally(kept.labels, list(kept.by_source), list(kept.decayed))
        self._add(less, own, -1)
        others = {label: tally for label, tally in here.items() if label != own.label}
        return others | {own.label: less} if less.labels else others

    def _count(self, label: GivenLabel, sign: int) -> None:
        categories = len(self.in_use)
        _move(self.in_use, label.label, sign)
        self.vocabulary += len(self.in_use) != categories
        _move(self._days, label.day, sign)
        if sign > 0 and self._last_day is not None:
            self._last_day = max(self._last_day, label.day)
        elif label.day not in self._days:
            self._last_day = None
        if label.label not in self._numbers:
            self._numbers[label.label] = len(self.words)
            self.words.append(label.label)
        self._tally(label, sign)

    def _tally(self, label: GivenLabel, sign: int) -> None:
        for key in filter(None, _keys(label.place)):
            self._read.pop(key, None)
            here = self._tallies.setdefault(key, {})
            tally = here.setdefault(label.label, Tally())
            self._add(tally, label, sign)
            if not tally.labels:
                # What is left of the sums is rounding.
                del here[label.label]
                if not here:
                    del self._tallies[key]

    def _add(self, tally: Tally, label: GivenLabel, sign: int) -> None:
        tally.labels += sign
        tally.by_source[SOURCES.index(label.source)] += sign
        for life, worth in enumerate(self._worth(label)):
            tally.decayed[life] += sign * worth

    def _worth(self, label: GivenLabel) -> list[float]:
        """Say what a label counts at each half-life, as of the memory's start."""
        weight, age = self._weights[label.source], label.day - self._start
        return [weight * 2.0 ** (age / days) for days in _LIVES]


def _move(counter: Counter[Counted], counted: Counted, by: int) -> None:
    counter[counted] += by
    if not counter[counted]:
        del counter[counted]


def _keys(place: Place) -> list[Key]:
    """Name the place at each level; () where places without a merchant have nothing in common."""
    return [
        (level, named(place)) if place.merchant or not needs_merchant else ()
        for level, named, needs_merchant in _NAMED_BY
    ]
