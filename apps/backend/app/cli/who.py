"""Whom a command acts for. A name that was mistyped must not become a user."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from app.config import get_settings
from app.db import session_for_jobs
from app.errors import InvalidInput
from app.services import installation, users

User = Annotated[str | None, typer.Option(help="Whose ledger; default LM_LOCAL_USER, or the only user there is.")]


def acting_user(name: str | None, *, in_demo: bool = True) -> int:
    """Return the id of the user that a command acts for, in an installation that is ready for it.

    Without a name that is LM_LOCAL_USER if they exist, else the only user. Demo data sets count where there is nobody
    else. LM_LOCAL_USER is added where there is nobody.

    Args:
        name: Who `--user` says.
        in_demo: Whether the command may act in a demo data set that nobody has named.

    Raises:
        DatabaseUnavailable: The server cannot be started or reached.
        InvalidInput: Nobody is named, and it could be several users.
        NotFound: There is no user of that name.
    """
    installation.prepare_installation()
    with session_for_jobs() as session:
        if name is not None:
            return users.find_user(session, name)
        accounts = users.list_users(session)
    local_user = get_settings().local_user
    local = [account for account in accounts if account.name == local_user]
    people = [account for account in accounts if not account.is_demo]
    possible = local or people or (accounts if in_demo else [])
    if not possible:
        return installation.ensure_user(local_user)
    if len(possible) > 1:
        raise InvalidInput(
            "There are several users, and none is LM_LOCAL_USER: say which with --user; `lm user list` shows them."
        )
    return possible[0].id


def os_user() -> str:
    """Return the name of who sits at this computer."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def ask_reason() -> str:
    """Ask why something is decided, where there is somebody to ask."""
    if not sys.stdin.isatty():
        return "By hand."
    return str(typer.prompt("Why", default="By hand.", err=True))
