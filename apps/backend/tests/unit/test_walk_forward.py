"""Walking forward: each month is met with what was known before it, by a model that has earned it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from app.errors import InvalidInput
from app.ml import walk_forward
from app.ml.estimator import fit_with_draft
from app.ml.predictions import predict
from app.ml.walk_forward import run, split_rows, steps_of

if TYPE_CHECKING:
    from app.ml.evaluation import System

SAID = [
    "txn_id", "predicted", "confidence", "probability_squares", "is_applied", "is_unseen", "is_unseen_account",
]  # fmt: skip


def assert_same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    # The heuristics add up in parallel, so their last bits are not the same in each run.
    assert_frame_equal(one.select(SAID), other.select(SAID), rel_tol=1e-12, abs_tol=1e-12)


def dates(*days: dt.date) -> pl.DataFrame:
    return pl.DataFrame({"date": list(days)}, schema={"date": pl.Date})


def first_of(*months: int) -> list[dt.date]:
    return [dt.date(2025, month, 1) for month in months]


@pytest.fixture(scope="module")
def months(sample_rows: pl.DataFrame) -> list[dt.date]:
    found: list[dt.date] = sample_rows["date"].dt.month_start().unique().sort().to_list()
    assert len(found) == 12
    return found


@pytest.mark.parametrize(
    ("days", "share", "tested"),
    [
        (first_of(*range(1, 11)), 0.8, first_of(9, 10)),
        (first_of(*range(1, 7)), 0.5, first_of(4, 5, 6)),
        (first_of(1, 2, 3, 4), 0.5, first_of(3, 4)),  # of few months the rows are divided
        ([*first_of(1, 1, 1), dt.date(2025, 1, 2)], 0.8, [dt.date(2025, 1, 2)]),
    ],
)
def test_the_last_months_are_predicted_or_of_few_months_the_last_days(
    days: list[dt.date], share: float, tested: list[dt.date]
) -> None:
    rows = dates(*days)
    assert rows.filter(split_rows(rows, share))["date"].to_list() == tested


@pytest.mark.parametrize("days", [[], first_of(1), first_of(1, 1, 1), [dt.date(2025, 1, 1)] * 9])
def test_one_day_has_nothing_before_it(days: list[dt.date]) -> None:
    with pytest.raises(InvalidInput, match="nothing before"):
        split_rows(dates(*days), 0.8)


def test_a_step_knows_what_is_before_its_month_and_predicts_the_month() -> None:
    rows = dates(*first_of(1, 2, 3), dt.date(2025, 3, 9), *first_of(5))
    is_test = rows["date"] >= dt.date(2025, 2, 1)
    steps = [(known.height, month["date"].to_list()) for known, month in steps_of(rows, is_test, by_month=True)]
    assert steps == [(1, first_of(2)), (2, [dt.date(2025, 3, 1), dt.date(2025, 3, 9)]), (4, first_of(5))]
    ((known, tested),) = steps_of(rows, is_test, by_month=False)
    assert (known.height, tested.height) == (1, 4)


@pytest.mark.parametrize("system", ["model", "rules"])
def test_what_is_planted_in_a_month_changes_no_prediction_of_it_or_before(
    sample_rows: pl.DataFrame, months: list[dt.date], system: System
) -> None:
    is_test = sample_rows["date"] >= months[9]
    planted_from = months[10]
    planted = sample_rows.with_columns(
        label=pl.when(pl.col("date") >= planted_from).then(pl.lit("Planted")).otherwise("label")
    )
    honest, other = (run(rows, is_test, refit=True, system=system).predictions for rows in (sample_rows, planted))
    until, after = pl.col("month") <= planted_from, pl.col("month") > planted_from
    assert_same(honest.filter(until), other.filter(until))
    # The month after is told of it, so the check can fail.
    assert honest.filter(after)["predicted"].to_list() != other.filter(after)["predicted"].to_list()


@pytest.mark.parametrize("system", ["model", "rules"])
def test_learnt_once_nothing_of_the_test_months_is_known(
    sample_rows: pl.DataFrame, months: list[dt.date], system: System
) -> None:
    is_test = sample_rows["date"] >= months[9]
    planted = sample_rows.with_columns(label=pl.when(is_test).then(pl.lit("Planted")).otherwise("label"))
    honest, other = (run(rows, is_test, refit=False, system=system) for rows in (sample_rows, planted))
    assert_same(honest.predictions, other.predictions)
    assert (honest.steps, honest.refused) == (1, 0)


def test_every_row_is_predicted_once_in_order_and_progress_ends_at_all(
    sample_rows: pl.DataFrame, months: list[dt.date]
) -> None:
    is_test = sample_rows["date"] >= months[9]
    told: list[tuple[int, int | None]] = []
    walked = run(
        sample_rows, is_test, refit=True, system="rules", progress=lambda done, total: told.append((done, total))
    )
    assert walked.predictions["txn_id"].to_list() == sample_rows.filter(is_test)["txn_id"].to_list()
    assert walked.steps == len(told) == 3
    assert told[-1] == (is_test.sum(), is_test.sum())
    assert walked.model is None


@pytest.mark.parametrize(("spoilt_month", "refused"), [(8, 1), (7, 0)])
def test_a_refit_that_is_worse_than_the_model_before_it_does_not_predict(
    sample_rows: pl.DataFrame, months: list[dt.date], spoilt_month: int, refused: int
) -> None:
    # In one month everything was called something else. What has learnt the last of them is worse than the model before
    # it at the months since; where the model before has learnt it too, the newer one is better.
    labels = sorted(sample_rows["label"].unique())
    rotated = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
    is_spoilt = pl.col("date").dt.month_start() == months[spoilt_month]
    rows = sample_rows.with_columns(
        label=pl.when(is_spoilt).then(pl.col("label").replace_strict(rotated)).otherwise("label")
    )
    walked = run(rows, rows["date"] >= months[9], refit=True)
    assert (walked.steps, walked.refused) == (3, refused)
    assert walked.model is not None
    last_learnt = dt.date.fromisoformat(walked.model.header["last_date"])
    assert (last_learnt < months[10]) is bool(refused)


def test_a_refused_refit_leaves_the_model_before_it_in_place_with_all_labels_known_since(
    sample_rows: pl.DataFrame, months: list[dt.date], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_forward, "_passes_gate", lambda *_: False)
    is_test = sample_rows["date"] >= months[10]
    walked = run(sample_rows, is_test, refit=True)
    assert (walked.steps, walked.refused) == (2, 1)
    model, _ = fit_with_draft(sample_rows.filter(pl.col("date") < months[10]))
    last = sample_rows.filter(pl.col("date") >= months[11])
    expected = predict(model, last, sample_rows.filter(pl.col("date") < months[11]), by_month=False)
    assert walked.predictions.filter(pl.col("month") == months[11]).equals(expected)


def test_too_little_before_the_test_months_is_refused(sample_rows: pl.DataFrame) -> None:
    is_test = pl.Series([False] * 5 + [True] * 95)
    with pytest.raises(InvalidInput, match="at least 20 labels"):
        run(sample_rows.head(100), is_test, refit=False)
