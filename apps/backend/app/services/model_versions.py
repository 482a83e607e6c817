"""The versions of models that can be deployed, and their files.

A category set is identified by the user whose own it is, or None for the installation's shared set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import Conflict, NotFound
from app.ml.artefact import Artefact, read_artefact, resolve_artefact
from app.ml.tracking import artefact_root

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.ml.registry import RegisteredVersion


def add_version(session: Session, category_set: int | None, run_id: int, registered: RegisteredVersion) -> None:
    """Keep what a training has registered, so that it can be deployed. For a session of the role lm_jobs.

    Raises:
        Conflict: MLflow has given the number of a version that is there: its database is not this ledger's.
    """
    added = session.execute(
        text("""
            INSERT INTO model_versions (version, user_id, run_id, sha256, artefact_name, mlflow_run_id, recipe)
            VALUES (:version, :user_id, :run_id, :sha256, :artefact_name, :mlflow_run_id, :recipe)
            ON CONFLICT (version) DO NOTHING RETURNING version
        """),
        {
            "version": registered.version,
            "user_id": category_set,
            "run_id": run_id,
            "sha256": registered.sha256,
            "artefact_name": registered.artefact_name,
            "mlflow_run_id": registered.mlflow_run_id,
            "recipe": registered.recipe,
        },
    )
    if added.one_or_none() is None:
        raise Conflict(
            f"MLflow's database gave the number {registered.version} to a new model, and there is one of that number: "
            "the database is another than before, or an older one. Restore it from the backup of the same day."
        )


def open_version(session: Session, category_set: int | None, version: int) -> Artefact:
    """Read a version's file, which must be what was registered. A request may do it too.

    Raises:
        ArtefactRefused: It is missing, changed or of another format.
        NotFound: The category set has no such version.
    """
    name, sha256 = require_version(session, category_set, version)
    return read_artefact(resolve_artefact(artefact_root(), name), sha256)


def open_any_version(session: Session, version: int) -> Artefact:
    """Read the file of a version of whichever category set. For a session of the role lm_jobs.

    Raises:
        ArtefactRefused: It is missing, changed or of another format.
        NotFound: There is no such version any more.
    """
    find = text("SELECT user_id FROM model_versions WHERE version = :version")
    row = session.execute(find, {"version": version}).one_or_none()
    if row is None:
        raise NotFound("There is no such version any more.")
    return open_version(session, row.user_id, version)


def require_version(session: Session, category_set: int | None, version: int) -> tuple[str, str]:
    """Return name and hash of a version's file.

    Raises:
        NotFound: The category set has no such version.
    """
    find = text("""
        SELECT artefact_name, sha256 FROM model_versions
        WHERE version = :version AND user_id IS NOT DISTINCT FROM :user_id
    """)
    row = session.execute(find, {"version": version, "user_id": category_set}).one_or_none()
    if row is None:
        raise NotFound(f"These categories have no model of version {version}; `lm models list` shows those they have.")
    return row.artefact_name, row.sha256
