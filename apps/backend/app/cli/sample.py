"""`lm sample`: write the seeded sample ledger."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from app.services.sample import DEFAULT_END, DEFAULT_MONTHS, generate_ledger, write_ledger


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a day. Write it as 2025-10-31.", param_hint="--end") from error


def sample(
    out: Annotated[Path, typer.Argument(help="File to write; .gz is compressed, - is standard output.")] = Path(
        "sample.csv"
    ),
    *,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 0,
    months: Annotated[int, typer.Option(min=1, help="Calendar months covered.")] = DEFAULT_MONTHS,
    end: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Last day.")] = DEFAULT_END.isoformat(),
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Approximate size; default: one household, about 250 rows a month."),
    ] = None,
    categories: Annotated[
        bool, typer.Option(help="Write the column category, as an import would claim it (3 % wrong).")
    ] = True,
    truth: Annotated[bool, typer.Option("--truth", help="Write the column true_category as well.")] = False,
) -> None:
    """Write an invented household ledger for the demo and for tests.

    No accuracy on it is ever quoted as a result.
    """
    ledger = generate_ledger(seed=seed, months=months, end=_day(end), rows=rows)
    to_stdout = str(out) == "-"
    write_ledger(ledger, sys.stdout.buffer if to_stdout else out, categories=categories, truth=truth)
    first, last = ledger["date"][0], ledger["date"][-1]
    where = "standard output" if to_stdout else str(out)
    typer.echo(
        f"Wrote {len(ledger):,} rows of {ledger['account'].n_unique()} accounts from {first} to {last} to {where}.",
        err=True,
    )
