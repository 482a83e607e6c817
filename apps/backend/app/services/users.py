"""Who has a ledger here: adding and erasing people, their passwords, and logging in with them."""

from __future__ import annotations

import datetime as dt
import secrets
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_user
from app.errors import Conflict, InvalidInput, NotFound, NotSignedIn
from app.services.credentials import end_session, new_session
from app.services.model_aliases import forget_models_after_commit
from app.services.rate_limit import spend

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LONGEST_NAME: Final = 100
SHORTEST_PASSWORD: Final = 8
# Longer ones gain nothing, and hashing them costs whoever answers.
LONGEST_PASSWORD: Final = 1024

# Guessing is slow, and so is locking somebody out on purpose: their allowance is full again in five minutes.
LOGINS_BY_NAME: Final = 10
LOGINS_BY_ADDRESS: Final = 50
LOGIN_SECONDS: Final = 300

_NOBODY: Final = 0
_hasher: Final = PasswordHasher()
# Each check takes 64 MiB for a moment; as many at once as there are threads would be gigabytes.
_check_turn: Final = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class UserAccount:
    """A user as an administrator sees them."""

    id: int
    name: str
    is_demo: bool
    has_password: bool
    created_at: dt.datetime


@dataclass(frozen=True)
class Profile:
    """A user as they see themselves.

    Attributes:
        min_confidence: Below it a suggestion is withheld, 0 to 1; None leaves that to the engine that suggests.
        own_categories: Whether the user's imports brought a category set of their own.
    """

    id: int
    name: str
    min_confidence: float | None
    own_categories: bool


def add_user(session: Session, name: str, password: str | None = None) -> int:
    """Add somebody; without a password they can use tokens alone. Return their id.

    Args:
        session: A session of the role lm_jobs.
        name: 1 to 100 printable characters without a space at either end.
        password: 8 to 1024 characters.

    Raises:
        Conflict: The name is taken.
        InvalidInput: The name or the password is not as said above.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput(f"A name has 1 to {LONGEST_NAME} printable characters, and no space at either end.")
    added = session.execute(
        text("INSERT INTO users (name) VALUES (:name) ON CONFLICT (name) DO NOTHING RETURNING id"), {"name": name}
    )
    user_id: int | None = added.scalar_one_or_none()
    if user_id is None:
        raise Conflict("There is a user of that name already; choose another.")
    if password is not None:
        set_password(session, user_id, password)
    return user_id


def list_users(session: Session) -> list[UserAccount]:
    """List everybody by name, for a session of the role lm_jobs."""
    rows = session.execute(
        text("""
            SELECT users.id, users.name, users.is_demo, users.created_at,
                user_passwords.user_id IS NOT NULL AS has_password
            FROM users LEFT JOIN user_passwords ON user_passwords.user_id = users.id
            ORDER BY users.name
        """)
    )
    return [UserAccount(**row) for row in rows.mappings()]


def find_user(session: Session, name: str) -> int:
    """Return the id of the user of that name, for a session of the role lm_jobs.

    Raises:
        NotFound: There is none.
    """
    found = session.execute(text("SELECT id FROM users WHERE name = :name"), {"name": name})
    user_id: int | None = found.scalar_one_or_none()
    if user_id is None:
        raise NotFound("There is no user of that name; `lm user list` shows those there are, `lm user add` adds one.")
    return user_id


def remove_user(session: Session, user_id: int) -> None:
    """Erase somebody with all they own; their suggestions stay without a name. For a session of the role lm_jobs.

    Models of their own categories go from MLflow and from the disk when the session commits.

    Raises:
        NotFound: There is no such user.
    """
    forget_models_after_commit(session, user_id)
    erased = session.execute(text("DELETE FROM users WHERE id = :id RETURNING id"), {"id": user_id})
    if erased.one_or_none() is None:
        raise NotFound("There is no such user; `lm user list` shows those there are.")


def set_password(session: Session, user_id: int, password: str) -> None:
    """Give a user a password and end their logins; their tokens stay. For a session of the role lm_jobs.

    Raises:
        InvalidInput: The password is shorter or longer than passwords are.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidInput(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    session.execute(
        text("""
            INSERT INTO user_passwords (user_id, password_hash) VALUES (:user_id, :password_hash)
            ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash, updated_at = now()
        """),
        {"user_id": user_id, "password_hash": _hasher.hash(_bytes(password))},
    )
    session.execute(
        text("""
            UPDATE credentials SET revoked_at = now()
            WHERE user_id = :user_id AND kind = 'session' AND revoked_at IS NULL
        """),
        {"user_id": user_id},
    )


def log_in(name: str, password: str, *, address: str) -> str:
    """Check a password and begin a session; return its secret, which lasts `session_hours`.

    An unknown name takes as long as a known one and is answered alike. Opens its transactions itself: whose they are
    is what it finds out.

    Args:
        name: Who says to log in.
        password: What they say.
        address: Where from.

    Raises:
        NotSignedIn: Name and password are not a user's.
        TooManyRequests: Too many tried from this address or with this name.
    """
    spend("login by address", address, events=LOGINS_BY_ADDRESS, seconds=LOGIN_SECONDS)
    spend("login by name", name, events=LOGINS_BY_NAME, seconds=LOGIN_SECONDS)
    with session_for_user(_NOBODY) as session:
        known = session.execute(
            text("SELECT user_id, password_hash FROM password_of(:name)"), {"name": name}
        ).one_or_none()
    expected = _nobodys_hash() if known is None else known.password_hash
    if not _is_password(expected, password) or known is None:
        raise NotSignedIn("Name and password do not belong together.")
    expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=get_settings().session_hours)
    with session_for_user(known.user_id) as session:
        if _hasher.check_needs_rehash(expected):
            # Hashing has become costlier since; the password is only here now.
            session.execute(
                text("UPDATE user_passwords SET password_hash = :password_hash, updated_at = now()"),
                {"password_hash": _hasher.hash(_bytes(password))},
            )
        return new_session(session, known.user_id, name="console", expires_at=expires_at)


def log_out(session: Session, credential_id: int) -> None:
    """End the login that a request came with; a token is no login and stays."""
    end_session(session, credential_id)


def read_profile(session: Session, user_id: int) -> Profile:
    """Return the session's user.

    Raises:
        NotFound: They have been erased in the meantime.
    """
    found = session.execute(
        text("SELECT id, name, min_confidence, own_categories FROM users WHERE id = :id"), {"id": user_id}
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such user any more.")
    return Profile(**row)


def set_min_confidence(session: Session, user_id: int, min_confidence: float | None) -> Profile:
    """Withhold suggestions below a confidence, 0 to 1, from the session's user; None leaves that to the engine."""
    session.execute(
        text("UPDATE users SET min_confidence = :min_confidence WHERE id = :id"),
        {"id": user_id, "min_confidence": min_confidence},
    )
    return read_profile(session, user_id)


@lru_cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe())


def _is_password(expected: str, password: str) -> bool:
    with _check_turn:
        # Made before it is needed, or the first unknown name would take twice as long.
        _nobodys_hash()
        try:
            return _hasher.verify(expected, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False


def _bytes(password: str) -> bytes:
    # A terminal may hand over what is no Unicode; it is a password all the same.
    return password.encode(errors="surrogatepass")
