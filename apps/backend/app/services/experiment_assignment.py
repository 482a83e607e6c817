"""Which arm of an experiment a unit is in: always the same one, and no secret of any process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

Engine = Literal["rule", "champion", "challenger", "version"]
Unit = Literal["user", "user_merchant"]

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
    """

    name: str
    unit: Unit
    salt: str
    ramp: float
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Assignment:
    """What a unit was given, and how probable that was."""

    experiment: str
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
    point = bucket(experiment.salt, f"{user_id}\x1f{of_merchant}")
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
        return Assignment(experiment.name, assigned, assigned.share * experiment.ramp)
    return Assignment(experiment.name, control, 1 - of_treatments)


def bucket(salt: str, unit: str) -> float:
    """Map a unit to [0, 1), evenly and for each salt independently."""
    digest = hashlib.sha256(f"{salt}\x1f{unit}".encode()).digest()
    return int.from_bytes(digest[:8]) / _RANGE
