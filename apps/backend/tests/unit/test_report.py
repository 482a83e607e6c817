"""The report: that it says what was measured, loads nothing, and takes nobody's words for markup."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from app.ml.bootstrap import Interval
from app.ml.evaluate import PREDICTION_SCHEMA, evaluate
from app.ml.evaluation import AutoApplyScores
from app.ml.learning_curve import LearningPoint
from app.ml.mistakes import costliest_mistakes
from app.ml.report import headline, judge_promise, of_hundred, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from app.ml.evaluation import Evaluation

HOSTILE = "<script>alert('$x^$')</script> & 🍔 雑貨"
CURVE = (LearningPoint(50, 0.6, 0.4), LearningPoint(100, 0.7, 0.5))


def predictions(months: int = 3, truth: str = "Groceries", **given: Any) -> pl.DataFrame:
    rows = [
        {
            "txn_id": number,
            "month": dt.date(2025, 1 + number % months, 1),
            "account": "CURRENT",
            "description": f"{truth} SHOP",
            "truth": truth if number % 4 else "Gifts",
            "predicted": truth,
            "confidence": 0.7 + number / 400,
            "truth_probability": 0.7,
            "truth_rank": 1,
            "probability_squares": 0.6,
            "amount": -5.0,
            "is_unseen": number % 5 == 0,
            "is_unseen_account": False,
            "is_applied": number >= 30,
        }
        | given
        for number in range(60)
    ]
    return pl.DataFrame(rows, schema=PREDICTION_SCHEMA)


def written(folder: Path, frame: pl.DataFrame, **given: Any) -> str:
    evaluation = evaluate(frame, target_error=0.01)
    facts = {"protocol": "month by month"}
    return write_report(evaluation, folder, **({"title": "Champion 7", "facts": facts} | given)).read_text("utf-8")


class Page(HTMLParser):
    """What a browser would make of a page: its elements, what they point at, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "link", "br", "hr", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_begins_with_what_matters_and_has_every_picture(tmp_path: Path) -> None:
    source = written(tmp_path / "made" / "for it", predictions(), learning_curve=CURVE)
    page = Page(source)
    assert page.open == []
    assert page.tags.count("svg") == 4
    # Two categories, and none beside them.
    assert source.count("<td style=") == 4
    assert "Of 100 transactions it gets 75 right; it would apply 50 by itself, of which 12 would be wrong." in page.text
    for said in (
        "Champion 7",
        "month by month",
        "60 transactions, 2025-01 to 2025-03",
        "only while the months stay like",
    ):
        assert said in page.text


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = Page(written(tmp_path, predictions(), learning_curve=CURVE))
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
        for address in re.findall(r"url\((.*?)\)", value):
            assert address.startswith("#")


def test_ids_are_unique_and_what_points_at_them_finds_them(tmp_path: Path) -> None:
    page = Page(written(tmp_path, predictions(), learning_curve=CURVE))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20
    pointed = {value[1:] for name, value in page.attributes if name in ("href", "xlink:href")}
    pointed |= {address[1:] for _, value in page.attributes for address in re.findall(r"url\((.*?)\)", value)}
    assert pointed <= set(ids)


def test_what_users_wrote_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    frame = predictions(truth=HOSTILE)
    source = written(
        tmp_path,
        frame,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        mistakes=costliest_mistakes(frame),
        learning_curve=CURVE,
    )
    page = Page(source)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) > 5
    assert f"{HOSTILE} SHOP" in page.text


def test_strings_of_a_bank_are_shown_only_where_they_are_given(tmp_path: Path) -> None:
    frame = predictions()
    assert "Groceries SHOP" not in written(tmp_path, frame)
    assert "Groceries SHOP" not in (tmp_path / "evaluation.json").read_text("utf-8")
    assert "Groceries SHOP" in Page(written(tmp_path, frame, mistakes=costliest_mistakes(frame))).text


def test_what_is_not_there_is_said_and_not_drawn(tmp_path: Path) -> None:
    page = Page(written(tmp_path, predictions(months=1, is_unseen=False, is_applied=False)))
    assert page.tags.count("svg") == 2
    for said in (
        "it would apply none by itself",
        "nothing was put to the test",
        "there are no months to compare",
        "Not measured this time.",
        "there were none",
    ):
        assert said in page.text


def test_a_single_right_row_makes_a_page(tmp_path: Path) -> None:
    source = written(tmp_path, predictions(truth="Gifts", amount=0.0).head(1))
    page = Page(source)
    assert "Of 100 transactions it gets all right" in page.text
    assert "1 transaction, 2025-01" in page.text
    assert "Nothing was taken for anything else." in page.text
    assert 'title="1 of 1">100</td>' in source


def test_the_same_figures_are_written_as_json(tmp_path: Path) -> None:
    frame = predictions()
    written(tmp_path, frame, learning_curve=CURVE)
    figures = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    evaluation = json.loads(json.dumps(dataclasses.asdict(evaluate(frame, target_error=0.01))))
    assert {name: figures[name] for name in evaluation} == evaluation
    assert figures["title"] == "Champion 7"
    assert figures["learning_curve"][1] == {"labels": 100, "accuracy": 0.7, "f1_macro": 0.5}


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path, predictions(), learning_curve=CURVE) for _ in range(2))
    assert first == second


def test_every_category_and_month_is_drawn_or_listed(tmp_path: Path) -> None:
    names = [f"Category {number}" for number in range(20)]
    frame = predictions(months=12).with_columns(truth=pl.Series([names[row % 20] for row in range(60)]))
    page = Page(written(tmp_path, frame))
    for name in names:
        assert name in page.text
    assert "of the 12 most frequent" in page.text
    assert "any other" in page.text


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "none"), (0.0004, "fewer than 0.1"), (0.0062, "0.6"), (0.00999, "1"), (0.014, "1"), (0.714, "71"),
        (0.994, "99"), (0.996, "99.6"), (0.9999, "more than 99.9"), (1.0, "all"),
    ],
)  # fmt: skip
def test_shares_are_told_as_so_many_of_a_hundred(share: float, words: str) -> None:
    assert of_hundred(share) == words


def test_the_headline_counts_wrong_ones_of_the_hundred() -> None:
    evaluation = evaluate(predictions(), target_error=0.01)
    applied = AutoApplyScores(0.01, Interval(0.71, 0.7, 0.72), Interval(0.0085, 0.0, 0.02), 6)
    told: Evaluation = dataclasses.replace(evaluation, accuracy=Interval(0.934, 0.92, 0.94), auto_apply=applied)
    assert (
        headline(told)
        == "Of 100 transactions it gets 93 right; it would apply 71 by itself, of which 0.6 would be wrong."
    )


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, "Nothing was sure enough"),
        (Interval(0.01, 0.0, 0.03), "It was kept"),
        (Interval(0.02, 0.005, 0.03), "by no more than chance explains"),
        (Interval(0.03, 0.02, 0.04), "It was not kept"),
    ],
)
def test_a_promise_is_judged_by_its_interval(error: Interval | None, verdict: str) -> None:
    assert verdict in judge_promise(AutoApplyScores(0.01, Interval(0.7, 0.6, 0.8), error, 5))
