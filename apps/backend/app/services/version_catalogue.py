"""What is known of the versions of a category set: how each was made and judged, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.errors import ArtefactRefused
from app.ml.registry import CARD_FIELDS
from app.services.deployments import current, history
from app.services.model_versions import open_version, require_version

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

    from app.services.deployments import Deployment, Role


@dataclass(frozen=True)
class VersionRow:
    """A version as a list shows it.

    Attributes:
        role: What it is at the moment, if anything.
        as_of: The moment of its training set.
        accuracy: On its test rows, 0 to 1, as is f1_macro.
    """

    version: int
    recipe: str
    role: Role | None
    run_id: int
    status: str
    as_of: dt.datetime | None
    train_size: int | None
    accuracy: float | None
    f1_macro: float | None
    sha256: str
    artefact_name: str
    mlflow_run_id: str
    created_at: dt.datetime


@dataclass(frozen=True)
class VersionDetails:
    """A version with what its file says about itself, what its training measured, and what was decided about it.

    Attributes:
        card: The header's recipe, classes, input_schema and libraries; None if the file is refused.
        refusal: Why the file is refused; None if it is what was registered.
    """

    row: VersionRow
    dataset_hash: str | None
    seed: int | None
    notes: str | None
    metrics: dict[str, Any]
    card: dict[str, Any] | None
    refusal: str | None
    deployments: tuple[Deployment, ...]


def list_versions(session: Session, category_set: int | None) -> list[VersionRow]:
    """List the versions of a category set, the latest first."""
    roles = current(session, category_set)
    rows = session.execute(
        text("""
            SELECT
                version, recipe, run_id, status, as_of, train_size, accuracy, f1_macro, sha256, artefact_name,
                mlflow_run_id, model_versions.created_at
            FROM model_versions INNER JOIN ml_training_runs USING (run_id)
            WHERE model_versions.user_id IS NOT DISTINCT FROM :user_id ORDER BY version DESC
        """),
        {"user_id": category_set},
    )
    return [VersionRow(role=roles.role_of(row["version"]), **row) for row in rows.mappings()]


def show_version(session: Session, category_set: int | None, version: int) -> VersionDetails:
    """Return all that is known of a version.

    Raises:
        NotFound: The category set has no such version.
    """
    require_version(session, category_set, version)
    row = next(row for row in list_versions(session, category_set) if row.version == version)
    find = text("SELECT dataset_hash, seed, notes, metrics FROM ml_training_runs WHERE run_id = :run_id")
    run = session.execute(find, {"run_id": row.run_id}).one()
    card, refusal = None, None
    try:
        header = open_version(session, category_set, version).header
        card = {field: header[field] for field in CARD_FIELDS}
    except ArtefactRefused as error:
        refusal = str(error)
    decisions = [each for each in history(session, category_set) if version in (each.version, each.replaced_version)]
    return VersionDetails(row, run.dataset_hash, run.seed, run.notes, run.metrics, card, refusal, tuple(decisions))
