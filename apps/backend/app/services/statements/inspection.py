"""The first reading of a file: what every row says about how the file is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from app.errors import InvalidInput
from app.services.statements import amounts, columns, csv_file, dates, ofx, qif
from app.services.statements.accounts import mask_account
from app.services.statements.content import find_columns
from app.services.statements.layout import StatementLayout, StatementOptions
from app.services.statements.parse import read_currencies, read_mccs, read_raw
from app.services.statements.readings import Readings, filled
from app.services.statements.signs import SignEvidence
from app.services.statements.source import find_encoding, find_format

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.services.statements.raw import RawBatch

_BATCH = 50_000


def inspect_statement(
    path: Path,
    options: StatementOptions,
    *,
    progress: Callable[[int], None] | None = None,
) -> StatementLayout:
    """Find out how a statement file is written, from all of its rows.

    Args:
        path: The file, plain or gzip.
        options: What the person says about it.
        progress: Called with the bytes of the stored file that have been read, up to its size.

    Returns:
        The layout, with the number of records and warnings.

    Raises:
        AmbiguousInput: The file can be read in more than one way; the error names the option that decides.
        InvalidInput: The file is not a statement, or an option does not fit it.
    """
    form = find_format(path)
    encoding, warnings = (options.encoding, ()) if options.encoding else find_encoding(path)
    layout = StatementLayout(format=form, encoding=encoding, warnings=warnings)
    layout = _csv_layout(path, layout, options) if form == "csv" else _tagged_layout(layout, options)
    evidence = _Evidence()
    for raw in read_raw(path, layout, _BATCH, progress):
        evidence.add(raw)
    return _decide(layout, options, evidence)


def _csv_layout(path: Path, layout: StatementLayout, options: StatementOptions) -> StatementLayout:
    table = csv_file.find_table(path, layout.encoding, options.delimiter_mark, options.columns)
    found = find_columns(table, options.columns)
    money_column = found.get("amount") or found.get("debit") or found["credit"]
    warnings = list(layout.warnings)
    account = _account_in(table.preamble)
    if not (options.account or account or "account" in found):
        warnings.append(f"The file names no account; its rows go to '{layout.account}'. Name it with --account.")
    return replace(
        layout,
        delimiter=table.delimiter,
        header_line=table.header_line,
        first_line=table.first_line,
        names=table.names,
        columns=found,
        currency=columns.currency_in(money_column),
        account=account or layout.account,
        warnings=tuple(warnings),
    )


def _account_in(preamble: tuple[tuple[str, ...], ...]) -> str | None:
    """The account that lines such as "Account: 12345678" before the header name, masked."""
    for cells in preamble:
        name, _, value = " ".join(cell.strip() for cell in cells if cell.strip()).replace(";", ":").partition(":")
        number = value.strip() or next((cell.strip() for cell in cells[1:] if cell.strip()), "")
        if number and columns.normalise(name.removesuffix(number)) in columns.SYNONYMS["account"]:
            return mask_account(number)
    return None


def _tagged_layout(layout: StatementLayout, options: StatementOptions) -> StatementLayout:
    """OFX and QIF say themselves which value is which."""
    if options.columns:
        raise InvalidInput(f"{layout.format.upper()} files have no columns to name; leave out --columns.")
    return replace(layout, columns=ofx.COLUMNS if layout.format == "ofx" else qif.COLUMNS)


@dataclass
class _Evidence:
    """What all rows together say about dates, decimal mark and signs."""

    records: int = 0
    rows: int = 0
    days: Readings = field(default_factory=Readings)
    marks: Readings = field(default_factory=Readings)
    signs: SignEvidence = field(default_factory=SignEvidence)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, raw: RawBatch) -> None:
        self.records += raw.record_count
        self.rows += raw.rows.height
        rows = raw.rows.with_columns(pl.selectors.string().str.strip_chars())
        if rows.is_empty():
            return
        dates.gather(self.days, filled(rows["date"]))
        for name in ("amount", "debit", "credit"):
            if name in rows.columns:
                amounts.gather(self.marks, filled(rows[name]))
        self.signs.add(rows)
        for name, read in (("mcc", read_mccs), ("currency", read_currencies)):
            if name in rows.columns:
                texts = filled(rows[name])
                self.unknown[name] += read(texts).null_count()


def _decide(layout: StatementLayout, options: StatementOptions, evidence: _Evidence) -> StatementLayout:
    found = frozenset(layout.columns)
    money = [layout.columns[name] for name in ("amount", "debit", "credit") if name in found]
    date_format, decimal = options.date_format, options.decimal
    if evidence.rows:
        date_format = date_format or dates.decide(evidence.days, layout.columns["date"])
        decimal = decimal or amounts.decide(evidence.marks, "' and '".join(money))
    signs = evidence.signs.decide(layout.columns, options.spending)
    warnings = list(layout.warnings)
    if not evidence.records:
        warnings.append("The file has no records.")
    if options.spending == "negative" and signs == "written" and evidence.signs.all_positive():
        warnings.append(
            "All amounts are positive, so all rows count as income. "
            "If they are spending, say so with --spending positive."
        )
    for name, meaning in (("mcc", "merchant category codes of ISO 18245"), ("currency", "currency codes")):
        if evidence.unknown[name]:
            warnings.append(
                f"{evidence.unknown[name]} values in '{layout.columns[name]}' are no {meaning} and are left out."
            )
    return replace(
        layout,
        date_format=date_format or layout.date_format,
        decimal=decimal or layout.decimal,
        signs=signs,
        row_count=evidence.records,
        warnings=tuple(warnings),
    )
