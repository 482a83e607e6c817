"""Models and the decisions about them, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from app.cli.output import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.services.deployments import Deployment
    from app.services.version_catalogue import VersionDetails, VersionRow

SHOWN_CLASSES = 12


def table_of_versions(versions: Iterable[VersionRow]) -> Table:
    """Show versions, a line for each."""
    table = Table()
    for heading in ("version", "is", "known until", "labels", "accuracy", "macro F1"):
        table.add_column(heading, no_wrap=True)
    table.add_column("recipe", overflow="fold")
    for row in versions:
        table.add_row(
            str(row.version),
            row.role or "",
            f"{row.as_of:%Y-%m-%d}" if row.as_of else "",
            f"{row.train_size:,}" if row.train_size is not None else "",
            _ratio(row.accuracy),
            f"{row.f1_macro:.3f}" if row.f1_macro is not None else "",
            one_line(row.recipe),
        )
    return table


def table_of_facts(details: VersionDetails) -> Table:
    """Show how a version was made."""
    row, card = details.row, details.card or {}
    classes = card.get("classes", [])
    more = len(classes) - SHOWN_CLASSES
    facts = {
        "version": str(row.version),
        "is": row.role or "neither champion nor challenger",
        "recipe": row.recipe,
        "training": f"run {row.run_id}, {row.status}" + (f", seed {details.seed}" if details.seed is not None else ""),
        "known until": f"{row.as_of:%Y-%m-%d %H:%M %Z}" if row.as_of else "",
        "data": details.dataset_hash or "",
        "file": row.artefact_name,
        "MLflow's run": row.mlflow_run_id,
        "classes": ", ".join(map(str, classes[:SHOWN_CLASSES])) + (f" and {more:,} more" if more > 0 else ""),
        "input": _pairs(card.get("input_schema", {}), ": "),
        "libraries": _pairs(card.get("libraries", {}), " "),
        "notes": details.notes or "",
    }
    table = Table("what", "value", show_header=False)
    for name, value in facts.items():
        if value:
            table.add_row(name, one_line(value))
    return table


def table_of_metrics(metrics: dict[str, Any]) -> Table:
    """Show single numbers and words; curves and tables are in the report and in --json."""
    table = Table("measured", "value")
    for name, value in _flat(metrics):
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(one_line(name), one_line(shown))
    return table


def _flat(metrics: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | str):
            yield f"{prefix}{name}", value


def table_of_decisions(decisions: Iterable[Deployment]) -> Table:
    """Show who decided what, when and why."""
    table = Table("when", "decision", "version", "instead of", "by", "why")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    # A narrow terminal is to show all of the reason.
    table.columns[-1].overflow = "fold"
    for each in decisions:
        table.add_row(
            f"{each.created_at:%Y-%m-%d %H:%M}",
            each.action,
            str(each.version),
            "" if each.replaced_version is None else str(each.replaced_version),
            one_line(each.actor),
            one_line(each.reason),
        )
    return table


def _pairs(pairs: Any, between: str) -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in pairs.items()) if isinstance(pairs, dict) else ""


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
