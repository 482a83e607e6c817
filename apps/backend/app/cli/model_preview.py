"""What another champion would change in a ledger, for people: `lm models preview`, and before every promotion."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from app.cli.output import one_line, results
from app.progress import progress_of

if TYPE_CHECKING:
    from app.services.model_preview import ChangedSuggestion, Preview

DAYS: Final = 90
SHOWN_IN_SHORT: Final = 5
_STYLES: Final = {"wrong → right": "green", "right → wrong": "red"}


def read_preview(user_id: int, version: int, days: int) -> Preview:
    """Compare, with progress."""
    from app.services.model_preview import preview_version  # noqa: PLC0415 -- libraries that help need not wait for

    with progress_of("transactions") as show:
        return preview_version(user_id, version, days=days, progress=show)


def print_preview(found: Preview, *, limit: int) -> None:
    """Say what would change, and show the first changes, those about the most money first."""
    now = "the heuristics suggest now" if found.champion is None else f"version {found.champion} suggests now"
    results.print(
        f"Of {found.transactions:,} transactions from {found.since} to {found.until}, version {found.version} would "
        f"suggest something else than {now} for {found.changed:,}.",
        soft_wrap=True,
    )
    if found.by_rule:
        results.print(f"{found.by_rule:,} are decided by rules of your own and stay as they are.", soft_wrap=True)
    if not found.changed:
        return
    results.print(
        f"Beside your labels {found.wrong_to_right:,} would become right and {found.right_to_wrong:,} wrong; what a "
        "version has learnt from, it knows.",
        soft_wrap=True,
    )
    table = Table("merchant", "date", "amount", "now", "then", "labelled")
    table.columns[2].justify = "right"
    shown = 0
    for merchant in found.merchants:
        if shown >= limit:
            break
        for number, change in enumerate(merchant.suggestions[: limit - shown]):
            table.add_row(*_row(change, merchant.merchant if number == 0 else ""))
        shown += len(merchant.suggestions)
        table.add_section()
    results.print(table)
    more = found.changed - table.row_count
    if more > 0:
        results.print(f"And {more:,} more; --limit shows them, --json all.", soft_wrap=True)


def print_preview_json(found: Preview) -> None:
    """Print all of it as JSON."""
    results.print_json(json.dumps(asdict(found), default=str), indent=None)


def _row(change: ChangedSuggestion, merchant: str) -> tuple[str | Text, ...]:
    return (
        one_line(merchant),
        str(change.date),
        f"{change.amount:,.2f}",
        _said(change.before, change.before_confidence),
        _said(change.after, change.after_confidence),
        Text(one_line(change.label or ""), style=_STYLES.get(change.verdict or "", "")),
    )


def _said(label: str | None, confidence: float | None) -> str:
    return "nothing" if label is None else f"{one_line(label)} {confidence:.2f}"
