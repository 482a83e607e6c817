"""`/ml`: trainings of the user's category set. A request queues one; the worker does it."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import ActingUser, SignedIn, UserSession
from app.api.fields import Moment
from app.services import training_runs
from app.services.deployments import category_set_of

router = APIRouter(prefix="/ml", tags=["models"])

MOST_RUNS = 100


class TrainingRequest(BaseModel):
    """What to learn from and how: by default from what is known when the worker comes to it.

    `promote` lets the model become champion if it proves good enough; else it becomes challenger.
    """

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{}, {"as_of": "2025-10-01T00:00:00Z", "seed": 7}]}
    )

    as_of: Moment | None = None
    seed: Annotated[int, Field(ge=0, lt=training_runs.MOST_SEED, strict=True)] = 0
    promote: Annotated[bool, Field(strict=True)] = True


class QueuedTrainingAnswer(BaseModel):
    """The training that waits for the worker; `is_repeated` where one was waiting already, as it was asked for then."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"job_id": 12, "is_repeated": False, "as_of": None, "seed": 0, "promote": True}]
        }
    )

    job_id: int
    is_repeated: bool
    as_of: dt.datetime | None
    seed: int
    promote: bool


class TrainingRunAnswer(BaseModel):
    """How a training went. `notes` say what the gate said, or why it failed."""

    run_id: int
    status: Literal["running", "succeeded", "failed", "refused"]
    started_at: dt.datetime
    finished_at: dt.datetime | None
    as_of: dt.datetime | None
    seed: int | None
    dataset_hash: str | None
    train_size: int | None
    test_size: int | None
    class_count: int | None
    accuracy: float | None
    f1_macro: float | None
    ece: float | None
    version: int | None
    notes: str | None


@router.post("/train", status_code=202)
def train(request: TrainingRequest, identity: SignedIn, session: UserSession) -> QueuedTrainingAnswer:
    """Queue a training of the user's category set; while one is waiting, another request is answered with that.

    For the shared set, `promote` must be false unless the request comes from the machine itself, which is trusted.
    """
    queued = training_runs.request_training(
        session,
        identity.user_id,
        as_of=request.as_of,
        seed=request.seed,
        promote=request.promote,
        # Who shows no credential is the one user of a machine that is trusted, and has the command line as well.
        may_promote_shared=identity.credential_id is None,
    )
    return QueuedTrainingAnswer.model_validate(asdict(queued))


@router.get("/runs")
def list_runs(
    user_id: ActingUser, session: UserSession, limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 20
) -> list[TrainingRunAnswer]:
    """List the last trainings of the user's category set, the latest first."""
    runs = training_runs.list_runs(session, category_set_of(session, user_id), limit=limit)
    return [TrainingRunAnswer.model_validate(asdict(run)) for run in runs]
