"""The peers of the benchmark: each does what it says, on the rows that ours is measured on."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app.ml.features import build_features

# The benchmarks are scripts, which find each other in their own folder.
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import accuracy
import accuracy_table
import peers
import smart_importer_peer

START = date(2024, 1, 1)
LABELS = {"ALDI": "Groceries", "LIDL": "Groceries", "SHELL": "Fuel", "BOOTS": "Health", "GAP": "Clothes"}


def frame(*bookings: tuple[str, str], every: int = 1) -> pl.DataFrame:
    """Book a description and a label every so many days."""
    rows = len(bookings)
    booked = pl.DataFrame(
        {
            "txn_id": pl.Series(range(rows), dtype=pl.Int64),
            "date": [START + timedelta(days=number * every) for number in range(rows)],
            "posted_at": pl.Series([None] * rows, dtype=pl.Datetime("us")),
            "amount": pl.Series(["-5.00"] * rows).cast(pl.Decimal(18, 2)),
            "description": [description for description, _ in bookings],
            "mcc": pl.Series([None] * rows, dtype=pl.String),
            "channel_hint": pl.Series([None] * rows, dtype=pl.String),
            "label": [label for _, label in bookings],
        }
    )
    return booked.with_columns(build_features(booked)["merchant"])


def asked(*descriptions: str) -> pl.DataFrame:
    return frame(*((description, "") for description in descriptions))


SHOPS = frame(
    *[("ALDI 60 LEEDS", "Groceries"), ("SHELL LEEDS", "Fuel"), ("ALDI 12 YORK", "Groceries"), ("SHELL YORK", "Fuel")]
    * 3,
    ("ALDI 7 HULL", "Groceries"),
)


def test_the_lookup_knows_a_description_in_any_case_and_says_the_usual_for_a_new_one() -> None:
    train = frame(("Aldi", "Groceries"), ("ALDI", "Groceries"), ("aldi", "Toys"), ("SHELL", "Fuel"))
    assert peers.fit_lookup(train)(asked("aldi ", "Shell", "BP")).to_list() == ["Groceries", "Fuel", "Groceries"]


def test_of_equally_frequent_labels_the_lookup_takes_the_last() -> None:
    for labels in (["A", "B"], ["B", "A"]):
        train = frame(*(("ALDI", label) for label in labels))
        assert peers.fit_lookup(train)(asked("ALDI")).to_list() == labels[-1:]


@pytest.mark.parametrize("fit", [peers.fit_svm, peers.fit_naive_bayes, peers.fit_smart_importer_recipe])
def test_what_learns_from_text_recognises_a_shop_in_a_string_it_never_saw(fit: peers.Fit) -> None:
    assert fit(SHOPS)(asked("ALDI 99 BRADFORD", "SHELL BRADFORD")).to_list() == ["Groceries", "Fuel"]


def test_the_lookup_goes_before_another_peer_only_where_it_knows_the_description() -> None:
    said = pl.Series(["Toys", "Toys"])
    assert peers.put_lookup_before(said, SHOPS, asked("shell york", "BP")).to_list() == ["Fuel", "Toys"]


@pytest.mark.parametrize(
    ("labels", "every", "expected"),
    [
        (["A", "B", "B", "A", "B"], 1, "B"),
        (["B", "B", "A", "A", "A"], 1, "A"),
        (["A", "A", "A", "B", "B", "B"], 1, "B"),  # the last five, not all
        (["A", "A", "A", "B", "C", "D"], 1, "A"),  # no new majority: the rule before it stays
        (["A", "A", "B", "B", "C"], 1, "usual"),  # two make no rule
        (["A", "A", "A"], 90, "A"),  # the first is 180 days old
        (["A", "A", "A"], 91, "usual"),  # and here 182
    ],
)
def test_a_payee_gets_the_label_that_three_of_its_last_five_share(labels: list[str], every: int, expected: str) -> None:
    train = pl.concat([frame(*[("SHELL", "usual")] * 9), frame(*(("ALDI 60", label) for label in labels), every=every)])
    assert peers.fit_payee_majority(train)(asked("ALDI 71")).to_list() == [expected]


def test_the_recipe_of_smart_importer_says_what_smart_importer_says() -> None:
    towns = ("LEEDS", "YORK", "HULL", "BRADFORD")
    train = frame(*((f"{shop} {town}", label) for shop, label in LABELS.items() for town in towns), every=3)
    rows = asked("", "NEW", *(f"{shop} {other}" for shop in LABELS for other in (*LABELS, *towns)))
    theirs = smart_importer_peer.fit_smart_importer(train)(rows)
    assert peers.fit_smart_importer_recipe(train)(rows).to_list() == theirs.to_list()
    assert theirs.n_unique() > 2


@pytest.fixture
def statement(tmp_path: Path) -> Path:
    """Ten months of ten rows; a shop opens in the ninth. Two rows are left out: one has no label, one an address."""
    lines = ["date,description,amount,category"]
    for month in range(1, 11):
        lines += [f"2024-{month:02}-{day:02},{'ALDI' if day % 2 else 'SHELL'},-1.00,{day % 2}" for day in range(1, 11)]
        if month >= 9:
            lines.append(f"2024-{month:02}-11,NEWSHOP,-1.00,2")
    lines += ["2024-03-01,ALDI,-1.00,", "2024-03-01,me@example.org,-1.00,1"]
    path = tmp_path / "cards_toy.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_static_predicts_the_last_fifth_of_the_months_from_all_before(statement: Path) -> None:
    [(train, test)] = accuracy.read_steps(statement, "static")
    assert (train.height, test.height) == (80, 22)
    assert max(train["date"].to_list()) < date(2024, 9, 1) == min(test["date"].to_list())


def test_live_predicts_the_same_rows_month_by_month(statement: Path) -> None:
    steps = list(accuracy.read_steps(statement, "live"))
    assert [(train.height, test.height) for train, test in steps] == [(80, 11), (91, 11)]
    assert all(max(train["date"].to_list()) < min(test["date"].to_list()) for train, test in steps)


@pytest.mark.parametrize("protocol", ["static", "live"])
def test_every_system_is_measured_on_the_same_rows(statement: Path, protocol: accuracy.Protocol) -> None:
    for job in (job for job in accuracy.plan({"toy": statement}, full=True) if job.protocol == protocol):
        for figures in accuracy.run_job(job).values():
            assert (figures["train_rows"], figures["test_rows"]) == (80, 22)


def test_every_system_reports_its_figures_under_its_own_name(statement: Path) -> None:
    jobs = [job for job in accuracy.plan({"toy": statement}, full=True) if job.protocol == "live"]
    systems = {name: figures for job in jobs for name, figures in accuracy.run_job(job).items()}
    assert list(systems) == ["lookup", "payee_majority", "naive_bayes", "svm", "lookup_then_svm", *accuracy.OURS]
    for figures in systems.values():
        assert {"accuracy", "f1_macro", "fit_seconds"} <= set(figures)
    assert systems["lookup"]["accuracy"] == round(21 / 22, 4)
    for system in accuracy.OURS:
        assert {"ece", "unseen_accuracy", "auto_apply", "predict_rows_per_second"} <= set(systems[system])


def test_the_svm_is_refitted_month_by_month_in_full_only(statement: Path) -> None:
    quick, full = (set(accuracy.plan({"toy": statement}, full=full)) for full in (False, True))
    assert full - quick == {accuracy.Job("toy", statement, "live", "svm")}
    assert quick < full


def test_files_are_named_by_what_stands_between_cards_and_csv(statement: Path) -> None:
    zipped = statement.with_name("cards_other.csv.gz")
    zipped.touch()
    statement.with_name("else.csv").touch()
    assert accuracy.card_transactions(statement.parent) == {"other": zipped, "toy": statement}


def test_macro_f1_is_over_the_labels_that_are_true_or_predicted() -> None:
    steps = [(SHOPS, frame(("", "A"), ("", "A"), ("", "B")))]
    assert accuracy.score(steps, [pl.Series(["A", "C", "B"])])["f1_macro"] == round((2 / 3 + 1 + 0) / 3, 4)


JUST_REACHED: dict[str, Any] = {
    "accuracy": 0.922,
    "f1_macro": 0.79,
    "ece": 0.04,
    "auto_apply": {"coverage": 0.6, "error": 0.01},
    "fit_seconds": 12.0,
}


def missed(**worse: Any) -> list[str]:
    static = {"svm": {"fit_seconds": 12.0}, "model": JUST_REACHED | worse}
    return list(accuracy_table.missed_reaches({"calderdale": {"static": static}}))


def test_a_model_that_just_reaches_everything_misses_nothing() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("figure", "worse"),
    [
        ("accuracy", {"accuracy": 0.9219}),
        ("f1_macro", {"f1_macro": 0.7899}),
        ("ece", {"ece": 0.0401}),
        ("auto_apply.coverage", {"auto_apply": {"coverage": 0.5999, "error": 0.01}}),
        ("auto_apply.error", {"auto_apply": {"coverage": 0.6, "error": 0.0101}}),
        ("fit_seconds", {"fit_seconds": 12.1}),
    ],
)
def test_a_figure_that_is_not_reached_is_named(figure: str, worse: dict[str, Any]) -> None:
    [message] = missed(**worse)
    assert message.startswith(f"accuracy.calderdale.static.model.{figure} is ")


def test_a_model_that_was_not_measured_is_named_and_other_files_ask_for_nothing() -> None:
    systems = {"svm": {"fit_seconds": 12.0}}
    [message] = accuracy_table.missed_reaches({"calderdale": {"static": systems}, "other": {"static": systems}})
    assert message == "accuracy.calderdale.static.model was not measured"
