"""`lm user`: who has a ledger here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from app.cli.output import errors, results
from app.db import session_for_jobs
from app.errors import InvalidInput
from app.services import installation, users

app = typer.Typer(help="Add, list and erase users.", no_args_is_help=True)

FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


@app.command()
def add(name: str, *, password_stdin: FromStdin = False) -> None:
    """Add a user. Without a password they cannot log in, and use tokens alone."""
    installation.prepare_installation()
    password = _ask_password("Password (empty: none)", from_stdin=password_stdin)
    with session_for_jobs() as session:
        users.add_user(session, name, password or None)
    results.print(f"Added {name}. A token for their programs: lm token new --user {name}", soft_wrap=True)


@app.command(name="list")
def list_() -> None:
    """List the users."""
    installation.prepare_installation()
    with session_for_jobs() as session:
        accounts = users.list_users(session)
    table = Table("name", "added", "logs in", "what it is")
    for account in accounts:
        logs_in = "with a password" if account.has_password else "no"
        table.add_row(account.name, f"{account.created_at:%Y-%m-%d}", logs_in, "demo" if account.is_demo else "ledger")
    results.print(table)


@app.command()
def password(name: str, *, password_stdin: FromStdin = False) -> None:
    """Give a user another password. It ends their logins; their tokens stay."""
    installation.prepare_installation()
    with session_for_jobs() as session:
        user_id = users.find_user(session, name)
    new = _ask_password("New password", from_stdin=password_stdin)
    with session_for_jobs() as session:
        users.set_password(session, user_id, new)
    results.print(f"{name} has a new password, and is logged out everywhere.", soft_wrap=True)


@app.command()
def remove(
    name: str,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name once more.")] = False,
) -> None:
    """Erase a user with their transactions, labels, rules and tokens, for good. Suggestions stay without a name."""
    installation.prepare_installation()
    with session_for_jobs() as session:
        user_id = users.find_user(session, name)
    if not yes and typer.prompt("This erases all they have, for good. Type the name to go on", err=True) != name:
        raise InvalidInput("That is not the name; nothing was erased.")
    with session_for_jobs() as session:
        users.remove_user(session, user_id)
    results.print(f"{name} is erased.", soft_wrap=True)


def _ask_password(question: str, *, from_stdin: bool) -> str:
    """Read a password from where the caller says; empty if there is nobody to ask."""
    if from_stdin:
        typed = sys.stdin.readline().rstrip("\r\n")
        if not typed:
            raise InvalidInput("Standard input holds no password; leave out --password-stdin for a user without one.")
        return typed
    if not sys.stdin.isatty():
        errors.print("No terminal to ask for a password on; --password-stdin reads one.", soft_wrap=True)
        return ""
    return str(
        typer.prompt(question, default="", show_default=False, hide_input=True, confirmation_prompt=True, err=True)
    )
