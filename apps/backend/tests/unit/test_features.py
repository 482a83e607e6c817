from __future__ import annotations

import datetime as dt
import importlib.util
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml import text_patterns
from app.ml.features import FEATURE_SCHEMA, FEATURE_VERSION, TRANSACTION_SCHEMA, build_features, feature_hashes

if TYPE_CHECKING:
    from collections.abc import Callable

A_MONDAY = dt.date(2024, 1, 29)

DESCRIPTIONS = [
    "SQ *BLUE BTL 0047 OAKLND",
    "TESCO STORE 2617",
    "PREMIER INN44010775",
    "AMZN Mktp UK*2K3AB1C90",
    "AMAZON.CO.UK*MB9UW3QE4 AM",
    "PAYPAL *HALIFAXAGRI",
    "CARD PAYMENT TO ALDI 60 779,LEEDS GB",
    "DIRECT DEBIT PUREGYM LTD",
    "ATM WITHDRAWAL LONDON",
    "Zelle payment to Sam",
    "COACH OUTLET #123",
    "SAINSBURY'S S/MKT",
    "UNIVERSITY OF LEEDS",
    "CAFÉ ØRSTED GMBH",
    "Кафе Пушкин",
    "",
    "0000",
]

unhurried = settings(deadline=None)  # how fast it is, the benchmark says


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    numbered = [{"txn_id": number, **row} for number, row in enumerate(rows, start=1)]
    return pl.DataFrame(numbered, schema=TRANSACTION_SCHEMA)


def transactions(*descriptions: str, **columns: Any) -> pl.DataFrame:
    usual = {"date": A_MONDAY, "amount": Decimal("-12.30"), "posted_at": None, "mcc": None, "channel_hint": None}
    return frame_of([usual | {"description": description} | columns for description in descriptions])


def feature(name: str, description: str, **columns: Any) -> Any:
    value = build_features(transactions(description, **columns))[name][0]
    return value.to_list() if isinstance(value, pl.Series) else value


def baseline() -> Callable[..., list[dict[str, Any]]]:
    path = Path(__file__).parents[2] / "bench" / "kernel_baseline.py"
    spec = importlib.util.spec_from_file_location("kernel_baseline", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loop: Callable[..., list[dict[str, Any]]] = module.build_features_loop
    return loop


texts = st.one_of(
    st.sampled_from(DESCRIPTIONS),
    st.text(max_size=40),
    st.text(alphabet=[chr(code) for code in range(32, 127)], max_size=40),
)
whole_rows = st.fixed_dictionaries(
    {
        "description": texts,
        "date": st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31)),
        "posted_at": st.none() | st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2099, 12, 31)),  # noqa: DTZ001 -- the bank's wall clock
        "amount": st.decimals(-(10**9), 10**9, places=2),
        "mcc": st.none() | st.sampled_from(["5411", "5814"]),
        "channel_hint": st.none() | st.sampled_from(["POS", "DIRECTDEP", "Direct Debit", "DEBIT", ""]),
    }
)


# ── Purity ────────────────────────────────────────────────────────────────────────────────────────────────


@unhurried
@given(st.lists(whole_rows, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(0, 12))
def test_order_and_batch_split_do_not_change_any_feature(rows: list[dict[str, Any]], random: Any, cut: int) -> None:
    frame = frame_of(rows)
    together = build_features(frame)
    order = list(range(frame.height))
    random.shuffle(order)
    shuffled = frame[order]
    apart = pl.concat([build_features(shuffled[:cut]), build_features(shuffled[cut:])]).sort("txn_id")
    assert apart.equals(together)
    assert feature_hashes(apart).equals(feature_hashes(together))


@unhurried
@given(st.lists(whole_rows, min_size=1, max_size=6), st.lists(whole_rows, max_size=6))
def test_added_rows_never_change_those_before(rows: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    assert build_features(frame_of(rows + later))[: len(rows)].equals(build_features(frame_of(rows)))


def test_large_batches_of_repeated_and_of_distinct_strings_equal_the_single_rows() -> None:
    few = build_features(transactions(*DESCRIPTIONS)).drop("txn_id")
    copies = 1000
    many = build_features(transactions(*(DESCRIPTIONS * copies)))
    assert many.drop("txn_id").equals(pl.concat([few] * copies))
    assert many["txn_id"].to_list() == list(range(1, len(DESCRIPTIONS) * copies + 1))

    distinct = transactions(*(f"{DESCRIPTIONS[number % 17]} shop{number}x" for number in range(130_000)))
    assert build_features(distinct)[[0, 124_999, 125_000, 129_999]].equals(
        build_features(distinct[[0, 124_999, 125_000, 129_999]])
    )


def test_no_rows_give_no_features_of_the_same_schema() -> None:
    assert build_features(transactions()).schema == FEATURE_SCHEMA


@pytest.mark.parametrize("rows", [1, 10_000])
def test_the_schema_is_what_it_promises_and_further_columns_are_ignored(rows: int) -> None:
    frame = transactions(*["TESCO"] * rows)
    features = build_features(frame.with_columns(merchant=pl.lit("someone else"), folded=pl.lit("x")))
    assert features.schema == FEATURE_SCHEMA
    assert features.equals(build_features(frame))


def test_the_transactions_themselves_stay_as_they_were() -> None:
    frame = transactions("CAFÉ")
    build_features(frame)
    assert frame["description"].to_list() == ["CAFÉ"]


def test_a_column_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'amount' must be Decimal"):
        build_features(transactions("TESCO").cast({"amount": pl.Float64}))
    with pytest.raises(TypeError, match="'mcc' must be String, not None"):
        build_features(transactions("TESCO").drop("mcc"))


def test_a_missing_description_counts_as_an_empty_one() -> None:
    absent = transactions("").with_columns(description=pl.lit(None, pl.String))
    assert build_features(absent).equals(build_features(transactions("")))


# ── Time and money ────────────────────────────────────────────────────────────────────────────────────────


def test_hour_of_day_is_null_without_a_time_and_never_defaulted() -> None:
    assert feature("hour_of_day", "TESCO", posted_at=None) is None
    midnight = dt.datetime(2024, 1, 29, 0, 5)  # noqa: DTZ001 -- the bank's wall clock
    assert feature("hour_of_day", "TESCO", posted_at=midnight) == 0


@pytest.mark.parametrize(("days", "weekend"), [(0, False), (4, False), (5, True), (6, True)])
def test_days_count_from_monday_and_the_weekend_is_saturday_and_sunday(days: int, *, weekend: bool) -> None:
    date = A_MONDAY + dt.timedelta(days=days)
    assert feature("dow", "TESCO", date=date) == days
    assert feature("is_weekend", "TESCO", date=date) is weekend


def test_the_month_is_its_first_day() -> None:
    assert feature("ts_month", "TESCO", date=dt.date(2024, 2, 29)) == dt.date(2024, 2, 1)


def test_amounts_stay_exact() -> None:
    assert feature("amount", "TESCO", amount=Decimal("-9999999999999999.99")) == Decimal("-9999999999999999.99")
    assert feature("abs_amount", "TESCO", amount=Decimal("-9999999999999999.99")) == Decimal("9999999999999999.99")


# ── Words ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("description", "norm_desc"),
    [
        ("COFFEE #123", "coffee"),  # the sign goes with its number, never before it
        ("COFFEE #5 LEEDS", "coffee leeds"),
        ("#123 COFFEE", "coffee"),
        ("TESCO STORE 2617", "tesco"),
        ("ALDI 60 779", "aldi"),
        ("PREMIER INN44010775", "premier inn"),
        ("TRAVELODGE GB0000", "travelodge"),
        ("AMZN Mktp UK*2K3AB1C90", "amzn mktp"),
        ("Card payment to Tesco Stores 2617 on 03 Mar", "card payment to tesco"),
        ("Kindle Svcs*M01116P44", "kindle svcs"),
        ("MSFT *<E02006R57F>", "msft"),
        ("AMAZON PRIME5D61X7CZ5", "amazon prime"),
        ("EBAY O*03-05991-59708", "ebay"),
        ("24 SEVEN FITNESS", "24 seven fitness"),
        ("SUPER 8 MOTEL", "super 8 motel"),
        ("TACKLE2U", "tackle2u"),
        ("PAYPAL *MYLOWE27", "paypal mylowe27"),
        ("SAINSBURY'S S/MKT", "sainsburys s mkt"),
        ("SAINSBURY\u2019S", "sainsburys"),
        ("B & Q PLC", "b q"),
        ("ASDA STORES LTD 4280", "asda stores"),
        ("LIMITED EDITION BOOKS LTD.", "limited edition books"),
        ("INCA TRAIL", "inca trail"),
        ("ZETTLE_*JOES CAFE", "zettle joes cafe"),
        ("  TWO   SPACES\t", "two spaces"),
        ("CAFÉ ØRSTED STRAßE", "cafe orsted strasse"),
        ("CAFE\u0301 \uff21\uff22", "cafe ab"),
        ("ŁÓDŹ İSTANBUL", "lodz istanbul"),
        ("Кафе «Пушкин»", "кафе пушкин"),
        ("スターバックス 新宿", "スターバックス 新宿"),
        ("शर्मा स्टोर", "शर्मा स्टोर"),
        ("M01116P44", "m01116p44"),
        ("0047", "0047"),
        ("***", ""),
    ],
)
def test_descriptions_are_reduced_to_the_words_that_identify_the_shop(description: str, norm_desc: str) -> None:
    assert feature("norm_desc", description) == norm_desc


def test_tokens_leave_stop_words_out_and_keep_the_order() -> None:
    assert feature("tokens", "THE BANK OF THE WEST AND THE BANK") == ["bank", "west", "bank"]
    assert feature("tokens", "OF THE") == []
    assert feature("tokens", "") == []


def test_there_are_at_most_twenty_tokens() -> None:
    words = [f"{letter}word" for letter in "bcdefghijklmnopqrstuvwxyz"]
    assert feature("tokens", " ".join(words)) == words[:20]


@unhurried
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_text_gives_few_tokens_that_are_whole_words_of_norm_desc(descriptions: list[str]) -> None:
    for row in build_features(transactions(*descriptions)).to_dicts():
        assert len(row["tokens"]) <= text_patterns.MAX_TOKENS
        assert set(row["tokens"]) <= set(row["norm_desc"].split(" "))
        assert row["norm_desc"] == " ".join(row["norm_desc"].split(" ")).strip()
        assert "  " not in row["norm_desc"]


@unhurried
@given(st.text(max_size=8), st.sampled_from("abcXYZéßкあש"), st.text(max_size=8))
def test_a_description_with_a_letter_never_vanishes(before: str, letter: str, after: str) -> None:
    row = build_features(transactions(before + letter + after)).row(0, named=True)
    assert row["norm_desc"]
    assert row["merchant"]


# ── Channels ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("description", "channel"),
    [
        ("COACH OUTLET", None),
        ("PLEASURE BEACH", None),
        ("WEBSTER HOTEL", None),
        ("TREATMENT ROOM", None),
        ("COFFEE REPUBLIC", None),
        ("POSH NOSH", None),
        ("PINTEREST", None),
        ("CARD FACTORY", None),
        ("ROBINSON WIRE CLOTH", None),
        ("ACH PAYMENT", "ach"),
        ("ACME-ACH", "ach"),
        ("ATM 0047 LONDON", "atm"),
        ("CASH WITHDRAWAL HIGH ST", "atm"),
        ("Zelle payment to Sam", "zelle"),
        ("VENMO *SAM", "venmo"),
        ("DIRECT DEBIT THAMES WATER", "direct_debit"),
        ("DIRECT-DEBIT THAMES WATER", "direct_debit"),
        ("DIRECT DISCOUNTS DEBIT", None),
        ("STANDING ORDER RENT", "standing_order"),
        ("CHEQUE 000123", "cheque"),
        ("DEPOSIT", "deposit"),
        ("CURRYS ONLINE", "online"),
        ("WWW.ARGOS.CO.UK", "online"),
        ("POS PURCHASE TESCO", "pos"),
        ("VISA DEBIT PURCHASE", "card"),
        ("CONTACTLESS CARD PAYMENT TESCO", "contactless"),  # how the card was used before that there was one
        ("ONLINE TRANSFER TO SAVINGS", "transfer"),  # what the money did before where it was ordered
        ("ATM FEE", "fee"),  # the fee is not the withdrawal
        ("ACH DEPOSIT", "ach"),  # a named network before what it moved
        ("", None),
    ],
)
def test_channels_are_told_by_whole_words_in_one_precedence(description: str, channel: str | None) -> None:
    assert feature("channel", description) == channel


@pytest.mark.parametrize(
    ("hint", "channel"),
    [
        ("ATM", "atm"),
        ("POS", "pos"),
        ("DIRECTDEP", "deposit"),
        ("Direct Debit", "direct_debit"),
        ("direct-debit ", "direct_debit"),
        (")))", "contactless"),
        ("DEBIT", "zelle"),  # says which way the money went, not how: the description decides
        ("", "zelle"),
        (None, "zelle"),
    ],
)
def test_the_banks_own_type_comes_first_where_it_names_a_channel(hint: str | None, channel: str) -> None:
    assert feature("channel", "ZELLE TO SAM", channel_hint=hint) == channel


def test_every_hint_names_a_channel_and_no_phrase_has_two_meanings() -> None:
    assert set(text_patterns.CHANNEL_HINTS.values()) <= set(text_patterns.CHANNEL_PHRASES)
    phrases = [phrase for phrases in text_patterns.CHANNEL_PHRASES.values() for phrase in phrases]
    phrases += text_patterns.SUBSCRIPTION_PHRASES
    assert len(phrases) == len(set(phrases))


def test_every_phrase_can_be_said_after_normalising() -> None:
    phrases = [phrase for phrases in text_patterns.CHANNEL_PHRASES.values() for phrase in phrases]
    phrases += text_patterns.SUBSCRIPTION_PHRASES
    assert build_features(transactions(*phrases))["norm_desc"].to_list() == phrases


# ── Subscriptions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("description", "subscription"),
    [
        ("NETFLIX.COM", True),
        ("PAYPAL *SPOTIFY", True),
        ("Amazon Prime*5D61X7CZ5", True),
        ("APPLE.COM/BILL", True),
        ("DIRECT DEBIT DAVID LLOYD", True),
        ("ROCK CLIMBING GYM", True),
        ("CONTACTLESS ONLINE GYM", True),
        ("GYMSHARK", False),
        ("PRIME BUTCHERS", False),
        ("DAVID AND LLOYD", False),
        ("AMAZON.CO.UK*MB9UW3QE4", False),
        ("TESCO", False),
        ("", False),
    ],
)
def test_subscriptions_are_told_by_whole_words(description: str, *, subscription: bool) -> None:
    assert feature("is_subscription", description) is subscription


# ── The loop that the kernel is measured against ──────────────────────────────────────────────────────────


@unhurried
@given(st.lists(st.sampled_from(DESCRIPTIONS) | st.text(alphabet="abeLTDco019 #*./-'", max_size=30), max_size=8))
def test_the_plain_loop_of_the_benchmark_gives_the_same_features(descriptions: list[str]) -> None:
    frame = transactions(*(description for description in descriptions if description.isascii()))
    by_loop = pl.DataFrame(baseline()(frame.iter_rows(named=True)), schema=FEATURE_SCHEMA)
    assert by_loop.equals(build_features(frame))


# ── Hashes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hash_is_that_of_the_documented_encoding() -> None:
    features = build_features(transactions("THE CAFÉ LTD", mcc="5814"))
    canonical = "10:2024-01-016:-12.305:12.308:the cafe4:5814--1:01:01:08:the cafe4:cafe1:1"
    assert feature_hashes(features).to_list() == [blake2b(canonical.encode(), digest_size=16).hexdigest()]


def test_hashes_change_only_together_with_the_feature_version() -> None:
    features = build_features(transactions(*DESCRIPTIONS))
    digest = blake2b("".join(feature_hashes(features)).encode(), digest_size=8).hexdigest()
    assert (FEATURE_VERSION, digest) == (1, "bec2cbf8ce875c90")


def test_a_hash_depends_on_every_feature_but_not_on_the_transaction() -> None:
    features = build_features(transactions("POS NETFLIX", mcc="5814", posted_at=dt.datetime(2024, 1, 29, 9)))  # noqa: DTZ001 -- the bank's wall clock
    before = feature_hashes(features)[0]
    assert feature_hashes(features.with_columns(txn_id=pl.lit(7, pl.Int64)))[0] == before
    for name in FEATURE_SCHEMA.names()[1:]:
        without = features.with_columns(pl.lit(None, FEATURE_SCHEMA[name]).alias(name))
        assert feature_hashes(without)[0] != before, name
