"""The record of trainings: every one is a row of `ml_training_runs`, from its first moment and however it ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from app.config import get_settings
from app.errors import Forbidden, InvalidInput, NotFound, TooManyRequests
from app.services.deployments import category_set_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

INTERRUPTED: Final = "It was interrupted before it had ended; nothing came of it."
MOST_SEED: Final = 2**32


@dataclass(frozen=True)
class TrainingRun:
    """How a training went.

    Attributes:
        status: running, succeeded, failed, or refused by the gate.
        as_of: The moment of its training set.
        train_size: Rows that the model was fitted on.
        test_size: Rows of the last months, which accuracy (0 to 1), f1_macro and ece are about.
        version: Of the model that it made, if it made one.
        notes: What the gate said, or why it failed.
    """

    run_id: int
    status: str
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


@dataclass(frozen=True)
class QueuedTraining:
    """A training that waits for a worker.

    Attributes:
        is_repeated: Whether one of the category set was waiting already; it is that one, with what it was asked for.
        as_of: The moment of its training set; None for that at which it runs.
    """

    job_id: int
    is_repeated: bool
    as_of: str | None
    seed: int
    promote: bool


def request_training(
    session: Session,
    user_id: int,
    *,
    as_of: dt.datetime | None,
    seed: int,
    promote: bool,
    may_promote_shared: bool,
) -> QueuedTraining:
    """Queue a training of the category set of a session's user, unless one is waiting.

    Args:
        session: A session of the user.
        user_id: The user.
        as_of: What was known at this moment is learnt from; None: what is known when it runs.
        seed: Of everything that is drawn.
        promote: Let the model become champion if the gate lets it through; else it becomes challenger.
        may_promote_shared: Whether who asks may decide what serves everybody who uses the shared set.

    Raises:
        Forbidden: The shared set's champion would change for all, and who asks may not decide that.
        InvalidInput: The moment lies in the future, or the seed is no seed.
        TooManyRequests: One that was asked for in this way began within LM_TRAINING_PAUSE_MINUTES.
    """
    check_request(session, as_of=as_of, seed=seed)
    if promote and not may_promote_shared and category_set_of(session, user_id) is None:
        raise Forbidden(
            "A model of the shared categories serves everybody who uses them: ask who runs the installation to train "
            "one with `lm train`, which promotes it. With promote=false a model that is good enough becomes challenger."
        )
    row = session.execute(
        text("""
            SELECT job_id, job_args, is_new, wait_seconds
            FROM request_training(:as_of, :seed, :promote, make_interval(mins => :pause))
        """),
        {"as_of": as_of, "seed": seed, "promote": promote, "pause": get_settings().training_pause_minutes},
    ).one()
    if row.wait_seconds is not None:
        raise TooManyRequests(
            "A training of these categories began a short while ago; ask for the next in "
            f"{row.wait_seconds:,} second{'s' * (row.wait_seconds > 1)}.",
            retry_after=row.wait_seconds,
        )
    asked = {name: row.job_args[name] for name in ("as_of", "seed", "promote")}
    return QueuedTraining(job_id=row.job_id, is_repeated=not row.is_new, **asked)


def check_request(session: Session, *, as_of: dt.datetime | None, seed: int) -> None:
    """Refuse a moment that has not come yet, and what is no seed.

    Raises:
        InvalidInput: It is so.
    """
    if not 0 <= seed < MOST_SEED:
        raise InvalidInput(f"A seed is a whole number from 0 to {MOST_SEED - 1:,}.")
    if as_of is None:
        return
    is_past = text("SELECT CAST(:as_of AS timestamptz) <= clock_timestamp()")
    if not session.execute(is_past, {"as_of": as_of}).scalar_one():
        raise InvalidInput("What will be known at a moment to come cannot be learnt from: name one that has passed.")


def list_runs(session: Session, category_set: int | None, *, limit: int = 20) -> list[TrainingRun]:
    """List the last trainings of a category set, the latest first. For a request, too."""
    rows = session.execute(
        text("""
            SELECT
                run_id, status, started_at, finished_at, as_of, seed, dataset_hash, train_size, test_size, class_count,
                accuracy, f1_macro, CAST(metrics ->> 'ece' AS float8) AS ece, version, notes
            FROM ml_training_runs LEFT JOIN model_versions USING (run_id)
            WHERE ml_training_runs.user_id IS NOT DISTINCT FROM :user_id
            ORDER BY run_id DESC LIMIT :limit
        """),
        {"user_id": category_set, "limit": limit},
    )
    return [TrainingRun(**row) for row in rows.mappings()]


# --- for sessions of the role lm_jobs -------------------------------------------------------------------------------


def start_run(session: Session, category_set: int | None, *, as_of: dt.datetime, seed: int) -> int:
    """Add the row of a training that begins; of the same set, one that says it is running was killed.

    Only to be called by whoever may train the set alone. Returns the new run.

    Raises:
        NotFound: The user whose categories are meant was erased.
    """
    there = text("SELECT id FROM users WHERE id = :id FOR KEY SHARE")
    if category_set is not None and session.execute(there, {"id": category_set}).one_or_none() is None:
        raise NotFound("The user whose categories were to be learnt is not there any more.")
    values = {"user_id": category_set, "as_of": as_of, "seed": seed, "interrupted": INTERRUPTED}
    session.execute(
        text("""
            UPDATE ml_training_runs SET status = 'failed', finished_at = now(), notes = :interrupted
            WHERE status = 'running' AND user_id IS NOT DISTINCT FROM :user_id
        """),
        values,
    )
    add = text("""
        INSERT INTO ml_training_runs (status, user_id, as_of, seed) VALUES ('running', :user_id, :as_of, :seed)
        RETURNING run_id
    """)
    return int(session.execute(add, values).scalar_one())


def finish_run(session: Session, run_id: int, **values: Any) -> None:
    """Write how a training ended: columns of its row by name; finished_at is the moment of the transaction."""
    if isinstance(values.get("metrics"), dict):
        values["metrics"] = json.dumps(values["metrics"], allow_nan=False)
    _update(session, run_id, values)


def _update(session: Session, run_id: int, values: Mapping[str, Any]) -> None:
    assignments = ", ".join(f"{column} = :{column}" for column in values)
    update = text(f"UPDATE ml_training_runs SET finished_at = now(), {assignments} WHERE run_id = :run_id")  # noqa: S608
    session.execute(update, {**values, "run_id": run_id})
