"""Which model is champion and which is challenger, who decided so, and going back.

`model_deployments` is the one truth: the last row of a category set and role that is no refusal. A change is one row in
one transaction, so there is never a moment without an answer. MLflow's aliases mirror it.

A category set is identified by the user whose own it is, or None for the installation's shared set. The functions take
a session of the role lm_jobs; `current` and `history` one of a request, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import text

from app.errors import Conflict, InvalidInput
from app.services.model_versions import open_version, require_version
from app.services.storable_text import storable

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

Role = Literal["champion", "challenger"]
Action = Literal["promote", "rollback", "retire", "challenge", "withdraw", "refuse"]

LONGEST_TEXT: Final = 1000

CHAMPION_CHANGES: Final[tuple[Action, ...]] = ("promote", "rollback", "retire")
"""What makes another version champion, or none."""

# What each action is about.
_ROLES: Final[dict[Action, Role]] = {
    "promote": "champion",
    "rollback": "champion",
    "retire": "champion",
    "refuse": "champion",
    "challenge": "challenger",
    "withdraw": "challenger",
}


@dataclass(frozen=True)
class Deployment:
    """One decision: what became of which version, who decided it, when and why."""

    id: int
    role: Role
    action: Action
    version: int
    replaced_version: int | None
    actor: str
    reason: str
    created_at: dt.datetime


@dataclass(frozen=True)
class Current:
    """What a category set is served by; None where there is nothing."""

    champion: int | None
    challenger: int | None

    def role_of(self, version: int) -> Role | None:
        """Say what a version is at the moment, if anything."""
        return "champion" if version == self.champion else "challenger" if version == self.challenger else None


# --- reading --------------------------------------------------------------------------------------------------------


def category_set_of(session: Session, user_id: int) -> int | None:
    """Return which category set a user has: their own, by their id, or the shared one. A demo's is always its own."""
    own = text("SELECT own_categories OR is_demo FROM users WHERE id = :id")
    return user_id if session.execute(own, {"id": user_id}).scalar_one_or_none() else None


def category_sets_with_models(session: Session) -> list[int | None]:
    """List the category sets that have a model. For a session of the role lm_jobs."""
    return list(session.execute(text("SELECT DISTINCT user_id FROM model_versions")).scalars())


def history(session: Session, category_set: int | None) -> list[Deployment]:
    """List every decision about a category set, the latest first."""
    rows = session.execute(
        text("""
            SELECT id, role, action, version, replaced_version, actor, reason, created_at
            FROM model_deployments WHERE user_id IS NOT DISTINCT FROM :user_id ORDER BY id DESC
        """),
        {"user_id": category_set},
    )
    return [Deployment(**row) for row in rows.mappings()]


def current(session: Session, category_set: int | None) -> Current:
    """Say what is champion and what is challenger."""
    rows = session.execute(
        text("""
            SELECT DISTINCT ON (role) role, CASE WHEN action NOT IN ('withdraw', 'retire') THEN version END AS version
            FROM model_deployments
            WHERE user_id IS NOT DISTINCT FROM :user_id AND action <> 'refuse'
            ORDER BY role, id DESC
        """),
        {"user_id": category_set},
    )
    roles = {row.role: row.version for row in rows}
    return Current(champion=roles.get("champion"), challenger=roles.get("challenger"))


# --- deciding -------------------------------------------------------------------------------------------------------


def promote(session: Session, category_set: int | None, version: int, *, actor: str, reason: str) -> Deployment:
    """Make a version champion. Its file is read first; if it is not what was registered, the old champion stays.

    Raises:
        ArtefactRefused: The version's file is missing, changed or of another format.
        Conflict: It is champion already.
        NotFound: The category set has no such version.
    """
    take_turns(session, category_set)
    open_version(session, category_set, version)
    roles = current(session, category_set)
    if roles.champion == version:
        raise Conflict(f"Version {version} is the champion already.")
    _withdraw_if_challenger(session, category_set, version, actor)
    return _decide(session, category_set, "promote", version, roles.champion, actor, reason)


def challenge(session: Session, category_set: int | None, version: int, *, actor: str, reason: str) -> Deployment:
    """Make a version challenger, in place of whichever was.

    Raises:
        ArtefactRefused: The version's file is missing, changed or of another format.
        Conflict: It is champion or challenger already.
        NotFound: The category set has no such version.
    """
    take_turns(session, category_set)
    open_version(session, category_set, version)
    roles = current(session, category_set)
    role = roles.role_of(version)
    if role is not None:
        raise Conflict(f"Version {version} is the {role} already.")
    return _decide(session, category_set, "challenge", version, roles.challenger, actor, reason)


def withdraw(
    session: Session, category_set: int | None, version: int | None = None, /, *, actor: str, reason: str
) -> Deployment:
    """Let the challenger be none any more.

    Args:
        session: Of the role lm_jobs.
        category_set: Whose challenger.
        version: That must be the challenger; None for whichever is.
        actor: Who decides.
        reason: Why.

    Raises:
        Conflict: There is none, or it is another version.
    """
    take_turns(session, category_set)
    challenger = current(session, category_set).challenger
    if challenger is None:
        raise Conflict("There is no challenger to withdraw.")
    if version not in (None, challenger):
        raise Conflict(f"Version {version} is not the challenger, version {challenger} is; it stays.")
    return _decide(session, category_set, "withdraw", challenger, None, actor, reason)


def retire_champion(session: Session, category_set: int | None, *, actor: str, reason: str) -> Deployment:
    """Let there be no champion, so that the heuristics answer.

    Raises:
        Conflict: There is none.
    """
    take_turns(session, category_set)
    champion = current(session, category_set).champion
    if champion is None:
        raise Conflict("There is no champion; the heuristics answer.")
    return _decide(session, category_set, "retire", champion, None, actor, reason)


def record_refusal(session: Session, category_set: int | None, version: int, *, actor: str, reason: str) -> Deployment:
    """Keep that a version was not let become champion, and why. It changes nothing else.

    Raises:
        NotFound: The category set has no such version.
    """
    take_turns(session, category_set)
    require_version(session, category_set, version)
    return _decide(session, category_set, "refuse", version, None, actor, reason)


def rollback(session: Session, category_set: int | None, *, actor: str, reason: str) -> Deployment:
    """Go back to what the champion replaced when it was promoted; again, further back.

    Raises:
        ArtefactRefused: That version's file is missing, changed or of another format; the champion stays.
        Conflict: There is nothing to go back to.
    """
    take_turns(session, category_set)
    promoted: list[int] = []
    for each in reversed(history(session, category_set)):
        if each.action == "promote":
            promoted.append(each.version)
        elif each.action == "rollback":
            # A history of before retirements were heeded may have gone back from nothing.
            promoted = promoted[:-1] or [each.version]
        elif each.action == "retire":
            # What is promoted next replaces nothing.
            promoted.clear()
    if not promoted:
        raise Conflict("There is no champion to go back from; `lm models promote VERSION` makes one.")
    champion, *before = reversed(promoted)
    if not before:
        raise Conflict(f"Version {champion} replaced no other, so there is nothing to go back to.")
    open_version(session, category_set, before[0])
    _withdraw_if_challenger(session, category_set, before[0], actor)
    return _decide(session, category_set, "rollback", before[0], champion, actor, reason)


# --- parts --------------------------------------------------------------------------------------------------------


def take_turns(session: Session, category_set: int | None) -> None:
    """Let one transaction at a time decide about a category set."""
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended('model deployments ' || :category_set, 0))")
    session.execute(lock, {"category_set": "shared" if category_set is None else str(category_set)})


def _withdraw_if_challenger(session: Session, category_set: int | None, version: int, actor: str) -> None:
    """A version that becomes champion is challenger no longer."""
    if current(session, category_set).challenger == version:
        _decide(session, category_set, "withdraw", version, None, actor, "It becomes champion.")


def _decide(
    session: Session,
    category_set: int | None,
    action: Action,
    version: int,
    replaced_version: int | None,
    actor: str,
    reason: str,
) -> Deployment:
    values: dict[str, Any] = {
        "role": _ROLES[action],
        "action": action,
        "version": version,
        "replaced_version": replaced_version,
        "actor": sentence(actor, "who decides"),
        "reason": sentence(reason, "the reason"),
    }
    added = session.execute(
        text("""
            INSERT INTO model_deployments (user_id, role, action, version, replaced_version, actor, reason)
            VALUES (:user_id, :role, :action, :version, :replaced_version, :actor, :reason) RETURNING id, created_at
        """),
        values | {"user_id": category_set},
    ).one()
    return Deployment(id=added.id, created_at=added.created_at, **values)


def sentence(given: str, what: str) -> str:
    """Return a text that says something and can be stored."""
    try:
        said = storable(given).strip()
    except ValueError:
        said = ""
    if not 0 < len(said) <= LONGEST_TEXT:
        raise InvalidInput(f"Say {what} in 1 to {LONGEST_TEXT:,} characters.")
    return said
