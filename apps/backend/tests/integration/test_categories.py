"""Categories: the shared set, one's own, and renames that rewrite nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.cli import categories as cli
from app.config import get_settings
from app.db import get_engine, session_for_user
from app.errors import Conflict, InvalidInput, LedgermillError, NotFound
from app.services import default_categories, installation, rules
from app.services.categories import (
    Category,
    add_category,
    list_categories,
    remove_category,
    rename_or_merge,
    require_category,
    shown_names,
    undo_rename,
)
from app.services.category_map import category_map_revision
from app.services.default_categories import DEFAULT_CATEGORIES, seed_default_categories
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels
from app.services.rules import RuleDraft

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    import psycopg
    from sqlalchemy.orm import Session

    from tests.integration.conftest import Ledger

SHARED = {category.name for category in DEFAULT_CATEGORIES}
COFFEE, DINER, BUS = (
    "2025-01-02,SOME COFFEE,-3.00,card,Coffee",
    "2025-01-03,SOME DINER,-9.00,card,Eating out",
    "2025-01-04,SOME BUS,-2.00,card,Transit",
)


def names(ledger: Ledger) -> dict[str, Category]:
    with session_for_user(ledger.user_id) as session:
        return {category.name: category for category in list_categories(session, ledger.user_id)}


def rename(ledger: Ledger, name: str, into: str) -> None:
    with session_for_user(ledger.user_id) as session:
        rename_or_merge(session, ledger.user_id, name, into)


def undo(ledger: Ledger, name: str) -> None:
    with session_for_user(ledger.user_id) as session:
        undo_rename(session, ledger.user_id, name)


def add(ledger: Ledger, name: str) -> Category:
    with session_for_user(ledger.user_id) as session:
        return add_category(session, ledger.user_id, name)


def shown(ledger: Ledger) -> dict[str, str]:
    with session_for_user(ledger.user_id) as session:
        return shown_names(session, ledger.user_id)


def required(ledger: Ledger, name: str) -> str:
    with session_for_user(ledger.user_id) as session:
        return require_category(session, ledger.user_id, name)


def revision(ledger: Ledger) -> int:
    with session_for_user(ledger.user_id) as session:
        return category_map_revision(session, ledger.user_id)


def moment(connection: psycopg.Connection) -> dt.datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row
    found: dt.datetime = row[0]
    return found


def labels_as_of(connection: psycopg.Connection, when: dt.datetime) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT txn_id, label FROM labels_as_of(%s, true) ORDER BY txn_id", [when])
    return rows.fetchall()


def label(ledger: Ledger, labels: Mapping[int, str]) -> None:
    with session_for_user(ledger.user_id) as session:
        write_labels(session, labels, source="human")


def add_rule(ledger: Ledger, category: str) -> int:
    part = {"field": "description", "operator": "contains", "value": "some"}
    condition = {"match": "all", "conditions": [part]}
    draft = RuleDraft.model_validate({"name": "one", "condition": condition, "category": category, "priority": 0})
    with session_for_user(ledger.user_id) as session:
        return rules.add_rule(session, ledger.user_id, draft).rule_id


def suggest(connection: psycopg.Connection, ledger: Ledger, txn_id: int, *candidates: str) -> int:
    row = connection.execute(
        """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates)
        VALUES (%s, %s, 'auto', 'rule', %s) RETURNING id
        """,
        [txn_id, ledger.user_id, json.dumps([{"label": candidate} for candidate in candidates])],
    ).fetchone()
    assert row
    return int(row[0])


def answer(ledger: Ledger, event_id: int, action: Any, **details: str) -> str | None:
    with session_for_user(ledger.user_id) as session:
        return answer_suggestion(session, ledger.user_id, event_id, action, **details).category


def remove(ledger: Ledger, category_id: int) -> None:
    with session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, category_id)


def reword(patch: pytest.MonkeyPatch, **names_by_key: str) -> None:
    """Start a version whose shared set has other names; keys are written with two underscores for the dot."""
    wanted = {key.replace("__", "."): name for key, name in names_by_key.items()}
    categories = tuple(
        replace(category, name=wanted.get(category.key, category.name)) for category in DEFAULT_CATEGORIES
    )
    patch.setattr(default_categories, "DEFAULT_CATEGORIES", categories)
    patch.setattr(default_categories, "_NAMES", {category.key: category.name for category in categories})
    patch.setattr(default_categories, "_KEYS", {category.name: category.key for category in categories})
    installation.prepare_installation()


# --- which categories somebody has ------------------------------------------------------------------------------


def test_a_new_user_has_the_shared_set(ledger: Ledger) -> None:
    found = names(ledger)
    assert set(found) == SHARED
    assert found["Groceries"].key == "food.groceries"
    assert not any(category.is_own or category.transactions for category in found.values())


def test_a_file_with_other_categories_makes_a_set_of_the_user_s_own(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER)
    found = names(ledger)
    assert {name: category.transactions for name, category in found.items()} == {"Coffee": 1, "Eating out": 1}
    assert all(category.is_own for category in found.values())


def test_a_file_with_shared_categories_alone_leaves_the_shared_set(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    add(ledger, "Allotment")
    ledger.add(DINER, "2025-01-05,SEEDS,-3.00,card,Allotment")
    found = names(ledger)
    assert set(found) == SHARED | {"Allotment"}
    assert (found["Eating out"].transactions, found["Allotment"].transactions) == (1, 1)
    own = admin_connection.execute("SELECT name FROM categories WHERE user_id IS NOT NULL").fetchall()
    assert own == [("Allotment",)]


def test_who_leaves_the_shared_set_keeps_what_their_labels_and_renames_say(ledger: Ledger) -> None:
    ledger.add(DINER)
    rename(ledger, "Groceries", "Rent")
    ledger.add(COFFEE, DINER)
    found = names(ledger)
    assert set(found) == {"Coffee", "Eating out", "Rent"}
    assert found["Eating out"].transactions == 1


def test_who_leaves_the_shared_set_keeps_what_rules_suggestions_and_undo_need(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    bus, shop, gift = ledger.add(
        "2025-01-04,SOME BUS,-2.00,card,", "2025-01-05,SHOP,-5.00,card,", "2025-01-06,GIFT,-5.00,card,"
    )
    rule_id = add_rule(ledger, "Taxis")
    unanswered = suggest(admin_connection, ledger, bus, "Trains", "No such name")
    answered = suggest(admin_connection, ledger, shop, "Water", "Waste and recycling")
    answer(ledger, answered, "reject")
    label(ledger, {gift: "Presents"})
    replaced = suggest(admin_connection, ledger, gift, "Shoes")
    answer(ledger, replaced, "accept")
    ledger.add(COFFEE)
    assert set(names(ledger)) == {"Coffee", "Taxis", "Trains", "Presents", "Shoes"}
    assert answer(ledger, unanswered, "accept") == "Trains"
    assert answer(ledger, replaced, "undo") == "Presents"
    with session_for_user(ledger.user_id) as session:
        rules.remove_rule(session, ledger.user_id, rule_id)
        assert rules.enable_rule(session, ledger.user_id, rule_id).category == "Taxis"


def test_two_users_have_nothing_of_each_other_s(ledger: Ledger, ledger_of: Callable[[str], Ledger]) -> None:
    other = ledger_of("other")
    added = add(other, "Allotment")
    rename(other, "Groceries", "Food")
    assert set(names(ledger)) == SHARED
    assert shown(ledger) == {}
    with pytest.raises(InvalidInput):
        required(ledger, "Allotment")
    with pytest.raises(NotFound), session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, added.id)


def test_a_newer_shared_set_reaches_an_installation_whose_schema_is_current(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    admin_connection.execute("UPDATE categories SET name = 'Provisions' WHERE key = 'food.groceries'")
    admin_connection.execute("DELETE FROM categories WHERE key = 'food.bars'")
    installation.prepare_installation()
    assert set(names(ledger)) == SHARED


def test_seeding_again_writes_nothing(admin_connection: psycopg.Connection) -> None:
    versions = "SELECT key, name, xmin::text FROM categories ORDER BY id"
    before = admin_connection.execute(versions).fetchall()
    with get_engine("admin").begin() as connection:
        seed_default_categories(connection)
    assert admin_connection.execute(versions).fetchall() == before
    assert len(before) == len(DEFAULT_CATEGORIES)


def test_a_category_worded_anew_keeps_its_labels_rules_and_suggestions(
    ledger: Ledger,
    ledger_of: Callable[[str], Ledger],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = ledger_of("other")
    (bus,) = ledger.add("2025-01-04,SOME BUS,-2.00,card,")
    ledger.add(DINER)
    add_rule(ledger, "Taxis")
    event_id = suggest(admin_connection, ledger, bus, "Trains")
    reword(
        monkeypatch, food__eating_out="Restaurants", transport__taxi="Cabs", transport__rail="Rail", food__bars="Inns"
    )
    assert shown(ledger) == {"Eating out": "Restaurants", "Taxis": "Cabs", "Trains": "Rail"}
    assert shown(other) == {}
    found = names(ledger)
    assert found["Restaurants"].transactions == 1
    assert (found["Restaurants"].key, found["Restaurants"].also_called) == ("food.eating_out", ("Eating out",))
    assert answer(ledger, event_id, "accept") == "Rail"
    with session_for_user(ledger.user_id) as session:
        assert [rule.category for rule in rules.list_rules(session)] == ["Cabs"]
    assert required(ledger, "Taxis") == "Cabs"
    undo(ledger, "Eating out")
    assert names(ledger)["Eating out"].transactions == 1
    assert names(ledger)["Eating out"].group_name == "Food and drink"


def test_a_category_worded_anew_stays_under_the_name_that_its_user_gave_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add(DINER)
    rename(ledger, "Eating out", "Nosh")
    rename(ledger, "Takeaways and fast food", "Eating in")
    rename(ledger, "Bicycle", "Trains")
    reword(monkeypatch, food__eating_out="Restaurants", transport__rail="Rail", food__coffee="Eating in")
    assert shown(ledger) == {
        "Eating out": "Nosh", "Restaurants": "Nosh", "Takeaways and fast food": "Eating in",
        "Bicycle": "Rail", "Trains": "Rail",
    }  # fmt: skip
    undo(ledger, "Restaurants")
    assert shown(ledger)["Eating out"] == "Restaurants"
    assert names(ledger)["Restaurants"].transactions == 1
    assert "Nosh" not in names(ledger)


def test_a_word_stays_its_user_s_where_they_call_something_else_by_the_new_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add(DINER)
    add(ledger, "Restaurants")
    rename(ledger, "Restaurants", "Travel food")
    reword(monkeypatch, food__eating_out="Restaurants")
    assert shown(ledger) == {"Restaurants": "Travel food"}
    assert names(ledger)["Eating out"].is_own
    assert names(ledger)["Eating out"].transactions == 1


def test_two_categories_can_swap_their_names_and_one_left_out_can_leave_its_own(
    ledger: Ledger, admin_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add(DINER)
    admin_connection.execute("INSERT INTO categories (key, name) VALUES ('left.out', 'Cabs')")
    reword(monkeypatch, food__eating_out="Pubs and bars", food__bars="Eating out", transport__taxi="Cabs")
    found = names(ledger)
    assert (found["Eating out"].key, found["Pubs and bars"].key) == ("food.bars", "food.eating_out")
    assert found["Cabs"].key == "transport.taxi"
    assert found["Eating out"].transactions == 1
    assert shown(ledger) == {}


# --- adding and removing ----------------------------------------------------------------------------------------


def test_a_category_can_be_added_and_removed_while_nothing_uses_it(ledger: Ledger) -> None:
    added = add(ledger, "  Allot  ment ")
    assert names(ledger)["Allot ment"] == added
    with session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, added.id)
    assert set(names(ledger)) == SHARED


@pytest.mark.parametrize("name", ["Groceries", "groceries", "GROCERIES "])
def test_a_name_that_is_there_or_nearly_there_is_refused(ledger: Ledger, name: str) -> None:
    with pytest.raises(Conflict):
        add(ledger, name)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_name_must_say_something_short(ledger: Ledger, name: str) -> None:
    with pytest.raises(InvalidInput):
        add(ledger, name)


def test_a_category_that_a_label_says_is_not_removed(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER)
    with pytest.raises(Conflict, match="merge it"), session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, names(ledger)["Coffee"].id)


def test_a_category_that_undoing_an_answer_would_bring_back_is_not_removed(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    (bus,) = ledger.add("2025-01-04,SOME BUS,-2.00,card,")
    added = add(ledger, "Tmp")
    label(ledger, {bus: "Tmp"})
    event_id = suggest(admin_connection, ledger, bus, "Trains")
    answer(ledger, event_id, "accept")
    with pytest.raises(Conflict, match="merge it"):
        remove(ledger, added.id)
    assert answer(ledger, event_id, "undo") == "Tmp"
    assert names(ledger)["Tmp"].transactions == 1


def test_a_category_that_undoing_a_rule_s_application_would_bring_back_is_not_removed(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    added = add(ledger, "Tmp")
    (bus,) = ledger.add("2025-01-04,SOME BUS,-2.00,card,Tmp")
    rule_id = add_rule(ledger, "Trains")
    with session_for_user(ledger.user_id) as session:
        application = rules.apply_rule(session, ledger.user_id, rule_id)
    assert ledger.labels([bus]) == [("Trains", "rule")]
    with pytest.raises(Conflict, match="merge it"):
        remove(ledger, added.id)
    with session_for_user(ledger.user_id) as session:
        rules.undo_application(session, application.application_id)
    assert names(ledger)["Tmp"].transactions == 1
    admin_connection.execute("DELETE FROM transaction_labels")
    remove(ledger, added.id)


def test_a_category_is_not_removed_while_somebody_labels_with_it(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    (bus,) = ledger.add("2025-01-04,SOME BUS,-2.00,card,")
    added = add(ledger, "Tmp")
    with ThreadPoolExecutor(1) as other:
        with session_for_user(ledger.user_id) as session:
            write_labels(session, {bus: require_category(session, ledger.user_id, "Tmp")}, source="human")
            removal = other.submit(remove, ledger, added.id)
            wait_for_lock(admin_connection, removal)
        with pytest.raises(Conflict, match="merge it"):
            removal.result()
    assert names(ledger)["Tmp"].transactions == 1


def test_nobody_labels_with_a_category_while_it_is_removed(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    added = add(ledger, "Tmp")
    with ThreadPoolExecutor(1) as other:
        with session_for_user(ledger.user_id) as session:
            remove_category(session, ledger.user_id, added.id)
            found = other.submit(required, ledger, "Tmp")
            wait_for_lock(admin_connection, found)
        with pytest.raises(InvalidInput):
            found.result()


def wait_for_lock(connection: psycopg.Connection, call: Future[Any]) -> None:
    """Return once a connection waits for another one's lock, or the call is over and has waited for none."""
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not call.done() and connection.execute(waits).fetchone() is None:
        pass


def test_a_category_that_others_are_shown_as_is_not_removed(ledger: Ledger) -> None:
    added = add(ledger, "Allotment")
    rename(ledger, "Garden", "Allotment")
    with pytest.raises(Conflict, match="take that back"), session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, added.id)


def test_a_shared_category_is_not_removed(ledger: Ledger) -> None:
    with pytest.raises(NotFound), session_for_user(ledger.user_id) as session:
        remove_category(session, ledger.user_id, names(ledger)["Groceries"].id)


# --- renaming and merging ---------------------------------------------------------------------------------------


def test_a_rename_shows_another_name_and_keeps_group_and_count(ledger: Ledger) -> None:
    ledger.add(DINER)
    rename(ledger, "Eating out", "Restaurants")
    found = names(ledger)
    assert "Eating out" not in found
    assert found["Restaurants"].also_called == ("Eating out",)
    assert (found["Restaurants"].group_name, found["Restaurants"].transactions) == ("Food and drink", 1)
    assert required(ledger, "Eating out") == required(ledger, "Restaurants") == "Restaurants"


def test_a_merge_adds_up(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER, BUS)
    rename(ledger, "Coffee", "Eating out")
    assert {name: category.transactions for name, category in names(ledger).items()} == {"Eating out": 2, "Transit": 1}


def test_renames_are_followed_at_once_and_taken_back_one_by_one(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER, BUS)
    rename(ledger, "Coffee", "Eating out")
    rename(ledger, "Eating out", "Transit")
    assert shown(ledger) == {"Coffee": "Transit", "Eating out": "Transit"}
    undo(ledger, "Eating out")
    assert shown(ledger) == {"Coffee": "Eating out"}
    undo(ledger, "Coffee")
    assert shown(ledger) == {}


def test_an_undone_rename_leaves_the_list_as_it_was(ledger: Ledger) -> None:
    ledger.add(DINER)
    before = names(ledger)
    rename(ledger, "Eating out", "Food")
    rename(ledger, "Food", "Fare")
    undo(ledger, "Food")
    undo(ledger, "Eating out")
    assert names(ledger) == before
    assert add(ledger, "food").name == "food"


def test_an_undone_rename_leaves_what_was_there_or_is_used(ledger: Ledger) -> None:
    (diner,) = ledger.add(DINER)
    add(ledger, "Allotment")
    rename(ledger, "Garden", "Allotment")
    rename(ledger, "Eating out", "Food")
    rename(ledger, "Taxis", "Cabs")
    label(ledger, {diner: "Food"})
    add_rule(ledger, "Cabs")
    for word in ("Garden", "Eating out", "Taxis"):
        undo(ledger, word)
    assert set(names(ledger)) == SHARED | {"Allotment", "Food", "Cabs"}


def test_a_change_leaves_the_rows_of_others_alone(ledger: Ledger, admin_connection: psycopg.Connection) -> None:
    rename(ledger, "Coffee and snacks", "Eating out")
    rename(ledger, "Groceries", "Food")
    assert admin_connection.execute("SELECT count(*), count(valid_to) FROM category_names").fetchone() == (2, 0)


def test_a_rename_back_turns_the_two_around(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER, BUS)
    rename(ledger, "Coffee", "Eating out")
    rename(ledger, "Eating out", "Transit")
    rename(ledger, "Transit", "Coffee")
    assert shown(ledger) == {"Eating out": "Coffee", "Transit": "Coffee"}


def test_a_name_can_change_its_capitals_and_change_back(ledger: Ledger) -> None:
    rename(ledger, "Groceries", "GROCERIES")
    assert shown(ledger) == {"Groceries": "GROCERIES"}
    rename(ledger, "GROCERIES", "Groceries")
    assert shown(ledger) == {"GROCERIES": "Groceries"}


@pytest.mark.parametrize(
    ("name", "into", "refusal"),
    [
        ("Nowhere", "Rent", InvalidInput),
        ("Rent", "Rent", InvalidInput),
        ("Rent", " ", InvalidInput),
        ("Coffee and snacks", "Rent", Conflict),
        ("Rent", "Coffee and snacks", Conflict),
        ("Rent", "coffee AND snacks", Conflict),
        ("Rent", "groceries", Conflict),
    ],
)
def test_what_makes_no_sense_is_refused(ledger: Ledger, name: str, into: str, refusal: type[LedgermillError]) -> None:
    rename(ledger, "Coffee and snacks", "Eating out")
    with pytest.raises(refusal):
        rename(ledger, name, into)
    assert shown(ledger) == {"Coffee and snacks": "Eating out"}


def test_a_name_that_was_renamed_away_is_not_added_again(ledger: Ledger) -> None:
    rename(ledger, "Groceries", "Food")
    with pytest.raises(Conflict, match="undo"):
        add(ledger, "Groceries")
    with pytest.raises(InvalidInput):
        undo(ledger, "Food")


def test_as_of_reads_from_before_a_merge_do_not_see_it(ledger: Ledger, admin_connection: psycopg.Connection) -> None:
    coffee, diner = ledger.add(COFFEE, DINER)
    before = moment(admin_connection)
    rename(ledger, "Coffee", "Eating out")
    after = moment(admin_connection)
    undo(ledger, "Coffee")
    apart = [(coffee, "Coffee"), (diner, "Eating out")]
    assert labels_as_of(admin_connection, before) == apart
    assert labels_as_of(admin_connection, after) == [(coffee, "Eating out"), (diner, "Eating out")]
    assert labels_as_of(admin_connection, moment(admin_connection)) == apart


def test_every_change_has_a_revision_of_its_own(ledger: Ledger) -> None:
    ledger.add(COFFEE, DINER, BUS)
    revisions = [revision(ledger)]
    for name, into in (("Coffee", "Eating out"), ("Eating out", "Transit"), ("Eating out", None), ("Coffee", None)):
        if into:
            rename(ledger, name, into)
        else:
            undo(ledger, name)
        revisions.append(revision(ledger))
    assert revisions[0] == 0
    assert revisions == sorted(set(revisions))


WORDS = ("Coffee", "Eating out", "Transit", "New", "Newer")
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("rename"), st.sampled_from(WORDS), st.sampled_from(WORDS)),
        st.tuples(st.just("undo"), st.sampled_from(WORDS), st.just("")),
    ),
    max_size=12,
)


def folded(changes: list[tuple[str, str, str]]) -> dict[str, str]:
    """What each word is shown as, by following each change in its order; those that make no sense are left out."""
    there = {"Coffee", "Eating out", "Transit"}
    renamed_to: dict[str, str] = {}

    def shown_as(word: str) -> str:
        return shown_as(renamed_to[word]) if word in renamed_to else word

    for change, word, into in changes:
        if change == "undo":
            if renamed_to.pop(word, None):
                there = {"Coffee", "Eating out", "Transit", *renamed_to, *renamed_to.values()}
        elif word in there and word not in renamed_to and into != word and shown_as(into) in {into, word}:
            renamed_to.pop(into, None)
            renamed_to[word] = into
            there.add(into)
    return {word: shown_as(word) for word in renamed_to}


@pytest.fixture
def three_labels(ledger: Ledger) -> Ledger:
    ledger.add(COFFEE, DINER, BUS)
    return ledger


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, at_once=st.booleans())
def test_any_changes_show_what_following_them_one_by_one_does_and_rewrite_no_label(
    three_labels: Ledger, admin_connection: psycopg.Connection, changes: list[tuple[str, str, str]], *, at_once: bool
) -> None:
    ledger = three_labels
    admin_connection.execute("DELETE FROM category_names")
    admin_connection.execute("DELETE FROM categories WHERE name LIKE 'New%'")
    stored = "SELECT txn_id, label, source, updated_at FROM transaction_labels ORDER BY txn_id"
    history = "SELECT * FROM label_events ORDER BY id"
    before = admin_connection.execute(stored).fetchall(), admin_connection.execute(history).fetchall()
    as_of = moment(admin_connection)
    read_before = labels_as_of(admin_connection, as_of)

    if at_once:
        with session_for_user(ledger.user_id) as session:
            for change in changes:
                carry_out(session, ledger.user_id, change)
    else:
        for change in changes:
            with session_for_user(ledger.user_id) as session:
                carry_out(session, ledger.user_id, change)

    expected = folded(changes)
    assert shown(ledger) == expected
    assert (admin_connection.execute(stored).fetchall(), admin_connection.execute(history).fetchall()) == before
    assert labels_as_of(admin_connection, as_of) == read_before
    today = labels_as_of(admin_connection, moment(admin_connection))
    assert today == [(txn_id, expected.get(label, label)) for txn_id, label in read_before]
    assert sum(category.transactions for category in names(ledger).values()) == len(read_before)


def carry_out(session: Session, user_id: int, change: tuple[str, str, str]) -> None:
    kind, word, into = change
    try:
        if kind == "undo":
            undo_rename(session, user_id, word)
        else:
            rename_or_merge(session, user_id, word, into)
    except LedgermillError:
        pass


# --- the two doors ----------------------------------------------------------------------------------------------


def test_the_api_adds_merges_undoes_and_removes(client: TestClient) -> None:
    added = client.post("/categories", json={"name": "Allotment", "group_name": "Home"})
    assert added.status_code == 201, added.text
    assert client.post("/categories", json={"name": "allotment"}).status_code == 409
    merged = client.post("/categories/merge", json={"name": "Garden", "into": "Allotment"}).json()
    assert [category["also_called"] for category in merged if category["name"] == "Allotment"] == [["Garden"]]
    category_id = added.json()["id"]
    assert client.delete(f"/categories/{category_id}").status_code == 409
    assert "Garden" in {
        category["name"] for category in client.post("/categories/undo", json={"name": "Garden"}).json()
    }
    assert client.delete(f"/categories/{category_id}").status_code == 204
    assert {category["name"] for category in client.get("/categories").json()} == SHARED
    assert client.post("/categories", json={"name": "\0"}).status_code == 422


def test_the_command_line_does_the_same(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert database
    cli.add("Allotment", group="Home")
    cli.rename("Garden", "Allotment")
    with pytest.raises(InvalidInput):
        cli.merge("Rent", "Nowhere")
    cli.merge("Rent", "Mortgage")
    cli.list_()
    assert "Allotment" in capsys.readouterr().out
    cli.undo("Garden")
    user_id = installation.ensure_user(get_settings().local_user)
    with session_for_user(user_id) as session:
        find = text("SELECT id FROM categories WHERE name = 'Allotment'")
        category_id = session.execute(find).scalar_one()
    cli.remove(category_id)
    with session_for_user(user_id) as session:
        assert shown_names(session, user_id) == {"Rent": "Mortgage"}
