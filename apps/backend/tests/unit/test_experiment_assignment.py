"""Who is in which arm: always the same, evenly, and however a ramp grows."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from app.services.experiment_assignment import Arm, RunningExperiment, assign, bucket, unit_hash, versions_due

ARMS = (
    Arm("control", "rule", None, 0.5),
    Arm("first", "champion", None, 0.3),
    Arm("second", "version", 7, 0.2),
)
EXPERIMENT = RunningExperiment("trial", "user_merchant", "salt", 1.0, ARMS, 3, {"first": 4, "second": 7})
UNITS = [(user, f"shop {number}") for user in range(200) for number in range(100)]


def arms_of(experiment: RunningExperiment) -> list[str]:
    return [assign(experiment, user, merchant).arm.name for user, merchant in UNITS]


def test_a_unit_is_in_the_same_arm_in_every_process() -> None:
    script = "from app.services.experiment_assignment import *; print([unit_hash('salt', f'{n}') for n in range(20)])"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    assert printed.strip() == str([unit_hash("salt", f"{number}") for number in range(20)])
    assert bucket(unit_hash("salt", "1")) == pytest.approx(0.2778003, abs=1e-7)


def test_what_is_kept_of_a_unit_is_the_hash_that_assigns_it() -> None:
    for user, merchant in UNITS[:500]:
        assigned = assign(EXPERIMENT, user, merchant)
        assert len(assigned.unit) == 16
        start = {"control": 0.5, "first": 0.0, "second": 0.3}[assigned.arm.name]
        assert start <= bucket(assigned.unit) < start + assigned.arm.share


def test_the_versions_that_are_due_are_those_of_every_arm_that_asks_a_model_also_of_none() -> None:
    arms = (*ARMS, Arm("third", "challenger", None, 0.0, is_stopped=True))
    assert versions_due(arms, {"champion": 4}) == {"first": 4, "second": 7, "third": None}


@pytest.mark.parametrize("ramp", [1.0, 0.5, 0.1])
def test_shares_are_what_was_planned_and_propensities_say_so(ramp: float) -> None:
    experiment = replace(EXPERIMENT, ramp=ramp)
    counts = Counter(arms_of(experiment))
    propensities = {a.arm.name: a.propensity for a in (assign(experiment, *unit) for unit in UNITS)}
    assert sum(propensities.values()) == pytest.approx(1)
    for arm in ARMS[1:]:
        assert propensities[arm.name] == pytest.approx(arm.share * ramp)
    for name, propensity in propensities.items():
        deviation = (propensity * (1 - propensity) / len(UNITS)) ** 0.5
        assert counts[name] / len(UNITS) == pytest.approx(propensity, abs=4.5 * deviation)


def test_a_growing_ramp_moves_units_from_the_control_alone() -> None:
    steps = [arms_of(replace(EXPERIMENT, ramp=ramp)) for ramp in (0.01, 0.1, 0.5, 1.0)]
    for before, after in pairwise(steps):
        assert all(old in ("control", new) for old, new in zip(before, after, strict=True))
        assert before != after


def test_what_a_stopped_arm_had_the_control_has_and_nobody_else_moves() -> None:
    stopped = replace(EXPERIMENT, arms=(*ARMS[:1], replace(ARMS[1], is_stopped=True), ARMS[2]))
    for before, after in zip(arms_of(EXPERIMENT), arms_of(stopped), strict=True):
        assert after == ("control" if before == "first" else before)
    assert assign(stopped, 1, "x").propensity in (pytest.approx(0.8), pytest.approx(0.2))


def test_two_experiments_divide_independently() -> None:
    other = replace(EXPERIMENT, salt="other")
    pairs = Counter(zip(arms_of(EXPERIMENT), arms_of(other), strict=True))
    both = pairs["first", "first"] / len(UNITS)
    assert both == pytest.approx(0.09, abs=4.5 * (0.09 * 0.91 / len(UNITS)) ** 0.5)


def test_by_user_all_merchants_are_together_and_without_a_merchant_the_user_is_the_unit() -> None:
    by_user = replace(EXPERIMENT, unit="user")
    assert {assign(by_user, 3, f"shop {number}").arm.name for number in range(50)} == {assign(by_user, 3, "").arm.name}
    assert assign(EXPERIMENT, 3, "").arm == assign(by_user, 3, "anything").arm
    assert len({assign(EXPERIMENT, 3, f"shop {number}").arm.name for number in range(50)}) == 3
