"""A label that a person gives moves the next suggestion, without learning anew."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from app.db import read_frame, session_for_user
from app.ml.artefact import encode_artefact
from app.ml.category_model import (
    ESTIMATOR_SCHEMA,
    CategoryModel,
    known_labels,
    labels_of,
    model_to_artefact,
    places_of,
    score_places,
)
from app.ml.dataset import read_training_set
from app.ml.estimator import fit_model
from app.services.categories import add_category
from app.services.labels import remove_labels, write_labels

if TYPE_CHECKING:
    import psycopg

    from tests.integration.conftest import Ledger

NEXT_YEAR = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def known_now(connection: psycopg.Connection, ledger: Ledger) -> pl.DataFrame:
    return read_training_set(connection, NEXT_YEAR, category_set=ledger.user_id)


def suggestion(connection: psycopg.Connection, ledger: Ledger, model: CategoryModel, txn_id: int) -> dict[str, float]:
    """Say the probability of each label for a transaction, the likeliest first, from the labels in the database."""
    row = read_frame(
        connection,
        """
        SELECT user_id, account, date, ml_features.amount, ml_features.merchant, ml_features.mcc, channel, norm_desc
        FROM transactions INNER JOIN ml_features ON txn_id = id WHERE id = %(txn_id)s
        """,
        ESTIMATOR_SCHEMA,
        {"txn_id": txn_id},
    )
    known = known_now(connection, ledger)
    labels = labels_of(model, known)
    tomorrow = row["date"].to_physical().cast(pl.Int64).to_numpy() + 1
    scored = score_places(model, places_of(row), known_labels(known, labels), tomorrow)
    ranked = sorted(zip(labels, scored.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(ranked)


@pytest.fixture
def model(jobs_connection: psycopg.Connection, labelled: Ledger) -> CategoryModel:
    """What is learnt from the ledger as it stands."""
    return fit_model(known_now(jobs_connection, labelled))


def test_a_correction_of_a_merchant_moves_its_next_suggestion_without_training(
    jobs_connection: psycopg.Connection, labelled: Ledger, model: CategoryModel
) -> None:
    before_bytes = encode_artefact(*model_to_artefact(model))
    first, second = labelled.add("2025-02-01,CORNER SHOP,-3.50,card,", "2025-02-02,CORNER SHOP,-3.50,card,")
    before = suggestion(jobs_connection, labelled, model, second)
    loser = "Household" if next(iter(before)) == "Groceries" else "Groceries"
    started = time.perf_counter()
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {first: loser}, source="human")
    after = suggestion(jobs_connection, labelled, model, second)
    assert time.perf_counter() - started < 1
    assert next(iter(after)) == loser
    assert after[loser] > before[loser]
    assert encode_artefact(*model_to_artefact(model)) == before_bytes
    # What is taken back is forgotten.
    with session_for_user(labelled.user_id) as session:
        remove_labels(session, [first])
    assert suggestion(jobs_connection, labelled, model, second) == before


def test_a_settled_merchant_yields_to_corrections_as_they_add_up(
    jobs_connection: psycopg.Connection, labelled: Ledger, model: CategoryModel
) -> None:
    *corrected, asked = labelled.add(*[f"2025-02-{day:02},SHELL YORK,-41.00,card," for day in range(1, 5)])
    said = [suggestion(jobs_connection, labelled, model, asked)]
    assert next(iter(said[0])) == "Fuel"
    for txn_id in corrected:
        with session_for_user(labelled.user_id) as session:
            write_labels(session, {txn_id: "Household"}, source="human")
        said.append(suggestion(jobs_connection, labelled, model, asked))
    assert np.all(np.diff([each["Household"] for each in said]) > 0)
    assert np.all(np.diff([each["Fuel"] for each in said]) < 0)


def test_a_category_that_was_added_after_training_is_suggested_after_its_first_label(
    jobs_connection: psycopg.Connection, labelled: Ledger, model: CategoryModel
) -> None:
    first, second = labelled.add("2025-02-01,ZZGARDEN QX,-9.00,card,", "2025-02-02,ZZGARDEN QX,-9.00,card,")
    assert "Allotment" not in suggestion(jobs_connection, labelled, model, second)
    with session_for_user(labelled.user_id) as session:
        add_category(session, labelled.user_id, "Allotment")
        write_labels(session, {first: "Allotment"}, source="human")
    assert next(iter(suggestion(jobs_connection, labelled, model, second))) == "Allotment"
