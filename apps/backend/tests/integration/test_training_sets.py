"""Training sets: whose rows and whose words a category set is made of, and what the fit reads of them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from sqlalchemy import text

from app.config import LabelWeights, get_settings
from app.db import session_for_jobs, session_for_user
from app.ml.dataset import TRAINING_SCHEMA, dataset_hash, read_training_set
from app.services.categories import add_category, rename_or_merge
from app.services.installation import ensure_user
from app.services.labels import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.integration.conftest import Ledger

NEXT_YEAR = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def labels_of(connection: psycopg.Connection, category_set: int | None, **options: Any) -> list[str]:
    read = read_training_set(connection, options.pop("as_of", NEXT_YEAR), category_set=category_set, **options)
    assert read.schema == TRAINING_SCHEMA
    return read["label"].to_list()


def test_the_shared_set_is_made_of_everybody_who_uses_it_and_of_nobody_else(
    jobs_connection: psycopg.Connection, ledger: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    ledger.add("2025-01-01,ALDI,-1.00,card,Groceries")
    ledger_of("neighbour").add("2025-01-02,ALDI,-1.00,card,Eating out")
    own = ledger_of("own categories")
    own.add("2025-01-03,ALDI,-1.00,card,Lebensmittel", "2025-01-04,RENT,-1.00,card,Rent")
    ensure_user("demo", is_demo=True)
    demo = ledger_of("demo")
    demo.add("2025-01-04,ALDI,-1.00,card,Groceries")
    assert labels_of(jobs_connection, None) == ["Groceries", "Eating out"]
    assert labels_of(jobs_connection, own.user_id) == ["Lebensmittel", "Rent"]
    assert labels_of(jobs_connection, demo.user_id) == ["Groceries"]


def test_the_shared_set_learns_no_category_that_a_user_added_and_no_name_that_one_gave(
    jobs_connection: psycopg.Connection, ledger: Ledger
) -> None:
    first, second = ledger.add("2025-01-01,ALDI,-1.00,card,Groceries", "2025-01-02,SHED,-1.00,card,")
    with session_for_user(ledger.user_id) as session:
        add_category(session, ledger.user_id, "Allotment")
        write_labels(session, {second: "Allotment"}, source="human")
        rename_or_merge(session, ledger.user_id, "Groceries", "Food")
    assert labels_of(jobs_connection, None) == ["Groceries"]
    assert labels_of(jobs_connection, ledger.user_id) == ["Food", "Allotment"]
    with session_for_user(ledger.user_id) as session:
        # A category of one's own that was merged into a shared one is that one.
        rename_or_merge(session, ledger.user_id, "Allotment", "Presents")
    assert labels_of(jobs_connection, None) == ["Groceries", "Presents"]
    assert first > 0


def test_the_shared_word_is_that_of_the_last_of_several_labels_given_at_one_moment(
    jobs_connection: psycopg.Connection, ledger: Ledger
) -> None:
    (txn_id,) = ledger.add("2025-01-01,ALDI,-1.00,card,")
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {txn_id: "Groceries"}, source="human")
        write_labels(session, {txn_id: "Presents"}, source="human")
    assert labels_of(jobs_connection, None) == ["Presents"]


def test_a_label_that_came_with_its_row_says_that_its_moment_is_assumed(
    jobs_connection: psycopg.Connection, ledger: Ledger
) -> None:
    _, second = ledger.add("2025-01-01,ALDI,-1.00,card,Groceries", "2025-01-02,ALDI,-1.00,card,Groceries")
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {second: "Presents"}, source="human")
    read = read_training_set(jobs_connection, NEXT_YEAR, category_set=None)
    assert read["label_is_assumed"].to_list() == [True, False]
    strict = read_training_set(jobs_connection, NEXT_YEAR, category_set=None, strict=True)
    assert strict["label_is_assumed"].to_list() == [False, False]
    # Walking forward through imported years works; on record there was nothing then.
    mid_january = dt.datetime(2025, 1, 15, tzinfo=dt.UTC)
    assert labels_of(jobs_connection, None, as_of=mid_january) == ["Groceries", "Groceries"]
    assert labels_of(jobs_connection, None, as_of=mid_january, strict=True) == []


def test_a_label_weighs_what_its_source_does(
    jobs_connection: psycopg.Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = ledger.add("2025-01-01,ALDI,-1.00,card,Groceries", "2025-01-02,ALDI,-1.00,card,Groceries")
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {second: "Presents"}, source="human")
    assert weights(jobs_connection, None) == [0.5, 3.0]
    monkeypatch.setenv("LM_LABEL_WEIGHTS", '{"human": 0.1, "import": 2}')
    get_settings.cache_clear()
    set_by_hand = get_settings().label_weights
    get_settings.cache_clear()
    assert set_by_hand.rule == 1.0
    assert weights(jobs_connection, set_by_hand) == [2.0, 0.1]


def weights(connection: psycopg.Connection, by_source: LabelWeights | None) -> list[float]:
    read = read_training_set(connection, NEXT_YEAR, category_set=None, weights=by_source)
    return read["sample_weight"].to_list()


@pytest.mark.parametrize("weight", ["0", "-1", "NaN", '"x"'])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(ValueError, match="human"):
        LabelWeights.model_validate_json(f'{{"human": {weight}}}')


def test_everything_that_the_fit_reads_is_in_the_hash(jobs_connection: psycopg.Connection, ledger: Ledger) -> None:
    ledger.add("2025-01-01,ALDI,-1.00,card,Groceries", "2025-01-02,ALDI,-1.00,card,Groceries")
    read = read_training_set(jobs_connection, NEXT_YEAR, category_set=None)
    hashes = {dataset_hash(read), dataset_hash(read.reverse()), dataset_hash(read.head(1))}
    for column in read.columns:
        # What is missing from every row already is made to be there.
        other = "1" if read[column].null_count() == read.height else None
        hashes.add(dataset_hash(read.with_columns(pl.lit(other).cast(read.schema[column]).alias(column))))
    assert len(hashes) == 3 + len(read.columns)


def test_the_same_moment_gives_the_same_hash_whatever_happens_later_to_anybody_on_the_shared_set(
    jobs_connection: psycopg.Connection, ledger: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    first, second, third = ledger.add(*(f"2025-01-0{day},ALDI,-{day}.00,card,Groceries" for day in (1, 2, 3)))
    neighbour = ledger_of("neighbour")
    neighbour.add("2025-01-02,SHELL,-1.00,card,Eating out")
    with session_for_jobs() as session:
        moment = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    before = dataset_hash(read_training_set(jobs_connection, moment, category_set=None))
    present = dataset_hash(read_training_set(jobs_connection, NEXT_YEAR, category_set=None))
    seen = {present}
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {first: "Presents"}, source="human")
    for change in (
        "UPDATE transactions SET deleted_at = now() WHERE id = %(second)s",
        "DELETE FROM transaction_labels WHERE txn_id = %(third)s",
        "UPDATE transactions SET merchant_canonical = 'Renamed'",
    ):
        seen.add(dataset_hash(read_training_set(jobs_connection, NEXT_YEAR, category_set=None)))
        jobs_connection.execute(change, {"second": second, "third": third})
    with session_for_user(neighbour.user_id) as session:
        rename_or_merge(session, neighbour.user_id, "Eating out", "Presents")
    # Dated like history it would be taken to have been known before.
    neighbour.add(f"{moment + dt.timedelta(days=1):%Y-%m-%d},SHELL,-1.00,card,Presents")
    seen.add(dataset_hash(read_training_set(jobs_connection, NEXT_YEAR, category_set=None)))
    assert len(seen) == 5, "some of it changed nothing, and so proves nothing"
    assert dataset_hash(read_training_set(jobs_connection, moment, category_set=None)) == before
