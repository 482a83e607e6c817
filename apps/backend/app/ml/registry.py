"""Runs and registered models in MLflow, on PostgreSQL and without a server process.

MLflow keeps the record that people look at: parameters, metrics, reports, versions. What is champion is not decided
here; the aliases mirror what `model_deployments` says. Nothing leaves the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from app.ml.artefact import open_artefact
from app.ml.tracking import MODEL_NAME, artefact_root, open_tracking, tracking_errors, tracking_sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

ARTEFACT_FILE: Final = "model/model.safetensors"
CATEGORY_SET_TAG: Final = "category_set"
SHARED_SET: Final = "shared"

# What the header of a model's artefact says about the model, for whoever has the file alone.
CARD_FIELDS: Final = ("recipe", "classes", "input_schema", "libraries")

_MOST_PARAMS, _MOST_METRICS, _LONGEST_PARAM = 100, 1000, 6000  # what MLflow takes at once
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainingRecord:
    """A training that made a model.

    Attributes:
        category_set: Whose own category set it is for; None for the shared one.
        dataset_hash: Of the training set, as `app.ml.dataset.dataset_hash` gives it.
        params: What the training was told: seed, moment, settings.
        metrics: What was measured, flat.
        artefact: The model, as `encode_artefact` made it; its header has CARD_FIELDS.
        reports: Files to keep beside it.
        actor: Who or what trained.
    """

    category_set: int | None
    dataset_hash: str
    params: Mapping[str, str | float | bool]
    metrics: Mapping[str, float]
    artefact: bytes
    reports: Sequence[Path] = ()
    actor: str = "ledgermill"


@dataclass(frozen=True)
class FailedTraining:
    """A training that made none. `error` is a sentence that says why; the rest is as of TrainingRecord."""

    category_set: int | None
    params: Mapping[str, str | float | bool]
    error: str
    actor: str = "ledgermill"


@dataclass(frozen=True)
class RegisteredVersion:
    """A model in the registry.

    Attributes:
        version: MLflow's number of MODEL_NAME.
        artefact_name: Where its file is below `artefact_root`.
        sha256: Of the file's bytes, in hexadecimal.
    """

    version: int
    mlflow_run_id: str
    artefact_name: str
    sha256: str
    recipe: str


def log_training(record: TrainingRecord) -> RegisteredVersion:
    """Record a training as a finished run, and its model as a version. Interrupted, it leaves a run that failed.

    Raises:
        ArtefactRefused: The artefact is none.
        DatabaseUnavailable: MLflow's database cannot be reached or made.
    """
    header = open_artefact(record.artefact).header
    missing = [field for field in CARD_FIELDS if field not in header]
    if missing:
        raise ValueError(f"the artefact's header says nothing about {', '.join(missing)}")
    sha256 = hashlib.sha256(record.artefact).hexdigest()
    tags = {
        CATEGORY_SET_TAG: _name_of(record.category_set),
        "dataset_hash": record.dataset_hash,
        "sha256": sha256,
        "recipe": str(header["recipe"]),
    }
    with tracking_errors():
        client, experiment_id = open_tracking()
        run_id = _start_run(client, experiment_id, record.params, tags, record.actor)
        try:
            _log_metrics(client, run_id, record.metrics)
            folder = artefact_root() / run_id / "artifacts"
            _store(folder / ARTEFACT_FILE, record.artefact)
            for report in record.reports:
                _store(folder / "reports" / report.name, report.read_bytes())
            client.set_terminated(run_id, "FINISHED")
            version = client.create_model_version(
                MODEL_NAME,
                source=str(folder / "model"),
                run_id=run_id,
                tags=tags | {field: _as_text(header[field]) for field in CARD_FIELDS},
                description=_describe(header, record),
            )
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
    return RegisteredVersion(
        version=int(version.version),
        mlflow_run_id=run_id,
        artefact_name=f"{run_id}/artifacts/{ARTEFACT_FILE}",
        sha256=sha256,
        recipe=str(header["recipe"]),
    )


def log_failure(failed: FailedTraining) -> str:
    """Record a training that made no model; return its run in MLflow.

    Raises:
        DatabaseUnavailable: MLflow's database cannot be reached or made.
    """
    with tracking_errors():
        client, experiment_id = open_tracking()
        tags = {CATEGORY_SET_TAG: _name_of(failed.category_set), "mlflow.note.content": failed.error[:_LONGEST_PARAM]}
        run_id = _start_run(client, experiment_id, failed.params, tags, failed.actor)
        client.set_terminated(run_id, "FAILED")
        return run_id


def set_aliases(wanted: Mapping[str, int]) -> None:
    """Let the model's aliases be these and no others; what is right already is left alone.

    Raises:
        DatabaseUnavailable: MLflow's database cannot be reached or made.
    """
    with tracking_errors():
        client, _ = open_tracking()
        there = {alias: int(version) for alias, version in client.get_registered_model(MODEL_NAME).aliases.items()}
        for alias in sorted(there.keys() - wanted.keys()):
            client.delete_registered_model_alias(MODEL_NAME, alias)
        for alias, version in sorted(wanted.items()):
            if there.get(alias) != version:
                client.set_registered_model_alias(MODEL_NAME, alias, str(version))


def own_category_sets() -> set[int]:
    """Return the users whose own category sets have runs here, failed ones included.

    Raises:
        DatabaseUnavailable: MLflow's database cannot be reached or made.
    """
    with tracking_errors():
        open_tracking()
        with tracking_sql() as connection:
            find = text("SELECT DISTINCT value FROM tags WHERE key = :tag AND value ~ '^[0-9]+$'")
            return {int(value) for value in connection.execute(find, {"tag": CATEGORY_SET_TAG}).scalars()}


def forget_category_set(user_id: int) -> None:
    """Remove the runs, versions and files of a user's own category set, for good.

    A run goes after its files and versions, so that what was interrupted is found again.

    Raises:
        DatabaseUnavailable: MLflow's database cannot be reached or made.
        OSError: A file cannot be removed.
    """
    with tracking_errors():
        client, _ = open_tracking()
        with tracking_sql() as connection:
            find = text("SELECT run_uuid FROM tags WHERE key = :tag AND value = :value")
            runs = list(connection.execute(find, {"tag": CATEGORY_SET_TAG, "value": str(user_id)}).scalars())
        for run_id in filter(_RUN_ID.fullmatch, runs):
            folder = artefact_root() / run_id
            if folder.exists():
                shutil.rmtree(folder)
            _forget_run(client, run_id)


def _forget_run(client: MlflowClient, run_id: str) -> None:
    from mlflow.tracking._tracking_service.utils import _get_store  # noqa: PLC0415 -- with MLflow, when it is needed

    for version in client.search_model_versions(f"run_id='{run_id}'"):
        for tag in version.tags:
            client.delete_model_version_tag(MODEL_NAME, version.version, tag)
        client.delete_model_version(MODEL_NAME, version.version)  # the number stays taken
    # What `mlflow gc` does: the public way keeps everything, only marked.
    _get_store(client.tracking_uri)._hard_delete_run(run_id)  # type: ignore[no-untyped-call]  # noqa: SLF001


# --- writing --------------------------------------------------------------------------------------------------------


def _start_run(
    client: MlflowClient,
    experiment_id: str,
    params: Mapping[str, str | float | bool],
    tags: Mapping[str, str],
    actor: str,
) -> str:
    from mlflow.entities import Param  # noqa: PLC0415

    tags = {**tags, "mlflow.user": actor, "mlflow.source.name": "ledgermill"}
    run_id = str(client.create_run(experiment_id, tags=tags).info.run_id)
    written = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in params.items()]
    for start in range(0, len(written), _MOST_PARAMS):
        client.log_batch(run_id, params=written[start : start + _MOST_PARAMS])
    return run_id


def _log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415

    now = int(time.time() * 1000)
    written = [Metric(name, float(value), now, 0) for name, value in metrics.items()]
    for start in range(0, len(written), _MOST_METRICS):
        client.log_batch(run_id, metrics=written[start : start + _MOST_METRICS])


def _store(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, down to the disk before anything refers to it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _name_of(category_set: int | None) -> str:
    return SHARED_SET if category_set is None else str(category_set)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _describe(header: Mapping[str, Any], record: TrainingRecord) -> str:
    whose = "the shared category set" if record.category_set is None else f"user {record.category_set}'s own categories"
    return f"{header['recipe']}: {len(header['classes'])} classes of {whose}."
