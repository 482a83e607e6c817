"""Let servers say of an experiment which of its changes is in force, so that every suggestion can keep it."""

from __future__ import annotations

from alembic import op

revision = "c95e3a7d2f18"
down_revision = "b84d2f6c1e07"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Return the change beside the rest."""
    replace_function("change bigint, ", "latest.id, ")


def downgrade() -> None:
    """Return what was returned before."""
    replace_function("", "")


def replace_function(columns: str, values: str) -> None:
    """Make the function again, with columns more or without them."""
    op.execute("DROP FUNCTION running_experiments")
    op.execute(f"""
        CREATE FUNCTION running_experiments() RETURNS TABLE (
            category_set bigint, name text, unit text, salt text, {columns}ramp double precision, arms jsonb
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
            SELECT experiments.user_id, experiments.name, experiments.unit, experiments.salt, {values}latest.ramp, (
                SELECT jsonb_agg(
                    jsonb_build_object(
                        'name', arm.name, 'engine', arm.engine, 'share', arm.share, 'version', arm.version,
                        'artefact_name', model_versions.artefact_name, 'sha256', model_versions.sha256,
                        'is_stopped', EXISTS (
                            SELECT FROM experiment_changes AS stopped
                            WHERE stopped.experiment_id = experiments.id AND stopped.action = 'stop_arm'
                                AND stopped.arm = arm.name
                        )
                    )
                    ORDER BY arm.position
                )
                FROM experiment_arms AS arm LEFT JOIN model_versions ON model_versions.version = arm.version
                WHERE arm.experiment_id = experiments.id
            )
            FROM experiments
            INNER JOIN LATERAL (
                SELECT change.id, change.action, change.ramp FROM experiment_changes AS change
                WHERE change.experiment_id = experiments.id ORDER BY change.id DESC LIMIT 1
            ) AS latest ON latest.action <> 'stop'
        $$;
        COMMENT ON FUNCTION running_experiments IS 'What suggestions are divided between now; nothing of people.';
        REVOKE EXECUTE ON FUNCTION running_experiments FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION running_experiments TO lm_app, lm_jobs
    """)  # noqa: S608 -- the fragments are constants
