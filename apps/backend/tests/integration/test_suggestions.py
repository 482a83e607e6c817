"""What is suggested, how sure that is, and that all of it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app.db import driver_connection, read_frame, session_for_user
from app.errors import InvalidInput
from app.ml.features import TRANSACTION_SCHEMA, build_features, feature_hashes
from app.ml.hierarchical_prior import OWN_THRESHOLD
from app.services.asked_transactions import MOST_TRANSACTIONS
from app.services.categories import rename_or_merge
from app.services.labels import write_labels
from app.services.rules import RuleDraft, add_rule
from app.services.shared_priors import refresh_shared_priors
from app.services.suggestions import Suggestions, suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Ledger


def suggested(ledger: Ledger, txn_ids: list[int], **options: Any) -> Suggestions:
    return suggest_now(ledger.user_id, txn_ids, **options)


def hashes_of(ledger: Ledger, txn_ids: list[int]) -> list[str]:
    """Hash the features as a build makes them, in the order of the ids."""
    with session_for_user(ledger.user_id) as session:
        columns = "id, date, posted_at, amount, description, mcc, channel_hint"
        query = f"SELECT {columns} FROM transactions WHERE id = ANY(%s) ORDER BY id"
        rows = read_frame(driver_connection(session), query, TRANSACTION_SCHEMA, [txn_ids])
    hashed = dict(zip(rows["txn_id"], feature_hashes(build_features(rows)), strict=True))
    return [hashed[txn_id] for txn_id in txn_ids]


def events(connection: psycopg.Connection) -> list[dict[str, Any]]:
    cursor = connection.execute("SELECT * FROM suggestion_events ORDER BY id")
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def test_what_a_merchant_was_always_called_is_suggested_with_its_reason(labelled: Ledger) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    (made,) = suggested(labelled, [new]).suggestions
    best = made.candidates[0]
    assert (made.txn_id, made.source, made.model_version, made.abstention) == (new, "rule", None, None)
    assert (best.label, best.confidence > 0.9) == ("Groceries", True)
    assert any("12 of 12 times" in reason for reason in best.reasons), best.reasons


def test_nothing_is_suggested_for_a_merchant_nobody_has_labelled(labelled: Ledger) -> None:
    (new,) = labelled.add("2025-02-01,QQZZ UNHEARD OF,-9.00,card,")
    (made,) = suggested(labelled, [new], min_confidence=0.0).suggestions
    assert (made.candidates, made.abstention) == ((), "no_candidate")


def test_what_is_not_sure_enough_is_withheld_and_the_answer_says_so(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,CORNER SHOP,-9.00,card,")
    (made,) = suggested(labelled, [new]).suggestions
    assert (made.candidates, made.abstention) == ((), "below_confidence")
    (logged,) = events(admin_connection)
    # What was not shown is not what was suggested; what it was stays among the inputs.
    assert logged["candidates"] == []
    assert {kept["label"] for kept in logged["inputs"]["evidence"]} == {"Groceries", "Household"}
    (asked,) = suggested(labelled, [new], min_confidence=0.1).suggestions
    assert {candidate.label for candidate in asked.candidates} == {"Groceries", "Household"}
    assert asked.candidates[0].confidence < OWN_THRESHOLD


def test_a_user_s_own_threshold_holds_where_the_request_names_none(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,CORNER SHOP,-9.00,card,")
    admin_connection.execute("UPDATE users SET min_confidence = 0.1 WHERE id = %s", [labelled.user_id])
    assert suggested(labelled, [new]).suggestions[0].abstention is None
    assert suggested(labelled, [new], min_confidence=0.99).suggestions[0].abstention == "below_confidence"


def test_one_answer_moves_the_next_suggestion(labelled: Ledger) -> None:
    first, second = labelled.add("2025-02-01,NEW PLACE,-9.00,card,", "2025-02-02,NEW PLACE,-8.00,card,")
    assert suggested(labelled, [second]).suggestions[0].abstention == "no_candidate"
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {first: "Household"}, source="human")
    (made,) = suggested(labelled, [second], min_confidence=0.5).suggestions
    assert made.candidates[0].label == "Household"


def test_a_labelled_transaction_is_no_evidence_for_itself(labelled: Ledger) -> None:
    (only,) = labelled.add("2025-02-01,SEEN ONCE,-9.00,card,Household")
    (made,) = suggested(labelled, [only], min_confidence=0.0).suggestions
    assert made.abstention == "no_candidate"


def test_every_answer_is_one_event_with_what_was_used(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    ids = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,", "2025-02-01,QQZZ,-9.00,card,")
    made = suggested(labelled, ids, mode="heuristic").suggestions
    logged = events(admin_connection)
    assert [(event["id"], event["txn_id"]) for event in logged] == [(each.event_id, each.txn_id) for each in made]
    sure, silent = logged
    assert (sure["mode"], sure["source"], sure["model_version"]) == ("heuristic", "rule", None)
    assert [event["features_hash"] for event in logged] == hashes_of(labelled, ids)
    assert sure["user_id"] == labelled.user_id
    best = made[0].candidates[0]
    assert sure["candidates"][0] == {"label": best.label, "confidence": best.confidence, "reasons": list(best.reasons)}
    assert silent["candidates"] == []
    inputs = sure["inputs"]
    assert inputs["min_confidence"] == OWN_THRESHOLD
    assert inputs["evidence"][0]["merchant"][:2] == [12, 12]
    assert replayed(inputs) == pytest.approx(inputs["evidence"][0]["probability"])


def replayed(inputs: dict[str, Any]) -> float:
    """Compute the best candidate's probability from what its event kept."""
    kept = inputs["evidence"][0]
    probability = kept["base"]
    for level in ("builtin", "merchant", "description", "account"):
        if level in kept:
            _, total, share = kept[level]
            strength = inputs["strengths"][level]
            probability = (total * share + strength * probability) / (total + strength)
    return float(probability)


@pytest.mark.parametrize("mode", ["heuristic", "model", "auto"])
def test_without_a_model_the_heuristics_answer_whatever_was_asked_for(
    labelled: Ledger, admin_connection: psycopg.Connection, mode: Any
) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    (made,) = suggested(labelled, [new], mode=mode).suggestions
    assert (made.source, made.model_version) == ("rule", None)
    assert events(admin_connection)[0]["mode"] == mode


def test_ids_of_others_and_of_nothing_look_the_same(labelled: Ledger, ledger_of: Callable[[str], Ledger]) -> None:
    (theirs,) = ledger_of("other").add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    made = suggested(labelled, [theirs, 99_999_999, theirs])
    assert (made.suggestions, made.unknown) == ((), (theirs, 99_999_999))


def test_a_thousand_are_answered_in_the_order_asked_for_and_one_more_is_refused(labelled: Ledger) -> None:
    ids = labelled.add(
        *[f"2025-02-{1 + number % 28:02},ALDI {number:04} YORK,-{number}.00,card," for number in range(1, 1001)]
    )
    backwards = ids[::-1]
    made = suggested(labelled, [*backwards[:500], *backwards[:500]]).suggestions
    assert [each.txn_id for each in made] == backwards[:500]
    assert [each.txn_id for each in suggested(labelled, backwards).suggestions] == backwards
    with pytest.raises(InvalidInput, match="at most"):
        suggested(labelled, list(range(1, MOST_TRANSACTIONS + 2)))


def test_deleted_transactions_are_neither_asked_about_nor_evidence(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,SHELL YORK,-9.00,card,")
    admin_connection.execute(
        "UPDATE transactions SET deleted_at = now() WHERE description = 'SHELL YORK' AND id <> %s", [new]
    )
    assert suggested(labelled, [new], min_confidence=0.0).suggestions[0].abstention == "no_candidate"
    admin_connection.execute("UPDATE transactions SET deleted_at = now() WHERE id = %s", [new])
    assert suggested(labelled, [new]).unknown == (new,)


def test_a_request_that_fails_leaves_no_event(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    admin_connection.execute("ALTER TABLE suggestion_events ADD CONSTRAINT refuse CHECK (txn_id < 0)")
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            suggested(labelled, [new])
    finally:
        admin_connection.execute("ALTER TABLE suggestion_events DROP CONSTRAINT refuse")
    assert events(admin_connection) == []
    assert suggested(labelled, [new]).suggestions[0].event_id


def test_other_users_are_asked_from_three_on_each_once_and_only_for_labels_one_has(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], admin_connection: psycopg.Connection
) -> None:
    (new,) = labelled.add("2025-02-01,PLANTOPIA,-9.00,card,")
    for number in range(5):
        # One of them labels much, and otherwise than the rest.
        label, rows = ("Secret hobby", 50) if number == 0 else ("Household", 1)
        ledger_of(f"other {number}").add(
            *[f"2025-01-{1 + row % 28:02},PLANTOPIA,-{row}.10,card,{label}" for row in range(rows)]
        )
        refresh_shared_priors()
        made = suggested(labelled, [new], min_confidence=0.0).suggestions[0]
        if number < 2:
            assert made.abstention == "no_candidate", number
        else:
            assert [candidate.label for candidate in made.candidates] == ["Household"]
            assert f"{number} of {number + 1} other people here" in made.candidates[0].reasons[0]
    kept = admin_connection.execute("SELECT * FROM shared_merchant_priors ORDER BY label").fetchall()
    # What one of them alone calls it is told to nobody.
    assert kept == [("plantopia", "Household", 4, 5)]


def test_with_the_shared_categories_built_in_knowledge_suggests_from_the_first_day(ledger: Ledger) -> None:
    supermarket, nobody = ledger.add(
        "2025-02-01,FRESH SUPERMARKET,-9.00,card,", "2025-02-01,QQZZ UNHEARD OF,-9.00,card,"
    )
    made = suggested(ledger, [supermarket, nobody]).suggestions
    assert made[0].candidates[0].label == "Groceries"
    assert made[0].candidates[0].reasons == ("Payments of this kind usually are Groceries.",)
    assert made[1].abstention == "no_candidate"


def test_suggestions_change_nothing_but_the_log(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    (new,) = labelled.add("2025-02-01,ALDI 0077 YORK,-9.00,card,")
    before = admin_connection.execute("SELECT count(*), max(id) FROM label_events").fetchone()
    suggested(labelled, [new])
    assert admin_connection.execute("SELECT count(*), max(id) FROM label_events").fetchone() == before
    with session_for_user(labelled.user_id) as session:
        found = session.execute(text("SELECT category FROM transactions WHERE id = :id"), {"id": new})
        assert found.scalar_one() is None


def test_other_users_are_heard_under_the_names_that_each_user_gives_categories(
    ledger_of: Callable[[str], Ledger],
) -> None:
    shared_word, renamed = "Charity", "Giving back"
    for number in range(4):
        other = ledger_of(f"other {number}")
        other.add(f"2025-01-0{number + 1},PLANTOPIA,-1.00,card,{shared_word}")
        if number == 0:
            # What one calls the category oneself does not change what one votes for.
            rename(other, shared_word, "Alms")
    refresh_shared_priors()
    reader = ledger_of("reader")
    rename(reader, shared_word, renamed)
    (new,) = reader.add("2025-02-01,PLANTOPIA,-9.00,card,")
    made = suggested(reader, [new], min_confidence=0.0).suggestions[0]
    assert [candidate.label for candidate in made.candidates] == [renamed]
    assert "4 of 4 other people" in made.candidates[0].reasons[0]


def rename(ledger: Ledger, name: str, into: str) -> None:
    with session_for_user(ledger.user_id) as session:
        rename_or_merge(session, ledger.user_id, name, into)


def test_a_renamed_category_is_suggested_and_explained_under_its_name_of_today(ledger: Ledger) -> None:
    rename(ledger, "Groceries", "Food shopping")
    other, supermarket = ledger.add("2025-01-01,PLANTOPIA,-9.00,card,", "2025-02-01,FRESH SUPERMARKET,-9.00,card,")
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {other: "Rent"}, source="human")
    (made,) = suggested(ledger, [supermarket]).suggestions
    assert made.candidates[0].label == "Food shopping"
    assert made.candidates[0].reasons == ("Payments of this kind usually are Food shopping.",)


def test_one_s_own_vote_does_not_come_back_as_that_of_others(ledger_of: Callable[[str], Ledger]) -> None:
    mine = ledger_of("mine")
    (labelled,) = mine.add("2025-01-01,PLANTOPIA,-1.00,card,Rent")
    for number in range(2):
        ledger_of(f"other {number}").add("2025-01-01,PLANTOPIA,-1.00,card,Rent")
    refresh_shared_priors()
    (made,) = suggested(mine, [labelled], min_confidence=0.0).suggestions
    assert made.abstention == "no_candidate"


def test_a_rule_is_not_vouched_for_by_the_transaction_that_is_asked_about(ledger: Ledger) -> None:
    (only,) = ledger.add("2025-02-01,PLANTOPIA,-9.00,card,")
    draft = RuleDraft.model_validate(
        {
            "name": "plants",
            "condition": {"match": "all", "conditions": [
                {"field": "description", "operator": "contains", "value": "plantopia"}
            ]},
            "category": "Garden",
        }
    )  # fmt: skip
    with session_for_user(ledger.user_id) as session:
        add_rule(session, ledger.user_id, draft)
    before = suggested(ledger, [only]).suggestions[0].candidates[0]
    assert (before.label, before.reasons) == ("Garden", ('Your rule "plants" says so.',))
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {only: "Garden"}, source="human")
    assert suggested(ledger, [only]).suggestions[0].candidates[0] == before
