"""What canaries come to that are as good, or worse: simulated with a fixed seed, and decided as the worker does."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from app.services.experiment_analysis import conclude
from app.services.experiment_assignment import Arm
from app.services.experiment_outcomes import UnitSums
from app.services.experiment_plans import CANARY_RAMP, Guardrails
from app.services.experiments import Action, Change, Experiment

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ARMS = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", 2, 1.0))
DUE = {"champion": 1, "canary": 2}
# Of every unit, ten transactions whose acceptance is known.
OF_A_UNIT = 10


def changed(experiment: Experiment, action: Action, ramp: float) -> Experiment:
    number = len(experiment.changes) + 1
    at = BEGIN + number * dt.timedelta(days=1)
    return replace(experiment, changes=(*experiment.changes, Change(number, action, ramp, None, "x", "x", at)))


def canary() -> Experiment:
    planned = Experiment(1, None, "canary", "user_merchant", ARMS, CANARY_RAMP, Guardrails(), "x", BEGIN, ())
    return changed(planned, "start", CANARY_RAMP[0])


def units(
    generator: np.random.Generator, experiment: Experiment, arm: str, count: int, accepts: float, fallen_back: int = 0
) -> list[UnitSums]:
    at = experiment.changes[-1].created_at
    return [
        UnitSums(
            change=experiment.changes[-1].id,
            versions=DUE,
            unit=str(generator.integers(2**62)),
            arm=arm,
            first_at=at,
            last_at=at,
            transactions=OF_A_UNIT,
            sums={
                "acceptance": (OF_A_UNIT, int(accepted)),
                "precision": (0, 0),
                "coverage": (OF_A_UNIT, OF_A_UNIT),
                "fallbacks": (OF_A_UNIT, fallen_back),
            },
        )
        for accepted in generator.binomial(OF_A_UNIT, accepts, count)
    ]


def run(generator: np.random.Generator, worse_by: float, looks: int) -> str:
    """Let a canary go on by itself; say where it got to."""
    experiment, seen = canary(), list[UnitSums]()
    for _ in range(looks):
        ramp = experiment.ramp_now
        share = max(ramp, 0.05)  # or a step of 1 % would take long
        seen += units(generator, experiment, "canary", round(100 * share), 0.9 - worse_by)
        seen += units(generator, experiment, "champion", round(100 * (1 - share)), 0.9) if ramp < 1 else []
        result = conclude(experiment, seen, DUE)
        if result.broken:
            return "stopped"
        if result.next_step is not None and result.next_step.is_due:
            experiment = changed(experiment, "ramp", result.next_step.ramp)
            if experiment.ramp_now == 1:
                return "100%"
    return f"{experiment.ramp_now:.0%}"


@pytest.mark.parametrize(("worse_by", "seed"), [(0.1, 1), (0.2, 2)])
def test_a_canary_that_is_clearly_worse_does_not_get_to_everybody(worse_by: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ends = Counter(run(generator, worse_by, looks=60) for _ in range(40))
    assert ends["100%"] <= 2


def test_a_canary_that_is_as_good_gets_to_everybody() -> None:
    generator = np.random.default_rng(3)
    ends = Counter(run(generator, 0.0, looks=120) for _ in range(20))
    assert ends["100%"] >= 18, ends


def test_a_canary_that_the_heuristics_answer_for_is_stopped_at_the_last_step_too() -> None:
    generator = np.random.default_rng(4)
    experiment = changed(canary(), "ramp", 0.5)
    seen = [unit for arm in DUE for unit in units(generator, experiment, arm, 50, 0.9)]
    experiment = changed(experiment, "ramp", 1.0)
    seen += units(generator, experiment, "canary", 50, 0.9)
    result = conclude(experiment, seen, DUE)
    assert (result.broken, result.next_step) == ({}, None)
    seen += units(generator, experiment, "canary", 50, 0.9, fallen_back=5)
    result = conclude(experiment, seen, DUE)
    assert "in the model's place" in result.broken["canary"]
    # What is compared is the step before; what fell back is of now.
    assert (result.arms[1].acceptance.answers, result.arms[1].fallbacks.answers) == (500, 1_000)


@pytest.mark.parametrize("due", [{"champion": 1, "canary": 3}, {"champion": 2, "canary": 2}])
def test_what_other_versions_did_neither_stops_an_arm_nor_takes_a_step(due: dict[str, int]) -> None:
    generator = np.random.default_rng(5)
    experiment = changed(canary(), "ramp", 0.5)
    better, worse = (
        [
            *units(generator, experiment, "champion", 200, 0.8),
            *units(generator, experiment, "canary", 200, accepts),
        ]
        for accepts in (0.9, 0.4)
    )
    for seen, of_now in ((better, {}), (worse, {"canary"})):
        assert conclude(experiment, seen, DUE).broken.keys() == set(of_now)
        assert conclude(experiment, seen, due).broken == {}
    steps = [conclude(experiment, better, versions).next_step for versions in (DUE, due)]
    assert [step is not None and step.is_due for step in steps] == [True, False]
