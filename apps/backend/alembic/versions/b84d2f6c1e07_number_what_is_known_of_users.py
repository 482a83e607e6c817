"""Number what is known of users beside their labels, so that a request sees in one row whether a server is up to date.

The number is that of the database transaction that changed it last. It is written when that one commits: a row that is
locked until then holds nobody up, and since nothing is locked after it, nobody waits for each other.
"""

from __future__ import annotations

from alembic import op

revision = "b84d2f6c1e07"
down_revision = "f3b7d1a9c620"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('lm.user_id', true), '')::bigint"
# Table, what happens to its rows, and how the user is found.
CHANGES = (
    ("imports", "INSERT OR DELETE", "user_id"),
    ("categories", "INSERT OR UPDATE OR DELETE", "user_id"),
    ("category_names", "INSERT OR UPDATE OR DELETE", "user_id"),
    ("rules", "DELETE", "user_id"),
    ("rule_revisions", "INSERT OR UPDATE", "rule_id"),
)


def upgrade() -> None:
    """Add the numbers, and the triggers that keep them."""
    op.execute(f"""
        CREATE TABLE knowledge_revisions (
            user_id bigint CONSTRAINT pk_knowledge_revisions PRIMARY KEY
                CONSTRAINT fk_knowledge_revisions_user_id_users REFERENCES users (id) ON DELETE CASCADE,
            written_in bigint NOT NULL
        );
        ALTER TABLE knowledge_revisions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON knowledge_revisions USING (user_id = (SELECT {TENANT}));
        GRANT SELECT ON knowledge_revisions TO lm_app, lm_jobs
    """)
    op.execute("""
        CREATE FUNCTION number_knowledge() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
            changed jsonb := to_jsonb(coalesce(NEW, OLD));
            whose bigint := changed ->> 'user_id';
            this bigint := pg_current_xact_id()::text::bigint;
        BEGIN
            IF TG_ARGV[0] = 'rule_id' THEN
                SELECT user_id INTO whose FROM rules WHERE id = (changed ->> 'rule_id')::bigint;
            END IF;
            -- Of many rows that a transaction changed, one is enough; and users who are being removed have no number.
            IF EXISTS (SELECT FROM knowledge_revisions WHERE user_id = whose AND written_in = this) THEN
                RETURN NULL;
            END IF;
            INSERT INTO knowledge_revisions (user_id, written_in) SELECT id, this FROM users WHERE id = whose
            ON CONFLICT (user_id) DO UPDATE SET written_in = excluded.written_in;
            RETURN NULL;
        END
        $$;
        REVOKE EXECUTE ON FUNCTION number_knowledge FROM PUBLIC
    """)
    for table, events, column in CHANGES:
        op.execute(f"""
            CREATE CONSTRAINT TRIGGER numbered AFTER {events} ON {table} DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION number_knowledge('{column}')
        """)


def downgrade() -> None:
    """Take it all back."""
    for table, *_ in CHANGES:
        op.execute(f"DROP TRIGGER numbered ON {table}")
    op.execute("DROP FUNCTION number_knowledge")
    op.execute("DROP TABLE knowledge_revisions CASCADE")
