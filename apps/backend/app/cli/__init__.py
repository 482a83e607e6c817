"""The `lm` command: the same services as the API, for a terminal."""

from __future__ import annotations

import logging
import sys

import typer
from pydantic import ValidationError

from app.cli import (
    backtest,
    categories,
    db,
    demo,
    evaluate,
    experiments,
    ingest,
    labels,
    merchants,
    models,
    replay,
    rules,
    sample,
    serve,
    suggest,
    token,
    train,
    transactions,
    user,
    warehouse,
    worker,
)
from app.cli.output import note
from app.config import Settings
from app.errors import InvalidInput, LedgermillError

app = typer.Typer(
    name="lm",
    help="Ledgermill: categories for bank transactions, on one PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(serve.serve)
app.command()(worker.worker)
app.command()(ingest.ingest)
app.command()(sample.sample)
app.command("suggest")(suggest.suggest_)
app.command()(backtest.backtest)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(replay.replay)
app.add_typer(categories.app, name="categories")
app.add_typer(db.app, name="db")
app.add_typer(experiments.app, name="experiments")
app.add_typer(labels.app, name="labels")
app.add_typer(merchants.app, name="merchants")
app.add_typer(models.app, name="models")
app.add_typer(rules.app, name="rules")
app.add_typer(token.app, name="token")
app.add_typer(transactions.app, name="transactions")
app.add_typer(user.app, name="user")
app.add_typer(warehouse.app, name="warehouse")


def main() -> None:
    """Run the command line; an error that a person can act on is one sentence and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        app()
    except LedgermillError as error:
        note(f"{error.title}:", str(error), style="bold red")
        sys.exit(error.exit_code)
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        # Not the value: it may be a secret.
        note("Invalid setting:", f"{_variables(error)}; docs/operations.md says what it takes.", style="bold red")
        sys.exit(InvalidInput.exit_code)


def _variables(error: ValidationError) -> str:
    """Name the environment variables that the settings are wrong in."""
    names = {str(problem["loc"][0]) for problem in error.errors(include_input=False, include_context=False)}
    return ", ".join(sorted(f"LM_{name.upper()}" if name in Settings.model_fields else name for name in names))
