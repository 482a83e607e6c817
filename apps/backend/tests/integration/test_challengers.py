"""A challenger becomes champion on live answers, and a champion that does not keep its promise is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

from app.config import PromotionPolicy, get_settings
from app.db import session_for_jobs, session_for_user
from app.ml.evidence import Evidence
from app.ml.sequential import compare_on_same_answers
from app.services import challenger_policy, champion_watch, deployments
from app.services.challenger_policy import CategoryRecord, decide, judge_challengers
from app.services.champion_watch import watch_champions
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels
from app.services.served_models import SERVER
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.ml.sequential import Comparison
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
POLICY = PromotionPolicy(least_answers=100)


@pytest.fixture(autouse=True)
def _fresh_server() -> Iterator[None]:
    """Versions of another test's database have the same numbers."""
    yield
    SERVER.__init__()  # type: ignore[misc]


# --- the policy ---------------------------------------------------------------------------------------------------


def compared(wins: int, losses: int, answers: int) -> Comparison:
    """Compare on answers of a unit each."""
    differences = np.zeros(answers, dtype=np.int64)
    differences[:wins] = 1
    differences[wins : wins + losses] = -1
    return compare_on_same_answers(differences, np.ones(answers, dtype=np.int64))


@pytest.mark.parametrize(
    ("comparison", "categories", "milliseconds", "decision", "because"),
    [
        (compared(60, 0, 400), (), None, "promote", "enough to decide: yes"),
        (compared(60, 0, 99), (), None, "wait", "100 answers are the fewest"),
        (compared(6, 5, 400), (), None, "wait", "enough to decide: no"),
        (compared(0, 60, 400), (), None, "refuse", "enough to decide: yes"),
        (compared(60, 0, 400), (CategoryRecord("Fuel", 30, -0.2),), None, "refuse", "Fuel (-20.0 points)"),
        (compared(60, 0, 400), (CategoryRecord("Fuel", 30, -0.05),), None, "promote", "yes"),
        (compared(60, 0, 400), (), 50.0, "refuse", "50.0 ms"),
        (compared(60, 0, 400), (), 4.9, "promote", "yes"),
    ],
)
def test_the_policy_wants_enough_answers_a_clear_win_no_category_worse_and_speed(
    comparison: Comparison,
    categories: tuple[CategoryRecord, ...],
    milliseconds: float | None,
    decision: str,
    because: str,
) -> None:
    decided, reasons = decide(POLICY, comparison, categories, milliseconds)
    assert decided == decision
    assert because in " ".join(reasons)


# --- on live answers ------------------------------------------------------------------------------------------------


@pytest.fixture
def rivals(labelled: Ledger, make_version: Callable[..., int]) -> tuple[int, int]:
    """A champion and a challenger."""
    champion, challenger = make_version(labelled.user_id), make_version(labelled.user_id)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, champion, **BECAUSE)
        deployments.challenge(session, labelled.user_id, challenger, **BECAUSE)
    return champion, challenger


def play(
    connection: psycopg.Connection, ledger: Ledger, rivals: tuple[int, int], said: list[tuple[str, str, str]]
) -> None:
    """Log what champion and challenger suggested for a merchant each and, later, what it was."""
    champion, challenger = rivals
    ids = ledger.add(*[f"2025-03-01,{stem(number)} SHOP,-{number}.00,card," for number in range(1, len(said) + 1)])
    truths = {}
    for txn_id, (first, second, truth) in zip(ids, said, strict=True):
        truths[txn_id] = truth
        log = """
            WITH served AS (
                INSERT INTO suggestion_events (txn_id, user_id, mode, source, model_version, candidates)
                VALUES (%(txn_id)s, %(user_id)s, 'auto', 'model', %(champion)s, %(first)s) RETURNING id
            )
            INSERT INTO suggestion_events (
                txn_id, user_id, mode, source, model_version, candidates, served_event_id, inputs
            )
            SELECT %(txn_id)s, %(user_id)s, 'auto', 'shadow', %(challenger)s, %(second)s, id, '{"milliseconds": 0.4}'
            FROM served
        """
        values: dict[str, Any] = {"txn_id": txn_id, "user_id": ledger.user_id}
        values |= {"champion": str(champion), "challenger": str(challenger)}
        values |= {"first": candidates(first), "second": candidates(second)}
        connection.execute(log, values)
    with session_for_user(ledger.user_id) as session:
        write_labels(session, truths, source="human")


def stem(number: int) -> str:
    return "".join(chr(ord("A") + int(digit)) for digit in f"{number:04}") + "X"


def candidates(label: str) -> str:
    return f'[{{"label": "{label}", "confidence": 0.9, "reasons": []}}]' if label else "[]"


RIGHT_WRONG = ("Groceries", "Fuel", "Groceries")
WRONG_RIGHT = ("Groceries", "Fuel", "Fuel")
BOTH_RIGHT = ("Fuel", "Fuel", "Fuel")
SILENT_RIGHT = ("", "Fuel", "Fuel")


def test_a_challenger_that_is_right_more_often_becomes_champion_and_why_is_on_record(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    champion, challenger = rivals
    play(admin_connection, labelled, rivals, [WRONG_RIGHT] * 40 + [SILENT_RIGHT] * 20 + [BOTH_RIGHT] * 160)
    (report,) = judge_challengers()
    assert (report.decision, report.champion, report.milliseconds) == ("promote", champion, 0.4)
    assert report.comparison.difference == pytest.approx(60 / 220)
    with session_for_jobs() as session:
        assert deployments.current(session, labelled.user_id) == deployments.Current(challenger, None)
        decided = deployments.history(session, labelled.user_id)[0]
    assert (decided.action, decided.actor, decided.replaced_version) == ("promote", challenger_policy.ACTOR, champion)
    assert "points" in decided.reason


def test_one_that_is_wrong_more_often_is_refused_and_is_challenger_no_longer(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    champion, _ = rivals
    play(admin_connection, labelled, rivals, [RIGHT_WRONG] * 60 + [BOTH_RIGHT] * 160)
    (report,) = judge_challengers()
    assert report.decision == "refuse"
    with session_for_jobs() as session:
        assert deployments.current(session, labelled.user_id) == deployments.Current(champion, None)
        actions = [each.action for each in deployments.history(session, labelled.user_id)]
    assert actions[:2] == ["withdraw", "refuse"]


def test_what_was_labelled_before_both_were_asked_is_no_evidence(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    play(admin_connection, labelled, rivals, [WRONG_RIGHT] * 60)
    admin_connection.execute("UPDATE transaction_labels SET updated_at = '2000-01-01'")
    with session_for_jobs() as session:
        report = challenger_policy.report_challenger(session, labelled.user_id)
    assert report is not None
    assert report.comparison.treatment_answers == 0
    assert report.decision == "wait"


def test_where_people_decide_nothing_is_promoted_by_itself(
    labelled: Ledger,
    rivals: tuple[int, int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LM_PROMOTION", '{"automatic": false}')
    get_settings.cache_clear()
    play(admin_connection, labelled, rivals, [WRONG_RIGHT] * 60 + [BOTH_RIGHT] * 160)
    (report,) = judge_challengers()
    get_settings.cache_clear()
    assert report.decision == "promote"
    with session_for_jobs() as session:
        assert deployments.current(session, labelled.user_id) == deployments.Current(*rivals)


# --- the watch ------------------------------------------------------------------------------------------------------


def live(ledger: Ledger, truth: str, count: int) -> None:
    """Be suggested something for so many new transactions of as many merchants, and answer."""
    ids = ledger.add(*[f"2025-04-01,{stem(number)} ALDI,-{number}.00,card," for number in range(1, count + 1)])
    for made in suggest_now(ledger.user_id, ids, min_confidence=0.0).suggestions:
        if made.candidates:
            is_right = made.candidates[0].label == truth
            with session_for_user(ledger.user_id) as session:
                if is_right:
                    answer_suggestion(session, ledger.user_id, made.event_id, "accept")
                else:
                    answer_suggestion(session, ledger.user_id, made.event_id, "reject", label=truth)


def spoilt(ledger: Ledger, train_version: Callable[[Ledger], int], connection: psycopg.Connection) -> int:
    """Register a model that has learnt the opposite of what is right, as of a ledger with its labels swapped."""
    swap = "UPDATE transaction_labels SET label = CASE label WHEN 'Groceries' THEN 'Fuel' ELSE 'Groceries' END"
    connection.execute(swap)
    version = train_version(ledger)
    connection.execute(swap)
    return version


@pytest.fixture
def good_and_bad(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> tuple[int, int]:
    """A version that has learnt what is right, and one that has learnt the opposite."""
    admin_connection.execute("DELETE FROM transaction_labels WHERE label = 'Household'")
    labelled.add(*[f"2025-02-{day:02},{stem(day)} ALDI,-{day}.50,card,Groceries" for day in range(1, 29)])
    labelled.add(*[f"2025-02-{day:02},{stem(day)} SHELL,-4{day}.00,card,Fuel" for day in range(1, 29)])
    good = train_version(labelled)
    return good, spoilt(labelled, train_version, admin_connection)


def test_a_bad_model_is_taken_back_by_itself_and_a_good_one_is_not(
    labelled: Ledger, good_and_bad: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = good_and_bad
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, good, **BECAUSE)
    live(labelled, "Groceries", 60)
    assert watch_champions() == []
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, bad, **BECAUSE)
    # What a bad model says would be outvoted by counts of labels; here it is told none.
    monkeypatch.setattr("app.services.model_answers.model_evidence", no_evidence)
    live(labelled, "Groceries", 90)
    (taken_back,) = watch_champions()
    assert (taken_back.action, taken_back.version, taken_back.replaced_version) == ("rollback", good, bad)
    assert taken_back.actor == champion_watch.ACTOR
    assert "did not keep its promise" in taken_back.reason
    assert watch_champions() == []


def no_evidence(*_: object) -> Any:
    nothing = np.zeros(0, dtype=np.int64)
    return Evidence(nothing, nothing, nothing, np.zeros(0))


def test_a_bad_first_champion_leaves_the_heuristics(
    labelled: Ledger, good_and_bad: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bad = good_and_bad
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, bad, **BECAUSE)
    monkeypatch.setattr("app.services.model_answers.model_evidence", no_evidence)
    live(labelled, "Groceries", 90)
    (taken_back,) = watch_champions()
    assert (taken_back.action, taken_back.version) == ("retire", bad)
    with session_for_jobs() as session:
        assert deployments.current(session, labelled.user_id).champion is None
    monkeypatch.undo()
    (new,) = labelled.add("2025-05-01,ALDI 0077 YORK,-9.00,card,")
    assert suggest_now(labelled.user_id, [new]).suggestions[0].source == "rule"
