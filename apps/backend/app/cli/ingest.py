"""`lm ingest`: statements into the ledger."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.output import errors, note, results
from app.cli.who import User, acting_user
from app.db import database_errors, session_for_user
from app.errors import InvalidInput
from app.progress import progress_of
from app.services.ingest import Action, IngestResult, ingest_statement
from app.services.statements import StatementOptions, inspect_statement, preview

if TYPE_CHECKING:
    from app.services.statements import StatementBatch, StatementLayout

logger = logging.getLogger(__name__)

SHOWN_REJECTIONS = 10


def ingest(
    files: Annotated[list[Path], typer.Argument(help="CSV, OFX, QFX or QIF files, plain or .gz.")],
    *,
    account: Annotated[str | None, typer.Option(help="The account of every row; else the file says.")] = None,
    action: Annotated[
        Action,
        typer.Option(help="append adds what is new; replace makes the account hold the file's rows within its dates."),
    ] = "append",
    columns: Annotated[list[str] | None, typer.Option(help="Name a column: date=Buchungstag. May be repeated.")] = None,
    date_format: Annotated[str | None, typer.Option(help="dmy, mdy, ymd or a pattern such as %d.%m.%y.")] = None,
    decimal: Annotated[str | None, typer.Option(help="The decimal mark: . or ,")] = None,
    delimiter: Annotated[str | None, typer.Option(help="What separates the columns.")] = None,
    encoding: Annotated[str | None, typer.Option(help="The file's encoding, such as cp1252.")] = None,
    spending: Annotated[str, typer.Option(help="The sign that spending has in the file.")] = "negative",
    user: User = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how the file would be read; store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each file.")] = False,
) -> None:
    """Ingest bank statements. Ingesting a file again adds nothing."""
    options = StatementOptions(
        account=account,
        columns=_named_columns(columns or []),
        date_format=date_format,
        decimal=decimal,
        delimiter=delimiter,
        encoding=encoding,
        spending=spending,
    )
    for path in files:
        if not path.is_file():
            raise InvalidInput(f"{str(path)!r} is not a file.")
    if dry_run:
        for path in files:
            layout = inspect_statement(path, options)
            _show_layout(path, layout, preview(path, layout, options), as_json=as_json)
        return
    # A statement of somebody's own does not belong into a demo.
    user_id = acting_user(user, in_demo=False)
    for path in files:
        if len(files) > 1:
            logger.info("Ingesting %s", path.name)
        with database_errors(), progress_of("records", logger=logger) as show, session_for_user(user_id) as session:
            result = ingest_statement(session, user_id, path, action=action, options=options, progress=show)
        _show_result(path, result, as_json=as_json)


def _named_columns(pairs: list[str]) -> dict[str, str]:
    named = {}
    for pair in pairs:
        field, separator, name = pair.partition("=")
        if not separator:
            raise InvalidInput(f"--columns takes FIELD=COLUMN, such as date=Buchungstag, not {pair!r}.")
        named[field] = name
    return named


def _show_result(path: Path, result: IngestResult, *, as_json: bool) -> None:
    if as_json:
        counted = {key: value for key, value in asdict(result).items() if key != "held_back"}
        results.print_json(json.dumps({"file": path.name} | counted), indent=None)
        return
    table = Table("file", "rows", "inserted", "duplicates", "rejected", "labels")
    counts = (result.rows, result.inserted, result.duplicates, result.rejected, result.labels)
    table.add_row(path.name, *(f"{count:,}" for count in counts))
    results.print(table)
    for warning in result.warnings:
        note("Note:", warning)
    for rejection in result.rejections[:SHOWN_REJECTIONS]:
        note(f"{path.name}, line {rejection.line}, rejected:", rejection.reason)
    if result.rejected > SHOWN_REJECTIONS:
        more = result.rejected - SHOWN_REJECTIONS
        errors.print(f"{more} more are in import_rejections under import {result.import_id}.")
    if result.deleted:
        errors.print(f"{result.deleted} transactions that the file no longer has are marked deleted.")


def _show_layout(path: Path, layout: StatementLayout, first: StatementBatch, *, as_json: bool) -> None:
    rows = first.rows
    if as_json:
        shown = {"file": path.name, "layout": layout.to_dict(), "first_rows": rows.to_dicts()}
        shown["rejections"] = first.rejected.to_dicts()
        results.print_json(json.dumps(shown, default=str), indent=None)
        return
    read_as = layout.to_dict()
    warnings, columns = read_as.pop("warnings"), read_as.pop("columns")
    mapping = Table("what", "read as", title=path.name, title_justify="left")
    for field, column in columns.items():
        mapping.add_row(field, f"column {column!r}")
    mapping.add_section()
    for name, value in read_as.items():
        if value not in (None, [], ()) and name != "names":
            mapping.add_row(name.replace("_", " "), str(value))
    results.print(mapping)
    for warning in warnings:
        note("Note:", warning)
    filled = [name for name in rows.columns if rows[name].null_count() < rows.height]
    preview = Table(*filled, title="first rows")
    for row in rows.select(filled).iter_rows():
        preview.add_row(*("" if value is None else str(value) for value in row))
    results.print(preview)
    for line, reason in first.rejected.select("line", "reason").iter_rows():
        note(f"{path.name}, line {line}, rejected:", reason)
    results.print("Nothing was stored.")
