"""Experiments: planned once, and then started, ramped and stopped by changes that are added and never taken away.

A category set has at most one experiment under way. The functions take a session of the role lm_jobs;
`list_experiments` and `show_experiment` one of a request, too.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import text

from app.errors import Conflict, InvalidInput, NotFound
from app.services.deployments import sentence
from app.services.experiment_assignment import Arm, Unit
from app.services.experiment_plans import Guardrails, check_plan, check_roles
from app.services.model_versions import open_version

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

    from app.services.experiment_plans import Plan

Action = Literal["start", "ramp", "stop_arm", "stop"]
Status = Literal["planned", "running", "stopped"]

POLICY: Final = "the guardrails"
"""Who does what happens by itself."""

_NOBODY_LEFT: Final = "No treatment is left, so everybody is answered as before it."
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Change:
    """Something that was done to an experiment: which, by whom, when and why, and the ramp that holds since."""

    id: int
    action: Action
    ramp: float
    arm: str | None
    actor: str
    reason: str
    created_at: dt.datetime


@dataclass(frozen=True)
class Experiment:
    """An experiment and what was done to it.

    Attributes:
        category_set: Whose own categories it is about; None for the shared set.
        arms: The control first.
        ramp: The steps that were planned.
        changes: From the first to the last.
    """

    id: int
    category_set: int | None
    name: str
    unit: Unit
    arms: tuple[Arm, ...]
    ramp: tuple[float, ...]
    guardrails: Guardrails
    created_by: str
    created_at: dt.datetime
    changes: tuple[Change, ...]

    @property
    def status(self) -> Status:
        """Whether it is under way."""
        if not self.changes:
            return "planned"
        return "stopped" if self.changes[-1].action == "stop" else "running"

    @property
    def ramp_now(self) -> float:
        """What part of their final shares the treatments have."""
        return self.changes[-1].ramp if self.changes else 0.0


def create_experiment(session: Session, category_set: int | None, plan: Plan, *, actor: str) -> Experiment:
    """Plan an experiment; nobody is in it before it is started.

    Raises:
        ArtefactRefused: The file of a version that an arm names is not what was registered.
        Conflict: There is an experiment of that name, or an arm asks a champion or challenger where there is none.
        InvalidInput: Name, arms, ramp or guardrails cannot be used.
        NotFound: An arm names a version that the category set does not have.
    """
    check_plan(plan)
    for arm in plan.arms:
        if arm.version is not None:
            open_version(session, category_set, arm.version)
    check_roles(session, category_set, plan.arms)
    added = session.execute(
        text("""
            INSERT INTO experiments (user_id, name, unit, salt, ramp, guardrails, created_by)
            VALUES (:user_id, :name, :unit, :salt, :ramp, CAST(:guardrails AS jsonb), :actor)
            ON CONFLICT (name) DO NOTHING RETURNING id
        """),
        {
            "user_id": category_set,
            "name": plan.name,
            "unit": plan.unit,
            "salt": secrets.token_hex(16),
            "ramp": list(plan.ramp),
            "guardrails": json.dumps(asdict(plan.guardrails)),
            "actor": sentence(actor, "who plans it"),
        },
    ).one_or_none()
    if added is None:
        raise Conflict(f"There is an experiment called {plan.name} already; take another name.")
    for position, arm in enumerate(plan.arms):
        session.execute(
            text("""
                INSERT INTO experiment_arms (experiment_id, name, position, engine, version, share)
                VALUES (:id, :name, :position, :engine, :version, :share)
            """),
            {
                "id": added.id,
                "name": arm.name,
                "position": position,
                "engine": arm.engine,
                "version": arm.version,
                "share": arm.share,
            },
        )
    return show_experiment(session, category_set, plan.name)


def start_experiment(session: Session, category_set: int | None, name: str, *, actor: str, reason: str) -> Experiment:
    """Put an experiment under way, at the first step of its ramp.

    Raises:
        Conflict: It is under way or over, another one of the category set is under way, or an arm asks a champion or
            challenger where there is none.
        NotFound: There is no such experiment.
    """
    take_turns(session, category_set)
    experiment = show_experiment(session, category_set, name)
    if experiment.status != "planned":
        raise Conflict(f"{name} was started before; an experiment is started once. Plan another one.")
    running = [each.name for each in list_experiments(session, category_set) if each.status == "running"]
    if running:
        raise Conflict(f"{running[0]} is under way; `lm experiments stop {running[0]}` ends it.")
    check_roles(session, category_set, experiment.arms)
    return _change(session, experiment, "start", experiment.ramp[0], None, actor, reason)


def ramp_experiment(
    session: Session, category_set: int | None, name: str, to: float, *, actor: str, reason: str
) -> Experiment:
    """Give the treatments another part of their final shares: more, or less again.

    Raises:
        Conflict: It is not under way, or they have that part: a change would begin the comparison anew for nothing.
        InvalidInput: The part is none.
        NotFound: There is no such experiment.
    """
    take_turns(session, category_set)
    experiment = _running(session, category_set, name)
    if not 0 <= to <= 1:
        raise InvalidInput("A ramp goes from 0 to 100 %.")
    if abs(to - experiment.ramp_now) < _ROUNDING:
        raise Conflict(f"The ramp of {name} is at {to:.0%} already; a change would begin the comparison anew.")
    return _change(session, experiment, "ramp", to, None, actor, reason)


def stop_arm(session: Session, category_set: int | None, name: str, arm: str, *, actor: str, reason: str) -> Experiment:
    """Give a treatment's units to the control; this is not taken back within the experiment.

    With the last treatment the experiment ends, and everybody is answered as if there were none.

    Raises:
        Conflict: The experiment is not under way, or the arm was stopped.
        InvalidInput: It has no such treatment.
        NotFound: There is no such experiment.
    """
    take_turns(session, category_set)
    experiment = _running(session, category_set, name)
    treatments = {each.name: each for each in experiment.arms[1:]}
    if arm not in treatments:
        raise InvalidInput(f"{name} has no treatment called {arm}; it has {', '.join(treatments)}.")
    if treatments[arm].is_stopped:
        raise Conflict(f"{arm} was stopped already.")
    stopped = _change(session, experiment, "stop_arm", experiment.ramp_now, arm, actor, reason)
    if not all(each.is_stopped for each in stopped.arms[1:]):
        return stopped
    return _change(session, stopped, "stop", stopped.ramp_now, None, POLICY, _NOBODY_LEFT)


def stop_experiment(session: Session, category_set: int | None, name: str, *, actor: str, reason: str) -> Experiment:
    """End an experiment: from now on everybody is answered as if there were none.

    Raises:
        Conflict: It is not under way.
        NotFound: There is no such experiment.
    """
    take_turns(session, category_set)
    experiment = _running(session, category_set, name)
    return _change(session, experiment, "stop", experiment.ramp_now, None, actor, reason)


def list_experiments(session: Session, category_set: int | None) -> list[Experiment]:
    """List the experiments of a category set, the latest first."""
    rows = session.execute(
        text("""
            SELECT id, user_id, name, unit, ramp, guardrails, created_by, created_at FROM experiments
            WHERE user_id IS NOT DISTINCT FROM :user_id ORDER BY id DESC
        """),
        {"user_id": category_set},
    )
    return [_experiment(session, row) for row in rows.all()]


def show_experiment(session: Session, category_set: int | None, name: str) -> Experiment:
    """Return an experiment.

    Raises:
        NotFound: The category set has none of that name.
    """
    found = next((each for each in list_experiments(session, category_set) if each.name == name), None)
    if found is None:
        raise NotFound(
            f"These categories have no experiment called {name}; `lm experiments list` shows those they have."
        )
    return found


# --- parts ----------------------------------------------------------------------------------------------------------


def take_turns(session: Session, category_set: int | None) -> None:
    """Let one transaction at a time change a category set's experiments; who promotes need not wait for it."""
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended('experiments of ' || :category_set, 0))")
    session.execute(lock, {"category_set": "shared" if category_set is None else str(category_set)})


def _running(session: Session, category_set: int | None, name: str) -> Experiment:
    experiment = show_experiment(session, category_set, name)
    if experiment.status != "running":
        raise Conflict(f"{name} is not under way: it is {experiment.status}.")
    return experiment


def _change(
    session: Session,
    experiment: Experiment,
    action: Action,
    ramp: float,
    arm: str | None,
    actor: str,
    reason: str,
) -> Experiment:
    session.execute(
        text("""
            INSERT INTO experiment_changes (experiment_id, action, ramp, arm, actor, reason, created_at)
            VALUES (:id, :action, :ramp, :arm, :actor, :reason, clock_timestamp())
        """),
        {
            "id": experiment.id,
            "action": action,
            "ramp": ramp,
            "arm": arm,
            "actor": sentence(actor, "who decides"),
            "reason": sentence(reason, "the reason"),
        },
    )
    return show_experiment(session, experiment.category_set, experiment.name)


def _experiment(session: Session, row: Any) -> Experiment:
    changes = tuple(
        Change(**change)
        for change in session.execute(
            text("""
                SELECT id, action, ramp, arm, actor, reason, created_at FROM experiment_changes
                WHERE experiment_id = :id ORDER BY id
            """),
            {"id": row.id},
        ).mappings()
    )
    stopped = {change.arm for change in changes if change.action == "stop_arm"}
    arms = session.execute(
        text("SELECT name, engine, version, share FROM experiment_arms WHERE experiment_id = :id ORDER BY position"),
        {"id": row.id},
    )
    return Experiment(
        id=row.id,
        category_set=row.user_id,
        name=row.name,
        unit=row.unit,
        arms=tuple(
            Arm(arm.name, arm.engine, arm.version, arm.share, is_stopped=arm.name in stopped) for arm in arms.all()
        ),
        ramp=tuple(row.ramp),
        guardrails=Guardrails(**row.guardrails),
        created_by=row.created_by,
        created_at=row.created_at,
        changes=changes,
    )
