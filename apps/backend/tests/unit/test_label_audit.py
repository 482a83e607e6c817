"""Doubted labels: that planted slips are found, and that what is no slip is left alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

from app.ml.builtin_knowledge import builtin_categories
from app.ml.evaluate import PREDICTION_SCHEMA
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.ml.hierarchical_prior import LABEL_SCHEMA, MERCHANT_LEVELS, count_labels, fit_profile, rank_candidates
from app.ml.label_audit import AUDIT_SCHEMA, find_doubtful_labels
from app.services.sample import generate_ledger

RIGHT = {
    "txn_id": 0,
    "month": dt.date(2025, 1, 1),
    "account": "CURRENT",
    "description": "ALDI",
    "truth": "Groceries",
    "predicted": "Groceries",
    "confidence": 0.95,
    "truth_probability": 0.95,
    "truth_rank": 1,
    "probability_squares": 0.9,
    "amount": -10.0,
    "is_unseen": False,
    "is_unseen_account": False,
    "is_applied": True,
}
SLIP = RIGHT | {"truth": "Gifts", "truth_probability": 0.01, "truth_rank": 2, "confidence": 0.97}
GIFT = RIGHT | {
    "description": "FLORIST",
    "truth": "Gifts",
    "predicted": "Gifts",
    "truth_probability": 0.6,
    "confidence": 0.6,
}


def audited(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    ledger = [*[RIGHT] * 20, *[GIFT] * 5, *rows]
    frame = pl.DataFrame(ledger, schema=PREDICTION_SCHEMA)
    return find_doubtful_labels(frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("txn_id"))).to_dicts()


def test_a_label_that_hardly_anything_speaks_for_is_doubted_and_the_reason_says_why() -> None:
    (doubt,) = audited(SLIP)
    assert (doubt["txn_id"], doubt["label"], doubt["suggestion"]) == (25, "Gifts", "Groceries")
    assert (doubt["probability"], doubt["label_probability"]) == (0.97, 0.01)
    assert doubt["stake"] == pytest.approx(9.9)
    assert doubt["reason"] == (
        "Groceries is 97% likely, Gifts 1%, and what is labelled Gifts usually gets 50%. "
        "Of 21 transactions with such a description, this one alone is so labelled."
    )


def test_the_only_transaction_of_its_kind_is_doubted_by_others_like_it() -> None:
    (doubt,) = audited(SLIP | {"description": "ALDI SUED", "truth_probability": 0.0, "confidence": 0.999})
    assert doubt["reason"].startswith("Groceries is over 99% likely, Gifts under 1%, ")
    assert doubt["reason"].endswith("It is the only one with such a description, so others like it speak for this.")


def test_more_money_comes_first() -> None:
    small, large = SLIP | {"amount": -1.0}, SLIP | {"amount": 500.0, "description": "LIDL"}
    assert [doubt["amount"] for doubt in audited(small, large)] == [500.0, -1.0]


def test_each_category_is_measured_by_how_sure_the_model_usually_is_of_it() -> None:
    # 0.7 is much for gifts, which usually get 0.6, and little for groceries, which usually get 0.95.
    as_gift = RIGHT | {
        "description": "CARDS",
        "predicted": "Gifts",
        "confidence": 0.7,
        "truth_probability": 0.02,
        "truth_rank": 2,
    }
    as_groceries = SLIP | {"confidence": 0.7}
    assert [doubt["suggestion"] for doubt in audited(as_gift, as_groceries)] == ["Gifts"]


@pytest.mark.parametrize(
    "row",
    [
        RIGHT | {"description": "CARDS", "predicted": "Gifts", "confidence": 0.65, "truth_probability": 0.3},
        SLIP | {"truth": "Cash", "truth_probability": 0.2},
        RIGHT,
    ],
    ids=[
        "near a tie",
        "as sure of the label as usual",
        "the label is the prediction",
    ],
)
def test_nothing_is_doubted_without_reason(row: dict[str, Any]) -> None:
    assert audited(row) == []


def test_the_first_use_of_a_category_is_no_mistake_for_being_the_first() -> None:
    first = SLIP | {"truth_rank": None, "truth_probability": 0.0, "truth": "Pets"}
    later = RIGHT | {"description": "VET", "truth": "Pets", "predicted": "Pets", "truth_probability": 0.8}
    assert audited(first, later) == []
    assert len(audited(first | {"truth_rank": 9}, later)) == 1


def test_a_category_that_nobody_uses_now_is_measured_by_all() -> None:
    (doubt,) = audited(SLIP | {"predicted": "Unused", "confidence": 0.98})
    assert doubt["suggestion"] == "Unused"
    assert audited(SLIP | {"predicted": "Unused", "confidence": 0.7}) == []


def test_what_a_string_is_called_time_and_again_is_a_decision() -> None:
    assert len(audited(SLIP, SLIP)) == 2
    assert audited(SLIP, SLIP, SLIP) == []
    # Store numbers make no other string.
    assert audited(*(SLIP | {"description": f"ALDI STORE {number}"} for number in (221, 222, 223))) == []
    # A merchant with many transactions is mistaken more than twice.
    assert len(audited(SLIP, SLIP, SLIP, *[RIGHT] * 60)) == 3


def test_no_rows_give_no_doubts() -> None:
    assert find_doubtful_labels(pl.DataFrame(schema=PREDICTION_SCHEMA)).schema == AUDIT_SCHEMA


def test_most_of_the_swapped_labels_of_a_ledger_are_found_and_most_of_what_is_found_was_swapped() -> None:
    rows, swapped = ledger_with_swapped_labels()
    predictions = predicted_month_by_month(rows)
    planted = swapped & set(predictions["txn_id"])
    doubts = find_doubtful_labels(predictions)
    found = planted & set(doubts["txn_id"])
    assert len(planted) > 50
    assert len(found) / len(planted) > 0.65
    assert len(found) / doubts.height > 0.7
    assert doubts["stake"].is_sorted(descending=True)
    assert len(planted & set(doubts["txn_id"].head(20))) / 20 > 0.6


def ledger_with_swapped_labels() -> tuple[pl.DataFrame, set[int]]:
    """A household's 24 months, with 2 % of the labels swapped for another; and which."""
    ledger = generate_ledger(seed=0)
    generator = np.random.default_rng(0)
    names = ledger["true_category"].unique().sort()
    drawn = names.gather(generator.integers(len(names), size=ledger.height))
    swapped = pl.Series(generator.random(ledger.height) < 0.02) & (drawn != ledger["true_category"])
    rows = ledger.select(
        *("date", "description", "amount", "account", "mcc"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("txn_id"),
        pl.lit(None, pl.Datetime("us")).alias("posted_at"),
        channel_hint="type",
        month=pl.col("date").dt.month_start(),
        label=pl.when(swapped).then(drawn).otherwise("true_category"),
    )
    return rows, set(rows.filter(swapped)["txn_id"])


def predicted_month_by_month(rows: pl.DataFrame) -> pl.DataFrame:
    """Predict every month but the first six from the counts of what came before."""
    months = rows["month"].unique().sort()[6:]
    return pl.concat(
        [predicted(rows.filter(pl.col("month") == month), rows.filter(pl.col("month") < month)) for month in months]
    )


def predicted(test: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    labels = described(train).with_columns(label_source=pl.lit("import"), labels=pl.lit(1, pl.Int64))
    profile = fit_profile(labels.select(list(LABEL_SCHEMA)))
    counts = {level: count_labels(labels, level) for level in MERCHANT_LEVELS}
    candidates = rank_candidates(described(test), profile, counts).with_columns(
        rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("txn_id")
    )
    best = candidates.filter(pl.col("rank") == 1).select("txn_id", predicted="label", confidence="probability")
    own = candidates.select("txn_id", truth="label", truth_probability="probability", truth_rank="rank")
    last = pl.lit(len(profile.base_rates), pl.Int32)
    return (
        test.rename({"label": "truth"})
        .join(best, on="txn_id")
        .join(own, on=["txn_id", "truth"], how="left")
        .with_columns(
            pl.col("amount").cast(pl.Float64),
            pl.col("truth_probability").fill_null(0.0),
            # A category that nothing speaks for here, but that is in use.
            truth_rank=pl.when(pl.col("truth").is_in(list(profile.base_rates))).then(
                pl.col("truth_rank").fill_null(last)
            ),
            probability_squares=pl.lit(0.0),
            is_unseen=~pl.col("description").is_in(train["description"].implode()),
            is_unseen_account=pl.lit(value=False),
            is_applied=pl.lit(value=False),
        )
        .select(PREDICTION_SCHEMA.names())
    )


def described(rows: pl.DataFrame) -> pl.DataFrame:
    features = build_features(rows.select(list(TRANSACTION_SCHEMA)))
    return features.select(
        "txn_id", "merchant", "norm_desc", builtin_categories(features).alias("builtin")
    ).with_columns(rows["account"], *([rows["label"]] if "label" in rows.columns else []))
