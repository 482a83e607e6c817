"""Rules in the database: kept with their past, tried before they are applied, taken back exactly, and measured."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from app.config import get_settings
from app.db import driver_connection, get_engine, session_for_user
from app.errors import Conflict, InvalidInput, NotFound
from app.services import learnt_cache, rules
from app.services.credentials import new_token
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.labels import remove_labels, write_labels
from app.services.merchants import list_merchants, rename_merchant
from app.services.rules import RuleDraft, store

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    import psycopg
    from sqlalchemy.orm import Session

CATEGORIES = ["Coffee", "Groceries", "Fuel"]


def draft(
    value: str = "shop", category: str = "Groceries", *, priority: int = 0, field: str = "description"
) -> RuleDraft:
    part = {"field": field, "operator": "contains", "value": value}
    return RuleDraft.model_validate(
        {
            "name": f"{value} rule",
            "condition": {"match": "all", "conditions": [part]},
            "category": category,
            "priority": priority,
        }
    )


@pytest.fixture
def owner(user_id: int) -> int:
    """Somebody with three categories of their own."""
    return with_categories(user_id)


def with_categories(user_id: int) -> int:
    with get_engine("admin").begin() as connection:
        connection.execute(text("UPDATE users SET own_categories = true WHERE id = :user"), {"user": user_id})
        connection.execute(
            text("INSERT INTO categories (user_id, name) SELECT :user, unnest(CAST(:names AS text[]))"),
            {"user": user_id, "names": CATEGORIES},
        )
    return user_id


def add_transactions(session: Session, user_id: int, *descriptions: str, merchant: str | None = None) -> list[int]:
    rows = driver_connection(session).execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, merchant, fingerprint)
        SELECT %s, 'card', date '2025-01-01' + place::integer, -place, description, %s,
            sha256(gen_random_uuid()::text::bytea)
        FROM unnest(%s::text[]) WITH ORDINALITY AS given (description, place)
        RETURNING id
        """,
        [user_id, merchant, list(descriptions)],
    )
    return [txn_id for (txn_id,) in rows]


def import_labels(user_id: int, labels: dict[int, str]) -> None:
    with get_engine("admin").begin() as connection:
        connection.execute(
            text("""
                INSERT INTO transaction_labels (txn_id, label, source)
                SELECT *, 'import' FROM unnest(CAST(:ids AS bigint[]), CAST(:labels AS text[]))
            """),
            {"ids": list(labels), "labels": list(labels.values())},
        )
    assert user_id


def labels_of(session: Session) -> dict[int, tuple[str, str]]:
    rows = driver_connection(session).execute("SELECT txn_id, label, source FROM transaction_labels")
    return {txn_id: (label, source) for txn_id, label, source in rows}


# --- revisions ------------------------------------------------------------------------------------------------------


def test_every_edit_is_a_revision_and_none_is_ever_lost(owner: int) -> None:
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft())
        rules.edit_rule(session, owner, rule.rule_id, draft("market"))
        rules.remove_rule(session, owner, rule.rule_id)
        rules.enable_rule(session, owner, rule.rule_id)
    with session_for_user(owner) as session:
        history = rules.rule_history(session, rule.rule_id)
    assert [each.revision for each in history] == [4, 3, 2, 1]
    assert [each.is_enabled for each in history] == [True, False, True, True]
    assert [each.name for each in history] == ["market rule"] * 3 + ["shop rule"]
    assert history[-1] == rule


def test_an_edit_or_removal_that_changes_nothing_is_no_revision(owner: int) -> None:
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft())
        assert rules.edit_rule(session, owner, rule.rule_id, draft()) == rule
        assert rules.enable_rule(session, owner, rule.rule_id) == rule
        removed = rules.remove_rule(session, owner, rule.rule_id)
        assert rules.remove_rule(session, owner, rule.rule_id) == removed


def test_edits_at_the_same_moment_become_revisions_one_after_the_other(owner: int) -> None:
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft())

    def edit(priority: int) -> int:
        with session_for_user(owner) as session:
            return rules.edit_rule(session, owner, rule.rule_id, draft(priority=priority)).revision

    with ThreadPoolExecutor(8) as pool:
        revisions = sorted(pool.map(edit, range(1, 9)))
    assert revisions == list(range(2, 10))


def test_a_rule_that_was_removed_is_not_in_force(owner: int) -> None:
    with session_for_user(owner) as session:
        kept, gone = (rules.add_rule(session, owner, draft(value)) for value in ("one", "two"))
        rules.remove_rule(session, owner, gone.rule_id)
        assert [rule.rule_id for rule in rules.read_active_rules(session)] == [kept.rule_id]
        assert [rule.rule_id for rule in rules.list_rules(session, removed=True)] == [kept.rule_id, gone.rule_id]
        with pytest.raises(Conflict):
            rules.apply_rule(session, owner, gone.rule_id)


def test_a_rule_whose_category_the_user_does_not_have_is_refused(owner: int) -> None:
    with session_for_user(owner) as session, pytest.raises((InvalidInput, NotFound)):
        rules.add_rule(session, owner, draft(category="Nobody's"))


def test_there_are_only_so_many_rules(owner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_RULES", 2)
    with session_for_user(owner) as session:
        first = rules.add_rule(session, owner, draft("one"))
        rules.add_rule(session, owner, draft("two"))
        with pytest.raises(Conflict):
            rules.add_rule(session, owner, draft("three"))
        rules.remove_rule(session, owner, first.rule_id)
        rules.add_rule(session, owner, draft("three"))
        with pytest.raises(Conflict):
            rules.enable_rule(session, owner, first.rule_id)


@pytest.mark.parametrize(
    ("limit", "operator"), [("MOST_CONDITIONS", "contains"), ("MOST_CONDITIONS", "regex"), ("MOST_PATTERNS", "regex")]
)
def test_rules_ask_only_so_much_together(
    owner: int, monkeypatch: pytest.MonkeyPatch, limit: str, operator: str
) -> None:
    def asking(parts: int) -> RuleDraft:
        part = {"field": "description", "operator": operator, "value": "shop"}
        condition = {"match": "any", "conditions": [part] * parts}
        return RuleDraft.model_validate({"name": "x", "condition": condition, "category": "Fuel"})

    monkeypatch.setattr(store, limit, 3)
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, asking(2))
        with pytest.raises(Conflict):
            rules.add_rule(session, owner, asking(2))
        with pytest.raises(Conflict):
            rules.edit_rule(session, owner, rule.rule_id, asking(4))
        assert rules.edit_rule(session, owner, rule.rule_id, asking(3)).revision == 2


def test_a_rule_follows_its_category_s_new_name(owner: int) -> None:
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft(category="Groceries"))
        session.execute(
            text("INSERT INTO category_names (user_id, name, shown_as) VALUES (:user, 'Groceries', 'Food')"),
            {"user": owner},
        )
        add_transactions(session, owner, "shop")
        assert [each.category for each in rules.read_active_rules(session)] == ["Food"]
        assert rules.preview_rule(session, owner, rule.rule_id).first[0].to_label == "Food"


# --- preview, apply, undo -------------------------------------------------------------------------------------------


def test_a_preview_tells_what_would_change_and_what_stays(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, "shop a", "shop b", "shop c", "shop d", "shop fuel", "else")
        write_labels(session, {ids[0]: "Coffee", ids[1]: "Groceries"}, source="human")
        write_labels(session, {ids[2]: "Coffee"}, source="rule")
        above = rules.add_rule(session, owner, draft("fuel", "Fuel", priority=1))
        planned = rules.preview_draft(session, owner, draft())
        assert rules.preview_draft(session, owner, draft("shop", "Groceries", priority=2)).overruled == 0
        assert rules.preview_draft(session, owner, draft(), rule_id=above.rule_id).overruled == 0
        assert labels_of(session).keys() == set(ids[:3])
    assert (planned.matches, planned.overruled, planned.labelled_otherwise) == (5, 1, 1)
    assert (planned.labelled_same, planned.changes) == (1, 2)
    assert [(each.txn_id, each.from_label, each.to_label) for each in planned.first] == [
        (ids[3], None, "Groceries"),
        (ids[2], "Coffee", "Groceries"),
    ]
    assert (planned.first[0].date, planned.first[0].amount) == (dt.date(2025, 1, 5), Decimal("-4.00"))


def test_a_preview_of_an_empty_ledger_or_of_a_rule_that_matches_nothing_is_all_zeros(owner: int) -> None:
    with session_for_user(owner) as session:
        empty = rules.preview_draft(session, owner, draft())
        add_transactions(session, owner, "else")
        assert rules.preview_draft(session, owner, draft()) == empty
    assert (empty.matches, empty.changes, empty.first) == (0, 0, ())


def test_a_draft_stands_below_the_rules_of_its_priority(owner: int) -> None:
    with session_for_user(owner) as session:
        add_transactions(session, owner, "shop")
        rules.add_rule(session, owner, draft("shop", "Fuel"))
        assert rules.preview_draft(session, owner, draft()).overruled == 1


def test_only_the_twenty_latest_changes_are_shown(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, *["shop"] * 30)
        planned = rules.preview_draft(session, owner, draft())
    assert planned.changes == 30
    assert [each.txn_id for each in planned.first] == ids[:9:-1]


def test_applying_writes_what_the_preview_said_and_never_over_a_person_s_label(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, "shop a", "shop b", "shop fuel", "else")
        write_labels(session, {ids[0]: "Coffee"}, source="human")
        rules.add_rule(session, owner, draft("fuel", "Fuel", priority=1))
        rule = rules.add_rule(session, owner, draft())
        planned = rules.preview_rule(session, owner, rule.rule_id)
        done = rules.apply_rule(session, owner, rule.rule_id)
        assert done.labels == planned.changes == 1
        assert labels_of(session) == {ids[0]: ("Coffee", "human"), ids[1]: ("Groceries", "rule")}
        assert rules.apply_rule(session, owner, rule.rule_id).labels == 0


def test_taking_an_application_back_a_second_time_changes_nothing(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, "shop a", "shop b")
        rule = rules.add_rule(session, owner, draft())
        done = rules.apply_rule(session, owner, rule.rule_id)
        write_labels(session, {ids[0]: "Coffee"}, source="human")
        first = rules.undo_application(session, done.application_id)
        assert (first.restored, first.kept) == (1, 1)
        again = rules.apply_rule(session, owner, rule.rule_id)
        second = rules.undo_application(session, done.application_id)
        assert (second.restored, second.kept, second.deleted) == (0, 0, 0)
        assert (first.repeated, second.repeated) == (False, True)
        assert "before" in second.sentence
        assert again.labels == 1
        assert labels_of(session) == {ids[0]: ("Coffee", "human"), ids[1]: ("Groceries", "rule")}


def test_taking_back_an_application_that_wrote_nothing_is_no_repetition(owner: int) -> None:
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft())
        done = rules.apply_rule(session, owner, rule.rule_id)
        assert not rules.undo_application(session, done.application_id).repeated
        assert rules.undo_application(session, done.application_id).repeated


def test_labels_of_transactions_that_were_deleted_since_are_reported_as_that(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, "shop a", "shop b", "shop c", "shop d")
        rule = rules.add_rule(session, owner, draft())
        done = rules.apply_rule(session, owner, rule.rule_id)
        write_labels(session, {ids[0]: "Coffee", ids[1]: "Coffee"}, source="human")
        driver_connection(session).execute(
            "UPDATE transactions SET deleted_at = now() WHERE id = ANY(%s)", [[ids[1], ids[2]]]
        )
        undone = rules.undo_application(session, done.application_id)
        assert (undone.restored, undone.kept, undone.deleted) == (1, 1, 2)
        assert undone.sentence == (
            "Labels that are again what they were before: 1. "
            "Labels that stay, because something happened to them since: 1. "
            "Labels of transactions that were deleted since, which stay as they are: 2."
        )


def test_a_rule_whose_category_is_gone_is_not_applied_and_says_so(owner: int) -> None:
    with session_for_user(owner) as session:
        add_transactions(session, owner, "shop")
        rule = rules.add_rule(session, owner, draft(category="Fuel"))
        session.execute(text("DELETE FROM categories WHERE name = 'Fuel'"))
        with pytest.raises(Conflict, match="category is not one of yours any more"):
            rules.apply_rule(session, owner, rule.rule_id)
        assert labels_of(session) == {}


@pytest.mark.parametrize("change", ["remove", "edit", "overrule"])
def test_a_rule_is_applied_as_it_stands_once_what_is_happening_to_the_rules_has_happened(
    owner: int, admin_connection: psycopg.Connection, change: str
) -> None:
    with session_for_user(owner) as session:
        (txn_id,) = add_transactions(session, owner, "shop")
        rule = rules.add_rule(session, owner, draft())

    def apply() -> None:
        with session_for_user(owner) as session:
            rules.apply_rule(session, owner, rule.rule_id)

    def waits_or_is_done(applying: Future[None]) -> bool:
        waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        return applying.done() or bool(admin_connection.execute(waiting).fetchall())

    with ThreadPoolExecutor(1) as pool:
        with session_for_user(owner) as session:
            if change == "remove":
                rules.remove_rule(session, owner, rule.rule_id)
            elif change == "edit":
                rules.edit_rule(session, owner, rule.rule_id, draft(category="Coffee"))
            else:
                rules.add_rule(session, owner, draft(category="Fuel", priority=1))
            applying = pool.submit(apply)
            while not waits_or_is_done(applying):
                pass
        refusal = applying.exception()
    assert isinstance(refusal, Conflict) == (change == "remove")
    with session_for_user(owner) as session:
        assert labels_of(session) == ({txn_id: ("Coffee", "rule")} if change == "edit" else {})


def test_of_two_applications_that_changed_a_label_only_the_later_one_is_taken_back(owner: int) -> None:
    with session_for_user(owner) as session:
        (txn_id,) = add_transactions(session, owner, "shop")
        rule = rules.add_rule(session, owner, draft(category="Fuel"))
        first = rules.apply_rule(session, owner, rule.rule_id)
        rules.edit_rule(session, owner, rule.rule_id, draft(category="Coffee"))
        second = rules.apply_rule(session, owner, rule.rule_id)
        assert rules.undo_application(session, first.application_id).kept == 1
        assert labels_of(session) == {txn_id: ("Coffee", "rule")}
        assert rules.undo_application(session, second.application_id).restored == 1
        assert labels_of(session) == {txn_id: ("Fuel", "rule")}


LABELS = st.sampled_from([None, *((label, source) for label in CATEGORIES for source in ("human", "rule", "import"))])


@given(before=st.lists(LABELS, min_size=1, max_size=8), touched=st.sets(st.integers(0, 7)))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_applying_a_rule_and_taking_it_back_leaves_every_label_as_it_was(
    owner: int, before: list[tuple[str, str] | None], touched: set[int]
) -> None:
    with get_engine("admin").begin() as connection:
        connection.execute(text("DELETE FROM transactions; DELETE FROM rules"))
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, *["shop"] * len(before))
    import_labels(owner, {ids[i]: each[0] for i, each in enumerate(before) if each and each[1] == "import"})
    with session_for_user(owner) as session:
        for i, each in enumerate(before):
            if each and each[1] == "human":
                write_labels(session, {ids[i]: each[0]}, source="human")
            elif each and each[1] == "rule":
                write_labels(session, {ids[i]: each[0]}, source="rule")
        found = labels_of(session)
        rule = rules.add_rule(session, owner, draft())
        done = rules.apply_rule(session, owner, rule.rule_id)
        applied = labels_of(session)
        assert {i for i in found if found[i][1] == "human"} <= {i for i in applied if applied[i] == found.get(i)}
        assert all(label == "Groceries" or source == "human" for label, source in applied.values())
        corrected = {ids[i]: "Fuel" for i in touched if i < len(ids)}
        write_labels(session, corrected, source="human")
        rules.undo_application(session, done.application_id)
        expected = {i: label for i, label in found.items() if i not in corrected}
        assert labels_of(session) == expected | dict.fromkeys(corrected, ("Fuel", "human"))


def test_a_large_ledger_is_labelled_and_taken_back_in_one_go(owner: int) -> None:
    with session_for_user(owner) as session:
        driver_connection(session).execute(
            """
            INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
            SELECT %s, 'card', date '2025-01-01' + n %% 300, -1, 'shop ' || n, sha256(n::text::bytea)
            FROM generate_series(1, 20000) AS n
            """,
            [owner],
        )
        rule = rules.add_rule(session, owner, draft())
        done = rules.apply_rule(session, owner, rule.rule_id)
        assert done.labels == 20_000
        assert rules.undo_application(session, done.application_id).restored == 20_000
        assert labels_of(session) == {}


# --- what rules are worth -------------------------------------------------------------------------------------------


def test_precision_counts_what_people_and_files_said_last_of_what_the_rule_decides(owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(
            session, owner, "shop right", "shop wrong", "shop unknown", "shop fuel", "shop withdrawn", "shop imported"
        )
    import_labels(owner, {ids[5]: "Groceries", ids[0]: "Coffee"})
    with session_for_user(owner) as session:
        write_labels(session, {ids[0]: "Groceries", ids[1]: "Coffee", ids[3]: "Coffee"}, source="human")
        write_labels(session, {ids[4]: "Groceries"}, source="human")
        remove_labels(session, [ids[4]])
        rule = rules.add_rule(session, owner, draft())
        fuel = rules.add_rule(session, owner, draft("fuel", "Fuel", priority=1))
        rules.apply_rule(session, owner, rule.rule_id)
        report = rules.report_rules(session, owner)
    records = {each.rule.rule_id: each.record for each in report.rules}
    record = records[rule.rule_id]
    assert (record.hits, record.total) == (2, 3)
    assert [record.share, record.lower, record.upper] == pytest.approx([2 / 3, 0.2077, 0.9385], abs=1e-4)
    assert (records[fuel.rule_id].hits, records[fuel.rule_id].total) == (0, 1)
    assert [(each.matches, each.wins) for each in report.rules] == [(6, 5), (1, 1)]


def test_a_rule_is_not_measured_against_what_it_wrote_itself(owner: int) -> None:
    with session_for_user(owner) as session:
        add_transactions(session, owner, "shop a")
        rule = rules.add_rule(session, owner, draft())
        rules.apply_rule(session, owner, rule.rule_id)
        (each,) = rules.report_rules(session, owner).rules
    assert (each.record.total, each.record.share, each.record.lower) == (0, None, None)


def test_rules_that_contradict_each_other_and_rules_that_could_go_are_named(owner: int) -> None:
    with session_for_user(owner) as session:
        add_transactions(session, owner, "shop a", "shop b", "market shop")
        shop = rules.add_rule(session, owner, draft())
        market = rules.add_rule(session, owner, draft("market", "Fuel", priority=1))
        narrow = rules.add_rule(session, owner, draft("shop a"))
        report = rules.report_rules(session, owner)
    assert [(each.winner_id, each.loser_id, each.transactions) for each in report.conflicts] == [
        (market.rule_id, shop.rule_id, 1)
    ]
    assert report.conflict_count == 1
    redundant = {each.rule.rule_id: each.redundant_beside for each in report.rules}
    assert redundant == {shop.rule_id: None, market.rule_id: None, narrow.rule_id: shop.rule_id}


def test_track_records_follow_new_labels_and_changed_rules(owner: int) -> None:
    def record(session: Session) -> tuple[int, int]:
        active = rules.read_active_rules(session)
        found = rules.rule_track_records(session, owner, active)[active[0].rule_id]
        return found.hits, found.total

    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, "shop a", "shop b")
        rule = rules.add_rule(session, owner, draft())
        assert record(session) == (0, 0)
        write_labels(session, {ids[0]: "Groceries"}, source="human")
        assert record(session) == (1, 1)
        write_labels(session, {ids[1]: "Coffee"}, source="human")
        assert record(session) == (1, 2)
        rules.edit_rule(session, owner, rule.rule_id, draft(category="Coffee"))
        assert record(session) == (1, 2)
        rules.edit_rule(session, owner, rule.rule_id, draft("shop b", category="Coffee"))
        assert record(session) == (1, 1)


def test_track_records_follow_renamed_merchants_and_imported_and_replaced_transactions(
    owner: int, tmp_path: Path
) -> None:
    def ingest(action: Literal["append", "replace"], *rows: str) -> None:
        path = tmp_path / "statement.csv"
        path.write_text("\n".join(["date,description,amount,category", *rows, ""]))
        with session_for_user(owner) as session:
            ingest_statement(session, owner, path, action=action)

    def record() -> tuple[int, int]:
        with session_for_user(owner) as session:
            found = rules.rule_track_records(session, owner, rules.read_active_rules(session))[rule.rule_id]
            (listed,) = rules.report_rules(session, owner).rules
            assert found == listed.record
        return found.hits, found.total

    days = [f"2025-03-{day:02d},TESCO STORES,-{day}.50,Groceries" for day in range(1, 29)]
    more = [f"2025-04-{day:02d},SHELL,-{day}.50,Fuel" for day in range(1, 29)]
    ingest("append", *days, *more)
    with session_for_user(owner) as session:
        rule = rules.add_rule(session, owner, draft("big shop", field="merchant"))
        (merchant,) = {each.merchant for each in list_merchants(session, owner, search="tesco")}
    assert record() == (0, 0)
    with session_for_user(owner) as session:
        rename_merchant(session, owner, merchant, "Big Shop")
    assert record() == (28, 28)
    with session_for_user(owner) as session:
        rename_merchant(session, owner, merchant, "Other Shop")
    assert record() == (0, 0)
    with session_for_user(owner) as session:
        rename_merchant(session, owner, merchant, "Big Shop")
    assert record() == (28, 28)
    ingest("replace", *days[:10], *days[-1:])
    assert record() == (11, 11)
    ingest("append", *days)
    assert record() == (28, 28)


def test_track_records_are_not_counted_again_while_little_has_changed(
    owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, *["shop"] * 201)
        write_labels(session, dict.fromkeys(ids[:200], "Groceries"), source="human")
        rules.add_rule(session, owner, draft())
        active = rules.read_active_rules(session)
        counted = rules.rule_track_records(session, owner, active)
        write_labels(session, {ids[200]: "Coffee"}, source="human")
        assert rules.rule_track_records(session, owner, active) is counted
        monkeypatch.setattr(learnt_cache, "TOLERATED_GROWTH", 0.001)
        assert rules.rule_track_records(session, owner, active) != counted


def test_proposals_come_from_a_person_s_labels_where_no_rule_decides_yet(owner: int) -> None:
    with session_for_user(owner) as session:
        tesco = add_transactions(session, owner, *["x"] * 4, merchant="tesco's")
        bean = add_transactions(session, owner, *["y"] * 3, merchant="bean")
        guessed = add_transactions(session, owner, *["z"] * 3, merchant="guessed")
        write_labels(session, dict.fromkeys(tesco, "Groceries") | dict.fromkeys(bean, "Coffee"), source="human")
        write_labels(session, dict.fromkeys(guessed, "Fuel"), source="rule")
        proposals = rules.propose_rules(session, owner)
        assert [(each.rule.name, each.support, each.hits) for each in proposals] == [
            ("tesco's is Groceries", 4, 4),
            ("bean is Coffee", 3, 3),
        ]
        assert rules.list_rules(session) == []
        assert len(rules.propose_rules(session, owner, limit=1)) == 1
        rules.add_rule(session, owner, proposals[0].rule)
        assert [each.rule.name for each in rules.propose_rules(session, owner)] == ["bean is Coffee"]


# --- the doors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def local(client: TestClient) -> int:
    """The local user, with categories."""
    assert client
    return with_categories(ensure_user(get_settings().local_user))


def body(**changes: Any) -> dict[str, Any]:
    return json.loads(draft().model_dump_json(by_alias=True)) | changes


def test_a_rule_s_whole_life_through_the_api(client: TestClient, local: int) -> None:
    with session_for_user(local) as session:
        ids = add_transactions(session, local, "shop a", "shop b")
    assert client.post("/rules/preview", json=body()).json()["changes"] == 2
    added = client.post("/rules", json=body())
    assert added.status_code == 201
    assert added.json() | {"created_at": ""} == body() | {
        "rule_id": 1, "revision": 1, "is_enabled": True, "created_at": ""
    }  # fmt: skip
    done = client.post("/rules/1/apply").json()
    assert done["labels"] == 2
    assert client.post("/rules/1/preview").json()["labelled_same"] == 2
    undone = client.post(f"/rules/applications/{done['application_id']}/undo").json()
    assert undone == {
        "application_id": done["application_id"], "restored": 2, "kept": 0, "deleted": 0, "repeated": False,
        "sentence": "Labels that are again what they were before: 2.",
    }  # fmt: skip
    assert client.post(f"/rules/applications/{done['application_id']}/undo").json()["repeated"] is True
    assert client.put("/rules/1", json=body(priority=7)).json()["revision"] == 2
    listed = client.get("/rules").json()
    assert [(each["rule"]["priority"], each["matches"]) for each in listed["rules"]] == [(7, 2)]
    assert client.delete("/rules/1").status_code == 204
    assert [each["is_enabled"] for each in client.get("/rules/1").json()["revisions"]] == [False, True, True]
    assert client.get("/rules").json() == {"rules": [], "conflicts": [], "conflict_count": 0}
    assert client.post("/rules/1/apply").status_code == 409
    with session_for_user(local) as session:
        assert labels_of(session) == {}
    assert ids


def test_a_proposal_is_taken_by_post_as_it_is(client: TestClient, local: int) -> None:
    with session_for_user(local) as session:
        ids = add_transactions(session, local, *["x"] * 3, merchant="bean")
        write_labels(session, dict.fromkeys(ids, "Coffee"), source="human")
    (proposal,) = client.get("/rules/proposals").json()
    assert (proposal["support"], proposal["precision"]) == (3, 1.0)
    assert client.post("/rules", json=proposal["rule"]).status_code == 201
    assert client.get("/rules/proposals").json() == []


def test_somebody_else_s_rules_and_applications_look_like_none(client: TestClient, local: int) -> None:
    # With two users, a request must say which it acts for.
    with session_for_user(local) as session:
        client.headers["Authorization"] = f"Bearer {new_token(session, local, name='test', scope='write').secret}"
    other = with_categories(ensure_user("other"))
    with session_for_user(other) as session:
        add_transactions(session, other, "shop")
        rule = rules.add_rule(session, other, draft())
        done = rules.apply_rule(session, other, rule.rule_id)
    for method, path in [
        ("GET", "/rules/{}"), ("PUT", "/rules/{}"), ("DELETE", "/rules/{}"), ("POST", "/rules/{}/preview"),
        ("POST", "/rules/{}/apply"), ("POST", "/rules/applications/{}/undo"),
    ]:  # fmt: skip
        content = body() if method == "PUT" else None
        theirs = client.request(method, path.format(rule.rule_id), json=content)
        nobodys = client.request(method, path.format(999), json=content)
        assert theirs.status_code == nobodys.status_code == 404, path
        assert theirs.json()["detail"].replace(str(rule.rule_id), "999") == nobodys.json()["detail"]
    assert client.get("/rules").json()["rules"] == []
    with session_for_user(other) as session:
        assert rules.read_rule(session, rule.rule_id) == rule
        assert len(labels_of(session)) == done.labels == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"category": "Nobody's"}, 400), ({"priority": 1001}, 422), ({"name": "a\0"}, 422), ({"unknown": 1}, 422),
        ({"condition": {"match": "all", "conditions": []}}, 422),
        (
            {
                "condition": {
                    "match": "all",
                    "conditions": [{"field": "merchant", "operator": "regex", "value": "(?=secret)"}],
                }
            },
            400,
        ),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused_without_echo(
    client: TestClient, local: int, change: dict[str, Any], status: int
) -> None:
    assert local
    for method, path in [("POST", "/rules"), ("POST", "/rules/preview")]:
        answer = client.request(method, path, json=body(**change))
        assert answer.status_code == status
        assert "secret" not in answer.text
        assert "Nobody" not in answer.text


@pytest.fixture
def lm(owner: int) -> Any:
    """Run `lm rules …` as somebody."""
    from app.cli import app  # noqa: PLC0415 -- only these tests need the command line

    assert owner

    def run(*words: str) -> str:
        done = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["rules", *words, "--user", "somebody"])
        if done.exception:
            raise done.exception
        return done.output

    return run


def test_every_option_of_the_command_line_becomes_its_condition(lm: Any) -> None:
    added = lm(
        "add", "--any", "--description-contains", "a", "--description-equals", "b", "--merchant-contains", "c",
        "--merchant-equals", "d", "--regex", "e+", "--merchant-regex", "f+", "--min", "1", "--max", "2.50",
        "--spending", "--account", "card", "--mcc", "5814", "--weekday", "mon", "--weekday", "sunday",
        "--category", "Coffee", "--priority", "5", "--name", "all of it", "--json",
    )  # fmt: skip
    rule = json.loads(added)
    assert rule["condition"] == {
        "match": "any",
        "conditions": [
            {"field": "description", "operator": "contains", "value": "a"},
            {"field": "description", "operator": "equals", "value": "b"},
            {"field": "merchant", "operator": "contains", "value": "c"},
            {"field": "merchant", "operator": "equals", "value": "d"},
            {"field": "description", "operator": "regex", "value": "e+"},
            {"field": "merchant", "operator": "regex", "value": "f+"},
            {"field": "amount", "minimum": "1.00", "maximum": "2.50"},
            {"field": "sign", "is": "spending"},
            {"field": "account", "equals": "card"},
            {"field": "mcc", "equals": "5814"},
            {"field": "weekday", "days": [0, 6]},
        ],
    }
    assert (rule["category"], rule["priority"], rule["name"]) == ("Coffee", 5, "all of it")


def test_a_rule_s_whole_life_on_the_command_line(lm: Any, owner: int) -> None:
    with session_for_user(owner) as session:
        add_transactions(session, owner, "shop a", "shop b", "shop fuel")
    dry = lm("add", "--description-contains", "shop", "--category", "Groceries", "--dry-run")
    assert "Would change" in dry
    assert "No rules yet" in lm("list")
    assert "Rule 1 added" in lm("add", "--description-contains", "shop", "--category", "Groceries")
    assert "Rule 2 added" in lm("add", "--regex", "fuel$", "--category", "Fuel", "--priority", "1", "--income")
    assert "Rule 2 edited" in lm("edit", "2", "--regex", "fuel$")
    assert "nothing changes" in lm("edit", "2", "--category", "Fuel")
    assert "are decided by a rule above it" in lm("preview", "1")
    assert "Transactions labelled: 2. `lm rules undo 1`" in lm("apply", "1")
    assert "Rules 2 and 1: both match 1 of the transactions; rule 2 decides." in lm("list")
    assert json.loads(lm("list", "--json"))["conflict_count"] == 1
    assert "Labels that are again what they were before: 2." in lm("undo", "1")
    assert "taken back before" in lm("undo", "1")
    assert json.loads(lm("undo", "1", "--json"))["repeated"] is True
    assert "out of force" in lm("remove", "2")
    shown = lm("show", "2")
    assert shown.index("out of force") < shown.index("income")
    assert "Nothing to propose" in lm("propose")


def test_the_command_that_a_proposal_prints_adds_it(lm: Any, owner: int) -> None:
    with session_for_user(owner) as session:
        ids = add_transactions(session, owner, *["x"] * 3, merchant='--tesco\'s "$HOME"')
        write_labels(session, dict.fromkeys(ids, "Groceries"), source="human")
    printed = lm("propose")
    (command,) = [line for line in printed.splitlines() if line.startswith("lm rules add")]
    lm(*shlex.split(command)[2:])
    assert "Nothing to propose" in lm("propose")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "--category", "Coffee"), "something that it asks"),
        (("add", "--regex", "x"), "needs a --category"),
        (("add", "--regex", "(?=x)", "--category", "Coffee"), "look-around"),
        (("add", "--weekday", "someday", "--category", "Coffee"), "--weekday takes mon"),
        (("add", "--mcc", "12", "--category", "Coffee"), r"stored\. equals: .*pattern"),
        (("add", "--min", "much", "--category", "Coffee"), r"stored\. minimum: .*decimal\.$"),
        (("add", "--min", "2", "--max", "1", "--category", "Coffee"), "minimum above its maximum"),
    ],
)
def test_a_command_that_makes_no_rule_says_why(lm: Any, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        lm(*words)


def test_the_report_on_a_large_ledger_takes_seconds(owner: int) -> None:
    with session_for_user(owner) as session:
        driver_connection(session).execute(
            """
            INSERT INTO transactions (user_id, account, date, amount, description, merchant, fingerprint)
            SELECT
                %s, 'card', date '2025-01-01' + n %% 300, -n %% 100, 'shop ' || n, 'm' || n %% 500,
                sha256(n::text::bytea)
            FROM generate_series(1, 20000) AS n
            """,
            [owner],
        )
        for number in range(100):
            rules.add_rule(session, owner, draft(f"m{number}", CATEGORIES[number % 3], field="merchant"))
        started = time.perf_counter()
        report = rules.report_rules(session, owner)
        assert time.perf_counter() - started < 20
    assert sum(each.wins for each in report.rules) > 0
    assert len(report.conflicts) <= report.conflict_count
