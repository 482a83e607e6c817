"""The gate: what lets a model become champion, and what does not."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from app.ml.bootstrap import compare_paired
from app.ml.evaluate import PREDICTION_SCHEMA, evaluate
from app.ml.gate import FEWEST_FIRST_ROWS, FEWEST_ROWS, LOST_SUPPORT, judge, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.ml.gate import Kind, Verdict

CLASSES = ("Groceries", "Fuel", "Rent", "Eating out")


def predictions(right: Sequence[bool], *, confidence: float = 0.9, truths: Sequence[str] = CLASSES) -> pl.DataFrame:
    """Make predictions of rows with strings of their own; the wrong ones say that it is something else."""
    rows: list[dict[str, Any]] = []
    for number, is_right in enumerate(right):
        truth = truths[number % len(truths)]
        rows.append(
            {
                "txn_id": number, "month": dt.date(2025, 1, 1), "account": "card",
                "description": "SHOP " + "".join(chr(97 + int(digit)) for digit in str(number)), "truth": truth,
                "predicted": truth if is_right else f"not {truth}", "confidence": confidence,
                "truth_probability": confidence if is_right else 0.0, "truth_rank": 1 if is_right else None,
                "probability_squares": confidence**2, "amount": -1.0, "is_unseen": False, "is_unseen_account": False,
                "is_applied": False,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=PREDICTION_SCHEMA)


def verdict(kind: Kind, ours: pl.DataFrame, theirs: pl.DataFrame) -> Verdict:
    scores = [evaluate(each, target_error=0.05) for each in (ours, theirs)]
    return judge(kind, compare_paired(ours, theirs), scores[0], scores[1], "version 3")


def some(rows: int, wrong: int) -> list[bool]:
    """Say which of some rows are right: all but the first few."""
    return [number >= wrong for number in range(rows)]


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "passes"),
    [
        ("refresh", 100, 100, True),  # the same predictions
        ("new_recipe", 100, 100, False),
        ("first", 100, 100, True),
        ("refresh", 60, 100, True),
        ("new_recipe", 60, 100, True),
        ("first", 60, 100, True),
        ("refresh", 101, 100, True),  # one of 2,000 rows
        ("refresh", 120, 100, False),
        ("first", 120, 100, False),
        ("new_recipe", 99, 100, False),  # better, but no more than chance
    ],
)
def test_a_refresh_must_not_be_worse_and_a_new_recipe_must_be_better(
    kind: Kind, ours: int, theirs: int, *, passes: bool
) -> None:
    decided = verdict(kind, predictions(some(2_000, ours)), predictions(some(2_000, theirs)))
    assert decided.passed is passes, decided.reasons
    assert "version 3" in decided.reasons[0]
    assert decided.figures["accuracy_difference"] == pytest.approx((theirs - ours) / 2_000)
    assert decided.figures["kind"] == kind


def test_a_refusal_says_by_how_much_and_that_chance_is_allowed_for() -> None:
    decided = verdict("refresh", predictions(some(2_000, 120)), predictions(some(2_000, 100)))
    assert len(decided.reasons) == 1
    assert "worse by more than 0.5 points: the difference to version 3 is -1.00 points" in decided.reasons[0]


def test_a_difference_that_chance_may_explain_is_no_proof_that_it_is_not_worse() -> None:
    """Both are right equally often, on different rows: the interval is wide, and so it is refused."""
    ours, theirs = [n % 5 != 0 for n in range(400)], [n % 5 != 1 for n in range(400)]
    decided = verdict("refresh", predictions(ours), predictions(theirs))
    assert decided.figures["accuracy_difference"] == 0
    assert not decided.passed


@pytest.mark.parametrize("kind", ["refresh", "new_recipe"])
def test_few_rows_are_too_few_to_judge_by_whatever_they_say(kind: Kind) -> None:
    decided = verdict(kind, predictions(some(FEWEST_ROWS - 1, 0)), predictions(some(FEWEST_ROWS - 1, 30)))
    assert not decided.passed
    assert f"at least {FEWEST_ROWS} are needed" in decided.reasons[0]
    assert verdict(kind, predictions(some(FEWEST_ROWS, 0)), predictions(some(FEWEST_ROWS, 30))).passed


def test_a_first_model_of_a_small_ledger_must_be_right_as_often_as_the_heuristics() -> None:
    rows = FEWEST_FIRST_ROWS
    # On different rows, so that no interval would let it through.
    as_good = predictions([n != 0 for n in range(rows)]), predictions([n != 1 for n in range(rows)])
    assert verdict("first", *as_good).passed
    worse = verdict("first", predictions(some(rows, 2)), predictions(some(rows, 1)))
    assert not worse.passed
    assert "1 fewer right" in worse.reasons[0]
    too_few = verdict("first", predictions(some(rows - 1, 0)), predictions(some(rows - 1, 0)))
    assert not too_few.passed
    assert "label more" in too_few.reasons[0]
    assert "lm models promote" in too_few.reasons[0]


def test_confidence_that_has_become_worse_refuses_a_model_that_is_right_as_often() -> None:
    right = some(400, 40)
    calibrated, boastful = predictions(right, confidence=0.9), predictions(right, confidence=0.93)
    decided = verdict("refresh", boastful, calibrated)
    assert not decided.passed
    assert "off by 0.030" in decided.reasons[0]
    assert verdict("refresh", calibrated, boastful).passed
    assert verdict("refresh", predictions(right, confidence=0.915), calibrated).passed, "within the tolerance"
    # Bins of a few rows say nothing about confidence.
    few = some(100, 10)
    assert verdict("refresh", predictions(few, confidence=0.99), predictions(few, confidence=0.9)).passed


def test_a_class_that_is_lost_refuses_a_model_that_is_better_over_all() -> None:
    truths = ["Groceries"] * 49 + ["Rent"]
    rows = 50 * LOST_SUPPORT
    is_rent = [number % 50 == 49 for number in range(rows)]
    theirs = [rent or number % 4 > 0 for number, rent in enumerate(is_rent)]
    ours = [not rent for rent in is_rent]
    decided = verdict("new_recipe", predictions(ours, truths=truths), predictions(theirs, truths=truths))
    assert decided.figures["accuracy_difference_low"] > 0
    assert not decided.passed
    assert decided.reasons == (
        f"It has lost what version 3 finds: Rent (of {LOST_SUPPORT} it finds 0.0%, version 3 100.0%).",
    )
    kept = [True] * rows
    assert verdict("new_recipe", predictions(kept, truths=truths), predictions(theirs, truths=truths)).passed


def test_a_class_of_a_few_rows_and_one_that_nobody_found_are_not_lost() -> None:
    truths = ["Groceries"] * 99 + ["Rent"]
    rows = 100 * (LOST_SUPPORT - 1)
    is_rent = [number % 100 == 99 for number in range(rows)]
    theirs = [rent or number % 4 > 0 for number, rent in enumerate(is_rent)]
    ours = [not rent for rent in is_rent]
    assert verdict("new_recipe", predictions(ours, truths=truths), predictions(theirs, truths=truths)).passed


def test_a_class_that_the_champion_hardly_finds_either_is_not_lost() -> None:
    truths = ["Groceries"] * 49 + ["Rent"]
    rows = 50 * LOST_SUPPORT
    # Of the rent a third.
    theirs = [number % 150 == 49 if number % 50 == 49 else number % 4 > 0 for number in range(rows)]
    ours = [number % 50 != 49 for number in range(rows)]
    assert verdict("new_recipe", predictions(ours, truths=truths), predictions(theirs, truths=truths)).passed


def test_all_reasons_are_given_at_once() -> None:
    right = some(400, 200)
    decided = verdict("new_recipe", predictions(right, confidence=0.99), predictions(some(400, 40), confidence=0.9))
    assert not decided.passed
    assert len(decided.reasons) > 1


def test_what_cannot_be_compared_is_refused_with_its_reason() -> None:
    assert refuse("It is gone.").reasons == ("It is gone.",)
    assert not refuse("It is gone.").passed
