"""Scores, against calculations by hand and against the properties they must have."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from app.errors import InvalidInput
from app.ml.evaluate import LEAST_PROBABILITY, PREDICTION_SCHEMA, evaluate, score_forced, score_selective
from app.ml.learning_curve import LearningPoint, curve_sizes, learning_curve
from app.ml.mistakes import costliest_mistakes

ROWS = pl.DataFrame(
    [("A", "A", 0.9), ("A", "B", 0.6), ("B", "B", 0.8), ("C", "B", 0.3)],
    schema=["truth", "predicted", "confidence"],
    orient="row",
)


def prediction(**given: Any) -> dict[str, Any]:
    right = given.get("truth", "A") == given.get("predicted", "A")
    confidence = given.get("confidence", 0.8)
    return {
        "txn_id": 0,
        "month": dt.date(2025, 1, 1),
        "account": "CURRENT",
        "description": "ALDI",
        "truth": "A",
        "predicted": "A",
        "confidence": confidence,
        "truth_probability": confidence if right else 0.1,
        "truth_rank": 1 if right else 2,
        "probability_squares": confidence**2,
        "amount": -10.0,
        "is_unseen": False,
        "is_unseen_account": False,
        "is_applied": False,
    } | given


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=PREDICTION_SCHEMA).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("txn_id")
    )


def drawn_at_random(rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    """Predictions with their whole distributions, for a second opinion."""
    generator = np.random.default_rng(seed)
    classes = ["A", "B", "C", "D", "E"]
    probabilities = generator.dirichlet([0.4] * 5, size=rows)
    truth = np.array([generator.choice(5, p=0.7 * row + 0.06) for row in probabilities])
    order = np.argsort(-probabilities, axis=1)
    made = pl.DataFrame(
        {
            "txn_id": np.arange(rows),
            "month": [dt.date(2025, 1 + row % 6, 1) for row in range(rows)],
            "account": ["CURRENT"] * rows,
            "description": [f"SHOP{chr(65 + row % 23)}" for row in range(rows)],
            "truth": [classes[number] for number in truth],
            "predicted": [classes[number] for number in order[:, 0]],
            "confidence": probabilities.max(axis=1),
            "truth_probability": probabilities[np.arange(rows), truth],
            "truth_rank": (order == truth[:, None]).argmax(axis=1) + 1,
            "probability_squares": (probabilities**2).sum(axis=1),
            "amount": -generator.gamma(1.0, 30, size=rows).round(2),
            "is_unseen": generator.random(rows) < 0.2,
            "is_unseen_account": [False] * rows,
            "is_applied": probabilities.max(axis=1) > 0.9,
        },
        schema=PREDICTION_SCHEMA,
    )
    return made, probabilities, classes


def test_accuracy_is_the_share_of_right_predictions() -> None:
    assert score_forced(ROWS).accuracy == 0.5


def test_macro_f1_gives_every_category_that_is_true_or_predicted_the_same_say() -> None:
    # A: precision 1, recall 1/2; B: precision 1/3, recall 1; C is never predicted.
    assert score_forced(ROWS).f1_macro == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    invented = pl.concat([ROWS, pl.DataFrame([("A", "D", 0.1)], schema=ROWS.schema, orient="row")])
    assert score_forced(invented).f1_macro == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)


def test_calibration_error_is_the_mean_distance_of_confidence_from_accuracy() -> None:
    # Four rows fall into bins of their own.
    assert score_forced(ROWS).ece == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    honest = pl.DataFrame({"truth": ["A"] * 10, "predicted": ["A"] * 8 + ["B"] * 2, "confidence": [0.8] * 10})
    assert score_forced(honest).ece == pytest.approx(0)


def test_bins_hold_equally_many_rows_wherever_their_confidences_lie() -> None:
    # 30 rows between 0.990 and 0.999 would share one bin of equal width, where too much and too little cancel out.
    confidence = [0.99 + row / 3000 for row in range(30)]
    rows = pl.DataFrame({"truth": ["A"] * 30, "predicted": ["A", "B"] * 15, "confidence": confidence})
    assert score_forced(rows).ece == pytest.approx(np.mean(confidence) - 0.5)
    half = rows.with_columns(predicted=pl.Series(["B"] * 15 + ["A"] * 15))
    assert score_forced(half).ece == pytest.approx(0.5, abs=0.02)
    bins = evaluate(frame(*(prediction(confidence=value) for value in confidence)), target_error=0.01).reliability
    assert [each.rows for each in bins] == [2] * 15


def test_equal_confidences_share_a_bin_so_that_the_order_of_rows_decides_nothing() -> None:
    rows = pl.DataFrame({"truth": ["A"] * 40, "predicted": ["A"] * 20 + ["B"] * 20, "confidence": [0.5] * 40})
    assert score_forced(rows).ece == pytest.approx(0)
    mixed = drawn_at_random(500)[0].with_columns(pl.col("confidence").round(1))
    assert score_forced(mixed.reverse()).ece == pytest.approx(score_forced(mixed).ece)


def test_selective_scores_count_what_is_said_and_how_much_of_that_is_wrong() -> None:
    said = score_selective(ROWS, 0.6)
    assert said.coverage == 0.75
    assert said.error == pytest.approx(1 / 3)
    assert score_selective(ROWS, 0.95) == score_selective(ROWS, 1.0)
    assert (score_selective(ROWS, 0.95).coverage, score_selective(ROWS, 0.95).error) == (0.0, 0.0)
    assert score_selective(ROWS, 0.0, offered=pl.col("truth") != "C").coverage == 0.75


def test_scores_agree_with_another_implementation() -> None:
    rows, probabilities, classes = drawn_at_random(2000)
    measured = evaluate(rows, target_error=0.01)
    truth, said = rows["truth"].to_list(), rows["predicted"].to_list()
    assert measured.f1_macro.value == pytest.approx(f1_score(truth, said, average="macro"))
    clipped = probabilities.clip(LEAST_PROBABILITY)
    clipped /= clipped.sum(axis=1, keepdims=True)
    assert measured.log_loss.value == pytest.approx(log_loss(truth, clipped, labels=classes), abs=1e-5)
    actual = np.array([[label == name for name in classes] for label in truth])
    assert measured.brier.value == pytest.approx(((probabilities - actual) ** 2).sum(axis=1).mean())
    precision, recall, f1, support = precision_recall_fscore_support(truth, said, labels=classes)
    ours = sorted(measured.per_class, key=lambda each: each.label)
    assert [each.precision for each in ours] == pytest.approx(list(precision))
    assert [each.recall for each in ours] == pytest.approx(list(recall))
    assert [each.f1 for each in ours] == pytest.approx(list(f1))
    assert [each.support for each in ours] == list(support)


def test_the_two_ways_to_score_agree() -> None:
    rows, _, _ = drawn_at_random(1500)
    measured, forced = evaluate(rows, target_error=0.01), score_forced(rows)
    assert measured.accuracy.value == pytest.approx(forced.accuracy)
    assert measured.f1_macro.value == pytest.approx(forced.f1_macro)
    assert measured.ece == pytest.approx(forced.ece)
    selective = score_selective(rows, 0.9)
    assert measured.auto_apply.error is not None
    assert measured.auto_apply.coverage.value == pytest.approx(selective.coverage)
    assert measured.auto_apply.error.value == pytest.approx(selective.error)


def test_every_interval_holds_its_value_and_the_order_of_rows_decides_nothing() -> None:
    rows, _, _ = drawn_at_random(800)
    measured = evaluate(rows, target_error=0.01)
    assert evaluate(rows.sample(fraction=1, shuffle=True, seed=3), target_error=0.01) == measured
    for name in ("accuracy", "f1_macro", "top3_accuracy", "log_loss", "brier", "wrong_money"):
        interval = getattr(measured, name)
        assert interval.low < interval.value < interval.high, name


def test_a_truth_that_is_no_class_of_the_model_costs_what_can_be_paid() -> None:
    unknown = prediction(truth="NEW", truth_probability=0.0, truth_rank=None, confidence=0.9, probability_squares=0.82)
    measured = evaluate(frame(unknown), target_error=0.01)
    assert measured.log_loss.value == pytest.approx(-math.log(LEAST_PROBABILITY))
    assert measured.brier.value == pytest.approx(1.82)
    assert measured.unknown_share == 1.0
    assert measured.top3_accuracy.value == 0.0
    assert measured.accuracy.value == 0.0


def test_the_truth_may_be_second_or_third_but_not_fourth() -> None:
    rows = [prediction(truth="B", truth_rank=rank) for rank in (2, 3, 4, 5)]
    assert evaluate(frame(*rows), target_error=0.01).top3_accuracy.value == 0.5


def test_money_counts_by_its_absolute_amount() -> None:
    rows = [prediction(amount=-30.0), prediction(amount=60.0), prediction(truth="B", amount=-10.0)]
    money = evaluate(frame(*rows), target_error=0.01).wrong_money
    assert money is not None
    assert money.value == pytest.approx(0.1)
    assert evaluate(frame(prediction(amount=0.0)), target_error=0.01).wrong_money is None


def test_unseen_strings_and_accounts_are_scored_on_their_own() -> None:
    rows = [
        prediction(is_unseen=True, truth="B"),
        prediction(is_unseen=True),
        prediction(is_unseen_account=True),
        prediction(truth="B"),
    ]
    measured = evaluate(frame(*rows), target_error=0.01)
    assert (measured.unseen.rows, measured.unseen.share) == (2, 0.5)
    assert measured.unseen.accuracy is not None
    assert measured.unseen.accuracy.value == 0.5
    assert measured.unseen_account.accuracy is not None
    assert measured.unseen_account.accuracy.value == 1.0
    none = evaluate(frame(prediction()), target_error=0.01).unseen
    assert (none.rows, none.share, none.accuracy) == (0, 0.0, None)


def test_what_is_applied_is_told_by_the_system_and_not_by_confidence() -> None:
    rows = [
        prediction(is_applied=True, confidence=0.6),
        prediction(is_applied=True, confidence=0.7, truth="B"),
        prediction(confidence=0.99),
        prediction(confidence=0.99, truth="B"),
    ]
    applied = evaluate(frame(*rows), target_error=0.02).auto_apply
    assert applied.error is not None
    assert (applied.target_error, applied.coverage.value, applied.error.value, applied.wrong) == (0.02, 0.5, 0.5, 1)
    assert evaluate(frame(prediction()), target_error=0.02).auto_apply.error is None


def test_the_curve_goes_from_the_surest_rows_to_all_and_equal_ones_enter_together() -> None:
    rows = [
        prediction(confidence=0.9),
        prediction(confidence=0.7, truth="B"),
        prediction(confidence=0.7),
        prediction(confidence=0.3, truth="B"),
    ]
    measured = evaluate(frame(*rows), target_error=0.01)
    points = [(point.threshold, point.coverage, point.error) for point in measured.risk_coverage]
    assert points == [(0.9, 0.25, 0.0), (0.7, 0.75, pytest.approx(1 / 3)), (0.3, 1.0, 0.5)]
    assert measured.aurc == pytest.approx((0 + 2 / 3 + 0.5) / 4)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = evaluate(drawn_at_random(3000)[0], target_error=0.01).risk_coverage
    assert 150 < len(curve) <= 200
    assert curve[0].coverage == pytest.approx(1 / 3000)
    assert curve[-1].coverage == 1.0


def test_months_are_scored_one_by_one() -> None:
    rows = [
        prediction(month=dt.date(2025, 2, 1), truth="B", is_unseen=True, is_applied=True),
        prediction(month=dt.date(2025, 2, 1)),
        prediction(month=dt.date(2024, 12, 1)),
    ]
    measured = evaluate(frame(*rows), target_error=0.01)
    assert (measured.first_month, measured.last_month) == ("2024-12", "2025-02")
    december, february = measured.months
    assert (december.month, december.rows, december.accuracy.value, december.applied_error) == ("2024-12", 1, 1.0, None)
    assert (february.accuracy.value, february.unseen_share, february.coverage, february.applied_error) == (
        0.5,
        0.5,
        0.5,
        1,
    )


def test_confusions_say_what_was_taken_for_what() -> None:
    rows = [prediction(truth="B", amount=-5.0)] * 3 + [prediction(truth="B", predicted="B"), prediction(truth="C")]
    measured = evaluate(frame(*rows, prediction(), prediction()), target_error=0.01)
    largest = measured.confusions[0]
    assert (largest.truth, largest.predicted, largest.rows, largest.share, largest.amount) == ("B", "A", 3, 0.75, 15.0)
    assert measured.confusion_matrix.labels == ("B", "A", "C")
    assert measured.confusion_matrix.counts == ((1, 3, 0, 0), (0, 2, 0, 0), (0, 1, 0, 0))


def test_beyond_the_largest_categories_the_matrix_says_any_other() -> None:
    names = [f"C{number:02}" for number in range(20)]
    rows = [prediction(truth=name, predicted=name) for name in names for _ in range(2)]
    matrix = evaluate(frame(*rows, prediction(truth="C00", predicted="C19")), target_error=0.01).confusion_matrix
    assert matrix.labels == tuple(names[:12])
    assert matrix.counts[0] == (2, *[0] * 11, 1)


def test_the_costliest_mistakes_come_first_and_equal_ones_together() -> None:
    rows = [prediction(truth="B", amount=-4.0)] * 3 + [
        prediction(description="RENT", truth="C", amount=11.0),
        prediction(),
    ]
    found = costliest_mistakes(frame(*rows))
    assert [(each.description, each.truth, each.rows, each.amount) for each in found] == [
        ("ALDI", "B", 3, 12.0),
        ("RENT", "C", 1, 11.0),
    ]


def test_an_evaluation_is_json() -> None:
    rows = [
        prediction(truth="NEW", truth_rank=None, truth_probability=0.0),
        prediction(predicted="NEVER TRUE", truth="A"),
    ]
    written = json.loads(json.dumps(asdict(evaluate(frame(*rows), target_error=0.01)), allow_nan=False))
    assert written["rows"] == 2
    assert written["unseen"]["accuracy"] is None


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        (frame(prediction()).drop("amount"), "'amount' must be Float64, not None"),
        (frame(prediction()).with_columns(pl.col("txn_id").cast(pl.Int32)), "'txn_id' must be Int64, not Int32"),
        (frame(prediction(truth=None)), "'truth' has nulls"),
    ],
)
def test_other_columns_are_refused(spoilt: pl.DataFrame, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluate(spoilt, target_error=0.01)


def test_no_rows_are_an_error_that_says_so() -> None:
    with pytest.raises(InvalidInput, match="nothing to evaluate"):
        evaluate(frame(prediction()).clear(), target_error=0.01)


def test_a_learning_curve_doubles_the_labels_up_to_all() -> None:
    assert curve_sizes(450) == (50, 100, 200, 400, 450)
    assert curve_sizes(400) == (50, 100, 200, 400)
    assert curve_sizes(7) == (7,)


def test_a_learning_curve_scores_each_number_of_labels_once_from_the_smallest() -> None:
    asked: list[int] = []

    def fit_and_score(labels: int) -> tuple[float, float]:
        asked.append(labels)
        return 1 - 1 / labels, 0.5

    assert learning_curve(fit_and_score, [4, 2, 4])[0] == LearningPoint(2, 0.5, 0.5)
    assert asked == [2, 4]
