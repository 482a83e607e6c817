"""The HTTP door."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from app.api import features, ingest, operations, problems
from app.db import close_async_engine
from app.services import installation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(installation.prepare_installation)
    app.state.local_user_id = await run_in_threadpool(installation.ensure_local_user)
    yield
    await close_async_engine()


def create_app() -> FastAPI:
    """Build the application; the database is made ready when it starts."""
    # No pages of documentation: the ones that come with the framework load their scripts from the web.
    app = FastAPI(title="Ledgermill", version=version("ledgermill"), lifespan=_lifespan, docs_url=None, redoc_url=None)
    for router in (ingest.router, features.router, operations.router):
        app.include_router(router)
    problems.install(app)
    return app
