"""Bring an installation to where everything else can work: server up, schema current, roles able to log in."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import psycopg
import yaml
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import inspect, text

from app.config import BACKEND_DIR, get_settings
from app.db import (
    advisory_lock,
    database_errors,
    database_url,
    get_engine,
    role_password,
    server_version,
    session_for_jobs,
    session_for_user,
)
from app.embedded_postgres.private_file import write_private
from app.errors import DatabaseUnavailable, InvalidInput
from app.services.default_categories import seed_default_categories

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.db import Role

WAREHOUSE_SEARCH_PATH = ("public", "marts", "staging")

# What a URL can ask of libpq and dbt can pass on, with the types that dbt wants.
DBT_CONNECTION_OPTIONS: Final = {
    "sslmode": str,
    "sslcert": str,
    "sslkey": str,
    "sslrootcert": str,
    "connect_timeout": int,
    "keepalives_idle": int,
    "application_name": str,
}


@dataclass(frozen=True)
class Installation:
    """What `lm db up` reports."""

    host: str
    port: int
    database: str
    server_version: int
    embedded: bool
    revision: str


def prepare_installation() -> Installation:
    """Start the embedded server if there is no other, and bring an outdated schema to its newest revision.

    Safe to call at the start of every command: when all is well it costs two queries.

    Raises:
        DatabaseUnavailable: The server cannot be started or reached.
    """
    if _schema_revision() != _newest_revision():
        upgrade()
    else:
        _share_categories()
        _forget_foreign_numbers()
    return describe_installation()


def describe_installation() -> Installation:
    """Say where the database is and how far its schema has come."""
    url = database_url("admin")
    return Installation(
        host=url.host or "",
        port=url.port or 5432,
        database=url.database or "",
        server_version=server_version(),
        embedded=get_settings().database_url is None,
        revision=_schema_revision() or "empty",
    )


def upgrade(revision: str = "head") -> None:
    """Migrate the schema, let the roles log in, and tell dbt where the database is.

    Raises:
        InvalidInput: There is no such revision, or the database has one that this version does not know.
    """
    with _schema_lock():
        with _known_revisions(revision):
            command.upgrade(_alembic_config(), revision)
        for role in _managed_roles():
            _allow_login(role)
        _set_search_path()
        _write_profiles()
        if _schema_revision() == _newest_revision():
            _share_categories()


def downgrade(revision: str) -> None:
    """Take migrations back, down to a revision or to `base`, which leaves nothing.

    Raises:
        InvalidInput: There is no such revision, or the database has one that this version does not know.
    """
    with _schema_lock(), _known_revisions(revision):
        command.downgrade(_alembic_config(), revision)


def write_profiles() -> None:
    """Write dbt's profiles.yml, readable by its owner alone, for running dbt by hand."""
    with _schema_lock():
        _write_profiles()


def login_options(role: Role) -> dict[str, Any]:
    """Return what libpq is told to connect as a role: host, port, user, password, dbname and the URL's options."""
    return conninfo_to_dict(database_url(role).set(drivername="postgresql").render_as_string(hide_password=False))


def ensure_user(name: str, *, is_demo: bool = False) -> int:
    """Return the id of the user of that name, adding them, as a demo's data set or not, if there is none."""
    with session_for_jobs() as session:
        add = text("INSERT INTO users (name, is_demo) VALUES (:name, :is_demo) ON CONFLICT (name) DO NOTHING")
        session.execute(add, {"name": name, "is_demo": is_demo})
        found: int = session.execute(text("SELECT id FROM users WHERE name = :name"), {"name": name}).scalar_one()
        return found


def ensure_local_user() -> None:
    """Add the local user where there is nobody at all, and make sure that requests see the users that jobs add.

    Raises:
        DatabaseUnavailable: Requests go to another database than jobs do.
    """
    with session_for_jobs() as session:
        add = text("""
            INSERT INTO users (name) SELECT :name WHERE NOT EXISTS (SELECT FROM users) ON CONFLICT (name) DO NOTHING
        """)
        session.execute(add, {"name": get_settings().local_user})
    with session_for_jobs() as session:
        somebody = session.execute(text("SELECT id, name FROM users ORDER BY id DESC LIMIT 1")).one()
    with database_errors(), session_for_user(somebody.id) as session:
        # No role that is bound by row-level security could look for the id by the name.
        find = text("SELECT name FROM users WHERE id = :id")
        seen = session.execute(find, {"id": somebody.id}).scalar_one_or_none()
    if seen != somebody.name:
        raise DatabaseUnavailable(
            "Requests and jobs go to different databases: let LM_APP_DATABASE_URL, LM_JOBS_DATABASE_URL and "
            "DATABASE_URL lead to one."
        )


@contextmanager
def _schema_lock() -> Iterator[None]:
    """Let one process at a time change the schema of a server that is there and new enough."""
    server_version()
    with advisory_lock("upgrade", role="admin"):
        yield


@contextmanager
def _known_revisions(wanted: str) -> Iterator[None]:
    try:
        yield
    except CommandError:
        current = _schema_revision()
        known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
        if current is not None and current not in known:
            raise InvalidInput(
                f"The database's schema is at revision {current}, which this version does not know: a newer one has "
                "migrated it. Run that version, or restore a backup from before."
            ) from None
        raise InvalidInput(
            f"The schema cannot go from {current or 'empty'} to {wanted!r}; name a revision out of "
            "apps/backend/alembic/versions, head or base."
        ) from None


def _share_categories() -> None:
    """Give the installation this version's shared categories, which change without the schema."""
    with get_engine("admin").begin() as connection:
        seed_default_categories(connection)


def _forget_foreign_numbers() -> None:
    """Let labels that were restored from another server's backup count as old: its transactions had other numbers."""
    with get_engine("admin").begin() as connection:
        connection.execute(
            text("""
                UPDATE label_events SET written_in = 0
                WHERE (SELECT written_in FROM label_events ORDER BY id DESC LIMIT 1)
                    >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            """)
        )


def _write_profiles() -> None:
    login = login_options("jobs")
    profiles = {
        "ledgermill": {
            "target": "local",
            "outputs": {
                "local": {
                    "type": "postgres",
                    "host": login.get("host"),
                    "port": int(login.get("port", 5432)),
                    "user": login.get("user"),
                    "password": login.get("password"),
                    "dbname": login.get("dbname"),
                    "schema": "marts",
                    "threads": 2,
                    **{name: kind(login[name]) for name, kind in DBT_CONNECTION_OPTIONS.items() if name in login},
                }
            },
        }
    }
    explanation = "# Written by `lm db up`; holds a password and is not for git.\n"
    write_private(get_settings().profiles_dir / "profiles.yml", explanation + yaml.safe_dump(profiles, sort_keys=False))


def _alembic_config() -> Config:
    config = Config(BACKEND_DIR / "alembic.ini")
    config.attributes["quiet"] = True
    return config


@lru_cache
def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_alembic_config()).get_current_head()


def _schema_revision() -> str | None:
    with database_errors(), get_engine("admin").connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return revision


def _managed_roles() -> Iterator[Role]:
    settings = get_settings()
    if not settings.jobs_database_url:
        yield "jobs"
    if not settings.app_database_url:
        yield "app"


def _allow_login(role: Role) -> None:
    """Give a role its password, unless it can already log in with it."""
    url = database_url(role)
    try:
        psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)).close()
    except psycopg.OperationalError:
        with get_engine("admin").begin() as connection:
            driver: Any = connection.connection.driver_connection
            name = f"lm_{role}"
            # What is sent is the verifier, so the password stands in no statement and no log.
            verifier = driver.pgconn.encrypt_password(role_password(role).encode(), name.encode(), b"scram-sha-256")
            driver.execute(
                sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier.decode()))
            )


def _set_search_path() -> None:
    """Let the administrator's psql find the warehouse's marts by their bare names."""
    with get_engine("admin").begin() as connection:
        driver: Any = connection.connection.driver_connection
        row = driver.execute("SELECT current_user, current_database()").fetchone()
        driver.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                *map(sql.Identifier, row), sql.SQL(", ").join(map(sql.Identifier, WAREHOUSE_SEARCH_PATH))
            )
        )
