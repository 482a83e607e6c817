"""`/experiments`: those of the user's own category set, for looking at; they are planned and changed by `lm`."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from app.api.access import ActingUser, UserSession
from app.services import experiments
from app.services.deployments import category_set_of
from app.services.experiment_analysis import analyse_experiment
from app.services.experiments import Experiment

router = APIRouter(prefix="/experiments", tags=["experiments"])

Name = Annotated[str, Path(pattern="^[a-z0-9-]{1,60}$")]


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


class GuardrailsAnswer(BaseModel):
    """What stops a treatment by itself, and what a step of the ramp needs; shares from 0 to 1."""

    acceptance_margin: float
    coverage_margin: float
    most_fallbacks: float
    step_answers: int
    most_loss: float


class ExperimentAnswer(BaseModel):
    """An experiment and what was done to it."""

    name: str
    status: Literal["planned", "running", "stopped"]
    unit: Literal["user", "user_merchant"]
    ramp: list[float]
    ramp_now: float
    guardrails: GuardrailsAnswer
    arms: list[ArmAnswer]
    changes: list[ChangeAnswer]
    created_at: dt.datetime


class ShareAnswer(BaseModel):
    """A share of so many answers, 0 to 1, with an interval that holds however often it is looked at."""

    share: float | None
    lower: float
    upper: float
    answers: int


class DifferenceAnswer(BaseModel):
    """Treatment less control, in shares from -1 to 1, with an interval that holds however often it is looked at."""

    difference: float | None
    lower: float
    upper: float
    is_decided: bool


class LastStepAnswer(BaseModel):
    """A treatment since the control has no share, beside the control of the last period in which it had one.

    Both are of what was answered: of what was asked lately nobody can have said anything yet.
    """

    since: dt.datetime
    acceptance: ShareAnswer
    control: ShareAnswer


class ArmResultAnswer(BaseModel):
    """What an arm did in its last period beside the control; differences and sentence are null for the control.

    `versions` are those that were due then, by arm that asks a model. Each transaction counts once. `acceptance` is of
    all of them, `answered` is the share accepted of those that somebody answered or labelled by hand.
    """

    arm: str
    since: dt.datetime | None
    until: dt.datetime | None
    versions: dict[str, int | None]
    units: int
    transactions: int
    acceptance: ShareAnswer
    answered: ShareAnswer
    precision: ShareAnswer
    coverage: ShareAnswer
    fallbacks: ShareAnswer
    acceptance_difference: DifferenceAnswer | None
    precision_difference: DifferenceAnswer | None
    coverage_difference: DifferenceAnswer | None
    sentence: str | None
    last_step: LastStepAnswer | None


class ResultsAnswer(BaseModel):
    """What the user's own suggestions in an experiment say so far.

    `is_suspect` says that units are not in the shares that were set; then nothing else is to be believed.
    """

    experiment: str
    since: dt.datetime | None
    sample_ratio_e_value: float
    is_suspect: bool
    arms: list[ArmResultAnswer]


@router.get("")
def list_experiments(user_id: ActingUser, session: UserSession) -> list[ExperimentAnswer]:
    """List the experiments of the user's category set, the latest first."""
    return [_answer(each) for each in experiments.list_experiments(session, category_set_of(session, user_id))]


@router.get("/{name}")
def show(name: Name, user_id: ActingUser, session: UserSession) -> ExperimentAnswer:
    """Show an experiment of the user's category set."""
    return _answer(experiments.show_experiment(session, category_set_of(session, user_id), name))


@router.get("/{name}/results")
def results(name: Name, user_id: ActingUser, session: UserSession) -> ResultsAnswer:
    """Say what an experiment says so far, from the user's own suggestions alone."""
    experiment = experiments.show_experiment(session, category_set_of(session, user_id), name)
    return ResultsAnswer.model_validate(analyse_experiment(session, experiment), from_attributes=True)


def _answer(experiment: Experiment) -> ExperimentAnswer:
    return ExperimentAnswer.model_validate(experiment, from_attributes=True)
