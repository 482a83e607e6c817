"""Who a request acts for, and the transaction it runs in."""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from app.config import get_settings
from app.db import session_for_user
from app.errors import Forbidden, NotSignedIn
from app.services.credentials import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSION_COOKIE: Final = "lm_session"

# What a proxy adds. One on this machine makes callers from anywhere look as if they were here.
_PASSED_ON: Final = frozenset({"forwarded", "via", "x-real-ip"})
_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


async def signed_in(request: Request) -> Identity:
    """Return whom the request acts for, as the middleware of `app.api.authentication` found out.

    Raises:
        NotSignedIn: The route is one that answers everybody, and nobody in particular asks.
    """
    identity: Identity | None = getattr(request.state, "identity", None)
    if identity is None:
        raise NotSignedIn("This is answered only to somebody: log in, or send a token.")
    return identity


SignedIn = Annotated[Identity, Depends(signed_in)]


async def acting_user(identity: SignedIn) -> int:
    """Return the id of the user that the request acts for."""
    return identity.user_id


async def writing_user(identity: SignedIn) -> int:
    """Return the same for what a credential that may only read is not shown either.

    Raises:
        Forbidden: The credential's scope is `read`.
    """
    if identity.scope != "write":
        raise Forbidden("This needs a token with the scope write, or a login.")
    return identity.user_id


def comes_from_this_machine(connection: HTTPConnection) -> bool:
    """Tell a program on this machine from a remote one and from a web page in this machine's browser.

    A page can make the browser send requests here, and can suppress the Referer; a simple GET bears no Origin either.
    No page can take away Sec-Fetch-Site, which is `none` only for what a person typed or bookmarked; Origin and Referer
    are refused for browsers that do not send it. A page whose own name resolves to this machine (DNS rebinding) cannot
    change the Host header. What a proxy passed on may come from anywhere.
    """
    if connection.client is None or not _is_loopback(connection.client.host):
        return False
    if any(name in _PASSED_ON or name.startswith("x-forwarded-") for name in connection.headers):
        return False
    if "origin" in connection.headers or "referer" in connection.headers:
        return False
    if connection.headers.get("sec-fetch-site", "none") != "none":
        return False
    hosts = connection.headers.getlist("host")
    return len(hosts) == 1 and _LOCAL_HOST.fullmatch(hosts[0]) is not None


def may_see_operations(connection: HTTPConnection) -> bool:
    """Tell whether metrics and the API's description are shown to a request: they are not about one user.

    With LM_METRICS_TOKEN set, to whoever sends it as bearer token; else to programs on this machine.
    """
    wanted = get_settings().metrics_token
    if not wanted:
        return comes_from_this_machine(connection)
    shown = bearer_token(connection) or ""
    return hmac.compare_digest(shown.encode(), wanted.encode())


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return what the request shows as bearer token; empty if it shows something else there, None if nothing."""
    shown = connection.headers.getlist("authorization")
    if not shown:
        return None
    scheme, _, token = shown[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and len(shown) == 1 else ""


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, of one that is IPv4 inside of IPv6 the former; None if it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _is_loopback(host: str) -> bool:
    address = ip_address(host)
    return address is not None and address.is_loopback


ActingUser = Annotated[int, Depends(acting_user)]
WritingUser = Annotated[int, Depends(writing_user)]


def _session(user_id: ActingUser) -> Iterator[Session]:
    with session_for_user(user_id) as session:
        yield session


# Ended before the answer is sent, so that a commit which fails is never answered with success.
UserSession = Annotated[Session, Depends(_session, scope="function")]
