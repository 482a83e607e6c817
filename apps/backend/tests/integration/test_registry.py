"""MLflow without a server: what a training leaves there, quietly, and nothing outside this machine."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import make_url, text

from app.config import BACKEND_DIR, get_settings
from app.db import database_url
from app.errors import ArtefactRefused, DatabaseUnavailable
from app.ml import registry, tracking
from app.ml.artefact import encode_artefact, read_artefact, resolve_artefact
from app.ml.registry import FailedTraining, TrainingRecord, log_failure, log_training, set_aliases
from app.ml.tracking import artefact_root, open_tracking, tracking_sql
from app.ml.tracking_database import ensure_tracking_database, tracking_database_exists

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = {
    "recipe": "logistic-1",
    "classes": ["Café", "Fuel"],
    "input_schema": {"norm_desc": "String", "amount": "Decimal"},
    "libraries": {"numpy": "2.4.0"},
}


def record_of(category_set: int | None = None, **changes: Any) -> TrainingRecord:
    values: dict[str, Any] = {
        "category_set": category_set,
        "dataset_hash": "d" * 64,
        "params": {"seed": 7, "as_of": "2025-06-01"},
        "metrics": {"accuracy": 0.92, "f1_macro": 0.8},
        "artefact": encode_artefact({"weights": np.arange(3.0)}, HEADER),
    }
    return TrainingRecord(**values | changes)


def run_of(run_id: str) -> Any:
    client, _ = open_tracking()
    return client.get_run(run_id)


def runs_in_mlflow() -> int:
    with tracking_sql() as connection:
        return connection.execute(text("SELECT count(*) FROM runs")).scalar_one()


def test_a_training_becomes_a_finished_run_and_a_version_that_says_what_it_is(database: str, tmp_path: Path) -> None:
    assert database
    report = tmp_path / "report.html"
    report.write_text("<p>93 of 100</p>")
    registered = log_training(record_of(reports=[report], actor="ada"))
    client, experiment_id = open_tracking()
    run = run_of(registered.mlflow_run_id)
    assert (run.info.status, run.info.experiment_id) == ("FINISHED", experiment_id)
    assert run.data.params == {"seed": "7", "as_of": "2025-06-01"}
    assert run.data.metrics == {"accuracy": 0.92, "f1_macro": 0.8}
    assert run.data.tags["dataset_hash"] == "d" * 64
    assert run.data.tags["mlflow.user"] == "ada"
    files = [file.path for file in client.list_artifacts(registered.mlflow_run_id, "reports")]
    assert files == ["reports/report.html"]

    version = client.get_model_version("transaction-category", str(registered.version))
    assert (version.status, version.run_id) == ("READY", registered.mlflow_run_id)
    assert version.tags == {
        "category_set": "shared",
        "dataset_hash": "d" * 64,
        "sha256": registered.sha256,
        "recipe": "logistic-1",
        "classes": '["Caf\\u00e9", "Fuel"]',
        "input_schema": '{"amount": "Decimal", "norm_desc": "String"}',
        "libraries": '{"numpy": "2.4.0"}',
    }
    path = resolve_artefact(artefact_root(), registered.artefact_name)
    assert read_artefact(path, registered.sha256).header == HEADER
    assert hashlib.sha256(path.read_bytes()).hexdigest() == registered.sha256


def test_only_the_owner_may_enter_the_registry_s_folder(database: str) -> None:
    assert database
    registered = log_training(record_of())
    assert stat.S_IMODE(artefact_root().stat().st_mode) == 0o700
    assert stat.S_IMODE((artefact_root() / registered.artefact_name).stat().st_mode) == 0o600


def test_training_again_gives_the_next_version_and_the_same_hash(database: str) -> None:
    assert database
    first, second = log_training(record_of()), log_training(record_of())
    assert second.version == first.version + 1
    assert second.sha256 == first.sha256


def test_a_training_that_failed_is_a_failed_run_with_its_reason(database: str) -> None:
    assert database
    run = run_of(log_failure(FailedTraining(3, {"seed": 7}, "There are too few labels.")))
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == "There are too few labels."
    assert run.data.tags["category_set"] == "3"


def test_what_is_interrupted_between_run_and_version_leaves_a_failed_run_and_no_version(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    before = log_training(record_of()).version
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            log_training(record_of())
    client, experiment_id = open_tracking()
    last, *_ = client.search_runs([experiment_id], order_by=["attributes.start_time DESC"], max_results=1)
    assert last.info.status == "FAILED"
    assert log_training(record_of()).version == before + 1


def test_neither_what_is_no_artefact_nor_one_that_says_too_little_begins_a_run(database: str) -> None:
    assert database
    log_training(record_of())
    before = runs_in_mlflow()
    with pytest.raises(ArtefactRefused):
        log_training(record_of(artefact=b"pickle"))
    with pytest.raises(ValueError, match="libraries"):
        log_training(record_of(artefact=encode_artefact({}, {"recipe": "r", "classes": [], "input_schema": {}})))
    assert runs_in_mlflow() == before


def test_more_parameters_and_metrics_than_mlflow_takes_at_once_are_all_kept(database: str) -> None:
    assert database
    params = {f"p{number}": "x" * 7000 for number in range(150)}
    metrics = {f"m{number}": float(number) for number in range(1200)}
    data = run_of(log_training(record_of(params=params, metrics=metrics)).mlflow_run_id).data
    assert len(data.params) == 150
    assert data.metrics == metrics


def test_aliases_become_what_is_wanted_and_nothing_else(database: str) -> None:
    assert database
    client, _ = open_tracking()
    first, second = log_training(record_of()).version, log_training(record_of()).version
    for wanted in ({"champion": first, "champion-3": second}, {"champion": second, "challenger": first}, {}):
        for _ in range(2):
            set_aliases(wanted)
            aliases = client.get_registered_model("transaction-category").aliases
            assert {alias: int(version) for alias, version in aliases.items()} == wanted


def test_a_category_set_that_is_forgotten_leaves_nothing_and_its_numbers_are_not_given_again(database: str) -> None:
    assert database
    theirs, others = log_training(record_of(7)), log_training(record_of(77))
    failed = log_failure(FailedTraining(7, {"seed": 7}, "Too few labels."))
    last = log_training(record_of(7))
    assert {7, 77} <= registry.own_category_sets()
    registry.forget_category_set(7)
    registry.forget_category_set(7)
    assert 7 not in registry.own_category_sets()
    with tracking_sql() as connection:
        runs = set(connection.execute(text("SELECT run_uuid FROM runs")).scalars())
        find = text("SELECT count(*) FROM model_version_tags WHERE version = ANY(:gone)")
        assert connection.execute(find, {"gone": [theirs.version, last.version]}).scalar_one() == 0
    assert not {theirs.mlflow_run_id, last.mlflow_run_id, failed} & runs
    assert others.mlflow_run_id in runs
    assert not (artefact_root() / theirs.mlflow_run_id).exists()
    assert (artefact_root() / others.artefact_name).exists()
    assert log_training(record_of()).version == last.version + 1


def test_when_the_data_folder_has_moved_mlflow_finds_its_files_there(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    report = tmp_path / "report.html"
    report.write_text("here")
    registered = log_training(record_of(reports=[report]))
    elsewhere = tmp_path / "data"
    elsewhere.mkdir()
    home = artefact_root()
    (elsewhere / "mlflow").symlink_to(home)
    monkeypatch.setattr(tracking, "artefact_root", lambda: elsewhere / "mlflow")
    client, _ = open_tracking()
    assert run_of(registered.mlflow_run_id).info.artifact_uri.startswith(str(elsewhere))
    assert client.list_artifacts(registered.mlflow_run_id, "reports")[0].path == "reports/report.html"
    version = client.get_model_version("transaction-category", str(registered.version))
    assert version.source == f"{elsewhere}/mlflow/{registered.mlflow_run_id}/artifacts/model"
    monkeypatch.undo()
    tracking._open_at.cache_clear()  # noqa: SLF001 -- as another process
    open_tracking()
    assert run_of(registered.mlflow_run_id).info.artifact_uri.startswith(str(home))


# --- quiet ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import logging, socket, subprocess, sys
sys.path.insert(0, "tests/integration")
logging.basicConfig(level=logging.INFO)
attempts = []
def refuse(*arguments, **_):
    attempts.append(arguments)
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = socket.create_connection = refuse
run = subprocess.Popen.__init__
def watch(self, command, *arguments, **named):
    if command[0] != "uname":  # which the standard library asks what machine this is
        attempts.append(command)
    run(self, command, *arguments, **named)
subprocess.Popen.__init__ = watch
from test_registry import log_training, record_of
registered = log_training(record_of())
print(attempts, registered.version > 0)
"""


def test_nothing_is_said_no_program_is_run_and_no_connection_is_made_but_the_database_s(database: str) -> None:
    assert database
    # MLflow reports nothing from a test or a build machine, so it must not know that this is one.
    variables = {name: value for name, value in os.environ.items() if not re.search("PYTEST|^CI$|GITHUB", name)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=BACKEND_DIR, env=variables, capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "alembic.runtime.plugins" not in line]
    assert said == []
    assert done.stdout == "[] True\n"


# --- the database ---------------------------------------------------------------------------------------------------


@pytest.fixture
def another_ledger(admin_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A ledger's database on the same server that has no database of MLflow's beside it; gives that one's name."""
    ledger = str(database_url("jobs").database)
    name = f"{ledger}_other_mlflow"
    url = database_url("jobs").set(database=f"{ledger}_other").render_as_string(hide_password=False)
    # Looked up through the ledger that is there: what is made depends on the name alone.
    monkeypatch.setattr("app.ml.tracking_database.database_url", lambda _role: make_url(url))
    yield name
    admin_connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
    admin_connection.execute(f"DROP ROLE IF EXISTS {name}".encode())


def test_the_database_is_made_at_the_first_use_for_a_role_of_its_own(
    another_ledger: str, admin_connection: psycopg.Connection
) -> None:
    assert not tracking_database_exists()
    for _ in range(2):
        url = ensure_tracking_database()
    assert tracking_database_exists()
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        assert connection.execute("SELECT session_user, current_user").fetchone() == ("lm_jobs", another_ledger)
        connection.execute("CREATE TABLE experiments_of_mine (id int)")
    # Neither do requests read MLflow, nor MLflow's programs the ledger.
    find = "SELECT has_database_privilege('lm_app', %s, 'CONNECT'), has_table_privilege(%s, 'transactions', 'SELECT')"
    assert admin_connection.execute(find, [another_ledger, another_ledger]).fetchone() == (False, False)


def test_a_database_that_the_containers_set_up_is_used(
    another_ledger: str, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute(f"CREATE ROLE {another_ledger} LOGIN PASSWORD 'x'".encode())
    admin_connection.execute(f"CREATE DATABASE {another_ledger} OWNER {another_ledger}".encode())
    url = ensure_tracking_database()
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("CREATE TABLE experiments_of_mine (id int)")
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'experiments_of_mine'")
        assert owner.fetchone() == (another_ledger,)


def test_jobs_are_not_let_act_as_the_owner_of_somebody_else_s_database(
    another_ledger: str, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute(f"CREATE DATABASE {another_ledger}".encode())
    with pytest.raises(DatabaseUnavailable, match="LM_MLFLOW_DATABASE_URL"):
        ensure_tracking_database()
    assert admin_connection.execute("SELECT pg_has_role('lm_jobs', 'myuser', 'MEMBER')").fetchone() == (False,)


def test_who_may_not_create_a_database_is_told_what_to_do(
    another_ledger: str, admin_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert another_ledger
    jobs = database_url("jobs").render_as_string(hide_password=False)
    monkeypatch.setattr("app.ml.tracking_database.get_engine", lambda _role: create_engine_once(jobs))
    with pytest.raises(DatabaseUnavailable, match="LM_MLFLOW_DATABASE_URL"):
        ensure_tracking_database()
    assert admin_connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [another_ledger]).fetchone() is None


def create_engine_once(url: str) -> Any:
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    return create_engine(url, poolclass=NullPool)


def test_a_database_that_is_named_is_used_as_it_is(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database
    monkeypatch.setenv("LM_MLFLOW_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/tracking")
    get_settings.cache_clear()
    try:
        assert tracking_database_exists()
        url = ensure_tracking_database()
        assert (url.drivername, url.database, dict(url.query)) == ("postgresql+psycopg", "tracking", {})
        with pytest.raises(DatabaseUnavailable) as refusal:
            log_training(record_of())
        assert "secret" not in str(refusal.value)
        assert "MLflow's database cannot be" in str(refusal.value)
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
