"""Tokens and sessions: what a request shows to say whom it acts for. Of their secrets only the hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import text

from app.errors import Conflict, InvalidInput, NotFound
from app.request_pool import ask_once, prepare
from app.services.storable_text import storable

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

CredentialKind = Literal["token", "session"]
AccessScope = Literal["read", "write"]

NO_SUCH_CREDENTIAL: Final = "The token is unknown, expired or revoked; make another with `lm token new`."
TOKEN_PREFIX: Final = "lm_"  # noqa: S105 -- what a secret begins with, so that scanners find one that leaked
LONGEST_TOKEN_NAME: Final = 100
MOST_TOKENS: Final = 100
_SECRET_BYTES: Final = 32

# Asked before anybody is named, so as the role of requests and outside of a tenant's transaction.
_WHOSE: Final = prepare(
    "whose_credential", ("text", "bytea"), "SELECT credential_id, user_id, scope FROM credential_of($1, $2)"
)
_identified: Final[OrderedDict[tuple[CredentialKind, bytes], Identity]] = OrderedDict()
MOST_REMEMBERED: Final = 10_000

# Whether a credential of the tenant's still is good, or none was shown, for a query that has its number as a parameter.
IS_LIVE: Final = """
    {credential_id} IS NULL OR EXISTS (
        SELECT FROM credentials
        WHERE id = {credential_id} AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    )
"""

_ONLY_USER: Final = b"SELECT only_user()"


@dataclass(frozen=True)
class Identity:
    """Whom a request acts for, and what it may do.

    Attributes:
        scope: `read` may look, `write` may change.
        credential_id: What it showed; None where the machine itself is trusted.
    """

    user_id: int
    scope: AccessScope
    credential_id: int | None


@dataclass(frozen=True)
class Token:
    """A bearer token as its owner sees it."""

    id: int
    name: str
    scope: AccessScope
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None


@dataclass(frozen=True)
class NewToken:
    """A token and its secret, which is shown this once."""

    token: Token
    secret: str


async def identify(kind: CredentialKind, secret: str) -> Identity | None:
    """Return whose credential a secret is; None if it is none, or expired, or revoked. One query."""
    key = (kind, _hash(secret))
    row = await ask_once(_WHOSE.call(*key))
    if row is None:
        _identified.pop(key, None)
        return None
    _identified[key] = identity = Identity(credential_id=row[0], user_id=row[1], scope=row[2])
    while len(_identified) > MOST_REMEMBERED:
        _identified.popitem(last=False)
    return identity


def recall(kind: CredentialKind, secret: str) -> Identity | None:
    """Return whose credential a secret was the last time that this process asked; it may have ended since.

    For a request whose own transaction makes sure that it has not (IS_LIVE).
    """
    return _identified.get((kind, _hash(secret)))


def forget(credential_id: int | None) -> None:
    """Recall a credential that has ended no longer: whoever shows it next is a stranger."""
    ended = [key for key, identity in _identified.items() if identity.credential_id == credential_id]
    for key in ended:
        del _identified[key]


async def sole_user() -> int | None:
    """Return the installation's user if it has exactly one. Demo data sets count where there is nobody else."""
    row = await ask_once(_ONLY_USER)
    return None if row is None else row[0]


def new_token(
    session: Session,
    user_id: int,
    *,
    name: str,
    scope: AccessScope,
    expires_at: dt.datetime | None = None,
    maker_id: int | None = None,
) -> NewToken:
    """Make a token for programs that act for the session's user.

    Args:
        session: A session of the user.
        user_id: The user.
        name: What the user calls it, to know it again.
        scope: What it may do.
        expires_at: When it ends; None: when it is revoked.
        maker_id: The credential that asks for it; what a token makes ends with that token at the latest.

    Raises:
        Conflict: The user has as many tokens as anybody may.
        InvalidInput: The name is not 1 to LONGEST_TOKEN_NAME characters of text.
    """
    _check_name(name)
    # Two at once would both find the last place free.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('tokens', :user_id))"), {"user_id": user_id})
    live: int = session.execute(
        text("""
            SELECT count(*) FROM credentials
            WHERE kind = 'token' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        """)
    ).scalar_one()
    if live >= MOST_TOKENS:
        raise Conflict(f"There are {MOST_TOKENS} tokens that are good, and no more may be; revoke one first.")
    ends = [end for end in (expires_at, _end_of_token(session, maker_id)) if end is not None]
    secret = TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    token = _store(
        session, user_id, kind="token", name=name, scope=scope, secret=secret, expires_at=min(ends, default=None)
    )
    return NewToken(token=token, secret=secret)


def new_session(session: Session, user_id: int, *, name: str, expires_at: dt.datetime) -> str:
    """Begin a login of the session's user; return the secret that the browser keeps."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    _store(session, user_id, kind="session", name=name, scope="write", secret=secret, expires_at=expires_at)
    return secret


def list_tokens(session: Session) -> list[Token]:
    """List the tokens of the session's user, the newest first; those that ended are among them."""
    rows = session.execute(
        text("""
            SELECT id, name, scope, created_at, expires_at, revoked_at FROM credentials
            WHERE kind = 'token' ORDER BY id DESC
        """)
    )
    return [Token(**row) for row in rows.mappings()]


def revoke_token(session: Session, token_id: int) -> None:
    """End a token of the session's user; ending it twice changes nothing.

    Raises:
        NotFound: The user has no such token.
    """
    if not _revoke(session, "token", token_id):
        raise NotFound("There is no such token; `lm token list` shows those there are.")


def end_session(session: Session, credential_id: int) -> None:
    """End a login of the session's user; of a credential that is none, nothing."""
    _revoke(session, "session", credential_id)


def _check_name(name: str) -> None:
    try:
        storable(name)
    except ValueError:
        raise InvalidInput("A token's name is text; leave out the characters that are none.") from None
    if not 0 < len(name) <= LONGEST_TOKEN_NAME:
        raise InvalidInput(f"A token's name has 1 to {LONGEST_TOKEN_NAME} characters.")


def _end_of_token(session: Session, credential_id: int | None) -> dt.datetime | None:
    """Return when a token ends; None where it does not, or where the credential is a login: its owner is there."""
    end: dt.datetime | None = session.execute(
        text("SELECT expires_at FROM credentials WHERE id = :id AND kind = 'token'"), {"id": credential_id}
    ).scalar_one_or_none()
    return end


def _revoke(session: Session, kind: CredentialKind, credential_id: int) -> bool:
    revoked = session.execute(
        text("""
            UPDATE credentials SET revoked_at = coalesce(revoked_at, now())
            WHERE id = :id AND kind = :kind RETURNING id
        """),
        {"id": credential_id, "kind": kind},
    )
    return revoked.one_or_none() is not None


def _store(
    session: Session,
    user_id: int,
    *,
    kind: CredentialKind,
    name: str,
    scope: AccessScope,
    secret: str,
    expires_at: dt.datetime | None,
) -> Token:
    row = session.execute(
        text("""
            INSERT INTO credentials (user_id, kind, name, scope, secret_hash, expires_at)
            VALUES (:user_id, :kind, :name, :scope, :secret_hash, :expires_at)
            RETURNING id, name, scope, created_at, expires_at, revoked_at
        """),
        {
            "user_id": user_id,
            "kind": kind,
            "name": name,
            "scope": scope,
            "secret_hash": _hash(secret),
            "expires_at": expires_at,
        },
    )
    return Token(**row.mappings().one())


def _hash(secret: str) -> bytes:
    # The secret is random and long: nobody can guess it, so a slow hash would guard nothing.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
