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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from app.ml.dataset import SAMPLE_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

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
SHARED_SCHEMA: Final = pl.Schema(
    {"merchant": pl.String(), "label": pl.String(), "users": pl.Int64(), "merchant_users": pl.Int64()}
)


@dataclass(frozen=True)
class LabelProfile:
    """How a user labels, over all of their labels: what changes slowly.

    Attributes:
        label_count: How many labels there are.
        base_rates: P(category) of each category in use.
        unused_rate: The same for each that is not.
        strengths: k of each level.
        builtin_counts: Counts of the level `builtin`, as `count_labels` gives them.
    """

    label_count: int
    base_rates: Mapping[str, float]
    unused_rate: float
    strengths: Mapping[str, float]
    builtin_counts: pl.DataFrame


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
        builtin_counts=count_labels(labels, "builtin"),
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


def rank_candidates(
    transactions: pl.DataFrame,
    profile: LabelProfile,
    counts: Mapping[str, pl.DataFrame],
    *,
    shared: pl.DataFrame | None = None,
    builtin_labels: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Give every category that anything speaks for at a transaction its probability.

    A transaction's own label is no evidence for itself: it is left out of the counts.

    Args:
        transactions: txn_id, merchant, norm_desc, account and builtin; and own_label and own_source, null where there
            is none.
        profile: How the user labels.
        counts: Counts of the MERCHANT_LEVELS as `count_labels` gives them, for at least the places where these
            transactions were.
        shared: What other users of the installation call the merchants, in SHARED_SCHEMA, of labels that this user
            has.
        builtin_labels: For a user of the shared categories, the category that each built-in key is.

    Returns:
        txn_id, label, probability, base (where the probability began, before any level), and for each level and
        `shared` how many of how many said so (`merchant_hits`, `merchant_total`, …) and their share by weight
        (`merchant_share`), null where nobody said anything; by transaction and falling probability. A transaction
        that nothing is known about has no row.
    """
    by_level = {**counts, "builtin": profile.builtin_counts}
    named = _named(builtin_labels or {})
    candidates = _candidates(transactions, by_level, shared, named)
    base = pl.DataFrame(
        {"label": list(profile.base_rates), "probability": list(profile.base_rates.values())},
        schema={"label": pl.String, "probability": pl.Float64},
    )
    ranked = (
        candidates.join(base, on="label", how="left")
        .join(named.rename({"label": "named"}), on="builtin", how="left")
        .with_columns(pl.col("probability").fill_null(profile.unused_rate))
        .with_columns(_believe_builtin(pl.col("probability")))
    )
    ranked = ranked.with_columns(base=pl.col("probability"))
    ranked = _shrink(ranked, profile.builtin_counts, "builtin", profile.strengths["builtin"])
    ranked = _shrink_shared(ranked, pl.DataFrame(schema=SHARED_SCHEMA) if shared is None else shared)
    for level in MERCHANT_LEVELS:
        ranked = _shrink(ranked, counts[level], level, profile.strengths[level])
    speaks_for_it = pl.any_horizontal(
        pl.col("named") == pl.col("label"), *(pl.col(f"{level}_hits") > 0 for level in (*LEVEL_KEYS, "shared"))
    )
    evidence = [f"{level}_{figure}" for level in (*LEVEL_KEYS, "shared") for figure in ("hits", "total", "share")]
    # Without its own label, a transaction may have nothing left that speaks for a candidate.
    return (
        ranked.filter(speaks_for_it.fill_null(value=False))
        .select("txn_id", "label", "probability", "base", *evidence)
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


def _named(builtin_labels: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"builtin": list(builtin_labels), "label": list(builtin_labels.values())},
        schema={"builtin": pl.String, "label": pl.String},
    )


def _candidates(
    transactions: pl.DataFrame, by_level: Mapping[str, pl.DataFrame], shared: pl.DataFrame | None, named: pl.DataFrame
) -> pl.DataFrame:
    """Pair each transaction with every category that some level knows at its place."""
    sources = [(LEVEL_KEYS[level], counts) for level, counts in by_level.items()]
    sources.append((("builtin",), named))
    if shared is not None:
        sources.append((("merchant",), shared))
    pairs = [
        transactions.select("txn_id", *keys).join(known.select(*keys, "label"), on=keys).select("txn_id", "label")
        for keys, known in sources
    ]
    return pl.concat(pairs).unique().join(transactions, on="txn_id")


def _believe_builtin(before: pl.Expr) -> pl.Expr:
    """Let the category that a built-in key is have its share of belief, and the others divide the rest as before."""
    share = pl.when(pl.col("named") == pl.col("label")).then(BUILTIN_TRUST).otherwise(0.0)
    return pl.when(pl.col("named").is_null()).then(before).otherwise(share + (1 - BUILTIN_TRUST) * before)


def _shrink(ranked: pl.DataFrame, counts: pl.DataFrame, level: str, strength: float) -> pl.DataFrame:
    """Take a level's counts in: P becomes (n_c + k P) / (n + k)."""
    keys = list(LEVEL_KEYS[level])
    totals = counts.group_by(keys).agg(pl.col("labels").sum().alias("total"), pl.col("weight").sum().alias("of_weight"))
    own_weight = pl.col("own_source").replace_strict(SAMPLE_WEIGHTS, default=0.0, return_dtype=pl.Float64).fill_null(0)
    is_own = pl.col("own_label").is_not_null()
    is_own_label = (pl.col("own_label") == pl.col("label")).fill_null(value=False)
    hits = (pl.col("labels").fill_null(0) - is_own_label.cast(pl.Int64)).clip(0)
    weight = (pl.col("weight").fill_null(0) - pl.when(is_own_label).then(own_weight).otherwise(0)).clip(0)
    total = (pl.col("total").fill_null(0) - is_own.cast(pl.Int64)).clip(0)
    of_weight = (pl.col("of_weight").fill_null(0) - own_weight).clip(0)
    return (
        ranked.join(totals, on=keys, how="left")
        .join(counts, on=[*keys, "label"], how="left")
        .with_columns(hits=hits, total=total, share=weight / of_weight)
        .with_columns(
            probability=pl.when(pl.col("total") > 0)
            .then((pl.col("total") * pl.col("share") + strength * pl.col("probability")) / (pl.col("total") + strength))
            .otherwise(pl.col("probability")),
        )
        .with_columns(
            pl.when(pl.col("total") > 0).then(pl.col(figure)).cast(pl.Float64).alias(f"{level}_{figure}")
            for figure in ("hits", "total", "share")
        )
        .drop("labels", "weight", "hits", "share", "total", "of_weight")
    )


def _shrink_shared(ranked: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    """Take in what users of the installation call the merchant, each of them counted once."""
    merchants = shared.select("merchant", "merchant_users").unique()
    hits, total = pl.col("users").fill_null(0), pl.col("merchant_users")
    return (
        ranked.join(merchants, on="merchant", how="left")
        .join(shared.select("merchant", "label", "users"), on=["merchant", "label"], how="left")
        .with_columns(
            probability=pl.when(total > 0)
            .then((hits + SHARED_STRENGTH * pl.col("probability")) / (total + SHARED_STRENGTH))
            .otherwise(pl.col("probability")),
            shared_hits=pl.when(total > 0).then(hits).cast(pl.Float64),
            shared_total=total.cast(pl.Float64),
            shared_share=pl.when(total > 0).then(hits / total),
        )
        .drop("users", "merchant_users")
    )
