"""`lm db`: the database of this installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Annotated

import typer
from psycopg.conninfo import make_conninfo

from app import embedded_postgres
from app.cli.output import errors, results
from app.config import get_settings
from app.errors import InvalidInput
from app.services import installation

app = typer.Typer(help="Start, upgrade, open and stop the database.", no_args_is_help=True)


@app.command()
def up() -> None:
    """Start the embedded PostgreSQL if DATABASE_URL is unset, bring the schema up to date, write dbt's profile."""
    installation.prepare_installation()
    installation.write_profiles()
    _report()


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to stop.")] = "head") -> None:
    """Migrate the schema to its newest revision."""
    installation.upgrade(revision)
    _report()


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go back to; `base` leaves no table.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take migrations back. Tables that they made are lost with their rows."""
    if not yes:
        typer.confirm(f"This drops what came after {revision}. Go on?", abort=True)
    installation.downgrade(revision)
    _report()


@app.command()
def psql(
    command: Annotated[list[str] | None, typer.Option("--command", "-c", help="Run this and leave.")] = None,
) -> None:
    """Open psql as the superuser, with the warehouse's marts in reach by their bare names."""
    installation.prepare_installation()
    login = installation.login_options("admin")
    # Everybody on the machine can read a command line.
    environment = os.environ | {"PGPASSWORD": login.pop("password", "")}
    login.pop("sslpassword", None)
    program = shutil.which("psql") or str(embedded_postgres.client_binary("psql"))
    arguments = [program, "-X", "-v", "ON_ERROR_STOP=1", "--dbname", make_conninfo(**login)]
    for statement in command or ():
        arguments += ["-c", statement]
    raise typer.Exit(subprocess.run(arguments, env=environment, check=False).returncode)


@app.command()
def down() -> None:
    """Stop the embedded PostgreSQL."""
    if get_settings().database_url is not None:
        raise InvalidInput("DATABASE_URL is set: that server is not ours to stop.")
    stopped = embedded_postgres.stop()
    errors.print("PostgreSQL stopped." if stopped else "PostgreSQL was not running.")


def _report() -> None:
    state = installation.describe_installation()
    kind = "embedded PostgreSQL" if state.embedded else "PostgreSQL"
    results.print(
        f"{kind} {state.server_version} on {state.host}:{state.port}, database {state.database}, "
        f"schema {state.revision}",
        highlight=False,
        soft_wrap=True,
    )
