"""What an experiment decides: from which suggestions, by which guardrails, and when its ramp goes on."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.errors import Conflict
from app.jobs.tasks import ADVANCE_SECONDS, advance
from app.ml.sequential import ALPHA
from app.services import deployments, experiment_policy, experiments
from app.services.categories import rename_or_merge
from app.services.experiment_analysis import analyse_experiment
from app.services.experiment_assignment import Arm, RunningExperiment, assign
from app.services.experiment_plans import Guardrails, Plan
from app.services.experiment_policy import advance_experiments
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastapi.testclient import TestClient

    from app.services.deployments import Current
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
    """Does what a server does for one user, many transactions at a time.

    Attributes:
        versions: That are due for arms that ask models.
    """

    connection: psycopg.Connection
    user_id: int
    versions: dict[str, int | None] = field(default_factory=dict)

    def running(self) -> RunningExperiment:
        """Ask what is under way."""
        query = "SELECT name, unit, salt, ramp, arms, change FROM running_experiments() WHERE name = %s"
        (row,) = self.connection.execute(query, [NAME]).fetchall()
        name, unit, salt, ramp, arms, change = row
        found = (Arm(a["name"], a["engine"], a["version"], a["share"], a["is_stopped"]) for a in arms)
        return RunningExperiment(name, unit, salt, ramp, tuple(found), change, self.versions)

    def assigned(self, merchants: Iterable[str]) -> dict[str, str]:
        """Say which arm each merchant is in."""
        running = self.running()
        return {merchant: assign(running, self.user_id, merchant).arm.name for merchant in merchants}

    def exposure(self, running: RunningExperiment, merchant: str) -> str:
        """Say what an event keeps of the unit."""
        assigned = assign(running, self.user_id, merchant)
        kept = {"unit": assigned.unit, "change": assigned.experiment.change, "versions": self.versions}
        return json.dumps({"exposure": kept})

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
        running = self.running()
        for merchant, arm in arms.items():
            exposure = self.exposure(running, merchant)
            for _ in range(times):
                number = numbers[arm]
                numbers[arm] += 1
                is_offered = offered(arm, number)
                said = accepted(arm, number) if is_offered else None
                candidates = '[{"label": "Food", "confidence": 0.9, "reasons": []}]' if is_offered else "[]"
                action = None if said is None else "accept" if said else "reject"
                rows.append((self.user_id, source, candidates, exposure, arm, action))
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(
                """
                WITH transaction AS (
                    INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
                    VALUES (%s, 'card', '2025-01-01', -1, 'x', sha256(gen_random_uuid()::text::bytea))
                    RETURNING id, user_id
                ), event AS (
                    INSERT INTO suggestion_events (
                        txn_id, user_id, mode, source, candidates, inputs, experiment, arm, propensity, created_at
                    )
                    SELECT id, user_id, 'auto', %s, %s, %s, 'trial', %s, 0.5, clock_timestamp() FROM transaction
                    RETURNING id
                )
                INSERT INTO suggestion_feedback (event_id, action)
                SELECT id, action FROM event, (VALUES (%s)) AS said (action) WHERE action IS NOT NULL
                """,
                rows,
            )

    def label_what_nothing_was_offered_for(self, share: float = 1.0) -> None:
        """Let the person say themselves what it was, of a share of them."""
        self.connection.execute(
            """
            INSERT INTO transaction_labels (txn_id, label, source)
            SELECT txn_id, 'Food', 'human' FROM (
                SELECT txn_id, row_number() OVER (ORDER BY txn_id) AS number, count(*) OVER () AS many
                FROM suggestion_events WHERE candidates = '[]'
            ) AS silent WHERE number <= %s * many
            """,
            [share],
        )


@pytest.fixture
def server(admin_connection: psycopg.Connection, user_id: int) -> Server:
    return Server(admin_connection, user_id)


def merchants(count: int, first: int = 0) -> list[str]:
    return [f"shop {number}" for number in range(first, first + count)]


def in_turn(names: Sequence[str], count: int) -> dict[str, str]:
    """Put merchants into arms in turn, as a hash would nearly."""
    return {merchant: names[number % len(names)] for number, merchant in enumerate(merchants(count))}


def wait_for_waiting(server: Server, count: int) -> None:
    """Wait until so many transactions wait for their turn."""
    waiting = """
        SELECT count(*) FROM pg_locks INNER JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE pg_locks.locktype = 'advisory' AND NOT pg_locks.granted AND pg_database.datname = current_database()
    """
    until = time.monotonic() + 10
    while server.connection.execute(waiting).fetchone() != (count,):
        assert time.monotonic() < until
        time.sleep(0.01)


# --- guardrails ------------------------------------------------------------------------------------------------------


def nine_in_ten_but(arm: str, share: float) -> Callable[[str, int], bool]:
    return lambda served, number: number % 10 < (10 * share if served == arm else 9)


def test_a_treatment_that_is_accepted_far_less_is_stopped_by_itself_and_why_is_on_record(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("treatment", 0.4))
    (done,) = advance_experiments()
    assert "treatment was stopped" in done
    stopped = next(each for each in shown().changes if each.action == "stop_arm")
    assert (stopped.arm, stopped.actor) == ("treatment", experiments.POLICY)
    assert "points fewer" in stopped.reason
    assert advance_experiments() == []


def test_with_the_last_treatment_the_experiment_ends_and_another_one_can_begin(server: Server) -> None:
    begin(*THREE)
    change("stop_arm", "second")
    assert shown().status == "running"
    assert set(server.assigned(merchants(50)).values()) == {"control", "first"}
    server.serve(in_turn(["control", "first"], 400), accepted=nine_in_ten_but("first", 0.4))
    assert len(advance_experiments()) == 1
    *_, last = shown().changes
    assert (shown().status, last.action, last.actor) == ("stopped", "stop", experiments.POLICY)
    with session_for_jobs() as session:
        experiments.create_experiment(session, None, Plan("next", "user", PAIR), actor="a test")
        experiments.start_experiment(session, None, "next", **BECAUSE)


def test_a_treatment_that_offers_more_and_is_accepted_more_is_not_stopped_for_what_the_control_left_unsaid(
    server: Server,
) -> None:
    begin()
    server.serve(
        in_turn(["control", "treatment"], 400),
        offered=lambda arm, number: arm == "treatment" or number % 2 == 0,
        accepted=lambda arm, number: arm == "control" or number % 5 != 0,
    )
    server.label_what_nothing_was_offered_for()
    assert advance_experiments() == []
    control, treatment = results().arms
    assert (control.acceptance.share, treatment.acceptance.share) == (0.5, 0.8)
    assert (control.acceptance.answers, control.coverage.share) == (200, 0.5)
    assert treatment.sentence is not None
    assert treatment.sentence.endswith("yes")


@pytest.mark.parametrize("labelled", [0.0, 0.5, 1.0])
def test_who_keeps_silent_on_what_is_wrong_gains_nothing_however_few_of_that_get_labelled(
    server: Server, labelled: float
) -> None:
    begin()
    # Eight in ten are right in both arms. Of the wrong ones the treatment offers every second one alone.
    server.serve(
        in_turn(["control", "treatment"], 1_000),
        times=5,
        offered=lambda arm, number: arm == "control" or number % 10 != 9,
        accepted=lambda _arm, number: number % 10 < 8,
    )
    server.label_what_nothing_was_offered_for(labelled)
    control, treatment = results().arms
    assert (control.acceptance.share, treatment.acceptance.share) == (0.8, 0.8)
    assert treatment.acceptance_difference is not None
    assert not treatment.acceptance_difference.is_decided
    # Among those that are known it would have seemed better.
    assert (treatment.answered.share or 0) > 0.83 or labelled == 1


def test_a_treatment_that_keeps_silent_on_what_is_hard_does_not_win_by_it(server: Server) -> None:
    begin(guardrails=Guardrails(coverage_margin=1))
    server.serve(
        in_turn(["control", "treatment"], 600),
        offered=lambda arm, number: arm == "control" or number % 2 == 0,
        accepted=lambda arm, number: arm == "treatment" or number % 5 != 0,
    )
    server.label_what_nothing_was_offered_for()
    assert len(advance_experiments()) == 1


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

SLOW = {"ramp": (0.5, 1.0), "guardrails": Guardrails(step_answers=60, most_loss=0.5)}
FAST = Guardrails(step_answers=20, most_loss=1.0)


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
    begin(ramp=(0.4, 0.6, 1.0), guardrails=FAST)
    server.serve(server.assigned(merchants(400)), accepted=nine_in_ten_but("", 0))
    said: list[str] = []
    both = [threading.Thread(target=lambda: said.extend(advance_experiments())) for _ in range(2)]
    with session_for_jobs() as session:
        experiments.take_turns(session, None)
        for each in both:
            each.start()
        # Both have read the answers, and are about to go on.
        wait_for_waiting(server, 2)
    for each in both:
        each.join()
    assert admin_connection.execute("SELECT ramp FROM experiment_changes ORDER BY id").fetchall() == [(0.4,), (0.6,)]
    assert len(said) == 1, said


def test_a_treatment_that_was_stopped_does_not_hold_the_others_up(server: Server) -> None:
    begin(*THREE, ramp=(0.5, 1.0), guardrails=FAST)
    change("stop_arm", "first")
    server.serve(server.assigned(merchants(500)), accepted=nine_in_ten_but("", 0))
    assert len(advance_experiments()) == 1
    assert shown().ramp_now == 1.0


@pytest.mark.parametrize(
    ("now", "to", "accepted", "is_due"),
    [
        (0.1, 0.5, (0.9, 0.9), True),
        (0.1, 0.5, (0.8, 0.9), False),
        (0.5, 1.0, (0.9, 0.9), True),
        (0.5, 1.0, (0.85, 0.9), False),
        # To a tenth, even 30 points less would cost 3 of 100 suggestions.
        (0.01, 0.1, (0.8, 0.9), True),
    ],
)
def test_a_step_is_taken_where_what_it_could_cost_is_known_to_be_little(
    server: Server, now: float, to: float, accepted: tuple[float, float], *, is_due: bool
) -> None:
    # What stops arms is out of the way here.
    begin(Arm("old", "rule", None, 0.0), Arm("new", "rule", None, 1.0), ramp=(now, to, *([1.0] if to < 1 else [])),
          guardrails=Guardrails(acceptance_margin=1.0))  # fmt: skip
    shares = dict(zip(("new", "old"), accepted, strict=True))
    server.serve(
        in_turn(["old", "new"], 200),
        times=20 if now > 0.01 else 2,
        accepted=lambda arm, number: number * 7 % 20 < 20 * shares[arm],
    )
    step = results().next_step
    assert step is not None
    assert (step.ramp, step.is_due) == (to, is_due), step.sentence


def test_a_step_waits_for_answers_of_the_step_before_it(server: Server) -> None:
    begin(ramp=(0.3, 0.6, 1.0), guardrails=FAST)
    server.serve(server.assigned(merchants(400)), accepted=nine_in_ten_but("", 0))
    assert len(advance_experiments()) == 1
    step = results().next_step
    assert step is not None
    assert not step.is_due
    assert "waits for 20 answers" in step.sentence


def test_where_no_treatment_is_left_the_ramp_stays(server: Server) -> None:
    begin(ramp=(0.5, 1.0), guardrails=FAST)
    server.serve(server.assigned(merchants(200)), accepted=nine_in_ten_but("", 0))
    change("stop_arm", "treatment")
    assert advance_experiments() == []
    assert results().next_step is None


def test_the_step_that_is_in_force_is_no_change(server: Server) -> None:
    begin(ramp=(0.5, 1.0))
    server.serve(server.assigned(merchants(100)), accepted=nine_in_ten_but("", 0))
    with pytest.raises(Conflict, match="at 50% already"):
        change("ramp_experiment", 0.5)
    assert [each.action for each in shown().changes] == ["start"]


def test_nobody_waits_for_the_answers_to_be_read(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 100), accepted=nine_in_ten_but("", 0))
    with session_for_jobs() as session:
        experiments.take_turns(session, None)
        done = threading.Thread(target=advance_experiments, daemon=True)
        done.start()
        done.join(timeout=10)
        assert not done.is_alive()


def test_what_somebody_does_while_the_answers_are_read_stands(server: Server) -> None:
    begin(ramp=(0.4, 1.0), guardrails=FAST)
    server.serve(server.assigned(merchants(400)), accepted=nine_in_ten_but("", 0))
    said: list[str] = []
    with session_for_jobs() as session:
        experiments.take_turns(session, None)
        advancing = threading.Thread(target=lambda: said.extend(advance_experiments()))
        advancing.start()
        wait_for_waiting(server, 1)
        experiments.ramp_experiment(session, None, NAME, 0.1, **BECAUSE)
    advancing.join()
    assert (said, shown().ramp_now) == ([], 0.1)


def test_an_experiment_that_cannot_be_judged_keeps_nobody_else_s_from_being_judged(
    server: Server, user_id: int
) -> None:
    with session_for_jobs() as session:
        experiments.create_experiment(session, user_id, Plan("before", "user", PAIR), actor="a test")
        experiments.start_experiment(session, user_id, "before", **BECAUSE)
    server.connection.execute("""UPDATE experiments SET guardrails = '{"unheard-of": 1}' WHERE name = 'before'""")
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("treatment", 0.4))
    said = advance_experiments()
    assert [each.split(":")[0] for each in said] == ["before cannot be judged", "trial"]
    assert shown().status == "stopped"


def test_a_job_that_a_later_one_has_replaced_does_nothing(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 400), accepted=nine_in_ten_but("treatment", 0.4))
    now = time.time()
    assert "left to the next one" in advance(timestamp=int(now) - ADVANCE_SECONDS)
    assert shown().status == "running"
    assert "was stopped" in advance(timestamp=int(now))


def test_what_a_person_has_taken_back_to_nothing_stays_there(server: Server) -> None:
    begin(ramp=(0.5, 1.0), guardrails=FAST)
    server.serve(server.assigned(merchants(300)), accepted=nine_in_ten_but("", 0))
    change("ramp_experiment", 0.0)
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


def test_a_unit_that_comes_back_is_no_new_evidence_about_how_units_are_assigned(server: Server) -> None:
    begin(*THREE)
    # As far from 40 to 30 to 30 as chance brings it once in some hundred times.
    units = {merchant: name for name, some in zip(
        ("control", "first", "second"),
        (merchants(195), merchants(105, 195), merchants(120, 300)),
        strict=True,
    ) for merchant in some}  # fmt: skip
    server.serve(units)
    assert not results().is_suspect
    for number in range(6):
        change("ramp_experiment", 1.0 if number % 2 else 0.9999)
        server.serve(units)
    assert results().sample_ratio_e_value < 1_000


def test_a_ramp_that_moves_the_units_that_it_should_is_not_suspect(server: Server) -> None:
    begin(*THREE, ramp=(0.1, 0.5, 1.0))
    for step in (0.2, 0.5, 1.0, 0.3):
        change("ramp_experiment", step)
        server.serve(server.assigned(merchants(400)))
    assert not results().is_suspect


# --- what is counted -------------------------------------------------------------------------------------------------


def add_event(server: Server, arm: str, candidates: str, merchant: str, txn_id: int | None = None) -> tuple[int, int]:
    """Suggest for a transaction, a new one if None; return the event and it."""
    if txn_id is None:
        (txn_id,) = server.connection.execute(
            """
            INSERT INTO transactions (user_id, account, date, amount, description, fingerprint)
            VALUES (%s, 'card', '2025-01-01', -1, 'x', sha256(gen_random_uuid()::text::bytea)) RETURNING id
            """,
            [server.user_id],
        ).fetchone()  # type: ignore[misc]
    (event_id,) = server.connection.execute(
        """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates, inputs, experiment, arm, propensity)
        VALUES (%s, %s, 'auto', 'rule', %s, %s, 'trial', %s, 0.5) RETURNING id
        """,
        [txn_id, server.user_id, candidates, server.exposure(server.running(), merchant), arm],
    ).fetchone()  # type: ignore[misc]
    return event_id, txn_id


OFFER = (
    '[{"label": "Groceries", "confidence": 0.7, "reasons": []}, {"label": "Rent", "confidence": 0.2, "reasons": []}]'
)


@pytest.mark.parametrize(
    ("reaction", "outcomes"),
    [
        ("nothing", (False, None)),
        ("accept", (True, None)),
        ("accept the second", (True, None)),
        ("accept and correct", (True, False)),
        ("accept, and a rule says so", (True, None)),
        ("reject", (False, None)),
        ("reject and say what it is", (False, False)),
        ("accept and undo", (False, None)),
        ("label it so", (False, True)),
        ("label it otherwise", (False, False)),
        ("labelled so before", (False, None)),
        ("accept, then rename", (True, None)),
        ("accept, correct and correct back, then rename", (True, True)),
    ],
)
def test_what_a_person_did_counts_as_it_does_in_the_warehouse(
    server: Server,
    user_id: int,
    reaction: str,
    outcomes: tuple[bool, bool | None],
) -> None:
    begin()
    event_id, txn_id = add_event(server, "treatment", OFFER, "aldi")

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
        sql = "UPDATE label_events SET known_at = known_at - interval '1 minute' WHERE txn_id = %s"
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
        "labelled so before": [lambda: label("Groceries"), label_earlier],
        "accept, then rename": [lambda: answer("accept"), rename],
        "accept, correct and correct back, then rename": [
            lambda: answer("accept"),
            lambda: label("Rent"),
            lambda: label("Groceries"),
            rename,
        ],
    }
    for step in steps[reaction]:
        step()
    arm = next(each for each in results().arms if each.arm == "treatment")
    expected = [() if outcome is None else (1, float(outcome)) for outcome in outcomes]
    found = [(s.answers, s.share) if s.answers else () for s in (arm.acceptance, arm.precision)]
    assert (found, arm.coverage.answers, arm.coverage.share) == (expected, 1, 1.0)
    silent = ("nothing", "accept and undo", "labelled so before")
    assert (arm.answered.answers, arm.answered.share or 0) == (int(reaction not in silent), float(outcomes[0]))


def test_a_transaction_counts_once_however_often_it_is_shown_and_its_accepts_vouch_for_none_of_that(
    server: Server, user_id: int
) -> None:
    begin()
    event_id, txn_id = add_event(server, "treatment", OFFER, "aldi")
    for _ in range(2):
        add_event(server, "treatment", OFFER, "aldi", txn_id)
    with session_for_user(user_id) as session:
        answer_suggestion(session, user_id, event_id, "accept")
    treatment = results().arms[1]
    assert (treatment.units, treatment.transactions, treatment.coverage.answers) == (1, 1, 1)
    assert (treatment.acceptance.answers, treatment.acceptance.share) == (1, 1.0)
    assert treatment.precision.answers == 0


def test_what_nothing_was_offered_for_was_not_accepted_whether_somebody_labels_it_or_not(server: Server) -> None:
    begin()
    add_event(server, "treatment", "[]", "aldi")
    treatment = results().arms[1]
    assert (treatment.acceptance.answers, treatment.acceptance.share, treatment.answered.answers) == (1, 0.0, 0)
    server.label_what_nothing_was_offered_for()
    treatment = results().arms[1]
    assert (treatment.acceptance.answers, treatment.acceptance.share) == (1, 0.0)
    assert (treatment.answered.answers, treatment.answered.share) == (1, 0.0)
    assert (treatment.precision.answers, treatment.coverage.share) == (0, 0.0)


def test_the_last_suggestion_of_a_transaction_says_whether_anything_was_offered_and_right(
    server: Server, user_id: int
) -> None:
    begin()
    _, txn_id = add_event(server, "treatment", "[]", "aldi")
    add_event(server, "treatment", OFFER, "aldi", txn_id)
    with session_for_user(user_id) as session:
        write_labels(session, {txn_id: "Groceries"}, source="human")
    treatment = results().arms[1]
    assert (treatment.coverage.share, treatment.precision.share) == (1.0, 1.0)


def test_suggestions_that_kept_nothing_of_the_experiment_are_no_part_of_it(server: Server) -> None:
    begin()
    server.serve(in_turn(["control", "treatment"], 20), accepted=nine_in_ten_but("", 0))
    server.connection.execute("UPDATE suggestion_events SET inputs = inputs - 'exposure' WHERE arm = 'control'")
    assert [arm.transactions for arm in results().arms] == [0, 10]


def test_a_model_that_takes_another_s_place_begins_a_new_period_and_going_back_goes_on_with_the_old_one(
    server: Server,
) -> None:
    begin()
    server.connection.execute("UPDATE experiment_arms SET engine = 'champion' WHERE name = 'treatment'")
    for version, count in ((1, 400), (2, 40), (1, 100)):
        server.versions = {"treatment": version}
        server.serve(
            in_turn(["control", "treatment"], count),
            accepted=nine_in_ten_but("treatment", 0.4 if version == 1 else 0.9),
            source="model",
        )
        treatment = results().arms[1]
        assert treatment.versions == {"treatment": version}
        assert treatment.acceptance.answers == {400: 200, 40: 20, 100: 250}[count]


def test_each_period_has_a_part_of_alpha_and_treatments_share_it(server: Server) -> None:
    begin(*THREE)
    for number, step in enumerate((1.0, 0.5, 0.75), start=1):
        if number > 1:
            change("ramp_experiment", step)
        server.serve(in_turn(["control", "first"], 20), accepted=nine_in_ten_but("", 0))
        compared = results().arms[1].acceptance_difference
        assert compared is not None
        assert compared.alpha == pytest.approx(ALPHA / (number * (number + 1) * 2))
        assert results().arms[1].fallbacks.alpha == compared.alpha
    server.serve(in_turn(["control", "second"], 20))
    second = results().arms[2].acceptance_difference
    assert second is not None
    assert second.alpha == pytest.approx(ALPHA / (1 * 2 * 2)), "it is its first"


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
            served_event_id, txn_id, user_id, mode, source, model_version, candidates, inputs, experiment, arm
        )
        SELECT id, txn_id, user_id, mode, 'shadow', '9', '[]', inputs, experiment, arm FROM suggestion_events
        """
    )
    control, treatment = results().arms
    for arm, period in ((control, 3), (treatment, 4)):
        offered = [number for number in range(90) if number % 5]
        answered = [number for number in offered if number % 7]
        taken = [number for number in answered if number % period]
        assert (arm.units, arm.transactions, arm.coverage.share) == (30, 90, len(offered) / 90)
        assert (arm.acceptance.answers, arm.acceptance.share) == (90, len(taken) / 90)
        assert (arm.answered.answers, arm.answered.share) == (len(answered), len(taken) / len(answered))
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


# --- the end ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canary:
    """A version beside the champion, and the one that is champion now."""

    server: Server
    champion: int
    version: int

    def serve(self, count: int, **how: Any) -> None:
        """Suggest for merchants as both are assigned now, by the model that is due; nine in ten are accepted."""
        how = {"accepted": nine_in_ten_but("", 0)} | how
        self.server.serve(self.server.assigned(merchants(count)), source="model", **how)

    def roles(self) -> Current:
        """Say who is champion."""
        with session_for_jobs() as session:
            return deployments.current(session, None)

    def promote(self, version: int) -> None:
        """Let a version become champion by hand."""
        with session_for_jobs() as session:
            deployments.promote(session, None, version, **BECAUSE)


@pytest.fixture
def canary(server: Server, make_version: Callable[[], int]) -> Canary:
    made = Canary(server, champion=make_version(), version=make_version())
    made.promote(made.champion)
    arms = (Arm("old", "champion", None, 0.0), Arm("new", "version", made.version, 1.0))
    begin(*arms, ramp=(0.5, 1.0), guardrails=Guardrails(step_answers=60))
    server.versions = {"old": made.champion, "new": made.version}
    return made


def test_a_canary_whose_last_step_held_becomes_champion_and_the_experiment_ends(canary: Canary) -> None:
    canary.serve(400, times=20)
    (done,) = advance_experiments()
    assert "the ramp is at 100%" in done
    canary.serve(50)
    assert advance_experiments() == [], "its answers are too few yet"
    assert canary.roles().champion == canary.champion
    canary.serve(100)
    (done,) = advance_experiments()
    assert f"Version {canary.version} is due to become champion: its last step held for 150 answers" in done
    assert canary.roles().champion == canary.version
    with session_for_jobs() as session:
        promotion = deployments.history(session, None)[0]
    *_, last = shown().changes
    assert (last.action, last.actor, last.reason) == ("stop", promotion.actor, promotion.reason)
    assert promotion.actor == experiments.POLICY
    assert last.reason in done
    assert advance_experiments() == []


@pytest.fixture
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LM_PROMOTION", '{"automatic": false}')
    get_settings.cache_clear()
    experiment_policy.ANNOUNCED.clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("_by_hand")
def test_where_the_champion_is_chosen_by_hand_it_is_said_once_that_a_promotion_is_due(canary: Canary) -> None:
    canary.serve(400, times=20)
    assert len(advance_experiments()) == 1
    canary.serve(200)
    (done,) = advance_experiments()
    assert f"`lm models promote {canary.version}` is due" in done
    assert advance_experiments() == []
    assert (shown().status, canary.roles().champion) == ("running", canary.champion)
    canary.promote(canary.version)
    (done,) = advance_experiments()
    assert "they are the same" in done
    assert shown().status == "stopped"


def test_an_experiment_whose_arms_are_one_version_by_now_is_over(canary: Canary) -> None:
    canary.serve(100)
    canary.promote(canary.version)
    (done,) = advance_experiments()
    assert f"Version {canary.version} is due for old and new by now: they are the same." in done
    assert (shown().status, shown().changes[-1].actor) == ("stopped", experiments.POLICY)


def test_nothing_is_decided_by_versions_that_somebody_replaced_while_the_answers_were_read(
    canary: Canary, make_version: Callable[[], int]
) -> None:
    canary.serve(400, accepted=nine_in_ten_but("new", 0.3))
    assert results().broken
    said: list[str] = []
    with session_for_jobs() as session:
        experiments.take_turns(session, None)
        advancing = threading.Thread(target=lambda: said.extend(advance_experiments()))
        advancing.start()
        wait_for_waiting(canary.server, 1)
        canary.promote(make_version())
    advancing.join()
    assert (said, shown().status) == ([], "running")


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


def test_a_unit_that_slips_from_its_arm_is_suspect(server: Server) -> None:
    begin(ramp=(0.5, 1.0))
    before = server.assigned(merchants(100))
    server.serve(before)
    change("ramp_experiment", 1.0)
    after = server.assigned(merchants(100))
    slipped = next(merchant for merchant, arm in before.items() if arm == "treatment")
    server.serve({merchant: arm for merchant, arm in after.items() if merchant != slipped})
    assert not results().is_suspect
    server.serve({slipped: "control"})
    assert results().is_suspect


def test_what_a_server_did_that_had_not_heard_of_a_change_yet_is_of_the_time_before(server: Server) -> None:
    begin(*THREE)
    units = server.assigned(merchants(200))
    server.serve(units)
    before = server.running()
    change("stop_arm", "first")
    late = replace(server)
    late.running = lambda: before  # type: ignore[method-assign]
    late.serve(units)
    server.serve(server.assigned(merchants(200)))
    found = results()
    assert not found.is_suspect
    assert found.arms[1].transactions == 2 * list(units.values()).count("first")


LAST = (Arm("old", "rule", None, 0.0), Arm("new", "rule", None, 1.0))


def at_the_last_step(server: Server, guardrails: Guardrails | None = None) -> None:
    """Take a canary to where it is alone; nine of ten of its suggestions and of the control's were accepted before."""
    begin(*LAST, ramp=(0.5, 1.0), guardrails=guardrails)
    server.serve(in_turn(["old", "new"], 400), source="model", accepted=nine_in_ten_but("", 0))
    change("ramp_experiment", 1.0)


def test_a_treatment_that_fails_at_the_last_step_is_stopped_though_nothing_is_beside_it(server: Server) -> None:
    at_the_last_step(server)
    server.serve(in_turn(["new"], 150), accepted=nine_in_ten_but("", 0))
    assert advance_experiments() == []
    server.serve(dict.fromkeys(merchants(300, 150), "new"), accepted=nine_in_ten_but("new", 0.4))
    (done,) = advance_experiments()
    assert "at the last step" in done
    assert shown().status == "stopped"


def test_what_is_compared_across_time_has_alpha_of_the_period_that_it_is_judged_in(server: Server) -> None:
    at_the_last_step(server)
    server.serve(in_turn(["new"], 100), accepted=nine_in_ten_but("", 0))
    last = results().arms[1].last_step
    assert last is not None
    assert (last.acceptance.answers, last.control.answers) == (100, 200)
    assert last.acceptance.alpha == last.control.alpha == pytest.approx(ALPHA / 6)


def test_an_arm_whose_role_is_empty_by_now_is_stopped_at_once(server: Server) -> None:
    begin(*THREE)
    server.connection.execute("UPDATE experiment_arms SET engine = 'challenger' WHERE name = 'second'")
    (done,) = advance_experiments()
    assert "There is no challenger any more" in done
    assert [arm.is_stopped for arm in shown().arms] == [False, False, True]


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
