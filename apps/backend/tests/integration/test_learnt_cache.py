"""What is learnt from all labels is kept exactly as long as the labels have hardly changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.db import session_for_user
from app.services.labels import write_labels
from app.services.learnt_cache import LearntCache

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.integration.conftest import Ledger

LABELS = 300


class Pass:
    """A pass over all labels that counts how often it was made."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.cache: LearntCache[int] = LearntCache()
        self.made = 0

    def value(self, state: object = None) -> int:
        def learn() -> tuple[int, int]:
            self.made += 1
            return self.made, LABELS

        with session_for_user(self.ledger.user_id) as session:
            return self.cache.value_for(session, self.ledger.user_id, learn, state=str(state))


@pytest.fixture
def counted(ledger: Ledger) -> tuple[Pass, list[int]]:
    """A pass over three hundred labels, and the transactions that have them."""
    rows = [f"2025-01-{1 + number % 28:02},SHOP {number},-1.00,card,Groceries" for number in range(LABELS)]
    return Pass(ledger), ledger.add(*rows)


def relabel(ledger: Ledger, txn_ids: list[int], label: str) -> None:
    with session_for_user(ledger.user_id) as session:
        write_labels(session, dict.fromkeys(txn_ids, label), source="human")


def test_it_is_kept_while_the_labels_grow_by_less_than_a_hundredth(counted: tuple[Pass, list[int]]) -> None:
    learnt, ids = counted
    assert (learnt.value(), learnt.value()) == (1, 1)
    relabel(learnt.ledger, ids[:3], "Fuel")
    assert learnt.value() == 1
    relabel(learnt.ledger, ids[3:4], "Fuel")
    assert (learnt.value(), learnt.value()) == (2, 2)


def test_a_renamed_category_or_another_state_is_another_value(
    counted: tuple[Pass, list[int]], admin_connection: psycopg.Connection
) -> None:
    learnt, _ = counted
    assert learnt.value() == 1
    admin_connection.execute(
        "INSERT INTO category_names (user_id, name, shown_as) VALUES (%s, 'Groceries', 'Food')", [learnt.ledger.user_id]
    )
    assert (learnt.value(), learnt.value()) == (2, 2)
    admin_connection.execute("UPDATE category_names SET valid_to = now()")
    assert learnt.value() == 3
    assert learnt.value("other rules") == 4


def test_one_user_s_labels_are_not_another_s(
    counted: tuple[Pass, list[int]], ledger_of: Callable[[str], Ledger]
) -> None:
    learnt, _ = counted
    assert learnt.value() == 1
    mine, learnt.ledger = learnt.ledger, ledger_of("other")
    assert learnt.value() == 2
    learnt.ledger = mine
    assert learnt.value() == 1


def test_a_history_that_was_put_back_from_a_backup_is_another_history(
    counted: tuple[Pass, list[int]], admin_connection: psycopg.Connection
) -> None:
    learnt, _ = counted
    assert learnt.value() == 1
    admin_connection.execute("UPDATE label_events SET known_at = known_at - interval '1 second'")
    assert learnt.value() == 2
