"""`lm worker`: scheduled and queued jobs."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from app.jobs.queue import run_worker
from app.services import installation

logger = logging.getLogger(__name__)


def worker(
    *,
    once: Annotated[bool, typer.Option("--once", help="Run the jobs that are queued now, and leave.")] = False,
) -> None:
    """Run jobs when they are due, until interrupted; the job that is running is finished first."""
    _log_one_line_per_job()
    installation.prepare_installation()
    if not once:
        logger.info("Waiting for jobs; interrupt to stop")
    asyncio.run(run_worker(once=once))


def _log_one_line_per_job() -> None:
    # procrastinate.worker itself logs how each job ended; the loggers around and below it log every step.
    for name, level in (
        ("psycopg.pool", logging.ERROR),  # what it warns of ends the worker, with a sentence
        ("procrastinate", logging.WARNING),
        ("procrastinate.worker", logging.INFO),
        ("procrastinate.worker.worker", logging.WARNING),
    ):
        logging.getLogger(name).setLevel(level)
