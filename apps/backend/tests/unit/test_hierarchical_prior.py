"""The counts behind every suggestion: levels that shrink towards each other, and strengths learnt from the labels."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.hierarchical_prior import (
    BUILTIN_TRUST,
    LABEL_SCHEMA,
    LEVEL_KEYS,
    MERCHANT_LEVELS,
    SHARED_STRENGTH,
    UNUSED_CATEGORIES,
    LabelProfile,
    count_labels,
    fit_profile,
    leave_out,
    places_of,
    rank_candidates,
    rank_labels,
)

Row = tuple[str | None, str, str | None, str, str]


def labels_of(*rows: Row, account: str = "card") -> pl.DataFrame:
    """Labels of one account: merchant, description, built-in key, label and source of each."""
    made = [(merchant, text, account, *rest, 1) for merchant, text, *rest in rows]
    return pl.DataFrame(made, schema=LABEL_SCHEMA, orient="row")


def asked(
    merchant: str | None = "aldi",
    norm_desc: str = "aldi leeds",
    builtin: str | None = None,
    own: tuple[str, str] | None = None,
    account: str = "card",
) -> Asked:
    place = {"merchant": merchant, "norm_desc": norm_desc, "account": account, "builtin": builtin}
    return Asked(place, own)


@dataclass(frozen=True)
class Asked:
    """A transaction: its place, and its own label with its source."""

    place: dict[str, str | None]
    own: tuple[str, str] | None


def rank(labels: pl.DataFrame, transaction: Asked, **known: Any) -> dict[str, float]:
    profile = fit_profile(labels)
    label, source = transaction.own or (None, "human")
    counts = {}
    for level, keys in LEVEL_KEYS.items():
        key = tuple(transaction.place[each] for each in keys)
        here = places_of(count_labels(labels, level)).get(key, {})  # type: ignore[arg-type]
        counts[level] = leave_out(here, label, SAMPLE_WEIGHTS[source])
    return {each.label: each.probability for each in rank_labels(profile, counts, **known)}


ALDI = labels_of(
    *[("aldi", "aldi leeds", None, "Groceries", "human")] * 3,
    ("aldi", "aldi mobile", None, "Phone", "human"),
    *[("shell", "shell", None, "Fuel", "human")] * 6,
)


def test_each_level_shrinks_towards_the_one_before_it() -> None:
    profile = fit_profile(ALDI)
    strength = profile.strengths
    base = profile.base_rates["Groceries"]
    at_merchant = (3 + strength["merchant"] * base) / (4 + strength["merchant"])
    at_description = (3 + strength["description"] * at_merchant) / (3 + strength["description"])
    at_account = (3 + strength["account"] * at_description) / (3 + strength["account"])
    assert rank(ALDI, asked())["Groceries"] == pytest.approx(at_account)
    assert rank(ALDI, asked(account="joint"))["Groceries"] == pytest.approx(at_description)
    assert rank(ALDI, asked(norm_desc="aldi york"))["Groceries"] == pytest.approx(at_merchant)


def test_base_rates_are_those_of_the_merchant_priors() -> None:
    # (n_c + 1) / (n + C + 1), by weight: 3 labels of a person weigh 9, of 30 in all.
    assert fit_profile(ALDI).base_rates == {
        "Fuel": pytest.approx(19 / 34), "Groceries": pytest.approx(10 / 34), "Phone": pytest.approx(4 / 34)
    }  # fmt: skip


def test_what_nothing_is_known_about_gets_no_candidate() -> None:
    assert rank(ALDI, asked(merchant="nobody", norm_desc="nobody")) == {}
    assert rank(ALDI, asked(merchant=None, norm_desc="")) == {}
    assert rank(labels_of(), asked()) == {}


def test_a_transaction_s_own_label_is_no_evidence_for_itself() -> None:
    only_own = labels_of(("aldi", "aldi leeds", None, "Groceries", "human"), ("x", "x", None, "Fuel", "human"))
    assert rank(only_own, asked(own=("Groceries", "human"))) == {}
    assert rank(only_own, asked())["Groceries"] > 0.5
    twice = pl.concat([only_own, only_own])
    assert rank(twice, asked(own=("Groceries", "human"))) == pytest.approx(rank(twice, asked()), abs=0.1)


def test_a_person_s_label_shifts_the_shares_by_its_weight_and_not_the_amount_of_evidence() -> None:
    mixed = labels_of(
        ("aldi", "aldi leeds", None, "Groceries", "human"), ("aldi", "aldi leeds", None, "Fuel", "import")
    )
    ranked = rank(mixed, asked())
    assert ranked["Groceries"] > ranked["Fuel"]
    counts = count_labels(mixed, "merchant")
    assert dict(counts.select("label", "weight").iter_rows()) == {
        "Groceries": SAMPLE_WEIGHTS["human"], "Fuel": SAMPLE_WEIGHTS["import"]
    }  # fmt: skip
    assert counts["labels"].to_list() == [1, 1]


def test_somebody_consistent_is_believed_sooner_than_somebody_who_is_not() -> None:
    consistent = labels_of(
        *[(shop, shop, None, f"C{number % 5}", "human") for number, shop in enumerate("abcdefghij") for _ in range(8)]
    )
    draw = random.Random(7)  # noqa: S311 -- a seeded draw
    fickle = labels_of(
        *[(shop, shop, None, f"C{draw.randrange(5)}", "human") for shop in "abcdefghij" for _ in range(8)]
    )
    assert fit_profile(consistent).strengths["merchant"] < 0.1
    assert fit_profile(fickle).strengths["merchant"] > 1


def test_the_strength_is_recovered_from_labels_drawn_with_it() -> None:
    draw = random.Random(11)  # noqa: S311 -- a seeded draw
    true, categories = 0.5, 20
    rows = []
    for shop in range(3000):
        shares = [draw.gammavariate(true / categories, 1) for _ in range(categories)]
        drawn = draw.choices(range(categories), [share + 1e-300 for share in shares], k=6)
        rows += [(f"s{shop}", f"s{shop}", None, f"c{label}", "human") for label in drawn]
    assert fit_profile(labels_of(*rows)).strengths["merchant"] == pytest.approx(true, rel=0.15)


def test_accounts_tell_something_where_they_differ_and_little_where_they_do_not() -> None:
    def both(card: str, joint: str) -> pl.DataFrame:
        shops = [chr(letter) for letter in range(ord("a"), ord("z"))]
        return pl.concat(
            [
                labels_of(*[(shop, shop, None, label, "human") for shop in shops for _ in range(4)], account=account)
                for account, label in (("card", card), ("joint", joint))
            ]
        )

    apart, alike = both("Work", "Home"), both("Home", "Home")
    assert fit_profile(apart).strengths["account"] < 0.1
    assert fit_profile(alike).strengths["account"] > 10
    joint = asked("a", "a", account="joint")
    assert next(iter(rank(apart, joint))) == "Home"
    assert rank(apart, joint)["Home"] > 0.9


def test_for_the_shared_categories_built_in_knowledge_has_its_share_until_labels_tell() -> None:
    nothing = labels_of()
    transaction = asked(builtin="food.groceries")
    believed = rank(nothing, transaction, named="Groceries")
    assert believed["Groceries"] == pytest.approx(BUILTIN_TRUST + (1 - BUILTIN_TRUST) / UNUSED_CATEGORIES)
    corrected = labels_of(*[("x", "x", "food.groceries", "Household", "human")] * 6)
    assert next(iter(rank(corrected, transaction, named="Groceries"))) == "Household"


def test_with_categories_of_one_s_own_built_in_knowledge_speaks_only_through_one_s_labels() -> None:
    transaction = asked(builtin="food.groceries")
    assert rank(labels_of(), transaction) == {}
    taught = labels_of(*[("x", "x", "food.groceries", "Essen", "human")] * 3)
    assert list(rank(taught, transaction)) == ["Essen"]


def test_other_users_speak_where_the_user_has_not_and_are_outvoted_where_they_have() -> None:
    shared = {"shared": {"Groceries": 4}, "shared_total": 5}
    base = fit_profile(labels_of()).unused_rate
    alone = rank(labels_of(), asked(), **shared)["Groceries"]
    assert alone == pytest.approx((4 + SHARED_STRENGTH * base) / (5 + SHARED_STRENGTH))
    own = labels_of(*[("aldi", "aldi leeds", None, "Household", "human")] * 2)
    assert next(iter(rank(own, asked(), **shared))) == "Household"


def test_many_transactions_are_ranked_like_each_alone() -> None:
    places = [asked(), asked(account="joint"), asked(norm_desc="aldi york"), asked("shell", "shell"), asked(None, "")]
    rows = [{"txn_id": number} | each.place for number, each in enumerate([*places, *places])]
    frame = pl.DataFrame(rows, schema_overrides={"builtin": pl.String})
    counts = {level: count_labels(ALDI, level) for level in MERCHANT_LEVELS}
    ranked = rank_candidates(frame, fit_profile(ALDI), counts)
    assert ranked["txn_id"].is_sorted()
    for number, each in enumerate([*places, *places]):
        found = ranked.filter(pl.col("txn_id") == number)
        assert dict(found.select("label", "probability").iter_rows()) == rank(ALDI, each)


LABELS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y"]), st.sampled_from(["k", None]),
        st.sampled_from(["A", "B", "C"]), st.sampled_from(["human", "rule", "import"]),
    ),
    max_size=30,
)  # fmt: skip


@given(LABELS, st.sampled_from(["a", "b", "new", None]), st.sampled_from(["x", "z"]), st.sampled_from(["k", None]))
def test_probabilities_are_probabilities_and_equal_a_plain_calculation(
    rows: list[Row], merchant: str | None, text: str, builtin: str | None
) -> None:
    labels = labels_of(*rows)
    ranked = rank(labels, asked(merchant, text, builtin))
    assert all(0 < probability <= 1 for probability in ranked.values())
    assert sum(ranked.values()) <= 1 + 1e-9
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    profile = fit_profile(labels)
    for label, probability in ranked.items():
        assert probability == pytest.approx(plainly(rows, profile, label, merchant, text, builtin))


def plainly(
    rows: list[Row],
    profile: LabelProfile,
    label: str,
    merchant: str | None,
    text: str,
    builtin: str | None,
) -> float:
    probability = profile.base_rates[label]
    places = {
        "builtin": [row for row in rows if builtin is not None and row[2] == builtin],
        "merchant": [row for row in rows if merchant is not None and row[0] == merchant],
        "description": [row for row in rows if merchant is not None and (row[0], row[1]) == (merchant, text)],
        "account": [row for row in rows if merchant is not None and (row[0], row[1]) == (merchant, text)],
    }
    for level, here in places.items():
        if here:
            weights = [SAMPLE_WEIGHTS[row[4]] for row in here]
            share = sum(w for w, row in zip(weights, here, strict=True) if row[3] == label) / sum(weights)
            strength = profile.strengths[level]
            probability = (len(here) * share + strength * probability) / (len(here) + strength)
    return probability
