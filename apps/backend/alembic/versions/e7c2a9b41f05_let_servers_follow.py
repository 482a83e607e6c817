"""Let servers follow what is deployed and what is labelled, and keep what a challenger would have suggested.

A server remembers labels and asks for those that came since. Numbers of rows do not tell which those are: a transaction
that began earlier may end later. The number of the transaction that wrote a label does, beside the lowest that was
still running at the last look.
"""

from __future__ import annotations

from alembic import op

revision = "e7c2a9b41f05"
down_revision = "c4d18e93b7a2"
branch_labels = None
depends_on = None


TENANT = "nullif(current_setting('lm.user_id', true), '')::bigint"


def upgrade() -> None:
    """Add the columns, tell who listens of every deployment, and let requests find a model's file."""
    # What it counted, servers remember.
    op.execute("DROP FUNCTION own_label_counts_at")
    # Labels that are there already were written before any transaction to come, which is all that is asked.
    op.execute("""
        ALTER TABLE label_events ADD COLUMN written_in bigint NOT NULL DEFAULT 0;
        ALTER TABLE label_events ALTER COLUMN written_in SET DEFAULT pg_current_xact_id()::text::bigint;
        CREATE INDEX ix_label_events_user_id_written_in ON label_events (user_id, written_in)
    """)
    op.execute("""
        ALTER TABLE suggestion_events ADD COLUMN served_event_id bigint
            CONSTRAINT fk_suggestion_events_served_event_id_suggestion_events
                REFERENCES suggestion_events (id) ON DELETE CASCADE
            CONSTRAINT ck_suggestion_events_served_event_id
                CHECK ((served_event_id IS NOT NULL) = (source = 'shadow'));
        CREATE UNIQUE INDEX uq_suggestion_events_served_event_id_model_version
            ON suggestion_events (served_event_id, model_version) WHERE served_event_id IS NOT NULL
    """)
    # A champion may go without another coming: the heuristics answer then.
    _let_deployments_be("'promote', 'rollback', 'retire', 'challenge', 'withdraw', 'refuse'")
    op.execute("""
        CREATE FUNCTION tell_of_deployments() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NOTIFY lm_deployments;
            RETURN NULL;
        END
        $$;
        CREATE TRIGGER deployed AFTER INSERT OR DELETE ON model_deployments
            FOR EACH STATEMENT EXECUTE FUNCTION tell_of_deployments();

        CREATE FUNCTION deployed_models() RETURNS TABLE (
            category_set bigint, role text, version bigint, sha256 text, artefact_name text
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
            SELECT latest.user_id, latest.role, latest.version, model_versions.sha256, model_versions.artefact_name
            FROM (
                SELECT DISTINCT ON (user_id, role) user_id, role, version, action
                FROM model_deployments WHERE action <> 'refuse'
                ORDER BY user_id, role, id DESC
            ) AS latest
            INNER JOIN model_versions ON model_versions.version = latest.version
            WHERE latest.action NOT IN ('withdraw', 'retire')
        $$;
        COMMENT ON FUNCTION deployed_models IS 'What category sets are served by, and the files; nothing of people.';
        REVOKE EXECUTE ON FUNCTION deployed_models FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION deployed_models TO lm_app, lm_jobs
    """)


def downgrade() -> None:
    """Take it all back; what challengers would have suggested is gone with it."""
    op.execute("DROP FUNCTION deployed_models")
    op.execute("DROP TRIGGER deployed ON model_deployments")
    op.execute("DROP FUNCTION tell_of_deployments")
    op.execute("DELETE FROM model_deployments WHERE action = 'retire'")
    _let_deployments_be("'promote', 'rollback', 'challenge', 'withdraw', 'refuse'")
    op.execute("DELETE FROM suggestion_events WHERE source = 'shadow'")
    op.execute("DROP INDEX uq_suggestion_events_served_event_id_model_version")
    op.execute("ALTER TABLE suggestion_events DROP COLUMN served_event_id CASCADE")
    op.execute("ALTER TABLE label_events DROP COLUMN written_in CASCADE")
    op.execute(f"""
        CREATE FUNCTION own_label_counts_at(merchants text[])
        RETURNS TABLE (merchant text, norm_desc text, account text, label text, label_source text, labels bigint)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
            SELECT
                trim(ml_features.merchant), ml_features.norm_desc, transactions.account,
                coalesce(category_names.shown_as, transaction_labels.label), transaction_labels.source, count(*)
            FROM ml_features
            INNER JOIN transactions ON transactions.id = ml_features.txn_id
            INNER JOIN transaction_labels ON transaction_labels.txn_id = ml_features.txn_id
            LEFT JOIN category_names
                ON category_names.user_id = transactions.user_id
                    AND category_names.name = transaction_labels.label AND category_names.valid_to IS NULL
            WHERE ml_features.merchant = ANY(merchants) AND transactions.user_id = {TENANT}
                AND transactions.deleted_at IS NULL AND trim(transaction_labels.label) <> ''
            GROUP BY 1, 2, 3, 4, 5
        $$;
        COMMENT ON FUNCTION own_label_counts_at IS 'The same at some merchants.';
        REVOKE EXECUTE ON FUNCTION own_label_counts_at FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION own_label_counts_at TO lm_app
    """)  # noqa: S608 -- the fragment is the constant above


def _let_deployments_be(actions: str) -> None:
    op.execute(f"""
        ALTER TABLE model_deployments DROP CONSTRAINT ck_model_deployments_action;
        ALTER TABLE model_deployments ADD CONSTRAINT ck_model_deployments_action CHECK (action IN ({actions}))
    """)
