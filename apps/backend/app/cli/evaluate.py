"""`lm evaluate`: how good predictions are on the ledger in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.moments import moment_of
from app.cli.output import results
from app.cli.train import AsOf, coverage_of, with_interval
from app.cli.who import User, acting_user
from app.ml.evaluation import PROMISE
from app.progress import progress_of

if TYPE_CHECKING:
    from app.services.ledger_evaluation import LedgerEvaluation


def evaluate(
    *,
    as_of: AsOf = None,
    months: Annotated[int | None, typer.Option(min=1, help="How many of the last months; default: a fifth.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, help="Of a model; it predicts what came after its training.")
    ] = None,
    user: User = None,
) -> None:
    """Predict the last months of a ledger from what came before, and write a report about how good that was."""
    from app.services.ledger_evaluation import evaluate_ledger  # noqa: PLC0415 -- libraries that help need not wait for

    moment = moment_of(as_of) if as_of else None
    user_id = acting_user(user)
    with progress_of("transactions") as show:
        found = evaluate_ledger(user_id, as_of=moment, months=months, version=version, progress=show)
    results.print(_table(found))
    results.print(f"Everything else, with pictures: {found.page}", soft_wrap=True)
    results.print(f"The same as JSON: {found.page.with_suffix('.json')}", soft_wrap=True)


def _table(found: LedgerEvaluation) -> Table:
    evaluation, applied = found.evaluation, found.evaluation.auto_apply
    table = Table(title=f"{found.system}: {found.protocol}", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("figure, with its interval of 95 %", justify="right")
    table.add_row(f"transactions, {evaluation.first_month} to {evaluation.last_month}", f"{evaluation.rows:,}")
    table.add_row("categories", f"{evaluation.categories:,}")
    table.add_section()
    table.add_row("accuracy, forced to choose", with_interval(evaluation.accuracy))
    table.add_row("among the three likeliest", with_interval(evaluation.top3_accuracy))
    f1 = evaluation.f1_macro
    table.add_row("macro F1", f"{f1.value:.3f}  ({f1.low:.3f} to {f1.high:.3f})")
    table.add_row("calibration error", f"{evaluation.ece:.3f}")
    if evaluation.unseen.accuracy is not None:
        table.add_row(
            f"accuracy on {evaluation.unseen.rows:,} descriptions never seen", with_interval(evaluation.unseen.accuracy)
        )
    if evaluation.wrong_money is not None:
        table.add_row("of the money, in wrong categories", with_interval(evaluation.wrong_money))
    table.add_section()
    table.caption = PROMISE
    table.add_row("applied without asking", coverage_of(applied))
    if applied.error is not None:
        table.add_row(f"of those wrong, at most {applied.target_error:.0%} wanted", with_interval(applied.error))
    return table
