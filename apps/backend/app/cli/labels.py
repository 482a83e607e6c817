"""`lm labels`: what may be wrong with the labels that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from app.cli.output import note, results
from app.cli.who import User, acting_user
from app.progress import progress_of

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(help="Look after the labels that models learn from.", no_args_is_help=True)


# Without it, a group of one command would be that command.
@app.callback()
def _labels() -> None:
    pass


@app.command()
def audit(*, limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20, user: User = None) -> None:
    """List labels that are probably wrong, those first that misplace the most money."""
    from app.services.ledger_evaluation import audit_labels  # noqa: PLC0415 -- libraries that help need not wait for

    user_id = acting_user(user)
    with progress_of("transactions") as show:
        doubtful = audit_labels(user_id, progress=show)
    if not doubtful.height:
        results.print("No label looks wrong.")
        return
    results.print(_table(doubtful.head(limit)))
    results.print(
        f"{doubtful.height:,} in all. What is wrong indeed is put right with "
        '`lm transactions categorise ID "CATEGORY"`; the rest may stay.',
        soft_wrap=True,
    )
    if doubtful.height > limit:
        note("More:", f"--limit {doubtful.height} shows all of them.")


def _table(doubtful: pl.DataFrame) -> Table:
    table = Table(title="Labels that are probably wrong", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("month", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("the bank's string")
    table.add_column("label")
    table.add_column("rather")
    table.add_column("because")
    for row in doubtful.iter_rows(named=True):
        table.add_row(str(row["txn_id"]), f"{row['month']:%Y-%m}", f"{row['amount']:,.2f}", *_texts(row))
    return table


def _texts(row: dict[str, Any]) -> list[Text]:
    """Keep what a bank or a person wrote from steering the terminal."""
    return [
        Text("".join(character if character.isprintable() else " " for character in row[column]))
        for column in ("description", "label", "suggestion", "reason")
    ]
