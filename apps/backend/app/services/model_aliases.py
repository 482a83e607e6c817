"""Keep MLflow in step with the tables: its aliases, and what erased users have left there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import event, text

from app.db import advisory_lock, session_for_jobs
from app.ml import registry
from app.ml.tracking_database import tracking_database_exists
from app.services.deployments import category_sets_with_models, current

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

logger = logging.getLogger(__name__)


def mirror_aliases() -> None:
    """Let MLflow's aliases say what `model_deployments` says, and remove what erased users have left there.

    Called after a change is committed. What fails is logged, and mended the next time. The shared set's aliases are
    `champion` and `challenger`, a user's own set has `champion-ID`; where one set alone has a model, its aliases are
    the plain ones.
    """
    try:
        if not tracking_database_exists():
            return
        with advisory_lock("mirror model aliases"):
            _forget_erased_users()
            with session_for_jobs() as session:
                wanted = _wanted_aliases(session)
            registry.set_aliases(wanted)
    except Exception as error:  # noqa: BLE001 -- the change is committed; nothing that only mirrors it may fail it
        logger.warning("MLflow shows an older state until the next change: %s", error)


def forget_models_after_commit(session: Session, user_id: int) -> None:
    """Remove a user's own models from MLflow and from the disk once the transaction that erases the user is through.

    To be called before the user is deleted, in a session of the role lm_jobs.
    """
    trained = text("SELECT EXISTS (SELECT FROM ml_training_runs WHERE user_id = :user_id)")
    if session.execute(trained, {"user_id": user_id}).scalar_one():
        event.listen(session, "after_commit", lambda _session: mirror_aliases(), once=True)


def _forget_erased_users() -> None:
    """Only users that MLflow knows are looked for afterwards, so one who is added meanwhile is not among them."""
    known = registry.own_category_sets()
    if not known:
        return
    with session_for_jobs() as session:
        there = session.execute(text("SELECT id FROM users WHERE id = ANY(:ids)"), {"ids": sorted(known)})
        erased = known.difference(there.scalars())
    for user_id in sorted(erased):
        registry.forget_category_set(user_id)


def _wanted_aliases(session: Session) -> dict[str, int]:
    """Name the champion and challenger of every category set."""
    sets = category_sets_with_models(session)
    wanted: dict[str, int] = {}
    for category_set in sets:
        suffix = "" if category_set is None or len(sets) == 1 else f"-{category_set}"
        roles = current(session, category_set)
        for role, version in (("champion", roles.champion), ("challenger", roles.challenger)):
            if version is not None:
                wanted[role + suffix] = version
    return wanted
