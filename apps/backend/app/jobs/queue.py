"""The queue of jobs and the worker that empties it, on procrastinate's tables in the schema `jobs`.

Jobs carry a lock and no queueing lock: with both, procrastinate cannot put a failed job back while the next one
of its kind is waiting, and the failed one would then hold the lock for ever.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from functools import cache
from typing import Final

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from app.db import advisory_lock, database_errors, database_url, get_engine
from app.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

SCHEMA: Final = "jobs"
MOST_ATTEMPTS: Final = 4
HEARTBEAT_SECONDS: Final = 10
DEAD_AFTER_SECONDS: Final = 30
CATCH_UP_SECONDS: Final = 24 * 3600
"""A worker that starts later than a job was due still runs it: a laptop is seldom on at night."""

LOST: Final = "The worker lost PostgreSQL and stopped. Start it again when the database is back."


@cache
def _login() -> str:
    """Say where the queue is, when it is first needed: importing this module must start no server."""
    url = database_url("jobs")
    arguments = url.translate_connect_args(username="user", database="dbname")
    arguments.update(url.query)
    return make_conninfo(**arguments)


job_queue: Final = App(
    connector=PsycopgConnector(
        conninfo=_login, kwargs={"options": f"-c search_path={SCHEMA}"}, min_size=1, max_size=4, timeout=10
    ),
    import_paths=["app.jobs.tasks"],
)


async def run_worker(*, once: bool = False) -> None:
    """Run jobs as they become due, one at a time, until interrupted; the running one is finished first.

    Args:
        once: Run what is queued already, and return.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or went away.
    """
    with database_errors(), get_engine("jobs").connect():
        pass  # the pool below would only time out, and not say why
    job_queue.periodic_defaults = {"max_delay": 0 if once else CATCH_UP_SECONDS}
    try:
        async with job_queue.open_async():
            await hand_on_jobs_of_dead_workers()
            watch = asyncio.create_task(_watch_for_dead_workers())
            worker = asyncio.create_task(
                job_queue.run_worker_async(
                    wait=not once,
                    update_heartbeat_interval=HEARTBEAT_SECONDS,
                    stalled_worker_timeout=DEAD_AFTER_SECONDS,
                    install_signal_handlers=False,
                )
            )
            _cancel_when_interrupted(worker)
            try:
                await worker
            except asyncio.CancelledError:
                return
            finally:
                watch.cancel()
    except (ConnectorException, PoolTimeout) as error:
        raise DatabaseUnavailable(LOST) from error
    if not once:
        raise DatabaseUnavailable(LOST)  # without an interruption, it stops by itself for no other reason


def _cancel_when_interrupted(worker: asyncio.Task[None]) -> None:
    """Let the first signal end the worker after its job, and a second one at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        worker.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupt)


async def hand_on_jobs_of_dead_workers() -> None:
    """Queue again what a killed worker was doing, unless that job has had its share of attempts."""
    manager = job_queue.job_manager
    # One worker at a time looks, or two would hand on the same job, and the second take it from who runs it by then.
    with advisory_lock("hand_on_jobs_of_dead_workers"):
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER_SECONDS):
            if job.attempts + 1 >= MOST_ATTEMPTS:
                logger.error("%s: its worker died, for the %dth time; given up", job.call_string, job.attempts + 1)
                await manager.finish_job(job, Status.FAILED, delete_job=False)
            else:
                logger.warning("%s: its worker died; it will run again", job.call_string)
                await manager.retry_job(job)


async def _watch_for_dead_workers() -> None:
    while True:
        await asyncio.sleep(DEAD_AFTER_SECONDS)
        with suppress(ConnectorException):  # the worker meets the same trouble, and says so
            await hand_on_jobs_of_dead_workers()
