"""What those who run the service ask it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from app.api.reference import reference_page
from app.services import metrics as server_metrics
from app.services.readiness import check_readiness

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer while the process is alive."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """Answer while requests can be served: the database answers, and its schema is this version's."""
    await check_readiness(request.app.state.revision)
    return {"status": "ready"}


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the API's description as a page without scripts, to whom /openapi.json is shown."""
    page = reference_page(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics() -> Response:
    """Show the server's metrics, of all its processes, to Prometheus."""
    return Response(server_metrics.render(), media_type=server_metrics.CONTENT_TYPE)
