"""Built-in knowledge: codes and whole words, each with the category that everybody would name."""

from __future__ import annotations

import re
from decimal import Decimal

import iso18245
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml import builtin_knowledge
from app.ml.builtin_knowledge import BUILTIN_KEYS, FEW_ROWS, builtin_categories
from app.ml.builtin_mccs import MCC_KEYS, VAGUE_MCC_KEYS
from app.ml.builtin_shop_words import SHOPS
from app.ml.builtin_words import INCOME, INCOME_LAST_RESORT, SPENDING
from app.services.default_categories import DEFAULT_CATEGORIES, default_name_of, key_of

SCHEMA = pl.Schema({"norm_desc": pl.String(), "mcc": pl.String(), "amount": pl.Decimal(18, 2), "channel": pl.String()})
Row = tuple[str | None, str | None, Decimal | None, str | None]


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def category(
    norm_desc: str = "", mcc: str | None = None, amount: str = "-5.00", channel: str | None = None
) -> str | None:
    """Say what one transaction is, alone and among many that are like it."""
    row = frame([(norm_desc, mcc, Decimal(amount), channel)])
    found: str | None = builtin_categories(row).item()
    assert builtin_categories(pl.concat([row] * (FEW_ROWS + 1))).to_list() == [found] * (FEW_ROWS + 1)
    return found


@pytest.mark.parametrize(
    ("norm_desc", "key"),
    [
        ("corner supermarket", "food.groceries"),
        ("the blue cafe", "food.coffee"),
        ("marios pizza", "food.fast_food"),
        ("lowen apotheke", "health.pharmacy"),
        ("zahnarzt dr muller", "health.dentist"),
        ("boulangerie du coin", "food.specialist"),
        ("gasolinera norte", "transport.fuel"),
        ("parcheggio centro", "transport.parking"),
        ("huur november", "housing.rent"),
        ("leeds city council council tax", "housing.council_tax"),
        ("monthly account fee", "finance.bank_fees"),
        ("to savings", "transfers.savings"),
        ("nobody knows", None),
        ("", None),
    ],
)
def test_words_say_what_was_bought(norm_desc: str, key: str | None) -> None:
    assert category(norm_desc) == key


@pytest.mark.parametrize(
    "norm_desc",
    ["coach", "beach", "webster", "carbon", "barbican", "waterstones", "bridgewater", "trental", "cashmere", "gasper"],
)
def test_a_word_inside_another_says_nothing(norm_desc: str) -> None:
    assert category(norm_desc) is None


@pytest.mark.parametrize(
    ("norm_desc", "key"),
    [
        ("rent a car", "travel.car_hire"),
        ("hospital parking", "transport.parking"),
        ("hotel restaurant", "food.eating_out"),
        ("school books", "shopping.books"),
        ("pet insurance", "insurance.other"),
        ("airport taxi", "transport.taxi"),
        ("water park", "leisure.attractions"),
        ("hotel transfer", "travel.lodging"),
    ],
)
def test_more_words_win_and_then_what_is_done_over_where(norm_desc: str, key: str) -> None:
    assert category(norm_desc) == key


@pytest.mark.parametrize(
    ("norm_desc", "received", "spent"),
    [
        ("acme payroll", "income.salary", None),
        ("dividend", "income.dividends", None),
        ("interest", "income.interest", "finance.interest_paid"),
        ("pension", "income.pension", "transfers.pension"),
        ("income tax", "finance.income_tax", "finance.income_tax"),
        ("tax refund", "income.tax_refund", "finance.income_tax"),
        ("refund", "income.refunds", None),
        ("refund shoes", "shopping.shoes", "shopping.shoes"),
        ("expenses claim shoes", "shopping.shoes", "shopping.shoes"),
    ],
)
def test_income_is_what_comes_in_and_a_refund_belongs_where_the_purchase_did(
    norm_desc: str, received: str | None, spent: str | None
) -> None:
    assert category(norm_desc, amount="5.00") == received
    assert category(norm_desc) == spent
    assert category(norm_desc, amount="0.00") == spent


def test_a_code_beats_words_unless_it_is_vague() -> None:
    assert category("coffee", mcc="5411") == "food.groceries"
    assert category("taxi", mcc="5999") == "transport.taxi"
    assert category("nobody knows", mcc="5999") == "shopping.general"
    assert category("taxi", mcc="0000") == "transport.taxi"


@pytest.mark.parametrize(
    ("mcc", "key"),
    [("3000", "travel.flights"), ("3299", "travel.flights"), ("3300", "travel.car_hire"), ("3499", "travel.car_hire"),
     ("3500", "travel.lodging"), ("3999", "travel.lodging")],
)  # fmt: skip
def test_the_ranges_of_single_companies_have_their_ends(mcc: str, key: str) -> None:
    assert category(mcc=mcc) == key


def test_every_code_of_the_standard_is_known_but_those_that_say_nothing() -> None:
    unknown = {entry.mcc for entry in iso18245.get_all_mccs()} - set(MCC_KEYS) - set(VAGUE_MCC_KEYS)
    assert unknown == {"6012", "6050", "6051", "6540", "7511", "9700", "9701", "9702", "9950"}
    assert not set(MCC_KEYS) & set(VAGUE_MCC_KEYS)


def test_a_cash_machine_gives_cash_wherever_it_stands() -> None:
    assert category("corner supermarket", channel="atm") == "transfers.cash"


@pytest.mark.parametrize(
    ("channel", "received", "spent"),
    [
        ("interest", "income.interest", "finance.interest_paid"),
        ("fee", "finance.bank_fees", "finance.bank_fees"),
        ("zelle", "transfers.people", "transfers.people"),
        ("card", None, None),
    ],
)
def test_the_channel_speaks_where_words_are_silent(channel: str, received: str | None, spent: str | None) -> None:
    assert category("nobody knows", amount="5.00", channel=channel) == received
    assert category("nobody knows", channel=channel) == spent


WORDS = (
    "coach",
    "coffee",
    "refund",
    "interest",
    "rent",
    "a",
    "car",
    "tax",
    "atm",
    "hotel",
    "parking",
    "nobody",
    "cash",
)
ROWS = st.tuples(
    st.one_of(st.none(), st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)),
    st.sampled_from([None, "5411", "5999", "0000"]),
    st.sampled_from([None, Decimal("-1.00"), Decimal("0.00"), Decimal("1.00")]),
    st.sampled_from([None, "atm", "interest", "fee", "card"]),
)


@given(rows=st.lists(ROWS, min_size=1, max_size=30))
def test_many_rows_get_the_answers_that_each_gets_alone(rows: list[Row]) -> None:
    alone = [builtin_categories(frame([row])).item() for row in rows]
    copies = FEW_ROWS // len(rows) + 1
    many = builtin_categories(pl.concat([frame(rows)] * copies))
    assert many.name == "builtin_category"
    assert many.to_list() == alone * copies


def test_no_rows_have_no_answers() -> None:
    assert builtin_categories(frame([])).to_list() == []


def test_every_phrase_is_written_as_normalised_descriptions_are() -> None:
    for _, phrases in (*SPENDING, *SHOPS, *INCOME, *INCOME_LAST_RESORT):
        for phrase in phrases.split(","):
            assert re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", " ".join(phrase.split())), phrase
            assert not re.search(r"\b[0-9]{2,}\b", phrase), phrase


def test_every_key_has_a_category_of_the_default_set() -> None:
    assert {category.key for category in DEFAULT_CATEGORIES} >= BUILTIN_KEYS
    assert {key.split(".")[0] for key in BUILTIN_KEYS} == {
        category.key.split(".")[0] for category in DEFAULT_CATEGORIES
    }


def test_names_and_keys_of_the_default_set_are_unique() -> None:
    assert len({category.key for category in DEFAULT_CATEGORIES}) == len(DEFAULT_CATEGORIES)
    assert len({category.name.casefold() for category in DEFAULT_CATEGORIES}) == len(DEFAULT_CATEGORIES)
    for category in DEFAULT_CATEGORIES:
        assert key_of(default_name_of(category.key)) == category.key
    assert key_of("No such name") is None


def test_a_key_is_only_spending_s_or_income_s() -> None:
    spent = set(builtin_knowledge._SPENT.values())  # noqa: SLF001
    assert not any(key.startswith("income.") for key in spent)
