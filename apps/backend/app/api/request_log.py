"""An id for each request and one line about it: which route, how it ended and how long it took.

Never the address, the query, a body or an error's own words: they hold what people buy. Known routes are named by
their template, and of an unexpected error there are its type and the places in the code.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection

from app.api import problems

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER: Final = "X-Request-ID"

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A method is a word that the caller may choose freely.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNEXPECTED: Final = 500
_POLICY_VIOLATION: Final = 1008

_log: Final = structlog.wrap_logger(
    None,
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    cache_logger_on_first_use=False,
)


def log_requests(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that each request has an id, an answer and a line in the log, whatever happens in it."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        request_id = _request_id(connection)
        connection.state.request_id = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        began = time.perf_counter()
        try:
            await app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the caller gets an answer and nobody its words
            answer = problems.answer(connection, error)
            if answer.status_code == _UNEXPECTED:
                _log.error("unexpected error", request_id=request_id, **_places(error))
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            elif status is None:
                await answer(scope, receive, send_with_id)
        finally:
            _log.info(
                "request",
                method=_method(scope),
                route=getattr(scope.get("route"), "path_format", None),
                status=status,
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
                request_id=request_id,
                user_id=getattr(getattr(connection.state, "identity", None), "user_id", None),
            )

    return logged


def _request_id(connection: HTTPConnection) -> str:
    offered = connection.headers.get(REQUEST_ID_HEADER, "")
    return offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def _method(scope: Scope) -> str:
    method = scope.get("method", scope["type"])
    return method if method in _METHODS or scope["type"] == "websocket" else "other"


def _places(error: BaseException) -> dict[str, Any]:
    """Describe an error without its words: its type, those of its causes, and the lines of code it came through."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    frames = traceback.walk_tb(error.__traceback__)
    return {"error": causes, "places": [f"{frame.f_globals.get('__name__')}:{line}" for frame, line in frames]}
