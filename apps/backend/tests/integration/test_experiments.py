"""Engines against each other on live answers: who is in which arm, what came of it, and what stops by itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from app.cli import app
from app.db import session_for_jobs, session_for_user
from app.errors import Conflict, InvalidInput, NotFound
from app.ml.sequential import UnitOutcomes, compare_arms
from app.services import deployments, experiments
from app.services.experiment_analysis import PLANNED_ANSWERS, analyse_experiment, period_alpha
from app.services.experiment_assignment import Arm, unit_hash, versions_due
from app.services.experiment_plans import CANARY_RAMP, Guardrails, Plan
from app.services.experiment_policy import advance_experiments
from app.services.experiment_units import count_units
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.services.experiment_analysis import ExperimentResult
    from app.services.experiments import Experiment
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
HALVES = (Arm("control", "rule", None, 0.5), Arm("treatment", "champion", None, 0.5))
TWINS = (Arm("control", "rule", None, 0.5), Arm("treatment", "rule", None, 0.5))


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
    experiment: Experiment,
    txn_ids: Sequence[int],
    arm: str,
    accepted: Sequence[bool],
) -> None:
    """Log a suggestion of an arm for each transaction, each a unit of its own, and the answer."""
    for txn_id, is_accepted in zip(txn_ids, accepted, strict=True):
        connection.execute(
            """
            WITH made AS (
                INSERT INTO suggestion_events (
                    txn_id, user_id, mode, source, model_version, candidates, inputs, experiment, arm, propensity
                )
                VALUES (
                    %(txn_id)s, %(user_id)s, 'auto', %(source)s, '1',
                    '[{"label": "Fuel", "confidence": 0.9, "reasons": []}]', %(inputs)s, %(name)s, %(arm)s, 0.5
                )
                RETURNING id
            )
            INSERT INTO suggestion_feedback (event_id, action, label) SELECT id, %(action)s, 'Fuel' FROM made
            """,
            {
                "txn_id": txn_id,
                "user_id": ledger.user_id,
                "source": "rule" if arm == "control" else "model",
                "inputs": json.dumps({"exposure": exposure(experiment, str(txn_id))}),
                "name": experiment.name,
                "arm": arm,
                "action": "accept" if is_accepted else "reject",
            },
        )


def exposure(experiment: Experiment, unit: str) -> dict[str, object]:
    """Make what an event keeps, while everything is as it is now."""
    with session_for_jobs() as session:
        roles = asdict(deployments.current(session, experiment.category_set))
    versions = versions_due(experiment.arms, roles)
    return {"unit": unit, "change": experiment.changes[-1].id, "versions": versions}


# --- who suggests to whom -------------------------------------------------------------------------------------------


def test_every_event_says_the_arm_and_how_probable_it_was_and_the_arm_answers(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 40)
    made = suggest_now(labelled.user_id, ids).suggestions
    (change,) = shown(labelled, "trial").changes
    query = """
        SELECT txn_id, arm, propensity, experiment, source, model_version, inputs -> 'exposure'
        FROM suggestion_events ORDER BY id
    """
    rows = admin_connection.execute(query).fetchall()
    assert [row[0] for row in rows] == [each.txn_id for each in made]
    assert {row[2:4] for row in rows} == {(0.5, "trial")}
    assert all(
        row[6] == {"unit": row[6]["unit"], "change": change.id, "versions": {"treatment": champion}} for row in rows
    )
    (salt,) = admin_connection.execute("SELECT salt FROM experiments").fetchone() or ("",)
    merchants = dict(admin_connection.execute("SELECT txn_id, merchant FROM ml_features").fetchall())
    for row in rows:
        assert row[6]["unit"] == unit_hash(salt, f"{labelled.user_id}\x1f{merchants[row[0]]}")
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
    query = "SELECT DISTINCT experiment, inputs ? 'exposure' FROM suggestion_events"
    assert admin_connection.execute(query).fetchall() == [(None, False)]


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


def test_a_promotion_begins_a_new_period_for_an_arm_that_asks_the_champion(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int]
) -> None:
    run(labelled, Plan("trial", "user_merchant", HALVES))
    ids = shops(labelled, 40)
    suggest_now(labelled.user_id, ids)
    assert analysed(labelled, "trial").arms[1].versions == {"treatment": champion}
    other = train_version(labelled)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, other, **BECAUSE)
    suggest_now(labelled.user_id, ids[:30])
    arms = analysed(labelled, "trial").arms
    assert arms[1].versions == {"treatment": other}
    assert sum(arm.transactions for arm in arms) == 30


def test_what_becomes_of_features_moves_no_unit(
    labelled: Ledger, champion: int, admin_connection: psycopg.Connection
) -> None:
    assert champion
    run(labelled, Plan("trial", "user_merchant", HALVES))
    suggest_now(labelled.user_id, shops(labelled, 60))
    before = analysed(labelled, "trial")
    admin_connection.execute("UPDATE ml_features SET merchant = 'all one'")
    assert analysed(labelled, "trial") == before
    admin_connection.execute("DELETE FROM ml_features")
    assert analysed(labelled, "trial") == before
    assert sum(arm.units for arm in before.arms) == 60


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
        Plan("no-share", "user", (Arm("control", "rule", None, 1.0), Arm("treatment", "rule", None, 0.0))),
        Plan("alone", "user", (Arm("control", "rule", None, 0.0), Arm("treatment", "rule", None, 1.0))),
        Plan("lenient", "user", TWINS, guardrails=Guardrails(most_loss=5.0)),
    ],
    ids=lambda plan: plan.name,
)
def test_a_plan_that_cannot_be_carried_out_is_refused(labelled: Ledger, plan: Plan) -> None:
    with session_for_jobs() as session, pytest.raises(InvalidInput):
        experiments.create_experiment(session, labelled.user_id, plan, actor="a test")


@pytest.mark.parametrize("role", ["champion", "challenger"])
def test_an_arm_asks_nobody_who_is_not_there(labelled: Ledger, role: Literal["champion", "challenger"]) -> None:
    arms = (TWINS[0], Arm("treatment", role, None, 0.5))
    with session_for_jobs() as session, pytest.raises(Conflict, match=f"no {role} that the arm treatment"):
        experiments.create_experiment(session, labelled.user_id, Plan("trial", "user", arms), actor="a test")


def test_a_role_that_is_empty_by_the_start_keeps_the_experiment_from_it(labelled: Ledger, champion: int) -> None:
    assert champion
    with session_for_jobs() as session:
        experiments.create_experiment(session, labelled.user_id, Plan("trial", "user", HALVES), actor="a test")
        deployments.retire_champion(session, labelled.user_id, **BECAUSE)
    with session_for_jobs() as session, pytest.raises(Conflict, match="no champion"):
        experiments.start_experiment(session, labelled.user_id, "trial", **BECAUSE)


def test_the_champion_is_no_canary_beside_itself(labelled: Ledger, champion: int) -> None:
    arms = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", champion, 1.0))
    plan = Plan("canary", "user", arms, CANARY_RAMP)
    with session_for_jobs() as session, pytest.raises(Conflict, match=f"Version {champion} is champion"):
        experiments.create_experiment(session, labelled.user_id, plan, actor="a test")


def test_one_is_under_way_at_a_time_and_is_started_once(labelled: Ledger) -> None:
    run(labelled, Plan("first", "user", TWINS))
    with session_for_jobs() as session:
        experiments.create_experiment(session, labelled.user_id, Plan("second", "user", TWINS), actor="a test")
    with session_for_jobs() as session, pytest.raises(Conflict, match="first is under way"):
        experiments.start_experiment(session, labelled.user_id, "second", **BECAUSE)
    with session_for_jobs() as session:
        experiments.stop_experiment(session, labelled.user_id, "first", **BECAUSE)
    with session_for_jobs() as session, pytest.raises(Conflict, match="started once"):
        experiments.start_experiment(session, labelled.user_id, "first", **BECAUSE)
    with session_for_jobs() as session, pytest.raises(NotFound):
        experiments.create_experiment(
            session, labelled.user_id, Plan("x", "user", (TWINS[0], Arm("t", "version", 999, 0.5))), actor="a test"
        )


def test_nobody_sees_another_s_experiment(labelled: Ledger, ledger_of: Callable[[str], Ledger]) -> None:
    run(labelled, Plan("trial", "user", TWINS))
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
    trial = run(labelled, Plan("trial", "user_merchant", TWINS))
    ids = shops(labelled, 400)
    play(admin_connection, labelled, trial, ids[:200], "control", [number % 2 == 0 for number in range(200)])
    play(admin_connection, labelled, trial, ids[200:], "treatment", [number % 10 != 0 for number in range(200)])
    # The last answer counts, and one that was taken back is none.
    admin_connection.execute(
        "INSERT INTO suggestion_feedback (event_id, action, created_at) "
        "SELECT id, 'undo', now() + interval '1 second' FROM suggestion_events "
        "WHERE arm = 'control' ORDER BY id LIMIT 10"
    )
    found = analysed(labelled, "trial")
    control, treatment = found.arms
    assert (control.acceptance.answers, treatment.acceptance.answers) == (200, 200)
    assert control.acceptance.share == pytest.approx(95 / 200)
    assert (control.answered.answers, control.answered.share) == (190, 95 / 190)
    assert treatment.acceptance.share == pytest.approx(0.9)
    ones = np.ones(200, dtype=np.int64)
    expected = compare_arms(
        UnitOutcomes(ones, np.array([number % 10 != 0 for number in range(200)], dtype=np.int64)),
        UnitOutcomes(ones, np.array([number >= 10 and number % 2 == 0 for number in range(200)], dtype=np.int64)),
        alpha=period_alpha(1, 1),
        planned_answers=PLANNED_ANSWERS,
    )
    assert treatment.acceptance_difference == expected
    assert treatment.sentence is not None
    assert treatment.sentence.startswith("treatment accepts 42.5 points more, [")
    assert "enough to decide: yes" in treatment.sentence
    assert not found.is_suspect


def test_a_division_that_is_not_the_planned_one_is_suspect(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    trial = run(labelled, Plan("trial", "user_merchant", TWINS))
    ids = shops(labelled, 500)
    play(admin_connection, labelled, trial, ids[:330], "control", [True] * 330)
    play(admin_connection, labelled, trial, ids[330:], "treatment", [True] * 170)
    assert analysed(labelled, "trial").is_suspect


def test_an_arm_that_is_much_worse_is_stopped_by_itself_and_with_the_last_one_the_experiment(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> None:
    arms = (Arm("control", "champion", None, 0.5), Arm("treatment", "version", train_version(labelled), 0.5))
    trial = run(labelled, Plan("trial", "user_merchant", arms))
    ids = shops(labelled, 300)
    play(admin_connection, labelled, trial, ids[:150], "control", [True] * 140 + [False] * 10)
    play(admin_connection, labelled, trial, ids[150:], "treatment", [False] * 120 + [True] * 30)
    (done,) = advance_experiments()
    assert "treatment was stopped" in done
    stopped = shown(labelled, "trial")
    assert [change.action for change in stopped.changes] == ["start", "stop_arm", "stop"]
    assert {change.actor for change in stopped.changes[1:]} == {experiments.POLICY}
    assert {each.model_version for each in suggest_now(labelled.user_id, ids[:20]).suggestions} == {str(champion)}
    assert advance_experiments() == []


def test_a_canary_goes_up_step_by_step_while_its_guardrails_hold(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> None:
    arms = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", train_version(labelled), 1.0))
    plan = Plan("canary", "user_merchant", arms, CANARY_RAMP, Guardrails(step_answers=20, most_loss=0.5))
    canary = run(labelled, plan)
    assert canary.ramp_now == 0.01
    ids = shops(labelled, 200)
    # 1 of 100 units are the canary's, so there are few answers and no step.
    play(admin_connection, labelled, canary, ids[:99], "champion", [True] * 99)
    play(admin_connection, labelled, canary, ids[99:100], "canary", [True])
    assert advance_experiments() == []
    with session_for_jobs() as session:
        canary = experiments.ramp_experiment(session, labelled.user_id, "canary", 0.5, **BECAUSE)
    play(admin_connection, labelled, canary, ids[:50], "champion", [True] * 50)
    play(admin_connection, labelled, canary, ids[50:100], "canary", [True] * 50)
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
    assert "No experiment yet" in command("list")
    limits = ("--most-loss", "3", "--most-fallbacks", "4", "--step-answers", "50")
    arms = ("--arm", "control=rule:50", "--arm", "treatment=champion:50")
    assert "is planned" in command("new", "trial", *arms, *limits)
    assert "running now, its ramp at 100%" in command("start", "trial", "--by", "ada", "--reason", "to see")
    assert "its ramp at 30%" in command("ramp", "trial", "--to", "30", "--reason", "less")
    done = CliRunner().invoke(app, ["experiments", "ramp", "trial", "--to", "30", "--reason", "less"])
    assert isinstance(done.exception, Conflict)
    suggest_now(labelled.user_id, shops(labelled, 40))
    told = " ".join(command("results", "trial").split())
    assert "treatment beside control, from 20" in told
    assert f"treatment by version {champion}:" in told
    for sentence in ("treatment accepts more", "treatment is right more often", "suggests for"):
        assert sentence in told
    assert "The step to 100% waits for 50 answers" in told
    (listed,) = json.loads(command("list", "--json"))
    assert [change["action"] for change in listed["changes"]] == ["start", "ramp"]
    printed = " ".join(command("show", "trial").split())
    for part in ("ada", "4.0% more fallbacks", "less than 3.0%", "after 50 answers", "5.0% of acceptance"):
        assert part in printed
    assert "stopped now" in command("stop", "trial", "--arm", "treatment", "--reason", "enough")
    last = json.loads(command("show", "trial", "--json"))["changes"][-1]
    assert (last["action"], last["reason"][:20]) == ("stop", "No treatment is left")


def test_a_canary_is_planned_by_command_with_guardrails_of_its_own(
    labelled: Ledger, champion: int, train_version: Callable[[Ledger], int]
) -> None:
    done = CliRunner().invoke(app, ["experiments", "canary", str(champion)])
    assert isinstance(done.exception, Conflict)
    version = train_version(labelled)
    assert "is planned" in command("canary", str(version), "--acceptance-margin", "1", "--coverage-margin", "2")
    planned = json.loads(command("show", f"canary-{version}", "--json"))
    assert planned["ramp"] == list(CANARY_RAMP)
    assert Guardrails(**planned["guardrails"]) == Guardrails(acceptance_margin=0.01, coverage_margin=0.02)
    done = CliRunner().invoke(app, ["experiments", "new", "bad", "--arm", "nonsense"])
    assert isinstance(done.exception, InvalidInput)


def test_a_plan_says_how_many_units_each_step_would_have_and_warns_where_they_are_too_few(
    labelled: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    # Three merchants in January; what is older than 90 days by the last transaction, or another's, is no unit.
    shops(labelled, 400)
    labelled.add("2024-11-30,OLDER SHOP,-1.00,card,")
    ledger_of("other").add("2025-03-02,ELSEWHERE SHOP,-1.00,card,Food")
    with session_for_jobs() as session:
        assert count_units(session, labelled.user_id, "user_merchant") == 403
        assert count_units(session, labelled.user_id, "user") == 1

    twins = ("--arm", "control=rule:50", "--arm", "treatment=rule:50", "--user", "somebody")
    done = CliRunner().invoke(app, ["experiments", "new", "ramped", *twins, "--ramp", "1,20,100"])
    assert "Of 403 merchants of users in the last 90 days the smaller arm has 2 at 1%, 40 at 20%, 202 at 100%" in (
        " ".join(done.stdout.split())
    )
    warned = " ".join(done.stderr.split())
    assert "the first step cannot show what the next may cost" in warned
    assert "`lm experiments ramp ramped --to 20` goes on by hand" in warned
    done = CliRunner().invoke(app, ["experiments", "new", "halves", *twins])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "202 at 100%" in done.stdout
    done = CliRunner().invoke(app, ["experiments", "new", "users", *twins, "--unit", "user"])
    assert "of an arm show only differences that are large" in " ".join(done.stderr.split())
