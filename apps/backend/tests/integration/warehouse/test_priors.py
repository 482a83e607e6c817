"""One prior: SQL and Python compute the same, and it is cautious where it should be."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.config import WAREHOUSE_DIR
from app.ml import priors
from app.ml.dataset import SAMPLE_WEIGHTS

if TYPE_CHECKING:
    from conftest import Ledger, RunModels

LABELS = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.sampled_from(["m", "n"]),
        st.sampled_from("abc"),
        st.sampled_from(["human", "rule", "import"]),
    ),
    min_size=1,
    max_size=30,
).map(lambda rows: pl.DataFrame(rows, schema=priors.LABEL_SCHEMA, orient="row"))


@pytest.mark.parametrize("moment", ["now", "2024-09-01"])
def test_dim_merchants_and_priors_agree_row_by_row(messy_ledger: Ledger, run_models: RunModels, moment: str) -> None:
    as_of = messy_ledger.now() if moment == "now" else dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    run_models("dim_merchants", as_of=as_of)
    computed = priors.read_merchant_priors(messy_ledger.connection, as_of)
    confidence = priors.merchant_confidence(computed)

    stored = messy_ledger.rows("""
        SELECT user_id, merchant, category.key, category.value::text::numeric
        FROM marts.dim_merchants CROSS JOIN jsonb_each(category_probabilities) AS category
        ORDER BY user_id, merchant COLLATE "C", category.key COLLATE "C"
    """)
    expected = computed.select("user_id", "merchant", "label", "probability").rows()
    assert len(expected) > 10
    assert [row[:3] for row in stored] == [row[:3] for row in expected]
    assert [float(row[3]) for row in stored] == pytest.approx([row[3] for row in expected], abs=1e-9, rel=0)

    columns = (
        "user_id, merchant, label_count, top_category, confidence, top_probability, top_share_lower, top_share_upper"
    )
    stored = messy_ledger.rows(f"""
        SELECT {columns} FROM marts.dim_merchants WHERE label_count > 0 ORDER BY user_id, merchant COLLATE "C"
    """)
    expected = confidence.select(columns.split(", ")).rows()
    assert [row[:5] for row in stored] == [row[:5] for row in expected]
    for kept, wanted in zip(stored, expected, strict=True):
        assert [float(value) for value in kept[5:]] == pytest.approx(wanted[5:], abs=1e-9, rel=0)


def test_every_confidence_occurs_in_what_is_compared(messy_ledger: Ledger) -> None:
    confidence = priors.merchant_confidence(priors.read_merchant_priors(messy_ledger.connection, messy_ledger.now()))
    assert set(confidence["confidence"]) == {"high", "medium", "low"}


def test_constants_are_the_vars_of_the_dbt_project() -> None:
    project = yaml.safe_load((WAREHOUSE_DIR / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
    constants = {f"sample_weight_{source}": weight for source, weight in SAMPLE_WEIGHTS.items()} | {
        "prior_strength": priors.PRIOR_STRENGTH,
        "confidence_z": priors.CONFIDENCE_Z,
        "confidence_high": priors.CONFIDENCE_HIGH,
        "confidence_medium": priors.CONFIDENCE_MEDIUM,
    }
    assert {name: value for name, value in project.items() if name not in {"as_of", "strict"}} == constants


@given(LABELS)
def test_probabilities_of_a_merchant_leave_room_for_the_unseen(labels: pl.DataFrame) -> None:
    sums = priors.merchant_priors(labels).group_by("user_id", "merchant").agg(pl.col("probability").sum())
    assert sums["probability"].is_between(0, 1, closed="none").all()


@given(LABELS)
def test_one_users_labels_do_not_move_anothers_priors(labels: pl.DataFrame) -> None:
    first = pl.col("user_id") == 1
    alone = priors.merchant_priors(labels.filter(first))
    assert priors.merchant_priors(labels).filter(first).equals(alone)


@given(LABELS, st.sampled_from("abc"), st.sampled_from(["human", "rule", "import"]))
def test_a_label_more_makes_its_category_more_probable(labels: pl.DataFrame, label: str, source: str) -> None:
    more = pl.DataFrame([(1, "m", label, source)], schema=priors.LABEL_SCHEMA, orient="row")
    one = priors.merchant_priors(pl.concat([labels, more]))
    two = priors.merchant_priors(pl.concat([labels, more, more]))
    at = (pl.col("user_id") == 1) & (pl.col("merchant") == "m") & (pl.col("label") == label)
    assert two.filter(at)["probability"].item() > one.filter(at)["probability"].item()


@pytest.mark.parametrize(
    ("agreeing", "others", "confidence"), [(1, 0, "low"), (2, 0, "low"), (3, 0, "medium"), (8, 0, "medium"),
                                           (9, 0, "high"), (9, 1, "medium"), (30, 3, "high"), (5, 5, "low")],
)  # fmt: skip
def test_confidence_needs_labels_that_agree(agreeing: int, others: int, confidence: str) -> None:
    rows = [(1, "m", "a", "human")] * agreeing + [(1, "m", "b", "human")] * others
    labels = pl.DataFrame(rows, schema=priors.LABEL_SCHEMA, orient="row")
    assert priors.merchant_confidence(priors.merchant_priors(labels))["confidence"].to_list() == [confidence]


def test_no_labels_give_no_priors() -> None:
    computed = priors.merchant_priors(pl.DataFrame(schema=priors.LABEL_SCHEMA))
    assert computed.is_empty()
    assert priors.merchant_confidence(computed).is_empty()
