"""Let a request read the models and trainings of the category set that its user has, and no others; bound trainings.

A user with categories of their own could read what was decided about the shared set as well. And a training that a
request asks for keeps a distance from the last one, by the moment at which a worker began that.
"""

from __future__ import annotations

from alembic import op

revision = "c4d18e93b7a2"
down_revision = "b9d4f06c2a71"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('lm.user_id', true), '')::bigint"

# The same as `category_set_of` says. Requests see their own row of users alone, and without a tenant none: neither
# subquery refers to the row that is looked at, so each is asked once for a query.
OF_THE_TENANT_S_SET = f"""
    user_id = (SELECT id FROM users WHERE id = (SELECT {TENANT}) AND (own_categories OR is_demo))
    OR (
        user_id IS NULL
        AND EXISTS (SELECT FROM users WHERE id = (SELECT {TENANT}) AND NOT (own_categories OR is_demo))
    )
"""  # noqa: S608 -- the fragment is a constant

TABLES = ("ml_training_runs", "model_versions", "model_deployments")

REQUEST_TRAINING = """
    CREATE FUNCTION request_training(as_of timestamptz, seed bigint, promote boolean{pause_argument})
    RETURNS TABLE (job_id bigint, job_args jsonb, is_new boolean{wait_column})
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, public, pg_temp AS $$
    DECLARE
        tenant CONSTANT bigint := {tenant};
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
        {wait}
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
    COMMENT ON FUNCTION request_training IS '{comment}';
    REVOKE ALL ON FUNCTION request_training FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION request_training TO lm_app
"""

# What the command line trains is no job, so it neither waits nor makes anybody wait.
WAIT = """IF is_new THEN
            SELECT ceil(extract(epoch FROM max(started.at) + pause - clock_timestamp())) INTO wait_seconds
            FROM procrastinate_jobs AS earlier
            INNER JOIN procrastinate_events AS started ON started.job_id = earlier.id AND started.type = 'started'
            WHERE earlier.task_name = 'train_model' AND earlier.lock = job_lock;
            IF wait_seconds > 0 THEN
                is_new := false;
                RETURN NEXT;
                RETURN;
            END IF;
            wait_seconds := NULL;
        END IF;"""


def upgrade() -> None:
    """Narrow the policies, and give the function the pause that it keeps."""
    _let_requests_read(OF_THE_TENANT_S_SET)
    op.execute("DROP FUNCTION request_training")
    op.execute(
        REQUEST_TRAINING.format(
            tenant=TENANT,
            pause_argument=", pause interval",
            wait_column=", wait_seconds bigint",
            wait=WAIT,
            comment="Queues a training of the tenant''s category set, or gives the one that is waiting already; within "
            "a pause after the last began, it says for how many seconds it queues none.",
        )
    )


def downgrade() -> None:
    """Show the shared set's to everybody, and take trainings at any rate."""
    op.execute("DROP FUNCTION request_training")
    op.execute(
        REQUEST_TRAINING.format(
            tenant=TENANT,
            pause_argument="",
            wait_column="",
            wait="",
            comment="Queues a training of the tenant''s category set, or gives the one that is waiting already.",
        )
    )
    _let_requests_read(f"user_id IS NULL OR user_id = (SELECT {TENANT})")


def _let_requests_read(rows: str) -> None:
    for table in TABLES:
        op.execute(f"DROP POLICY tenant ON {table}; CREATE POLICY tenant ON {table} USING ({rows})")
