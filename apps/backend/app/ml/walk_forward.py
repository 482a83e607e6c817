"""Testing on time: what would have been predicted, had each month been met with what was known before it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from app.errors import InvalidInput
from app.ml import heuristic_predictions
from app.ml.bootstrap import compare_paired
from app.ml.estimator import calibration_start, fit_with_draft
from app.ml.evaluate import evaluate
from app.ml.gate import judge
from app.ml.predictions import predict

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from app.ml.category_model import CategoryModel
    from app.ml.evaluation import System

FEWEST_MONTHS: Final = 6
RULES_TARGET_ERROR: Final = 0.05


@dataclass(frozen=True)
class WalkForward:
    """What came of it.

    Attributes:
        predictions: Of the test rows, in PREDICTION_SCHEMA.
        fit_seconds: Spent on learning, the gate included, over all steps.
        predict_seconds: Spent on predicting.
        steps: How often it was learnt; 1 for a single split.
        refused: How many refits the gate refused.
        target_error: What may be wrong of that which is applied without asking; the heuristics promise nothing, and are
            compared with RULES_TARGET_ERROR.
        model: The last model that predicted; None where the heuristics did.
    """

    predictions: pl.DataFrame
    fit_seconds: float
    predict_seconds: float
    steps: int
    refused: int
    target_error: float
    model: CategoryModel | None


def split_rows(rows: pl.DataFrame, share: float) -> pl.Series:
    """Say which rows are predicted: those of the last months, or of the last days where there are few months.

    Args:
        rows: With date, ascending.
        share: Of the distinct months, or of the rows, that come before.

    Raises:
        InvalidInput: All rows are of one month or day.
    """
    months = rows["date"].dt.month_start().unique().sort()
    start: dt.date
    if months.len() >= FEWEST_MONTHS:
        start = months[int(share * months.len())]
    elif rows.height:
        start = rows["date"][int(share * rows.height)]
    is_test = rows["date"] >= start if rows.height else pl.Series([], dtype=pl.Boolean)
    if not is_test.any() or is_test.all():
        raise InvalidInput("All rows are of one day or month, so there is nothing before to learn from.")
    return is_test


def steps_of(rows: pl.DataFrame, is_test: pl.Series, *, by_month: bool) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield what is known and what is predicted from it, all at once or month by month."""
    if not by_month:
        yield rows.filter(~is_test), rows.filter(is_test)
        return
    months = rows.filter(is_test).group_by(pl.col("date").dt.month_start(), maintain_order=True)
    for _, month in months:
        yield rows.filter(pl.col("date") < month["date"].min()), month


def run(
    rows: pl.DataFrame,
    is_test: pl.Series,
    *,
    refit: bool,
    system: System = "model",
    seed: int = 0,
    target_error: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> WalkForward:
    """Predict test rows from those before.

    Args:
        rows: ESTIMATOR_SCHEMA with txn_id, description, label, label_source and sample_weight, ordered by date.
        is_test: Which rows are predicted.
        refit: Whether to learn anew before each month, a refit replacing the model only where it passes the gate for
            refreshes; else to learn once and predict for as long as the test rows last.
        system: What predicts.
        seed: Of everything that is drawn.
        target_error: Share of wrong ones that is tolerated among what is applied without asking; None: what the first
            fit chooses.
        progress: Called with the number of rows predicted so far, and of how many.

    Raises:
        InvalidInput: There is too little to learn from.
    """
    # Within its first month no model has been told anything new, so there a split is like any step.
    labels_arrive = refit or rows.filter(is_test)["date"].dt.month_start().n_unique() == 1
    predicted: list[pl.DataFrame] = []
    spent = {"fit": 0.0, "predict": 0.0}
    model: CategoryModel | None = None
    draft: CategoryModel | None = None
    done = refused = 0
    for known, month in steps_of(rows, is_test, by_month=refit):
        started = time.perf_counter()
        if system == "model":
            fresh, fresh_draft = fit_with_draft(
                known, seed=seed, labels_arrive=labels_arrive, target_error=target_error
            )
            if draft is None or _passes_gate(fresh_draft, draft, known):
                model, draft, target_error = fresh, fresh_draft, fresh.target_error
            else:
                refused += 1
        else:
            learnt = heuristic_predictions.learn(known)
        fitted = time.perf_counter()
        if system == "model" and model is not None:
            predicted.append(predict(model, month, known, by_month=False))
        else:
            predicted.append(heuristic_predictions.predict(learnt, month, known))
        spent["fit"] += fitted - started
        spent["predict"] += time.perf_counter() - fitted
        done += month.height
        if progress:
            progress(done, int(is_test.sum()))
    return WalkForward(
        predictions=pl.concat(predicted),
        fit_seconds=spent["fit"],
        predict_seconds=spent["predict"],
        steps=len(predicted),
        refused=refused,
        target_error=RULES_TARGET_ERROR if target_error is None else target_error,
        model=model,
    )


def _passes_gate(fresh: CategoryModel, before: CategoryModel, known: pl.DataFrame) -> bool:
    """Judge a refit by its draft and that of the model before it, on the last months, whose words neither has learnt.

    The refit's confidence was fitted there, so its calibration looks a little better than it is.
    """
    recent = known.filter(pl.col("date") >= calibration_start(fresh))
    if recent.is_empty():
        return True
    ours, theirs = (predict(each, recent, known, by_month=True) for each in (fresh, before))
    challenger, champion = (evaluate(each, target_error=fresh.target_error) for each in (ours, theirs))
    return judge("refresh", compare_paired(ours, theirs), challenger, champion, "the model before it").passed
