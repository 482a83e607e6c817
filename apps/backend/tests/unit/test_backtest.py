"""Backtests: what is learnt from and what is predicted, and that nothing of the future is known."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING

import pytest

from app.cli.backtest import backtest
from app.errors import InvalidInput
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.services.backtest import run_backtest
from app.services.sample import generate_ledger, write_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from app.ml.evaluation import System

SPLIT = 0.8


def statement(folder: Path, rows: list[str]) -> Path:
    path = folder / "labelled.csv.gz"
    path.write_bytes(gzip.compress(("date,description,amount,category\n" + "\n".join(rows) + "\n").encode()))
    return path


def rows_of(month: str, shop: str, category: str, days: int = 5) -> list[str]:
    return [f"{month}-{day:02},{shop},-{day}.00,{category}" for day in range(1, days + 1)]


MONTHS = [f"2024-{month:02}" for month in range(1, 11)]


def test_the_last_fifth_of_the_months_is_predicted_from_those_before(tmp_path: Path) -> None:
    rows = [row for month in MONTHS for row in rows_of(month, "ALDI", "Groceries")]
    report = run_backtest(statement(tmp_path, rows), split=SPLIT, system="rules")
    assert (report.train_rows, report.test_rows, report.test_from) == (40, 10, "2024-09-01")
    assert (report.accuracy, report.f1_macro, report.unseen_share, report.unseen_accuracy) == (1.0, 1.0, 0.0, None)
    assert report.auto_apply["coverage"] == 1.0
    assert report.auto_apply["error"] == 0.0


def test_with_fewer_than_six_months_the_split_is_at_a_day(tmp_path: Path) -> None:
    rows = [row for month in MONTHS[:2] for row in rows_of(month, "ALDI", "Groceries")]
    report = run_backtest(statement(tmp_path, rows), split=SPLIT, system="rules")
    assert (report.train_rows, report.test_rows, report.test_from) == (8, 2, "2024-02-04")


def test_month_by_month_a_month_is_known_to_the_next_and_not_to_itself(tmp_path: Path) -> None:
    # A shop that opens in the first month that is predicted.
    rows = [row for month in MONTHS for row in rows_of(month, "ALDI", "Groceries")]
    rows += [row for month in MONTHS[8:] for row in rows_of(month, "NEWSHOP", "Toys")]
    path = statement(tmp_path, rows)
    walked, once = (run_backtest(path, split=split, system="rules") for split in (None, SPLIT))
    assert walked.test_rows == once.test_rows == 20
    assert once.accuracy == 0.5
    assert walked.accuracy == 0.75
    assert walked.unseen_share == 0.25


def test_what_happens_in_the_test_months_changes_nothing_that_was_learnt(tmp_path: Path) -> None:
    past = [row for month in MONTHS[:8] for row in rows_of(month, "ALDI", "Groceries")]
    honest = past + [row for month in MONTHS[8:] for row in rows_of(month, "ALDI", "Groceries")]
    twisted = past + [row for month in MONTHS[8:] for row in rows_of(month, "ALDI", "Toys")]
    assert run_backtest(statement(tmp_path, honest), split=SPLIT, system="rules").accuracy == 1.0
    report = run_backtest(statement(tmp_path, twisted), split=SPLIT, system="rules")
    assert report.accuracy == 0.0
    assert report.auto_apply["error"] == 1.0


def test_rows_without_a_category_or_with_an_address_are_left_out(tmp_path: Path) -> None:
    rows = [row for month in MONTHS for row in rows_of(month, "ALDI", "Groceries")]
    rows += ["2024-10-06,ALDI,-1.00,", "2024-10-06,ANA@EXAMPLE.ORG,-1.00,Groceries"]
    report = run_backtest(statement(tmp_path, rows), split=SPLIT, system="rules")
    assert (report.rows, report.left_out) == (50, 2)


def test_what_nothing_is_known_about_is_only_predicted_when_forced(tmp_path: Path) -> None:
    rows = [row for month in MONTHS for row in rows_of(month, "ALDI", "Groceries")]
    rows += rows_of(MONTHS[-1], "QQZZ", "Groceries")
    report = run_backtest(statement(tmp_path, rows), split=SPLIT, system="rules")
    # Everything is of one category, so the forced guess is right and sure; it still is a guess that nobody is shown.
    assert report.accuracy == 1.0
    assert report.auto_apply["coverage"] == pytest.approx(10 / 15, abs=1e-4)


@pytest.mark.parametrize("system", ["model", "rules"])
@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["2024-01-01,ALDI,-1.00,", "2024-02-01,ALDI,-1.00,"], "no categories"),
        (["2024-01-01,ALDI,-1.00,Groceries", "2024-01-01,ALDI,-2.00,Groceries"], "nothing before"),
    ],
)
def test_a_file_that_tells_nothing_is_refused_with_a_sentence(
    tmp_path: Path, rows: list[str], sentence: str, system: System
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        run_backtest(statement(tmp_path, rows), system=system)


def test_on_the_invented_household_the_confident_suggestions_are_right(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_ledger(generate_ledger(seed=7), path)
    report = run_backtest(path, split=SPLIT, system="rules")
    assert report.auto_apply["threshold"] == OWN_THRESHOLD
    coverage, error = report.auto_apply["coverage"], report.auto_apply["error"]
    assert coverage is not None
    assert error is not None
    assert coverage > 0.75
    assert error < 0.05


def test_the_heuristics_figures_on_the_invented_household_are_what_they_have_been(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_ledger(generate_ledger(seed=7, months=12), path)
    walked, once = (run_backtest(path, split=split, system="rules") for split in (None, SPLIT))
    assert (walked.accuracy, walked.f1_macro, walked.ece) == (0.8448, 0.81, 0.0343)
    assert (once.accuracy, once.f1_macro, once.ece) == (0.8367, 0.8052, 0.0424)


def shops(months: list[str], *, aldi: str = "Groceries") -> list[str]:
    return [
        row
        for month in months
        for shop, category in (("ALDI", aldi), ("SHELL", "Fuel"), ("RYANAIR", "Travel"))
        for row in rows_of(month, shop, category)
    ]


def test_the_model_predicts_the_last_fifth_of_the_months_from_those_before(tmp_path: Path) -> None:
    report = run_backtest(statement(tmp_path, shops(MONTHS)), split=SPLIT)
    assert (report.system, report.train_rows, report.test_rows, report.test_from) == ("model", 120, 30, "2024-09-01")
    assert (report.accuracy, report.f1_macro, report.unseen_share, report.classes) == (1.0, 1.0, 0.0, 3)
    assert report.refits == {"steps": 1, "refused": 0}


def test_month_by_month_the_model_knows_a_month_in_the_next_and_not_in_itself(tmp_path: Path) -> None:
    rows = shops(MONTHS) + [row for month in MONTHS[8:] for row in rows_of(month, "QQZZ", "Toys")]
    path = statement(tmp_path, rows)
    walked, once = run_backtest(path), run_backtest(path, split=SPLIT)
    assert walked.test_rows == once.test_rows == 40
    assert once.accuracy == 0.75
    assert walked.accuracy == 0.875
    assert walked.unseen_share == 0.125


def test_what_happens_in_the_test_months_changes_nothing_that_the_model_learnt(tmp_path: Path) -> None:
    twisted = shops(MONTHS[:8]) + shops(MONTHS[8:], aldi="Toys")
    report = run_backtest(statement(tmp_path, twisted), split=SPLIT)
    assert report.accuracy == pytest.approx(2 / 3, abs=1e-4)


@pytest.mark.parametrize("rows", [shops(MONTHS[:1]), [r for m in MONTHS for r in rows_of(m, "ALDI", "Groceries")]])
def test_the_model_is_refused_too_few_labels_or_categories(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(InvalidInput, match="at least 20 labels of 2 categories"):
        run_backtest(statement(tmp_path, rows), split=SPLIT)


def test_too_few_rows_promise_nothing_and_so_nothing_is_applied(tmp_path: Path) -> None:
    report = run_backtest(statement(tmp_path, shops(MONTHS)), split=SPLIT)
    assert report.auto_apply == {"target_error": 0.01, "threshold": None, "coverage": 0.0, "error": 0.0}


@pytest.mark.parametrize(
    ("option", "value"), [("split", 0.0), ("split", 1.0), ("target_error", 0.0), ("target_error", 1)]
)
def test_a_share_that_is_none_is_refused(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="share between 0 and 1"):
        run_backtest(statement(tmp_path, shops(MONTHS)), **{option: value})  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_report_and_the_model_beats_the_heuristics(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_ledger(generate_ledger(seed=7, months=12), path)
    first, again = (run_backtest(path, split=SPLIT, seed=5) for _ in range(2))
    assert first.evaluation == again.evaluation
    assert first.auto_apply == again.auto_apply
    assert first.accuracy > run_backtest(path, split=SPLIT, system="rules").accuracy


def test_the_command_writes_the_report_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(3)  # noqa: S311 -- the same rows every time
    rows = [row for month in MONTHS for row in rows_of(month, f"SHOP {draw.randrange(4)}", "Groceries")]
    out = tmp_path / "new" / "report.json"
    backtest(statement(tmp_path, rows), split=SPLIT, system="rules", out=out)
    written = json.loads(out.read_text())
    assert {
        "rows", "train_rows", "test_rows", "classes", "accuracy", "f1_macro", "ece", "unseen_share", "unseen_accuracy",
        "auto_apply", "fit_seconds", "predict_rows_per_second",
    } <= set(written)  # fmt: skip
    assert set(written["auto_apply"]) >= {"target_error", "coverage", "error"}
    assert f"{written['accuracy']:.1%}" in capsys.readouterr().out
