"""`lm train`: a new model of a user's categories, judged, registered, and champion if it may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.cli.moments import moment_of
from app.cli.output import note, results
from app.cli.who import User, acting_user, os_user
from app.db import session_for_jobs
from app.ml.evaluation import PROMISE
from app.progress import progress_of
from app.services.deployments import category_set_of
from app.services.training_runs import MOST_SEED

if TYPE_CHECKING:
    from app.ml.bootstrap import Interval
    from app.ml.evaluation import AutoApplyScores
    from app.services.training import TrainingOutcome

AsOf = Annotated[str | None, typer.Option(help="What was known at this moment, such as 2025-10-01; UTC. Default now.")]


def train(
    *,
    as_of: AsOf = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED - 1, help="Of what is drawn: the same one gives the same model.")
    ] = 0,
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let it become champion if it proves good enough.")
    ] = True,
    user: User = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a model of a user's categories, and let it become champion if it is good enough."""
    from app.services.training import train_model  # noqa: PLC0415 -- libraries that `lm --help` need not wait for

    moment = moment_of(as_of) if as_of else None
    user_id = acting_user(user)
    with session_for_jobs() as session:
        category_set = category_set_of(session, user_id)
    with progress_of("steps") as show:
        outcome = train_model(
            category_set,
            as_of=moment,
            seed=seed,
            promote=promote,
            requested_by=os_user(),
            say=lambda sentence: note("…", sentence, style="dim"),
            progress=show,
        )
    if as_json:
        results.print_json(json.dumps(_document(outcome)), indent=None)
        return
    results.print(_table(outcome))
    results.print(_sentence(outcome), soft_wrap=True)


def with_interval(figure: Interval) -> str:
    """Write a share with its interval."""
    return f"{figure.value:.1%}  ({figure.low:.1%} to {figure.high:.1%})"


def coverage_of(applied: AutoApplyScores) -> str:
    """Write how much is applied without asking."""
    return with_interval(applied.coverage) if applied.coverage.value else "nothing: none is sure enough"


def _document(outcome: TrainingOutcome) -> dict[str, Any]:
    evaluation = outcome.evaluation
    return {
        "run_id": outcome.run_id,
        "version": outcome.version,
        "role": outcome.role,
        "sha256": outcome.sha256,
        "dataset_hash": outcome.dataset_hash,
        "rows": outcome.rows,
        "test_rows": evaluation.rows,
        "classes": outcome.classes,
        "accuracy": evaluation.accuracy.value,
        "f1_macro": evaluation.f1_macro.value,
        "ece": evaluation.ece,
        "auto_apply_coverage": evaluation.auto_apply.coverage.value,
        "gate": {"passed": outcome.verdict.passed, "reasons": outcome.verdict.reasons, **outcome.verdict.figures},
        "seconds": outcome.seconds,
    }


def _table(outcome: TrainingOutcome) -> Table:
    evaluation = outcome.evaluation
    table = Table(title=f"Model {outcome.version}", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_row("labels learnt from", f"{outcome.rows:,}")
    table.add_row("categories", f"{outcome.classes:,}")
    table.add_row(
        f"tested on, {evaluation.first_month} to {evaluation.last_month}", f"{evaluation.rows:,} transactions"
    )
    table.add_section()
    table.add_row("accuracy, forced to choose", with_interval(evaluation.accuracy))
    table.add_row("macro F1", f"{evaluation.f1_macro.value:.3f}")
    table.add_row("calibration error", f"{evaluation.ece:.3f}")
    applied = evaluation.auto_apply
    table.caption = PROMISE
    table.add_row("applied without asking", coverage_of(applied))
    if applied.error is not None:
        table.add_row(f"of those wrong, at most {applied.target_error:.0%} wanted", with_interval(applied.error))
    table.add_section()
    for step, seconds in outcome.seconds.items():
        table.add_row(f"seconds: {step}", f"{seconds:.1f}")
    return table


def _sentence(outcome: TrainingOutcome) -> str:
    what = {
        "champion": "is the champion now.",
        "challenger": f"is the challenger; `lm models promote {outcome.version}` makes it champion.",
        None: "was refused.",
    }[outcome.role]
    return " ".join([f"Version {outcome.version} {what}", *outcome.verdict.reasons])
