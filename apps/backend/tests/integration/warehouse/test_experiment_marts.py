"""The marts of experiments hold what was randomised, and all that the intervals of an experiment are made of."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.db import session_for_jobs
from app.ml.confidence_sequences import UnitMoments, difference_bounds, mean_bounds, unit_moments
from app.ml.sequential import PLANNED_ANSWERS_OF_SHARE
from app.services.experiment_analysis import PLANNED_ANSWERS, analyse_experiment
from app.services.experiment_assignment import Arm, RunningExperiment, assign
from app.services.experiments import show_experiment

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Dbt, Ledger, RunModels

    from app.ml.sequential import Comparison, ShareSequence

MARTS = ("+fct_experiment_exposures", "fct_experiment_results")
NAME = "rule-or-model"
ARMS = ("control", "treatment")
OUTCOMES = ("acceptance", "precision", "coverage")


def moments(ledger: Ledger, arm: str, outcome: str, began_at: dt.datetime | None = None) -> UnitMoments:
    """Read the sums of a period, the latest one if None."""
    (row,) = ledger.rows(
        """
        SELECT units, answers, successes, answer_squares, success_squares, products
        FROM marts.fct_experiment_results
        WHERE coalesce(began_at = %s, is_latest) AND experiment = %s AND arm = %s AND outcome = %s
        """,
        began_at,
        NAME,
        arm,
        outcome,
    )
    return UnitMoments(*(np.asarray(float(value)) for value in row))


def test_the_unit_is_the_user_or_the_users_merchant(ledger: Ledger, run_models: RunModels) -> None:
    users = [ledger.user(name) for name in ("ana", "ben")]
    for name, unit in (("by-user", "user"), ("by-merchant", "user_merchant")):
        ledger.experiment(name, *ARMS, unit=unit)
        for user_id in users:
            for merchant in ("tesco", "tesco", "a:b", ""):
                part_of = (name, "treatment", 0.5)
                ledger.suggest(ledger.transaction(user_id, merchant=merchant), "[]", part_of=part_of)
    ledger.suggest(ledger.transaction(users[0]), "[]")
    run_models(*MARTS)
    rows = ledger.rows("""
        SELECT experiment_unit, merchant, suggestions, propensity FROM marts.fct_experiment_exposures
        ORDER BY experiment_unit COLLATE "C"
    """)
    assert rows == [
        ("by-merchant:1", None, 1, 0.5),
        ("by-merchant:1:a:b", "a:b", 1, 0.5),
        ("by-merchant:1:tesco", "tesco", 2, 0.5),
        ("by-merchant:2", None, 1, 0.5),
        ("by-merchant:2:a:b", "a:b", 1, 0.5),
        ("by-merchant:2:tesco", "tesco", 2, 0.5),
        ("by-user:1", None, 4, 0.5),
        ("by-user:2", None, 4, 0.5),
    ]


def test_the_analysis_of_an_experiment_can_be_made_again_from_its_results(
    ledger: Ledger, run_models: RunModels
) -> None:
    experiment_id = ledger.experiment(NAME, *ARMS)
    draw = random.Random(3)  # noqa: S311 -- the same rows every time
    earlier = experience(ledger, draw, at="2025-11-02T12:00Z")
    ledger.change(experiment_id, "ramp", at="2025-11-03T12:00Z")
    expected = experience(ledger, draw, at="2025-11-03T12:00Z")
    # From here on there is nothing to compare with; what is analysed is the time before.
    ledger.change(experiment_id, "stop_arm", arm="treatment", at="2025-11-04T12:00Z")
    ledger.change(experiment_id, "stop", at="2025-11-05T12:00Z")
    run_models(*MARTS)
    with session_for_jobs() as session:
        result = analyse_experiment(session, show_experiment(session, None, NAME))
    for arm, outcome in product(result.arms, OUTCOMES):
        answers, successes = np.array([*expected[arm.arm, outcome].values()]).T
        stored = moments(ledger, arm.arm, outcome, arm.since)
        assert stored == unit_moments(answers, successes)
        share: ShareSequence = getattr(arm, outcome)
        bounds = mean_bounds(stored, (0, 1), alpha=share.alpha, planned_answers=PLANNED_ANSWERS_OF_SHARE)
        assert [float(value) for value in bounds] == pytest.approx([share.share, share.lower, share.upper])
        comparison: Comparison | None = getattr(arm, f"{outcome}_difference")
        if comparison is not None:
            control = moments(ledger, "control", outcome, arm.since)
            bounds = difference_bounds(stored, control, alpha=comparison.alpha, planned_answers=PLANNED_ANSWERS)
            assert comparison.is_informative
            assert [float(value) for value in bounds] == pytest.approx(
                [comparison.difference, comparison.lower, comparison.upper]
            )
    assert [arm.acceptance_difference is None for arm in result.arms] == [True, False]
    started = dt.datetime(2025, 10, 1, tzinfo=dt.UTC)
    for (arm_name, outcome), counts in earlier.items():
        answers, successes = np.array([*counts.values()]).T
        assert moments(ledger, arm_name, outcome, started) == unit_moments(answers, successes)


def experience(ledger: Ledger, draw: random.Random, *, at: str) -> dict[tuple[str, str], dict[str, list[int]]]:
    """Fill an experiment; return answers and successes by unit of each arm and outcome, counted here."""
    counts: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for user_id in [ledger.user(name) for name in ("ana", "ben")]:
        for number in range(90):
            merchant, arm = f"shop {number}", draw.choice(ARMS)
            for _ in range(draw.randrange(1, 5)):
                txn_id = ledger.transaction(user_id, merchant=merchant)
                offered = draw.random() < 0.8
                candidates = '[{"label": "Food"}, {"label": "Fun"}]' if offered else "[]"
                event_id = ledger.suggest(txn_id, candidates, source="model", part_of=(NAME, arm, 0.5), at=at)
                ledger.shadow(event_id, "[]")
                outcomes = {"coverage": offered} | react(ledger, event_id, txn_id, offered=offered, draw=draw)
                for outcome, success in outcomes.items():
                    unit = counts[arm, outcome][f"{user_id}:{merchant}"]
                    unit[0] += 1
                    unit[1] += success
    return counts


def react(ledger: Ledger, event_id: int, txn_id: int, *, offered: bool, draw: random.Random) -> dict[str, bool]:
    """Answer a suggestion of Food, then Fun, in one of many ways; return what that says of it."""
    reaction = draw.choice(
        ("nothing", "accept", "accept", "accept", "correct", "second", "reject", "undo", "label", "twice")
    )
    if reaction in {"accept", "correct", "second", "undo", "twice"} and offered:
        ledger.accept(event_id, "Fun" if reaction == "second" else "Food")
        if reaction == "correct":
            ledger.label(txn_id, "Rent")
        elif reaction == "undo":
            ledger.answer(event_id, "undo")
            ledger.unlabel(txn_id)
        elif reaction == "twice":
            ledger.label(txn_id, "Food", "rule")
    elif reaction == "reject":
        ledger.answer(event_id, "reject", "Rent")
        ledger.label(txn_id, "Rent")
    elif reaction == "label":
        ledger.label(txn_id, "Food")
    if not offered:
        return {}
    return {
        "nothing": {},
        "accept": {"acceptance": True},
        "correct": {"acceptance": True, "precision": False},
        "second": {"acceptance": True},
        "reject": {"acceptance": False, "precision": False},
        "undo": {},
        "label": {"precision": True},
        "twice": {"acceptance": True, "precision": True},
    }[reaction]


def test_an_answer_that_comes_late_is_in_the_next_build(ledger: Ledger, run_models: RunModels) -> None:
    ledger.experiment(NAME, *ARMS)
    txn_id = ledger.transaction(ledger.user("ana"))
    event_id = ledger.suggest(txn_id, '["Food"]', part_of=(NAME, "control", 0.5))
    changes: tuple[Callable[[], None], ...] = (
        lambda: None,
        lambda: ledger.accept(event_id, "Food"),
        lambda: ledger.label(txn_id, "Rent"),
    )
    answers = []
    for change in changes:
        change()
        run_models(*MARTS)
        answers.append([float(moments(ledger, "control", outcome).answers) for outcome in ("acceptance", "precision")])
    assert answers == [[0, 0], [1, 0], [1, 1]]


def test_a_unit_that_slips_from_its_arm_is_a_warning_and_one_that_a_stop_moves_is_not(
    ledger: Ledger, run_models: RunModels, dbt: Dbt
) -> None:
    experiment_id = ledger.experiment(NAME, *ARMS)
    txn_id = ledger.transaction(ledger.user("ana"))
    test = ("test", "--select", "fct_experiment_exposures_units_stay_in_their_arm")
    ledger.suggest(txn_id, "[]", part_of=(NAME, "treatment", 0.5), at="2025-11-01T09:00Z")
    ledger.suggest(txn_id, "[]", part_of=(NAME, "control", 1.0), at="2025-11-03T09:00Z")
    outcomes = []
    for stopped in ("control", "treatment"):
        ledger.change(experiment_id, "stop_arm", arm=stopped, at="2025-11-02T09:00Z")
        run_models(*MARTS)
        results = {result.node.name: result for result in dbt(*test).result}
        result = results["fct_experiment_exposures_units_stay_in_their_arm"]
        outcomes.append((str(result.status), result.failures))
    assert outcomes == [("warn", 1), ("pass", 0)]
    assert ledger.rows("SELECT arm, has_crossed, has_slipped FROM marts.fct_experiment_exposures") == [
        ("treatment", True, False)
    ]


@pytest.mark.parametrize("salts", [("pepper", "pepper", "pepper", "pepper"), ("pepper", "pepper", "pepper", "paprika")])
def test_only_an_assignment_that_does_not_stick_makes_units_slip(
    ledger: Ledger, run_models: RunModels, salts: tuple[str, ...]
) -> None:
    experiment_id = ledger.experiment(NAME, "control", "second", "third")
    user_id = ledger.user("ana")
    transactions = {f"shop {number}": ledger.transaction(user_id, merchant=f"shop {number}") for number in range(60)}
    steps = ((0.1, None), (0.5, None), (1.0, None), (1.0, "second"))
    arms: dict[str, list[str]] = defaultdict(list)
    for day, (salt, (ramp, stopped)) in enumerate(zip(salts, steps, strict=True), 1):
        ledger.change(experiment_id, "stop_arm" if stopped else "ramp", arm=stopped, at=f"2025-11-{day:02}T06:00Z")
        shares = {"control": 0.4, "second": 0.3, "third": 0.3}
        experiment = RunningExperiment(
            NAME,
            "user_merchant",
            salt,
            ramp,
            tuple(Arm(arm, "rule", None, shares[arm], arm == stopped) for arm in shares),
        )
        for merchant, txn_id in transactions.items():
            assigned = assign(experiment, user_id, merchant)
            part_of = (NAME, assigned.arm.name, assigned.propensity)
            ledger.suggest(txn_id, "[]", part_of=part_of, at=f"2025-11-{day:02}T12:00Z")
            arms[merchant].append(assigned.arm.name)
    run_models(*MARTS)
    rows = ledger.rows("SELECT merchant, arm, has_crossed, has_slipped FROM marts.fct_experiment_exposures")
    assert {merchant: (arm, crossed) for merchant, arm, crossed, _ in rows} == {
        merchant: (seen[0], len(set(seen)) > 1) for merchant, seen in arms.items()
    }
    assert sum(crossed for *_, crossed, _ in rows) > 10
    assert any(slipped for *_, slipped in rows) == (len(set(salts)) > 1)


def test_who_is_erased_is_in_no_experiment(ledger: Ledger, run_models: RunModels) -> None:
    ledger.experiment(NAME, *ARMS)
    for name in ("ana", "ben"):
        ledger.suggest(ledger.transaction(ledger.user(name)), "[]", part_of=(NAME, "control", 0.5))
    ledger.connection.execute("DELETE FROM users WHERE name = 'ben'")
    run_models(*MARTS)
    assert ledger.rows("SELECT user_id FROM marts.fct_experiment_exposures") == [(ledger.user("ana"),)]
    assert moments(ledger, "control", "coverage").answers == 1
