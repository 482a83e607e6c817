"""A challenger becomes champion on live answers to what the champion was due to suggest, or is refused on them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from rivals import BECAUSE, BOTH_RIGHT, RIGHT_WRONG, SILENT_RIGHT, WRONG_RIGHT, Served, log_suggestion, play

from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.errors import Conflict
from app.ml.sequential import ALPHA
from app.ml.tracking import artefact_root
from app.services import challenger_policy, deployments, experiments
from app.services.categories import rename_or_merge
from app.services.challenger_evidence import count_categories
from app.services.challenger_policy import judge_challenger, judge_challengers
from app.services.deployments import Current
from app.services.experiment_assignment import Arm
from app.services.experiment_plans import Plan
from app.services.feedback import answer_suggestion
from app.services.kept_suggestions import score_by_another
from app.services.labels import write_labels
from app.services.shadow import ShadowScorer
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from app.services.challenger_policy import ChallengerReport
    from tests.integration.conftest import Ledger

CLEAR_WIN = [WRONG_RIGHT] * 40 + [SILENT_RIGHT] * 20 + [BOTH_RIGHT] * 160


@pytest.fixture
def rivals(labelled: Ledger, make_version: Callable[..., int]) -> tuple[int, int, int]:
    """A former champion, the champion and the challenger."""
    return make_rivals(labelled.user_id, make_version)


def make_rivals(category_set: int, make_version: Callable[..., int]) -> tuple[int, int, int]:
    former, champion, challenger = (make_version(category_set) for _ in range(3))
    with session_for_jobs() as session:
        deployments.promote(session, category_set, former, **BECAUSE)
        deployments.promote(session, category_set, champion, **BECAUSE)
        deployments.challenge(session, category_set, challenger, **BECAUSE)
    return former, champion, challenger


def reported(ledger: Ledger) -> ChallengerReport:
    report = judge_challenger(ledger.user_id, apply=False)
    assert report is not None
    return report


def current(ledger: Ledger) -> Current:
    with session_for_jobs() as session:
        return deployments.current(session, ledger.user_id)


# --- decided --------------------------------------------------------------------------------------------------------


def test_a_challenger_that_is_right_more_often_becomes_champion_and_why_is_on_record(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, CLEAR_WIN)
    (report,) = judge_challengers()
    assert (report.decision, report.champion, report.timings.milliseconds) == ("promote", champion, 0.4)
    assert report.evidence.comparison.difference == pytest.approx(60 / 220)
    assert (report.evidence.disagreements.wins, report.evidence.disagreements.losses) == (60, 0)
    assert current(labelled) == Current(challenger, None)
    with session_for_jobs() as session:
        decided = deployments.history(session, labelled.user_id)[0]
    assert (decided.action, decided.actor, decided.replaced_version) == ("promote", challenger_policy.ACTOR, champion)
    assert "points" in decided.reason


def test_one_that_is_wrong_more_often_is_refused_and_is_challenger_no_longer(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, [RIGHT_WRONG] * 60 + [BOTH_RIGHT] * 160)
    (report,) = judge_challengers()
    assert report.decision == "refuse"
    assert current(labelled) == Current(champion, None)
    with session_for_jobs() as session:
        actions = [each.action for each in deployments.history(session, labelled.user_id)]
    assert actions[:2] == ["withdraw", "refuse"]


def test_accepting_what_the_champion_said_refuses_no_challenger(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    said = [RIGHT_WRONG] * 60 + [BOTH_RIGHT] * 160
    play(admin_connection, labelled, Served(champion), challenger, said, accepting=True)
    (report,) = judge_challengers()
    assert report.evidence.comparison.upper < 0
    assert report.evidence.independent.treatment_answers == 0
    assert (report.decision, current(labelled).challenger) == ("wait", challenger)


def test_an_accept_of_another_suggestion_of_the_transaction_is_no_independent_truth_either(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, [WRONG_RIGHT] * 2)
    forget = "DELETE FROM transaction_labels WHERE txn_id IN (SELECT txn_id FROM suggestion_events) RETURNING txn_id"
    first, second = (txn_id for (txn_id,) in admin_connection.execute(forget).fetchall())
    again = log_suggestion(admin_connection, labelled, first, ["Groceries"], Served(None, mode="heuristic"))
    with session_for_user(labelled.user_id) as session:
        answer_suggestion(session, labelled.user_id, again, "accept")
        write_labels(session, {second: "Fuel"}, source="human")
    evidence = reported(labelled).evidence
    assert (evidence.comparison.treatment_answers, evidence.independent.treatment_answers) == (2, 1)


def test_names_are_compared_as_they_are_today(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, [WRONG_RIGHT] * 20)
    with session_for_user(labelled.user_id) as session:
        rename_or_merge(session, labelled.user_id, "Fuel", "Car")
    evidence = reported(labelled).evidence
    assert (evidence.comparison.difference, evidence.categories[0].category) == (1, "Car")
    assert evidence.independent.treatment_answers == 20


def test_where_people_decide_nothing_is_promoted_by_itself(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, champion, challenger = rivals
    monkeypatch.setenv("LM_PROMOTION", '{"automatic": false}')
    get_settings.cache_clear()
    play(admin_connection, labelled, Served(champion), challenger, CLEAR_WIN)
    (report,) = judge_challengers()
    get_settings.cache_clear()
    assert report.decision == "promote"
    assert current(labelled) == Current(champion, challenger)


def test_categories_share_one_alpha_by_how_many_the_category_set_has(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, CLEAR_WIN)
    (category,) = reported(labelled).evidence.categories
    assert category.category == "Fuel"
    # Groceries, Fuel and Household.
    assert category.independent.alpha == pytest.approx(ALPHA / 3)


def test_a_challenger_no_better_that_people_only_correct_the_champion_by_is_not_promoted(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    said = [WRONG_RIGHT] * 60 + [("Groceries", "Fuel", "")] * 60 + [BOTH_RIGHT] * 160 + [("Fuel", "Fuel", "")] * 40
    play(admin_connection, labelled, Served(champion), challenger, said)
    (report,) = judge_challengers()
    assert (report.evidence.comparison.difference, report.evidence.comparison.treatment_answers) == (0, 320)
    assert (report.evidence.answered, report.decision) == (220, "wait")
    assert report.reasons[0].startswith("Of 320 suggestions 220 were answered or labelled;")


def test_silence_is_for_a_champion_that_offered_something_else_and_was_not_rejected(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, [("Groceries", "Fuel", "")] * 3 + [("", "Fuel", "")])
    assert reported(labelled).evidence.comparison.difference == pytest.approx(-3 / 4)
    ((event_id,),) = admin_connection.execute("SELECT min(id) FROM suggestion_events").fetchall()
    answers: list[tuple[Literal["reject", "undo"], float]] = [("reject", -2 / 4), ("undo", -3 / 4)]
    for action, expected in answers:
        with session_for_user(labelled.user_id) as session:
            answer_suggestion(session, labelled.user_id, event_id, action)
        evidence = reported(labelled).evidence
        assert evidence.comparison.difference == pytest.approx(expected)
        assert evidence.answered == 0


# --- what is evidence ------------------------------------------------------------------------------------------------


def test_what_was_labelled_before_both_were_asked_is_no_evidence(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, CLEAR_WIN)
    admin_connection.execute("UPDATE transaction_labels SET updated_at = '2000-01-01'")
    report = reported(labelled)
    assert (report.decision, report.evidence.answered) == ("wait", 0)
    assert report.evidence.comparison.upper <= 0


FORMER, CHAMPION = 0, 1


@pytest.mark.parametrize(
    ("served", "is_evidence"),
    [
        (Served(CHAMPION), True),
        (Served(CHAMPION, mode="model"), True),
        (Served(CHAMPION, experiment="trial", arm="now"), True),
        # The champion was due and could not answer.
        (Served(None), True),
        (Served(None, mode="model"), True),
        (Served(None, experiment="trial", arm="now"), True),
        # It was not due.
        (Served(None, mode="heuristic"), False),
        (Served(None, experiment="trial", arm="rules"), False),
        (Served(None, experiment="trial", arm="other"), False),
        (Served(FORMER, experiment="trial", arm="other"), False),
        (Served(FORMER), False),
    ],
)
def test_the_challenger_is_put_beside_the_champion_and_nobody_else(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    admin_connection: psycopg.Connection,
    served: Served,
    is_evidence: bool,  # noqa: FBT001 -- a case
) -> None:
    arms = (
        Arm("now", "champion", None, 0.4),
        Arm("rules", "rule", None, 0.3),
        Arm("other", "version", rivals[FORMER], 0.3),
    )
    with session_for_jobs() as session:
        experiments.create_experiment(session, labelled.user_id, Plan("trial", "user", arms), actor="a test")
    if served.version is not None:
        served = replace(served, version=rivals[served.version])
    play(admin_connection, labelled, served, rivals[-1], [WRONG_RIGHT] * 4)
    assert reported(labelled).evidence.comparison.treatment_answers == (4 if is_evidence else 0)


def another_is_promoted(category_set: int, another: int) -> None:
    with session_for_jobs() as session:
        deployments.promote(session, category_set, another, **BECAUSE)


def it_is_rolled_back(category_set: int, _: int) -> None:
    with session_for_jobs() as session:
        deployments.rollback(session, category_set, **BECAUSE)


def it_is_retired(category_set: int, _: int) -> None:
    with session_for_jobs() as session:
        deployments.retire_champion(session, category_set, **BECAUSE)


@pytest.mark.parametrize("happens", [another_is_promoted, it_is_rolled_back, it_is_retired])
def test_what_was_answered_under_a_former_champion_promotes_nobody_over_the_present_one(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    admin_connection: psycopg.Connection,
    make_version: Callable[..., int],
    happens: Callable[[int, int], None],
) -> None:
    *_, challenger = rivals
    # The heuristics in a champion's place are nobody's version.
    play(admin_connection, labelled, Served(None), challenger, CLEAR_WIN)
    assert reported(labelled).decision == "promote"
    happens(labelled.user_id, make_version(labelled.user_id))
    (report,) = judge_challengers()
    assert (report.decision, report.evidence.comparison.treatment_answers) == ("wait", 0)
    assert current(labelled).challenger == challenger


# --- several at a time ------------------------------------------------------------------------------------------------


def test_a_challenger_whose_file_is_broken_is_refused_and_the_other_sets_are_judged_all_the_same(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    ledger_of: Callable[[str], Ledger],
    make_version: Callable[..., int],
    admin_connection: psycopg.Connection,
) -> None:
    other = ledger_of("bea")
    other.add("2025-01-01,ALDI,-1.00,card,Groceries", "2025-01-02,SHELL,-4.00,card,Fuel")
    others = make_rivals(other.user_id, make_version)
    for ledger, (_, champion, challenger) in ((labelled, rivals), (other, others)):
        play(admin_connection, ledger, Served(champion), challenger, CLEAR_WIN)
    find = "SELECT artefact_name FROM model_versions WHERE version = %s"
    ((name,),) = admin_connection.execute(find, [rivals[-1]]).fetchall()
    (artefact_root() / name).write_bytes(b"something else")
    assert sorted(report.decision for report in judge_challengers()) == ["promote", "refuse"]
    assert current(labelled) == Current(rivals[1], None)
    assert current(other) == Current(others[-1], None)
    with session_for_jobs() as session:
        refused = deployments.history(session, labelled.user_id)[1]
    assert (refused.action, refused.version) == ("refuse", rivals[-1])
    assert "SHA-256 differs" in refused.reason


def test_what_is_decided_meanwhile_holds_and_the_one_that_is_challenger_by_then_is_judged(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    make_version: Callable[..., int],
    admin_connection: psycopg.Connection,
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, CLEAR_WIN)
    new = make_version(labelled.user_id)
    judged: list[ChallengerReport | None] = []
    judging = threading.Thread(target=lambda: judged.append(judge_challenger(labelled.user_id, apply=True)))
    with session_for_jobs() as session:
        deployments.challenge(session, labelled.user_id, new, **BECAUSE)
        judging.start()
        judging.join(1)
        assert judged == []
    judging.join(30)
    assert [(report.version, report.decision) for report in judged if report] == [(new, "wait")]
    assert current(labelled) == Current(champion, new)


def test_a_version_that_is_not_the_challenger_is_not_withdrawn(labelled: Ledger, rivals: tuple[int, int, int]) -> None:
    former, champion, challenger = rivals
    with session_for_jobs() as session, pytest.raises(Conflict, match=f"version {challenger} is"):
        deployments.withdraw(session, labelled.user_id, former, **BECAUSE)
    assert current(labelled) == Current(champion, challenger)


def test_a_challenger_that_is_gone_back_to_is_challenger_no_longer(
    labelled: Ledger, make_version: Callable[..., int]
) -> None:
    former, champion = make_version(labelled.user_id), make_version(labelled.user_id)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, former, **BECAUSE)
        deployments.promote(session, labelled.user_id, champion, **BECAUSE)
        deployments.challenge(session, labelled.user_id, former, **BECAUSE)
        deployments.rollback(session, labelled.user_id, **BECAUSE)
    assert current(labelled) == Current(former, None)
    assert judge_challengers() == []


def test_an_error_about_one_set_holds_up_no_other(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    ledger_of: Callable[[str], Ledger],
    make_version: Callable[..., int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = ledger_of("bea")
    make_rivals(other.user_id, make_version)
    play(admin_connection, labelled, Served(rivals[1]), rivals[-1], CLEAR_WIN)

    def fail_for_the_other(session: Any, category_set: int | None) -> int:
        if category_set == other.user_id:
            raise ZeroDivisionError
        return count_categories(session, category_set)

    monkeypatch.setattr(challenger_policy, "count_categories", fail_for_the_other)
    assert [report.decision for report in judge_challengers()] == ["promote"]
    assert f"The challenger of category set {other.user_id} cannot be judged." in caplog.text


# --- its time -------------------------------------------------------------------------------------------------------


def test_waiting_for_a_processor_is_not_the_challenger_s_time(
    labelled: Ledger,
    rivals: tuple[int, int, int],
    admin_connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rivals

    def held_up(*arguments: Any) -> Any:
        time.sleep(0.2)
        return score_by_another(*arguments)

    monkeypatch.setattr("app.services.shadow.score_by_another", held_up)
    (txn_id,) = labelled.add("2025-05-01,ALDI 0077 YORK,-9.00,card,")
    suggest_now(labelled.user_id, [txn_id], mode="model")
    ShadowScorer().score_waiting(settling=0)
    find = "SELECT (inputs ->> 'milliseconds')::float8 FROM suggestion_events WHERE source = 'shadow'"
    ((milliseconds,),) = admin_connection.execute(find).fetchall()
    assert 0 < milliseconds < 150
    assert reported(labelled).timings.milliseconds == milliseconds


def test_times_are_counted_since_it_became_challenger_and_by_what_the_policy_allows(
    labelled: Ledger, rivals: tuple[int, int, int], admin_connection: psycopg.Connection
) -> None:
    _, champion, challenger = rivals
    play(admin_connection, labelled, Served(champion), challenger, [BOTH_RIGHT] * 10)
    slow = """UPDATE suggestion_events SET inputs = '{"milliseconds": 7}' WHERE source = 'shadow' AND id % 5 = 0"""
    admin_connection.execute(slow)
    timings = reported(labelled).timings
    assert timings.count == 10
    assert timings.slow == 2
    assert timings.milliseconds == pytest.approx(7)
    with session_for_jobs() as session:
        deployments.withdraw(session, labelled.user_id, **BECAUSE)
    with session_for_jobs() as session:
        deployments.challenge(session, labelled.user_id, challenger, **BECAUSE)
    assert reported(labelled).timings == challenger_policy.Timings(0, 0, None)
