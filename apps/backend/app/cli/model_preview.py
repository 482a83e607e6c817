"""What another champion would change in a ledger, for people: `lm models preview`, and before every promotion."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from app.cli.output import note, one_line, results
from app.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from app.services.changed_suggestions import ChangedSuggestion, Preview, Sum

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
    from app.services.changed_suggestions import first_changes  # noqa: PLC0415 -- libraries that help need not wait for

    if found.champion_problem:
        note("Warning:", found.champion_problem)
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
    results.print(f"They are about {_told(found.sums, ' and ')}.", soft_wrap=True)
    results.print(
        f"Beside your labels {found.wrong_to_right:,} would become right, {found.nothing_to_right:,} of them where "
        f"nothing is suggested now; {found.right_to_wrong:,} would be right no longer, {found.right_to_nothing:,} of "
        "them because nothing would be suggested. What a version has learnt from, it knows.",
        soft_wrap=True,
    )
    table = Table("merchant", "date", "amount", "now", "then", "labelled")
    table.columns[2].justify = "right"
    for merchant in first_changes(found, limit).merchants:
        # Of one change the sum is its amount.
        in_all = f"\n{merchant.changed:,}: {_told(merchant.sums, ', ')}" if merchant.changed > 1 else ""
        for number, change in enumerate(merchant.suggestions):
            table.add_row(*_row(change, one_line(merchant.merchant) + in_all if number == 0 else ""))
        table.add_section()
    if table.row_count:
        results.print(table)
    more = found.changed - table.row_count
    if more > 0:
        all_of_them = f"`lm models preview {found.version} --limit {found.changed}`"
        results.print(f"And {more:,} more: {all_of_them} shows them all, with --json as JSON.", soft_wrap=True)


def print_preview_json(found: Preview) -> None:
    """Print all of it as JSON."""
    results.print_json(json.dumps(asdict(found), default=str), indent=None)


def _row(change: ChangedSuggestion, merchant: str) -> tuple[str | Text, ...]:
    return (
        merchant,
        str(change.date),
        _money(change.amount, change.currency),
        _said(change.before, change.before_confidence),
        _said(change.after, change.after_confidence),
        Text(one_line(change.label or ""), style=_STYLES.get(change.verdict or "", "")),
    )


def _told(sums: Sequence[Sum], between: str) -> str:
    return between.join(_money(each.amount, each.currency) for each in sums)


def _money(amount: Decimal, currency: str | None) -> str:
    return f"{amount:,.2f} {currency}" if currency else f"{amount:,.2f}"


def _said(label: str | None, confidence: float | None) -> str:
    return "nothing" if label is None else f"{one_line(label)} {confidence:.2f}"
