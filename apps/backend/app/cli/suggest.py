"""`lm suggest`: what transactions without a category probably are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.output import results
from app.cli.who import User, acting_user
from app.db import session_for_user
from app.services.asked_transactions import MOST_TRANSACTIONS
from app.services.transactions import TransactionFilter, TransactionRow, list_transactions

if TYPE_CHECKING:
    from app.services.suggestions import Suggestions

WITHHELD = {"no_candidate": "nothing is known of it", "below_confidence": "not sure enough"}


def suggest_(
    *,
    limit: Annotated[int, typer.Option(min=1, max=MOST_TRANSACTIONS, help="The newest so many.")] = 20,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Say nothing below this; default: as the user has set it.")
    ] = None,
    user: User = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what POST /suggestions answers.")] = False,
) -> None:
    """Suggest categories for the newest transactions that have none. The suggestions are logged like any other."""
    from app.services.suggestions import suggest_now  # noqa: PLC0415 -- libraries that other commands need not wait for

    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        page = list_transactions(session, user_id, TransactionFilter(uncategorised=True), limit=limit)
    made = suggest_now(user_id, [row.id for row in page.transactions], min_confidence=min_confidence)
    if as_json:
        results.print_json(json.dumps(asdict(made)), indent=None)
    elif not made.suggestions:
        results.print("Every transaction has a category; `lm ingest FILE` brings more.")
    else:
        results.print(_table(page.transactions, made))
        results.print(_by_whom(made), soft_wrap=True)


def _by_whom(made: Suggestions) -> str:
    counts = Counter(suggestion.model_version for suggestion in made.suggestions)
    by_model = [f"{count:,} by model version {version}" for version, count in counts.items() if version is not None]
    by_rules = [f"{counts[None]:,} by rules and counts"] if counts[None] else []
    return f"Answered: {', '.join(by_model + by_rules)}."


def _table(transactions: tuple[TransactionRow, ...], made: Suggestions) -> Table:
    described = {transaction.id: transaction.description for transaction in transactions}
    table = Table("id", "the bank's string", "category", "sure", "because")
    for suggestion in made.suggestions:
        row = [str(suggestion.txn_id), described[suggestion.txn_id]]
        if suggestion.abstention is not None:
            table.add_row(*row, "", "", WITHHELD[suggestion.abstention], style="dim")
            continue
        best = suggestion.candidates[0]
        table.add_row(*row, best.label, f"{best.confidence:.2f}", best.reasons[0] if best.reasons else "")
    return table
