"""The HTTP door."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from app.api import (
    categories,
    experiments,
    features,
    ingest,
    labels,
    ml,
    models,
    operations,
    problems,
    rules,
    suggestions,
    transactions,
    users,
)
from app.api.authentication import require_identity
from app.api.body_limits import limit_bodies
from app.api.http_metrics import count_requests
from app.api.openapi import RESPONSES, describe
from app.api.request_log import log_requests
from app.request_pool import close_request_pool
from app.services import installation, rate_limit
from app.services.served_models import SERVER
from app.services.shadow_process import SHADOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    prepared = await run_in_threadpool(installation.prepare_installation)
    app.state.revision = prepared.revision
    await run_in_threadpool(installation.ensure_local_user)
    await run_in_threadpool(SERVER.start)
    SHADOW.start()
    yield
    await run_in_threadpool(SHADOW.stop)
    await run_in_threadpool(SERVER.stop)
    await close_request_pool()
    rate_limit.close()


def create_app() -> FastAPI:
    """Build the application; the database is made ready when it starts."""
    app = FastAPI(
        title="Ledgermill",
        version=version("ledgermill"),
        lifespan=_lifespan,
        responses=RESPONSES,
        # The pages of documentation that come with the framework load their scripts from the web; ours is /docs.
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the address, and an address is right or wrong.
        redirect_slashes=False,
    )
    # The framework's own way to change the description.
    app.openapi = describe(app)  # type: ignore[method-assign]
    # Routes are tried one after the other: what is asked most comes first.
    for router in (
        suggestions.router,
        ingest.router,
        features.router,
        users.router,
        operations.router,
        rules.router,
        categories.router,
        transactions.router,
        labels.router,
        ml.router,
        models.router,
        experiments.router,
    ):
        app.include_router(router)
    problems.install(app)
    # The last one added sees a request first.
    app.add_middleware(limit_bodies)
    app.add_middleware(require_identity)
    app.add_middleware(log_requests)
    app.add_middleware(count_requests)
    return app
