"""`lm merchants`: the names that merchants are shown under."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from app.cli.output import results
from app.cli.who import User, acting_user
from app.db import session_for_user
from app.services.merchants import list_merchants, rename_merchant

app = typer.Typer(help="See and rename merchants.", no_args_is_help=True)


@app.command(name="list")
def list_(
    search: Annotated[str, typer.Argument(help="Only names that hold this.")] = "",
    *,
    limit: Annotated[int, typer.Option(help="How many.")] = 50,
    user: User = None,
) -> None:
    """List merchants by how often they occur."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        merchants = list_merchants(session, user_id, search=search, limit=limit)
    if not merchants:
        results.print("No merchants yet: `lm ingest FILE` brings some." if not search else "No merchant has that name.")
        return
    table = Table("merchant", "shown as", "transactions")
    for merchant in merchants:
        table.add_row(merchant.merchant, merchant.canonical, f"{merchant.transactions:,}")
    results.print(table)


@app.command()
def rename(merchant: str, shown_as: str, *, user: User = None) -> None:
    """Show a merchant under another name. Features and what was learnt from it stay as they are."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        changed = rename_merchant(session, user_id, merchant, shown_as)
    results.print(f"{changed:,} transactions of {merchant!r} are now shown as {shown_as!r}.")
