"""One throw-away PostgreSQL for a test run, and a migrated database of its own for each worker."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from app import embedded_postgres
from app.config import get_settings
from app.db import database_url, forget_engines, get_engine, session_for_jobs
from app.services import installation
from app.services.default_categories import seed_default_categories

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

ROOT = pytest.StashKey[Path]()
CONTROLLER = "PYTEST_XDIST_WORKER" not in os.environ


def pytest_configure(config: pytest.Config) -> None:
    """Point every worker at one folder of this run's own, whatever the environment says."""
    if CONTROLLER:
        # Not under pytest's own temporary folder: PostgreSQL's unprivileged user could not enter that.
        root = Path(tempfile.mkdtemp(prefix="lm-test-"))
        root.chmod(0o755)
        for name in [name for name in os.environ if name == "DATABASE_URL" or name.startswith("LM_")]:
            del os.environ[name]
        os.environ["LM_TEST_ROOT"] = str(root)
        os.environ["LM_DATA_DIR"] = str(root / "data")
        os.environ["LM_BUILD_DIR"] = str(root / "build")
        os.environ["LM_PROFILES_DIR"] = str(root)
        config.stash[ROOT] = root


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and leave nothing behind."""
    root = config.stash.get(ROOT, None)
    if root is not None:
        os.environ.pop("DATABASE_URL", None)
        get_settings.cache_clear()
        embedded_postgres.stop()
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def worker_database(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of this worker; the settings point at it. Gives its URL."""
    embedded_postgres.ensure_running()
    admin = database_url("admin")
    name = f"test_{worker_id}"
    login = admin.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(login, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with pytest.MonkeyPatch.context() as patch:
        url = admin.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        patch.setenv("DATABASE_URL", url)
        patch.setenv("LM_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("LM_BUILD_DIR", str(tmp_path_factory.mktemp("build")))
        patch.setenv("LM_PROFILES_DIR", str(tmp_path_factory.mktemp("profiles")))
        get_settings.cache_clear()
        # The workers' databases share one server, and with it the roles that a first migration makes.
        with (Path(os.environ["LM_TEST_ROOT"]) / "roles.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            installation.prepare_installation()
        yield url
        forget_engines()
    get_settings.cache_clear()


@pytest.fixture
def database(worker_database: str) -> str:
    """The same database as a new installation has it: the shared categories, nothing else, sequences at one."""
    with get_engine("admin").begin() as connection:
        tables = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
        )
        connection.execute(text(f"TRUNCATE {', '.join(tables.scalars())} RESTART IDENTITY CASCADE"))
        seed_default_categories(connection)
    return worker_database


@pytest.fixture
def jobs_session(database: str) -> Iterator[Session]:
    """A transaction across users; committed at the end."""
    assert database
    with session_for_jobs() as session:
        yield session


@pytest.fixture
def jobs_connection(database: str) -> Iterator[psycopg.Connection]:
    """psycopg's connection of the role lm_jobs, committing each statement."""
    url = database_url("jobs").set(drivername="postgresql").render_as_string(hide_password=False)
    assert database
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin_connection(database: str) -> Iterator[psycopg.Connection]:
    """psycopg's connection of the superuser, committing each statement."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def user_id(database: str) -> int:
    """Somebody with an empty ledger."""
    assert database
    return installation.ensure_user("somebody")
