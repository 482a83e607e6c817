"""Postings of what is bought from day to day: which shop, when, for how much, and what comes back as a refund."""

from __future__ import annotations

import numpy as np
import polars as pl

from app.services.sample.draws import Draws, IntArray, zipf_weights
from app.services.sample.household_plan import Form
from app.services.sample.merchants import (
    FIRST_WORDS,
    HABITS,
    PROCESSORS,
    SECOND_WORDS,
    SHOPS,
    TOWNS,
    Habit,
    Style,
)
from app.services.sample.period import Period, month_of_year

ACCOUNTS_TO_SPEND = ("current", "joint", "card")

_HOUSEHOLDS_PER_TOWN = 4
_LOCALS = 24  # shops of one category in one town
_ONE_OFF_PER_MILLE = 60  # purchases in a shop that is never seen again: merchants grow with the ledger
_AWAY_PER_MILLE = 80
_TWIN_PER_MILLE = 60
_REFUND_PER_MILLE = 60
_INFLATION_PER_MILLE = 3  # a month
_TWIN_BELOW = 900  # pence
_REFUND_ABOVE = 1500  # pence
_REFUNDS_FROM, _REFUNDS_FOR = 9 * 3600, 8 * 3600  # seconds: office hours


def draw_purchases(draws: Draws, period: Period, households: int, count: int) -> pl.DataFrame:
    """About `count` purchases, twins and refunds; columns as `statements.POSTING_SCHEMA`."""
    bought = pl.concat(
        [
            _purchases_in(draws, period, households, category, count * habit.share // 1000)
            for category, habit in HABITS.items()
        ]
    )
    return pl.concat([bought, _twins(draws, bought), _refunds(draws, period, bought)])


def _purchases_in(draws: Draws, period: Period, households: int, category: str, count: int) -> pl.DataFrame:
    habit = HABITS[category]
    household = draws.below(households, count)
    day = draws.weighted(_day_weights(period, habit), count)
    span = habit.hours * 1800
    second = habit.opens * 3600 + draws.below(span, count) + draws.below(span, count)
    chains = _chains(category)
    locals_ = _town_shops(draws, period, habit, (households - 1) // _HOUSEHOLDS_PER_TOWN + 1)
    one_off = np.flatnonzero(draws.happens(_ONE_OFF_PER_MILLE, count))
    strangers = _one_off_shops(draws, habit, len(one_off))
    shop = _choose_shops(draws, chains, locals_, household, day)
    shop[one_off] = len(chains) + len(locals_) + np.arange(len(one_off))
    town = household // _HOUSEHOLDS_PER_TOWN
    town[one_off] = draws.below(len(TOWNS), len(one_off))
    shops = pl.concat([chains, locals_, strangers])
    chosen = shops[shop]
    numbered = (chosen["style"] == Style.NUMBERED).to_numpy()
    away = draws.happens(_AWAY_PER_MILLE, count) & numbered
    town = np.where(away, draws.below(len(TOWNS), count), town) % len(TOWNS)
    branch = draws.weighted(np.array([6, 3, 1]), count)
    pence = _prices(draws, habit, chosen["pence"].to_numpy(), day)
    account = draws.weighted(np.array(habit.accounts), count)
    return chosen.with_columns(
        household=household,
        account=pl.Series(ACCOUNTS_TO_SPEND)[account],
        day=day,
        second=second,
        pence=-pence,
        form=pl.lit(Form.CASH.value if category == "Cash" else Form.CARD.value),
        category=pl.lit(category),
        town=pl.Series(TOWNS)[town],
        store=1000 + (chosen["number"].to_numpy() * 7919 + town * 104_729 + branch * 3571 + 1617) % 9000,
        code=pl.Series(draws.codes(count), dtype=pl.String),
        phone=3_531_400_000 + draws.below(1_000_000, count),
    ).select(
        "household",
        "account",
        "day",
        "second",
        "pence",
        "form",
        "category",
        "mcc",
        _trader().alias("trader"),
        _tail().alias("tail"),
    )


def _day_weights(period: Period, habit: Habit) -> IntArray:
    weekday = np.where(np.is_busday(period.days), 100, habit.weekend)
    return np.array(habit.months)[month_of_year(period.days) - 1] * weekday


def _prices(draws: Draws, habit: Habit, typical: IntArray, day: IntArray) -> IntArray:
    """Pence, around what is typical of the shop, dearer from month to month, and as shops round them."""
    pence = draws.skewed(typical * (1000 + _INFLATION_PER_MILLE * (day // 30)) // 1000)
    steps = (pence + habit.price_step - 1) // habit.price_step
    return steps * habit.price_step - habit.price_less


def _chains(category: str) -> pl.DataFrame:
    """The chains that sell something of a category.

    Columns: name, style, processor, number, mcc, pence (typical), opens (day number; 0 for always there).
    """
    selling = [(shop, offer) for shop in SHOPS for offer in shop.offers if offer.category == category]
    return pl.DataFrame(
        {
            "name": [shop.name for shop, _ in selling],
            "style": [shop.style.value for shop, _ in selling],
            "processor": [PROCESSORS[0]] * len(selling),
            "number": [SHOPS.index(shop) for shop, _ in selling],
            "mcc": [offer.mcc for _, offer in selling],
            "pence": [offer.pence for _, offer in selling],
            "opens": [0] * len(selling),
        }
    )


def _town_shops(draws: Draws, period: Period, habit: Habit, towns: int) -> pl.DataFrame:
    """`_LOCALS` small shops in each town, half of which open on some day of the period."""
    count = towns * _LOCALS
    opens = np.where(draws.happens(500, count), 0, draws.below(len(period.days), count))
    # Each category starts elsewhere in the space of names, or one name would stand in every category.
    numbers = draws.below(1 << 20, 1) + np.arange(count)
    return _small_shops(draws, habit, numbers, opens)


def _one_off_shops(draws: Draws, habit: Habit, count: int) -> pl.DataFrame:
    numbers = draws.below(len(FIRST_WORDS) * len(SECOND_WORDS) * 2 * len(habit.local_kinds), count)
    return _small_shops(draws, habit, numbers, np.zeros(count, dtype=np.int64))


def _small_shops(draws: Draws, habit: Habit, numbers: IntArray, opens: IntArray) -> pl.DataFrame:
    """Invented shops; a third of the names do not say what is sold there."""
    kinds = habit.local_kinds + ("",) * (len(habit.local_kinds) // 2)
    # A large prime spreads neighbours over the whole space of names without a collision.
    scattered = numbers * 1_000_003 % (len(FIRST_WORDS) * len(SECOND_WORDS) * len(kinds))
    first, rest = scattered % len(FIRST_WORDS), scattered // len(FIRST_WORDS)
    second, kind = rest % len(SECOND_WORDS), rest // len(SECOND_WORDS)
    processor = draws.weighted(np.array(habit.processors), len(numbers))
    words = {"first": (FIRST_WORDS, first), "second": (SECOND_WORDS, second), "kind": (kinds, kind)}
    return pl.DataFrame(
        {key: pl.Series(values, dtype=pl.String)[index] for key, (values, index) in words.items()}
    ).select(
        pl.concat_str("first", "second", "kind", separator=" ").str.strip_chars_end().alias("name"),
        pl.lit(Style.PLAIN.value).alias("style"),
        pl.Series("processor", PROCESSORS)[processor],
        pl.Series("number", numbers),
        pl.Series("mcc", habit.local_mccs)[draws.below(len(habit.local_mccs), len(numbers))],
        pl.Series("pence", draws.skewed(np.full(len(numbers), habit.local_pence))),
        pl.Series("opens", opens),
    )


def _choose_shops(
    draws: Draws, chains: pl.DataFrame, locals_: pl.DataFrame, household: IntArray, day: IntArray
) -> IntArray:
    """Row numbers in chains and locals: Zipf over each household's own ranking of chains and its town's shops."""
    households = len(locals_) // _LOCALS * _HOUSEHOLDS_PER_TOWN
    slots = len(chains) + _LOCALS
    liking = draws.below(1 << 20, (households, slots))
    liking[:, : len(chains)] //= 2  # chains stand in better places
    ranking = np.argsort(liking, axis=1, kind="stable")
    town = np.arange(households)[:, None] // _HOUSEHOLDS_PER_TOWN
    ranking = np.where(ranking < len(chains), ranking, ranking + town * _LOCALS)

    # Where a shop has not opened yet, the household goes to the next better one that was always there.
    opens = np.concatenate([chains["opens"].to_numpy(), locals_["opens"].to_numpy()])
    always_there = np.where(opens[ranking] == 0, np.arange(slots), 0)
    instead = np.take_along_axis(ranking, np.maximum.accumulate(always_there, axis=1), axis=1)
    instead[opens[instead] > 0] = 0
    rank = draws.weighted(zipf_weights(slots), len(household))
    wanted = ranking[household, rank]
    return np.where(opens[wanted] <= day, wanted, instead[household, rank])


def _trader() -> pl.Expr:
    """The shop as its till, its processor or its marketplace spells it."""
    marketplace = pl.when(pl.col("store") % 3 == 0).then(pl.lit("Amazon.co.uk*")).otherwise(pl.lit("AMZN Mktp UK*"))
    run_together = pl.col("name").str.replace_all(" ", "", literal=True).str.to_uppercase()
    return (
        pl.when(style=Style.MARKETPLACE.value)
        .then(marketplace + pl.col("code"))
        .when(style=Style.NUMBERED.value)
        .then(pl.format("{} {}", "name", "store"))
        .when(processor="PAYPAL *")
        .then(pl.col("processor") + run_together)
        .otherwise(pl.col("processor") + pl.col("name"))
    )


def _tail() -> pl.Expr:
    """Town and country, or what stands in their place when the shop has no counter."""
    return (
        pl.when(style=Style.MARKETPLACE.value)
        .then(pl.lit("LU"))
        .when(style=Style.ONLINE.value)
        .then(pl.lit("Internet GB"))
        .when(processor="PAYPAL *")
        .then(pl.format("{} GB", "phone"))
        .otherwise(pl.format("{} GB", "town"))
    )


def _twins(draws: Draws, bought: pl.DataFrame) -> pl.DataFrame:
    """A second coffee like the first, or the ticket back: the same shop, day and price, a little later."""
    cheap = bought.filter(pl.col("category").is_in(["Eating out", "Transport"]) & (pl.col("pence") > -_TWIN_BELOW))
    twins = cheap.filter(draws.happens(_TWIN_PER_MILLE, len(cheap)))
    return twins.with_columns(pl.col("second") + 60 + draws.below(1200, len(twins)))


def _refunds(draws: Draws, period: Period, bought: pl.DataFrame) -> pl.DataFrame:
    """The price comes back days later, from the same shop to the same account."""
    returnable = bought.filter(
        pl.col("category").is_in(["Shopping", "Children", "Travel"]) & (pl.col("pence") < -_REFUND_ABOVE)
    )
    refunds = returnable.filter(draws.happens(_REFUND_PER_MILLE, len(returnable)))
    return refunds.with_columns(
        pl.col("day") + 2 + draws.below(20, len(refunds)),
        second=_REFUNDS_FROM + draws.below(_REFUNDS_FOR, len(refunds)),
        pence=-pl.col("pence"),
        form=pl.lit(Form.REFUND.value),
    ).filter(pl.col("day") < len(period.days))
