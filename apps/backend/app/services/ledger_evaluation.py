"""How good predictions are on the ledger in the database: of the way models are made, or of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs
from app.errors import InvalidInput
from app.ml import train as learning
from app.ml import walk_forward
from app.ml.category_model import model_from_artefact
from app.ml.dataset import dataset_hash
from app.ml.evaluate import evaluate
from app.ml.label_audit import find_doubtful_labels
from app.ml.mistakes import costliest_mistakes
from app.ml.report import write_report
from app.services.categories import shown_names
from app.services.deployments import category_set_of
from app.services.model_versions import open_version
from app.services.training_rows import read_rows, settled_moment, too_few

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from app.ml.evaluation import Evaluation

    Progress = Callable[[int, int | None], None]

# An audit predicts from the first month on that has this many labels before it.
AUDITED_AFTER: Final = 100


@dataclass(frozen=True)
class LedgerEvaluation:
    """What an evaluation found.

    Attributes:
        system: What predicted.
        protocol: How.
        page: The report; the same as JSON is beside it.
    """

    system: str
    protocol: str
    evaluation: Evaluation
    page: Path


def evaluate_ledger(
    user_id: int,
    *,
    as_of: dt.datetime | None = None,
    months: int | None = None,
    version: int | None = None,
    progress: Progress | None = None,
) -> LedgerEvaluation:
    """Predict the last months of a user's category set from what came before, and write a report about it.

    Without a version, each month is predicted by a model that was made from everything before it, as a refresh every
    month would do. A version predicts what is dated after its training, and has the labels of each month for the next.

    Args:
        user_id: Whose category set; costly mistakes are quoted of this user's transactions alone.
        as_of: What was known at this moment is the truth; default: a second ago.
        months: How many of the last months; default: the last fifth of them, or all after the version's training.
        version: Of the model.
        progress: Called with the number of transactions predicted, and of how many.

    Raises:
        ArtefactRefused: The version's file is missing, changed or of another format.
        InvalidInput: There is too little to learn from or to predict.
        NotFound: The category set has no such version.
    """
    moment = as_of or settled_moment()
    with session_for_jobs() as session:
        category_set = category_set_of(session, user_id)
    rows = read_rows(category_set, moment)
    if version is None:
        system, protocol = learning.recipe(), "each month by what is dated before it, made anew every month"
        try:
            is_test = _last_months(rows, months)
            walked = walk_forward.run(
                rows, is_test, refit=True, target_error=get_settings().target_error, progress=progress
            )
        except InvalidInput as error:
            raise too_few(rows, error) from error
        predictions, target_error = walked.predictions, walked.target_error
    else:
        system, protocol = f"version {version}", "what is dated after its training, with the labels of earlier months"
        predictions, target_error = _predict_by_version(category_set, version, rows, months)
    evaluation = evaluate(predictions, target_error=target_error)
    own = rows.filter(pl.col("user_id") == user_id)["txn_id"]
    page = write_report(
        evaluation,
        get_settings().build_dir,
        title=f"How good {system} is",
        facts={
            "Predicted by": system,
            "Protocol": protocol,
            "Labels": f"{rows.height:,} as of {moment:%Y-%m-%d %H:%M %Z}",
            "Hash of those": dataset_hash(rows),
        },
        mistakes=costliest_mistakes(predictions.filter(pl.col("txn_id").is_in(own.implode()))),
    )
    return LedgerEvaluation(system, protocol, evaluation, page)


def audit_labels(user_id: int, *, progress: Progress | None = None) -> pl.DataFrame:
    """List a user's labels that are probably wrong, the costliest first.

    Every month is predicted by what is dated before it, so that no label vouches for itself; the first months, with
    too little before them, are not looked at.

    Args:
        user_id: Whose labels; where the category set is shared, others' help to judge them and are not shown.
        progress: Called with the number of transactions predicted, and of how many.

    Returns:
        A frame of `AUDIT_SCHEMA`, under the names that the user's categories have today.

    Raises:
        InvalidInput: There is too little to learn from.
    """
    with session_for_jobs() as session:
        category_set = category_set_of(session, user_id)
        names = shown_names(session, user_id)
    rows = read_rows(category_set, settled_moment())
    try:
        is_test = _after_the_first(rows, user_id)
        predictions = walk_forward.run(rows, is_test, refit=True, progress=progress).predictions
    except InvalidInput as error:
        raise too_few(rows, error) from error
    renamed = [pl.col(column).replace(names) for column in ("truth", "predicted")]
    return find_doubtful_labels(predictions.with_columns(renamed))


def _last_months(rows: pl.DataFrame, months: int | None) -> pl.Series:
    is_test: pl.Series
    if months is None:
        is_test = walk_forward.split_rows(rows, learning.LEARNT_SHARE)
        return is_test
    month = rows["date"].dt.truncate("1mo")
    there = month.unique().sort()
    if months >= there.len():
        raise InvalidInput(f"Labels are of {there.len()} months, so at most {there.len() - 1} can be predicted.")
    is_test = month >= there[-months]
    return is_test


def _predict_by_version(
    category_set: int | None, version: int, rows: pl.DataFrame, months: int | None
) -> tuple[pl.DataFrame, float]:
    with session_for_jobs() as session:
        artefact = open_version(session, category_set, version)
        find = text("SELECT as_of FROM model_versions INNER JOIN ml_training_runs USING (run_id) WHERE version = :id")
        learnt_until: dt.datetime = session.execute(find, {"id": version}).scalar_one()
    is_test = rows["date"] > learnt_until.date()
    if months is not None:
        is_test &= _last_months(rows, months)
    if not is_test.any():
        raise InvalidInput(
            f"Version {version} has learnt until {learnt_until:%Y-%m-%d}, and no later transaction is labelled, so "
            "there is nothing that it has not seen. Without --version, the way in which models are made is evaluated."
        )
    model = model_from_artefact(artefact)
    return learning.predict_months(model, rows, is_test), model.target_error


def _after_the_first(rows: pl.DataFrame, user_id: int) -> pl.Series:
    """Say which rows an audit predicts: the user's, from the first month on with enough labels before it."""
    month = rows["date"].dt.truncate("1mo")
    if rows.height <= AUDITED_AFTER:
        raise InvalidInput(f"An audit needs more than {AUDITED_AFTER} labels to learn from first.")
    # Rows are in order of their dates, so the first month with enough before it comes after that of this row.
    is_test: pl.Series = (month > month[AUDITED_AFTER - 1]) & (rows["user_id"] == user_id)
    if not is_test.any():
        raise InvalidInput("All labels after the first hundred are of one month.")
    return is_test
