"""What an experiment decides: from which suggestions, by which guardrails, and when its ramp goes on."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app.db import session_for_jobs, session_for_user
from app.services import experiment_analysis, experiments
from app.services.categories import rename_or_merge
from app.services.experiment_analysis import advance_experiments, analyse_experiment
from app.services.experiment_assignment import Arm, RunningExperiment, assign
from app.services.experiments import Guardrails, Plan
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastapi.testclient import TestClient

    from app.services.experiment_analysis import ExperimentResult
    from app.services.experiments import Experiment

BECAUSE = {"actor": "a test", "reason": "to see"}
NAME = "trial"
PAIR = (Arm("control", "rule", None, 0.5), Arm("treatment", "rule", None, 0.5))
THREE = (
    Arm("control", "rule", None, 0.4), Arm("first", "rule", None, 0.3), Arm("second", "rule", None, 0.3),
)  # fmt: skip


def begin(
    *arms: Arm, ramp: tuple[float, ...] = (1.0,), guardrails: Guardrails | None = None, category_set: int | None = None
) -> None:
    """Plan and start an experiment of merchants."""
    plan = Plan(NAME, "user_merchant", arms or PAIR, ramp, guardrails or Guardrails())
    with session_for_jobs() as session:
        experiments.create_experiment(session, category_set, plan, actor="a test")
        experiments.start_experiment(session, category_set, NAME, **BECAUSE)


def change(function: str, *values: Any, category_set: int | None = None) -> None:
    with session_for_jobs() as session:
        getattr(experiments, function)(session, category_set, NAME, *values, **BECAUSE)


def shown(category_set: int | None = None) -> Experiment:
    with session_for_jobs() as session:
        return experiments.show_experiment(session, category_set, NAME)


def results(category_set: int | None = None) -> ExperimentResult:
    with session_for_jobs() as session:
        return analyse_experiment(session, experiments.show_experiment(session, category_set, NAME))


@dataclass
class Server:
    """Does what a server does for one user, many transactions at a time."""

    connection: psycopg.Connection
    user_id: int

    def arms(self) -> RunningExperiment:
        """Ask what is under way."""
        query = "SELECT name, unit, salt, ramp, arms FROM running_experiments()"
        (row,) = self.connection.execute(query).fetchall()
        name, unit, salt, ramp, arms = row
        found = (Arm(a["name"], a["engine"], a["version"], a["share"], a["is_stopped"]) for a in arms)
        return RunningExperiment(name, unit, salt, ramp, tuple(found))

    def assigned(self, merchants: Iterable[str]) -> dict[str, str]:
        """Say which arm each merchant is in."""
        running = self.arms()
        return {merchant: assign(running, self.user_id, merchant).arm.name for merchant in merchants}

    def serve(
        self,
        arms: dict[str, str],
        *,
        times: int = 1,
        offered: Callable[[str, int], bool] = lambda _arm, _number: True,
        accepted: Callable[[str, int], bool | None] = lambda _arm, _number: None,
        source: str = "rule",
    ) -> None:
        """Suggest Food for new transactions of merchants, and answer; numbers count the suggestions of an arm."""
        rows: list[tuple[Any, ...]] = []
        numbers: defaultdict[str, int] = defaultdict(int)
        for merchant, arm in arms.items():
            for _ in range(times):
                number = numbers[arm]
                numbers[arm] += 1
                is_offered = offered(arm, number)
                said = accepted(arm, number) if is_offered else None
                candidates = '[{"label": "Food", "confidence": 0.9, "reasons": []}]' if is_offered else "[]"
                action = None if said is None else "accept" if said else "reject"
                rows.append((self.user_id, merchant, source, candidates, arm, action))
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(
                """
                WITH transaction AS (
                    INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
                    VALUES (%s, 'card', '2025-01-01', -1, 'x', sha256(gen_random_uuid()::text::bytea))
                    RETURNING id, user_id
                ), features AS (
                    INSERT INTO ml_features
                    SELECT id, '2025-01-01', -1, 1, %s, NULL, NULL, NULL, 2, false, false, 'x', '{x}', 1
                    FROM transaction
                ), event AS (
                    INSERT INTO suggestion_events (
                        txn_id, user_id, mode, source, candidates, experiment, arm, propensity, created_at
                    )
                    SELECT id, user_id, 'auto', %s, %s, 'trial', %s, 0.5, clock_timestamp() FROM transaction
                    RETURNING id
                )
                INSERT INTO suggestion_feedback (event_id, action)
                SELECT id, action FROM event, (VALUES (%s)) AS said (action) WHERE action IS NOT NULL
                """,
                rows,
            )


@pytest.fixture
def server(admin_connection: psycopg.Connection, user_id: int) -> Server:
    return Server(admin_connection, user_id)


def merchants(count: int, first: int = 0) -> list[str]:
    return [f"shop {number}" for number in range(first, first + count)]


def in_turn(names: Sequence[str], count: int) -> dict[str, str]:
    """Put merchants into arms in turn, as a hash would nearly."""
    return {merchant: names[number % len(names)] for number, merchant in enumerate(merchants(count))}


def let_a_minute_pass(connection: psycopg.Connection) -> None:
    """Let all that was be a minute older."""
    connection.execute("UPDATE experiment_changes SET created_at = created_at - interval '1 minute'")
    connection.execute("UPDATE suggestion_events SET created_at = created_at - interval '1 minute'")


def change_in_peace(connection: psycopg.Connection, function: str, *values: Any) -> None:
    """Change an experiment a minute after what was before and a minute before what comes."""
    let_a_minute_pass(connection)
    change(function, *values)
    let_a_minute_pass(connection)


# --- guardrails ------------------------------------------------------------------------------------------------------


def nine_in_ten_but(arm: str, share: float) -> Callable[[str, int], bool]:
    return lambda served, number: number % 10 < (10 * share if served == arm else 9)


def test_a_treatment_that_is_accepted_far_less_is_stopped_by_itself_and_why_is_on_record(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("treatment", 0.4))
    (done,) = advance_experiments()
    assert "treatment was stopped" in done
    stopped = next(each for each in shown().changes if each.action == "stop_arm")
    assert (stopped.arm, stopped.actor) == ("treatment", experiment_analysis.ACTOR)
    assert "points fewer" in stopped.reason
    assert set(server.assigned(merchants(50)).values()) == {"control"}
    assert advance_experiments() == []


def test_a_treatment_that_suggests_far_less_is_stopped_by_itself(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), offered=nine_in_ten_but("treatment", 0.4))
    assert len(advance_experiments()) == 1
    assert "stop_arm" in [each.action for each in shown().changes]


def test_a_treatment_that_is_as_good_is_not_stopped(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == []
    assert [each.action for each in shown().changes] == ["start"]


# --- the ramp --------------------------------------------------------------------------------------------------------

SLOW = {"ramp": (0.5, 1.0), "guardrails": Guardrails(step_answers=60)}


def test_the_ramp_goes_one_step_further_once_there_are_answers_and_guardrails_hold(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(**SLOW)  # type: ignore[arg-type]
    server.serve(server.assigned(merchants(120)), accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == [], "too few answers in the treatment"
    server.serve(server.assigned(merchants(300, 120)), accepted=nine_in_ten_but("", 0))
    assert len(advance_experiments()) == 1
    assert shown().ramp_now == 1.0
    assert advance_experiments() == []
    assert admin_connection.execute("SELECT count(*) FROM experiment_changes").fetchone() == (2,)


def test_two_programs_at_once_go_one_step(server: Server, admin_connection: psycopg.Connection) -> None:
    begin(ramp=(0.4, 0.6, 1.0), guardrails=Guardrails(step_answers=30))
    server.serve(server.assigned(merchants(400)), accepted=nine_in_ten_but("", 0))
    both = [threading.Thread(target=advance_experiments) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert admin_connection.execute("SELECT ramp FROM experiment_changes ORDER BY id").fetchall() == [(0.4,), (0.6,)]


def test_a_treatment_that_was_stopped_does_not_hold_the_others_up(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(*THREE, ramp=(0.5, 1.0), guardrails=Guardrails(step_answers=20))
    change_in_peace(admin_connection, "stop_arm", "first")
    server.serve(server.assigned(merchants(500)), accepted=nine_in_ten_but("", 0))
    assert len(advance_experiments()) == 1
    assert shown().ramp_now == 1.0


def test_where_no_treatment_is_left_the_ramp_stays(server: Server, admin_connection: psycopg.Connection) -> None:
    begin(ramp=(0.5, 1.0), guardrails=Guardrails(step_answers=20))
    change_in_peace(admin_connection, "stop_arm", "treatment")
    server.serve(server.assigned(merchants(200)), accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == []


def test_what_a_person_has_taken_back_to_nothing_stays_there(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(ramp=(0.5, 1.0), guardrails=Guardrails(step_answers=20))
    server.serve(server.assigned(merchants(300)), accepted=nine_in_ten_but("", 0))
    change_in_peace(admin_connection, "ramp_experiment", 0.0)
    server.serve(server.assigned(merchants(300)), accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == []


def test_units_in_other_shares_than_were_set_stop_the_ramp_and_it_says_so(server: Server) -> None:
    begin(**(SLOW | {"ramp": (0.99, 1.0)}))  # type: ignore[arg-type]
    sixty_forty = ["control", "treatment", "control", "treatment", "control"]
    server.serve(in_turn(sixty_forty, 1_000), accepted=nine_in_ten_but("", 0))
    found = results()
    assert found.is_suspect
    assert shown().ramp_now == 0.99
    assert not any("the ramp is at" in each for each in advance_experiments())


# --- who is counted --------------------------------------------------------------------------------------------------


def test_units_in_the_shares_that_were_set_are_not_suspect(server: Server) -> None:
    begin()
    server.serve(server.assigned(merchants(1_000)))
    assert not results().is_suspect


def test_a_unit_that_comes_back_is_no_new_evidence_about_how_units_are_assigned(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(*THREE)
    # As far from 40 to 30 to 30 as chance brings it once in some hundred times.
    units = {merchant: name for name, some in zip(
        ("control", "first", "second"),
        (merchants(195), merchants(105, 195), merchants(120, 300)),
        strict=True,
    ) for merchant in some}  # fmt: skip
    server.serve(units)
    assert not results().is_suspect
    for _ in range(6):
        change_in_peace(admin_connection, "ramp_experiment", 1.0)
        server.serve(units)
    assert results().sample_ratio_e_value < 1_000


def test_a_ramp_that_moves_the_units_that_it_should_is_not_suspect(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(*THREE, ramp=(0.1, 0.5, 1.0))
    for step in (0.1, 0.5, 1.0, 0.3):
        change_in_peace(admin_connection, "ramp_experiment", step)
        server.serve(server.assigned(merchants(400)))
    assert not results().is_suspect


# --- what is counted -------------------------------------------------------------------------------------------------


def add_event(
    connection: psycopg.Connection, user_id: int, arm: str, candidates: str, merchant: str
) -> tuple[int, int]:
    row = connection.execute(
        """
        WITH transaction AS (
            INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
            VALUES (%s, 'card', '2025-01-01', -1, 'x', sha256(gen_random_uuid()::text::bytea)) RETURNING id, user_id
        ), features AS (
            INSERT INTO ml_features
            SELECT id, '2025-01-01', -1, 1, %s, NULL, NULL, NULL, 2, false, false, 'x', '{x}', 1 FROM transaction
        )
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates, experiment, arm, propensity)
        SELECT id, user_id, 'auto', 'rule', %s, 'trial', %s, 0.5 FROM transaction RETURNING id, txn_id
        """,
        [user_id, merchant, candidates, arm],
    ).fetchone()
    assert row is not None
    return row[0], row[1]


OFFER = (
    '[{"label": "Groceries", "confidence": 0.7, "reasons": []}, {"label": "Rent", "confidence": 0.2, "reasons": []}]'
)


@pytest.mark.parametrize(
    ("reaction", "outcomes"),
    [
        ("nothing", (None, None)),
        ("accept", (True, None)),
        ("accept the second", (True, None)),
        ("accept and correct", (True, False)),
        ("accept, and a rule says so", (True, True)),
        ("reject", (False, None)),
        ("reject and say what it is", (False, False)),
        ("accept and undo", (None, None)),
        ("label it so", (None, True)),
        ("label it otherwise", (None, False)),
        ("labelled so before", (None, True)),
        ("accept, then rename", (True, None)),
        ("accept, a rule says so, then rename", (True, True)),
    ],
)
def test_what_a_person_did_counts_as_it_does_in_the_warehouse(
    server: Server,
    user_id: int,
    reaction: str,
    outcomes: tuple[bool | None, bool | None],
) -> None:
    begin()
    event_id, txn_id = add_event(server.connection, user_id, "treatment", OFFER, "aldi")

    def answer(action: Any, **more: Any) -> None:
        with session_for_user(user_id) as session:
            answer_suggestion(session, user_id, event_id, action, **more)

    def label(name: str, source: Any = "human") -> None:
        with session_for_user(user_id) as session:
            write_labels(session, {txn_id: name}, source=source)

    def vouch() -> None:
        sql = "UPDATE transaction_labels SET source = 'rule' WHERE txn_id = %s"
        server.connection.execute(sql, [txn_id])

    def label_earlier() -> None:
        sql = "UPDATE transaction_labels SET updated_at = updated_at - interval '1 minute' WHERE txn_id = %s"
        server.connection.execute(sql, [txn_id])

    def rename() -> None:
        with session_for_user(user_id) as session:
            rename_or_merge(session, user_id, "Groceries", "Provisions")

    steps: dict[str, list[Callable[[], None]]] = {
        "nothing": [],
        "accept": [lambda: answer("accept")],
        "accept the second": [lambda: answer("accept", label="Rent")],
        "accept and correct": [lambda: answer("accept"), lambda: label("Rent")],
        "accept, and a rule says so": [lambda: answer("accept"), vouch],
        "reject": [lambda: answer("reject")],
        "reject and say what it is": [lambda: answer("reject", label="Rent")],
        "accept and undo": [lambda: answer("accept"), lambda: answer("undo")],
        "label it so": [lambda: label("Groceries")],
        "label it otherwise": [lambda: label("Rent")],
        "labelled so before": [
            lambda: label("Groceries"),
            label_earlier,
        ],
        "accept, then rename": [lambda: answer("accept"), rename],
        "accept, a rule says so, then rename": [lambda: answer("accept"), vouch, rename],
    }
    for step in steps[reaction]:
        step()
    arm = next(each for each in results().arms if each.arm == "treatment")
    expected = [() if outcome is None else (1, float(outcome)) for outcome in outcomes]
    found = [(s.answers, s.share) if s.answers else () for s in (arm.acceptance, arm.precision)]
    assert (found, arm.coverage.answers, arm.coverage.share) == (expected, 1, 1.0)


def test_results_are_what_counting_by_hand_gives(server: Server) -> None:
    begin()
    server.serve(
        in_turn(["control", "treatment"], 60),
        times=3,
        offered=lambda _arm, number: number % 5 != 0,
        accepted=lambda arm, number: None if number % 7 == 0 else number % (3 if arm == "control" else 4) != 0,
    )
    server.connection.execute(
        """
        INSERT INTO suggestion_events (
            served_event_id, txn_id, user_id, mode, source, model_version, candidates, experiment, arm
        )
        SELECT id, txn_id, user_id, mode, 'shadow', '9', '[]', experiment, arm FROM suggestion_events
        """
    )
    control, treatment = results().arms
    for arm, period in ((control, 3), (treatment, 4)):
        offered = [number for number in range(90) if number % 5]
        answered = [number for number in offered if number % 7]
        taken = [number for number in answered if number % period]
        assert (arm.units, arm.suggestions, arm.coverage.share) == (30, 90, len(offered) / 90)
        assert (arm.acceptance.answers, arm.acceptance.share) == (len(answered), len(taken) / len(answered))
    assert treatment.acceptance_difference is not None
    assert control.acceptance.share is not None
    assert treatment.acceptance.share is not None
    assert treatment.acceptance_difference.difference == pytest.approx(
        treatment.acceptance.share - control.acceptance.share
    )


def test_who_was_stopped_can_still_be_seen_beside_the_control(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("treatment", 0.4))
    advance_experiments()
    treatment = results().arms[1]
    assert treatment.acceptance.answers == 200
    assert treatment.sentence is not None
    assert treatment.sentence.endswith("enough to decide: yes")


# --- who is told, and who may what -----------------------------------------------------------------------------------


def test_servers_are_told_of_every_change(server: Server, jobs_connection: psycopg.Connection) -> None:
    jobs_connection.execute("LISTEN lm_deployments")
    begin()
    assert list(jobs_connection.notifies(timeout=1, stop_after=1))
    change("stop_experiment")
    assert list(jobs_connection.notifies(timeout=1, stop_after=1))
    assert server.connection.execute("SELECT count(*) FROM running_experiments()").fetchone() == (0,)


def test_a_tenant_sees_the_experiments_of_their_own_categories_alone(
    admin_connection: psycopg.Connection, user_id: int
) -> None:
    begin()
    tables = ("experiments", "experiment_arms", "experiment_changes")

    def seen() -> list[int]:
        with session_for_user(user_id) as session:
            return [session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]

    assert seen() == [1, 2, 1]
    admin_connection.execute("UPDATE users SET own_categories = true")
    assert seen() == [0, 0, 0]


def test_a_unit_that_slips_from_its_arm_is_suspect(server: Server, admin_connection: psycopg.Connection) -> None:
    begin(ramp=(0.5, 1.0))
    before = server.assigned(merchants(100))
    server.serve(before)
    change_in_peace(admin_connection, "ramp_experiment", 1.0)
    after = server.assigned(merchants(100))
    slipped = next(merchant for merchant, arm in before.items() if arm == "treatment")
    server.serve({merchant: arm for merchant, arm in after.items() if merchant != slipped})
    assert not results().is_suspect
    server.serve({slipped: "control"})
    assert results().is_suspect


def test_what_a_server_did_that_had_not_heard_of_a_change_yet_is_not_suspect(server: Server) -> None:
    begin(*THREE)
    units = server.assigned(merchants(100))
    server.serve(units)
    change("stop_arm", "first")
    server.serve(units)
    assert not results().is_suspect


def test_a_treatment_that_the_heuristics_answer_for_is_stopped_at_the_last_step_too(
    server: Server, admin_connection: psycopg.Connection
) -> None:
    begin(Arm("old", "rule", None, 0.0), Arm("new", "champion", None, 1.0), ramp=(0.5, 1.0))
    server.serve(in_turn(["old", "new"], 200), source="model", accepted=nine_in_ten_but("", 0))
    change_in_peace(admin_connection, "ramp_experiment", 1.0)
    server.serve(in_turn(["new"], 100), source="model", accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == []
    new = results().arms[1]
    assert (new.acceptance.answers, new.fallbacks.answers, new.fallbacks.share) == (100, 100, 0.0)
    assert new.acceptance_difference is not None
    assert new.acceptance_difference.control_answers == 100
    server.serve(in_turn(["new"], 100), source="rule", accepted=nine_in_ten_but("", 0))
    (done,) = advance_experiments()
    assert "in the model's place" in done


def test_before_the_start_there_is_nothing_to_say(user_id: int, client: TestClient) -> None:
    assert user_id
    with session_for_jobs() as session:
        experiments.create_experiment(session, None, Plan(NAME, "user_merchant", PAIR), actor="a test")
    found = client.get("/experiments/trial/results").json()
    assert (found["since"], found["is_suspect"], [arm["units"] for arm in found["arms"]]) == (None, False, [0, 0])


def test_over_http_a_user_sees_an_experiment_and_what_their_own_suggestions_say(
    server: Server, client: TestClient, admin_connection: psycopg.Connection
) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 40), accepted=nine_in_ten_but("", 0))
    (listed,) = client.get("/experiments").json()
    assert client.get("/experiments/trial").json() == listed
    assert (listed["status"], listed["ramp_now"], [arm["name"] for arm in listed["arms"]]) == (
        "running", 1.0, ["control", "treatment"],
    )  # fmt: skip
    found = client.get("/experiments/trial/results").json()
    assert [arm["acceptance"]["answers"] for arm in found["arms"]] == [20, 20]
    assert found["arms"][1]["acceptance_difference"]["is_decided"] is False
    # Suggestions that are somebody else's count for them.
    admin_connection.execute("UPDATE suggestion_events SET user_id = NULL WHERE arm = 'control'")
    found = client.get("/experiments/trial/results").json()
    assert [arm["acceptance"]["answers"] for arm in found["arms"]] == [0, 20]
    assert client.get("/experiments/other/results").status_code == 404
    admin_connection.execute("UPDATE users SET own_categories = true")
    assert client.get("/experiments/trial/results").status_code == 404
