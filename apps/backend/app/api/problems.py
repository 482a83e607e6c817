"""Errors as problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import psycopg
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from app.errors import AmbiguousInput, DatabaseUnavailable, InvalidInput, LedgermillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

RETRY_AFTER_SECONDS = "2"


def install(app: FastAPI) -> None:
    """Answer every error of the application in one form."""
    app.add_exception_handler(LedgermillError, _known_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(psycopg.DataError, _unstorable)
    app.add_exception_handler(psycopg.OperationalError, _database_error)
    app.add_exception_handler(RequestValidationError, _invalid_payload)
    app.add_exception_handler(HTTPException, _http_error)


def _problem(
    status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
) -> JSONResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail} | members
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def _known_error(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, AmbiguousInput):
        return _problem(
            error.status,
            error.title,
            f"{error.question} Say which in the field {error.option}: {' or '.join(error.choices)}.",
            question=error.question,
            option=error.option,
            choices=list(error.choices),
        )
    if isinstance(error, DatabaseUnavailable):
        return _problem(error.status, error.title, str(error), headers={"Retry-After": RETRY_AFTER_SECONDS})
    if isinstance(error, LedgermillError):
        return _problem(error.status, error.title, str(error))
    raise error


def _database_error(request: Request, _error: Exception) -> JSONResponse:
    return _known_error(request, DatabaseUnavailable("The database does not answer; try again in a moment."))


def _unstorable(request: Request, _error: Exception) -> JSONResponse:
    return _known_error(request, InvalidInput("A value is out of the range that the database can hold."))


def _invalid_payload(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Where and why, but never the value: it may be a person's.
    faults = [{"where": list(fault["loc"]), "why": fault["msg"]} for fault in error.errors()]
    return _problem(422, "Invalid payload", "The request does not have the form that the API asks for.", faults=faults)


def _http_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    return _problem(error.status_code, phrase, str(error.detail), headers=error.headers)
