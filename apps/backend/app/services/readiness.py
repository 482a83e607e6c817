"""Whether requests can be served: the database answers for them, and its schema is this version's."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio.to_thread
import psycopg
from sqlalchemy.exc import DBAPIError

from app.errors import DatabaseUnavailable
from app.request_pool import ask_once
from app.services.installation import describe_installation

PATIENCE_SECONDS: Final = 5


async def check_readiness(revision: str) -> None:
    """Return if requests can be served.

    Args:
        revision: What the schema was brought to when the process started.

    Raises:
        DatabaseUnavailable: They cannot.
    """
    # Not the driver's words: they name hosts and roles, and anybody may ask.
    silent = DatabaseUnavailable("The database does not answer.")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ask_once(b"SELECT 1")
            found = await anyio.to_thread.run_sync(describe_installation, abandon_on_cancel=True)
    except (DBAPIError, psycopg.OperationalError, DatabaseUnavailable, TimeoutError):
        raise silent from None
    if found.revision != revision:
        raise DatabaseUnavailable("The schema is at another revision than this version's; run `lm db upgrade`.")
