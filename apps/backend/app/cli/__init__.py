"""The `lm` command: the same services as the API, for a terminal."""

from __future__ import annotations

import sys

import typer

from app.cli import db
from app.cli.output import errors
from app.errors import LedgermillError

app = typer.Typer(
    name="lm",
    help="Ledgermill: categories for bank transactions, on one PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(db.app, name="db")


def main() -> None:
    """Run the command line; an error that a person can act on is one sentence and an exit code."""
    try:
        app()
    except LedgermillError as error:
        errors.print(f"[bold red]{error.title}:[/] {error}", soft_wrap=True)
        sys.exit(error.exit_code)
