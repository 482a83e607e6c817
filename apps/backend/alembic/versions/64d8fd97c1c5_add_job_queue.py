"""Add the worker's queue: procrastinate's tables, in a schema of their own.

The tables are the library's, so it makes them: its own migrations, which it ships for good, up to the newest one of
version 3.10. A later version of the library gets a later migration here, which runs the files after that one. The
digest refuses a version that tells this part of the history differently.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

from alembic import op

revision = "64d8fd97c1c5"
down_revision = "c81d5e27f0ba"
branch_labels = None
depends_on = None

NEWEST = "03.04.00_50_post_add_retry_failed_job_procedure.sql"
DIGEST = "365a817fc5b91914e3de242e8a7c26462f8fe863e4db9b47ccd0055dd22d40cd"


def upgrade() -> None:
    """Create the tables and leave them to lm_jobs alone: requests queue nothing."""
    migrations = resources.files("procrastinate") / "sql" / "migrations"
    names = sorted(file.name for file in migrations.iterdir() if file.name.endswith(".sql") and file.name <= NEWEST)
    scripts = [(migrations / name).read_text(encoding="utf-8") for name in names]
    if hashlib.sha256("".join(scripts).encode()).hexdigest() != DIGEST:
        raise RuntimeError(
            f"The installed procrastinate ships other migrations up to {NEWEST} than this one was written for; "
            "install the version that requirements.txt pins."
        )
    op.execute("CREATE SCHEMA jobs")
    op.execute("SET LOCAL search_path = jobs")
    connection: Any = op.get_bind().connection.driver_connection
    for script in scripts:
        connection.execute(script)  # not op.execute, which would read its % and : as placeholders
    op.execute("SET LOCAL search_path TO DEFAULT")
    op.execute("""
        GRANT USAGE ON SCHEMA jobs TO lm_jobs;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs TO lm_jobs;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA jobs TO lm_jobs
    """)


def downgrade() -> None:
    """Drop the queue and what waits in it."""
    op.execute("DROP SCHEMA jobs CASCADE")
