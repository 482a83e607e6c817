"""What a transaction probably is, from counts of labels alone, and how sure that is.

Evidence comes in levels, from the general to the particular: how often a category is used at all, what built-in
knowledge says of such a payment, what users of this installation call the merchant, what this user calls the merchant,
what this user called the very same description, and that on the same account. Each level shrinks towards the one
before it:

    P_l(c) = (n_lc + k_l * P_{l-1}(c)) / (n_l + k_l)

n_lc of the n_l labels at a level are c: labels are counted, and shared out between the categories by the weights of
their sources, for three times the weight is not three times the evidence. It is the predictive mean of a Dirichlet
prior whose own mean is the level before (hierarchical Dirichlet back-off: MacKay and Peto 1995; Teh 2006).

The strength k_l is not chosen but estimated from the user's labels, which is what makes the probabilities mean
something. Two labels at one place of a level agree with probability (1 + k * C) / (1 + k), where C is the probability
that two labels agree which share the place of the level before and not this one. So the agreement A that is seen gives
k = (1 - A) / (A - C), the moment estimator of a Dirichlet distribution's precision (Mosimann 1962). Somebody who labels
a merchant the same way every time is believed after one label; somebody who does not is asked for more, and an account
tells something only where accounts differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl

from app.ml.dataset import SAMPLE_WEIGHTS

# The levels at which a user's own labels are counted, with the columns that name a place there. From the merchant on
# each place lies within one of the level before.
LEVEL_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "builtin": ("builtin",),
    "merchant": ("merchant",),
    "description": ("merchant", "norm_desc"),
    "account": ("merchant", "norm_desc", "account"),
}
# The levels whose counts depend on the merchants that are asked about.
MERCHANT_LEVELS: Final = ("merchant", "description", "account")
# Those that speak for a category, from the general to the particular; `shared` are the installation's other users.
LEVELS: Final = ("builtin", "shared", *MERCHANT_LEVELS)
_WITHIN: Final = {"description": "merchant", "account": "description"}
# Users who agree about a merchant are no labels of one's own: each other user counts as one label at this strength.
SHARED_STRENGTH: Final = 1.0
# How often built-in knowledge is right for somebody who uses the shared categories, until their labels tell.
BUILTIN_TRUST: Final = 0.85

# Below this the heuristics rather say nothing, unless the user asks for another confidence.
OWN_THRESHOLD: Final = 0.80

# Categories that the room for those not in use yet is divided between.
UNUSED_CATEGORIES: Final = 20

# Agreement is estimated as if this many labels had been seen to agree this often before the first real one.
_AGREEMENT_LABELS: Final = 20.0
_USUAL_AGREEMENT: Final = 0.9
_MOST_STRENGTH: Final = 100.0

LABEL_SCHEMA: Final = pl.Schema(
    {
        "merchant": pl.String(),
        "norm_desc": pl.String(),
        "account": pl.String(),
        "builtin": pl.String(),
        "label": pl.String(),
        "label_source": pl.String(),
        "labels": pl.Int64(),
    }
)


class Counted(NamedTuple):
    """Labels of one category at one place: how many, and the sum of their sources' weights."""

    labels: int
    weight: float


_NOT_ONE: Final = Counted(0, 0.0)

PlaceCounts = Mapping[str, Counted]
"""Labels at one place, by category."""


@dataclass(frozen=True)
class LabelProfile:
    """How a user labels, over all of their labels: what changes slowly.

    Attributes:
        label_count: How many labels there are.
        base_rates: P(category) of each category in use.
        unused_rate: The same for each that is not.
        strengths: k of each level.
        builtin_counts: Labels of the level `builtin`, by its key.
    """

    label_count: int
    base_rates: Mapping[str, float]
    unused_rate: float
    strengths: Mapping[str, float]
    builtin_counts: Mapping[str, PlaceCounts]


class Share(NamedTuple):
    """How many of how many labels at a place of a level said so, and their share by weight."""

    hits: int
    total: int
    share: float


@dataclass(frozen=True)
class RankedLabel:
    """A category that something speaks for.

    Attributes:
        probability: That it is right.
        base: Where the probability began, before any level.
        levels: What the levels said that said anything, in their order; `shared` is one of them.
    """

    label: str
    probability: float
    base: float
    levels: Mapping[str, Share]


def fit_profile(labels: pl.DataFrame) -> LabelProfile:
    """Learn how a user labels.

    Args:
        labels: All labels of the user in LABEL_SCHEMA.
    """
    weights = labels.group_by("label").agg(weight=_weight().sum())
    denominator = float(weights["weight"].sum()) + weights.height + 1
    base_rates = {label: (weight + 1) / denominator for label, weight in weights.sort("label").iter_rows()}
    chance = sum(rate**2 for rate in base_rates.values())
    return LabelProfile(
        label_count=int(labels["labels"].sum()),
        base_rates=base_rates,
        unused_rate=1 / denominator / UNUSED_CATEGORIES,
        strengths={level: _strength(labels, level, chance) for level in LEVEL_KEYS},
        builtin_counts={key[0]: counts for key, counts in places_of(count_labels(labels, "builtin")).items()},
    )


def count_labels(labels: pl.DataFrame, level: str) -> pl.DataFrame:
    """Count labels by place and category.

    Args:
        labels: In LABEL_SCHEMA: each row is so many equal `labels`.
        level: One of LEVEL_KEYS.

    Returns:
        The level's keys, label, labels (how many) and weight (the sum of their sources' weights).
    """
    keys = LEVEL_KEYS[level]
    return (
        labels.filter(*(pl.col(key).is_not_null() for key in keys))
        .group_by(*keys, "label")
        .agg(pl.col("labels").sum(), _weight().sum().alias("weight"))
    )


def places_of(counts: pl.DataFrame) -> dict[tuple[str, ...], dict[str, Counted]]:
    """Bring what `count_labels` gives to labels by place."""
    places: dict[tuple[str, ...], dict[str, Counted]] = defaultdict(dict)
    for *key, label, labels, weight in counts.iter_rows():
        places[tuple(key)][label] = Counted(labels, weight)
    return places


def leave_out(counts: PlaceCounts, label: str | None, weight: float) -> PlaceCounts:
    """Give the labels at a place without one of them, which is no evidence for itself."""
    if label is None or label not in counts:
        return counts
    others = {name: counted for name, counted in counts.items() if name != label}
    kept = counts[label]
    if kept.labels > 1:
        others[label] = Counted(kept.labels - 1, max(kept.weight - weight, 0.0))
    return others


def rank_labels(
    profile: LabelProfile,
    counts: Mapping[str, PlaceCounts],
    *,
    shared: Mapping[str, int] | None = None,
    shared_total: int = 0,
    named: str | None = None,
) -> list[RankedLabel]:
    """Give every category that anything speaks for at a transaction its probability.

    Args:
        profile: How the user labels.
        counts: Labels at the transaction's place of each level of LEVEL_KEYS, without its own.
        shared: How many users of the installation call the merchant what, of categories that this user has.
        shared_total: How many users call it anything.
        named: For a user of the shared categories, the category that the transaction's built-in key is.

    Returns:
        By falling probability. Where nothing is known there is none.
    """
    shared = shared or {}
    totals = {
        level: (sum(each.labels for each in here.values()), sum(each.weight for each in here.values()))
        for level, here in counts.items()
    }
    found = []
    for label in {*shared, *([named] if named else []), *(label for here in counts.values() for label in here)}:
        base = profile.base_rates.get(label, profile.unused_rate)
        if named is not None:
            # The category that a built-in key is has its share of belief; the others divide the rest as before.
            base = (BUILTIN_TRUST if label == named else 0.0) + (1 - BUILTIN_TRUST) * base
        levels = {}
        for level in LEVELS:
            if level == "shared":
                if shared_total:
                    hits = shared.get(label, 0)
                    levels[level] = Share(hits, shared_total, hits / shared_total)
            elif totals[level][0]:
                here, (total, weight) = counts[level].get(label, _NOT_ONE), totals[level]
                levels[level] = Share(here.labels, total, here.weight / weight)
        if label == named or any(each.hits for each in levels.values()):
            found.append(RankedLabel(label, shrink(base, levels, profile.strengths), base, levels))
    return sorted(found, key=lambda ranked: (-ranked.probability, ranked.label))


def shrink(base: float, levels: Mapping[str, Share], strengths: Mapping[str, float]) -> float:
    """Take the levels' counts in, one after the other: P becomes (n_c + k P) / (n + k).

    Args:
        base: Where the probability begins.
        levels: What each level said, in their order.
        strengths: k of each level.
    """
    probability = base
    for level, (_, total, share) in levels.items():
        strength = SHARED_STRENGTH if level == "shared" else strengths[level]
        probability = (total * share + strength * probability) / (total + strength)
    return probability


def rank_candidates(
    transactions: pl.DataFrame, profile: LabelProfile, counts: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """Rank the categories of many transactions from one user's labels alone; places that are alike are ranked once.

    Args:
        transactions: txn_id, merchant, norm_desc, account and builtin.
        profile: How the user labels.
        counts: Counts of the MERCHANT_LEVELS as `count_labels` gives them, for at least the places where these
            transactions were.

    Returns:
        txn_id, label and probability, by transaction and falling probability. A transaction that nothing is known
        about has no row.
    """
    places = {level: places_of(counts[level]) for level in MERCHANT_LEVELS}
    keys = ["merchant", "norm_desc", "account", "builtin"]
    distinct = transactions.select(keys).unique(maintain_order=True)
    rows = []
    for place in distinct.iter_rows():
        row = dict(zip(keys, place, strict=True))
        here: dict[str, PlaceCounts] = {
            level: places[level].get(tuple(row[key] for key in LEVEL_KEYS[level]), {}) for level in MERCHANT_LEVELS
        }
        here["builtin"] = profile.builtin_counts.get(row["builtin"], {})
        rows += [(*place, ranked.label, ranked.probability) for ranked in rank_labels(profile, here)]
    schema = dict.fromkeys([*keys, "label"], pl.String()) | {"probability": pl.Float64()}
    ranked = pl.DataFrame(rows, schema=schema, orient="row")
    return (
        transactions.select("txn_id", *keys)
        .join(ranked, on=keys, nulls_equal=True)
        .select("txn_id", "label", "probability")
        .sort("txn_id", "probability", "label", descending=[False, True, False])
    )


def _weight() -> pl.Expr:
    return pl.col("labels") * pl.col("label_source").replace_strict(SAMPLE_WEIGHTS, return_dtype=pl.Float64)


def _strength(labels: pl.DataFrame, level: str, chance: float) -> float:
    """Estimate how little a place says about its next label: k, in labels."""
    places = _agreeing_pairs(labels, level)
    together = places.filter(pl.col("total") > 1)
    # The share of agreeing pairs, each place with as much to say as it has labels.
    share = together.select((pl.col("agreeing") / (pl.col("total") - 1)).sum()).item()
    seen = float(together["total"].sum())
    agreement = (float(share) + _AGREEMENT_LABELS * _USUAL_AGREEMENT) / (seen + _AGREEMENT_LABELS)
    if level in _WITHIN:
        chance = _agreement_across(places, _agreeing_pairs(labels, _WITHIN[level]), _WITHIN[level], chance)
    if agreement - chance <= (1 - agreement) / _MOST_STRENGTH:
        return _MOST_STRENGTH
    return float((1 - agreement) / (agreement - chance))


def _agreeing_pairs(labels: pl.DataFrame, level: str) -> pl.DataFrame:
    """Count the labels of each place of a level, and their ordered pairs that agree."""
    count = pl.col("labels")
    return (
        count_labels(labels, level)
        .group_by(*LEVEL_KEYS[level])
        .agg(total=count.sum(), agreeing=(count * (count - 1)).sum())
    )


def _agreement_across(places: pl.DataFrame, wider: pl.DataFrame, within: str, otherwise: float) -> float:
    """Give the probability that two labels agree that share the wider place but not the narrower."""
    keys = list(LEVEL_KEYS[within])
    inside = places.group_by(keys).agg(
        agreeing_inside=pl.col("agreeing").sum(), pairs_inside=(pl.col("total") * (pl.col("total") - 1)).sum()
    )
    pairs = pl.col("total") * (pl.col("total") - 1) - pl.col("pairs_inside")
    across = (
        wider.join(inside, on=keys)
        .with_columns(pairs=pairs, agreeing=pl.col("agreeing") - pl.col("agreeing_inside"))
        .filter(pl.col("pairs") > 0)
    )
    weighted = (pl.col("agreeing") / pl.col("pairs") * pl.col("total")).sum() / pl.col("total").sum()
    # Without a place that has narrower ones there is nothing to compare with.
    return float(across.select(weighted).item()) if across.height else otherwise
