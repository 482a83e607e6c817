"""How dates and amounts are read: by the whole column, or not at all."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from app.errors import AmbiguousInput, InvalidInput
from app.services.statements import no_time_at_midnight, read_mccs
from app.services.statements.amounts import read_amounts
from app.services.statements.dates import MONTHS, read_dates

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., Any]


def _statement(dates: list[str], amounts: list[str] | None = None) -> str:
    pairs = zip(dates, amounts or ["-1.50"] * len(dates), strict=True)
    return "date;description;amount\n" + "".join(f"{day};Shop;{amount}\n" for day, amount in pairs)


DATES = [
    ("2025-03-04", "ymd"),
    ("2025/3/4", "ymd"),
    ("2025.03.04.", "ymd"),
    ("20250304", "ymd"),
    ("25-03-04", "ymd"),
    ("04/03/2025", "dmy"),
    ("4.3.2025", "dmy"),
    ("04-03-25", "dmy"),
    ("4. 3. 2025", "dmy"),
    ("04032025", "dmy"),
    ("03/04/2025", "mdy"),
    ("3/ 4'25", "mdy"),
    ("3/4'2025", "mdy"),
    ("4 March 2025", "dmy"),
    ("04-Mar-25", "mdy"),
    ("04MAR2025", "ymd"),
    ("March 4th, 2025", "dmy"),
    ("4. März 2025", "dmy"),
    ("4 de marzo de 2025", "dmy"),
    ("2025-Mar-04", "dmy"),
    ("04.03.2025", "%d.%m.%Y"),
    ("2025|03|04", "%Y|%m|%d"),
]


@pytest.mark.parametrize(("text", "date_format"), DATES)
def test_a_date_is_read_by_the_format_of_its_column(text: str, date_format: str) -> None:
    read = read_dates(pl.Series([text]), date_format)
    assert read["date"].to_list() == [date(2025, 3, 4)]
    assert read["problem"].to_list() == [None]


def test_every_month_name_is_read() -> None:
    for number, names in MONTHS.items():
        texts = pl.Series([f"9 {name.upper()} 2024" for name in names.split()])
        assert set(read_dates(texts, "dmy")["date"]) == {date(2024, number, 9)}


TIMES = [
    ("2025-03-04T14:05:06Z", "14:05:06"),
    ("2025-03-04 14:05:06.123456", "14:05:06"),
    ("2025-03-04 14:05", "14:05:00"),
    ("2025-03-04, 2:05 PM", "14:05:00"),
    ("2025-03-04 12:30 a.m.", "00:30:00"),
    ("2025-03-04T14:05:06+02:00", "14:05:06"),
    ("2025-03-04 00:00:00", None),
    ("2025-03-04", None),
]


@pytest.mark.parametrize(("text", "clock"), TIMES)
def test_the_time_beside_a_date_is_the_wall_clock_as_printed(read: Read, text: str, clock: str | None) -> None:
    statement = read(_statement([text]))
    expected = datetime.fromisoformat(f"2025-03-04T{clock}") if clock else None
    assert statement.column("posted_at") == [expected]
    assert statement.dates() == ["2025-03-04"]


def test_a_time_of_its_own_column_joins_the_date(read: Read) -> None:
    statement = read("Date,Time,Description,Amount\n31/01/2025,14:30,A,1.50\n31/01/2025,,B,1.50\n")
    assert statement.column("posted_at") == [datetime(2025, 1, 31, 14, 30), None]  # noqa: DTZ001 - no zone is the point


def test_midnight_is_no_time_beside_a_date_or_alone() -> None:
    midnight, noon = datetime(2025, 1, 31), datetime(2025, 1, 31, 12)  # noqa: DTZ001 - wall clocks
    moments = pl.DataFrame({"at": [midnight, noon, None]})
    assert moments.select(no_time_at_midnight("at"))["at"].to_list() == [None, noon, None]
    times = moments.select(pl.col("at").dt.time())
    assert times.select(no_time_at_midnight("at"))["at"].to_list() == [None, noon.time(), None]


def test_a_pattern_may_hold_the_time(read: Read) -> None:
    statement = read(_statement(["04.03.25 14h05"]), date_format="%d.%m.%y %Hh%M")
    assert statement.column("posted_at") == [datetime(2025, 3, 4, 14, 5)]  # noqa: DTZ001 - no zone is the point


def test_two_digit_years_pivot_between_1969_and_2068() -> None:
    read = read_dates(pl.Series(["31/12/68", "31/12/69"]), "dmy")
    assert read["date"].to_list() == [date(2068, 12, 31), date(1969, 12, 31)]


@pytest.mark.parametrize(
    ("dates", "choices"),
    [
        (["03/04/2025", "05/06/2025"], ("dmy", "mdy")),
        (["03.04.25"], ("dmy", "mdy")),
        (["03042025"], ("dmy", "mdy")),
        (["31/12/2025", "12/31/2025"], ("dmy", "mdy")),
        (["31/12/2025", "2025-12-31"], ("dmy", "ymd")),
        (["24-12-31"], ("dmy", "ymd")),
    ],
)
def test_dates_that_leave_a_choice_are_a_question(read: Read, dates: list[str], choices: tuple[str, ...]) -> None:
    with pytest.raises(AmbiguousInput, match="--date-format") as refusal:
        read(_statement(dates))
    assert (refusal.value.option, refusal.value.choices) == ("date_format", choices)


def test_one_telling_date_decides_for_the_whole_column(read: Read) -> None:
    assert read(_statement(["03/04/2025"] * 500 + ["13/04/2025"])).dates()[0] == "2025-04-03"
    assert read(_statement(["03/04/2025"] * 500 + ["04/13/2025"])).dates()[0] == "2025-03-04"


def test_dates_that_mean_the_same_either_way_are_no_question(read: Read) -> None:
    assert read(_statement(["04/04/2025", "05/05/2025"])).dates() == ["2025-04-04", "2025-05-05"]


def test_with_the_question_answered_what_does_not_fit_is_rejected(read: Read) -> None:
    statement = read(_statement(["31/12/2025", "12/31/2025", "03/04/2025"]), date_format="mdy")
    assert statement.dates() == ["2025-12-31", "2025-03-04"]
    assert statement.reasons() == {2: "date '31/12/2025' is not a calendar date"}


def test_a_few_values_that_are_no_dates_do_not_hold_up_the_others(read: Read) -> None:
    statement = read(_statement(["31/12/2025", "pending", "31/02/2025", "03/04/2025"]))
    assert statement.dates() == ["2025-12-31", "2025-04-03"]
    assert sorted(statement.reasons()) == [3, 4]


def test_a_date_column_without_dates_is_refused(read: Read) -> None:
    with pytest.raises(InvalidInput, match="No value in column 'date' is a date"):
        read(_statement(["soon", "later"]))


AMOUNTS = [
    ("1", ".", "1"),
    ("+1.5", ".", "1.5"),
    ("-1,234.56", ".", "-1234.56"),
    ("-1.234,56", ",", "-1234.56"),
    ("1 234,56-", ",", "-1234.56"),
    ("1\u00a0234,56", ",", "1234.56"),
    ("1\u202f234.56", ".", "1234.56"),
    ("1'234.56", ".", "1234.56"),
    ("1\u2019234.56", ".", "1234.56"),
    ("12,34,567.89", ".", "1234567.89"),
    ("(12.34)", ".", "-12.34"),
    ("($12.34)", ".", "-12.34"),
    ("$(12.34)", ".", None),
    ("-$12.34", ".", "-12.34"),
    ("$-12.34", ".", "-12.34"),
    ("£12.34", ".", "12.34"),
    ("12,34 €", ",", "12.34"),
    ("EUR -12,34", ",", "-12.34"),
    ("12,34 EUR", ",", "12.34"),
    ("R$ 12,34", ",", "12.34"),
    ("12,34 kr.", ",", "12.34"),
    ("\u221212.34", ".", "-12.34"),
    ("\u201312.34", ".", "-12.34"),
    (".50", ".", "0.50"),
    ("12.", ".", "12"),
    ("1.500", ".", "1.5"),
    ("1.500", ",", "1500"),
    ("0.500", ",", None),
    ("9999999999999999.99", ".", "9999999999999999.99"),
    ("10000000000000000", ".", None),
    ("9" * 400, ".", None),
    ("0.100000000000000000000000000000001", ".", None),
    ("12,3.4", ".", None),
    ("1,23", ".", None),
    ("--1", ".", None),
    ("-(1)", ".", None),
    ("(1", ".", None),
    ("-1 CR", ".", None),
    ("1e3", ".", None),
    ("12%", ".", None),
    ("12 pcs", ".", None),
    ("NaN", ".", None),
    ("-", ".", None),
    ("٣", ".", None),
    ("１２．５０", ".", None),
    ("1٢.50", ".", None),
]


@pytest.mark.parametrize(("text", "decimal", "value"), AMOUNTS)
def test_an_amount_is_read_exactly_or_not_at_all(text: str, decimal: str, value: str | None) -> None:
    read = read_amounts(pl.Series([text]), decimal).row(0, named=True)
    found = None if read["value"] is None else (-read["value"] if read["negative"] else read["value"])
    assert found == (None if value is None else Decimal(value))
    assert (read["problem"] is None) == (value is not None)


@pytest.mark.parametrize("text", ["٣٫٥٠", "１２.50", "1٢.50"])
def test_digits_of_other_scripts_are_refused_for_what_they_are(text: str) -> None:
    assert read_amounts(pl.Series([text]), ".")["problem"].to_list() == ["has digits other than 0 to 9"]


@pytest.mark.parametrize("text", ["٠٤/٠٣/2025", "２０２５-03-04", "2025-03-04 １4:05"])
def test_dates_in_digits_of_other_scripts_are_no_dates(text: str) -> None:
    for date_format in ("dmy", "ymd", "%Y-%m-%d"):
        assert read_dates(pl.Series([text]), date_format)["date"].to_list() == [None]


@pytest.mark.parametrize("amounts", [["1.000", "2.500"], ["1,000"], ["-1.234", "100"], ["1.000,00", "1,000.00"]])
def test_amounts_that_leave_a_choice_are_a_question(read: Read, amounts: list[str]) -> None:
    with pytest.raises(AmbiguousInput, match="--decimal") as refusal:
        read(_statement(["2025-01-31"] * len(amounts), amounts))
    assert (refusal.value.option, refusal.value.choices) == ("decimal", (".", ","))


def test_one_telling_amount_decides_for_the_whole_column(read: Read) -> None:
    days = ["2025-01-31"] * 2
    assert read(_statement(days, ["1.000", "2,5"])).amounts() == ["1000.00", "2.50"]
    assert read(_statement(days, ["1.000", "2.5"])).amounts() == ["1.00", "2.50"]
    assert read(_statement(days, ["1.000", "2.50"]), decimal=",").reasons() == {3: "amount '2.50' is not a number"}


def test_the_currency_comes_from_its_column_the_amount_or_the_header(read: Read) -> None:
    assert read("date,description,amount,currency\n2025-01-31,A,1.50,gbp\n").column("currency") == ["GBP"]
    assert read("date,description,amount\n2025-01-31,A,€1.50\n2025-01-31,B,1.50 USD\n").column("currency") == [
        "EUR",
        "USD",
    ]
    assert read("date;description;Betrag (CHF)\n2025-01-31;A;1,50\n").column("currency") == ["CHF"]
    assert read("date,description,amount\n2025-01-31,A,1.50\n").column("currency") == [None]


def test_merchant_category_codes_are_checked_and_counted(read: Read) -> None:
    statement = read(
        "date,description,amount,mcc\n2025-01-31,A,1.50,5411\n2025-01-31,B,1.50,742\n2025-01-31,C,1.50,9999\n2025-01-31,D,1.50,x\n2025-01-31,E,1.50,\n"
    )
    assert statement.column("mcc") == ["5411", "0742", None, None, None]
    assert any(warning.startswith("2 values in 'mcc'") for warning in statement.layout.warnings)


def test_codes_in_digits_of_other_scripts_are_no_codes() -> None:
    assert read_mccs(pl.Series(["5411", "５４１１", "742.0"])).to_list() == ["5411", None, "0742"]
