"""The sample ledger holds every difficulty it promises, and the same seed gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from statistics import NormalDist
from typing import TYPE_CHECKING

import iso18245
import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from app.cli.sample import sample
from app.errors import InvalidInput
from app.services.sample import generate_ledger, write_ledger
from app.services.sample.draws import Draws, zipf_weights
from app.services.sample.merchants import TOWNS
from app.services.sample.statements import JOINT_WIDTH

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = (0, 1, 7)
COLUMNS = [
    "date",
    "time",
    "description",
    "amount",
    "currency",
    "account",
    "mcc",
    "type",
    "category",
    "true_category",
]


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed {seed}")
def ledger(request: pytest.FixtureRequest) -> pl.DataFrame:
    """The default ledger of one household."""
    return generate_ledger(seed=request.param)


def as_csv(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    write_ledger(frame, buffer, truth=True)
    return buffer.getvalue()


def share(condition: pl.Series) -> float:
    """Part of the rows for which the condition holds."""
    return float(np.mean(condition.to_numpy()))


def with_shop(ledger: pl.DataFrame) -> pl.DataFrame:
    """Card purchases with the shop's name alone: no processor, wording, codes, store number or town.

    The joint account is left out, whose names are cut.
    """
    towns = "|".join(TOWNS).upper()
    return ledger.filter(
        pl.col("description").str.contains(rf"^Card payment to |(?i:{towns}|Internet|\d) +GB$| LU$"),
        pl.col("account").str.contains("current|card"),
        pl.col("amount") < 0,
    ).select(
        "date",
        pl.col("description")
        .str.to_uppercase()
        .str.replace(r"^CARD PAYMENT TO (.*) ON \d\d [A-Z]{3}$", "$1")
        .str.replace(rf" +({towns}|INTERNET|\d{{10}}) GB$", "")
        .str.replace(r"^(AMZN MKTP UK|AMAZON.CO.UK).*", "AMAZON")
        .str.replace(r"^(SQ|SUMUP|PAYPAL) \*", "")
        .str.replace(r" \d{4}$", "")
        .alias("shop"),
    )


# --- the same everywhere ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = as_csv(generate_ledger(seed=5, months=3))
    assert as_csv(generate_ledger(seed=5, months=3)) == first
    assert as_csv(generate_ledger(seed=6, months=3)) != first


def test_the_bytes_are_those_of_any_other_machine_and_version() -> None:
    # A change of the generator changes this on purpose; a new NumPy, Polars or processor must not.
    digest = hashlib.sha256(as_csv(generate_ledger(seed=5, months=3, rows=2_000))).hexdigest()
    assert digest == "e42672cb8f6c8001972dfed6cea77ee98d57f04dcc74b2241fd455b04aa52320"


def test_neither_hash_order_nor_time_zone_nor_the_day_reach_the_bytes() -> None:
    program = (
        "import sys; from app.services.sample import generate_ledger, write_ledger;"
        "write_ledger(generate_ledger(seed=5, months=2), sys.stdout.buffer)"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "POLARS_MAX_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed, zone, threads in (("1", "UTC", "1"), ("2", "Asia/Tokyo", "3"))
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 10_000


def test_no_entry_of_the_skew_table_is_so_near_a_half_that_a_processor_could_round_it_otherwise() -> None:
    exact = [1000 * math.exp(0.45 * NormalDist().inv_cdf((index + 0.5) / 1024)) for index in range(1024)]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-6


# --- the shape -------------------------------------------------------------------------------------------


def test_columns_types_period_order_and_signs_are_as_promised(ledger: pl.DataFrame) -> None:
    assert ledger.columns == COLUMNS
    assert ledger.schema["amount"] == pl.Decimal(18, 2)
    assert ledger.schema["mcc"] == pl.String
    assert min(ledger["date"]) == date(2023, 11, 1)
    assert max(ledger["date"]) == date(2025, 10, 31)
    assert ledger["date"].dt.strftime("%Y-%m").n_unique() == 24
    in_order = ledger.sort("date", "time", nulls_last=False, maintain_order=True)
    assert ledger.equals(in_order)
    assert (ledger["amount"] != 0).all()
    spending = ledger.filter(~pl.col("true_category").is_in(["Income", "Transfers"]))
    assert share(spending["amount"] < 0) > 0.97
    assert (ledger.filter(true_category="Income")["amount"] > 0).all()
    assert max(ledger["amount"].abs()) < Decimal(10_000)
    assert not ledger.select(pl.exclude("time", "mcc", "type")).null_count().sum_horizontal().item()


def test_about_fifteen_categories_are_in_use(ledger: pl.DataFrame) -> None:
    sizes = ledger["true_category"].value_counts()
    assert 14 <= len(sizes) <= 17
    assert min(sizes["count"]) >= 20


@pytest.mark.parametrize("rows", [3_000, 6_000, 20_000])
def test_the_number_of_rows_is_about_what_was_asked_for(rows: int) -> None:
    assert len(generate_ledger(seed=2, months=12, rows=rows)) == pytest.approx(rows, rel=0.05)


def test_a_household_has_its_natural_size_by_default(ledger: pl.DataFrame) -> None:
    assert len(ledger) == pytest.approx(6_000, rel=0.05)


def test_a_larger_ledger_holds_more_households_and_more_merchants(ledger: pl.DataFrame) -> None:
    large = generate_ledger(seed=2, rows=24_000)
    assert set(large["account"].unique()) == {
        f"{account}{suffix}" for account in ("current", "joint", "card", "savings") for suffix in ("", " 2", " 3", " 4")
    }
    assert with_shop(large)["shop"].n_unique() > 1.5 * with_shop(ledger)["shop"].n_unique()


def test_a_million_rows_take_less_than_twenty_seconds() -> None:
    started = time.perf_counter()
    rows = len(generate_ledger(seed=3, rows=1_000_000))
    assert time.perf_counter() - started < 20
    assert rows == pytest.approx(1_000_000, rel=0.02)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"seed": -1}, "--seed"),
        ({"seed": 1, "months": 0}, "--months"),
        ({"seed": 1, "months": 601}, "--months"),
        ({"seed": 1, "months": 24, "rows": 100}, "--rows"),
        ({"seed": 1, "end": date(1900, 6, 1)}, "--end"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_the_option_to_change(options: dict[str, int], advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice):
        generate_ledger(**options)  # type: ignore[arg-type]  # one case has a date


@pytest.mark.parametrize("end", [date(2024, 2, 29), date(2024, 3, 1), date(2023, 12, 15), date(2025, 1, 31)])
def test_any_day_can_be_the_last(end: date) -> None:
    ledger = generate_ledger(seed=1, months=2, end=end)
    assert max(ledger["date"]) <= end
    assert min(ledger["date"]).day == 1


def test_a_single_month_works_too() -> None:
    assert generate_ledger(seed=1, months=1)["date"].dt.month().unique().to_list() == [10]


# --- the difficulties ------------------------------------------------------------------------------------


def test_three_per_cent_of_import_labels_are_wrong_and_each_other_category_is_equally_likely() -> None:
    ledger = generate_ledger(seed=11, rows=200_000)
    wrong = ledger.filter(pl.col("category") != pl.col("true_category"))
    deviation = math.sqrt(0.03 * 0.97 * len(ledger))
    assert abs(len(wrong) - 0.03 * len(ledger)) < 4 * deviation
    categories = ledger["true_category"].unique().sort()
    assert set(wrong["category"]) == set(categories)
    # Of the rows of one category, every other category gets 1/15 of what is wrong.
    groceries = wrong.filter(true_category="Groceries")
    shares = groceries["category"].value_counts()["count"].to_numpy() / len(groceries)
    expected = 1 / (len(categories) - 1)
    assert len(shares) == len(categories) - 1
    assert np.abs(shares - expected).max() < 4.5 * math.sqrt(expected * (1 - expected) / len(groceries))


def test_one_households_wrong_labels_lie_within_binomial_bounds(ledger: pl.DataFrame) -> None:
    wrong = sum(ledger["category"] != ledger["true_category"])
    assert abs(wrong - 0.03 * len(ledger)) < 4 * math.sqrt(0.03 * 0.97 * len(ledger))


def test_a_few_merchants_take_most_purchases_and_many_are_seen_once(ledger: pl.DataFrame) -> None:
    visits = with_shop(ledger)["shop"].value_counts(sort=True)["count"]
    assert sum(visits.head(len(visits) // 10)) > 0.4 * sum(visits)
    assert share(visits == 1) > 0.25


def test_new_merchants_appear_in_every_month(ledger: pl.DataFrame) -> None:
    first_seen = with_shop(ledger).group_by("shop").agg(pl.col("date").min().dt.strftime("%Y-%m").alias("month"))
    new = first_seen["month"].value_counts().sort("month")["count"]
    assert len(new) == 24
    assert sum(new[-12:]) > 12 * 8


@pytest.mark.parametrize("prefix", ["SQ *", "SUMUP *", "PAYPAL *", "AMZN MKTP UK*"])
def test_processors_and_marketplaces_stand_before_the_name(ledger: pl.DataFrame, prefix: str) -> None:
    assert ledger["description"].str.to_uppercase().str.contains(prefix, literal=True).sum() >= 10


def test_a_marketplace_gives_every_order_a_code_of_its_own(ledger: pl.DataFrame) -> None:
    orders = ledger.filter(pl.col("amount") < 0)["description"].str.to_uppercase()
    codes = orders.str.extract(r"AMZN MKTP UK\*([0-9A-Z]{9})").drop_nulls()
    assert codes.n_unique() == len(codes) > 10


def test_one_bank_cuts_descriptions_at_a_fixed_width(ledger: pl.DataFrame) -> None:
    width = ledger.filter(account="joint")["description"].str.len_chars()
    assert max(width) == JOINT_WIDTH
    assert share(width == JOINT_WIDTH) > 0.3
    elsewhere = ledger.filter(pl.col("account") != "joint")["description"].str.len_chars()
    assert max(elsewhere) > JOINT_WIDTH


def test_chains_carry_store_numbers_and_town_tails(ledger: pl.DataFrame) -> None:
    tesco = ledger["description"].str.extract(r"^TESCO STORES (\d{4}) +HALIFAX GB$").drop_nulls()
    assert tesco.n_unique() >= 2
    assert ledger["description"].str.contains(r"^[A-Z ]+ \d{4} +[A-Z ]+ GB$").sum() > 100


@pytest.mark.parametrize("brand", ["tesco stores", "amazon|amzn", "wellbridge pharmacy", "amber fuels"])
def test_one_merchant_stands_in_several_categories(ledger: pl.DataFrame, brand: str) -> None:
    of_brand = ledger.filter(pl.col("description").str.to_lowercase().str.contains(brand))
    assert of_brand["true_category"].n_unique() >= 2


def test_the_amount_tells_something_about_which_category_of_a_merchant_it_is() -> None:
    tesco = generate_ledger(seed=4, rows=30_000).filter(
        pl.col("description").str.to_lowercase().str.contains("tesco stores")
    )
    typical = dict(tesco.group_by("true_category").agg(pl.col("amount").abs().cast(pl.Float64).median()).iter_rows())
    assert typical["Fuel"] > 1.3 * typical["Groceries"] > 1.3 * 1.3 * typical["Shopping"]


def test_the_account_tells_something_about_the_category(ledger: pl.DataFrame) -> None:
    by_joint = dict(ledger.group_by("true_category").agg((pl.col("account") == "joint").mean()).iter_rows())
    assert by_joint["Groceries"] > 2 * by_joint["Eating out"]


def test_refunds_give_back_exactly_what_an_earlier_purchase_took(ledger: pl.DataFrame) -> None:
    back = ledger.filter((pl.col("amount") > 0) & ~pl.col("true_category").is_in(["Income", "Transfers"]))
    assert len(back) >= 10
    earlier = ledger.filter(pl.col("amount") < 0).select("account", "true_category", "date", -pl.col("amount"))
    pairs = back.with_row_index().join(earlier, on=["account", "true_category", "amount"])
    assert pairs.filter(pl.col("date_right") < pl.col("date"))["index"].n_unique() == len(back)


def test_both_legs_of_a_transfer_between_own_accounts_are_there(ledger: pl.DataFrame) -> None:
    transfers = ledger.filter(true_category="Transfers")
    assert set(transfers["account"]) == {"current", "joint", "card", "savings"}
    assert transfers["amount"].sum() == 0
    leaving = transfers.filter(pl.col("amount") < 0)
    assert len(leaving) * 2 == len(transfers) > 50


@pytest.mark.parametrize(
    ("words", "category", "account"),
    [
        ("SALARY", "Income", "current"),
        ("RENT", "Housing", "joint"),
        ("DIRECT DEBIT|DD ", "Utilities", "current"),
        ("^CASH ", "Cash", "current"),
        ("ACCOUNT FEE", "Fees", "current"),
        ("INTEREST CHARGED", "Fees", "card"),
        ("INTEREST EARNED", "Income", "savings"),
        ("INSURANCE", "Insurance", "current"),
    ],
)
def test_pay_bills_cash_fees_and_interest_are_there(
    ledger: pl.DataFrame, words: str, category: str, account: str
) -> None:
    rows = ledger.filter(pl.col("description").str.to_uppercase().str.contains(words), true_category=category)
    assert account in rows["account"].unique()
    assert len(rows) >= 10


def test_subscriptions_come_monthly_and_change_their_price_once_on_a_date(ledger: pl.DataFrame) -> None:
    prices = ledger.filter(pl.col("description") == "STREAMHAUS")
    assert len(prices) == 24
    assert prices["amount"].unique(maintain_order=True).to_list() == [Decimal("-10.99"), Decimal("-12.99")]
    assert (prices["amount"].diff().fill_null(0) != 0).sum() == 1


def test_one_bank_changes_its_wording_midway_for_the_same_shops(ledger: pl.DataFrame) -> None:
    shops = ledger.filter(pl.col("account") == "current", pl.col("type") == "POS", pl.col("amount") < 0)
    new = shops["description"].str.contains(r"^Card payment to .* on \d\d [A-Z][a-z]{2}$")
    changed_on = min(shops.filter(new)["date"])
    assert date(2024, 6, 1) < changed_on < date(2025, 6, 1)
    assert max(shops.filter(~new)["date"]) < changed_on
    old_names = set(with_shop(shops.filter(~new))["shop"])
    assert len(old_names & set(with_shop(shops.filter(new))["shop"])) >= 20
    stated = shops.filter(new).select(
        pl.col("description").str.extract(r"on (\d\d [A-Z][a-z]{2})$") == pl.col("date").dt.strftime("%d %b")
    )
    assert stated.to_series().all()


def test_banks_give_time_code_and_type_each_in_its_own_way(ledger: pl.DataFrame) -> None:
    given = ledger.group_by("account").agg(pl.col("time", "mcc", "type").is_not_null().mean()).sort("account")
    shares = {account: (times, codes, types) for account, times, codes, types in given.iter_rows()}
    assert shares["current"] == (0.0, 0.0, 1.0)
    assert shares["savings"] == (0.0, 0.0, 0.0)
    assert shares["joint"][0] > 0.8
    assert shares["joint"][1:] == (0.0, 0.0)
    assert min(shares["card"][:2]) > 0.8
    assert shares["card"][2] == 0.0


def test_merchant_category_codes_are_valid_and_not_always_the_category(ledger: pl.DataFrame) -> None:
    coded = ledger.drop_nulls("mcc")
    for code in coded["mcc"].unique():
        iso18245.validate_mcc(code)
    assert max(coded.group_by("mcc").agg(pl.col("true_category").n_unique())["true_category"]) >= 2


def test_spending_follows_the_season(ledger: pl.DataFrame) -> None:
    shopping = ledger.filter(true_category="Shopping")["date"].dt.month().value_counts()
    by_month = dict(shopping.iter_rows())
    assert by_month[12] > 2 * by_month[2]
    travel = ledger.filter(true_category="Travel")["date"].dt.month()
    assert share(travel.is_in([6, 7, 8])) > 0.3


def test_two_identical_coffees_on_one_day_are_two_rows(ledger: pl.DataFrame) -> None:
    twins = ledger.filter(account="current", true_category="Eating out").group_by("date", "description", "amount").len()
    assert (twins["len"] > 1).sum() >= 3


def test_some_names_are_not_plain_latin_letters(ledger: pl.DataFrame) -> None:
    accented = ledger["description"].str.extract_all(r"[^\x00-\x7f]").explode().drop_nulls()
    assert len(accented) > 30
    assert accented.n_unique() >= 3


# --- the file --------------------------------------------------------------------------------------------


def test_columns_of_labels_are_written_as_asked(tmp_path: Path) -> None:
    ledger = generate_ledger(seed=1, months=1)
    headers = {}
    for categories in (True, False):
        for truth in (True, False):
            path = tmp_path / "ledger.csv"
            write_ledger(ledger, path, categories=categories, truth=truth)
            headers[categories, truth] = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert headers[True, True] == COLUMNS
    assert headers[True, False] == COLUMNS[:-1]
    assert headers[False, True] == [*COLUMNS[:-2], "true_category"]
    assert headers[False, False] == COLUMNS[:-2]


def test_times_are_written_to_the_second_and_amounts_with_two_decimals(tmp_path: Path) -> None:
    write_ledger(generate_ledger(seed=1, months=1), tmp_path / "ledger.csv")
    written = pl.read_csv(tmp_path / "ledger.csv", infer_schema=False)
    assert written["time"].drop_nulls().str.contains(r"^\d\d:\d\d:\d\d$").all()
    assert written["time"].null_count() > 0
    assert written["amount"].str.contains(r"^-?\d+\.\d\d$").all()
    assert written["date"].str.contains(r"^2025-10-\d\d$").all()


def test_a_compressed_file_holds_the_same_and_nothing_of_its_name_or_moment(tmp_path: Path) -> None:
    ledger = generate_ledger(seed=1, months=1)
    for name in ("a.csv", "a.csv.gz", "b.csv.gz"):
        write_ledger(ledger, tmp_path / name)
    compressed = (tmp_path / "a.csv.gz").read_bytes()
    assert compressed == (tmp_path / "b.csv.gz").read_bytes()
    assert compressed[3:8] == bytes(5)  # no flags, so no name; moment 0
    assert gzip.decompress(compressed) == (tmp_path / "a.csv").read_bytes()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        write_ledger(generate_ledger(seed=1, months=1), tmp_path / "nowhere" / "ledger.csv")


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(sample)
    return app


def test_the_command_writes_the_file_and_says_so_in_one_line_on_stderr(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv.gz"
    options = ["--seed", "5", "--months", "3", "--end", "2024-06-30", "--rows", "700", "--truth"]
    result = CliRunner().invoke(command, [str(path), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    ledger = generate_ledger(seed=5, months=3, end=date(2024, 6, 30), rows=700)
    assert result.stderr.splitlines() == [
        f"Wrote {len(ledger):,} rows of 4 accounts from 2024-04-01 to 2024-06-30 to {path}."
    ]
    assert gzip.decompress(path.read_bytes()) == as_csv(ledger)


def test_the_command_writes_to_standard_output(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["-", "--months", "1", "--no-categories"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split(",") == COLUMNS[:-2]
    assert "to standard output." in result.stderr


def test_the_command_names_the_day_it_cannot_read(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["--end", "31/10/2025"])
    assert result.exit_code == 2
    assert "2025-10-31" in result.stderr


# --- the draws -------------------------------------------------------------------------------------------


def test_draws_below_a_bound_are_uniform_and_weighted_draws_follow_their_weights() -> None:
    draws = Draws(1)
    counts = np.bincount(draws.below(10, 100_000), minlength=10)
    assert len(counts) == 10
    assert np.abs(counts - 10_000).max() < 4.5 * math.sqrt(100_000 * 0.1 * 0.9)
    weights = zipf_weights(5)
    drawn = np.bincount(draws.weighted(weights, 100_000), minlength=5) / 100_000
    assert drawn == pytest.approx(weights / weights.sum(), abs=0.01)


def test_the_raw_stream_is_the_one_that_numpy_promises_for_ever() -> None:
    assert Draws(42).below(1_000_000, 4).tolist() == [773956, 438878, 858597, 697368]
