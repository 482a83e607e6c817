"""Who a request acts for, and the transaction it runs in."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.config import get_settings
from app.db import async_session_for_user, session_for_user
from app.errors import NotSignedIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def acting_user(request: Request) -> int:
    """Return the id of the user that the request acts for.

    Raises:
        NotSignedIn: The request is not from this machine's own user.
    """
    if get_settings().local_trust and comes_from_this_machine(request):
        user_id: int = request.app.state.local_user_id
        return user_id
    raise NotSignedIn(
        "Requests are answered on the machine itself when LM_LOCAL_TRUST is on (`make serve` turns it on), and only "
        "to programs, not to web pages."
    )


def comes_from_this_machine(request: Request) -> bool:
    """Tell a program on this machine from a remote one and from a web page in this machine's browser.

    A page can make the browser send requests here, and can suppress the Referer; a simple GET bears no Origin either.
    No page can take away Sec-Fetch-Site, which is `none` only for what a person typed or bookmarked; Origin and Referer
    are refused for browsers that do not send it. A page whose own name resolves to this machine (DNS rebinding) cannot
    change the Host header.
    """
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if "origin" in request.headers or "referer" in request.headers:
        return False
    if request.headers.get("sec-fetch-site", "none") != "none":
        return False
    return (request.url.hostname or "") in LOCAL_HOSTS


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


ActingUser = Annotated[int, Depends(acting_user)]


def _session(user_id: ActingUser) -> Iterator[Session]:
    with session_for_user(user_id) as session:
        yield session


async def _async_session(user_id: ActingUser) -> AsyncIterator[AsyncSession]:
    async with async_session_for_user(user_id) as session:
        yield session


# Ended before the answer is sent, so that a commit which fails is never answered with success.
UserSession = Annotated[Session, Depends(_session, scope="function")]
AsyncUserSession = Annotated[AsyncSession, Depends(_async_session, scope="function")]
