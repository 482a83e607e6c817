"""`lm serve`: the API."""

from __future__ import annotations

from typing import Annotated

import typer
import uvicorn

from app.errors import InvalidInput


def serve(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    api_only: Annotated[
        bool, typer.Option("--api-only", help="Serve the API and nothing else; so far there is nothing else.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; --workers above one needs --api-only.")] = 1,
) -> None:
    """Serve the API until interrupted."""
    if workers > 1 and not api_only:
        raise InvalidInput("--workers above one needs --api-only.")
    uvicorn.run("app.main:create_app", factory=True, host=host, port=port, workers=workers, log_level="info")
