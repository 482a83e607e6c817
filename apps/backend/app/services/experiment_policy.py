"""What experiments do by themselves: arms are stopped whose guardrails are broken, and ramps go on."""

from __future__ import annotations

import logging

from sqlalchemy import text

from app.db import session_for_jobs
from app.services import experiments
from app.services.experiment_analysis import analyse_experiment
from app.services.experiments import POLICY

logger = logging.getLogger(__name__)


def advance_experiments() -> list[str]:
    """Stop arms whose guardrails are broken, and take ramps a step further; say what was done, in sentences.

    An experiment whose units are not in the shares that were set goes no further, and that is said each time, as is one
    that cannot be judged; the others go on.
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
        experiment = experiments.show_experiment(session, category_set, name)
        result = analyse_experiment(session, experiment)
    step = result.next_step
    if result.is_suspect and not result.broken:
        return [f"{name}: the ramp stays at {experiment.ramp_now:.0%}. Units are not in the shares that were set."]
    if not result.broken and (step is None or not step.is_due):
        return []
    with session_for_jobs() as session:
        # Not before: reading the answers takes a while, and nobody who stops the experiment is to wait for that.
        experiments.take_turns(session, category_set)
        if experiments.show_experiment(session, category_set, name).changes != experiment.changes:
            return []
        if step is not None and not result.broken:
            experiments.ramp_experiment(session, category_set, name, step.ramp, actor=POLICY, reason=step.sentence)
            return [f"{name}: the ramp is at {step.ramp:.0%}. {step.sentence}"]
        for arm, reason in result.broken.items():
            experiments.stop_arm(session, category_set, name, arm, actor=POLICY, reason=reason)
    return [f"{name}: {arm} was stopped. {reason}" for arm, reason in result.broken.items()]
