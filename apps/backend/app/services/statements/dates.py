"""Dates and times as banks write them."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from app.errors import AmbiguousInput, InvalidInput

if TYPE_CHECKING:
    from app.services.statements.readings import Readings

ORDERS = ("dmy", "mdy", "ymd")
_ORDER_WORDS = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}
EARLIEST, LATEST = date(1900, 1, 1), date(2200, 12, 31)

_LONGEST = 200  # bytes; what is longer is no date and not worth a search
_PROBE = datetime(2001, 12, 31, 12)  # noqa: DTZ001 - patterns are for wall clocks

# Two-digit years 00-68 are 2000-2068, 69-99 are 1969-1999: what POSIX and every spreadsheet agree on.
_LAST_TWO_DIGIT_YEAR = 68

MONTHS: dict[int, str] = {
    1: "jan january januar jän jänner janv janvier ene enero gen gennaio januari janeiro",
    2: "feb february februar févr fevr fév février fevrier febrero febbraio februari fev fevereiro",
    3: "mar march mär märz maerz mrz mars marzo maart mrt março marco",
    4: "apr april avr avril abr abril aprile",
    5: "may mai mayo mag maggio mei maio",
    6: "jun june juni juin junio giu giugno junho",
    7: "jul july juli juil juillet julio lug luglio julho",
    8: "aug august août aout ago agosto augustus",
    9: "sep sept september septembre septiembre set settembre setembro",
    10: "oct october okt oktober octobre octubre ott ottobre out outubro",
    11: "nov november novembre noviembre novembro",
    12: "dec december dez dezember déc décembre decembre dic diciembre dicembre dezembro",
}
_MONTH_NUMBER = {name: str(number) for number, names in MONTHS.items() for name in names.split()}
_MONTH = "(?P<month>" + "|".join(sorted(_MONTH_NUMBER, key=len, reverse=True)) + ")"

# The end of a value that holds a time; a zone is matched to be left out, since the wall clock is what counts.
_DAY_AND_TIME = (
    r"(?i)^(?P<day>.*?)(?:(?:^|T|,?\s+)"
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,][0-9]{1,9})?)?(?:\s*(?P<half>[ap])\.?m\.?)?"
    r"(?:\s*(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?)?$"
)

# A year of two digits comes first only in yy-mm-dd; read into 31/12/24 as well, it would make every
# short day-first date a question. Other such files can be given as a pattern.
_SHAPES = {
    "dmy": r"^(?P<day>[0-9]{1,2})[-/. ] ?(?P<month>[0-9]{1,2})[-/.' ] ?(?P<year>[0-9]{4}|[0-9]{2})\.?$",
    "mdy": r"^(?P<month>[0-9]{1,2})[-/. ] ?(?P<day>[0-9]{1,2})[-/.' ] ?(?P<year>[0-9]{4}|[0-9]{2})\.?$",
    "ymd": r"^(?P<year>[0-9]{4}[-/. ]|[0-9]{2}-) ?(?P<month>[0-9]{1,2})[-/. ] ?(?P<day>[0-9]{1,2})\.?$",
}
_COMPACT = {
    "dmy": r"^([0-9][0-9])([0-9][0-9])([0-9]{4})$",
    "mdy": r"^([0-9][0-9])([0-9][0-9])([0-9]{4})$",
    "ymd": r"^([0-9]{4})([0-9][0-9])([0-9][0-9])$",
}

_GAP = r"(?:st|nd|rd|th|º|\.)?(?:[-/., ]|\bde\b)*"
_SPELLED = (
    rf"(?i)^(?P<day>[0-9]{{1,2}}){_GAP}{_MONTH}{_GAP}(?P<year>[0-9]{{4}}|[0-9]{{2}})$",
    rf"(?i)^{_MONTH}{_GAP}(?P<day>[0-9]{{1,2}}){_GAP}(?P<year>[0-9]{{4}}|[0-9]{{2}})$",
    rf"(?i)^(?P<year>[0-9]{{4}}){_GAP}{_MONTH}{_GAP}(?P<day>[0-9]{{1,2}})$",
)


def split_times(texts: pl.Series) -> pl.DataFrame:
    """Take the time of day off the end of each value.

    Args:
        texts: Dates, times, or both in one.

    Returns:
        `day` (String, what stands before the time, perhaps ""; null for what is too long to be a date)
        and `time` (Time, null where none is written and at midnight).
    """
    texts = texts.set(texts.str.len_bytes() > _LONGEST, None)
    if not texts.str.contains(":", literal=True).any():
        return pl.DataFrame({"day": texts}).with_columns(time=pl.lit(None, pl.Time))
    parts = texts.str.extract_groups(_DAY_AND_TIME).struct.unnest()
    hour, half = pl.col("hour").cast(pl.Int8), pl.col("half").str.to_lowercase()
    hour = pl.when(half == "p").then(hour % 12 + 12).when(half == "a").then(hour % 12).otherwise(hour)
    clock = pl.format("{}:{}:{}", hour, pl.col("minute"), pl.col("second").fill_null("00"))
    time = clock.str.to_time("%H:%M:%S", strict=False)
    return parts.select(
        day=pl.coalesce(pl.col("day"), texts).str.strip_chars(),
        time=time,
    ).with_columns(no_time_at_midnight("time"))


def no_time_at_midnight(column: str) -> pl.Expr:
    """A column of Time or Datetime, null at midnight: that is what banks write when they know no time."""
    return pl.when(pl.col(column).dt.time() != pl.time(0)).then(column).alias(column)


def read_dates(texts: pl.Series, date_format: str) -> pl.DataFrame:
    """Read dates by one format.

    Args:
        texts: Dates, with or without a time of day.
        date_format: "dmy", "mdy", "ymd" or a strptime pattern.

    Returns:
        `date` (Date, null where it cannot be read or lies outside 1900 to 2200), `time` (Time, null where
        none is written) and `problem` (String, the end of a sentence that begins with the value; null
        where there is a date).
    """
    split = pl.DataFrame({"day": texts}) if _gives_time(date_format) else split_times(texts)
    distinct = split["day"].unique()
    known = _read_distinct(distinct, date_format).with_columns(day=distinct)
    read = split.join(known, on="day", how="left", nulls_equal=True, maintain_order="left")
    if "time" not in read.columns:
        time = pl.col("day").str.to_datetime(date_format, strict=False).dt.time()
        read = read.with_columns(time=time).with_columns(no_time_at_midnight("time"))
    return read.select("date", "time", "problem")


def _gives_time(date_format: str) -> bool:
    return date_format not in ORDERS and _read_probe(date_format) == _PROBE


def _read_probe(pattern: str) -> datetime | None:
    """What is left of a known moment that is written and read by a pattern."""
    try:
        written = pl.Series([_PROBE]).dt.strftime(pattern)
        read: datetime | None = written.str.to_datetime(pattern, strict=False)[0]
    except pl.exceptions.PolarsError:
        return None
    return read


def _read_distinct(days: pl.Series, date_format: str) -> pl.DataFrame:
    if date_format in ORDERS:
        iso = _iso_by_order(days, date_format)
        parsed = iso.str.to_date("%Y-%m-%d", strict=False)
        shaped, unfit = (
            iso.is_not_null(),
            "is not a date" if date_format == "ymd" else f"is not a date that fits {date_format}",
        )
    else:
        parsed = days.str.to_datetime(date_format, strict=False).dt.date()
        shaped, unfit = pl.repeat(False, len(days), eager=True), f"does not fit {date_format}"
    inside = parsed.is_between(EARLIEST, LATEST)
    return pl.select(
        date=pl.when(inside).then(parsed),
        problem=pl.when(inside)
        .then(None)
        .when(parsed.is_not_null())
        .then(pl.lit(f"lies outside {EARLIEST.year} to {LATEST.year}"))
        .when(shaped)
        .then(pl.lit("is not a calendar date"))
        .otherwise(pl.lit(unfit)),
    )


def _iso_by_order(days: pl.Series, order: str) -> pl.Series:
    """Values in the order's shape, or with a month's name, as year-month-day; null for all others."""
    separated = days.str.replace(_COMPACT[order], "$1-$2-$3")
    iso = _iso(separated.str.extract_groups(_SHAPES[order]).struct.unnest())
    if not days.str.contains(r"\p{L}").any():
        return iso
    number = pl.col("month").str.to_lowercase().replace_strict(_MONTH_NUMBER, default=None)
    for pattern in _SPELLED:
        iso = iso.fill_null(_iso(days.str.extract_groups(pattern).struct.unnest().with_columns(month=number)))
    return iso


def _iso(parts: pl.DataFrame) -> pl.Series:
    year = pl.col("year").str.strip_chars_end("-/. ")
    century = pl.when(year.cast(pl.Int32) <= _LAST_TWO_DIGIT_YEAR).then(pl.lit("20")).otherwise(pl.lit("19"))
    full = pl.when(year.str.contains(r"^[0-9]{2}$")).then(century + year).otherwise(year)
    return parts.select(pl.format("{}-{}-{}", full, "month", "day")).to_series()


def gather(evidence: Readings, texts: pl.Series) -> None:
    """Add one batch of dates, with or without a time of day, to the evidence for each order."""
    distinct = split_times(texts)["day"].unique()
    evidence.add(distinct, {order: _read_distinct(distinct, order)["date"] for order in ORDERS})


def decide(evidence: Readings, column: str) -> str:
    """The one order that fits a whole column.

    Raises:
        AmbiguousInput: Several orders fit with different dates, or no order fits all dates.
        InvalidInput: No value is a date in any order.
    """
    if not evidence.readable:
        raise InvalidInput(
            f"No value in column '{column}' is a date. Name the column that holds the dates, "
            "or give the date format as a pattern such as %d.%m.%Y."
        )
    fitting = evidence.candidates()
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        question = f"Every date in column '{column}' can be read in more than one way."
        raise AmbiguousInput(question, option="date_format", choices=tuple(fitting))
    seen = ", ".join(f"some can only be {_ORDER_WORDS[order]}" for order in evidence.only)
    question = f"The dates in column '{column}' contradict each other: {seen}."
    raise AmbiguousInput(question, option="date_format", choices=evidence.possible())


def check_pattern(date_format: str) -> None:
    """Refuse a strptime pattern that does not give a whole date.

    Raises:
        InvalidInput: The pattern is not one, or lacks the year, the month or the day.
    """
    read = _read_probe(date_format)
    if read is None or read.date() != _PROBE.date():
        raise InvalidInput("The date format is dmy, mdy, ymd or a pattern with year, month and day such as %d.%m.%Y.")
