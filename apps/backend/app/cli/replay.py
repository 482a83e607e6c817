"""`lm replay`: past suggestions, computed again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.moments import moment_of
from app.cli.output import note, results
from app.cli.who import User, acting_user
from app.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.services.replay import Replay

INCOMPLETE = 5  # the exit code

SOURCES = {"rule": "the heuristics", "model": "a model"}


def replay(
    *,
    since: Annotated[str, typer.Option(help="From this date or time on, in UTC unless it says otherwise.")],
    user: User = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Every user's suggestions.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Compute past suggestions again from what their events kept.

    Exit code 1 if any comes out otherwise; 5 if none does, but some could not be computed again.
    """
    from app.services.replay import replay_suggestions  # noqa: PLC0415 -- libraries that help need not wait for

    moment = moment_of(since, option="--since")
    user_id = None if everybody else acting_user(user)
    with progress_of("suggestions") as show:
        found = replay_suggestions(moment, user_id=user_id, progress=show)
    if as_json:
        # `asdict` takes a counter apart into pairs.
        counts = {"events": found.events, "missing": found.missing}
        results.print_json(json.dumps(asdict(found) | counts), indent=None)
    else:
        _tell(found)
    missing = found.missing.total()
    if missing:
        note("Warning:", f"{missing:,} of these suggestions were not computed again, so nothing is said of them.")
    if found.differing:
        raise typer.Exit(1)
    if missing:
        raise typer.Exit(INCOMPLETE)


def _tell(found: Replay) -> None:
    if not found.events and not found.missing:
        results.print("Nothing was suggested since then.")
        return
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("suggestions", justify="right")
    for source, count in sorted(found.events.items()):
        table.add_row(f"made by {SOURCES[source]}", f"{count:,}")
    for reason, count in sorted(found.missing.items()):
        table.add_row(f"not computed again. {reason}", f"{count:,}", style="yellow")
    table.add_section()
    table.add_row("came out otherwise", f"{found.differing:,}", style="red" if found.differing else "green")
    results.print(table)
    if found.first:
        differing = Table("suggestion", "transaction", "differs in", "was said", "is said now")
        for each in found.first:
            said, says = (_listed(confidences) for confidences in (each.said, each.says))
            differing.add_row(str(each.event_id), str(each.txn_id), each.what, said, says)
        results.print(differing)


def _listed(confidences: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {confidence:.4f}" for label, confidence in confidences.items()) or "nothing"
