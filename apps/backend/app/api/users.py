"""Logging in and out, who one is here, and the tokens of one's programs."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import SESSION_COOKIE, SignedIn, UserSession, WritingUser
from app.api.authentication import address_of, is_https, refuse_other_sites
from app.api.fields import PathId, Probability, Text
from app.config import get_settings
from app.services import credentials, users

router = APIRouter(tags=["users"])

MOST_DAYS = 3650
_SECONDS_PER_HOUR = 3600


class Login(BaseModel):
    """What a person logs in with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "ada", "password": "…"}]})

    name: Annotated[Text, Field(max_length=users.LONGEST_NAME)]
    password: Annotated[Text, Field(max_length=users.LONGEST_PASSWORD)]


class Me(BaseModel):
    """Whom a request acts for, and with which scope."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": 1, "name": "ada", "scope": "write", "min_confidence": 0.8, "own_categories": False}]
        }
    )

    id: int
    name: str
    scope: Literal["read", "write"]
    min_confidence: float | None
    own_categories: bool


class MyChange(BaseModel):
    """What a person can set about themselves; null leaves the confidence to the engine that suggests."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"min_confidence": 0.8}]})

    min_confidence: Probability | None


class TokenAnswer(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    scope: Literal["read", "write"]
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None


class NewTokenAnswer(TokenAnswer):
    """A token and its secret, which is shown this once."""

    secret: str


class TokenWish(BaseModel):
    """A token to make; without `days` it lasts until it is revoked, or as long as the token that makes it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "notebook", "scope": "read", "days": 30}]}
    )

    name: Annotated[Text, Field(min_length=1, max_length=credentials.LONGEST_TOKEN_NAME)]
    scope: Literal["read", "write"] = "read"
    days: Annotated[int, Field(ge=1, le=MOST_DAYS)] | None = None


@router.post("/login", status_code=204)
def log_in(login: Login, request: Request, response: Response) -> None:
    """Log in with name and password; the answer sets the cookie of the session.

    A plain function, which the server runs in a thread: checking a password is slow on purpose.
    """
    refuse_other_sites(request)
    secret = users.log_in(login.name, login.password, address=address_of(request))
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=get_settings().session_hours * _SECONDS_PER_HOUR,
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="strict",
    )


@router.post("/logout", status_code=204)
def log_out(identity: SignedIn, session: UserSession, request: Request, response: Response) -> None:
    """End the login that the request came with. A token is no login and stays."""
    if identity.credential_id is not None:
        users.log_out(session, identity.credential_id)
    response.delete_cookie(SESSION_COOKIE, path="/", secure=is_https(request), httponly=True, samesite="strict")


@router.get("/me")
def read_me(identity: SignedIn, session: UserSession) -> Me:
    """Say whom the request acts for."""
    return _me(identity, users.read_profile(session, identity.user_id))


@router.patch("/me")
def change_me(change: MyChange, identity: SignedIn, session: UserSession) -> Me:
    """Set below which confidence suggestions are withheld."""
    return _me(identity, users.set_min_confidence(session, identity.user_id, change.min_confidence))


@router.get("/tokens")
def list_tokens(_user_id: WritingUser, session: UserSession) -> list[TokenAnswer]:
    """List the tokens, the newest first, with those that have ended."""
    return [TokenAnswer.model_validate(token) for token in credentials.list_tokens(session)]


@router.post("/tokens", status_code=201)
def make_token(wish: TokenWish, identity: SignedIn, session: UserSession) -> NewTokenAnswer:
    """Make a token for a program; only this answer shows its secret. It ends with the token that makes it."""
    expires_at = None if wish.days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=wish.days)
    made = credentials.new_token(
        session,
        identity.user_id,
        name=wish.name,
        scope=wish.scope,
        expires_at=expires_at,
        maker_id=identity.credential_id,
    )
    token = TokenAnswer.model_validate(made.token)
    return NewTokenAnswer(**token.model_dump(), secret=made.secret)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: PathId, session: UserSession) -> None:
    """End a token; ending it twice changes nothing."""
    credentials.revoke_token(session, token_id)


def _me(identity: SignedIn, profile: users.Profile) -> Me:
    return Me(
        id=profile.id,
        name=profile.name,
        scope=identity.scope,
        min_confidence=profile.min_confidence,
        own_categories=profile.own_categories,
    )
