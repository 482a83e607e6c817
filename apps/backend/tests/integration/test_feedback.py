"""Answers: what each does, that repeats and races do it once, and that undo takes back exactly that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.db import session_for_user
from app.errors import Conflict, InvalidInput, NotFound
from app.services.categories import add_category, rename_or_merge, undo_rename
from app.services.feedback import Answer, answer_suggestion
from app.services.installation import ensure_user
from app.services.labels import write_labels
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    import psycopg

    from tests.integration.conftest import Ledger


@pytest.fixture
def event(labelled: Ledger) -> tuple[int, int]:
    """A suggestion of Groceries, with other candidates behind it: the ids of the event and of its transaction."""
    (new,) = labelled.add("2025-02-01,CORNER SHOP,-9.00,card,")
    (made,) = suggest_now(labelled.user_id, [new], min_confidence=0.0).suggestions
    assert [candidate.label for candidate in made.candidates] == ["Groceries", "Household"]
    return made.event_id, new


def answer(ledger: Ledger, event_id: int, action: Any, **details: Any) -> Answer:
    with session_for_user(ledger.user_id) as session:
        return answer_suggestion(session, ledger.user_id, event_id, action, **details)


def label(ledger: Ledger, txn_id: int) -> tuple[str, str] | None:
    return ledger.labels([txn_id])[0]


def rename(ledger: Ledger, name: str, into: str) -> None:
    with session_for_user(ledger.user_id) as session:
        rename_or_merge(session, ledger.user_id, name, into)


def counted() -> tuple[float, ...]:
    """Return how many suggestions were accepted and rejected, and how many labels people wrote, so far."""
    families = (
        ("lm_suggestions_accepted_total", "rule"),
        ("lm_suggestions_rejected_total", "rule"),
        ("lm_labels_total", "human"),
    )
    return tuple(REGISTRY.get_sample_value(name, {"source": source}) or 0.0 for name, source in families)


def rise(before: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(now - earlier for now, earlier in zip(counted(), before, strict=True))


def history(connection: psycopg.Connection, txn_id: int) -> list[tuple[str | None, str | None]]:
    rows = connection.execute("SELECT label, source FROM label_events WHERE txn_id = %s ORDER BY id", [txn_id])
    return rows.fetchall()


def test_accept_sets_the_category_and_a_human_label(labelled: Ledger, event: tuple[int, int]) -> None:
    given_answer = answer(labelled, event[0], "accept")
    assert given_answer == Answer(event[0], event[1], "accept", "Groceries", "Groceries", repeated=False)
    assert label(labelled, event[1]) == ("Groceries", "human")


def test_another_candidate_can_be_accepted_and_nothing_else(labelled: Ledger, event: tuple[int, int]) -> None:
    assert answer(labelled, event[0], "accept", label="Household").category == "Household"
    with pytest.raises(InvalidInput, match="Only what was suggested"):
        answer(labelled, event[0], "accept", label="Fuel")


def test_reject_with_a_label_sets_that_one(labelled: Ledger, event: tuple[int, int]) -> None:
    assert answer(labelled, event[0], "reject", label="Fuel").category == "Fuel"
    assert label(labelled, event[1]) == ("Fuel", "human")
    with pytest.raises(InvalidInput, match="accept it instead"):
        answer(labelled, event[0], "reject", label="Groceries")
    with pytest.raises(InvalidInput):
        answer(labelled, event[0], "reject", label="No such category")


def test_reject_without_a_label_leaves_the_transaction_as_it_was(labelled: Ledger, event: tuple[int, int]) -> None:
    assert answer(labelled, event[0], "reject").category is None
    assert label(labelled, event[1]) is None


@pytest.mark.parametrize("before", [None, ("Fuel", "rule"), ("Household", "human")])
def test_undo_takes_back_exactly_what_the_answer_did(
    labelled: Ledger, event: tuple[int, int], before: tuple[str, Any] | None
) -> None:
    if before:
        with session_for_user(labelled.user_id) as session:
            write_labels(session, {event[1]: before[0]}, source=before[1])
    answer(labelled, event[0], "accept")
    assert label(labelled, event[1]) == ("Groceries", "human")
    undone = answer(labelled, event[0], "undo")
    assert (undone.label, undone.category) == (None, before[0] if before else None)
    assert label(labelled, event[1]) == before
    assert answer(labelled, event[0], "undo").repeated


def test_a_second_answer_replaces_the_first_and_undo_goes_back_before_both(
    labelled: Ledger, event: tuple[int, int]
) -> None:
    answer(labelled, event[0], "accept")
    answer(labelled, event[0], "reject", label="Fuel")
    assert label(labelled, event[1]) == ("Fuel", "human")
    answer(labelled, event[0], "undo")
    assert label(labelled, event[1]) is None


def test_undo_leaves_a_label_alone_that_was_changed_since(labelled: Ledger, event: tuple[int, int]) -> None:
    answer(labelled, event[0], "accept")
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {event[1]: "Household"}, source="human")
    answer(labelled, event[0], "undo")
    assert label(labelled, event[1]) == ("Household", "human")


def test_undo_of_an_answer_after_such_a_change_goes_back_to_it(labelled: Ledger, event: tuple[int, int]) -> None:
    answer(labelled, event[0], "accept")
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {event[1]: "Fuel"}, source="human")
    answer(labelled, event[0], "accept", label="Household")
    answer(labelled, event[0], "undo")
    assert label(labelled, event[1]) == ("Fuel", "human")


def test_the_same_answer_again_is_one_answer(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    answer(labelled, event[0], "accept")
    assert answer(labelled, event[0], "accept").repeated
    assert admin_connection.execute("SELECT count(*) FROM suggestion_feedback").fetchone() == (1,)
    assert history(admin_connection, event[1]) == [("Groceries", "human")]


def test_a_key_names_one_answer_for_good(labelled: Ledger, event: tuple[int, int]) -> None:
    answer(labelled, event[0], "accept", idempotency_key="a")
    answer(labelled, event[0], "undo", idempotency_key="b")
    late_repeat = answer(labelled, event[0], "accept", idempotency_key="a")
    assert late_repeat.repeated
    assert (late_repeat.category, label(labelled, event[1])) == (None, None)
    with pytest.raises(Conflict, match="another answer"):
        answer(labelled, event[0], "reject", idempotency_key="a")


def test_answers_at_the_same_moment_have_one_effect(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: answer(labelled, event[0], "accept", idempotency_key="k"), range(16)))
    assert [given_answer.repeated for given_answer in answers].count(False) == 1
    assert admin_connection.execute("SELECT count(*) FROM suggestion_feedback").fetchone() == (1,)
    assert history(admin_connection, event[1]) == [("Groceries", "human")]


def test_of_contradicting_answers_the_label_is_that_of_the_one_that_counts(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    choices: list[tuple[Any, str | None]] = [
        ("accept", None),
        ("reject", "Fuel"),
        ("accept", "Household"),
        ("undo", None),
    ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda choice: answer(labelled, event[0], choice[0], label=choice[1]), choices * 6))
    row = admin_connection.execute(
        "SELECT action, label FROM suggestion_feedback ORDER BY created_at DESC, id DESC LIMIT 1"
    ).fetchone()
    assert row is not None
    assert label(labelled, event[1]) == ((row[1], "human") if row[0] != "undo" else None)


def test_an_answer_that_began_before_another_and_comes_after_it_changes_nothing(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    with session_for_user(labelled.user_id) as early:
        early.connection().exec_driver_sql("SELECT now()")
        answer(labelled, event[0], "reject", label="Fuel")
        answer_suggestion(early, labelled.user_id, event[0], "accept")
    assert label(labelled, event[1]) == ("Fuel", "human")
    kept = admin_connection.execute("SELECT action FROM suggestion_feedback ORDER BY created_at, id").fetchall()
    assert kept == [("accept",), ("reject",)]


def test_suggestions_of_others_of_nobody_and_in_shadow_cannot_be_answered(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    other = ensure_user("other")
    with pytest.raises(NotFound) as theirs, session_for_user(other) as session:
        answer_suggestion(session, other, event[0], "accept")
    with pytest.raises(NotFound) as nobodys:
        answer(labelled, 99_999, "accept")
    assert str(theirs.value) == str(nobodys.value)
    admin_connection.execute(
        "UPDATE suggestion_events SET source = 'shadow', served_event_id = id WHERE id = %s", [event[0]]
    )
    with pytest.raises(NotFound):
        answer(labelled, event[0], "accept")


def test_where_nothing_was_suggested_only_a_rejection_with_a_label_helps(labelled: Ledger) -> None:
    (new,) = labelled.add("2025-02-01,QQZZ UNHEARD OF,-9.00,card,")
    (made,) = suggest_now(labelled.user_id, [new]).suggestions
    with pytest.raises(InvalidInput, match="nothing to accept"):
        answer(labelled, made.event_id, "accept")
    assert answer(labelled, made.event_id, "reject", label="Fuel").category == "Fuel"


def test_after_a_rename_the_candidate_is_accepted_by_todays_name_and_kept_by_its_own_word(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    rename(labelled, "Groceries", "Food")
    accepted = answer(labelled, event[0], "accept", label="Food")
    assert (accepted.label, accepted.category) == ("Groceries", "Food")
    assert answer(labelled, event[0], "accept", label="Groceries").repeated
    assert admin_connection.execute("SELECT action, label FROM suggestion_feedback").fetchall() == [
        ("accept", "Groceries")
    ]


@pytest.mark.parametrize("word", ["Food", "Groceries"])
def test_after_a_rename_rejecting_by_either_name_what_was_suggested_is_refused(
    labelled: Ledger, event: tuple[int, int], word: str
) -> None:
    rename(labelled, "Groceries", "Food")
    with pytest.raises(InvalidInput, match="accept it instead"):
        answer(labelled, event[0], "reject", label=word)


def test_the_same_rejection_in_todays_words_is_one_answer(
    labelled: Ledger, event: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    answer(labelled, event[0], "reject", label="Fuel")
    rename(labelled, "Fuel", "Petrol")
    again = answer(labelled, event[0], "reject", label="Petrol")
    assert (again.repeated, again.label, again.category) == (True, "Fuel", "Petrol")
    assert history(admin_connection, event[1]) == [("Fuel", "human")]


def test_a_key_names_its_answer_through_renames_and_when_they_are_taken_back(
    labelled: Ledger, event: tuple[int, int]
) -> None:
    rename(labelled, "Groceries", "Food")
    answer(labelled, event[0], "accept", label="Food", idempotency_key="a")
    answer(labelled, event[0], "reject", label="Fuel", idempotency_key="b")
    with session_for_user(labelled.user_id) as session:
        undo_rename(session, labelled.user_id, "Groceries")
    rename(labelled, "Fuel", "Groceries")
    for action, sent, key, kept in (
        ("accept", "Food", "a", "Groceries"), ("accept", None, "a", "Groceries"), ("reject", "Fuel", "b", "Fuel"),
    ):  # fmt: skip
        again = answer(labelled, event[0], action, label=sent, idempotency_key=key)
        assert (again.repeated, again.label) == (True, kept)
    for action, sent, key in (("accept", "Household", "a"), ("reject", None, "b"), ("reject", "Food", "a")):
        with pytest.raises(Conflict, match="another answer"):
            answer(labelled, event[0], action, label=sent, idempotency_key=key)


def test_a_key_names_its_answer_after_the_category_is_gone(labelled: Ledger, event: tuple[int, int]) -> None:
    with session_for_user(labelled.user_id) as session:
        add_category(session, labelled.user_id, "Allotment")
    answer(labelled, event[0], "reject", label="Allotment", idempotency_key="a")
    answer(labelled, event[0], "undo")
    with session_for_user(labelled.user_id) as session:
        session.execute(text("DELETE FROM categories WHERE name = 'Allotment'"))
    assert answer(labelled, event[0], "reject", label="Allotment", idempotency_key="a").repeated
    with pytest.raises(InvalidInput, match="no such category"):
        answer(labelled, event[0], "reject", label="Allotment")


def test_saying_what_it_is_where_nothing_was_suggested_counts_as_no_rejection(labelled: Ledger) -> None:
    (new,) = labelled.add("2025-02-01,QQZZ UNHEARD OF,-9.00,card,")
    (made,) = suggest_now(labelled.user_id, [new]).suggestions
    before = counted()
    answer(labelled, made.event_id, "reject", label="Fuel")
    assert rise(before) == (0, 0, 1)


def test_a_late_answer_is_not_counted(labelled: Ledger, event: tuple[int, int]) -> None:
    before = counted()
    with session_for_user(labelled.user_id) as early:
        early.connection().exec_driver_sql("SELECT now()")
        answer(labelled, event[0], "reject", label="Fuel")
        answer_suggestion(early, labelled.user_id, event[0], "accept")
    assert rise(before) == (0, 1, 1)


def test_another_answer_that_leaves_the_label_as_it_is_counts_no_label(
    labelled: Ledger, event: tuple[int, int]
) -> None:
    before = counted()
    answer(labelled, event[0], "reject", label="Household")
    answer(labelled, event[0], "accept", label="Household")
    answer(labelled, event[0], "accept", label="Household")
    assert rise(before) == (1, 1, 1)
    answer(labelled, event[0], "undo")
    assert label(labelled, event[1]) is None


STEPS = st.lists(
    st.sampled_from([
        ("accept", None), ("accept", "Household"), ("reject", None), ("reject", "Fuel"), ("undo", None),
        ("patch", "Fuel"),
    ]),
    max_size=8,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_answers_ends_as_a_plain_model_says(
    labelled: Ledger, admin_connection: psycopg.Connection, steps: list[tuple[Any, str | None]]
) -> None:
    (new,) = labelled.add("2025-02-01,CORNER SHOP,-9.00,card,") or latest(admin_connection)
    admin_connection.execute("DELETE FROM transaction_labels WHERE txn_id = %s", [new])
    (made,) = suggest_now(labelled.user_id, [new], min_confidence=0.0).suggestions
    now: str | None = None
    before: str | None = None
    standing: tuple[str, str | None] | None = None
    ours = False  # whether the label is still what an answer made it
    for action, named in steps:
        if action == "patch":
            with session_for_user(labelled.user_id) as session:
                changed = write_labels(session, {new: named or ""}, source="human")
            if changed:
                now, ours = named, False
            continue
        meant = named or ("Groceries" if action == "accept" else None)
        answer(labelled, made.event_id, action, label=named)
        if standing == (action, meant) or (standing is None and action == "undo"):
            continue
        wanted = meant or (before if ours else now)
        if meant and wanted != now:
            before, ours = (before if ours else now), True
        elif not meant:
            ours = False
        now = wanted
        standing = None if action == "undo" else (action, meant)
        assert label(labelled, new) == ((now, "human") if now else None), (action, named)


def latest(connection: psycopg.Connection) -> list[int]:
    row = connection.execute("SELECT max(id) FROM transactions").fetchone()
    assert row is not None
    return [row[0]]
