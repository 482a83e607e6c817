"""How good predictions are: of the choice that is forced, of its confidence, and of the right to say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

CALIBRATION_BINS: Final = 15


@dataclass(frozen=True)
class ForcedScores:
    """Scores over all rows, each of which got a prediction.

    Attributes:
        accuracy: Share of right predictions.
        f1_macro: Mean of the categories' F1, over those that are true or predicted somewhere.
        ece: Expected calibration error: the mean distance between confidence and accuracy in CALIBRATION_BINS bins of
            equal width, weighted by their rows (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017).
    """

    accuracy: float
    f1_macro: float
    ece: float


@dataclass(frozen=True)
class SelectiveScores:
    """Scores of predictions that are only made above a confidence.

    Attributes:
        coverage: Share of the rows that got a prediction.
        error: Share of wrong ones among those; 0 where there is none.
    """

    coverage: float
    error: float


def score_forced(predictions: pl.DataFrame) -> ForcedScores:
    """Score predictions that were made for every row.

    Args:
        predictions: truth, predicted and confidence, none of them null, at least one row.
    """
    is_right = pl.col("truth") == pl.col("predicted")
    accuracy = predictions.select(is_right.mean()).item()
    return ForcedScores(accuracy, _f1_macro(predictions), _calibration_error(predictions))


def score_selective(predictions: pl.DataFrame, threshold: float, offered: pl.Expr | None = None) -> SelectiveScores:
    """Score the predictions whose confidence reaches a threshold.

    Args:
        predictions: As for `score_forced`.
        threshold: Least confidence at which something is said.
        offered: Which rows may be answered at all; default all.
    """
    said = pl.col("confidence") >= threshold
    answered = predictions.filter(said if offered is None else said & offered)
    wrong = answered.select((pl.col("truth") != pl.col("predicted")).sum()).item()
    return SelectiveScores(answered.height / predictions.height, wrong / answered.height if answered.height else 0.0)


def _f1_macro(predictions: pl.DataFrame) -> float:
    hit = predictions.filter(pl.col("truth") == pl.col("predicted")).group_by(label="truth").agg(hits=pl.len())
    true = predictions.group_by(label="truth").agg(true=pl.len())
    said = predictions.group_by(label="predicted").agg(said=pl.len())
    counts = true.join(said, on="label", how="full", coalesce=True).join(hit, on="label", how="left").fill_null(0)
    return float(counts.select((2 * pl.col("hits") / (pl.col("true") + pl.col("said"))).mean()).item())


def _calibration_error(predictions: pl.DataFrame) -> float:
    # A confidence of exactly 1 belongs to the last bin.
    number = (pl.col("confidence") * CALIBRATION_BINS).floor().clip(0, CALIBRATION_BINS - 1)
    bins = predictions.group_by(number.alias("bin")).agg(
        rows=pl.len(), accuracy=(pl.col("truth") == pl.col("predicted")).mean(), confidence=pl.col("confidence").mean()
    )
    distance = (pl.col("accuracy") - pl.col("confidence")).abs()
    return float(bins.select((distance * pl.col("rows")).sum() / pl.col("rows").sum()).item())
