"""Nobody is answered before it is known whom they act for; that is decided before routes are looked at or bodies read.

A request shows a bearer token or the cookie of a login, or comes from this machine where the machine is trusted.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection

from app.api.access import SESSION_COOKIE, bearer_token, comes_from_this_machine, ip_address, may_see_operations
from app.config import get_settings
from app.errors import Forbidden, NotSignedIn
from app.services.credentials import NO_SUCH_CREDENTIAL, Identity, identify, recall, sole_user
from app.services.rate_limit import spend

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# These answer everybody.
PUBLIC: Final = frozenset({("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/login")})
# These answer whoever `may_see_operations`.
OPERATIONS_PATHS: Final = frozenset({"/metrics", "/openapi.json", "/docs"})

# These are asked often, and make sure in their own transaction that the token still is good.
MAKES_SURE: Final = frozenset({("POST", "/suggestions")})

_READING: Final = frozenset({"GET", "HEAD"})
_MINUTE: Final = 60


def require_identity(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that it answers those alone who say whom they act for."""

    async def admit(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            await _admit(scope)
        await app(scope, receive, send)

    return admit


def refuse_other_sites(connection: HTTPConnection) -> None:
    """Refuse what a page of another site made the browser send; programs that are no browser say nothing of sites.

    Raises:
        Forbidden: The request says that it comes from another site.
    """
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site not in {None, "none", "same-origin"} or (site is None and origin not in {None, _own_origin(connection)}):
        raise Forbidden("Pages of other sites may not do this.")


async def _admit(scope: Scope) -> None:
    connection = HTTPConnection(scope)
    # A socket's handshake is a GET, and what follows may change things.
    method, path = scope.get("method", ""), scope["path"]
    if path in OPERATIONS_PATHS:
        if not may_see_operations(connection):
            _count(f"address {address_of(connection)}")
            raise NotSignedIn(
                "This is shown to whoever sends the token in LM_METRICS_TOKEN; while that is unset, to programs on the "
                "machine itself."
            )
        return
    if (method, path) in PUBLIC:
        # Whoever asks whether the process is alive would end it for an answer that it is busy.
        if path != "/healthz":
            _count(f"address {address_of(connection)}")
        return
    try:
        identity = await _identity(connection, method)
    except NotSignedIn:
        _count(f"address {address_of(connection)}")
        raise
    _count(f"user {identity.user_id}")
    if identity.scope == "read" and method not in _READING:
        raise Forbidden("This token may only read; make one with the scope write.")
    scope.setdefault("state", {})["identity"] = identity


async def _identity(connection: HTTPConnection, method: str) -> Identity:
    """Find out whom a request acts for. What it shows must be good: nothing else is tried then."""
    token = bearer_token(connection)
    if token is not None:
        identity = recall("token", token) if (method, connection.scope["path"]) in MAKES_SURE else None
        identity = identity or await identify("token", token)
        if identity is None:
            raise NotSignedIn(NO_SUCH_CREDENTIAL)
        return identity
    cookie = connection.cookies.get(SESSION_COOKIE)
    if cookie is not None:
        identity = await identify("session", cookie)
        if identity is None:
            raise NotSignedIn("The login has ended; log in again.")
        if method not in _READING and not _is_same_origin(connection):
            raise Forbidden("With a login, changes are taken from this site's own pages alone; programs use a token.")
        return identity
    if not get_settings().local_trust or not comes_from_this_machine(connection):
        raise NotSignedIn(
            "Send a token (`lm token new` makes one) or log in. Without either, requests are answered on the machine "
            "itself when LM_LOCAL_TRUST is on (`make serve` turns it on), and only to programs, not to web pages."
        )
    user_id = await sole_user()
    if user_id is None:
        raise NotSignedIn(
            "This machine is trusted, but there are several users and the request does not say which it acts for: send "
            "a token, which `lm token new --user NAME` makes."
        )
    return Identity(user_id=user_id, scope="write", credential_id=None)


def address_of(connection: HTTPConnection) -> str:
    """Return where a request comes from, as far as allowances tell: of IPv6 the network, which is one household's."""
    host = connection.client.host if connection.client else ""
    address = ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host if address is None else str(address)


def is_https(connection: HTTPConnection) -> bool:
    """Tell whether a browser speaks TLS to this site, be it to a proxy that ends it; the Origin says so then."""
    origin = connection.headers.get("origin", "")
    return connection.scope["scheme"] == "https" or origin == f"https://{connection.headers.get('host', '')}"


def _is_same_origin(connection: HTTPConnection) -> bool:
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    return site == "same-origin" or (origin is not None and origin == _own_origin(connection))


def _own_origin(connection: HTTPConnection) -> str:
    scheme = {"ws": "http", "wss": "https"}.get(connection.scope["scheme"], connection.scope["scheme"])
    return f"{scheme}://{connection.headers.get('host', '')}"


def _count(who: str) -> None:
    events = get_settings().rate_limit_per_minute
    if events:
        spend("requests", who, events=events, seconds=_MINUTE)
