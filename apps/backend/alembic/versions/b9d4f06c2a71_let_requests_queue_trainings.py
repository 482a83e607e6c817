"""Let a request queue a training of its user's category set, and see how trainings of that set went.

Requests have no right to the queue itself: a function puts one kind of job there, for the tenant that the transaction
names, and no second one of a category set while the first is waiting.
"""

from __future__ import annotations

from alembic import op

revision = "b9d4f06c2a71"
down_revision = "3e7a51c0d9b4"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('lm.user_id', true), '')::bigint"


def upgrade() -> None:
    """Add the function, and show a set's runs to those who use it."""
    op.execute(f"""
        CREATE FUNCTION request_training(as_of timestamptz, seed bigint, promote boolean)
        RETURNS TABLE (job_id bigint, job_args jsonb, is_new boolean)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, public, pg_temp AS $$
        DECLARE
            tenant CONSTANT bigint := {TENANT};
            category_set bigint;
            job_lock text;
        BEGIN
            SELECT CASE WHEN users.own_categories OR users.is_demo THEN users.id END INTO STRICT category_set
            FROM users WHERE users.id = tenant;
            job_lock := 'train_model of ' || coalesce(category_set::text, 'shared');
            PERFORM pg_advisory_xact_lock(hashtextextended(job_lock, 0));
            SELECT waiting.id, waiting.args INTO job_id, job_args FROM procrastinate_jobs AS waiting
            WHERE waiting.task_name = 'train_model' AND waiting.lock = job_lock AND waiting.status = 'todo'
            ORDER BY waiting.id LIMIT 1;
            is_new := NOT FOUND;
            IF is_new THEN
                job_args := jsonb_build_object(
                    'category_set', category_set, 'as_of', as_of, 'seed', seed, 'promote', promote, 'user_id', tenant
                );
                job_id := (procrastinate_defer_jobs_v1(ARRAY[
                    ('default', 'train_model', 0, job_lock, NULL, job_args, NULL)::procrastinate_job_to_defer_v1
                ]))[1];
            END IF;
            RETURN NEXT;
        END
        $$;
        COMMENT ON FUNCTION request_training IS
            'Queues a training of the tenant''s category set, or gives the one that is waiting already.';
        REVOKE ALL ON FUNCTION request_training FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION request_training TO lm_app
    """)  # noqa: S608 -- the fragment is a constant
    op.execute(f"""
        DROP POLICY tenant ON ml_training_runs;
        CREATE POLICY tenant ON ml_training_runs USING (user_id IS NULL OR user_id = (SELECT {TENANT}));
        GRANT SELECT ON ml_training_runs TO lm_app
    """)


def downgrade() -> None:
    """Let requests neither queue trainings nor see them."""
    op.execute("DROP FUNCTION request_training")
    op.execute(f"""
        REVOKE SELECT ON ml_training_runs FROM lm_app;
        DROP POLICY tenant ON ml_training_runs;
        CREATE POLICY tenant ON ml_training_runs USING (user_id = (SELECT {TENANT}))
    """)  # noqa: S608 -- the same
