"""`lm categories`: the categories of a user, and the names they are shown under."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from app.cli.output import results
from app.cli.who import User, acting_user
from app.db import session_for_user
from app.services import categories

app = typer.Typer(help="See, add, rename and merge categories.", no_args_is_help=True)


@app.command(name="list")
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, user: User = None) -> None:
    """List categories with how many transactions are labelled so."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        found = categories.list_categories(session, user_id)
    if json:
        results.print_json(data=[asdict(category) for category in found])
        return
    table = Table("id", "group", "category", "also called", "transactions")
    for category in found:
        table.add_row(
            str(category.id),
            category.group_name or "",
            category.name,
            ", ".join(category.also_called),
            f"{category.transactions:,}",
        )
    results.print(table)


@app.command()
def add(
    name: str, *, group: Annotated[str | None, typer.Option(help="Heading to list it under.")] = None, user: User = None
) -> None:
    """Add a category of one's own."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        category = categories.add_category(session, user_id, name, group)
    results.print(f"Added {category.name!r} with id {category.id}.")


@app.command()
def rename(name: str, new_name: str, *, user: User = None) -> None:
    """Show a category under a new name. No label is rewritten, and the past is not renamed."""
    _show_under(name, new_name, user, is_there=False)


@app.command()
def merge(name: str, into: str, *, user: User = None) -> None:
    """Show a category under the name of another one. No label is rewritten, so it can be undone."""
    _show_under(name, into, user, is_there=True)


@app.command()
def undo(name: str, *, user: User = None) -> None:
    """Show a category that was renamed or merged under its own name again."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        categories.undo_rename(session, user_id, name)
    results.print(f"{name!r} is shown under its own name again.")


@app.command()
def remove(
    category_id: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="As `lm categories list` shows it.")],
    *,
    user: User = None,
) -> None:
    """Remove a category of one's own that nothing uses."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        categories.remove_category(session, user_id, category_id)
    results.print("Removed.")


def _show_under(name: str, into: str, user: str | None, *, is_there: bool) -> None:
    user_id = acting_user(user)
    target = into
    if is_there:
        with session_for_user(user_id) as session:
            target = categories.require_category(session, user_id, into)
    with session_for_user(user_id) as session:
        categories.rename_or_merge(session, user_id, name, target)
    results.print(f"{name!r} is shown as {target!r} from now on; `lm categories undo {name!r}` takes that back.")
