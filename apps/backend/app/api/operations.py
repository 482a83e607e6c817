"""What those who run the service ask it."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer while the process is alive."""
    return {"status": "alive"}


@router.get("/metrics")
async def metrics() -> Response:
    """Show this process's metrics to Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
