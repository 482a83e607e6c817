"""What holds for every file, shown on files that hypothesis makes up."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.errors import AmbiguousInput, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., Any]

DAYS = st.dates(date(1970, 1, 1), date(2068, 12, 31))
CENTS = st.integers(-(10**17), 10**17).map(lambda cents: Decimal(cents) / 100)

DAY_FORMATS = [
    "%Y-%m-%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%y",
    "%m/%d/%y",
    "%Y%m%d",
    "%d%m%Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%Y-%m-%dT14:05:06Z",
    "%d.%m.%Y 09:15",
]


def write_amount(amount: Decimal, decimal: str, thousands: str, style: str) -> str:
    digits = f"{abs(amount):,.2f}".replace(",", "t").replace(".", decimal).replace("t", thousands)
    if amount >= 0:
        style = style.translate(dict.fromkeys(map(ord, "-\u2212()")))
    return style.replace("#", digits)


@given(
    lines=st.lists(
        st.one_of(
            st.text(
                st.characters(exclude_categories=["Cs", "Cc"], include_characters="\0\t", exclude_characters='"'),
                max_size=40,
            ),
            st.builds(
                "{};{};{}".format,
                st.sampled_from(["01/02/2025", "x", ""]),
                st.just("Shop"),
                st.sampled_from(["1", "", "y"]),
            ),
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_every_record_is_a_row_or_a_rejection_with_its_line(read: Read, lines: list[str]) -> None:
    statement = read(
        "date;description;amount\n" + "\n".join(lines), delimiter=";", date_format="dmy", decimal=".", encoding="utf-8"
    )
    written = [number for number, line in enumerate(lines, start=2) if line.replace("\0", "").strip()]
    assert sorted(statement.column("line") + list(statement.reasons())) == written
    assert not any("\0" in text for text in statement.column("description"))


@given(content=st.one_of(st.binary(max_size=300), st.text('ad,;"\n\r\t 019-./\0é', max_size=300).map(str.encode)))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("head", [b"", b"date,description,amount\n", b"<OFX>", b"!Type:Bank\n"])
def test_any_bytes_are_refused_with_a_reason_or_accounted_for(read: Read, head: bytes, content: bytes) -> None:
    refusal = None
    try:
        statement = read(head + content)
    except InvalidInput as error:
        refusal = str(error)
    if refusal is None:
        assert len(statement.rows) + len(statement.rejected) == statement.layout.row_count
    else:
        assert refusal.endswith(".")


@given(
    amounts=st.lists(CENTS, min_size=1, max_size=20),
    decimal_and_thousands=st.sampled_from(
        [(".", ","), (".", ""), (".", "'"), (".", " "), (",", "."), (",", ""), (",", "\u00a0")]
    ),
    style=st.sampled_from(["-#", "#-", "(#)", "-€#", "(€#)", "-# EUR", "\u2212#", "EUR -#", "- #"]),
)
@settings(max_examples=60, deadline=None)
def test_amounts_come_back_from_every_convention(
    read: Read, amounts: list[Decimal], decimal_and_thousands: tuple[str, str], style: str
) -> None:
    decimal, thousands = decimal_and_thousands
    written = [write_amount(amount, decimal, thousands, style) for amount in amounts]
    statement = read("date;description;amount\n" + "".join(f"2025-01-31;Shop;{text}\n" for text in written))
    assert statement.column("amount") == amounts
    assert statement.layout.decimal == decimal


@given(days=st.lists(DAYS, min_size=1, max_size=20), day_format=st.sampled_from(DAY_FORMATS))
@settings(max_examples=60, deadline=None)
def test_dates_come_back_from_every_format_once_one_of_them_tells(
    read: Read, days: list[date], day_format: str
) -> None:
    days = [*days, date(2025, 12, 31)]
    statement = read("date;description;amount\n" + "".join(f"{day.strftime(day_format)};Shop;1.50\n" for day in days))
    assert statement.column("date") == days


@given(days=st.lists(DAYS.filter(lambda day: day.day <= 12), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_dates_that_may_be_either_are_asked_about_exactly_when_it_matters(read: Read, days: list[date]) -> None:
    content = "date;description;amount\n" + "".join(f"{day:%d/%m/%Y};Shop;1.50\n" for day in days)
    if all(day.day == day.month for day in days):
        assert read(content).column("date") == days
    else:
        with pytest.raises(AmbiguousInput) as refusal:
            read(content)
        assert refusal.value.choices == ("dmy", "mdy")
        assert read(content, date_format="dmy").column("date") == days


@given(thousands=st.lists(st.integers(1, 999), min_size=1, max_size=9), mark=st.sampled_from([".", ","]))
@settings(max_examples=30, deadline=None)
def test_whole_thousands_are_always_a_question(read: Read, thousands: list[int], mark: str) -> None:
    content = "date;description;amount\n" + "".join(f"2025-01-31;Shop;-{number}{mark}000\n" for number in thousands)
    with pytest.raises(AmbiguousInput):
        read(content)
    other = "," if mark == "." else "."
    assert read(content, decimal=other).column("amount") == [Decimal(-1000 * number) for number in thousands]


@given(first=st.lists(CENTS, min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_a_debit_and_credit_pair_gives_the_same_as_signed_amounts(read: Read, first: list[Decimal]) -> None:
    assume(any(first))
    signed = "".join(f"2025-01-31,Shop,{amount}\n" for amount in first)
    paired = "".join(
        f"2025-01-31,Shop,{-amount if amount < 0 else ''},{amount if amount >= 0 else ''}\n" for amount in first
    )
    assert read("date,description,paid out,paid in\n" + paired).column("amount") == read(
        "date,description,amount\n" + signed
    ).column("amount")
