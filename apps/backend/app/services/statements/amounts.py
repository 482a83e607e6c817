"""Amounts as banks write them, to exact decimals; no float is ever involved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from app.errors import AmbiguousInput, InvalidInput

if TYPE_CHECKING:
    from app.services.statements.readings import Readings

MARKS = (".", ",")
AMOUNT = pl.Decimal(18, 2)
_COMPARED = pl.Decimal(38, 9)

_LONGEST = 200  # bytes; what is longer is no amount and not worth a search
_MINUS_SIGNS = "[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]"
_SPACES = "\u0020\u00a0\u2007\u2009\u202f"
_CURRENCY = r"\p{L}{0,3}\p{Sc}|[A-Z]{3}|(?i:kr|zł|kč|ft|lei|rs|fr|eur|sfr)\.?"
_SHAPE = (
    (
        r"^(?P<open>\()?\s*(?P<sign1>[-+])?\s*(?P<currency1>CURRENCY|R)?\s*(?P<sign2>[-+])?\s*"
        r"(?P<number>[0-9](?:[0-9.,'\u2019SPACES]*[0-9])?[.,]?|[.,][0-9]+)"
        r"\s*(?P<sign3>[-+])?\s*(?P<currency2>CURRENCY)?\s*(?P<sign4>[-+])?\s*(?P<close>\))?\s*"
        r"(?P<mark>(?i:CR|DR|DB|C|D|H|S)\.?)?$"
    )
    .replace("CURRENCY", _CURRENCY)
    .replace("SPACES", _SPACES)
)
_OTHER_DIGITS = r"[\p{Nd}--0-9]"
_SYMBOLS = {"€": "EUR", "£": "GBP"}

# Whole part with its thousands separators, by decimal mark. A group never starts with 0: 0.500 is a fraction.
_GROUPED = (
    r"^(?:[0-9]+|[1-9][0-9]{0,2}(?:SEPARATOR[0-9]{3})+|[1-9][0-9]{0,2}(?:['\u2019][0-9]{3})+|[1-9][0-9]{0,2}(?:[SPACES][0-9]{3})+"
    r"|[1-9][0-9]?(?:SEPARATOR[0-9]{2})+SEPARATOR[0-9]{3})?(?:DECIMAL[0-9]*)?$"
).replace("SPACES", _SPACES)
_NUMBER = {
    ".": _GROUPED.replace("SEPARATOR", ",").replace("DECIMAL", r"\."),
    ",": _GROUPED.replace("SEPARATOR", r"\.").replace("DECIMAL", ","),
}


def _parts(texts: pl.Series) -> pl.DataFrame:
    """Number, sign and currency of each value; null number where the value is not shaped like an amount.

    Returns:
        `number` (digits and separators as written), `negative` (Boolean), `mark` ("C", "D" or null) and
        `currency` (a code of three letters or null).
    """
    short = texts.set(texts.str.len_bytes() > _LONGEST, None)
    plain = short.str.replace_all(_MINUS_SIGNS, "-").str.strip_chars()
    parts = plain.str.extract_groups(_SHAPE).struct.unnest()
    signs = pl.concat_str("sign1", "sign2", "sign3", "sign4", ignore_nulls=True)
    word = pl.col("mark").fill_null(pl.col("currency2")).str.to_uppercase().str.strip_chars_end(".")
    mark = (
        pl.when(word.is_in(["CR", "C", "H"]))
        .then(pl.lit("C"))
        .when(word.is_in(["DR", "DB", "D", "S"]))
        .then(pl.lit("D"))
    )
    bracketed = pl.col("open").is_not_null()
    # Two signs for one amount may cancel or repeat each other: nobody can tell, so it is not a number.
    once = signs.str.len_bytes() + bracketed.cast(pl.UInt32) + mark.is_not_null().cast(pl.UInt32) <= 1
    balanced = bracketed == pl.col("close").is_not_null()
    currency = pl.coalesce("currency1", "currency2")
    return parts.select(
        number=pl.when(once & balanced).then("number"),
        negative=(signs == "-").fill_null(value=False) | bracketed,
        mark=mark,
        currency=currency.replace(_SYMBOLS).str.extract("^([A-Z]{3})$"),
    )


def _digits(number: pl.Expr, decimal: str) -> pl.Expr:
    """Digits with "." as the only separator; null where the decimal mark does not fit."""
    bare = number.str.replace_all(rf"[^0-9{decimal}]", "")
    return pl.when(number.str.contains(_NUMBER[decimal])).then(bare.str.replace(decimal, ".", literal=True))


def read_amounts(texts: pl.Series, decimal: str) -> pl.DataFrame:
    """Read amounts by one decimal mark.

    Args:
        texts: Amounts as written.
        decimal: "." or ",".

    Returns:
        `value` (Decimal(18, 2) without sign; null where there is a problem), `negative` (Boolean), `mark`
        ("C", "D" or null), `currency` (String or null) and `problem` (String, the end of a sentence that
        begins with the value; null where there is none).
    """
    distinct = texts.unique()
    digits = pl.col("digits")
    # The cast rounds, so more decimals are found in the text.
    problem = (
        pl.when(digits.is_null() & pl.col("text").str.contains(_OTHER_DIGITS))
        .then(pl.lit("has digits other than 0 to 9"))
        .when(digits.is_null())
        .then(pl.lit("is not a number"))
        .when(digits.str.contains(r"\.[0-9][0-9][0-9]*[1-9]"))
        .then(pl.lit("has more than 2 decimals"))
        .when(digits.cast(AMOUNT, strict=False).is_null())
        .then(pl.lit("has more than 16 digits before the decimals"))
    )
    parts = _parts(distinct).with_columns(text=distinct, digits=_digits(pl.col("number"), decimal))
    value = pl.when(pl.col("problem").is_null()).then(digits).cast(AMOUNT)
    known = parts.with_columns(problem=problem).select("text", "negative", "mark", "currency", "problem", value=value)
    every = pl.DataFrame({"text": texts})
    return every.join(known, on="text", how="left", nulls_equal=True, maintain_order="left").drop("text")


def read_signs(texts: pl.Series) -> pl.DataFrame:
    """Signs of amounts whose decimal mark need not be known.

    Returns:
        `negative` (Boolean), `mark` ("C", "D" or null) and `nonzero` (Boolean, false for what is no amount).
    """
    return _parts(texts).select(
        "negative", "mark", nonzero=pl.col("number").str.contains("[1-9]").fill_null(value=False)
    )


def gather(evidence: Readings, texts: pl.Series) -> None:
    """Add one batch of amounts to the evidence for each decimal mark."""
    distinct = texts.unique()
    numbers = [_digits(pl.col("number"), mark).cast(_COMPARED, strict=False).alias(mark) for mark in MARKS]
    evidence.add(distinct, _parts(distinct).select(numbers).to_dict())


def decide(evidence: Readings, column: str) -> str:
    """The one decimal mark that fits a whole column.

    Raises:
        AmbiguousInput: Both marks fit with different amounts, or neither fits all amounts.
        InvalidInput: No value is an amount.
    """
    if not evidence.readable:
        raise InvalidInput(f"No value in column '{column}' is an amount. Name the column that holds the amounts.")
    fitting = evidence.candidates()
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        question = f"The marks in amounts in column '{column}' may stand before decimals or thousands."
    else:
        seen = ", ".join(f"some amounts need '{mark}'" for mark in evidence.only)
        question = f"The decimal marks in column '{column}' contradict each other: {seen}."
    raise AmbiguousInput(question, option="decimal", choices=MARKS)
