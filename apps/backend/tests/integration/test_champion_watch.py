"""A champion that is right less often than it was sure of is taken back, by whatever its mistakes became known."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rivals import BECAUSE, Served, log_suggestion, stem

from app.db import session_for_jobs, session_for_user
from app.jobs.tasks import advance, judge_models
from app.ml.evidence import Evidence
from app.services import champion_watch, deployments
from app.services.categories import rename_or_merge
from app.services.champion_watch import read_promise, watch_champion, watch_champions
from app.services.deployments import Current
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from app.services.champion_watch import Promise
    from app.services.deployments import Deployment
    from tests.integration.conftest import Ledger


# --- by what models say ---------------------------------------------------------------------------------------------


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


# --- by what becomes known of them ----------------------------------------------------------------------------------


@pytest.fixture
def champion(labelled: Ledger, make_version: Callable[..., int]) -> int:
    """A champion that replaced another."""
    former, version = make_version(labelled.user_id), make_version(labelled.user_id)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, former, **BECAUSE)
        deployments.promote(session, labelled.user_id, version, **BECAUSE)
    return version


def promised(ledger: Ledger) -> Promise:
    promise, _ = watch_champion(ledger.user_id, apply=False)
    assert promise is not None
    return promise


def label(ledger: Ledger, txn_id: int, category: str) -> None:
    with session_for_user(ledger.user_id) as session:
        write_labels(session, {txn_id: category}, source="human")


def answer(ledger: Ledger, event_id: int, action: Any, category: str | None = None) -> None:
    with session_for_user(ledger.user_id) as session:
        answer_suggestion(session, ledger.user_id, event_id, action, label=category)


def rename(ledger: Ledger, category: str, into: str) -> None:
    with session_for_user(ledger.user_id) as session:
        rename_or_merge(session, ledger.user_id, category, into)


# How many answers there are, and the share that is right: what nobody says anything about is.
NOTHING, RIGHT, WRONG = (0, 1.0), (1, 1.0), (1, 0.0)


@pytest.mark.parametrize(
    ("what_happens", "known"),
    [
        ([], NOTHING),
        (["accept"], RIGHT),
        (["accept the second"], WRONG),
        (["reject"], WRONG),
        (["reject for Household"], WRONG),
        (["label Groceries"], RIGHT),
        (["label Household"], WRONG),
        (["accept", "label Household"], WRONG),
        (["reject for Household", "label Groceries"], RIGHT),
        (["accept", "undo"], NOTHING),
        (["reject", "undo"], NOTHING),
        # What was known before it was suggested is no merit.
        (["label Groceries", "ask"], NOTHING),
        (["label Household", "ask", "accept"], RIGHT),
        # A transaction counts once, however often it is asked about.
        (["ask", "ask", "accept"], RIGHT),
        (["ask", "ask", "label Household"], WRONG),
        (["ask", "ask", "reject"], WRONG),
        # Names are those of today.
        (["accept", "rename"], RIGHT),
        (["rename", "label Food"], RIGHT),
        (["rename", "accept"], RIGHT),
    ],
)
def test_a_suggestion_is_right_where_its_first_candidate_is_what_the_transaction_proves_to_be(
    labelled: Ledger,
    champion: int,
    admin_connection: psycopg.Connection,
    what_happens: list[str],
    known: tuple[int, float],
) -> None:
    (txn_id,) = labelled.add("2025-05-01,NEW SHOP,-9.00,card,")
    log = (admin_connection, labelled, txn_id, ["Groceries", "Fuel"], Served(champion))
    happenings: dict[str, Callable[[int], object]] = {
        "accept": lambda event_id: answer(labelled, event_id, "accept"),
        "accept the second": lambda event_id: answer(labelled, event_id, "accept", "Fuel"),
        "reject": lambda event_id: answer(labelled, event_id, "reject"),
        "reject for Household": lambda event_id: answer(labelled, event_id, "reject", "Household"),
        "undo": lambda event_id: answer(labelled, event_id, "undo"),
        "label Groceries": lambda _: label(labelled, txn_id, "Groceries"),
        "label Household": lambda _: label(labelled, txn_id, "Household"),
        "label Food": lambda _: label(labelled, txn_id, "Food"),
        "rename": lambda _: rename(labelled, "Groceries", "Food"),
    }
    event_id = 0 if "ask" in what_happens else log_suggestion(*log)
    for happening in what_happens:
        if happening == "ask":
            event_id = log_suggestion(*log)
        else:
            happenings[happening](event_id)
    promise = promised(labelled)
    assert (promise.answered, promise.live.share) == known
    assert promise.live.answers == 1
    assert promise.promised == pytest.approx(0.9)


def test_a_champion_that_keeps_its_promise_stays_where_people_only_say_what_is_wrong(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    ids = labelled.add(*[f"2025-04-01,{stem(number)} SHOP,-{number}.00,card," for number in range(1, 401)])
    for number, txn_id in enumerate(ids):
        event_id = log_suggestion(admin_connection, labelled, txn_id, ["Groceries"], Served(champion))
        if number % 10 == 0:
            answer(labelled, event_id, "reject")
    assert watch_champions() == []
    promise = promised(labelled)
    assert (promise.live.answers, promise.answered, promise.live.share) == (400, 40, 0.9)
    assert "Of 400 suggestions since it became champion 40 were answered" in promise.sentence


def test_an_error_about_one_set_holds_up_no_other(
    labelled: Ledger,
    champion: int,
    ledger_of: Callable[[str], Ledger],
    make_version: Callable[..., int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = ledger_of("bea")
    with session_for_jobs() as session:
        deployments.promote(session, other.user_id, make_version(other.user_id), **BECAUSE)
    for txn_id in labelled.add(*[f"2025-04-01,{stem(n)} SHOP,-{n}.00,card," for n in range(1, 91)]):
        log_suggestion(admin_connection, labelled, txn_id, ["Groceries"], Served(champion))
        label(labelled, txn_id, "Fuel")
    mirrored: list[bool] = []
    monkeypatch.setattr(champion_watch, "mirror_aliases", lambda: mirrored.append(True))
    monkeypatch.setattr(champion_watch, "read_promise", fail_for(other.user_id))
    (taken_back,) = watch_champions()
    assert (taken_back.action, taken_back.replaced_version, mirrored) == ("rollback", champion, [True])


def test_watching_is_never_held_up_by_one_that_failed_and_waits_to_be_tried_again() -> None:
    assert [task.retry_strategy for task in (judge_models, advance)] == [None, None]


def fail_for(category_set: int) -> Callable[[Any, int | None], Promise | None]:
    """Read promises, but fail on one category set."""

    def read(session: Any, wanted: int | None) -> Promise | None:
        if wanted == category_set:
            raise ZeroDivisionError
        return read_promise(session, wanted)

    return read


@pytest.mark.parametrize("relabels", [False, True])
def test_a_champion_whose_first_candidates_are_wrong_is_taken_back_also_where_nobody_rejects_anything(
    labelled: Ledger,
    champion: int,
    admin_connection: psycopg.Connection,
    relabels: bool,  # noqa: FBT001 -- a case
) -> None:
    ids = labelled.add(*[f"2025-04-01,{stem(number)} SHOP,-{number}.00,card," for number in range(1, 91)])
    for txn_id in ids:
        event_id = log_suggestion(admin_connection, labelled, txn_id, ["Groceries", "Fuel"], Served(champion))
        if relabels:
            label(labelled, txn_id, "Fuel")
        else:
            answer(labelled, event_id, "accept", "Fuel")
    (taken_back,) = watch_champions()
    assert (taken_back.action, taken_back.replaced_version) == ("rollback", champion)
    assert "0.0% were right" in taken_back.reason


def test_what_is_decided_meanwhile_holds(
    labelled: Ledger,
    champion: int,
    make_version: Callable[..., int],
    admin_connection: psycopg.Connection,
) -> None:
    for txn_id in labelled.add(*[f"2025-04-01,{stem(n)} SHOP,-{n}.00,card," for n in range(1, 91)]):
        log_suggestion(admin_connection, labelled, txn_id, ["Groceries"], Served(champion))
        label(labelled, txn_id, "Fuel")
    new = make_version(labelled.user_id)
    seen: list[tuple[Promise | None, Deployment | None]] = []
    watching = threading.Thread(target=lambda: seen.append(watch_champion(labelled.user_id, apply=True)))
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, new, **BECAUSE)
        watching.start()
        watching.join(1)
        assert seen == []
    watching.join(30)
    ((promise, taken_back),) = seen
    assert promise is not None
    assert (promise.version, taken_back) == (new, None)
    with session_for_jobs() as session:
        assert deployments.current(session, labelled.user_id) == Current(new, None)
