"""Engines against each other on live answers: who is in which arm, what came of it, and what stops by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from app.cli import app
from app.db import session_for_jobs, session_for_user
from app.errors import Conflict, InvalidInput, NotFound
from app.ml.sequential import UnitOutcomes, compare_arms
from app.services import deployments, experiments
from app.services.experiment_analysis import ACTOR, PLANNED_ANSWERS, advance_experiments, analyse_experiment
from app.services.experiment_assignment import Arm
from app.services.experiments import CANARY_RAMP, Experiment, Guardrails, Plan
from app.services.served_models import SERVER
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.services.experiment_analysis import ExperimentResult
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
HALVES = (Arm("control", "rule", None, 0.5), Arm("treatment", "champion", None, 0.5))


@pytest.fixture(autouse=True)
def _fresh_server() -> Iterator[None]:
    """Versions of another test's database have the same numbers."""
    yield
    SERVER.__init__()  # type: ignore[misc]


@pytest.fixture
def champion(labelled: Ledger, train_version: Callable[[Ledger], int]) -> int:
    """A model that answers."""
    version = train_version(labelled)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, version, **BECAUSE)
    return version


def run(ledger: Ledger, plan: Plan) -> Experiment:
    """Plan an experiment and put it under way."""
    with session_for_jobs() as session:
        experiments.create_experiment(session, ledger.user_id, plan, actor="a test")
        return experiments.start_experiment(session, ledger.user_id, plan.name, **BECAUSE)


def shown(ledger: Ledger, name: str) -> Experiment:
    with session_for_jobs() as session:
        return experiments.show_experiment(session, ledger.user_id, name)


def analysed(ledger: Ledger, name: str) -> ExperimentResult:
    with session_for_jobs() as session:
        return analyse_experiment(session, experiments.show_experiment(session, ledger.user_id, name))


def shops(ledger: Ledger, count: int) -> list[int]:
    """Add a transaction of each of so many merchants."""
    names = ["".join(chr(ord("A") + int(digit)) for digit in f"{number:04}") for number in range(count)]
    return ledger.add(*[f"2025-03-01,{name} SHOP,-{number + 1}.00,card," for number, name in enumerate(names)])


def play(
    connection: psycopg.Connection,
    ledger: Ledger,
    name: str,
    txn_ids: Sequence[int],
    arm: str,
    accepted: Sequence[bool],
) -> None:
    """Log a suggestion of an arm for each transaction, and the answer."""
    for txn_id, is_accepted in zip(txn_ids, accepted, strict=True):
        connection.execute(
            """
            WITH made AS (
                INSERT INTO suggestion_events (
                    txn_id, user_id, mode, source, model_version, candidates, experiment, arm, propensity
                )
                VALUES (
                    %(txn_id)s, %(user_id)s, 'auto', %(source)s, '1',
                    '[{"label": "Fuel", "confidence": 0.9, "reasons": []}]', %(name)s, %(arm)s, 0.5
                )
                RETURNING id
            )
            INSERT INTO suggestion_feedback (event_id, action, label) SELECT id, %(action)s, 'Fuel' FROM made
            """,
            {
                "txn_id": txn_id,
                "user_id": ledger.user_id,
                "source": "rule" if arm == "control" else "model",
                "name": name,
                "arm": arm,
                "action": "accept" if is_accepted else "reject",
            },
        )


# --- who suggests to whom -------------------------------------------------------------------------------------------


def test_every_event_says_the_arm_and_how_probable_it_was_and_the_arm_answers(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 40)
    made = suggest_now(labelled.user_id, ids).suggestions
    query = "SELECT txn_id, arm, propensity, experiment, source, model_version FROM suggestion_events ORDER BY id"
    rows = admin_connection.execute(query).fetchall()
    assert [row[0] for row in rows] == [each.txn_id for each in made]
    assert {row[2:4] for row in rows} == {(0.5, "trial")}
    answered = {(row[1], row[4], row[5]) for row in rows}
    assert answered == {("control", "rule", None), ("treatment", "model", str(champion))}
    arms = {row[0]: row[1] for row in rows}
    suggest_now(labelled.user_id, ids)
    again = admin_connection.execute("SELECT txn_id, arm FROM suggestion_events ORDER BY id DESC LIMIT 40").fetchall()
    assert dict(again) == arms


def test_only_what_leaves_the_choice_open_is_in_an_experiment(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    assert champion
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 3)
    suggest_now(labelled.user_id, ids, mode="heuristic")
    suggest_now(labelled.user_id, ids, mode="model")
    assert admin_connection.execute("SELECT DISTINCT experiment FROM suggestion_events").fetchall() == [(None,)]


def test_a_version_that_an_arm_names_answers_there_and_after_the_end_nowhere(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int]
) -> None:
    other = train_version(labelled)
    arms = (Arm("champion", "champion", None, 0.5), Arm("canary", "version", other, 0.5))
    run(labelled, Plan("trial", "user_merchant", arms))
    ids = shops(labelled, 30)
    versions = {each.model_version for each in suggest_now(labelled.user_id, ids).suggestions}
    assert versions == {str(champion), str(other)}
    with session_for_jobs() as session:
        experiments.stop_experiment(session, labelled.user_id, "trial", **BECAUSE)
    assert {each.model_version for each in suggest_now(labelled.user_id, ids).suggestions} == {str(champion)}


# --- planning and changing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        Plan("No Name!", "user", HALVES),
        Plan("one-arm", "user", HALVES[:1]),
        Plan("too-much", "user", (HALVES[0], Arm("treatment", "champion", None, 0.6))),
        Plan("twins", "user", (HALVES[0], Arm("control", "champion", None, 0.5))),
        Plan("down", "user", HALVES, ramp=(0.5, 0.1, 1.0)),
        Plan("short", "user", HALVES, ramp=(0.5,)),
        Plan("no-version", "user", (HALVES[0], Arm("treatment", "version", None, 0.5))),
    ],
    ids=lambda plan: plan.name,
)
def test_a_plan_that_cannot_be_carried_out_is_refused(labelled: Ledger, plan: Plan) -> None:
    with session_for_jobs() as session, pytest.raises(InvalidInput):
        experiments.create_experiment(session, labelled.user_id, plan, actor="a test")


def test_one_is_under_way_at_a_time_and_is_started_once(labelled: Ledger) -> None:
    run(labelled, Plan("first", "user", HALVES))
    with session_for_jobs() as session:
        experiments.create_experiment(session, labelled.user_id, Plan("second", "user", HALVES), actor="a test")
    with session_for_jobs() as session, pytest.raises(Conflict, match="first is under way"):
        experiments.start_experiment(session, labelled.user_id, "second", **BECAUSE)
    with session_for_jobs() as session:
        experiments.stop_experiment(session, labelled.user_id, "first", **BECAUSE)
    with session_for_jobs() as session, pytest.raises(Conflict, match="started once"):
        experiments.start_experiment(session, labelled.user_id, "first", **BECAUSE)
    with session_for_jobs() as session, pytest.raises(NotFound):
        experiments.create_experiment(
            session, labelled.user_id, Plan("x", "user", (HALVES[0], Arm("t", "version", 999, 0.5))), actor="a test"
        )


def test_nobody_sees_another_s_experiment(labelled: Ledger, ledger_of: Callable[[str], Ledger]) -> None:
    run(labelled, Plan("trial", "user", HALVES))
    other = ledger_of("other")
    with session_for_user(other.user_id) as session:
        assert experiments.list_experiments(session, labelled.user_id) == []
    with session_for_user(labelled.user_id) as session:
        (own,) = experiments.list_experiments(session, labelled.user_id)
    assert (own.name, own.status, len(own.arms)) == ("trial", "running", 2)


# --- what came of it ------------------------------------------------------------------------------------------------


def test_results_are_those_of_a_count_by_hand_in_words_too(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 400)
    play(admin_connection, labelled, "trial", ids[:200], "control", [number % 2 == 0 for number in range(200)])
    play(admin_connection, labelled, "trial", ids[200:], "treatment", [number % 10 != 0 for number in range(200)])
    # The last answer counts, and one that was taken back is none.
    admin_connection.execute(
        "INSERT INTO suggestion_feedback (event_id, action, created_at) "
        "SELECT id, 'undo', now() + interval '1 second' FROM suggestion_events "
        "WHERE arm = 'control' ORDER BY id LIMIT 10"
    )
    found = analysed(labelled, "trial")
    control, treatment = found.arms
    assert (control.acceptance.answers, treatment.acceptance.answers) == (190, 200)
    assert control.acceptance.share == pytest.approx(95 / 190)
    assert treatment.acceptance.share == pytest.approx(0.9)
    ones = np.ones(200, dtype=np.int64)
    expected = compare_arms(
        UnitOutcomes(ones, np.array([number % 10 != 0 for number in range(200)], dtype=np.int64)),
        UnitOutcomes(ones[:190], np.array([number % 2 == 0 for number in range(10, 200)], dtype=np.int64)),
        planned_answers=PLANNED_ANSWERS,
    )
    assert treatment.acceptance_difference == expected
    assert treatment.sentence is not None
    assert treatment.sentence.startswith("treatment accepts 40.0 points more, [")
    assert "enough to decide: yes" in treatment.sentence
    assert not found.is_suspect


def test_a_division_that_is_not_the_planned_one_is_suspect(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 500)
    play(admin_connection, labelled, "trial", ids[:330], "control", [True] * 330)
    play(admin_connection, labelled, "trial", ids[330:], "treatment", [True] * 170)
    assert analysed(labelled, "trial").is_suspect


def test_an_arm_that_is_much_worse_is_stopped_by_itself_and_its_units_are_the_control_s(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    assert champion
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 300)
    play(admin_connection, labelled, "trial", ids[:150], "control", [True] * 140 + [False] * 10)
    play(admin_connection, labelled, "trial", ids[150:], "treatment", [False] * 120 + [True] * 30)
    (done,) = advance_experiments()
    assert "treatment was stopped" in done
    stopped = shown(labelled, "trial")
    assert [change.action for change in stopped.changes] == ["start", "stop_arm"]
    assert (stopped.changes[-1].actor, stopped.arms[1].is_stopped) == (ACTOR, True)
    assert {each.source for each in suggest_now(labelled.user_id, ids[:20]).suggestions} == {"rule"}
    assert advance_experiments() == []


def test_a_canary_goes_up_step_by_step_while_its_guardrails_hold(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> None:
    assert champion
    arms = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", train_version(labelled), 1.0))
    plan = Plan("canary", "user_merchant", arms, CANARY_RAMP, Guardrails(step_answers=20))
    assert run(labelled, plan).ramp_now == 0.01
    ids = shops(labelled, 200)
    # 1 of 100 units are the canary's, so there are few answers and no step.
    play(admin_connection, labelled, "canary", ids[:99], "champion", [True] * 99)
    play(admin_connection, labelled, "canary", ids[99:100], "canary", [True])
    assert advance_experiments() == []
    with session_for_jobs() as session:
        experiments.ramp_experiment(session, labelled.user_id, "canary", 0.5, **BECAUSE)
    play(admin_connection, labelled, "canary", ids[:50], "champion", [True] * 50)
    play(admin_connection, labelled, "canary", ids[50:100], "canary", [True] * 50)
    (done,) = advance_experiments()
    assert "the ramp is at 100%" in done
    assert shown(labelled, "canary").ramp_now == 1.0
    # And back again, by hand.
    with session_for_jobs() as session:
        experiments.ramp_experiment(session, labelled.user_id, "canary", 0.0, **BECAUSE)
    assert {each.model_version for each in suggest_now(labelled.user_id, ids).suggestions} == {str(champion)}


# --- by command -----------------------------------------------------------------------------------------------------


def command(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, ["experiments", *arguments])
    assert done.exit_code == exit_code, done.output
    return str(done.stdout)


def test_commands_plan_start_ramp_show_and_stop(labelled: Ledger, champion: int) -> None:
    assert labelled
    assert "No experiment yet" in command("list")
    assert "is planned" in command("new", "trial", "--arm", "control=rule:50", "--arm", "treatment=champion:50")
    assert "running now, its ramp at 100%" in command("start", "trial", "--by", "ada", "--reason", "to see")
    assert "its ramp at 30%" in command("ramp", "trial", "--to", "30")
    suggest_now(labelled.user_id, shops(labelled, 5))
    assert "treatment" in command("results", "trial")
    (listed,) = json.loads(command("list", "--json"))
    assert [change["action"] for change in listed["changes"]] == ["start", "ramp"]
    assert "ada" in command("show", "trial")
    assert "stopped now" in command("stop", "trial")
    assert "is planned" in command("canary", str(champion))
    assert json.loads(command("show", f"canary-{champion}", "--json"))["ramp"] == list(CANARY_RAMP)
    done = CliRunner().invoke(app, ["experiments", "new", "bad", "--arm", "nonsense"])
    assert isinstance(done.exception, InvalidInput)
