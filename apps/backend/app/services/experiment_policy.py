"""What experiments do by themselves: arms are stopped whose guardrails are broken, ramps go on, and canaries end."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_jobs
from app.services import deployments, experiments
from app.services.experiment_analysis import analyse_experiment
from app.services.experiment_assignment import versions_due
from app.services.experiment_guardrails import reason_to_end
from app.services.experiments import POLICY
from app.services.model_aliases import mirror_aliases

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from app.services.deployments import Current
    from app.services.experiment_guardrails import NextStep
    from app.services.experiments import Experiment

logger = logging.getLogger(__name__)

ANNOUNCED: Final = set[int]()
"""Changes since which it was said that a version is to be promoted by hand; once by each worker is enough."""


def advance_experiments() -> list[str]:
    """Stop arms whose guardrails are broken, take ramps a step further, end what is over; say what was done.

    An experiment whose units are not in the shares that were set goes no further, and that is said each time, as is one
    that cannot be judged; the others go on.

    Returns:
        Sentences.
    """
    with session_for_jobs() as session:
        running = session.execute(text("SELECT category_set, name FROM running_experiments() ORDER BY name")).all()
    done = []
    for row in running:
        try:
            done += _advance(row.category_set, row.name)
        except Exception as error:  # whatever is wrong with one of them, the others have their guardrails
            logger.exception("The experiment %s cannot be judged", row.name)
            done.append(f"{row.name} cannot be judged: {error}")
    return done


def _advance(category_set: int | None, name: str) -> list[str]:
    with session_for_jobs() as session:
        # The roles first: who takes one while the answers are read is noticed afterwards.
        roles = deployments.current(session, category_set)
        experiment = experiments.show_experiment(session, category_set, name)
        over = reason_to_end(experiment, versions_due(experiment.arms, asdict(roles)))
        result = None if over else analyse_experiment(session, experiment)
    if result is None:
        return _unless_changed(experiment, roles, lambda session: _end(session, experiment, over or ""))
    if result.broken:
        return _unless_changed(experiment, roles, lambda session: _stop_arms(session, experiment, result.broken))
    if result.is_suspect:
        return [f"{name}: the ramp stays at {experiment.ramp_now:.0%}. Units are not in the shares that were set."]
    return [] if result.next_step is None else _go_on(experiment, roles, result.next_step)


def _go_on(experiment: Experiment, roles: Current, step: NextStep) -> list[str]:
    if not step.is_due:
        return []
    if step.version is None:
        return _unless_changed(experiment, roles, lambda session: _ramp(session, experiment, step))
    if not get_settings().promotion.automatic:
        return _announce(experiment, step)
    done = _unless_changed(experiment, roles, lambda session: _promote(session, experiment, step))
    if done:
        mirror_aliases()
    return done


def _unless_changed(experiment: Experiment, roles: Current, act: Callable[[Session], list[str]]) -> list[str]:
    """Do something, unless somebody changed the experiment, or who is champion or challenger, since they were read.

    Turns are taken no earlier: reading the answers takes a while, and nobody who stops the experiment or goes back to
    another champion is to wait for that.
    """
    with session_for_jobs() as session:
        experiments.take_turns(session, experiment.category_set)
        deployments.take_turns(session, experiment.category_set)
        now = experiments.show_experiment(session, experiment.category_set, experiment.name)
        if now.changes != experiment.changes or deployments.current(session, experiment.category_set) != roles:
            return []
        return act(session)


def _end(session: Session, experiment: Experiment, reason: str) -> list[str]:
    experiments.stop_experiment(session, experiment.category_set, experiment.name, actor=POLICY, reason=reason)
    return [f"{experiment.name}: it is over. {reason}"]


def _stop_arms(session: Session, experiment: Experiment, broken: dict[str, str]) -> list[str]:
    for arm, reason in broken.items():
        experiments.stop_arm(session, experiment.category_set, experiment.name, arm, actor=POLICY, reason=reason)
    return [f"{experiment.name}: {arm} was stopped. {reason}" for arm, reason in broken.items()]


def _ramp(session: Session, experiment: Experiment, step: NextStep) -> list[str]:
    experiments.ramp_experiment(
        session, experiment.category_set, experiment.name, step.ramp, actor=POLICY, reason=step.sentence
    )
    return [f"{experiment.name}: the ramp is at {step.ramp:.0%}. {step.sentence}"]


def _promote(session: Session, experiment: Experiment, step: NextStep) -> list[str]:
    if step.version is None:
        return []
    decision = {"actor": POLICY, "reason": step.sentence}
    deployments.promote(session, experiment.category_set, step.version, **decision)
    experiments.stop_experiment(session, experiment.category_set, experiment.name, **decision)
    return [f"{experiment.name}: it is over. {step.sentence}"]


def _announce(experiment: Experiment, step: NextStep) -> list[str]:
    since = experiment.changes[-1].id
    if since in ANNOUNCED:
        return []
    ANNOUNCED.add(since)
    return [f"{experiment.name}: `lm models promote {step.version}` is due. {step.sentence}"]
