"""How good suggestions would have been on a labelled file: no database, nothing kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from app.errors import InvalidInput
from app.ml.builtin_knowledge import builtin_categories
from app.ml.evaluate import score_forced, score_selective
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.ml.hierarchical_prior import LABEL_SCHEMA, MERCHANT_LEVELS, count_labels, fit_profile, rank_candidates
from app.services.heuristics import OWN_THRESHOLD
from app.services.statements import StatementOptions, inspect_statement, read_statement

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator
    from pathlib import Path

System = Literal["rules"]

# What an auto-applied suggestion may be wrong at the most.
TARGET_ERROR: Final = 0.05
# Without a split, the months from here on are predicted one after the other.
WALK_FORWARD_FROM: Final = 0.8
FEWEST_MONTHS: Final = 6


@dataclass(frozen=True)
class BacktestReport:
    """What a backtest found. Accuracy, F1 and calibration are of a forced choice over all test rows.

    Attributes:
        left_out: Rows that were not looked at: without a category, or with an @, which may be a person's address.
        classes: Categories in the rows that were learnt from.
        unseen_share: Share of test rows whose very description was not learnt from.
        unseen_accuracy: Accuracy on those; None where there is none.
        auto_apply: target_error, threshold, coverage and error of the suggestions that are sure enough.
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
    auto_apply: dict[str, float]
    fit_seconds: float
    predict_rows_per_second: float


def run_backtest(
    path: Path,
    *,
    system: System = "rules",
    split: float | None = None,
    options: StatementOptions | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> BacktestReport:
    """Predict the last months of a labelled file from those before.

    Args:
        path: A statement with a category column, plain or gzip.
        system: What predicts: `rules` for the heuristics.
        split: Learn once, from the months before this share of them, and predict the rest; None: predict the same
            rows month by month, each from everything before it.
        options: How to read the file where it does not say itself.
        progress: Called with the number of test rows predicted so far, and of how many.

    Raises:
        InvalidInput: The file is not a statement, has no categories, or too little in it for a split.
    """
    if split is not None and not 0 < split < 1:
        raise InvalidInput("--split is a share between 0 and 1, such as 0.8.")
    read, rows = _read(path, options or StatementOptions())
    is_test = _split(rows, WALK_FORWARD_FROM if split is None else split)
    steps = list(_single(rows, is_test) if split is not None else _month_by_month(rows, is_test))
    test_rows = sum(test.height for _, test in steps)
    predicted: list[pl.DataFrame] = []
    fit_seconds = predict_seconds = 0.0
    for train, test in steps:
        started = time.perf_counter()
        learnt = _fit(train)
        fitted = time.perf_counter()
        predicted.append(_predict(test, learnt))
        fit_seconds, predict_seconds = fit_seconds + fitted - started, predict_seconds + time.perf_counter() - fitted
        if progress:
            progress(sum(each.height for each in predicted), test_rows)
    predictions = pl.concat(predicted)
    forced = score_forced(predictions)
    selective = score_selective(predictions, OWN_THRESHOLD, offered=pl.col("has_evidence"))
    unseen = predictions.filter("is_unseen")
    first_train = steps[0][0]
    return BacktestReport(
        system=system,
        protocol="walk-forward" if split is None else f"split {split:g}",
        rows=rows.height,
        left_out=read - rows.height,
        train_rows=first_train.height,
        test_rows=predictions.height,
        test_from=str(rows.filter(is_test)["date"].min()),
        classes=first_train["label"].n_unique(),
        accuracy=round(forced.accuracy, 4),
        f1_macro=round(forced.f1_macro, 4),
        ece=round(forced.ece, 4),
        unseen_share=round(unseen.height / predictions.height, 4),
        unseen_accuracy=round(score_forced(unseen).accuracy, 4) if unseen.height else None,
        auto_apply={
            "target_error": TARGET_ERROR,
            "threshold": OWN_THRESHOLD,
            "coverage": round(selective.coverage, 4),
            "error": round(selective.error, 4),
        },
        fit_seconds=round(fit_seconds, 3),
        predict_rows_per_second=round(predictions.height / predict_seconds),
    )


def _read(path: Path, options: StatementOptions) -> tuple[int, pl.DataFrame]:
    """Read the labelled rows in order of their dates; return how many rows there were, and those."""
    layout = inspect_statement(path, options)
    batches = [batch.rows for batch in read_statement(path, layout, options)]
    read = pl.concat(batches) if batches else pl.DataFrame()
    if not read.height or read["category"].null_count() == read.height:
        raise InvalidInput("The file has no categories to compare with: it needs a column category.")
    labelled = read.filter(
        pl.col("category").str.strip_chars() != "", ~pl.col("description").str.contains("@", literal=True)
    )
    rows = labelled.sort("date", maintain_order=True).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("txn_id"), pl.col("category").alias("label")
    )
    return read.height, rows


def _split(rows: pl.DataFrame, share: float) -> pl.Series:
    """Say which rows are predicted: those of the last months, or of the last days of a short file."""
    months = rows["date"].dt.truncate("1mo").unique().sort()
    start: dt.date
    if months.len() >= FEWEST_MONTHS:
        start = months[int(share * months.len())]
    else:
        start = rows["date"][int(share * rows.height)]
    is_test = rows["date"] >= start
    if not is_test.any() or is_test.all():
        raise InvalidInput("All rows of the file are of one day or month, so there is nothing before to learn from.")
    return is_test


def _single(rows: pl.DataFrame, is_test: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    yield rows.filter(~is_test), rows.filter(is_test)


def _month_by_month(rows: pl.DataFrame, is_test: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    for (_,), month in rows.filter(is_test).group_by(pl.col("date").dt.truncate("1mo"), maintain_order=True):
        yield rows.filter(pl.col("date") < month["date"].min()), month


@dataclass(frozen=True)
class _Learnt:
    """What the heuristics know after the rows before."""

    profile: Any
    counts: dict[str, pl.DataFrame]
    seen: pl.Series


def _fit(train: pl.DataFrame) -> _Learnt:
    labels = (
        _described(train)
        .with_columns(label_source=pl.lit("import"), labels=pl.lit(1, pl.Int64))
        .select(list(LABEL_SCHEMA))
    )
    counts = {level: count_labels(labels, level) for level in MERCHANT_LEVELS}
    return _Learnt(fit_profile(labels), counts, train["description"].unique())


def _predict(test: pl.DataFrame, learnt: _Learnt) -> pl.DataFrame:
    """Predict rows; where nothing speaks for any category, the most frequent one is the forced choice."""
    nothing = pl.lit(None, pl.String)
    ranked = rank_candidates(
        _described(test).with_columns(nothing.alias("own_label"), nothing.alias("own_source")),
        learnt.profile,
        learnt.counts,
    )
    best = ranked.group_by("txn_id", maintain_order=True).first().select("txn_id", "label", "probability")
    usual, usual_rate = max(learnt.profile.base_rates.items(), key=lambda item: (item[1], item[0]))
    return (
        test.select("txn_id", "description", pl.col("label").alias("truth"))
        .join(best, on="txn_id", how="left")
        .select(
            "truth",
            predicted=pl.col("label").fill_null(usual),
            confidence=pl.col("probability").fill_null(usual_rate),
            has_evidence=pl.col("label").is_not_null(),
            is_unseen=~pl.col("description").is_in(learnt.seen.implode()),
        )
    )


def _described(rows: pl.DataFrame) -> pl.DataFrame:
    """Put what the heuristics look at beside the labels, from the kernel as everywhere."""
    features = build_features(rows.select(list(TRANSACTION_SCHEMA)))
    return features.select(
        "txn_id",
        pl.col("merchant").str.strip_chars().replace("", None),
        "norm_desc",
        builtin_categories(features).alias("builtin"),
    ).with_columns(rows["label"], rows["account"])
