"""`lm transactions`: the ledger on a terminal, and what a person says a transaction is."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from app.cli.output import note, results
from app.cli.who import User, acting_user
from app.db import database_errors, session_for_user
from app.services.labelling import categorise_transaction
from app.services.transactions import (
    DEFAULT_LIMIT,
    MOST_ROWS,
    TransactionFilter,
    list_transactions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.services.transactions import TransactionRow

app = typer.Typer(help="List transactions and say what they are.", no_args_is_help=True)


@app.command(name="list")
def list_(
    *,
    search: Annotated[str, typer.Option(help="Words that occur in the description or the merchant's name.")] = "",
    category: Annotated[str | None, typer.Option(help="Of this category, as it is called today.")] = None,
    uncategorised: Annotated[bool, typer.Option("--uncategorised", help="Without a category.")] = False,
    account: Annotated[str | None, typer.Option(help="On this account.")] = None,
    from_: Annotated[
        dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DATE", help="The first day.")
    ] = None,
    to: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="The last day, included.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")] = DEFAULT_LIMIT,
    after: Annotated[str | None, typer.Option(help="Where to go on: what the page before says.")] = None,
    user: User = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List transactions, the latest first."""
    filters = TransactionFilter(
        account=account,
        date_from=from_.date() if from_ else None,
        date_to=to.date() if to else None,
        category=category,
        uncategorised=uncategorised,
        search=search,
    )
    user_id = acting_user(user)
    with database_errors(), session_for_user(user_id) as session:
        page = list_transactions(session, user_id, filters, limit=limit, after=after)
    if as_json:
        results.print_json(json.dumps(asdict(page), default=_plain), indent=None)
        return
    if not page.transactions:
        results.print(_nothing(is_filtered=filters != TransactionFilter() or after is not None))
        return
    _print_table(page.transactions)
    if page.next is not None:
        note("More:", f"the same command with --after {page.next} goes on from here.")


@app.command()
def categorise(
    txn_id: Annotated[
        int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="Its number, as `lm transactions list` shows it.")
    ],
    category: Annotated[str, typer.Argument(help="One of your categories.")],
    *,
    user: User = None,
) -> None:
    """Say what a transaction is. Your word stands above a rule's and an import's."""
    user_id = acting_user(user)
    with database_errors(), session_for_user(user_id) as session:
        shown = categorise_transaction(session, user_id, txn_id, category)
    results.print(
        f"{shown.date}  {_one_line(shown.description)}  {_amount(shown)}  is {_one_line(shown.category or '')} now.",
        soft_wrap=True,
    )


def _print_table(rows: Sequence[TransactionRow]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    table.add_column("account", max_width=10)
    table.add_column("description", min_width=8)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("category", max_width=16)
    table.add_column("by", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.id),
            str(row.date),
            _cut(row.account),
            _cut(row.description),
            _amount(row),
            _cut(row.category or ""),
            row.label.source if row.label else "",
        )
    results.print(table)


def _amount(row: TransactionRow) -> str:
    return f"{row.amount:,.2f}" + (f" {_one_line(row.currency)}" if row.currency else "")


def _cut(text: str) -> Text:
    """Let a column be narrower than its text, which then ends in an ellipsis and takes no second line."""
    return Text(_one_line(text), no_wrap=True, overflow="ellipsis")


def _nothing(*, is_filtered: bool) -> str:
    if is_filtered:
        return "No transaction is like that. Leave a condition out, or see all with `lm transactions list`."
    return "No transactions yet: `lm ingest FILE` brings some."


def _one_line(text: str) -> str:
    """Keep what a bank wrote from steering the terminal or breaking a row."""
    return "".join(character if character.isprintable() else " " for character in text)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.date) else str(value)
