"""Evidence from counts: how often a place's earlier labels were each category, older ones counting less.

A place is what transactions share: the account, the merchant, the very description, and these on one account. At each
level a category that was seen n times of N in all is worth, each with a weight that is not negative,

    log(1 + n / (strength * reference))     what it gains over the reference that it had without the count: a Dirichlet
                                            prior's posterior odds (MacKay and Peto 1995), with one weight for the first
                                            labels and one for further ones
    log((N + 1) / (N - n + 1))              how much of the place is its own

so a category that nothing else speaks for gains most from its first label, and one that was never seen gains nothing.
A label more raises both for its own category and neither for any other: no label can speak against itself. Counts are
kept with two half-lives, of years and of months, so that a merchant that changes its meaning is followed; the weights
are learnt (`mixing`).

Counts are not part of a model: whoever predicts brings the labels that are known by then. That is how one correction
moves the next suggestion, and how a category that no model has seen can be suggested.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from numpy.typing import NDArray

# Levels with the columns that name a place there. At those of `GENERAL` a category is compared with how common it is at
# all; at the others with what the description's wording makes of it.
LEVELS: Final[dict[str, tuple[str, ...]]] = {
    "account": ("account",),
    "account_amount": ("account", "amount_band"),
    "account_builtin": ("account", "builtin"),
    "account_first_word": ("account", "first_word"),
    "merchant": ("merchant",),
    "description": ("merchant", "norm_desc"),
    "account_merchant": ("account", "merchant"),
    "account_description": ("account", "merchant", "norm_desc"),
}
GENERAL: Final = ("account", "account_amount", "account_builtin", "account_first_word")
_STRENGTH_GENERAL: Final = 3.0  # in labels
_STRENGTH_PARTICULAR: Final = 1.0

HALF_LIVES: Final = {"years": 540.0, "months": 60.0}  # days until a label counts half
# What has a weight of its own at each level and half-life.
PIECES: Final = ("first labels", "further labels", "share")
# Labels from which on they are further ones.
FIRST_LABELS: Final = 4.0

SLOTS: Final = tuple((level, life) for level in LEVELS for life in HALF_LIVES)
PARAMETERS: Final = len(SLOTS) * len(PIECES)

# A sample weight of 0.5, an import's, is one label.
LABELS_PER_WEIGHT: Final = 2.0
LEAST_COUNT: Final = 1e-3

_FIRST_PARTICULAR_SLOT: Final = len(GENERAL) * len(HALF_LIVES)


@dataclass(frozen=True)
class Evidence:
    """Counts of categories at the places of some rows, one entry for each row, slot and category that has any.

    Attributes:
        row: Position of the row, shape (n,).
        slot: Index into SLOTS, those of GENERAL levels before the others, shape (n,).
        label: Index of the category, shape (n,).
        count: Labels, older ones counting less, shape (n,).
    """

    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    label: NDArray[np.int64]
    count: NDArray[np.float64]


NO_EVIDENCE: Final = Evidence(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class KnownLabels:
    """Labels that are known, and where they were given.

    Attributes:
        places: From `place_columns`, one row for each label.
        days: The date of each one's transaction, from the day after which it counts as known, shape (n,).
        labels: Index of each category, shape (n,).
        counts: What each counts, shape (n,).
        label_count: How many categories there are.
    """

    places: pl.DataFrame
    days: NDArray[np.int64]
    labels: NDArray[np.int64]
    counts: NDArray[np.float64]
    label_count: int


def place_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """Add what levels are named by: user_id, account, merchant, norm_desc, first_word, amount_band, as strings.

    Args:
        rows: user_id, account, merchant, norm_desc, amount and builtin.
    """
    amount = pl.col("amount").cast(pl.Float64)
    band = (amount.abs() + 0.01).log(2).round(0).clip(-1, 12).cast(pl.Int64)
    return rows.select(
        "user_id",
        pl.col("account").fill_null(""),
        pl.col("merchant").fill_null(""),
        "norm_desc",
        pl.col("builtin").fill_null(""),
        first_word=pl.col("norm_desc").str.extract(r"^(\S*)"),
        amount_band=band * 2 + (amount > 0).cast(pl.Int64),
    )


class Place(NamedTuple):
    """One row of `place_columns`, without a frame. Text that is missing is empty."""

    user_id: int
    account: str
    merchant: str
    norm_desc: str
    builtin: str
    first_word: str
    amount_band: int


def place_of(
    user_id: int, account: str | None, merchant: str | None, norm_desc: str, builtin: str | None, amount: Decimal
) -> Place:
    """Say the same of one row as `place_columns`."""
    number = float(amount)
    band = min(max(round(log2(abs(number) + 0.01)), -1), 12)
    return Place(
        user_id=user_id,
        account=account or "",
        merchant=merchant or "",
        norm_desc=norm_desc,
        builtin=builtin or "",
        first_word=norm_desc.partition(" ")[0],
        amount_band=band * 2 + (number > 0),
    )


def day_numbers(dates: pl.Series) -> NDArray[np.int64]:
    """Number days through the years."""
    return dates.to_physical().cast(pl.Int64).to_numpy()


def month_starts(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the first day of each day's month."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def count_weights(sample_weights: pl.Series) -> NDArray[np.float64]:
    """Say how many labels each label counts as."""
    return sample_weights.to_numpy() * LABELS_PER_WEIGHT


def gather_evidence(places: pl.DataFrame, as_of: NDArray[np.int64], known: KnownLabels) -> Evidence:
    """Count, for each row, the labels known before its moment at each of its places.

    Args:
        places: Of the rows, from `place_columns`.
        as_of: For each row the day before which labels are known to it.
        known: The labels.
    """
    steps = [(int(moment), np.flatnonzero(as_of == moment)) for moment in np.unique(as_of)]
    order = np.argsort(known.days, kind="stable")
    codes = _codes(places, known.places)
    found: list[tuple[NDArray[np.int64], int, NDArray[np.int64], NDArray[np.float64]]] = []
    for level, keys in enumerate(LEVELS.values()):
        code = codes["user_id"]
        for key in keys:
            code = code * (codes[key].max(initial=0) + 1) + codes[key]
        own, others = code[: as_of.size], code[as_of.size :][order]
        if "merchant" in keys:
            # Rows without a merchant have nothing in common.
            own = np.where(places["merchant"].to_numpy() == "", -1, own)
            others = np.where(known.places["merchant"].to_numpy()[order] == "", -2, others)
        counts = _LevelCounts(own, others, known, order)
        for row, life, label, count in counts.at(steps):
            found.append((row, level * len(HALF_LIVES) + life, label, count))
    if not found:
        return NO_EVIDENCE
    return Evidence(
        row=np.concatenate([row for row, _, _, _ in found]),
        slot=np.concatenate([np.full(row.size, slot) for row, slot, _, _ in found]),
        label=np.concatenate([label for _, _, label, _ in found]),
        count=np.concatenate([count for _, _, _, count in found]),
    )


def is_known_place(evidence: Evidence, rows: int) -> NDArray[np.bool_]:
    """Say of each row whether any label is known of its merchant or description."""
    known = np.zeros(rows, dtype=bool)
    known[evidence.row[evidence.slot >= _FIRST_PARTICULAR_SLOT]] = True
    return known


def evidence_values(
    evidence: Evidence, references: NDArray[np.floating], base_rates: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Say which weights apply to which counts, and what they are multiplied by.

    Args:
        evidence: Counts.
        references: Each row's probabilities without counts, shape (rows, categories).
        base_rates: How common categories are, shape (categories,).

    Returns:
        Index into the counts, index of the weight, 0 to PARAMETERS - 1, and value, which is not negative, each of shape
        (pieces,).
    """
    # General levels come first, and so do their entries.
    general = int(np.searchsorted(evidence.slot, _FIRST_PARTICULAR_SLOT))
    label = evidence.label
    reference = np.empty(label.size, dtype=np.float32)
    reference[:general] = (_STRENGTH_GENERAL * base_rates)[label[:general]]
    flat = evidence.row[general:] * base_rates.size + label[general:]
    reference[general:] = _STRENGTH_PARTICULAR * references.reshape(-1)[flat]
    count = evidence.count.astype(np.float32)
    first = np.log1p(np.minimum(count, np.float32(FIRST_LABELS)) / reference)
    many = np.flatnonzero(count > FIRST_LABELS)
    further = np.log1p(count[many] / reference[many]) - first[many]
    place = evidence.row * len(SLOTS) + evidence.slot
    total = np.bincount(place, evidence.count)[place]
    share = np.log((total + 1) / (total - evidence.count + 1)).astype(np.float32)
    parameter = evidence.slot * len(PIECES)
    entry = np.arange(label.size)
    return (
        np.concatenate([entry, many, entry]),
        np.concatenate([parameter, parameter[many] + 1, parameter + 2]),
        np.concatenate([first, further, share]),
    )


def _codes(places: pl.DataFrame, known: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Number the values of each column over both frames, from 0."""
    both = pl.concat([places.select(known.columns), known])
    return {name: _numbered(both.select(name)) for name in both.columns}


def _numbered(column: pl.DataFrame) -> NDArray[np.int64]:
    """Number values in the order in which they come, which is faster than ranking them."""
    values = column.unique(maintain_order=True).with_columns(number=pl.int_range(pl.len(), dtype=pl.Int64))
    found: NDArray[np.int64] = column.join(values, on=column.columns, how="left", maintain_order="left")[
        "number"
    ].to_numpy()
    return found


class _LevelCounts:
    """A level's counts of (place, category) pairs, replayed from moment to moment."""

    def __init__(
        self, rows: NDArray[np.int64], places: NDArray[np.int64], known: KnownLabels, order: NDArray[np.int64]
    ) -> None:
        """Keep the labels of places that some row asks for.

        Args:
            rows: Place of each row.
            places: Place of each label, in the order of days.
            known: The labels.
            order: That order.
        """
        asked_for, self._row_place = np.unique(rows, return_inverse=True)
        position = np.searchsorted(asked_for, places).clip(max=max(asked_for.size - 1, 0))
        is_asked_for = asked_for[position] == places if asked_for.size else np.zeros(places.size, dtype=bool)
        chosen = order[is_asked_for]
        self._counts, self._days = known.counts[chosen], known.days[chosen]
        labels = known.labels[chosen]
        width = int(labels.max(initial=0)) + 1
        pairs, self._pair = np.unique(position[is_asked_for] * width + labels, return_inverse=True)
        self._labels = pairs % width
        self._first = np.searchsorted(pairs // width, np.arange(asked_for.size + 1))

    def at(
        self, steps: Iterable[tuple[int, NDArray[np.int64]]]
    ) -> Iterator[tuple[NDArray[np.int64], int, NDArray[np.int64], NDArray[np.float64]]]:
        """Yield row, half-life, category and count of what is known to each step's rows."""
        state = np.zeros((len(HALF_LIVES), self._labels.size))
        done, clock = 0, 0
        for moment, rows in steps:
            upto = int(np.searchsorted(self._days, moment, side="left"))
            place = self._row_place[rows]
            width = self._first[place + 1] - self._first[place]
            ends = np.cumsum(width)
            entry = np.arange(width.sum()) + np.repeat(self._first[place] - ends + width, width)
            row = np.repeat(rows, width)
            for life, days in enumerate(HALF_LIVES.values()):
                arrived = self._counts[done:upto] * 0.5 ** ((moment - self._days[done:upto]) / days)
                state[life] *= 0.5 ** ((moment - clock) / days)
                state[life] += np.bincount(self._pair[done:upto], arrived, minlength=self._labels.size)
                count = state[life, entry]
                kept = count > LEAST_COUNT
                yield row[kept], life, self._labels[entry[kept]], count[kept]
            done, clock = upto, moment
