"""Runs the migrations as the role lm_owner, which owns every table and answers no request."""

from __future__ import annotations

from pathlib import Path

from alembic import context
from sqlalchemy import text

import app.orm_models  # noqa: F401 -- fills Base.metadata, which the comparison reads
from app.db import Base, get_engine

ROLES = (Path(__file__).parent / "roles.sql").read_text(encoding="utf-8")


def migrate() -> None:
    """Run each migration in a transaction of its own."""
    with get_engine("admin").connect() as connection:
        connection.execute(text(ROLES.replace(":", r"\:")))
        connection.execute(text("SET ROLE lm_owner"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.execute(text("RESET ROLE"))
        connection.commit()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database; there is no offline mode.")
migrate()
