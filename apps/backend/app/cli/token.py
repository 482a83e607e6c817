"""`lm token`: what programs show to act for a user."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import typer
from rich.table import Table

from app.cli.output import note, results
from app.cli.who import User, acting_user
from app.db import session_for_user
from app.services import credentials

app = typer.Typer(help="Make, list and revoke tokens for the API.", no_args_is_help=True)


@app.command()
def new(
    *,
    user: User = None,
    name: Annotated[str, typer.Option(help="What to call it, to know it again.")] = "token",
    scope: Annotated[Literal["read", "write"], typer.Option(help="read may look, write may change.")] = "write",
    days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="How long it lasts; default: until it is revoked.")
    ] = None,
) -> None:
    """Make a token. It alone is printed to standard output, and never again."""
    user_id = acting_user(user)
    expires_at = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    with session_for_user(user_id) as session:
        made = credentials.new_token(session, user_id, name=name, scope=scope, expires_at=expires_at)
    ends = "when it is revoked" if expires_at is None else f"on {expires_at:%Y-%m-%d}"
    note(
        "Keep it:",
        f"it is not shown again. It may {scope}, ends {ends}, and is sent as `Authorization: Bearer TOKEN`; "
        f"`lm token revoke {made.token.id}` ends it at once.",
    )
    typer.echo(made.secret)


@app.command(name="list")
def list_(*, user: User = None) -> None:
    """List the tokens of a user, the newest first."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        tokens = credentials.list_tokens(session)
    if not tokens:
        results.print("No tokens yet: `lm token new` makes one.")
        return
    table = Table("id", "name", "may", "made", "state")
    for token in tokens:
        table.add_row(str(token.id), token.name, token.scope, f"{token.created_at:%Y-%m-%d}", _state(token))
    results.print(table)


@app.command()
def revoke(token_id: Annotated[int, typer.Argument(min=1, max=2**63 - 1)], *, user: User = None) -> None:
    """End a token at once."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        credentials.revoke_token(session, token_id)
    results.print(f"Token {token_id} is revoked.")


def _state(token: credentials.Token) -> str:
    if token.revoked_at is not None:
        return f"revoked on {token.revoked_at:%Y-%m-%d}"
    if token.expires_at is None:
        return "good until it is revoked"
    ended = token.expires_at <= dt.datetime.now(dt.UTC)
    return f"{'ended' if ended else 'good until'} {token.expires_at:%Y-%m-%d}"
