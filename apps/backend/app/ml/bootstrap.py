"""How far chance could have moved a score: resampling of whole merchants, and two systems on the same rows.

Rows are not independent. A merchant's string comes back every week, and a model that has it wrong has it wrong every
time, so a test set of 14,000 rows holds the evidence of its few thousand strings, and drawing rows would give intervals
that are too narrow. What is drawn with replacement here is therefore all rows of a string at once, whatever store
number or reference it carries: the bootstrap of clusters (Field and Welsh 2007; Cameron, Gelbach and Miller 2008), read
off by percentiles (Efron and Tibshirani 1993). On two councils' card payments the interval of accuracy is five and nine
times as wide as from drawing rows, and two and three times as wide as from drawing months of accounts. What one string
tells of another, as when a month is unusual as a whole, it does not see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.ml.features import fold, fold_beyond_ascii, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

RESAMPLES: Final = 1_000
# Two-sided, of every interval.
LEVEL: Final = 0.95
_NORMAL_QUANTILE: Final = 1.959964

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A score, and the bounds of its interval of LEVEL.

    Attributes:
        value: The score over the rows as they are.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


class Block(NamedTuple):
    """Sums of one kind: row i adds `values[i]` to the sum with the number `codes[i]`.

    Attributes:
        codes: (rows,), from 0 to below size.
        size: How many sums.
        values: (rows,).
    """

    codes: Codes
    size: int
    values: Floats


@dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same rows; differences are ours minus theirs.

    Attributes:
        rows: How many rows.
        accuracy: Difference of accuracy.
        f1_macro: Difference of macro-F1, each over the categories that are true or predicted by that system.
        only_ours_right: Rows that only we have right.
        only_theirs_right: Rows that only they have right.
        mcnemar_p: Two-sided p of McNemar's exact test that both are right equally often. It takes rows to be
            independent, which they are not: read the interval first.
    """

    rows: int
    accuracy: Interval
    f1_macro: Interval
    only_ours_right: int
    only_theirs_right: int
    mcnemar_p: float


def compare_paired(
    ours: pl.DataFrame, theirs: pl.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES
) -> PairedComparison:
    """Compare two systems that predicted the same transactions.

    Every resample draws the same strings for both, so what is hard for both does not widen the intervals (the paired
    bootstrap of Koehn 2004, over clusters).

    Args:
        ours: txn_id, description, truth and predicted, in any order of rows; further columns are ignored.
        theirs: txn_id, truth and predicted of the same transactions.
        seed: The same seed gives the same intervals.
        resamples: How many times strings are drawn.

    Raises:
        ValueError: The two are not of the same transactions with the same truths, or there are none.
    """
    pairs = ours.select("txn_id", "description", "truth", ours="predicted").join(
        theirs.select("txn_id", "truth", theirs="predicted"), on=["txn_id", "truth"], validate="1:1"
    )
    if not pairs.height or not pairs.height == ours.height == theirs.height:
        raise ValueError("both systems must have predicted the same transactions, each with the same truth")
    pairs = pairs.with_columns(
        ours_right=pl.col("ours") == pl.col("truth"), theirs_right=pl.col("theirs") == pl.col("truth")
    )
    labels = pl.concat([pairs["truth"], pairs["ours"], pairs["theirs"]]).unique().sort()
    truth = codes_of(pairs["truth"], labels)
    every = np.ones(pairs.height)
    blocks = {"rows": total(every), "true": Block(truth, labels.len(), every)}
    for system in ("ours", "theirs"):
        right = pairs[f"{system}_right"].cast(pl.Float64).to_numpy()
        blocks |= {
            f"{system}_right": total(right),
            f"{system}_hits": Block(truth, labels.len(), right),
            f"{system}_said": Block(codes_of(pairs[system], labels), labels.len(), every),
        }
    sums = resample_sums(string_clusters(pairs["description"]), blocks, seed=seed, resamples=resamples)
    accuracy = (sums["ours_right"] - sums["theirs_right"])[:, 0] / sums["rows"][:, 0]
    f1 = {
        system: f1_macro(sums[f"{system}_hits"], sums["true"], sums[f"{system}_said"]) for system in ("ours", "theirs")
    }
    only_ours = int(pairs.select((pl.col("ours_right") & ~pl.col("theirs_right")).sum()).item())
    only_theirs = int(pairs.select((~pl.col("ours_right") & pl.col("theirs_right")).sum()).item())
    return PairedComparison(
        rows=pairs.height,
        accuracy=percentile_interval(accuracy),
        f1_macro=percentile_interval(f1["ours"] - f1["theirs"]),
        only_ours_right=only_ours,
        only_theirs_right=only_theirs,
        mcnemar_p=mcnemar_exact(only_ours, only_theirs),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test (McNemar 1947): a fair coin for each row that differs.

    Args:
        only_first: Rows that only the first has right.
        only_second: Rows that only the second has right.
    """
    differing = only_first + only_second
    ways = tail = 1
    for count in range(min(only_first, only_second)):
        # From one binomial coefficient to the next; whole numbers neither overflow nor vanish.
        ways = ways * (differing - count) // (count + 1)
        tail += ways
    return min(1.0, float(Fraction(2 * tail, 2**differing)))


def string_clusters(descriptions: pl.Series) -> Codes:
    """Number the strings that rows have, (rows,) from 0; store numbers and references make no difference."""
    folded = fold_beyond_ascii(descriptions.fill_null("")).alias("folded").to_frame()
    return folded.select(normalise(fold(pl.col("folded"))).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()


def codes_of(values: pl.Series, known: pl.Series) -> Codes:
    """Number values by their place in `known`, which holds all of them once."""
    return values.replace_strict(known, pl.int_range(known.len(), eager=True), return_dtype=pl.Int64).to_numpy()


def total(values: Floats) -> Block:
    """Make the block of a plain sum over all rows."""
    return Block(np.zeros(values.size, dtype=np.int64), 1, values)


def resample_sums(
    clusters: Codes, blocks: Mapping[str, Block], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Floats]:
    """Sum rows as they are, and again for each time that clusters are drawn with replacement.

    Any score that is made of sums follows from the result for all resamples at once.

    Args:
        clusters: (rows,), which cluster each row is of, numbered from 0 without gaps.
        blocks: What to sum.
        seed: The same seed gives the same draws.
        resamples: How many times clusters are drawn.

    Returns:
        For each block (1 + resamples, size): first the sums of the rows as they are.
    """
    count = int(clusters.max()) + 1
    size = sum(block.size for block in blocks.values())
    starts = np.cumsum([0, *(block.size for block in blocks.values())])
    numbers = np.concatenate([start + block.codes for start, block in zip(starts[:-1], blocks.values(), strict=True)])
    values = np.concatenate([block.values for block in blocks.values()])
    # Each cluster adds to each sum once, however many rows it has.
    cells, places = np.unique(numbers * count + np.tile(clusters, len(blocks)), return_inverse=True)
    values = np.bincount(places, weights=values)
    numbers, owners = np.divmod(cells[values != 0], count)
    values = values[values != 0]
    generator = np.random.default_rng(seed)
    sums = np.empty((1 + resamples, size))
    sums[0] = np.bincount(numbers, weights=values, minlength=size)
    for row in range(1, 1 + resamples):
        draws = np.bincount(generator.integers(count, size=count), minlength=count)
        sums[row] = np.bincount(numbers, weights=values * draws[owners], minlength=size)
    return {
        name: sums[:, start : start + block.size]
        for start, (name, block) in zip(starts[:-1], blocks.items(), strict=True)
    }


def f1_by_class(hits: Floats, true: Floats, said: Floats) -> Floats:
    """Return F1 for counts of any one shape; NaN where a category is neither true nor predicted."""
    return ratio(2 * hits, true + said)


def f1_macro(hits: Floats, true: Floats, said: Floats) -> Floats:
    """Return the mean of F1 over the last axis, over the categories that are true or predicted in the resample."""
    scores: Floats = np.nanmean(f1_by_class(hits, true, said), axis=-1)
    return scores


def ratio(numerators: Floats, denominators: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(numerators, denominators, out=np.full_like(denominators, np.nan), where=denominators > 0)


def percentile_interval(scores: Floats) -> Interval:
    """Read an interval off a score's resamples.

    Args:
        scores: (1 + resamples,), first the score itself; NaN where a resample does not define it.
    """
    low, high = np.nanquantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(scores[0]), float(low), float(high))


def share_interval(hits: Floats, rows: Floats) -> Interval:
    """Read the interval of a share off its resamples.

    Where all rows or none are hits, every resample says the same and the percentiles meet. The interval is therefore
    never narrower than Wilson's (1927), which holds for independent rows.

    Args:
        hits: (1 + resamples,), sums of rows that count.
        rows: (1 + resamples,), sums of rows; the first is not 0.
    """
    drawn = percentile_interval(ratio(hits, rows))
    share, spread = drawn.value, _NORMAL_QUANTILE**2 / float(rows[0])
    middle = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return Interval(share, max(0.0, min(drawn.low, middle - reach)), min(1.0, max(drawn.high, middle + reach)))
