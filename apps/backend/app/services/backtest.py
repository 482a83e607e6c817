"""How good suggestions would have been on a labelled file: no database, nothing kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from app.errors import InvalidInput
from app.ml import walk_forward
from app.ml.calibration import NEVER
from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.evaluate import evaluate
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.services.statements import StatementOptions, inspect_statement, read_statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.ml.evaluation import Evaluation, System

# Without a split, the months from here on are predicted one after the other.
WALK_FORWARD_FROM = 0.8


@dataclass(frozen=True)
class BacktestReport:
    """What a backtest found. Accuracy, F1 and calibration are of a forced choice over all test rows.

    Attributes:
        left_out: Rows that were not looked at: without a category, or with an @, which may be a person's address.
        classes: Categories in the rows that were learnt from at first.
        unseen_share: Share of test rows whose very description was not learnt from.
        unseen_accuracy: Accuracy on those; None where there is none.
        auto_apply: target_error, threshold (None where nothing is applied), coverage and error of the suggestions that
            are sure enough to be applied without asking.
        refits: How often it was learnt anew, and how many of the refits the gate refused.
        evaluation: Every figure there is, with intervals.
    """

    system: str
    protocol: str
    rows: int
    left_out: int
    train_rows: int
    test_rows: int
    test_from: str
    classes: int
    accuracy: float
    f1_macro: float
    ece: float
    unseen_share: float
    unseen_accuracy: float | None
    auto_apply: dict[str, float | None]
    fit_seconds: float
    predict_rows_per_second: int
    refits: dict[str, int]
    evaluation: Evaluation


def run_backtest(
    path: Path,
    *,
    system: System = "model",
    split: float | None = None,
    target_error: float | None = None,
    seed: int = 0,
    options: StatementOptions | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> BacktestReport:
    """Predict the last months of a labelled file from those before.

    Args:
        path: A statement with a category column, plain or gzip.
        system: What predicts: `model`, trained for the purpose, or `rules` for the heuristics.
        split: Learn once, from the months before this share of them, and predict the rest; None: predict the same
            rows month by month, each from everything before it.
        target_error: What of that which is applied without asking may be wrong at the most; None: as strict as is of
            use.
        seed: Of everything in the fit that is drawn.
        options: How to read the file where it does not say itself.
        progress: Called with the number of test rows predicted so far, and of how many.

    Raises:
        InvalidInput: The file is not a statement, has no categories, or too little in it for a split.
    """
    if split is not None and not 0 < split < 1:
        raise InvalidInput("--split is a share between 0 and 1, such as 0.8.")
    if target_error is not None and not 0 < target_error < 1:
        raise InvalidInput("--target-error is a share between 0 and 1, such as 0.01.")
    read, rows = read_labelled(path, options or StatementOptions())
    is_test = walk_forward.split_rows(rows, WALK_FORWARD_FROM if split is None else split)
    walked = walk_forward.run(
        rows,
        is_test,
        refit=split is None,
        system=system,
        seed=seed,
        target_error=target_error,
        progress=progress,
    )
    evaluation = evaluate(walked.predictions, target_error=walked.target_error)
    unseen = walked.predictions.filter("is_unseen")
    threshold = OWN_THRESHOLD if walked.model is None else walked.model.threshold
    train = rows.filter(~is_test)
    return BacktestReport(
        system=system,
        protocol="walk-forward" if split is None else f"split {split:g}",
        rows=rows.height,
        left_out=read - rows.height,
        train_rows=train.height,
        test_rows=walked.predictions.height,
        test_from=str(rows.filter(is_test)["date"].min()),
        classes=train["label"].n_unique(),
        accuracy=round(evaluation.accuracy.value, 4),
        f1_macro=round(evaluation.f1_macro.value, 4),
        ece=round(evaluation.ece, 4),
        unseen_share=round(unseen.height / walked.predictions.height, 4),
        unseen_accuracy=_accuracy(unseen),
        auto_apply={
            "target_error": walked.target_error,
            "threshold": None if threshold == NEVER else round(threshold, 4),
            **_applied(walked.predictions),
        },
        fit_seconds=round(walked.fit_seconds, 3),
        predict_rows_per_second=round(walked.predictions.height / walked.predict_seconds),
        refits={"steps": walked.steps, "refused": walked.refused},
        evaluation=evaluation,
    )


def read_labelled(path: Path, options: StatementOptions) -> tuple[int, pl.DataFrame]:
    """Read the labelled rows of a statement in order of their dates, with their features from the kernel.

    Returns:
        How many rows there were, and the labelled ones: the estimator's columns with txn_id, description, label,
        label_source and sample_weight.

    Raises:
        InvalidInput: The file is not a statement or has no categories.
    """
    layout = inspect_statement(path, options)
    batches = [batch.rows for batch in read_statement(path, layout, options)]
    read = pl.concat(batches) if batches else pl.DataFrame()
    if not read.height or read["category"].null_count() == read.height:
        raise InvalidInput("The file has no categories to compare with: it needs a column category.")
    labelled = read.filter(
        pl.col("category").str.strip_chars() != "", ~pl.col("description").str.contains("@", literal=True)
    )
    rows = labelled.sort("date", maintain_order=True).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("txn_id")
    )
    features = build_features(rows.select(list(TRANSACTION_SCHEMA)))
    return read.height, features.with_columns(
        rows["date"],
        rows["account"],
        rows["description"],
        rows["category"].alias("label"),
        user_id=pl.lit(0, pl.Int64),
        label_source=pl.lit("import"),
        sample_weight=pl.lit(SAMPLE_WEIGHTS["import"]),
    )


def _accuracy(predictions: pl.DataFrame) -> float | None:
    share = predictions.select((pl.col("truth") == pl.col("predicted")).mean()).item()
    return None if share is None else round(share, 4)


def _applied(predictions: pl.DataFrame) -> dict[str, float | None]:
    applied = predictions.filter("is_applied")
    right = _accuracy(applied)
    return {
        "coverage": round(applied.height / predictions.height, 4),
        "error": 0.0 if right is None else round(1 - right, 4),
    }
