"""The language of rules: what it accepts, what it means, and that no pattern takes longer than its text is long."""

from __future__ import annotations

import datetime as dt
import re
import time
import unicodedata
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import InvalidInput
from app.ml.priors import wilson_interval
from app.services.rules import (
    ActiveRule,
    Condition,
    RuleDraft,
    TrackRecord,
    describe_condition,
    match_rules,
    winning_rules,
    without_own,
)
from app.services.rules.conditions import check_patterns
from app.services.rules.matching import SLICE_ROWS, TRANSACTION_SCHEMA, WINNER_SCHEMA, in_winning_order
from app.services.rules.proposals import mine_merchants
from app.services.rules.report import measure_overlap, redundant_rules, rule_conflicts
from app.services.rules.track_records import NO_RECORD, measure_rules

MONDAY = dt.date(2025, 3, 3)


def condition(*parts: dict[str, Any], match: str = "all") -> Condition:
    return Condition.model_validate({"match": match, "conditions": list(parts)})


def text(value: str, operator: str = "contains", field: str = "description") -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def transaction(txn_id: int = 1, **fields: Any) -> dict[str, Any]:
    plain = {
        "txn_id": txn_id, "description": "SQ *BLUE BTL 0047 OAKLND", "merchant": "blue btl", "merchant_canonical": None,
        "amount": Decimal("-4.50"), "account": "card", "mcc": "5814", "date": MONDAY,
    }  # fmt: skip
    return plain | fields


def frame(*transactions: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(transactions), schema=TRANSACTION_SCHEMA)


def rule(rule_id: int, asks: Condition, *, category: str = "Coffee", priority: int = 0) -> ActiveRule:
    return ActiveRule(rule_id, 1, f"rule {rule_id}", asks, category, priority)


def matches(asks: Condition, **fields: Any) -> bool:
    return not match_rules(frame(transaction(**fields)), [rule(1, asks)]).is_empty()


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (text("blue btl"), {}),
        (text("CAFÉ"), {"description": "le café"}),
        (text("café"), {"description": unicodedata.normalize("NFD", "Le CAFÉ")}),
        (text("strasse"), {"description": "Hauptstraße 1"}),
        (text("ΑΣ"), {"description": "αστήρ"}),
        (text("sq *blue btl 0047 oaklnd", "equals"), {}),
        (text(r"btl\s\d{4}", "regex"), {}),
        (text("BLUE BTL", "equals", "merchant"), {}),
        (text("blue bottle", "equals", "merchant"), {"merchant_canonical": "Blue Bottle"}),
        (text("blue btl", "equals", "merchant"), {"merchant_canonical": "Blue Bottle"}),
        (text("^blue", "regex", "merchant"), {}),
        (text("^caf\u00e9$", "regex"), {"description": "CAFE\u0301"}),
        (text("^cafe\u0301$", "regex"), {"description": "CAF\u00c9"}),
        (text("^caf.$", "regex", "merchant"), {"merchant": "cafe\u0301"}),
        (text("^caf[e\u0301]$", "regex", "merchant"), {"merchant_canonical": "Cafe\u0301"}),
        ({"field": "amount", "minimum": "4.50", "maximum": "4.50"}, {}),
        ({"field": "amount", "maximum": 5}, {"amount": Decimal("5.00")}),
        ({"field": "amount", "maximum": "1E+1", "minimum": 0}, {"amount": Decimal("10.00")}),
        ({"field": "amount", "minimum": "9" * 16 + ".99"}, {"amount": Decimal("-" + "9" * 16 + ".99")}),
        ({"field": "sign", "is": "spending"}, {}),
        ({"field": "sign", "is": "income"}, {"amount": Decimal("0.01")}),
        ({"field": "account", "equals": "card"}, {}),
        ({"field": "mcc", "equals": "5814"}, {}),
        ({"field": "weekday", "days": [6, 0]}, {}),
    ],
)
def test_a_condition_matches_what_it_describes(part: dict[str, Any], fields: dict[str, Any]) -> None:
    assert matches(condition(part), **fields)


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (text("b.ue"), {}),
        (text("blue btl", "equals"), {}),
        (text("blue btl", "contains", "merchant"), {"merchant": None}),
        (text(".*", "regex", "merchant"), {"merchant": None}),
        (text("strasse", "regex"), {"description": "Hauptstraße 1"}),
        (text("(?-i)BLUE", "regex", "merchant"), {}),
        (text(r"e\u0301", "regex"), {"description": "cafe\u0301"}),
        ({"field": "amount", "minimum": "4.51"}, {}),
        ({"field": "amount", "maximum": "4.49"}, {}),
        ({"field": "sign", "is": "income"}, {"amount": Decimal("0.00")}),
        ({"field": "sign", "is": "spending"}, {"amount": Decimal("0.00")}),
        ({"field": "account", "equals": "Card"}, {}),
        ({"field": "mcc", "equals": "5812"}, {"mcc": None}),
        ({"field": "weekday", "days": [1, 2, 3, 4, 5, 6]}, {}),
    ],
)
def test_a_condition_matches_nothing_else(part: dict[str, Any], fields: dict[str, Any]) -> None:
    assert not matches(condition(part), **fields)


def test_all_needs_every_condition_and_any_needs_one() -> None:
    parts = (text("blue"), text("nothing of the kind"))
    assert not matches(condition(*parts, match="all"))
    assert matches(condition(*parts, match="any"))
    assert matches(condition(text("x", "equals", "merchant"), text("blue"), match="any"), merchant=None)


@pytest.mark.parametrize(
    "fields",
    [
        {"match": "none", "conditions": [text("x")]},
        {"match": "all", "conditions": []},
        {"match": "all", "conditions": [text("x")] * 21},
        {"match": "all", "conditions": [text("")]},
        {"match": "all", "conditions": [text("  ")]},
        {"match": "all", "conditions": [text("a\0")]},
        {"match": "all", "conditions": [text("\ud800")]},
        {"match": "all", "conditions": [text("x" * 201)]},
        {"match": "all", "conditions": [text("x") | {"negate": True}]},
        {"match": "all", "conditions": [text("x", "startswith")]},
        {"match": "all", "conditions": [{"field": "amount"}]},
        {"match": "all", "conditions": [{"field": "amount", "minimum": "2", "maximum": "1"}]},
        {"match": "all", "conditions": [{"field": "amount", "minimum": "-1"}]},
        {"match": "all", "conditions": [{"field": "amount", "minimum": "NaN"}]},
        {"match": "all", "conditions": [{"field": "mcc", "equals": "٥٨١٤"}]},
        {"match": "all", "conditions": [{"field": "weekday", "days": []}]},
        {"match": "all", "conditions": [{"field": "weekday", "days": [7]}]},
        {"match": "all", "conditions": [{"field": "weekday", "days": [1, 1]}]},
        {"match": "all", "conditions": [text("x")], "unless": []},
    ],
)
def test_what_is_not_of_the_language_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate(fields)


@pytest.mark.parametrize("priority", [-1001, 1001])
def test_a_priority_is_bounded(priority: int) -> None:
    with pytest.raises(ValidationError):
        RuleDraft(name="x", condition=condition(text("x")), category="Coffee", priority=priority)


def test_a_stored_condition_reads_back_as_the_same() -> None:
    asks = condition(
        text("ß", "equals"), {"field": "amount", "minimum": "1.5"}, {"field": "sign", "is": "income"},
        {"field": "account", "equals": "a"}, {"field": "mcc", "equals": "0742"}, {"field": "weekday", "days": [5, 1]},
    )  # fmt: skip
    assert Condition.model_validate_json(asks.to_json()) == asks
    assert '"maximum"' not in asks.to_json()


def test_a_condition_is_described_on_one_line() -> None:
    asks = condition(
        text("blue", field="merchant"), text("a+", "regex"),
        {"field": "amount", "minimum": "1000", "maximum": "2000.5"}, {"field": "sign", "is": "spending"},
        {"field": "mcc", "equals": "0742"}, {"field": "weekday", "days": [6, 0]},
    )  # fmt: skip
    assert describe_condition(asks) == (
        'merchant contains "blue" and description matches "a+" and amount at least 1,000.00, at most 2,000.50 and '
        'spending and mcc equals "0742" and on Mon, Sun'
    )


@pytest.mark.parametrize("pattern", ["(a+)+$", "((a+)+)+$", "(a|aa)+$", "(a|a)*b", r"(\w+\s?)+x$", "(.*)*$"])
def test_a_pattern_that_other_engines_choke_on_takes_no_longer_than_its_text_is_long(pattern: str) -> None:
    asks = condition(text(pattern, "regex"))
    check_patterns(asks)
    started = time.perf_counter()
    matches(asks, description="a" * 100_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(?=x)", "look-around"), ("(?<!x)y", "look-around"), (r"(a)\1", "back-references"), ("[a", "brackets"),
        ("a{1000}{1000}", "too large"), ("(a{1000}){1000}", "too large"), (r"\w{300}", "too large"),
        (r"\w{60}", "too large"), ("(?P<shop>x)", "groups"), ("\\<\u0338", "brackets"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_used_is_refused_with_what_is_not_supported(pattern: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(sentence)) as refusal:
        check_patterns(condition(text("fine"), text(pattern, "regex")))
    assert pattern not in str(refusal.value).replace("a{1000}{1000}", "").replace(r"\w{300}", "")


@pytest.mark.parametrize(
    "pattern", ["a|b", "(?x)a # the shop", r"\bnetto\b", r"^.{3,40}\d{4}$", "(?-i)NETTO", r"\w{20}"]
)
def test_patterns_as_people_write_them_are_accepted(pattern: str) -> None:
    asks = condition(text(pattern, "regex"))
    check_patterns(asks)
    assert asks.conditions[0].model_dump()["value"] == pattern


def test_the_highest_priority_wins_and_of_equal_ones_the_oldest() -> None:
    asks = condition(text("blue"))
    rules = [
        rule(3, asks, category="C"),
        rule(2, asks, category="B", priority=5),
        rule(1, asks, category="A", priority=5),
    ]
    winner = winning_rules(frame(transaction(9)), rules)
    assert winner.rows() == [(9, 1, 1, "A")]
    assert match_rules(frame(transaction(9)), rules).rows() == [(9, 1, True), (9, 2, False), (9, 3, False)]


def test_nothing_is_matched_without_rules_or_without_transactions() -> None:
    asks = condition(text("blue"))
    assert match_rules(frame(transaction()), []).is_empty()
    assert match_rules(frame(), [rule(1, asks)]).is_empty()
    assert winning_rules(frame(), [rule(1, asks)]).schema == WINNER_SCHEMA
    assert winning_rules(frame(transaction()), [rule(1, condition(text("x y z")))]).schema == WINNER_SCHEMA


def test_a_ledger_of_several_slices_is_matched_whole() -> None:
    count = SLICE_ROWS * 2 + 1
    rows = frame(transaction()).select(pl.all().exclude("txn_id").repeat_by(count).explode())
    ledger = rows.select(pl.int_range(count, dtype=pl.Int64).alias("txn_id"), pl.all())
    assert winning_rules(ledger, [rule(1, condition(text("blue")))])["txn_id"].to_list() == list(range(count))
    assert match_rules(ledger, [rule(1, condition(text("blue")))]).height == count


# --- the frames against one row after the other --------------------------------------------------------------------

WORDS = st.sampled_from(["Blue", "BTL", "café", "CAFÉ", "cafe\u0301", "straße", "x", "0047", "Σ", "ς"])
TEXTS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
PARTS = st.one_of(
    st.builds(text, TEXTS, st.sampled_from(["contains", "equals"]), st.sampled_from(["description", "merchant"])),
    st.builds(
        text, WORDS.map(lambda word: f"{word}$|^x"), st.just("regex"), st.sampled_from(["description", "merchant"])
    ),
    st.builds(
        lambda bounds: {"field": "amount", "minimum": min(bounds), "maximum": max(bounds)},
        st.lists(st.integers(0, 6), min_size=1, max_size=2),
    ),
    st.sampled_from([{"field": "amount", "minimum": "3.01"}, {"field": "amount", "maximum": "2.99"}]),
    st.builds(lambda sign: {"field": "sign", "is": sign}, st.sampled_from(["spending", "income"])),
    st.builds(lambda name: {"field": "account", "equals": name}, st.sampled_from(["card", "giro"])),
    st.builds(lambda code: {"field": "mcc", "equals": code}, st.sampled_from(["5814", "0742"])),
    st.builds(lambda days: {"field": "weekday", "days": sorted(days)}, st.sets(st.integers(0, 6), min_size=1)),
)
RULES = st.lists(
    st.tuples(
        st.lists(PARTS, min_size=1, max_size=3),
        st.sampled_from(["all", "any"]),
        st.integers(-2, 2),
        st.sampled_from("AB"),
    ),
    max_size=6,
).map(
    lambda drawn: [
        rule(place + 1, condition(*parts, match=match), category=category, priority=priority)
        for place, (parts, match, priority, category) in enumerate(drawn)
    ]
)
TRANSACTIONS = st.lists(
    st.fixed_dictionaries(
        {
            "description": TEXTS,
            "merchant": st.none() | TEXTS,
            "merchant_canonical": st.none() | TEXTS,
            "amount": st.integers(-600, 600).map(lambda cents: Decimal(cents) / 100),
            "account": st.sampled_from(["card", "giro"]),
            "mcc": st.sampled_from([None, "5814", "0742"]),
            "date": st.dates(dt.date(2025, 1, 1), dt.date(2025, 1, 14)),
        }
    ),
    max_size=6,
).map(lambda drawn: [transaction(10 + place, **fields) for place, fields in enumerate(drawn)])


def one_by_one(row: dict[str, Any], asks: Condition) -> bool:
    answers = [holds(row, part.model_dump(by_alias=True)) for part in asks.conditions]
    return all(answers) if asks.match == "all" else any(answers)


def holds(row: dict[str, Any], part: dict[str, Any]) -> bool:
    match part["field"]:
        case "amount":
            least, most = part["minimum"], part["maximum"]
            return (least is None or abs(row["amount"]) >= least) and (most is None or abs(row["amount"]) <= most)
        case "sign":
            return bool(row["amount"] < 0 if part["is"] == "spending" else row["amount"] > 0)
        case "account" | "mcc":
            return bool(row[part["field"]] == part["equals"])
        case "weekday":
            return row["date"].weekday() in part["days"]
    names = ["description"] if part["field"] == "description" else ["merchant", "merchant_canonical"]
    return any(reads(row[name], part["operator"], part["value"]) for name in names if row[name] is not None)


def reads(held: str, operator: str, value: str) -> bool:
    held, value = (unicodedata.normalize("NFC", each) for each in (held, value))
    if operator == "regex":
        return re.search(value, held, re.IGNORECASE) is not None
    held, value = held.upper(), value.upper()
    return held == value if operator == "equals" else value in held


@given(TRANSACTIONS, RULES)
@settings(deadline=None, max_examples=300)
def test_matching_a_frame_equals_asking_every_rule_about_every_row(
    rows: list[dict[str, Any]], rules: list[ActiveRule]
) -> None:
    expected = [
        (row["txn_id"], each.rule_id)
        for row in rows
        for each in sorted(rules, key=lambda each: (-each.priority, each.rule_id))
        if one_by_one(row, each.condition)
    ]
    found = match_rules(frame(*rows), rules)
    assert found.select("txn_id", "rule_id").rows() == expected
    first = dict(reversed(expected))
    winners = winning_rules(frame(*rows), rules)
    assert dict(winners.select("txn_id", "rule_id").rows()) == first
    assert dict(found.filter("wins").select("txn_id", "rule_id").rows()) == first
    by_id = {each.rule_id: each for each in rules}
    assert all(by_id[rule_id].category == category for _, rule_id, _, category in winners.rows())


@given(TRANSACTIONS, RULES.filter(bool))
@settings(deadline=None, max_examples=300)
def test_a_rule_called_redundant_can_go_without_changing_any_decision(
    rows: list[dict[str, Any]], rules: list[ActiveRule]
) -> None:
    def decisions(left: list[ActiveRule]) -> list[tuple[Any, ...]]:
        return winning_rules(frame(*rows), left).select("txn_id", "category").rows()

    ordered = in_winning_order(rules)
    overlap = measure_overlap(frame(*rows), ordered)
    for redundant in redundant_rules(ordered, overlap):
        assert decisions([each for each in rules if each.rule_id != redundant]) == decisions(rules)
    assert overlap.wins.sum() == len(decisions(rules))
    for conflict in rule_conflicts(ordered, overlap):
        pair = [each for each in rules if each.rule_id in (conflict.winner_id, conflict.loser_id)]
        both = match_rules(frame(*rows), pair).group_by("txn_id").len().filter(pl.col("len") == 2)
        assert conflict.transactions == both.height > 0
        assert set(winning_rules(frame(*rows), pair).join(both, on="txn_id")["rule_id"]) == {conflict.winner_id}


def test_of_two_rules_alike_the_later_is_redundant_and_of_a_wider_and_a_narrower_the_narrower() -> None:
    ledger = frame(transaction(1), transaction(2, description="BLUE MOON"))
    narrow, wide = condition(text("blue btl")), condition(text("blue"))

    def found(*rules: ActiveRule) -> dict[int, int]:
        ordered = in_winning_order(rules)
        return redundant_rules(ordered, measure_overlap(ledger, ordered))

    assert found(rule(1, wide), rule(2, wide)) == {2: 1}
    assert found(rule(1, wide), rule(2, wide, priority=1)) == {2: 1}
    assert found(rule(1, narrow), rule(2, wide)) == {1: 2}
    assert found(rule(1, narrow), rule(2, wide, category="Other")) == {}
    # Without rule 1 the rule between the two would decide.
    assert found(rule(1, narrow, priority=2), rule(2, wide), rule(3, narrow, category="Other", priority=1)) == {}
    assert found(rule(1, condition(text("never seen"))), rule(2, wide)) == {}


# --- track records --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["Coffee", "Fuel", None]), min_size=1, max_size=12),
    st.integers(0, 11),
)
@settings(deadline=None)
def test_a_record_without_a_transaction_s_own_label_is_that_of_the_others(truths: list[str | None], asked: int) -> None:
    asked %= len(truths)
    asks = rule(1, condition(text("blue")))

    def record(which: list[int]) -> TrackRecord:
        rows = frame(*(transaction(place) for place in which))
        known = rows.with_columns(pl.Series("truth", [truths[place] for place in which], pl.String))
        return measure_rules(known.drop_nulls("truth"), [asks])[1]

    others = [place for place in range(len(truths)) if place != asked]
    assert without_own(record([*others, asked]), asks, truths[asked]) == record(others)


def test_a_label_that_the_record_cannot_have_counted_yet_is_not_taken_out_of_it() -> None:
    asks = rule(1, condition(text("blue")))
    never_right, always_right = TrackRecord(0, 2, 0.0, 0.0, 0.6576), TrackRecord(2, 2, 1.0, 0.3424, 1.0)
    assert without_own(NO_RECORD, asks, "Coffee") is NO_RECORD
    assert without_own(NO_RECORD, asks, "Fuel") is NO_RECORD
    assert without_own(never_right, asks, "Coffee") is never_right
    assert without_own(always_right, asks, "Fuel") is always_right


def test_a_record_of_a_great_many_labels_loses_one_of_them() -> None:
    asks = rule(1, condition(text("blue")))
    left = without_own(TrackRecord(900_000, 1_000_000, 0.9, 0.8994, 0.9006), asks, "Coffee")
    assert (left.hits, left.total) == (899_999, 999_999)
    assert [left.lower, left.upper] == pytest.approx([0.8994, 0.9006], abs=1e-4)


# --- proposals ------------------------------------------------------------------------------------------------------


def labelled(*rows: tuple[str | None, str | None, str]) -> pl.DataFrame:
    schema = {"merchant": pl.String, "merchant_canonical": pl.String, "label": pl.String}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


@pytest.mark.parametrize(
    ("same", "other", "is_proposed"),
    [(2, 0, False), (3, 0, True), (3, 1, False), (9, 1, True), (8, 1, False), (30, 3, True), (30, 4, False)],
)
def test_a_merchant_is_proposed_when_enough_labels_agree(same: int, other: int, *, is_proposed: bool) -> None:
    rows = [("tesco", None, "Groceries")] * same + [("tesco", None, "Fuel")] * other
    assert mine_merchants(labelled(*rows)).height == is_proposed


def test_a_merchant_is_proposed_under_the_name_it_is_shown_under_with_all_that_this_name_matches() -> None:
    rows = [("tesco", None, "Groceries")] * 2 + [("tesco stor", "Tesco", "Groceries"), (None, None, "Groceries")]
    (found,) = mine_merchants(labelled(*rows)).iter_rows(named=True)
    assert (found["shown_as"], found["label"], found["hits"], found["support"]) == ("Tesco", "Groceries", 3, 3)
    assert found["lower"] == pytest.approx(0.4385, abs=1e-4)


def test_wilson_s_interval_is_that_of_the_priors() -> None:
    lower, upper = wilson_interval(pl.col("hits"), pl.col("total"))
    found = pl.DataFrame({"hits": [81, 0, 3], "total": [263, 10, 3]}).select(lower.alias("lower"), upper.alias("upper"))
    # 81 of 263: the example of Newcombe (1998), Statistics in Medicine 17, table I.
    assert np.allclose(found.row(0), (0.2553, 0.3662), atol=1e-4)
    assert found["lower"][1] == 0
    assert found["upper"][2] == 1
