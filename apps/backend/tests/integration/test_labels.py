"""Labels: a person gives them, takes them back and gives them in bulk, and nobody else's word gets in between."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from app.db import session_for_user
from app.errors import InvalidInput, NotFound
from app.main import create_app
from app.services.credentials import new_token
from app.services.installation import ensure_user
from app.services.labelling import LabelsWritten, categorise_transaction, label_transactions
from app.services.labels import remove_labels, restore_labels, write_labels
from app.services.transactions import read_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from app.services.labels import LabelChange

CATEGORIES = ["Groceries", "Eating out", "Fuel"]
THEIRS = 900


@pytest.fixture
def session(admin_connection: psycopg.Connection, user_id: int) -> Iterator[Session]:
    """A session of a user with transactions 1 to 9 and three categories; somebody else has 900."""
    rows = [(txn_id, user_id) for txn_id in range(1, 10)] + [(THEIRS, ensure_user("other"))]
    with admin_connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO transactions (id, user_id, account, date, amount, description, fingerprint)
            VALUES (%s, %s, 'card', '2025-03-03', -4.50, 'SHOP', int8send(%s))
            """,
            [(txn_id, owner, txn_id) for txn_id, owner in rows],
        )
        cursor.executemany(
            "INSERT INTO categories (user_id, name) VALUES (%s, %s)", [(user_id, name) for name in CATEGORIES]
        )
    with session_for_user(user_id) as session:
        yield session


@pytest.fixture
def client(session: Session, user_id: int) -> Iterator[TestClient]:
    """A program with a token of the user."""
    secret = new_token(session, user_id, name="test", scope="write").secret
    session.commit()
    with TestClient(create_app(), base_url="http://localhost:8000", client=("127.0.0.1", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        yield client


def labels(connection: psycopg.Connection) -> dict[int, tuple[str, str]]:
    rows = connection.execute("SELECT txn_id, label, source FROM transaction_labels ORDER BY txn_id")
    return {txn_id: (label, source) for txn_id, label, source in rows}


def events(connection: psycopg.Connection, txn_id: int) -> list[tuple[str | None, str | None]]:
    return connection.execute(
        "SELECT label, source FROM label_events WHERE txn_id = %s ORDER BY id", [txn_id]
    ).fetchall()


def category(connection: psycopg.Connection, txn_id: int) -> str | None:
    (shown,) = connection.execute("SELECT category FROM transactions WHERE id = %s", [txn_id]).fetchone() or (None,)
    return shown


def counted() -> float:
    return REGISTRY.get_sample_value("lm_labels_total", {"source": "human"}) or 0.0


# --- what a label does ---------------------------------------------------------------------------------------------


def test_a_label_written_by_hand_in_sql_is_the_transaction_s_category_and_has_its_event(
    session: Session, user_id: int, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute("UPDATE transactions SET id = 123 WHERE id = 1")
    admin_connection.execute(
        "INSERT INTO transaction_labels (txn_id, label, source) VALUES (123, 'Groceries', 'human')"
    )
    shown = read_transaction(session, user_id, 123)
    assert shown.category == "Groceries"
    assert shown.label is not None
    assert (shown.label.label, shown.label.source) == ("Groceries", "human")
    assert [(entry.label, entry.source) for entry in shown.history] == [("Groceries", "human")]


def test_a_removed_label_hides_the_category_and_stays_in_the_history(session: Session, user_id: int) -> None:
    write_labels(session, {1: "Groceries", 2: "Fuel"}, source="rule")
    assert read_transaction(session, user_id, 1).category == "Groceries"
    shown = categorise_transaction(session, user_id, 1, None)
    assert (shown.category, shown.label) == (None, None)
    assert [(entry.label, entry.source) for entry in shown.history] == [("Groceries", "rule"), (None, None)]
    assert read_transaction(session, user_id, 2).category == "Fuel"


def test_removing_a_label_that_is_not_there_changes_nothing(session: Session, user_id: int) -> None:
    assert categorise_transaction(session, user_id, 1, None).history == ()


def test_a_person_s_word_stands_above_a_rule_s_and_confirms_it(session: Session, user_id: int) -> None:
    write_labels(session, {1: "Groceries"}, source="rule")
    assert label_transactions(session, user_id, [(1, "Groceries")]) == LabelsWritten(1, 0, ())
    assert write_labels(session, {1: "Fuel"}, source="rule") == []
    shown = read_transaction(session, user_id, 1)
    assert shown.label is not None
    assert (shown.label.label, shown.label.source) == ("Groceries", "human")


def test_a_category_by_its_old_name_becomes_a_label_under_the_new_one(
    session: Session, user_id: int, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute(
        "INSERT INTO category_names (user_id, name, shown_as) VALUES (%s, 'Food', 'Groceries')", [user_id]
    )
    label_transactions(session, user_id, [(1, "Food"), (2, "Groceries"), (2, "Food")])
    session.commit()
    assert labels(admin_connection) == {1: ("Groceries", "human"), 2: ("Groceries", "human")}


# --- taking back ---------------------------------------------------------------------------------------------------


def test_restored_labels_are_exactly_what_the_change_found(
    session: Session, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute(
        "INSERT INTO transaction_labels (txn_id, label, source) "
        "VALUES (2, 'Fuel', 'import'), (3, 'Fuel', 'rule'), (4, 'Fuel', 'human')"
    )
    before = labels(admin_connection)
    changes = write_labels(session, dict.fromkeys(range(1, 6), "Groceries"), source="human")
    assert len(changes) == 5
    assert restore_labels(session, changes) == 5
    session.commit()
    assert labels(admin_connection) == before
    assert [category(admin_connection, txn_id) for txn_id in (1, 2, 3, 4, 5)] == [None, "Fuel", "Fuel", "Fuel", None]
    assert events(admin_connection, 1) == [("Groceries", "human"), (None, None)]
    assert events(admin_connection, 2) == [("Fuel", "import"), ("Groceries", "human"), ("Fuel", "import")]


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE transaction_labels SET label = 'Eating out' WHERE txn_id = 1",
        "UPDATE transaction_labels SET source = 'rule' WHERE txn_id = 1",
        "DELETE FROM transaction_labels WHERE txn_id = 1",
        # There and back again is not untouched: somebody meant it.
        """
        DELETE FROM transaction_labels WHERE txn_id = 1;
        INSERT INTO transaction_labels (txn_id, label, source) VALUES (1, 'Groceries', 'human')
        """,
        "UPDATE transactions SET deleted_at = now() WHERE id = 1",
    ],
)
def test_a_label_that_was_touched_since_is_left_alone(
    session: Session, user_id: int, admin_connection: psycopg.Connection, meanwhile: str
) -> None:
    changes = write_labels(session, {1: "Groceries", 2: "Groceries"}, source="human")
    session.commit()
    admin_connection.execute(meanwhile.encode())
    touched = labels(admin_connection).get(1)
    with session_for_user(user_id) as later:
        assert restore_labels(later, changes) == 1
    assert labels(admin_connection) == ({1: touched} if touched else {})


def test_a_change_is_restored_once(session: Session, admin_connection: psycopg.Connection) -> None:
    changes = write_labels(session, {1: "Groceries"}, source="human")
    assert [restore_labels(session, changes), restore_labels(session, changes)] == [1, 0]
    session.commit()
    assert labels(admin_connection) == {}


def test_nobody_writes_removes_or_restores_somebody_else_s_labels(
    session: Session, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute("INSERT INTO transaction_labels VALUES (%s, 'Fuel', 'human')", [THEIRS])
    with session_for_user(ensure_user("other")) as other:
        changes: list[LabelChange] = write_labels(other, {THEIRS: "Groceries"}, source="human")
    assert len(changes) == 1
    assert write_labels(session, {THEIRS: "Eating out"}, source="human") == []
    assert remove_labels(session, [THEIRS]) == 0
    assert restore_labels(session, changes) == 0
    session.commit()
    assert labels(admin_connection) == {THEIRS: ("Groceries", "human")}


# --- in bulk -------------------------------------------------------------------------------------------------------


def test_labels_in_bulk_say_what_became_of_each(session: Session, user_id: int) -> None:
    label_transactions(session, user_id, [(1, "Groceries")])
    given = [(9, "Fuel"), (1, "Groceries"), (2, "Groceries"), (2, "Groceries"), (THEIRS, "Fuel"), (5000, "Fuel")]
    assert label_transactions(session, user_id, given) == LabelsWritten(2, 1, (THEIRS, 5000))


@pytest.mark.parametrize("refused", [(3, "Nonsense"), (1, "Fuel")])
def test_when_one_label_is_refused_none_is_written(
    session: Session, user_id: int, admin_connection: psycopg.Connection, refused: tuple[int, str]
) -> None:
    with pytest.raises(InvalidInput):
        label_transactions(session, user_id, [(1, "Groceries"), (2, "Groceries"), refused])
    session.commit()
    assert labels(admin_connection) == {}


def test_a_transaction_of_nobody_s_is_not_found_before_its_category_is_looked_at(
    session: Session, user_id: int
) -> None:
    for txn_id in (THEIRS, 5000):
        with pytest.raises(NotFound):
            categorise_transaction(session, user_id, txn_id, "Nonsense")


def test_labels_are_counted_once_they_are_committed_and_not_when_they_are_rolled_back(
    session: Session, user_id: int
) -> None:
    before = counted()
    label_transactions(session, user_id, [(1, "Groceries"), (2, "Fuel")])
    assert counted() == before
    session.commit()
    assert counted() == before + 2
    with session_for_user(user_id) as failing:
        label_transactions(failing, user_id, [(3, "Groceries")])
        failing.rollback()
    assert counted() == before + 2


def test_two_requests_that_label_the_same_rows_in_opposite_order_never_deadlock_and_one_of_them_wins(
    session: Session, user_id: int, admin_connection: psycopg.Connection
) -> None:
    session.commit()
    # So many that both are at it for a while.
    ids = list(range(1001, 3001))
    rounds = 6
    admin_connection.execute(
        "INSERT INTO transactions (id, user_id, account, date, amount, description, fingerprint) "
        "SELECT id, %s, 'card', '2025-03-03', -4.50, 'SHOP', int4send(id) FROM unnest(%s::integer[]) AS id",
        [user_id, ids],
    )
    together = threading.Barrier(2)

    def label(name: str, order: list[int]) -> None:
        for _ in range(rounds):
            together.wait(timeout=30)
            with session_for_user(user_id) as mine:
                label_transactions(mine, user_id, [(txn_id, name) for txn_id in order])

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(label, "Groceries", ids), pool.submit(label, "Fuel", ids[::-1])]:
            running.result(timeout=120)
    assert len(set(labels(admin_connection).values())) == 1
    assert sorted(labels(admin_connection)) == ids
    histories = {tuple(events(admin_connection, txn_id)) for txn_id in ids[::100]}
    assert len(histories) == 1, "every round's winner took all of the rows"


def test_requests_that_meet_half_way_wait_for_each_other_and_not_both(
    session: Session, user_id: int, admin_connection: psycopg.Connection, database: str
) -> None:
    session.commit()
    ids = list(range(1, 10))

    def label(name: str, order: list[int]) -> LabelsWritten:
        with session_for_user(user_id) as mine:
            return label_transactions(mine, user_id, [(txn_id, name) for txn_id in order])

    def until_waiting(requests: int) -> None:
        give_up = time.monotonic() + 30
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while watching.execute(question).fetchone() != (requests,):
            assert time.monotonic() < give_up

    # A transaction would see the activity as it was when it first looked, so another connection watches.
    with psycopg.connect(database, autocommit=True) as watching, ThreadPoolExecutor(2) as pool:
        # The row in the middle is held until both are under way.
        with admin_connection.transaction():
            admin_connection.execute("SELECT FROM transactions WHERE id = 5 FOR UPDATE")
            first = pool.submit(label, "Groceries", ids)
            until_waiting(1)
            second = pool.submit(label, "Fuel", ids[::-1])
            until_waiting(2)
        assert [first.result(60).changed, second.result(60).changed] == [9, 9]
    assert labels(admin_connection) == dict.fromkeys(ids, ("Fuel", "human"))


# --- the API -------------------------------------------------------------------------------------------------------


def test_a_person_labels_and_unlabels_a_transaction_through_the_api(client: TestClient) -> None:
    labelled = client.patch("/transactions/1", json={"category": "Groceries"})
    assert labelled.status_code == 200
    assert (labelled.json()["category"], labelled.json()["label"]["source"]) == ("Groceries", "human")
    cleared = client.patch("/transactions/1", json={"category": None}).json()
    assert (cleared["category"], cleared["label"]) == (None, None)
    assert [entry["label"] for entry in cleared["history"]] == ["Groceries", None]
    assert client.get("/transactions/1").json() == cleared


def test_labels_in_bulk_through_the_api(client: TestClient, admin_connection: psycopg.Connection) -> None:
    body = {"labels": [{"txn_id": txn_id, "label": "Fuel"} for txn_id in (2, 1, THEIRS, 5000)]}
    assert client.post("/labels", json=body).json() == {"changed": 2, "unchanged": 0, "unknown": [THEIRS, 5000]}
    assert client.post("/labels", json=body).json() == {"changed": 0, "unchanged": 2, "unknown": [THEIRS, 5000]}
    assert labels(admin_connection) == {1: ("Fuel", "human"), 2: ("Fuel", "human")}


def test_ten_thousand_labels_are_taken_and_one_more_is_not(client: TestClient) -> None:
    body = {"labels": [{"txn_id": n, "label": "Groceries"} for n in range(1, 10_001)]}
    answer = client.post("/labels", json=body).json()
    assert (answer["changed"], len(answer["unknown"])) == (9, 9_991)
    body["labels"].append({"txn_id": 10_001, "label": "Groceries"})
    assert client.post("/labels", json=body).status_code == 422


@pytest.mark.parametrize(
    ("labels_given", "status"),
    [
        ([], 422),
        ([{"txn_id": 0, "label": "Fuel"}], 422),
        ([{"txn_id": 2**63, "label": "Fuel"}], 422),
        ([{"txn_id": 1, "label": ""}], 422),
        ([{"txn_id": 1, "label": "a\0"}], 422),
        ([{"txn_id": 1, "label": "x" * 201}], 422),
        ([{"txn_id": 1, "label": "Nonsense"}], 400),
        ([{"txn_id": 1, "label": "Fuel"}, {"txn_id": 1, "label": "Groceries"}], 400),
    ],
)
def test_labels_that_cannot_be_written_are_refused_without_an_echo(
    client: TestClient, admin_connection: psycopg.Connection, labels_given: list[dict[str, Any]], status: int
) -> None:
    answer = client.post("/labels", json={"labels": labels_given})
    assert answer.status_code == status
    assert "Nonsense" not in answer.text
    assert labels(admin_connection) == {}


def test_the_category_of_a_change_must_be_said_even_when_it_is_none(client: TestClient) -> None:
    assert client.patch("/transactions/1", json={}).status_code == 422


def test_somebody_else_s_transaction_looks_like_none_when_it_is_changed(client: TestClient) -> None:
    answers = [client.patch(f"/transactions/{txn_id}", json={"category": "Fuel"}) for txn_id in (THEIRS, 5000)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]
