"""Connections, sessions and the COPY paths; who may do what is decided by the role that connects.

Three roles do the work: `owner` migrates, `jobs` reads and writes across users (dbt, training, builds), `app`
answers requests and sees the rows of one user, whom each transaction names. `admin` is the installation's
superuser, for setting up and for `lm db psql`.
"""

from __future__ import annotations

import hashlib
import hmac
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl
import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session

from app import embedded_postgres
from app.config import get_settings
from app.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import SessionTransaction

Role = Literal["admin", "jobs", "app"]

TENANT_SETTING: Final = "lm.user_id"
MINIMUM_SERVER_VERSION: Final = 15


class Base(DeclarativeBase):
    """Base of the mapped tables; one naming convention makes every constraint findable."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


# --- who connects where ---------------------------------------------------------------------------------------


def database_url(role: Role) -> URL:
    """Return the URL that a role connects with, starting the embedded server when there is no other.

    Raises:
        DatabaseUnavailable: The embedded server does not start, or nothing tells the role's password.
    """
    settings = get_settings()
    explicit = {"app": settings.app_database_url, "jobs": settings.jobs_database_url}.get(role)
    if explicit:
        return make_url(explicit).set(drivername="postgresql+psycopg")
    admin = _admin_url()
    if role == "admin":
        return admin
    return admin.set(username=f"lm_{role}", password=role_password(role))


def role_password(role: Role) -> str:
    """Derive a role's password from the one secret that is kept, so that no second one must be."""
    secret = get_settings().role_secret or _admin_url().password
    if not secret:
        raise DatabaseUnavailable(
            "DATABASE_URL holds no password to derive those of the roles lm_app and lm_jobs from; set LM_ROLE_SECRET, "
            "or LM_APP_DATABASE_URL and LM_JOBS_DATABASE_URL."
        )
    return hmac.new(str(secret).encode(), f"ledgermill role lm_{role}".encode(), hashlib.sha256).hexdigest()


def _admin_url() -> URL:
    configured = get_settings().database_url
    if configured:
        return make_url(configured).set(drivername="postgresql+psycopg")
    server = embedded_postgres.ensure_running()
    return URL.create(
        "postgresql+psycopg",
        username=embedded_postgres.SUPERUSER,
        password=server.password,
        host=embedded_postgres.HOST,
        port=server.port,
        database=embedded_postgres.DATABASE,
    )


@lru_cache
def get_engine(role: Role) -> Engine:
    """Return the process's pool of connections for a role."""
    return create_engine(database_url(role), pool_pre_ping=True)


def forget_engines() -> None:
    """Close the pools, so that the next use reads the settings again (tests, forks)."""
    if get_engine.cache_info().currsize:
        for role in ("admin", "jobs", "app"):
            get_engine(role).dispose()
    get_engine.cache_clear()


# --- sessions: one is one transaction, and the code inside never commits ----------------------------------------


@event.listens_for(Session, "after_begin")
def _name_the_tenant(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Tell row-level security whose rows this transaction sees; it ends with the transaction."""
    user_id = session.info.get("user_id")
    if user_id is not None:
        set_tenant = text("SELECT set_config(:setting, :user_id, true)")
        connection.execute(set_tenant, {"setting": TENANT_SETTING, "user_id": str(user_id)})


@contextmanager
def session_for_user(user_id: int) -> Iterator[Session]:
    """Open a transaction that sees and changes one user's rows; commit unless it raises."""
    with Session(get_engine("app"), info={"user_id": user_id}) as session, session.begin():
        yield session


@contextmanager
def session_for_jobs() -> Iterator[Session]:
    """Open a transaction that sees every user's rows; commit unless it raises."""
    with Session(get_engine("jobs")) as session, session.begin():
        yield session


def get_db() -> Iterator[Session]:
    """Yield a session of the local user, for notebooks and shells: `db = next(get_db())`."""
    with session_for_jobs() as session:
        find = text("SELECT id FROM users WHERE name = :name")
        user_id = session.execute(find, {"name": get_settings().local_user}).scalar_one_or_none()
    with session_for_user(user_id or 0) as session:
        yield session


# --- frames in and out by COPY ------------------------------------------------------------------------------------


def driver_connection(session: Session) -> psycopg.Connection[tuple[Any, ...]]:
    """Return psycopg's connection of a session, inside its transaction, for what SQLAlchemy has no words for."""
    connection = session.connection().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(f"expected a psycopg connection, got {type(connection)}")
    return connection


def copy_in(connection: psycopg.Connection[Any], table: str, frame: pl.DataFrame) -> None:
    """Append a frame to a table whose columns have the frame's names.

    Lists must be written as PostgreSQL array literals beforehand; an empty string stays one, a null stays one.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        # Quoted strings tell an empty one from a null, which is written as nothing at all.
        encoded = frame.write_csv(include_header=False, quote_style="non_numeric", null_value="")
        copy.write(encoded)


def read_frame(
    connection: psycopg.Connection[Any],
    query: str,
    schema: Mapping[str, pl.DataType | type[pl.DataType]],
    parameters: Sequence[Any] | Mapping[str, Any] = (),
) -> pl.DataFrame:
    """Run a query and return its rows in a frame of the given schema, exact decimals included.

    Args:
        connection: Inside the transaction to read in.
        query: A SELECT whose columns are the schema's, in its order. Arrays come as PostgreSQL's literals.
        schema: Names and types of the columns.
        parameters: Values of the query's placeholders; they are bound on the client, as COPY takes none.
    """
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(
        sql.SQL(psycopg.ClientCursor(connection).mogrify(query, parameters))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        chunks = b"".join(copy)
    if not chunks:
        return pl.DataFrame(schema=schema)
    return pl.read_csv(chunks, has_header=False, schema=schema)


@contextmanager
def advisory_lock(job: str, *, role: Role = "jobs") -> Iterator[None]:
    """Let one process at a time do a job; the next one waits. A killed process holds nothing."""
    key = {"job": job}
    with get_engine(role).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:job, 0))"), key)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:job, 0))"), key)


@contextmanager
def database_errors() -> Iterator[None]:
    """Say in a sentence that the database is down or has no schema, instead of a driver's traceback."""
    try:
        yield
    except OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {_first_line(error)}") from None
    except ProgrammingError as error:
        if isinstance(error.orig, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            raise DatabaseUnavailable(f"{_first_line(error)}. Run `lm db up` (or `lm db upgrade`) first.") from None
        raise


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]


# --- readiness --------------------------------------------------------------------------------------------------


def server_version() -> int:
    """Return the major version of the PostgreSQL that is configured.

    Raises:
        DatabaseUnavailable: It cannot be reached, or is older than the oldest that is supported.
    """
    with database_errors(), get_engine("admin").connect() as connection:
        version = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10000
    if version < MINIMUM_SERVER_VERSION:
        raise DatabaseUnavailable(f"PostgreSQL {version} is too old; {MINIMUM_SERVER_VERSION} or newer is needed.")
    return version
