"""Finding columns by what they hold, where their names do not say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from app.errors import AmbiguousInput, InvalidInput
from app.services.statements import amounts, columns, dates
from app.services.statements.readings import Readings, filled
from app.services.statements.signs import is_debit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.services.statements.csv_file import Table

_MOST = 0.9  # of the values that are not blank
_BALANCE_ROWS = 3


def find_columns(table: Table, wanted: Mapping[str, str]) -> dict[str, str]:
    """Say which column serves which field: as the person says, by name, then by content.

    Args:
        table: Names and first records.
        wanted: Field to column name, as the person says.

    Returns:
        Field to column name; with date, an amount (or debit, credit) and a description or a stand-in.

    Raises:
        AmbiguousInput: Several columns may be meant.
        InvalidInput: A wanted column does not exist, or a needed one cannot be found.
    """
    said = columns.override(table.names, wanted)
    for field in wanted:
        if field not in said:
            raise InvalidInput(
                f"There is no such column for the {field}; a dry run that names no columns lists those of the file."
            )
    cells = _cells(table)
    named = columns.recognise([name for name in table.names if name not in said.values()])
    named = {field: column for field, column in named.items() if field not in said}
    _drop_misnamed(named, cells)
    found = _one_kind_of_amount({**named, **said}, said, cells)
    _refuse_twins(found, said, cells)
    free = [name for name in table.names if name not in found.values() and not columns.is_balance(name)]
    if "date" not in found:
        found["date"] = _only("date", [name for name in free if _share(dates.gather, cells[name]) >= _MOST])
        free.remove(found["date"])
    if found.keys().isdisjoint(("amount", "debit", "credit")):
        found["amount"] = _only("amount", _amount_columns(free, cells))
        free.remove(found["amount"])
    if found.keys().isdisjoint(("description", "merchant", "memo")):
        found["description"] = _only("description", _text_columns(free, cells))
    hint = found.get("channel_hint")
    if "indicator" not in found and "amount" in found and hint and _all_indicators(cells[hint]):
        found["indicator"] = hint
    return {field: found[field] for field in columns.FIELDS if field in found}


def _cells(table: Table) -> dict[str, pl.Series]:
    """The values of each column in the first records that are not blank, trimmed."""
    texts = (
        pl.Series([row[position] for row in table.sample], dtype=pl.String) for position in range(len(table.names))
    )
    return dict(zip(table.names, (text.str.strip_chars() for text in texts), strict=True))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _drop_misnamed(named: dict[str, str], cells: Mapping[str, pl.Series]) -> None:
    """Take back what the contents belie: "Valuta" is a date to some banks and a currency to others."""
    codes = filled(cells[named["currency"]]) if "currency" in named else pl.Series(dtype=pl.String)
    if len(codes) and not codes.str.contains(r"^(?:\p{L}{3}|\p{L}{0,2}\p{Sc})$").any():
        del named["currency"]
    others = [name for name in cells if name not in named.values()]
    unread = "date" in named and not _share(dates.gather, cells[named["date"]])
    if unread and any(_share(dates.gather, cells[name]) >= _MOST for name in others):
        del named["date"]


def _share(gather: Callable[[Readings, pl.Series], None], cells: pl.Series) -> float:
    """The part of the distinct values that can be read."""
    distinct = filled(cells).unique()
    evidence = Readings()
    gather(evidence, distinct)
    return evidence.readable / len(distinct) if len(distinct) else 0.0


def _one_kind_of_amount(
    found: dict[str, str], said: Mapping[str, str], cells: Mapping[str, pl.Series]
) -> dict[str, str]:
    """Keep either the amount or debit and credit; a pair says for sure what is spending."""
    pair = [field for field in ("debit", "credit") if field in found]
    if "amount" not in found or not pair:
        return found
    wins = "amount" not in said and (
        not said.keys().isdisjoint(pair)
        or (len(pair) > 1 and all(_share(amounts.gather, cells[found[field]]) > 0 for field in pair))
    )
    dropped = ["amount"] if wins else pair
    return {field: column for field, column in found.items() if field not in dropped}


def _refuse_twins(found: Mapping[str, str], said: Mapping[str, str], cells: Mapping[str, pl.Series]) -> None:
    """Ask when two columns of one name hold different things."""
    for field in ("date", "amount", "debit", "credit", "description"):
        column = found.get(field, "")
        twin = f"{column} (2)"
        if field not in said and twin in cells and not cells[twin].equals(cells[column]):
            raise _question(field, [column, twin])


def _question(field: str, candidates: list[str]) -> AmbiguousInput:
    question = f"Several columns may hold the {field}: {_listed(tuple(candidates))}."
    return AmbiguousInput(question, option="columns", choices=tuple(f"{field}={name}" for name in candidates))


def _only(field: str, candidates: list[str]) -> str:
    if len(candidates) > 1:
        raise _question(field, candidates)
    if not candidates:
        raise InvalidInput(f"No column holds the {field}. Name it with --columns {field}=NAME.")
    return candidates[0]


def _amount_columns(free: list[str], cells: Mapping[str, pl.Series]) -> list[str]:
    """Columns of numbers that are no dates and no running balances, with decimals rather than without."""
    numbers = [
        name
        for name in free
        if _share(amounts.gather, cells[name]) >= _MOST and _share(dates.gather, cells[name]) < _MOST
    ]
    numbers = [
        name for name in numbers if not any(_runs(cells[name], cells[other]) for other in numbers if other != name)
    ]
    fractions = [name for name in numbers if cells[name].str.contains(r"[.,][0-9]{2}[^0-9]*$").any()]
    return fractions or numbers


def _runs(balance: pl.Series, steps: pl.Series) -> bool:
    """Whether one column is the running total of another, oldest or newest row first."""
    totals, changes = _decimals(balance), _decimals(steps)
    pairs = pl.DataFrame({"total": totals, "change": changes}).drop_nulls()
    if pairs.height < _BALANCE_ROWS:
        return False
    grown = pl.col("total").diff()
    forward = (grown == pl.col("change")).mean()
    backward = (-grown == pl.col("change").shift(1)).mean()
    return any(share is not None and share >= _MOST for share in pairs.select(forward, backward.alias("b")).row(0))


def _decimals(cells: pl.Series) -> pl.Series:
    evidence = Readings()
    amounts.gather(evidence, filled(cells))
    mark = next(iter(evidence.candidates()), ".")
    read = amounts.read_amounts(cells, mark)
    return read.select(pl.when("negative").then(-pl.col("value")).otherwise("value")).to_series()


def _text_columns(free: list[str], cells: Mapping[str, pl.Series]) -> list[str]:
    """Columns of words; those that say the same in every row (account, currency) only when no other does."""
    words = [
        name
        for name in free
        if filled(cells[name]).str.contains(r"\p{L}{2}").mean() not in (None, 0.0)
        and _share(dates.gather, cells[name]) < _MOST
        and _share(amounts.gather, cells[name]) < _MOST
    ]
    telling = [name for name in words if filled(cells[name]).n_unique() > 1]
    return telling or words


def _all_indicators(cells: pl.Series) -> bool:
    words = filled(cells).unique()
    return bool(len(words)) and bool(words.to_frame("word").select(is_debit(pl.col("word")).is_not_null().all()).item())
