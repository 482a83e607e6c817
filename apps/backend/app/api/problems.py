"""Errors as problem+json (RFC 9457): what happened and what to do, and never what the request held."""

from __future__ import annotations

from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import psycopg
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import (
    AmbiguousInput,
    DatabaseUnavailable,
    InvalidInput,
    LedgermillError,
    NotSignedIn,
    TooLarge,
    TooManyRequests,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI
    from starlette.requests import HTTPConnection

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
# Nobody reads more, and a small body can hold a hundred thousand.
MOST_FAULTS: Final = 20

# The framework's own errors; what it says about them may quote the request.
_SENTENCES: Final = {
    400: "The body cannot be read as what its Content-Type says it is.",
    404: "There is nothing at this address.",
    405: "This address does not know the method; the header Allow names those it knows.",
    413: "The body is larger than the server takes.",
}
_PLACES: Final = frozenset({"body", "query", "path", "header", "cookie"})


def install(app: FastAPI) -> None:
    """Answer every error that is expected in one form; what is left is for the outermost middleware."""
    for kind in (
        LedgermillError,
        OperationalError,
        PoolTimeout,
        DataError,
        psycopg.DataError,
        psycopg.OperationalError,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, answer)


def answer(request: HTTPConnection, error: Exception) -> JSONResponse:
    """Say what is wrong; of an error that nobody expected, nothing but that it happened."""
    match error:
        case RequestValidationError():
            faults = [_fault(request, fault) for fault in islice(error.errors(), MOST_FAULTS)]
            sentence = "The request does not have the form that the API asks for."
            return _problem(request, 422, "Invalid payload", sentence, faults=faults)
        case HTTPException():
            return _framework_error(request, error)
        case LedgermillError():
            return _known_error(request, error)
        case OperationalError() | psycopg.OperationalError() | PoolTimeout():
            busy = DatabaseUnavailable("The database does not answer; try again in a moment.")
            return _known_error(request, busy)
        case DataError() | psycopg.DataError():
            return _known_error(request, InvalidInput("A value is out of the range that the database can hold."))
    sentence = "Something went wrong that nobody expected; the log has it under the request's id."
    return _problem(request, 500, LedgermillError.title, sentence)


def _framework_error(request: HTTPConnection, error: HTTPException) -> JSONResponse:
    phrase = HTTPStatus(error.status_code).phrase
    sentence = _SENTENCES.get(error.status_code, f"{phrase}.")
    if error.status_code == TooLarge.status:
        return _known_error(request, TooLarge(sentence))
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route alone that has the address.
        headers = {"Allow": ", ".join(_methods_here(request))}
    return _problem(request, error.status_code, phrase, sentence, headers=headers)


def _methods_here(request: HTTPConnection) -> list[str]:
    app: FastAPI = request.scope["app"]
    methods: set[str] = set()
    for route in iter_route_contexts(app.routes):
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= set(route.methods or ())
    return sorted(methods)


def _known_error(request: HTTPConnection, error: LedgermillError) -> JSONResponse:
    match error:
        case AmbiguousInput():
            return _problem(
                request,
                error.status,
                error.title,
                f"{error.question} Say which in the field {error.option}: {' or '.join(error.choices)}.",
                question=error.question,
                option=error.option,
                choices=list(error.choices),
            )
        case DatabaseUnavailable():
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        case TooManyRequests():
            headers = {"Retry-After": str(error.retry_after)}
        case NotSignedIn():
            headers = {"WWW-Authenticate": "Bearer"}
        case _:
            headers = {}
    return _problem(request, error.status, error.title, str(error), headers=headers)


def _problem(
    request: HTTPConnection,
    status: int,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": getattr(request.state, "request_id", ""),
    }
    return JSONResponse(body | members, status_code=status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def _fault(request: HTTPConnection, fault: Mapping[str, Any]) -> dict[str, object]:
    """Say where and why, but never the value: it may be a person's."""
    known = _known_names(request.scope["app"])
    # A place may be the caller's own word too: an unknown field, or a key of a mapping.
    where = [part for part in fault["loc"] if isinstance(part, int) or part in known]
    if fault["type"] == "union_tag_invalid":
        return {"where": where, "why": f"Input should be tagged as one of {fault['ctx']['expected_tags']}"}
    return {"where": where, "why": fault["msg"]}


def _known_names(app: FastAPI) -> frozenset[str]:
    """Return every name that the API's description gives to a field or parameter."""
    names: frozenset[str] | None = getattr(app.state, "known_names", None)
    if names is None:
        names = app.state.known_names = _PLACES | frozenset(_names_in(app.openapi()))
    return names


def _names_in(description: Any) -> Iterator[str]:
    if isinstance(description, dict):
        properties = description.get("properties")
        if isinstance(properties, dict):
            yield from properties
        if isinstance(description.get("in"), str) and isinstance(description.get("name"), str):
            yield description["name"]
        description = list(description.values())
    if isinstance(description, list):
        for part in description:
            yield from _names_in(part)
