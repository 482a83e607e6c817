"""How good predictions are: of the choice that is forced, of its confidence, and of the right to say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from app.errors import InvalidInput
from app.ml.bootstrap import (
    Block,
    codes_of,
    f1_by_class,
    f1_macro,
    percentile_interval,
    ratio,
    resample_sums,
    share_interval,
    string_clusters,
    total,
)
from app.ml.evaluation import (
    AutoApplyScores,
    CalibrationBin,
    ClassScores,
    Evaluation,
    MonthScores,
    PartScores,
    RiskPoint,
)
from app.ml.mistakes import confusion_matrix, largest_confusions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.ml.bootstrap import Floats, Interval

CALIBRATION_BINS: Final = 15
# What log loss takes for a probability below it, also for 0: a truth that was ruled out costs 13.8 nats, not infinity.
LEAST_PROBABILITY: Final = 1e-6
TOP: Final = 3
_CURVE_POINTS: Final = 200

PREDICTION_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "month": pl.Date(),  # its first day
        "account": pl.String(),
        "description": pl.String(),
        "truth": pl.String(),
        "predicted": pl.String(),
        "confidence": pl.Float64(),  # P(predicted)
        "truth_probability": pl.Float64(),  # P(truth); 0 where the model has no such class
        "truth_rank": pl.Int32(),  # 1 is the top; null where the model has no such class
        "probability_squares": pl.Float64(),  # the sum of P(class)² over all classes
        "amount": pl.Float64(),
        "is_unseen": pl.Boolean(),  # this very description was never learnt from
        "is_unseen_account": pl.Boolean(),
        "is_applied": pl.Boolean(),  # sure enough to be applied without asking
    }
)


@dataclass(frozen=True)
class ForcedScores:
    """Scores over all rows, each of which got a prediction.

    Attributes:
        accuracy: Share of right predictions.
        f1_macro: Mean of the categories' F1, over those that are true or predicted somewhere.
        ece: Expected calibration error: the mean distance between confidence and accuracy in CALIBRATION_BINS bins of
            equally many rows, weighted by their rows (Nguyen and O'Connor 2015; Nixon et al. 2019). Equal
            confidences share a bin, so that the order of rows decides nothing.
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


def evaluate(predictions: pl.DataFrame, *, target_error: float, seed: int = 0) -> Evaluation:
    """Measure the predictions of one system on one set of test rows.

    Args:
        predictions: In PREDICTION_SCHEMA, one row for each test transaction, in any order.
        target_error: The share of the applied predictions that may be wrong; it is carried into the result.
        seed: Of the resampling that gives the intervals, as `app.ml.bootstrap` explains it.

    Raises:
        InvalidInput: There are no rows.
        ValueError: A column is missing or of another type, or a value is null that must not be.
    """
    rows = _scored(predictions)
    labels = pl.concat([rows["truth"], rows["predicted"]]).unique().sort()
    months = rows["month"].unique().sort().dt.strftime("%Y-%m")
    sums = resample_sums(string_clusters(rows["description"]), _blocks(rows, labels, months), seed=seed)
    curve = _risk_coverage(rows)
    return Evaluation(
        rows=rows.height,
        categories=labels.len(),
        first_month=months[0],
        last_month=months[-1],
        accuracy=_share(sums, "right"),
        f1_macro=percentile_interval(f1_macro(sums["class_hits"], sums["class_true"], sums["class_said"])),
        top3_accuracy=_share(sums, "top"),
        log_loss=_mean(sums, "log_loss"),
        brier=_mean(sums, "brier"),
        ece=float(np.abs(sums["bin_right"][0] - sums["bin_confidence"][0]).sum() / rows.height),
        aurc=float(np.average(curve["error"], weights=curve["rows"])),
        wrong_money=_mean(sums, "wrong_money", "money") if sums["money"][0, 0] else None,
        unknown_share=float(sums["unknown"][0, 0]) / rows.height,
        unseen=_part(sums, "unseen"),
        unseen_account=_part(sums, "unseen_account"),
        auto_apply=AutoApplyScores(
            target_error=target_error,
            coverage=_share(sums, "applied"),
            error=_share(sums, "applied_wrong", "applied") if sums["applied"][0, 0] else None,
            wrong=int(sums["applied_wrong"][0, 0]),
        ),
        reliability=_reliability(sums),
        risk_coverage=_thinned(curve),
        per_class=_per_class(sums, labels),
        confusions=largest_confusions(rows),
        confusion_matrix=confusion_matrix(rows),
        months=tuple(_month(sums, number, month) for number, month in enumerate(months)),
    )


def _scored(predictions: pl.DataFrame) -> pl.DataFrame:
    """Check predictions and put beside each row what it adds to the scores."""
    for column, dtype in PREDICTION_SCHEMA.items():
        if predictions.schema.get(column) != dtype:
            raise ValueError(f"column {column!r} must be {dtype}, not {predictions.schema.get(column)}")
        if column != "truth_rank" and predictions[column].null_count():
            raise ValueError(f"column {column!r} has nulls")
    if not predictions.height:
        raise InvalidInput("There is nothing to evaluate: no labelled transaction lies in the months that are tested.")
    truth_probability = pl.col("truth_probability")
    # In one order, for sums of fractions depend on it.
    return predictions.sort("txn_id").with_columns(
        right=pl.col("truth") == pl.col("predicted"),
        top=(pl.col("truth_rank") <= TOP).fill_null(value=False),
        unknown=pl.col("truth_rank").is_null(),
        log_loss=-truth_probability.clip(LEAST_PROBABILITY, 1).log(),
        brier=pl.col("probability_squares") - 2 * truth_probability + 1,
        money=pl.col("amount").abs(),
        bin=_bin(),
    )


def _blocks(rows: pl.DataFrame, labels: pl.Series, months: pl.Series) -> dict[str, Block]:
    """Say what is summed: over all rows, and by category, by bin of confidence and by month."""
    values = {name: rows[name].cast(pl.Float64).to_numpy() for name in ("right", "top", "unknown", "log_loss", "brier")}
    values |= {name: rows[f"is_{name}"].cast(pl.Float64).to_numpy() for name in ("unseen", "unseen_account", "applied")}
    values |= {"rows": np.ones(rows.height), "money": rows["money"].to_numpy()}
    wrong = 1 - values["right"]
    values |= {
        "unseen_right": values["unseen"] * values["right"],
        "unseen_account_right": values["unseen_account"] * values["right"],
        "applied_wrong": values["applied"] * wrong,
        "wrong_money": values["money"] * wrong,
    }
    blocks = {name: total(each) for name, each in values.items()}
    truth, said = codes_of(rows["truth"], labels), codes_of(rows["predicted"], labels)
    blocks |= {
        "class_true": Block(truth, labels.len(), values["rows"]),
        "class_said": Block(said, labels.len(), values["rows"]),
        "class_hits": Block(truth, labels.len(), values["right"]),
    }
    bins, confidence = rows["bin"].to_numpy(), rows["confidence"].to_numpy()
    binned = {"rows": values["rows"], "right": values["right"], "confidence": confidence}
    blocks |= {f"bin_{name}": Block(bins, CALIBRATION_BINS, each) for name, each in binned.items()}
    month = codes_of(rows["month"].dt.strftime("%Y-%m"), months)
    by_month = ("rows", "right", "unseen", "applied", "applied_wrong")
    return blocks | {f"month_{name}": Block(month, months.len(), values[name]) for name in by_month}


def _share(sums: Mapping[str, Floats], hits: str, among: str = "rows", number: int = 0) -> Interval:
    return share_interval(sums[hits][:, number], sums[among][:, number])


def _mean(sums: Mapping[str, Floats], name: str, among: str = "rows") -> Interval:
    return percentile_interval(ratio(sums[name], sums[among])[:, 0])


def _part(sums: Mapping[str, Floats], name: str) -> PartScores:
    rows = int(sums[name][0, 0])
    accuracy = _share(sums, f"{name}_right", name) if rows else None
    return PartScores(rows, rows / float(sums["rows"][0, 0]), accuracy)


def _reliability(sums: Mapping[str, Floats]) -> tuple[CalibrationBin, ...]:
    rows, confidence = sums["bin_rows"][0], sums["bin_confidence"][0]
    return tuple(
        CalibrationBin(
            int(rows[bin_]), float(confidence[bin_] / rows[bin_]), _share(sums, "bin_right", "bin_rows", bin_)
        )
        for bin_ in range(CALIBRATION_BINS)
        if rows[bin_]
    )


def _month(sums: Mapping[str, Floats], number: int, month: str) -> MonthScores:
    rows, unseen, applied, wrong = (
        float(sums[f"month_{name}"][0, number]) for name in ("rows", "unseen", "applied", "applied_wrong")
    )
    return MonthScores(
        month=month,
        rows=int(rows),
        accuracy=_share(sums, "month_right", "month_rows", number),
        unseen_share=unseen / rows,
        coverage=applied / rows,
        applied_error=wrong / applied if applied else None,
    )


def _risk_coverage(rows: pl.DataFrame) -> pl.DataFrame:
    """Give threshold, rows, coverage and error of each confidence from the highest; equal ones enter together."""
    return (
        rows.group_by(threshold="confidence")
        .agg(rows=pl.len(), wrong=(~pl.col("right")).sum())
        .sort("threshold", descending=True)
        .select(
            "threshold",
            "rows",
            coverage=pl.col("rows").cum_sum() / rows.height,
            error=pl.col("wrong").cum_sum() / pl.col("rows").cum_sum(),
        )
    )


def _thinned(curve: pl.DataFrame) -> tuple[RiskPoint, ...]:
    kept = np.unique(np.linspace(0, curve.height - 1, _CURVE_POINTS).round().astype(np.int64))
    return tuple(RiskPoint(*point) for point in curve[kept].select("threshold", "coverage", "error").iter_rows())


def _per_class(sums: Mapping[str, Floats], labels: pl.Series) -> tuple[ClassScores, ...]:
    hits, true, said = (sums[f"class_{name}"][0] for name in ("hits", "true", "said"))
    precision, recall = np.nan_to_num(ratio(hits, said)), np.nan_to_num(ratio(hits, true))
    columns = (true.astype(int), said.astype(int), precision, recall, f1_by_class(hits, true, said))
    scores = (ClassScores(*each) for each in zip(labels, *(column.tolist() for column in columns), strict=True))
    return tuple(sorted(scores, key=lambda score: (-score.support, -score.predicted, score.label)))


def _f1_macro(predictions: pl.DataFrame) -> float:
    hit = predictions.filter(pl.col("truth") == pl.col("predicted")).group_by(label="truth").agg(hits=pl.len())
    true = predictions.group_by(label="truth").agg(true=pl.len())
    said = predictions.group_by(label="predicted").agg(said=pl.len())
    counts = true.join(said, on="label", how="full", coalesce=True).join(hit, on="label", how="left").fill_null(0)
    return float(counts.select((2 * pl.col("hits") / (pl.col("true") + pl.col("said"))).mean()).item())


def _bin() -> pl.Expr:
    """Number the bins of confidence from 0: equally many rows in each, as far as equal confidences stay together."""
    middle = pl.col("confidence").rank("average") - 0.5
    return (middle * CALIBRATION_BINS / pl.len()).floor().cast(pl.Int64)


def _calibration_error(predictions: pl.DataFrame) -> float:
    off = (pl.col("truth") == pl.col("predicted")).sum() - pl.col("confidence").sum()
    bins = predictions.group_by(_bin().alias("bin")).agg(off.abs().alias("off"))
    return float(bins["off"].sum()) / predictions.height
