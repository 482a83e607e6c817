"""`lm demo`: the whole loop on one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.output import note, results
from app.config import get_settings
from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.services.demo import DemoReport


def demo(
    file: Annotated[Path | None, typer.Argument(help="A labelled statement; default: the shipped sample.")] = None,
) -> None:
    """Run the whole loop on a file, as a user of its own, and sum up what it did. Repeating it adds nothing."""
    if file is not None and not file.is_file():
        raise InvalidInput(f"There is no file {file}.")
    from app.services.demo import run_demo  # noqa: PLC0415 -- libraries that other commands need not wait for

    report = run_demo(file, lambda sentence: note("…", sentence, style="dim"))
    if report.examples:
        results.print(examples(report.examples))
    if report.suggestion_examples:
        results.print(suggestion_examples(report.suggestion_examples))
    results.print(summary(report))
    if report.experiment:
        said = f"The heuristics against the first model, in the last month: {report.experiment.decision}."
        results.print(said, soft_wrap=True)
    results.print(said_of_model(report), soft_wrap=True)
    folder = get_settings().build_dir
    results.print(f"The same as JSON: {folder / 'demo.json'} and demo-{report.name}.json beside it", soft_wrap=True)
    if report.token:
        results.print("A token for the demo's ledger over the API; it is not shown again:")
        results.print(report.token, soft_wrap=True)
    results.print("Next, a statement of yours: source .venv/bin/activate; lm ingest statement.csv --dry-run")


def examples(rows: list[tuple[str, ...]]) -> Table:
    """Lay a few training rows out as a table."""
    table = Table(title="Bank strings that became training data", title_justify="left")
    # In a narrow terminal the string is wrapped, and what became of it stays whole.
    table.add_column("the bank's string")
    for position, column in ((1, "merchant"), (2, "label")):
        table.add_column(column, no_wrap=True, min_width=min(24, max(len(row[position]) for row in rows)))
    for row in rows:
        table.add_row(*row)
    return table


def suggestion_examples(rows: list[tuple[str, str, str, str]]) -> Table:
    """Lay a few suggestions out as a table."""
    table = Table(title="What was suggested for the last month, and why", title_justify="left")
    table.add_column("the bank's string")
    table.add_column("category", no_wrap=True)
    table.add_column("sure", no_wrap=True)
    table.add_column("because")
    for row in rows:
        table.add_row(*row)
    return table


def said_of_model(report: DemoReport) -> str:
    """Say in a sentence what became of the model."""
    model = report.model
    if model is None:
        return f"No model was trained. {report.model_missing}"
    if model.role:
        return (
            f"Version {model.version} is the {model.role} now. {model.verdict} `lm models list --user {report.user}` "
            "shows all versions."
        )
    serving = "the heuristics answer" if model.champion is None else f"version {model.champion} stays champion"
    return f"Version {model.version} was refused, and {serving}. {model.verdict}"


def summary(report: DemoReport) -> Table:
    """Lay a report out as a table of counts and times."""
    table = Table(title=f"Ledgermill on {report.name}", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for section in (
        {f"rows {key}" if key != "rows" else "rows in the file": value for key, value in report.ingest.items()},
        {f"labels from {source}": count for source, count in report.labels.items()},
        {"feature vectors": report.features, "training rows": report.training_rows},
        {
            "suggestions asked for, last month": report.suggestions.count,
            "suggestions made": report.suggestions.covered,
            "accepted": report.suggestions.accepted,
            "rejected": report.suggestions.rejected,
        },
        {f"merchants of {confidence} confidence": count for confidence, count in report.merchants.items()},
    ):
        for what, count in section.items():
            table.add_row(what, f"{count:,}")
        if "accepted" in section:
            table.add_row("precision", f"{report.suggestions.precision:.1%}")
        table.add_section()
    if report.serving:
        table.add_row("one suggestion, half within", f"{report.serving['p50_ms']:.1f} ms")
        table.add_row("one suggestion, 99 of 100 within", f"{report.serving['p99_ms']:.1f} ms")
        table.add_section()
    if report.model:
        model = report.model
        table.add_row("model, version", f"{model.version} ({model.role or 'refused'})")
        table.add_row("accuracy on the last months", f"{model.accuracy:.1%}")
        table.add_row("macro F1", f"{model.f1_macro:.3f}")
        table.add_row("calibration error", f"{model.ece:.3f}")
        table.add_row(
            f"applied without asking, at most {model.target_error:.0%} wrong", f"{model.auto_apply_coverage:.1%}"
        )
        table.add_section()
    if report.rollback_ms is not None:
        table.add_row("followed a rollback within", f"{report.rollback_ms:.0f} ms")
        table.add_section()
    for step, seconds in report.seconds.items():
        table.add_row(f"seconds: {step}", f"{seconds:.1f}")
    return table
