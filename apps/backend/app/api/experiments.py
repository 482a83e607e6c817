"""`/experiments`: those of the user's own category set, for looking at; they are planned and changed by `lm`."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.access import ActingUser, UserSession
from app.services import experiments
from app.services.deployments import category_set_of

router = APIRouter(prefix="/experiments", tags=["experiments"])


class ArmAnswer(BaseModel):
    """Who suggests to a share of the units; the first arm is the control."""

    name: str
    engine: Literal["rule", "champion", "challenger", "version"]
    version: int | None
    share: float
    is_stopped: bool


class ChangeAnswer(BaseModel):
    """Something that was done to an experiment."""

    action: Literal["start", "ramp", "stop_arm", "stop"]
    ramp: float
    arm: str | None
    actor: str
    reason: str
    created_at: dt.datetime


class ExperimentAnswer(BaseModel):
    """An experiment and what was done to it."""

    name: str
    status: Literal["planned", "running", "stopped"]
    unit: Literal["user", "user_merchant"]
    ramp: list[float]
    ramp_now: float
    arms: list[ArmAnswer]
    changes: list[ChangeAnswer]
    created_at: dt.datetime


@router.get("")
def list_experiments(user_id: ActingUser, session: UserSession) -> list[ExperimentAnswer]:
    """List the experiments of the user's category set, the latest first."""
    found = experiments.list_experiments(session, category_set_of(session, user_id))
    return [
        ExperimentAnswer.model_validate(asdict(each) | {"status": each.status, "ramp_now": each.ramp_now})
        for each in found
    ]
