"""How large a body may be: what is larger is refused before anything reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from app.config import get_settings
from app.errors import TooLarge

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_PATHS = frozenset({"/ingest"})
_KIB = 1 << 10
_MIB = 1 << 20
# Answered to everybody; the longest name and password fit, however they are escaped.
_LOGIN_PATH = "/login"
_MOST_LOGIN_BYTES = 16 * _KIB


def limit_bodies(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that it never reads more than the settings allow."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        most = _most_bytes(scope["path"])
        if _announced(scope) > most:
            raise _too_large(most)
        read = 0

        async def count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                # The one kind of error that the framework does not turn into another while it reads a body.
                raise HTTPException(TooLarge.status)
            return message

        await app(scope, count, send)

    return limited


def _most_bytes(path: str) -> int:
    if path == _LOGIN_PATH:
        return _MOST_LOGIN_BYTES
    settings = get_settings()
    return _MIB * (settings.max_upload_mib if path in UPLOAD_PATHS else settings.max_body_mib)


def _announced(scope: Scope) -> int:
    announced = Headers(scope=scope).get("content-length", "")
    # A server that speaks HTTP has refused anything else; what is counted does not depend on it.
    return int(announced) if announced.isdecimal() else 0


def _too_large(most: int) -> TooLarge:
    size = f"{most // _MIB} MiB" if most >= _MIB else f"{most // _KIB} KiB"
    return TooLarge(f"The body is larger than the {size} that this address takes.")
