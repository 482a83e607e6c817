"""Delimited text: records that survive bad quoting, the delimiter, and the header."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from app.errors import InvalidInput
from app.services.statements import columns
from app.services.statements.raw import RawBatch
from app.services.statements.source import MAX_LINE, open_text, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from app.services.statements.layout import StatementLayout

DELIMITERS = (",", ";", "\t", "|")
_MAX_COLUMNS = 1000
_HEADER_WITHIN = 100  # records
_SAMPLE_LINES = 1000
_MAX_RECORD_LINES = 64
_NEVER_CLOSED = "a quote that is opened here is not closed"
_SEPARATOR_LINE = re.compile(r"""^\ufeff?"?sep=([^\w\s"]|\t)"?\s*$""")


@dataclass(frozen=True)
class Table:
    """Where the records of a delimited file begin and what its columns are called."""

    delimiter: str
    header_line: int | None
    first_line: int
    names: tuple[str, ...]
    preamble: tuple[tuple[str, ...], ...]
    sample: tuple[tuple[str, ...], ...]


def read_records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Read delimited records, each with the line where it starts, counted from 1.

    A quote that is never closed would swallow everything behind it. So a record ends after 64 lines, and
    when it turns out to be broken only its first line is given up: the others are read again by themselves.

    Yields:
        Line and cells, or line and the reason why there are none. Blank lines are no records.
    """
    source = iter(lines)
    given_back: deque[str] = deque()
    taken: list[str] = []
    cut = False

    def feed() -> Iterator[str]:
        nonlocal cut
        while len(taken) < _MAX_RECORD_LINES:
            line = given_back.popleft() if given_back else next(source, None)
            if line is None:
                break
            taken.append(line)
            yield line
        cut = True

    start = 1
    reader = csv.reader(feed(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        taken.clear()
        cells: list[str] | str | None
        try:
            cells = next(reader, None)
        except csv.Error:
            given_back.extendleft(reversed(taken[1:]))
            cells = _NEVER_CLOSED if cut or len(taken) > 1 else _read_leniently(taken[0], delimiter)
            del taken[1:]
            cut = False
            reader = csv.reader(feed(), delimiter=delimiter, skipinitialspace=True, strict=True)
        if cells is None:
            return
        if len(cells) > 1 or taken[0].strip():
            yield start, cells
        start += len(taken)


def _read_leniently(line: str, delimiter: str) -> list[str] | str:
    """Cells of a line with text behind a closing quote, such as "Bar" & Grill."""
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return f"a field is longer than {csv.field_size_limit()} characters"


def find_table(path: Path, encoding: str, delimiter: str | None, wanted: Mapping[str, str]) -> Table:
    """Find delimiter and header from the first lines of a file.

    Args:
        path: The file.
        encoding: Its text encoding.
        delimiter: The delimiter, when the person has said it.
        wanted: Columns that the person has named; the header is where they are.

    Raises:
        InvalidInput: The text has no columns, or absurdly many.
    """
    with open_text(path, encoding) as text:
        lines = _first_lines(read_lines(text))
    separator = _SEPARATOR_LINE.match(lines[0]) if lines else None
    candidates = (delimiter,) if delimiter else (separator.group(1),) if separator else DELIMITERS
    tables = [_table(lines, candidate, wanted) for candidate in candidates]
    table = max(tables, key=_credibility)
    if len(table.names) < 2:  # noqa: PLR2004 - a date and an amount need two columns
        raise InvalidInput(
            "The text has no columns that are separated by comma, semicolon, tab or |; give the delimiter."
        )
    if len(table.names) > _MAX_COLUMNS:
        raise InvalidInput(f"The file has {len(table.names)} columns; a statement has at most {_MAX_COLUMNS}.")
    return table


def _first_lines(lines: Iterator[str]) -> list[str]:
    """Enough lines to know a table by, and no more text than one line may hold."""
    sample: list[str] = []
    room = MAX_LINE
    for line in islice(lines, _SAMPLE_LINES):
        sample.append(line)
        room -= len(line)
        if room <= 0:
            break
    return sample


def _table(lines: Sequence[str], delimiter: str, wanted: Mapping[str, str]) -> Table:
    # A record without cells still is where the records begin.
    records = [(line, cells if isinstance(cells, list) else []) for line, cells in read_records(lines, delimiter)]
    header = _find_header([cells for _, cells in records[:_HEADER_WITHIN]], wanted)
    if header is not None:
        line, cells = records[header]
        first_line = records[header + 1][0] if header + 1 < len(records) else line + 1
        names = _unique_names(cells)
        before, after = records[:header], records[header + 1 :]
    else:
        width = _usual_width([cells for _, cells in records])
        first = next((index for index, (_, cells) in enumerate(records) if len(cells) == width), 0)
        first_line = records[first][0] if records else 1
        line, names = None, tuple(f"column {position}" for position in range(1, width + 1))
        before, after = records[:first], records[first:]
    fitted = (_fit(cells, len(names)) for _, cells in after)
    return Table(
        delimiter,
        line,
        first_line,
        names,
        preamble=tuple(tuple(cells) for _, cells in before),
        sample=tuple(tuple(cells) for cells in fitted if cells is not None),
    )


def _find_header(rows: Sequence[list[str]], wanted: Mapping[str, str]) -> int | None:
    """Index of the header, or None when the rows have none."""
    best, index = 1, None
    for position, cells in enumerate(rows):
        names = _unique_names(cells)
        if wanted and len(columns.override(names, wanted)) == len(wanted):
            return position
        found = columns.recognise(names)
        if len(found) > best and not found.keys().isdisjoint(("date", "amount", "debit", "credit")):
            best, index = len(found), position
    if index is not None:
        return index
    # Names in a language we do not know: a first full row without a single digit is no transaction.
    width = _usual_width(rows)
    first = next((position for position, cells in enumerate(rows) if len(_unique_names(cells)) == width), None)
    if first is None or width == 1 or not all(cell.strip() for cell in rows[first][:width]):
        return None
    return None if any(character.isdigit() for cell in rows[first] for character in cell) else first


def _usual_width(rows: Sequence[list[str]]) -> int:
    widths = Counter(len(cells) for cells in rows)
    return max(widths, key=lambda width: (widths[width] if width > 1 else 0, width), default=1)


def _unique_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Column names of a header row: trailing blanks dropped, blanks numbered, repeats counted."""
    stripped = [cell.strip().lstrip("\ufeff") for cell in cells]
    while stripped and not stripped[-1]:
        stripped.pop()
    names: dict[str, None] = {}
    last_number: defaultdict[str, int] = defaultdict(lambda: 1)
    for position, cell in enumerate(stripped, start=1):
        name = first = cell or f"column {position}"
        while name in names:
            last_number[first] += 1
            name = f"{first} ({last_number[first]})"
        names[name] = None
    return tuple(names)


def _credibility(table: Table) -> tuple[int, float, int]:
    """How much a reading of the first lines looks like a table: names known, rows complete, columns."""
    known = len(columns.recognise(table.names)) if table.header_line else 0
    width = len(table.names)
    return known, len(table.sample) if width > 1 else 0, width


def _fit(cells: list[str], width: int) -> list[str] | None:
    """The cells of a complete record; blank cells behind the last column do not count."""
    if len(cells) == width:
        return cells
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    return None


def read_raw(
    path: Path, layout: StatementLayout, batch_size: int, progress: Callable[[int], None] | None = None
) -> Iterator[RawBatch]:
    """Read the records of a delimited file.

    Args:
        path: The file.
        layout: Encoding, delimiter, first line and columns; nothing else of it is used.
        batch_size: Records in a batch.
        progress: Called with the bytes of the stored file that have been read.
    """
    width = len(layout.names)
    positions = {field: layout.names.index(column) for field, column in layout.columns.items()}
    owner = "the header" if layout.header_line else "the file"
    numbers: list[int] = []
    starts: list[int] = []
    flat: list[str] = []  # all cells in one list: a list for each record would keep the garbage collector busy
    rejected: list[tuple[int, int, str]] = []

    def batch() -> RawBatch:
        texts = {field: pl.Series(flat[position::width], dtype=pl.String) for field, position in positions.items()}
        places = {"record": pl.Series(numbers, dtype=pl.Int64), "line": pl.Series(starts, dtype=pl.Int64)}
        return RawBatch(pl.DataFrame({**places, **texts}), list(rejected))

    with open_text(path, layout.encoding, progress) as text:
        lines = islice(read_lines(text), layout.first_line - 1, None)
        records = read_records(lines, layout.delimiter or ",")
        for number, (start, record) in enumerate(records, start=1):
            line = start + layout.first_line - 1
            if isinstance(record, str):
                rejected.append((number, line, record))
            elif cells := _fit(record, width):
                numbers.append(number)
                starts.append(line)
                flat.extend(cells)
            else:
                count = f"{len(record)} column{'s' if len(record) > 1 else ''}"
                rejected.append((number, line, f"{count} where {owner} has {width}"))
            if len(numbers) + len(rejected) == batch_size:
                yield batch()
                numbers.clear()
                starts.clear()
                flat.clear()
                rejected.clear()
        if numbers or rejected:
            yield batch()
