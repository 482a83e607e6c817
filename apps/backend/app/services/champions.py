"""Put a new model beside the champion, on transactions that neither has learnt from."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
from sqlalchemy import text

from app.config import get_settings
from app.db import driver_connection, session_for_jobs
from app.errors import ArtefactRefused, InvalidInput
from app.ml import train as learning
from app.ml.bootstrap import compare_paired
from app.ml.category_model import model_from_artefact
from app.ml.dataset import dataset_hash, read_training_set
from app.ml.evaluate import evaluate
from app.ml.gate import judge, refuse
from app.services.deployments import current
from app.services.model_versions import open_version

if TYPE_CHECKING:
    from app.ml.gate import Kind, Verdict
    from app.ml.train import Assessment

HEURISTICS: Final = "the heuristics"


@dataclass(frozen=True)
class Champion:
    """The model that serves now.

    Attributes:
        as_of: The moment of what it has learnt from.
        seed: Of its training.
    """

    version: int
    recipe: str
    as_of: dt.datetime
    seed: int


def read_champion(category_set: int | None) -> Champion | None:
    """Return the champion of a category set, if there is one."""
    with session_for_jobs() as session:
        version = current(session, category_set).champion
        if version is None:
            return None
        find = text("""
            SELECT model_versions.version, model_versions.recipe, ml_training_runs.as_of, ml_training_runs.seed
            FROM model_versions INNER JOIN ml_training_runs USING (run_id) WHERE version = :version
        """)
        return Champion(**session.execute(find, {"version": version}).mappings().one())


def judge_against_champion(
    category_set: int | None,
    rows: pl.DataFrame,
    assessed: Assessment,
    *,
    as_of: dt.datetime,
    target_error: float | None,
) -> tuple[int | None, Verdict]:
    """Let the gate decide about a model, by what its twin and the champion predict for the last months.

    Without a champion it is compared with the heuristics, and so it is where this version cannot open the champion, for
    then suggestions come from them. A champion that was trained before those months predicts them as it stands. Of one
    that was trained later, a twin does: made by the same recipe from what the champion knew, as it was known then,
    without those months. A champion of another recipe has no twin; it is compared on what is dated after its training.
    A model that was told less than the champion has learnt is refused: an older one is no refresh.

    Args:
        category_set: Whose champion.
        rows: The training set of the model.
        assessed: Of the same.
        as_of: What the model was told is what was known then.
        target_error: What the model was told may be wrong of that which is applied without asking.

    Returns:
        The champion's version, if there is one, and what the gate decided.
    """
    champion = read_champion(category_set)
    if champion is None:
        theirs = learning.predict_by_heuristics(rows, assessed.is_test)
        return None, _judge("first", assessed, theirs, HEURISTICS)
    if as_of < champion.as_of:
        return champion.version, refuse(
            f"It was told what was known at {as_of:%Y-%m-%d %H:%M %Z}, and version {champion.version}, the champion, "
            f"has learnt until {champion.as_of:%Y-%m-%d %H:%M %Z}: an older model takes its place by hand alone, with "
            "`lm models promote`."
        )
    return champion.version, _judge_against(champion, category_set, rows, assessed, target_error)


def _judge_against(
    champion: Champion, category_set: int | None, rows: pl.DataFrame, assessed: Assessment, target_error: float | None
) -> Verdict:
    name = f"version {champion.version}"
    try:
        with session_for_jobs() as session:
            model = model_from_artefact(open_version(session, category_set, champion.version))
    except ArtefactRefused as error:
        return refuse(f"The champion, {name}, could not be compared with. {error}")
    except InvalidInput:
        rival = f"{HEURISTICS}, to which {name} leaves the field, for this version cannot open it,"
        return _judge("first", assessed, learning.predict_by_heuristics(rows, assessed.is_test), rival)
    kind: Kind = "refresh" if champion.recipe == learning.recipe() else "new_recipe"
    if champion.as_of <= _midnight(assessed.start):
        theirs = learning.predict_months(model, rows, assessed.is_test)
    elif kind == "refresh":
        try:
            theirs = _predict_by_twin(category_set, champion, rows, assessed, target_error)
        except InvalidInput as error:
            return refuse(f"Before {assessed.start} the champion, {name}, had too little to learn from. {error}")
    else:
        is_later = assessed.is_test & (rows["date"] > champion.as_of.date())
        if not is_later.any():
            return refuse(
                f"It is of another recipe than {name}, and there is no labelled transaction after "
                f"{champion.as_of:%Y-%m-%d}, until when {name} has learnt: train again when there are, or make it "
                "champion by hand with `lm models promote`."
            )
        theirs = learning.predict_months(model, rows, is_later)
    return _judge(kind, assessed, theirs, name)


def _judge(kind: Kind, assessed: Assessment, theirs: pl.DataFrame, rival: str) -> Verdict:
    """Compare on the rows that the other system has predicted, which may be fewer."""
    ours = assessed.predictions.filter(pl.col("txn_id").is_in(theirs["txn_id"].implode()))
    target_error = assessed.evaluation.auto_apply.target_error
    challenger, champion = (evaluate(each, target_error=target_error) for each in (ours, theirs))
    return judge(kind, compare_paired(ours, theirs), challenger, champion, rival)


def _predict_by_twin(
    category_set: int | None, champion: Champion, rows: pl.DataFrame, assessed: Assessment, target_error: float | None
) -> pl.DataFrame:
    """Make the champion's twin, unless it would be the very one that the new model has.

    Both are told the same may be wrong, whatever the champion was told: what is compared is what they have learnt.
    """
    with session_for_jobs() as session:
        known = read_training_set(
            driver_connection(session),
            champion.as_of,
            category_set=category_set,
            weights=get_settings().label_weights,
        )
    before = known.filter(pl.col("date") < assessed.start)
    if dataset_hash(before) == assessed.learnt_from and champion.seed == assessed.seed:
        return assessed.predictions
    return learning.predict_by_twin(before, rows, assessed.is_test, seed=champion.seed, target_error=target_error)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
