"""Raw records to typed rows, by the conventions that were found for the whole file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import iso18245
import polars as pl

from app.services.statements import csv_file, ofx, qif
from app.services.statements.amounts import AMOUNT
from app.services.statements.columns import FIELDS
from app.services.statements.dates import ORDERS, read_dates, split_times
from app.services.statements.layout import MAX_BYTES, MAX_CHARACTERS
from app.services.statements.money import read_money, sentence
from app.services.statements.raw import gather_batches
from app.services.statements.source import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.services.statements.layout import StatementLayout, StatementOptions
    from app.services.statements.raw import RawBatch

ROW_SCHEMA = pl.Schema(
    {
        "record": pl.Int64(),
        "line": pl.Int64(),
        "account": pl.String(),
        "date": pl.Date(),
        "posted_at": pl.Datetime("us"),
        "amount": AMOUNT,
        "currency": pl.String(),
        "description": pl.String(),
        "mcc": pl.String(),
        "channel_hint": pl.String(),
        "category": pl.String(),
        "external_id": pl.String(),
    }
)
REJECTED_SCHEMA = pl.Schema({"record": pl.Int64(), "line": pl.Int64(), "reason": pl.String()})

_CURRENCY_SYMBOLS = {"€": "EUR", "£": "GBP"}


@dataclass(frozen=True)
class StatementBatch:
    """Some consecutive records of a statement; together they are all records of the file.

    Attributes:
        rows: Typed rows, `ROW_SCHEMA`; spending is negative, `posted_at` is the bank's local time.
        rejected: `record`, `line` and `reason` (String).

    In both, `record` (Int64) counts the records of the file from 1, good and bad, and tells them apart; `line`
    (Int64) is where the record starts, which several may share.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame


def read_statement(
    path: Path, layout: StatementLayout, options: StatementOptions, *, batch_size: int = 50_000
) -> Iterator[StatementBatch]:
    """Read a statement whose layout is known.

    Args:
        path: The file that `inspect_statement` has seen.
        layout: What it found.
        options: The same options as then.
        batch_size: Records in a batch.

    Yields:
        Batches in file order; every record is in exactly one, as a row or as a rejection.

    Raises:
        InvalidInput: The file cannot be read.
    """
    for raw in read_raw(path, layout, batch_size):
        yield type_rows(raw, layout, options)


def preview(path: Path, layout: StatementLayout, options: StatementOptions, *, limit: int = 10) -> StatementBatch:
    """The first rows of a statement, and what was rejected before the last of them."""
    rows, rejected = pl.DataFrame(schema=ROW_SCHEMA), pl.DataFrame(schema=REJECTED_SCHEMA)
    for batch in read_statement(path, layout, options, batch_size=max(limit, 1)):
        rows, rejected = rows.vstack(batch.rows), rejected.vstack(batch.rejected)
        if rows.height >= limit:
            break
    shown = rows.head(limit)
    last = shown["record"].max() if rows.height > limit else None
    return StatementBatch(shown, rejected if last is None else rejected.filter(pl.col("record") < last))


def read_raw(
    path: Path, layout: StatementLayout, batch_size: int, progress: Callable[[int], None] | None = None
) -> Iterator[RawBatch]:
    """Raw records of a file, by its format."""
    if layout.format == "csv":
        yield from csv_file.read_raw(path, layout, batch_size, progress)
        return
    read_transactions = {"ofx": ofx.read_transactions, "qif": qif.read_transactions}[layout.format]
    with open_text(path, layout.encoding, progress) as text:
        yield from gather_batches(read_transactions(text), tuple(layout.columns), batch_size)


def type_rows(raw: RawBatch, layout: StatementLayout, options: StatementOptions) -> StatementBatch:
    """Type one batch of raw records."""
    texts = _texts(raw.rows)
    dates = read_dates(texts["date"], layout.date_format)
    money = read_money(texts, layout.signs, layout.decimal, options.spending)
    typed = texts.select(
        "record",
        "line",
        account=pl.lit(options.account) if options.account else pl.col("account").fill_null(layout.account),
        date=dates["date"],
        posted_at=_posted_at(texts["posted_at"], dates, layout.date_format),
        amount=money["amount"],
        currency=pl.coalesce(read_currencies(texts["currency"]), money["currency"], pl.lit(layout.currency, pl.String)),
        description=_description(),
        mcc=read_mccs(texts["mcc"]),
        channel_hint="channel_hint",
        category="category",
        external_id="external_id",
    )
    reason = texts.select(
        pl.coalesce(
            sentence("date", pl.col("date"), pl.lit(dates["problem"])),
            money["reason"],
            pl.when(typed["description"].is_null()).then(pl.lit("no description")),
            typed.select(_too_long()).to_series(),
        ).alias("reason")
    ).to_series()
    good = reason.is_null()
    rejected = typed.select("record", "line", reason=reason).filter(~good)
    broken = pl.DataFrame(raw.rejected, schema=REJECTED_SCHEMA, orient="row")
    return StatementBatch(
        typed.filter(good).match_to_schema(ROW_SCHEMA),
        rejected.vstack(broken).sort("record") if broken.height else rejected,
    )


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    """All fields as trimmed texts; what is blank or not in the file is null."""
    absent = pl.lit(None, pl.String)
    trimmed = {name: pl.col(name).str.strip_chars() if name in rows.columns else absent for name in FIELDS}
    return rows.select("record", "line", **{name: pl.when(text != "").then(text) for name, text in trimmed.items()})


def _posted_at(texts: pl.Series, dates: pl.DataFrame, date_format: str) -> pl.Series:
    """The moment of each row: the time of its own column, else the one beside the date."""
    if texts.null_count() == len(texts):
        return dates.select(pl.col("date").dt.combine(pl.col("time"))).to_series()
    own = split_times(texts)
    own_dates = read_dates(own["day"], date_format if date_format in ORDERS else "ymd")["date"]
    return dates.select(pl.coalesce(own_dates, "date").dt.combine(pl.coalesce(own["time"], "time"))).to_series()


def _description() -> pl.Expr:
    """The description, else merchant and memo together, without saying twice what both say."""
    merchant, memo = pl.col("merchant"), pl.col("memo")
    low_merchant, low_memo = merchant.str.to_lowercase(), memo.str.to_lowercase()
    joined = (
        pl.when(low_memo.str.contains(low_merchant, literal=True))
        .then(memo)
        .when(low_merchant.str.contains(low_memo, literal=True))
        .then(merchant)
        .otherwise(merchant + " " + memo)
    )
    return pl.coalesce("description", joined, merchant, memo)


def _too_long() -> pl.Expr:
    """Why a row is too long to be stored, null where it is not."""
    sizes = [(name, pl.col(name).str.len_chars(), most, "characters") for name, most in MAX_CHARACTERS.items()]
    sizes += [(name, pl.col(name).str.len_bytes(), MAX_BYTES, "bytes of UTF-8") for name in MAX_CHARACTERS]
    return pl.coalesce(
        pl.when(size > most).then(pl.lit(f"{name} is longer than {most:,} {unit}")) for name, size, most, unit in sizes
    )


def read_currencies(texts: pl.Series) -> pl.Series:
    """Currency codes of three letters; null for anything else."""
    return texts.replace(_CURRENCY_SYMBOLS).str.to_uppercase().str.extract("^([A-Z]{3})$")


def read_mccs(texts: pl.Series) -> pl.Series:
    """Merchant category codes that ISO 18245 knows, as four digits; null for anything else."""
    codes = texts.str.extract(r"^([0-9]{3,4})(?:\.0)?$").str.zfill(4)
    unknown = [code for code in codes.unique().drop_nulls() if not _is_mcc(code)]
    return codes.replace(unknown, [None] * len(unknown)) if unknown else codes


@lru_cache(maxsize=10_000)
def _is_mcc(code: str) -> bool:
    try:
        iso18245.get_mcc(code)
    except (iso18245.MCCNotFound, iso18245.InvalidMCC):
        return False
    return True
