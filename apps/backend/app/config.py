"""Settings, read from the environment; every one has a default that works on a fresh clone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY_ROOT = Path(__file__).resolve().parents[3]
BACKEND_DIR = REPOSITORY_ROOT / "apps" / "backend"
WAREHOUSE_DIR = REPOSITORY_ROOT / "warehouse"


class Settings(BaseSettings):
    """What can be set, by environment variables of the same names in capitals with the prefix `LM_`.

    docs/operations.md lists them all; a test holds that page to this class.
    """

    model_config = SettingsConfigDict(env_prefix="LM_", extra="ignore")

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """Administrative URL of a PostgreSQL >= 15; unset: the embedded server."""
    role_secret: str | None = None
    """Secret the passwords of the three roles are derived from; unset: the password in DATABASE_URL."""
    app_database_url: str | None = None
    """URL of the role lm_app where it is managed elsewhere."""
    jobs_database_url: str | None = None
    """URL of the role lm_jobs where it is managed elsewhere."""
    data_dir: Path = REPOSITORY_ROOT / ".data"
    """The embedded database and whatever else must survive."""
    build_dir: Path = REPOSITORY_ROOT / "build"
    """Reports: everything in it can be made again."""
    profiles_dir: Path = WAREHOUSE_DIR
    """Where `lm db up` writes dbt's profiles.yml."""
    db_port: int | None = None
    """Port of the embedded server; unset: a free one, chosen once and kept."""
    local_user: str = "local"
    """The user that the command line acts as, and the API where local_trust lets it."""
    local_trust: bool = False
    """Whether a request from this machine that is no web page's acts as local_user without a token."""


@lru_cache
def get_settings() -> Settings:
    """Return the settings, read once per process."""
    return Settings()
