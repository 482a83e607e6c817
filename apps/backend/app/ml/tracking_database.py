"""MLflow's own database: on the server of the ledger's, owned by a role of its own that lm_jobs acts as.

That role reads nothing of the ledger and requests read nothing of MLflow, so MLflow's own programs can be given the one
without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import errors, sql
from sqlalchemy import URL, make_url, text

from app import embedded_postgres
from app.config import get_settings
from app.db import advisory_lock, database_errors, database_url, get_engine
from app.errors import DatabaseUnavailable

if TYPE_CHECKING:
    import psycopg

NAME: Final = "mlflow"


def tracking_database_exists() -> bool:
    """Say whether anything can have been tracked yet, without creating or importing anything."""
    if get_settings().mlflow_database_url:
        return True
    with database_errors(), get_engine("jobs").connect() as connection:
        find = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        return bool(connection.execute(find, {"name": _database_name()}).scalar_one())


def ensure_tracking_database() -> URL:
    """Return the URL of MLflow's database, making the database if there is none.

    Raises:
        DatabaseUnavailable: The server cannot be reached, or the database is not there and may not be made.
    """
    configured = get_settings().mlflow_database_url
    if configured:
        return make_url(configured).set(drivername="postgresql+psycopg")
    url = database_url("jobs").set(database=_database_name())
    if not _is_ours(url):
        _create(url)
    # Whoever connects acts as the owner, so that tables have one owner whichever program made them. No space: it would
    # be written as a plus, which libpq takes literally.
    options = " ".join(filter(None, [str(url.query.get("options", "")), f"-crole={url.database}"]))
    return url.update_query_dict({"options": options})


def _database_name() -> str:
    """Name the database after the ledger's, unless that has its usual name: a server may hold several ledgers."""
    ledger = database_url("jobs").database
    return NAME if ledger == embedded_postgres.DATABASE else f"{ledger}_{NAME}"


def _is_ours(url: URL) -> bool:
    """Say whether the database is there and lm_jobs may act as the role that bears its name."""
    with database_errors(), get_engine("jobs").connect() as connection:
        find = text("""
            SELECT EXISTS (
                SELECT FROM pg_database INNER JOIN pg_roles ON pg_roles.oid = datdba AND rolname = datname
                WHERE datname = :name AND pg_has_role(current_user, datdba, 'MEMBER')
            )
        """)
        return bool(connection.execute(find, {"name": url.database}).scalar_one())


def _create(url: URL) -> None:
    """Make the database and its role, or let lm_jobs act as the role where the containers' set-up made both."""
    database, jobs = str(url.database), str(url.username)
    with (
        database_errors(),
        advisory_lock(f"create {database}", role="admin"),
        get_engine("admin").connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            _create_as_administrator(driver, database, jobs)
        except errors.InsufficientPrivilege:
            raise DatabaseUnavailable(
                f"The database {database}, which holds the record of trainings, is not there, and the user in "
                "DATABASE_URL may not create it. Let DATABASE_URL be a superuser's, or have somebody create a database "
                "and set LM_MLFLOW_DATABASE_URL to its URL."
            ) from None


def _create_as_administrator(connection: psycopg.Connection, database: str, jobs: str) -> None:
    find = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    found = connection.execute(find, [database]).fetchone()
    if found is not None and found[0] != database:
        # To act as that role could mean to own the ledger, or the server.
        raise DatabaseUnavailable(
            f"The database {database} belongs to the role {found[0]}. Hand it to a role called {database}, or set "
            "LM_MLFLOW_DATABASE_URL to the URL of the database that is to hold the record of trainings."
        )
    names = {"database": sql.Identifier(database), "jobs": sql.Identifier(jobs)}
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [database]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {database}").format(**names))
    connection.execute(sql.SQL("GRANT {database} TO {jobs}").format(**names))
    if found is None:
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {database}").format(**names))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
