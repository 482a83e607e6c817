"""The marts of experiments hold what was randomised, and all that the intervals of an experiment are made of."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from app.config import WAREHOUSE_DIR
from app.db import session_for_jobs
from app.ml.confidence_sequences import UnitMoments, mean_bounds, unit_moments
from app.ml.sequential import PLANNED_ANSWERS_OF_SHARE
from app.services.experiment_analysis import analyse_experiment
from app.services.experiment_assignment import Arm, RunningExperiment, assign
from app.services.experiment_outcomes import OUTCOMES, read_outcomes
from app.services.experiment_periods import periods_of
from app.services.experiments import show_experiment
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from conftest import Dbt, Ledger, RunModels

    from app.ml.sequential import Comparison, ShareSequence
    from app.services.experiment_outcomes import Outcome

README = WAREHOUSE_DIR / "models" / "ML_README.md"
MARTS = ("+fct_experiment_exposures", "+fct_experiment_results")
NAME = "rule-or-model"
ARMS = ("control", "treatment")
SALT = "0" * 32
OFFERED = '[{"label": "Food"}, {"label": "Fun"}]'


def exposed(arm: str, unit: str, change: int, *, version: int = 3, experiment: str = NAME) -> dict[str, Any]:
    """Say what a suggestion keeps of an experiment."""
    kept = {"unit": unit, "change": change, "versions": {"treatment": version}}
    return {"part_of": (experiment, arm, 0.5), "exposure": kept}


def moments(
    ledger: Ledger, arm: str, outcome: str, period: tuple[int, Mapping[str, int | None]] | None = None
) -> UnitMoments:
    """Read the sums of a period, given as its change and its versions; of the latest one if None."""
    change, versions = period or (None, None)
    (row,) = ledger.rows(
        """
        SELECT units, answers, successes, answer_squares, success_squares, products
        FROM marts.fct_experiment_results
        WHERE
            coalesce(change_id = %s AND versions = %s::jsonb, is_latest)
            AND experiment = %s AND arm = %s AND outcome = %s
        """,
        change,
        None if versions is None else json.dumps(versions),
        NAME,
        arm,
        outcome,
    )
    return UnitMoments(*(np.asarray(float(value)) for value in row))


# --- what was randomised --------------------------------------------------------------------------------------------


def test_units_are_those_that_servers_randomised_whatever_merchants_are_called_since(
    ledger: Ledger, run_models: RunModels
) -> None:
    experiment_id, user_id = ledger.experiment(NAME, *ARMS), ledger.user("ana")
    change = ledger.change(experiment_id, "start")
    running = RunningExperiment(
        NAME,
        "user_merchant",
        SALT,
        1.0,
        (Arm("control", "rule", None, 0.5), Arm("treatment", "champion", None, 0.5)),
        change,
        {"treatment": None},
    )
    expected: dict[str, tuple[str, int]] = {}
    asked = []
    for number, merchant in enumerate((*(f"shop {number}" for number in range(20)), "")):
        asked += [ledger.transaction(user_id, merchant=merchant) for _ in range(1 + number % 2)]
        assigned = assign(running, user_id, merchant)
        expected[f"{NAME}:{assigned.unit}"] = (assigned.arm.name, 1 + number % 2)
    suggest_now(user_id, asked)
    ledger.connection.execute("UPDATE ml_features SET merchant = 'one' WHERE txn_id %% 2 = 0", [])
    ledger.connection.execute("DELETE FROM ml_features WHERE txn_id %% 2 = 1", [])
    run_models(*MARTS)
    rows = ledger.rows("SELECT experiment_unit, arm, suggestions FROM marts.fct_experiment_exposures")
    assert {unit: (arm, suggestions) for unit, arm, suggestions in rows} == expected
    # Nothing is deployed, so the heuristics answered wherever a champion was due.
    fell_back = moments(ledger, "treatment", "fallbacks", (change, {"treatment": None}))
    assert fell_back.answers == fell_back.totals == sum(count for arm, count in expected.values() if arm != "control")
    assert moments(ledger, "control", "fallbacks").answers == 0


def test_what_was_served_before_suggestions_kept_their_unit_is_in_no_mart(
    ledger: Ledger, run_models: RunModels
) -> None:
    change = ledger.change(ledger.experiment(NAME, *ARMS), "start")
    txn_id = ledger.transaction(ledger.user("ana"))
    ledger.suggest(txn_id, OFFERED, part_of=(NAME, "control", 0.5))
    ledger.suggest(txn_id, OFFERED, **exposed("control", "ff", change))
    run_models(*MARTS)
    rows = ledger.rows("SELECT experiment_unit, suggestions FROM marts.fct_experiment_exposures")
    assert rows == [(f"{NAME}:ff", 1)]


def test_a_unit_that_slips_from_its_arm_is_a_warning_and_one_that_a_stop_moves_is_not(
    ledger: Ledger, run_models: RunModels, dbt: Dbt
) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    for name, stopped in (("sound", "treatment"), ("broken", "third")):
        experiment_id = ledger.experiment(name, *ARMS, "third")
        started = ledger.change(experiment_id, "start")
        ledger.suggest(txn_id, "[]", **exposed("treatment", "ff", started, experiment=name))
        after = ledger.change(experiment_id, "stop_arm", arm=stopped)
        ledger.suggest(txn_id, "[]", **exposed("control", "ff", after, experiment=name))
    run_models(*MARTS)
    results = dbt("test", "--select", "fct_experiment_exposures_units_stay_in_their_arm").result
    outcomes = {result.node.name: (str(result.status), result.failures) for result in results}
    assert outcomes["fct_experiment_exposures_units_stay_in_their_arm"] == ("warn", 1)
    rows = ledger.rows(
        "SELECT experiment, arm, has_crossed, has_slipped FROM marts.fct_experiment_exposures ORDER BY 1"
    )
    assert rows == [("broken", "treatment", True, True), ("sound", "treatment", True, False)]


@pytest.mark.parametrize("last_order", [("second", "third"), ("third", "second")])
def test_only_an_assignment_that_does_not_stick_makes_units_slip(
    ledger: Ledger, run_models: RunModels, last_order: tuple[str, str]
) -> None:
    experiment_id, user_id = ledger.experiment(NAME, "control", "second", "third"), ledger.user("ana")
    transactions = {f"shop {number}": ledger.transaction(user_id, merchant=f"shop {number}") for number in range(60)}
    order, stopped = ("second", "third"), None
    arms: dict[str, list[str]] = defaultdict(list)
    for action, ramp in (("start", 0.1), ("ramp", 0.5), ("ramp", 1.0), ("stop_arm", 1.0), ("ramp", 0.4)):
        if action == "stop_arm":
            # Who owns which part of [0, 1) is not to change.
            order, stopped = last_order, "second"
        change = ledger.change(experiment_id, action, arm=stopped if action == "stop_arm" else None, ramp=ramp)
        treatments = (Arm(arm, "rule", None, 0.3, arm == stopped) for arm in order)
        running = RunningExperiment(
            NAME, "user_merchant", SALT, ramp, (Arm("control", "rule", None, 0.4), *treatments), change, {}
        )
        for merchant, txn_id in transactions.items():
            assigned = assign(running, user_id, merchant)
            kept = {"unit": assigned.unit, "change": change, "versions": {}}
            ledger.suggest(txn_id, "[]", part_of=(NAME, assigned.arm.name, assigned.propensity), exposure=kept)
            arms[f"{NAME}:{assigned.unit}"].append(assigned.arm.name)
    run_models(*MARTS)
    rows = ledger.rows("SELECT experiment_unit, arm, has_crossed, has_slipped FROM marts.fct_experiment_exposures")
    assert {unit: (arm, crossed) for unit, arm, crossed, _ in rows} == {
        unit: (seen[0], len(set(seen)) > 1) for unit, seen in arms.items()
    }
    assert sum(crossed for *_, crossed, _ in rows) > 10
    assert any(slipped for *_, slipped in rows) == (last_order != ("second", "third"))


def test_who_is_erased_is_in_no_experiment(ledger: Ledger, run_models: RunModels) -> None:
    change = ledger.change(ledger.experiment(NAME, *ARMS), "start")
    for name in ("ana", "ben"):
        ledger.suggest(ledger.transaction(ledger.user(name)), "[]", **exposed("control", name, change))
    ledger.connection.execute("DELETE FROM users WHERE name = 'ben'")
    run_models(*MARTS)
    assert ledger.rows("SELECT user_id FROM marts.fct_experiment_exposures") == [(ledger.user("ana"),)]
    assert moments(ledger, "control", "coverage").answers == 1


# --- what became of it ----------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A transaction that is asked about in one period or two.

    Attributes:
        last_offered: By period, whether its last suggestion offered anything.
        fell_back: By period, whether the heuristics ever answered in the model's place.
    """

    txn_id: int
    unit: str
    arm: str
    last_offered: dict[int, bool] = field(default_factory=dict)
    fell_back: dict[int, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """What a person let be known about a transaction.

    Attributes:
        accepted: The answer that counts, to a suggestion of the last period.
        by_hand: Whether a label was given without answering anything, after the suggestions.
        truth: The label, if more says so than an accept of what was shown.
    """

    accepted: bool | None = None
    by_hand: bool = False
    truth: str | None = None


REACTIONS: dict[str, Said] = {
    "nothing": Said(),
    "accept": Said(accepted=True),
    "second": Said(accepted=True),
    "correct": Said(accepted=True, by_hand=True, truth="Rent"),
    "reject": Said(accepted=False, truth="Rent"),
    "reconsider": Said(accepted=True),
    "undo": Said(),
    "label": Said(by_hand=True, truth="Food"),
    "confirm by a rule": Said(accepted=True),
    "accept elsewhere": Said(),
    "know before": Said(),
}


def react(ledger: Ledger, asked: Asked, event_id: int, reaction: str) -> None:
    """Do to a suggestion of Food, then Fun, what a person may."""
    if reaction in {"accept", "correct", "undo", "confirm by a rule"}:
        ledger.accept(event_id, "Food")
    if reaction == "second":
        ledger.accept(event_id, "Fun")
    if reaction in {"reject", "reconsider"}:
        ledger.reject(event_id, "Rent")
    if reaction == "reconsider":
        ledger.accept(event_id, "Food")
    if reaction == "correct":
        ledger.label(asked.txn_id, "Rent")
    if reaction == "label":
        ledger.label(asked.txn_id, "Food")
    if reaction == "confirm by a rule":
        ledger.label(asked.txn_id, "Food", "rule")
    if reaction == "accept elsewhere":
        ledger.accept(ledger.suggest(asked.txn_id, OFFERED), "Food")
    if reaction == "undo":
        ledger.undo(event_id)


def experience(ledger: Ledger, periods: list[tuple[int, int]]) -> dict[tuple[int, str, Outcome], UnitMoments]:
    """Fill two periods, given as change and version; return the moments by period, arm and outcome, counted here."""
    draw = random.Random(3)  # noqa: S311 -- the same rows every time
    successes: dict[tuple[int, str, Outcome], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for number in range(300):
        # Most say what is right, or too little would be known of precision to compare it.
        reaction = draw.choice([*REACTIONS, *["correct", "reject", "label"] * 3])
        unit = f"{draw.randrange(120):016x}"
        arm = ARMS[int(unit, 16) % 2]
        asked = Asked(ledger.transaction(ledger.user(f"user {number % 2}")), unit, arm)
        if reaction == "know before":
            ledger.label(asked.txn_id, "Food")
        seen_in = draw.choice(([0], [1], [0, 1]))
        for period in seen_in:
            # What a person says comes now, and for those who knew before the suggestions come after that.
            day = f"{2099 if reaction == 'know before' else 2025}-11-{1 + period:02}"
            with ledger.connection.transaction():
                for hour in range(draw.randrange(1, 4)):
                    event_id = ask(ledger, asked, period, *periods[period], at=f"{day}T{hour:02}:00Z", draw=draw)
        said = REACTIONS[reaction]
        if not asked.last_offered[seen_in[-1]] and reaction not in {"reject", "label", "know before"}:
            said = Said()
        else:
            react(ledger, asked, event_id, reaction)
        for period in seen_in:
            outcomes: dict[Outcome, bool | None] = {
                "acceptance": said.accepted is True and period == seen_in[-1],
                "precision": said.truth == "Food" if said.truth and asked.last_offered[period] else None,
                "coverage": asked.last_offered[period],
                "fallbacks": asked.fell_back[period] if arm == "treatment" else None,
                "answered": said.accepted if period == seen_in[-1] else None,
            }
            if outcomes["answered"] is None and said.by_hand:
                outcomes["answered"] = False
            for outcome, success in outcomes.items():
                if success is not None:
                    successes[period, arm, outcome][unit].append(success)
    return {
        key: unit_moments(np.array([*map(len, units.values())]), np.array([*map(sum, units.values())]))
        for key, units in successes.items()
    }


def ask(ledger: Ledger, asked: Asked, period: int, change: int, version: int, *, at: str, draw: random.Random) -> int:
    """Suggest something for a transaction, or nothing."""
    is_offered, is_by_model = draw.random() < 0.8, asked.arm == "treatment" and draw.random() < 0.8
    asked.last_offered[period] = is_offered
    asked.fell_back[period] = asked.fell_back.get(period, False) or not is_by_model
    event_id = ledger.suggest(
        asked.txn_id,
        OFFERED if is_offered else "[]",
        source="model" if is_by_model else "rule",
        version=str(version) if is_by_model else None,
        **exposed(asked.arm, asked.unit, change, version=version),
        at=at,
    )
    ledger.shadow(event_id, "[]", version="9")
    return event_id


def go_on_without_control(ledger: Ledger, experiment_id: int) -> None:
    """Take the last step of a canary, and ask."""
    change = ledger.change(experiment_id, "ramp", ramp=1)
    for number in range(20):
        txn_id = ledger.transaction(ledger.user("user 1"))
        kept = exposed("treatment", f"{number:016x}", change, version=4)
        event_id = ledger.suggest(txn_id, OFFERED, source="model", version="4", **kept, at="2025-11-03")
        if number % 2:
            ledger.accept(event_id, "Food")


@pytest.mark.parametrize("is_canary", [False, True])
def test_the_analysis_of_an_experiment_can_be_made_again_from_its_results(
    ledger: Ledger, run_models: RunModels, *, is_canary: bool
) -> None:
    experiment_id = ledger.experiment(NAME, *ARMS) if is_canary else ledger.experiment(NAME, *ARMS, "never asked")
    if is_canary:
        ledger.connection.execute("UPDATE experiment_arms SET share = position")
    change = ledger.change(experiment_id, "start", ramp=0.5)
    # One change of the shares, but another version is the champion from some moment on.
    periods = [(change, 3), (change, 4)]
    expected = experience(ledger, periods)
    if is_canary:
        go_on_without_control(ledger, experiment_id)
    ledger.change(experiment_id, "stop")
    run_models(*MARTS)
    with session_for_jobs() as session:
        experiment = show_experiment(session, None, NAME)
        served = {
            (each.change, each.versions["treatment"]): each for each in periods_of(read_outcomes(session, experiment))
        }
        result = analyse_experiment(session, experiment)
    for number, (_, version) in enumerate(periods):
        for arm, outcome in product(ARMS, (*OUTCOMES, "answered")):
            stored = moments(ledger, arm, outcome, (change, {"treatment": version}))
            nothing = unit_moments(np.array([]), np.array([]))
            assert stored == expected.get((number, arm, outcome), nothing), (version, arm, outcome)
            summed = served[change, version].outcomes(arm, outcome)
            assert stored == unit_moments(summed.answers, summed.successes), (version, arm, outcome)
    control, treatment = result.arms[:2]
    assert treatment.versions == {"treatment": 4}
    assert (treatment.last_step is not None) == is_canary
    for outcome in ("acceptance", "answered", "precision", "coverage"):
        stored = moments(ledger, "treatment", outcome)
        share: ShareSequence = getattr(treatment, outcome)
        bounds = mean_bounds(stored, (0, 1), alpha=share.alpha, planned_answers=PLANNED_ANSWERS_OF_SHARE)
        assert [float(value) for value in bounds] == pytest.approx([share.share, share.lower, share.upper])
        if outcome != "answered":
            comparison: Comparison = getattr(treatment, f"{outcome}_difference")
            assert comparison.is_informative
            assert follow_the_recipe(ledger, outcome) == pytest.approx(
                [comparison.difference, comparison.lower, comparison.upper]
            )
    assert control.acceptance_difference is None


def follow_the_recipe(ledger: Ledger, outcome: str) -> list[float]:
    """Do what the documentation says to do with the mart; return the difference and its interval."""
    (recipe,) = re.findall(r"```python\n(from app.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    with ledger.connection.cursor() as cursor:
        cursor.execute("SELECT * FROM marts.fct_experiment_results WHERE experiment = %s", [NAME])
        results = pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])
    found: dict[str, Any] = {"results": results}
    exec(recipe.replace('"acceptance"', f'"{outcome}"'), found)  # noqa: S102 -- what our own page says
    return [float(value) for value in found["bounds"]]


def test_an_answer_that_comes_late_is_in_the_next_build(ledger: Ledger, run_models: RunModels) -> None:
    change = ledger.change(ledger.experiment(NAME, *ARMS), "start")
    txn_id = ledger.transaction(ledger.user("ana"))
    event_id = ledger.suggest(txn_id, '["Food"]', **exposed("control", "ff", change))
    changes: tuple[Callable[[], None], ...] = (
        lambda: None,
        lambda: ledger.accept(event_id, "Food"),
        lambda: ledger.label(txn_id, "Rent"),
    )
    answers = []
    for happen in changes:
        happen()
        run_models(*MARTS)
        accepted = moments(ledger, "control", "acceptance")
        known = [float(moments(ledger, "control", outcome).answers) for outcome in ("answered", "precision")]
        answers.append([float(accepted.answers), float(accepted.totals), *known])
    assert answers == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
