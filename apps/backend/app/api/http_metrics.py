"""Count requests and time them, by route: a layer around the whole application.

Label values are the templates of the routes that the application has when it starts and the methods they take, never
anything that a caller sends. What leads to none of them is one route, `unmatched`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import iter_route_contexts

from app.services.metrics import (
    HTTP_METHODS,
    HTTP_REQUEST_SECONDS,
    HTTP_REQUESTS_TOTAL,
    UNMATCHED_ROUTE,
    expect_route,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FAILED: Final = 500


def count_requests(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that each answer is counted; around all other layers it counts their answers too."""
    # By the route's identity: its template, and the methods it takes.
    routes: dict[int, tuple[str, frozenset[str]]] = {}

    def count(scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in HTTP_METHODS else "other"
        template, methods = routes.get(id(scope.get("route")), (UNMATCHED_ROUTE, frozenset(HTTP_METHODS)))
        route = template if method in methods else UNMATCHED_ROUTE
        status_class = f"{min(max(status // 100, 2), 5)}xx"
        HTTP_REQUESTS_TOTAL.labels(method=method, route=route, status=status_class).inc()
        HTTP_REQUEST_SECONDS.labels(route=route).observe(seconds)

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if not routes:
            routes.update(_expect_routes(scope["app"].routes))
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        status = _FAILED
        done = False

        async def counting_send(message: Message) -> None:
            nonlocal status, done
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body") and not done:
                # Before the last byte goes out: who has the answer finds it counted, whichever process is asked.
                done = True
                count(scope, status, time.perf_counter() - began)
            await send(message)

        began = time.perf_counter()
        try:
            await app(scope, receive, counting_send)
        except Exception:
            status = _FAILED
            raise
        finally:
            if not done:
                count(scope, status, time.perf_counter() - began)

    return counted


def _expect_routes(routes: Iterable[Any]) -> dict[int, tuple[str, frozenset[str]]]:
    expected = {}
    for route, template, methods in _walk(routes):
        expected[id(route)] = (template, methods)
        expect_route(template, methods)
    return expected


def _walk(routes: Iterable[Any], mounted_at: str = "") -> Iterator[tuple[Any, str, frozenset[str]]]:
    """Give each route with its whole template and its methods, those of mounted applications too."""
    for context in iter_route_contexts(list(routes)):
        if context.methods:
            # Without the converters of parameters, as the description has it.
            template = mounted_at + (context.path_format or "")
            yield context.original_route, template, frozenset(context.methods) & frozenset(HTTP_METHODS)
        else:
            yield from _walk(getattr(context.original_route, "routes", None) or (), mounted_at + (context.path or ""))
