"""Bring an installation to where everything else can work: server up, schema current, roles able to log in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
import yaml
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
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
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.db import Role

WAREHOUSE_SEARCH_PATH = ("public", "marts", "staging")


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

    Safe to call at the start of every command: when all is well it costs one query.

    Raises:
        DatabaseUnavailable: The server cannot be started or reached.
    """
    if _schema_revision() != _newest_revision():
        upgrade()
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
    """Migrate the schema, let the roles log in, and tell dbt where the database is."""
    with advisory_lock("upgrade", role="admin"):
        command.upgrade(_alembic_config(), revision)
        for role in _managed_roles():
            _allow_login(role)
        _set_search_path()
        write_profiles()


def downgrade(revision: str) -> None:
    """Take migrations back, down to a revision or to `base`, which leaves nothing."""
    command.downgrade(_alembic_config(), revision)


def write_profiles() -> Path:
    """Write dbt's profiles.yml, readable by its owner alone, for running dbt by hand; return its path."""
    url = database_url("jobs")
    profiles = {
        "ledgermill": {
            "target": "local",
            "outputs": {
                "local": {
                    "type": "postgres",
                    "host": url.host,
                    "port": url.port or 5432,
                    "user": url.username,
                    "password": url.password,
                    "dbname": url.database,
                    "schema": "marts",
                    "threads": 2,
                }
            },
        }
    }
    path = get_settings().profiles_dir / "profiles.yml"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        os.fchmod(handle.fileno(), 0o600)
        handle.write("# Written by `lm db up`; holds a password and is not for git.\n")
        yaml.safe_dump(profiles, handle, sort_keys=False)
    return path


def ensure_user(name: str) -> int:
    """Return the id of the user of that name, adding them if there is none."""
    with session_for_jobs() as session:
        add = text("INSERT INTO users (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
        session.execute(add, {"name": name})
        found: int = session.execute(text("SELECT id FROM users WHERE name = :name"), {"name": name}).scalar_one()
        return found


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
