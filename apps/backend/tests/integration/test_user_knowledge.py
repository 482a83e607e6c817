"""Whatever a server remembers of a user is numbered anew as it changes, and that holds nobody up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from app.db import database_url, session_for_jobs, session_for_user
from app.orm_models import CategoryName
from app.services import categories
from app.services.rules import RuleDraft, add_rule, edit_rule, list_rules, remove_rule
from app.services.user_knowledge import read_knowledge
from app.services.users import remove_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Ledger

    Change = Callable[[Ledger], object]


def draft(category: str) -> RuleDraft:
    condition = {"match": "all", "conditions": [{"field": "description", "operator": "contains", "value": "ALDI"}]}
    return RuleDraft.model_validate({"name": "x", "condition": condition, "category": category, "priority": 0})


def an_import(ledger: Ledger) -> None:
    ledger.add("2025-03-01,ALDI 0077 YORK,-9.00,card,Groceries")


def a_new_category(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        categories.add_category(session, ledger.user_id, "Hobbies")


def a_category_less(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        (added,) = (each.id for each in categories.list_categories(session, ledger.user_id) if each.name == "Hobbies")
        categories.remove_category(session, ledger.user_id, added)


def a_rename(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        categories.rename_or_merge(session, ledger.user_id, "Groceries", "Food")


def a_merge(ledger: Ledger) -> None:
    """Change nothing but which name a word is shown under."""
    with session_for_user(ledger.user_id) as session:
        session.add(CategoryName(user_id=ledger.user_id, name="Groceries", shown_as="Household"))


def a_rename_taken_back(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        categories.undo_rename(session, ledger.user_id, "Groceries")


def a_rule(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        add_rule(session, ledger.user_id, draft("Groceries"))


def a_rule_that_is_edited(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        (rule,) = list_rules(session)
        edit_rule(session, ledger.user_id, rule.rule_id, draft("Household"))


def a_rule_less(ledger: Ledger) -> None:
    with session_for_user(ledger.user_id) as session:
        (rule,) = list_rules(session)
        remove_rule(session, ledger.user_id, rule.rule_id)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (None, an_import),
        (None, a_new_category),
        (a_new_category, a_category_less),
        (None, a_rename),
        (None, a_merge),
        (a_rename, a_rename_taken_back),
        (None, a_rule),
        (a_rule, a_rule_that_is_edited),
        (a_rule, a_rule_less),
    ],
)
def test_each_change_of_what_is_remembered_is_another_state(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], before: Change | None, change: Change
) -> None:
    other = ledger_of("other")
    other.add("2025-03-01,ALDI 0077 YORK,-9.00,card,Groceries")
    if before is not None:
        before(labelled)
    states = read_knowledge(labelled.user_id).state, read_knowledge(other.user_id).state
    change(labelled)
    assert read_knowledge(labelled.user_id).state != states[0]
    assert read_knowledge(other.user_id).state == states[1]


def test_a_user_who_ever_had_a_rule_has_rules(labelled: Ledger) -> None:
    assert not read_knowledge(labelled.user_id).has_rules
    a_rule(labelled)
    a_rule_less(labelled)
    assert read_knowledge(labelled.user_id).has_rules


def test_what_is_under_way_holds_up_no_other_change(labelled: Ledger) -> None:
    change = "INSERT INTO categories (user_id, key, name) VALUES (%s, %s, %s)"
    url = database_url("admin").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as slow, psycopg.connect(url) as quick:
        slow.execute(change, [labelled.user_id, "slow", "Slow"])
        seen = [read_knowledge(labelled.user_id).state]
        quick.execute("SET lock_timeout = '2s'")
        quick.execute(change, [labelled.user_id, "quick", "Quick"])
        quick.commit()
        seen.append(read_knowledge(labelled.user_id).state)
        # It began first and ends last, and is noticed all the same.
        slow.commit()
        seen.append(read_knowledge(labelled.user_id).state)
    assert len(set(seen)) == len(seen)


def test_a_user_who_is_removed_leaves_no_number(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    numbers = "SELECT count(*) FROM knowledge_revisions WHERE user_id = %s"
    assert admin_connection.execute(numbers, [labelled.user_id]).fetchone() == (1,)
    with session_for_jobs() as session:
        remove_user(session, labelled.user_id)
    assert admin_connection.execute(numbers, [labelled.user_id]).fetchone() == (0,)
