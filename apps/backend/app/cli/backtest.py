"""`lm backtest`: how good suggestions would have been."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.output import results
from app.errors import InvalidInput
from app.ml.evaluation import PROMISE, System
from app.progress import progress_of

if TYPE_CHECKING:
    from app.services.backtest import BacktestReport


def backtest(
    file: Annotated[Path, typer.Argument(help="A labelled statement, plain or .gz.")],
    *,
    split: Annotated[
        float | None,
        typer.Option(help="Learn once from the months before this share, such as 0.8; default: month by month."),
    ] = None,
    system: Annotated[
        System, typer.Option(help="What predicts: a model trained for the purpose, or the heuristics.")
    ] = "model",
    target_error: Annotated[
        float | None,
        typer.Option(
            help="What may be wrong of that which is applied without asking; default: as strict as is of use."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything in the fit that is drawn.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the report here as well.")] = None,
) -> None:
    """Predict the last fifth of a file's months from what came before, and say how good that was. Needs no database."""
    if not file.is_file():
        raise InvalidInput(f"{str(file)!r} is not a file.")
    # Learning takes a second to import, which no other command has to wait for.
    from app.services.backtest import run_backtest  # noqa: PLC0415

    with progress_of("rows") as show:
        report = run_backtest(file, system=system, split=split, target_error=target_error, seed=seed, progress=show)
    results.print(_table(file.name, report))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
        results.print(f"The same as JSON: {out}", soft_wrap=True)


def _table(name: str, report: BacktestReport) -> Table:
    table = Table(
        title=f"{report.system} on {name}, {report.protocol}", show_header=False, title_justify="left", caption=PROMISE
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_row("rows learnt from at first", f"{report.train_rows:,}")
    table.add_row(f"rows predicted, from {report.test_from} on", f"{report.test_rows:,}")
    table.add_row("rows left out: no category, or an @", f"{report.left_out:,}")
    table.add_row("categories", f"{report.classes:,}")
    table.add_section()
    table.add_row("accuracy, forced to choose", f"{report.accuracy:.1%}")
    table.add_row("macro F1", f"{report.f1_macro:.3f}")
    table.add_row("calibration error", f"{report.ece:.3f}")
    table.add_row("descriptions never seen before", f"{report.unseen_share:.1%}")
    if report.unseen_accuracy is not None:
        table.add_row("accuracy on those", f"{report.unseen_accuracy:.1%}")
    table.add_section()
    threshold = report.auto_apply["threshold"]
    applied = "applied without asking" + ("" if threshold is None else f", from confidence {threshold:.2f} on")
    table.add_row(applied, f"{report.auto_apply['coverage']:.1%}")
    precision = f"{report.auto_apply['error']:.2%}" if report.auto_apply["coverage"] else "nothing was applied"
    table.add_row(f"wrong among those, at most {report.auto_apply['target_error']:.0%} wanted", precision)
    table.add_section()
    table.add_row("seconds to learn", f"{report.fit_seconds:.2f}")
    table.add_row("rows predicted in a second", f"{report.predict_rows_per_second:,}")
    return table
