"""One training: a model judged on the last months of its training set, and then fitted on all of it.

What is judged and what is kept cannot be the same model: one that has learnt from the last months says nothing about
them. So every model has a twin, made in the same way from what came before those months, which predicts them month by
month with all that is known before each. The twin's figures stand for the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.errors import InvalidInput
from app.ml import walk_forward
from app.ml.artefact import encode_artefact, open_artefact
from app.ml.category_model import RECIPE, model_from_artefact, model_to_artefact
from app.ml.dataset import dataset_hash
from app.ml.estimator import fit_model
from app.ml.evaluate import evaluate, score_forced
from app.ml.learning_curve import LearningPoint, curve_sizes, learning_curve
from app.ml.predictions import predict

if TYPE_CHECKING:
    import datetime as dt

    from app.ml.category_model import CategoryModel
    from app.ml.evaluation import Evaluation

# The share of the months that a model's twin learns from; the rest are those that it is judged on.
LEARNT_SHARE: Final = 0.8


@dataclass(frozen=True)
class Assessment:
    """How a model's twin did.

    Attributes:
        is_test: Which rows of the training set it was judged on.
        start: The first day of those.
        learnt_from: Hash of the rows that it was fitted on.
        seed: Of its fit.
        predictions: Of the rows judged on, in `PREDICTION_SCHEMA`.
        evaluation: What they are worth.
    """

    is_test: pl.Series
    start: dt.date
    learnt_from: str
    seed: int
    predictions: pl.DataFrame
    evaluation: Evaluation


@dataclass(frozen=True)
class FittedModel:
    """A model that has learnt from everything.

    Attributes:
        content: Its artefact's bytes.
        header: What the artefact says about it.
    """

    content: bytes
    header: dict[str, Any]


def assess_model(rows: pl.DataFrame, *, seed: int, target_error: float | None) -> Assessment:
    """Let a twin that knows only what came before the last months predict those.

    Args:
        rows: A training set, ordered by date.
        seed: Of everything in the fit that is drawn.
        target_error: What of that which is applied without asking may be wrong; None: the model chooses.

    Raises:
        InvalidInput: There are no months before the last ones, or too little in them to learn from.
    """
    is_test = walk_forward.split_rows(rows, LEARNT_SHARE)
    before = rows.filter(~is_test)
    twin = fit_model(before, seed=seed, target_error=target_error)
    predictions = predict_months(twin, rows, is_test)
    start: dt.date = rows.filter(is_test)["date"][0]
    return Assessment(
        is_test=is_test,
        start=start,
        learnt_from=dataset_hash(before),
        seed=seed,
        predictions=predictions,
        evaluation=evaluate(predictions, target_error=twin.target_error),
    )


def predict_by_heuristics(rows: pl.DataFrame, is_test: pl.Series) -> pl.DataFrame:
    """Predict the last months as an installation does that has no model: each by the labels before it."""
    predictions: pl.DataFrame = walk_forward.run(rows, is_test, refit=True, system="rules").predictions
    return predictions


def predict_months(model: CategoryModel, rows: pl.DataFrame, is_test: pl.Series) -> pl.DataFrame:
    """Predict the last months, or some of their rows, by a model as it stands that is told labels as they pass.

    Each month is shown what is dated before it and nothing else: not even that there will be a category.
    """
    steps = walk_forward.steps_of(rows, is_test, by_month=True)
    return pl.concat([predict(model, month, known, by_month=False) for known, month in steps])


def predict_by_twin(
    before: pl.DataFrame, rows: pl.DataFrame, is_test: pl.Series, *, seed: int, target_error: float | None
) -> pl.DataFrame:
    """Predict the last months by the twin of a model: it learns from what came before, and is told labels as they pass.

    Args:
        before: What the model knew that is dated before those months.
        rows: The training set whose last months are predicted.
        is_test: Which rows those are.
        seed: The model's.
        target_error: As for `assess_model`.

    Raises:
        InvalidInput: Too little is left to learn from.
    """
    return predict_months(fit_model(before, seed=seed, target_error=target_error), rows, is_test)


def draw_learning_curve(
    rows: pl.DataFrame, assessed: Assessment, *, seed: int, target_error: float | None
) -> tuple[LearningPoint, ...]:
    """Say how good predictions of the same rows become with more labels before them.

    Sizes that are too small to learn from are left out. The twin is the last point.
    """
    before, test = rows.filter(~assessed.is_test), rows.filter(assessed.is_test)

    def fit_and_score(labels: int) -> tuple[float, float]:
        latest = pl.concat([before.tail(labels), test])
        is_test = pl.Series([False] * labels + [True] * test.height)
        predictions = predict_by_twin(before.tail(labels), latest, is_test, seed=seed, target_error=target_error)
        scores = score_forced(predictions)
        return scores.accuracy, scores.f1_macro

    *smaller, every = curve_sizes(before.height)
    points: tuple[LearningPoint, ...] = ()
    for size in smaller:
        try:
            points += learning_curve(fit_and_score, [size])
        except InvalidInput:
            continue
    scores = assessed.evaluation
    return (*points, LearningPoint(every, scores.accuracy.value, scores.f1_macro.value))


def fit_final(rows: pl.DataFrame, *, seed: int, target_error: float | None) -> FittedModel:
    """Fit the model that is kept, on everything.

    Raises:
        InvalidInput: There is too little to learn from.
    """
    arrays, header = model_to_artefact(fit_model(rows, seed=seed, target_error=target_error))
    content = encode_artefact(arrays, header)
    # What is kept is what was never run: at least it must come together again, and say something.
    predict(model_from_artefact(open_artefact(content)), rows.head(1), rows)
    return FittedModel(content, dict(header))


def recipe() -> str:
    """Return name and number of the way in which models are made now."""
    return RECIPE
