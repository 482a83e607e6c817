"""Which arm of an experiment a unit is in: always the same one, and no secret of any process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Engine = Literal["rule", "champion", "challenger", "version"]
Unit = Literal["user", "user_merchant"]

LEAST_SHARE: Final = 1e-9
"""What is less is no share but what rounding left."""

_RANGE: Final = 2**64


@dataclass(frozen=True)
class Arm:
    """Who suggests to a share of the units.

    Attributes:
        engine: The heuristics, or a model by its role or by its version.
        version: For the engine `version`.
        share: Of all units, once the ramp is at its end, 0 to 1.
        is_stopped: Whether its units are the control's now.
    """

    name: str
    engine: Engine
    version: int | None
    share: float
    is_stopped: bool = False


@dataclass(frozen=True)
class RunningExperiment:
    """An experiment that is under way.

    Attributes:
        ramp: What part of their final shares the treatments have.
        arms: The control first.
        change: The id of the change since which that is so.
        versions: By arm that asks a model, the version that is due for it; None where its role is empty.
    """

    name: str
    unit: Unit
    salt: str
    ramp: float
    arms: tuple[Arm, ...]
    change: int
    versions: Mapping[str, int | None]


@dataclass(frozen=True)
class Assignment:
    """What a unit was given, and how probable that was.

    Attributes:
        experiment: As it was when that was decided.
        unit: The hash that decided it, 16 hexadecimal digits.
    """

    experiment: RunningExperiment
    unit: str
    arm: Arm
    propensity: float


def assign(experiment: RunningExperiment, user_id: int, merchant: str) -> Assignment:
    """Say which arm a transaction's unit is in.

    A unit is a point of [0, 1), by a hash of the salt and the unit. Each treatment owns a slot as wide as its final
    share, and has the first part of it, as far as the ramp has come; everything else is the control's. So a unit that
    was once treated stays treated the same way however the ramp grows.

    Args:
        experiment: The experiment.
        user_id: Whose transaction.
        merchant: Of the transaction; where there is none, the user alone is the unit.
    """
    of_merchant = merchant if experiment.unit == "user_merchant" else ""
    unit = unit_hash(experiment.salt, f"{user_id}\x1f{of_merchant}")
    point = bucket(unit)
    control, *treatments = experiment.arms
    start, of_treatments = 0.0, 0.0
    assigned: Arm | None = None
    for arm in treatments:
        exposed = 0.0 if arm.is_stopped else arm.share * experiment.ramp
        if start <= point < start + exposed:
            assigned = arm
        start += arm.share
        of_treatments += exposed
    if assigned is not None:
        return Assignment(experiment, unit, assigned, assigned.share * experiment.ramp)
    return Assignment(experiment, unit, control, 1 - of_treatments)


def versions_due(arms: Iterable[Arm], roles: Mapping[str, int | None]) -> dict[str, int | None]:
    """Say which version each arm that asks a model is to be answered by; None where its role is empty.

    Args:
        arms: Of an experiment.
        roles: The versions that are champion and challenger.
    """
    return {
        arm.name: arm.version if arm.engine == "version" else roles.get(arm.engine)
        for arm in arms
        if arm.engine != "rule"
    }


def unit_hash(salt: str, unit: str) -> str:
    """Hash a unit to 16 hexadecimal digits, for each salt independently."""
    return hashlib.sha256(f"{salt}\x1f{unit}".encode()).hexdigest()[:16]


def bucket(unit: str) -> float:
    """Map the hash of a unit to [0, 1), evenly."""
    return int(unit, 16) / _RANGE
