"""What the worker does. Times are UTC; every task can be run again at any moment without harm."""

from __future__ import annotations

import datetime as dt
import time
from typing import Final

from procrastinate import JobContext, RetryStrategy
from procrastinate.builtin_tasks import remove_old_jobs

from app.errors import InvalidInput, NotFound
from app.jobs.queue import MOST_ATTEMPTS, job_queue
from app.ml.feature_build import DEFAULT_DAYS, build_range
from app.services import warehouse
from app.services.challenger_policy import judge_challengers
from app.services.champion_watch import watch_champions
from app.services.experiment_policy import advance_experiments
from app.services.shared_priors import refresh_shared_priors
from app.services.training import train_model

KEPT_HOURS: Final = 30 * 24
ADVANCE_SECONDS: Final = 60

# Again after 10 seconds, 100 seconds and 17 minutes: done with before the next hour's job is due.
RETRY: Final = RetryStrategy(max_attempts=MOST_ATTEMPTS - 1, exponential_wait=10)


@job_queue.periodic(cron="0 * * * *")
@job_queue.task(name="build_features", lock="build_features", retry=RETRY)
def build_features(timestamp: int | None = None) -> str:  # noqa: ARG001 -- procrastinate passes when it was due
    """Build the features of the last 180 days, every hour; ingest has built those of new transactions already."""
    today = dt.datetime.now(dt.UTC).date()
    result = build_range(today - dt.timedelta(days=DEFAULT_DAYS), today)
    return f"{result.processed:,} transactions, {result.written:,} feature vectors new or changed"


@job_queue.periodic(cron="20 * * * *")
@job_queue.task(name="refresh_shared_priors", lock="refresh_shared_priors", retry=RETRY)
def share_priors(timestamp: int | None = None) -> str:  # noqa: ARG001 -- the same
    """Count what the installation's users call merchants, every hour."""
    return f"{refresh_shared_priors():,} merchants that at least three users know"


@job_queue.periodic(cron="30 3 * * *")
@job_queue.task(name="build_warehouse", lock="build_warehouse", retry=RETRY)
def build_warehouse(timestamp: int | None = None) -> None:  # noqa: ARG001 -- the same
    """Build and test the dbt models, every night."""
    warehouse.build_warehouse()


# No lock of its own: a request gives each category set's job one, and the training itself waits for its turn.
@job_queue.task(name="train_model", retry=RETRY)
def train(*, category_set: int | None, as_of: str | None, seed: int, promote: bool, user_id: int) -> str:
    """Train a model of a category set, as `POST /ml/train` has asked for."""
    try:
        outcome = train_model(
            category_set,
            as_of=None if as_of is None else dt.datetime.fromisoformat(as_of),
            seed=seed,
            promote=promote,
            requested_by=f"user {user_id}",
        )
    except (InvalidInput, NotFound) as error:
        return str(error)  # trying again would not make more labels; the run is on record as failed
    return f"version {outcome.version}, {outcome.role or 'refused'}: {' '.join(outcome.verdict.reasons)}"


# Neither this nor the next is tried again: another is due soon, and one that waits for another try would hold it up.
@job_queue.periodic(cron="*/5 * * * *")
@job_queue.task(name="judge_models", lock="judge_models")
def judge_models(timestamp: int | None = None) -> str:  # noqa: ARG001 -- the same
    """Take back champions that do not keep what they promise, and decide about challengers, every five minutes."""
    taken_back = watch_champions()
    judged = [report.decision for report in judge_challengers()]
    return (
        f"{len(taken_back):,} champions taken back; of {len(judged):,} challengers {judged.count('promote'):,} are "
        f"to be promoted and {judged.count('refuse'):,} to be refused"
    )


@job_queue.periodic(cron="* * * * *")
@job_queue.task(name="advance_experiments", lock="advance_experiments")
def advance(timestamp: int | None = None) -> str:
    """Stop arms whose guardrails are broken, take ramps a step further and end canaries that held, every minute.

    Where jobs have piled up behind a long one, those that a later one has replaced do nothing.
    """
    if timestamp is not None and time.time() - timestamp >= ADVANCE_SECONDS:
        return "left to the next one, which is due"
    return "; ".join(advance_experiments()) or "nothing to do"


@job_queue.periodic(cron="0 4 * * *")
@job_queue.task(name="forget_old_jobs", lock="forget_old_jobs", pass_context=True)
async def forget_old_jobs(context: JobContext, timestamp: int | None = None) -> None:  # noqa: ARG001 -- the same
    """Remove the record of jobs that ended a month ago."""
    await remove_old_jobs(context, max_hours=KEPT_HOURS, remove_failed=True, remove_aborted=True)
