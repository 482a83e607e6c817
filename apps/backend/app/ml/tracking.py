"""MLflow opened: quiet, on its database, with the experiment and the registered model in place.

MLflow is imported when it is first needed, for that takes a second; requests never need it.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from app.config import get_settings
from app.db import advisory_lock
from app.errors import DatabaseUnavailable
from app.ml.tracking_database import ensure_tracking_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow import MlflowClient

EXPERIMENT: Final = "ledgermill"
MODEL_NAME: Final = "transaction-category"

_QUIET: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}


def artefact_root() -> Path:
    """Return the folder of all models and reports, which its owner alone may enter."""
    root = get_settings().data_dir.resolve() / "mlflow"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def open_tracking() -> tuple[MlflowClient, str]:
    """Return MLflow's client and the experiment, making both and the database at the first use."""
    url = ensure_tracking_database().render_as_string(hide_password=False)
    return _open_at(url, artefact_root())


@lru_cache
def _open_at(url: str, root: Path) -> tuple[MlflowClient, str]:
    os.environ.update(_QUIET)
    with tracking_sql():
        pass  # MLflow would try for minutes to reach a server that is down
    # One at a time: MLflow makes its tables without looking whether another process is at it.
    with advisory_lock("open mlflow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about SQLAlchemy 2.1
        from mlflow import MlflowClient  # noqa: PLC0415 -- a second that `lm --help` need not take

        for library in ("alembic", "mlflow"):
            logging.getLogger(library).setLevel(logging.CRITICAL if library == "mlflow" else logging.WARNING)
        client = MlflowClient(tracking_uri=url, registry_uri=url)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            experiment_id = client.create_experiment(EXPERIMENT, artifact_location=str(root))
        else:
            experiment_id = experiment.experiment_id
            if experiment.artifact_location != str(root):
                _follow_moved_folder(str(experiment.artifact_location), str(root))
        if not client.search_registered_models(f"name='{MODEL_NAME}'"):
            client.create_registered_model(MODEL_NAME, description="Categories for bank transactions.")
    return client, experiment_id


def _follow_moved_folder(old: str, new: str) -> None:
    """Tell MLflow that the data folder is elsewhere now; it keeps whole paths, while ours are relative."""
    with tracking_sql() as connection:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
        ):
            move = f"UPDATE {table} SET {column} = :new || substr({column}, :length) WHERE starts_with({column}, :old)"  # noqa: S608
            connection.execute(text(move), {"old": old, "new": new, "length": len(old) + 1})


@contextmanager
def tracking_sql() -> Iterator[Any]:
    """Open a transaction in MLflow's database, for what its client has no words for."""
    engine = create_engine(ensure_tracking_database())
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def tracking_errors() -> Iterator[None]:
    """Say in a sentence that MLflow's database is not to be used, instead of in MLflow's tracebacks."""
    try:
        yield
    except OperationalError as error:
        raise DatabaseUnavailable(f"MLflow's database cannot be reached: {_first_line(error.orig)}") from None
    except Exception as error:
        if type(error).__name__ != "MlflowException":  # which could only be named by importing MLflow
            raise
        raise DatabaseUnavailable(f"MLflow's database cannot be used: {_first_line(error)}") from error


def _first_line(error: object) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]
