"""The API's description: the answers that every route may give, and how to say whom a request acts for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from app.api.access import SESSION_COOKIE
from app.api.authentication import OPERATIONS_PATHS, PUBLIC
from app.api.problems import MOST_FAULTS, PROBLEM_MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

_MEANINGS: Final = {
    400: "What is asked for cannot be carried out as given.",
    401: "The request does not say whom it acts for.",
    403: "The request says whom it acts for, and that is not enough.",
    404: "There is no such thing, or it is somebody else's.",
    405: "The address does not know the method.",
    409: "What is asked for contradicts what is there, or has more than one meaning.",
    413: "The body is too large.",
    422: "The request does not have the form that is described here.",
    429: "Too many requests; `Retry-After` says when to try again.",
    500: "Something went wrong that nobody expected.",
    503: "The database is not ready; `Retry-After` says when to try again.",
}

PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong and what to do (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The kind of problem."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence that says what to do."},
        "request_id": {"type": "string", "description": "The header X-Request-ID; the log has it too."},
        "faults": {
            "type": "array",
            "description": "Of an invalid payload: where, and why; the first of them.",
            "maxItems": MOST_FAULTS,
            "items": {
                "type": "object",
                "properties": {
                    "where": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "why": {"type": "string"},
                },
                "required": ["where", "why"],
            },
        },
        "question": {"type": "string", "description": "What has to be decided before a file can be read."},
        "option": {"type": "string", "description": "The field that decides it."},
        "choices": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["type", "title", "status", "detail", "request_id"],
    "examples": [
        {
            "type": "about:blank",
            "title": "Not found",
            "status": 404,
            "detail": "There is no such token; `lm token list` shows those there are.",
            "request_id": "6f1e0c7a",
        }
    ],
}

# What `FastAPI(responses=…)` takes: every route may answer so.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": meaning,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, meaning in _MEANINGS.items()
}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return what takes the place of an application's `openapi`: its routes, problems and credentials; made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = PROBLEM
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer", "description": "`lm token new` makes one."},
                "login": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "`POST /login`."},
                "metrics": {"type": "http", "scheme": "bearer", "description": "What LM_METRICS_TOKEN is set to."},
            }
            schema["security"] = [{"token": []}, {"login": []}]
            for method, path in PUBLIC:
                if path in schema["paths"]:
                    schema["paths"][path][method.lower()]["security"] = []
            for path in OPERATIONS_PATHS & set(schema["paths"]):
                # Programs on the machine itself need no token unless LM_METRICS_TOKEN is set.
                schema["paths"][path]["get"]["security"] = [{"metrics": []}, {}]
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi
