"""Let a feature build say whose transactions it changed: where a label counts is told by the features.

Ingest need not: what it brings belongs to an import, which is numbered.
"""

from __future__ import annotations

from alembic import op

revision = "d17c4b9e6f32"
down_revision = "c95e3a7d2f18"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the function, for jobs alone."""
    op.execute("""
        CREATE FUNCTION number_knowledge_of(txn_ids bigint[]) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
            INSERT INTO knowledge_revisions (user_id, written_in)
            SELECT DISTINCT user_id, pg_current_xact_id()::text::bigint FROM transactions
            WHERE id = ANY(txn_ids) ORDER BY user_id
            ON CONFLICT (user_id) DO UPDATE SET written_in = excluded.written_in
        $$;
        REVOKE EXECUTE ON FUNCTION number_knowledge_of FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION number_knowledge_of TO lm_jobs
    """)


def downgrade() -> None:
    """Take it back."""
    op.execute("DROP FUNCTION number_knowledge_of")
