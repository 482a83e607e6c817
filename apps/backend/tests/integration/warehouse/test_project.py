"""The dbt project itself: it builds from nothing, its commands run by hand, its models keep the house rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from app.cli.warehouse import app
from app.errors import InvalidInput
from app.services.warehouse import WarehouseError, check_warehouse, document_warehouse

if TYPE_CHECKING:
    import psycopg
    from conftest import Dbt, RunModels

STAGING = {
    "stg_transactions", "stg_transaction_labels", "stg_label_events", "stg_ml_features", "stg_suggestion_events",
    "stg_suggestion_feedback", "stg_category_names", "stg_model_versions", "stg_experiments", "stg_experiment_arms",
    "stg_experiment_changes",
}  # fmt: skip
MARTS = {
    "fct_training_view", "dim_merchants", "fct_suggestions_eval", "fct_shadow_comparisons", "fct_shadow_agreement",
    "fct_experiment_exposures", "fct_experiment_results",
}  # fmt: skip


@pytest.fixture
def empty_warehouse(database: str, admin_connection: psycopg.Connection) -> None:
    """The two schemas as the first migration leaves them."""
    assert database
    for schema in ("staging", "marts"):
        admin_connection.execute(f"DROP SCHEMA {schema} CASCADE")
        admin_connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION lm_jobs")


def built(outcome: Any) -> set[str]:
    assert outcome.success
    return {result.node.name for result in outcome.result if result.node.resource_type == "model"}


@pytest.mark.usefixtures("empty_warehouse")
def test_everything_builds_without_a_row_or_a_warning(dbt: Dbt) -> None:
    outcome = dbt("--warn-error", "build")
    assert built(outcome) == STAGING | MARTS


@pytest.mark.usefixtures("empty_warehouse")
def test_marts_build_alone_on_a_fresh_database(dbt: Dbt) -> None:
    alone = MARTS - {"fct_shadow_comparisons", "fct_shadow_agreement"}
    assert built(dbt("run", "--select", *alone)) == alone


@pytest.mark.usefixtures("database")
def test_tag_ml_and_staging_selects_the_staging_views(dbt: Dbt) -> None:
    assert built(dbt("run", "--select", "tag:ml,staging")) == STAGING
    assert built(dbt("run", "--select", "tag:ml")) == STAGING | MARTS


@pytest.mark.usefixtures("empty_warehouse")
def test_a_test_of_models_that_are_not_built_says_which_are_missing() -> None:
    with pytest.raises(WarehouseError, match=r"(?s)models and tests failed.*fct_training_view.* does not exist"):
        check_warehouse(select=["fct_training_view"])


@pytest.mark.usefixtures("database")
def test_documentation_is_one_page(run_models: RunModels) -> None:
    run_models("tag:staging")
    page = document_warehouse()
    assert "stg_ml_features" in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("database")
def test_command_line_reports_and_refuses_a_moment_that_is_none() -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["build", "--as-of", "2025-10-01", "--select", "tag:staging"])
    assert done.exit_code == 0
    assert "11 models" in done.output
    assert isinstance(runner.invoke(app, ["build", "--as-of", "yesterday"]).exception, InvalidInput)


@pytest.fixture(scope="module")
def manifest(dbt: Dbt) -> Any:
    return dbt("parse").result


def nodes(manifest: Any, kind: str) -> list[Any]:
    return [node for node in manifest.nodes.values() if node.resource_type == kind]


def test_every_model_and_column_is_described_and_every_model_is_tagged_ml(manifest: Any) -> None:
    models = nodes(manifest, "model")
    assert len(models) == 22
    for model in models:
        assert model.description, model.name
        assert "ml" in model.tags, model.name
        for column in model.columns.values():
            assert column.description, f"{model.name}.{column.name}"
    for source in manifest.sources.values():
        assert source.description, source.name
        assert all(column.description for column in source.columns.values()), source.name


def test_every_model_has_a_tested_primary_key(manifest: Any) -> None:
    tested: dict[tuple[str, str], set[str]] = {}
    for test in nodes(manifest, "test"):
        column = getattr(test, "column_name", None)  # a test in a file of its own has none
        if column:
            tested.setdefault((test.attached_node, column), set()).add(test.test_metadata.name)
    for model in nodes(manifest, "model"):
        keys = [name for name in model.columns if tested.get((model.unique_id, name), set()) >= {"unique", "not_null"}]
        assert keys, f"{model.name} has no column that is tested to be unique and not null"


def test_marts_have_contracts_and_readers(manifest: Any) -> None:
    read = {parent for exposure in manifest.exposures.values() for parent in exposure.depends_on.nodes}
    for model in nodes(manifest, "model"):
        if model.name in MARTS:
            assert model.config.contract.enforced, model.name
            assert model.schema == "marts"
            assert model.unique_id in read, f"no exposure reads {model.name}"


def test_only_staging_reads_sources_and_one_each(manifest: Any) -> None:
    for model in nodes(manifest, "model"):
        sources = [parent for parent in model.depends_on.nodes if parent.startswith("source.")]
        assert len(sources) == (1 if model.name in STAGING else 0), model.name


def test_training_data_has_no_column_that_can_change_after_the_fact(manifest: Any) -> None:
    columns = set(manifest.nodes["model.ledgermill.fct_training_view"].columns)
    assert columns.isdisjoint({"category", "merchant_canonical", "updated_at", "deleted_at"})
    assert {"txn_id", "label", "label_source", "sample_weight", "ts_month", "merchant"} <= columns
