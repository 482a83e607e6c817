"""`lm models`: the trained models of a user's categories, and which of them is champion."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.model_preview import DAYS, SHOWN_IN_SHORT, print_preview, print_preview_json, read_preview
from app.cli.model_tables import table_of_decisions, table_of_facts, table_of_metrics, table_of_versions
from app.cli.output import note, results
from app.cli.who import User, acting_user, ask_reason, os_user
from app.db import session_for_jobs
from app.services import deployments, version_catalogue
from app.services.model_aliases import mirror_aliases

if TYPE_CHECKING:
    from app.services.challenger_evidence import PairedEvidence
    from app.services.challenger_policy import ChallengerReport
    from app.services.champion_watch import Promise
    from app.services.deployments import Deployment

app = typer.Typer(help="List the trained models, and say which is champion.", no_args_is_help=True)

Version = Annotated[
    int, typer.Argument(metavar="VERSION", min=1, max=2**63 - 1, help="Its number, as `lm models list` shows it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the history.")]
By = Annotated[str | None, typer.Option(help="Who decides; default: the user of this computer.")]

NO_MODEL = "No model yet: `lm train` makes one."
_DECISIONS = {
    "promote": "That is enough to make it champion.",
    "refuse": "That is enough to refuse it.",
    "wait": "It stays challenger.",
}


@app.command(name="list")
def list_(*, as_json: AsJson = False, user: User = None) -> None:
    """List the models of a user's categories, the latest first."""
    user_id = acting_user(user)
    mirror_aliases()
    with session_for_jobs() as session:
        versions = version_catalogue.list_versions(session, deployments.category_set_of(session, user_id))
    if as_json:
        _print_json([asdict(version) for version in versions])
    elif not versions:
        results.print(NO_MODEL)
    else:
        results.print(table_of_versions(versions))


@app.command()
def show(version: Version, *, as_json: AsJson = False, user: User = None) -> None:
    """Show what a model was made from, how good it is, and what was decided about it."""
    user_id = acting_user(user)
    with session_for_jobs() as session:
        details = version_catalogue.show_version(session, deployments.category_set_of(session, user_id), version)
    if as_json:
        _print_json(asdict(details))
        return
    results.print(table_of_facts(details))
    # Whole on one line, however narrow the terminal: it is there to be compared.
    results.print(f"SHA-256 {details.row.sha256}", soft_wrap=True)
    if details.metrics:
        results.print(table_of_metrics(details.metrics))
    if details.deployments:
        results.print(table_of_decisions(details.deployments))
    if details.refusal:
        note("Refused:", details.refusal, style="bold red")


@app.command()
def preview(
    version: Version,
    *,
    days: Annotated[int, typer.Option(min=1, max=3660, help="To your latest transaction.")] = DAYS,
    limit: Annotated[int, typer.Option(min=0, help="How many changes to show, of the most money first.")] = 50,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Show what would be suggested otherwise in your ledger if a model were champion."""
    found = read_preview(acting_user(user), version, days)
    if as_json:
        print_preview_json(found)
    else:
        print_preview(found, limit=limit)


@app.command()
def promote(
    version: Version,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.")] = False,
    reason: Reason = None,
    by: By = None,
    user: User = None,
) -> None:
    """Make a model champion, once you have seen what that changes.

    Its file is checked first; a broken one is refused and the old champion stays.
    """
    user_id = acting_user(user)
    print_preview(read_preview(user_id, version, DAYS), limit=SHOWN_IN_SHORT)
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"Make version {version} the champion?", abort=True, err=True)
    decision = {"actor": by or os_user(), "reason": reason or ask_reason()}
    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, user_id)
        made = deployments.promote(session, category_set, version, **decision)
    mirror_aliases()
    _report(made)


@app.command()
def rollback(*, reason: Reason = None, by: By = None, user: User = None) -> None:
    """Go back to the model that the champion replaced; once more, further back."""
    user_id = acting_user(user)
    decision = {"actor": by or os_user(), "reason": reason or ask_reason()}
    with session_for_jobs() as session:
        made = deployments.rollback(session, deployments.category_set_of(session, user_id), **decision)
    mirror_aliases()
    _report(made)


@app.command()
def challenge(version: Version, *, reason: Reason = None, by: By = None, user: User = None) -> None:
    """Let a model be asked in the shadow what it would have suggested, in place of the challenger there was."""
    user_id = acting_user(user)
    decision = {"actor": by or os_user(), "reason": reason or ask_reason()}
    with session_for_jobs() as session:
        deployments.challenge(session, deployments.category_set_of(session, user_id), version, **decision)
    mirror_aliases()
    results.print(f"Version {version} is the challenger now: it is asked, and nobody is shown what it says.")


@app.command()
def withdraw(*, reason: Reason = None, by: By = None, user: User = None) -> None:
    """Let there be no challenger any more."""
    user_id = acting_user(user)
    decision = {"actor": by or os_user(), "reason": reason or ask_reason()}
    with session_for_jobs() as session:
        made = deployments.withdraw(session, deployments.category_set_of(session, user_id), **decision)
    mirror_aliases()
    results.print(f"Version {made.version} is no challenger any more.")


@app.command()
def judge(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Do what the policy says.")] = False,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Say what the answers so far say of the challenger and the champion, and what the policy makes of that.

    The worker does the same every five minutes and acts on it, unless LM_PROMOTION tells it not to.
    """
    from app.services import challenger_policy, champion_watch  # noqa: PLC0415 -- libraries that help need not wait for

    user_id = acting_user(user)
    with session_for_jobs() as session:
        category_set = deployments.category_set_of(session, user_id)
    # A champion that is taken back was not what the challenger has to beat.
    promise, taken_back = champion_watch.watch_champion(category_set, apply=apply)
    report = challenger_policy.judge_challenger(category_set, apply=apply)
    if apply:
        mirror_aliases()
    if as_json:
        champion = promise and asdict(promise) | {"is_broken": promise.is_broken}
        _print_json(
            {
                "champion": champion,
                "taken_back": taken_back and asdict(taken_back),
                "challenger": report and asdict(report),
            }
        )
        return
    results.print(_told_champion(promise, taken_back), soft_wrap=True)
    results.print(_told_challenger(report), soft_wrap=True)


@app.command()
def history(*, as_json: AsJson = False, user: User = None) -> None:
    """List what became champion or challenger or was refused, when, by whom and why, the latest first."""
    user_id = acting_user(user)
    with session_for_jobs() as session:
        decisions = deployments.history(session, deployments.category_set_of(session, user_id))
    if as_json:
        _print_json([asdict(decision) for decision in decisions])
    elif not decisions:
        results.print("Nothing was decided yet: `lm models promote VERSION` makes a model champion.")
    else:
        results.print(table_of_decisions(decisions))


def _report(made: Deployment) -> None:
    before = "" if made.replaced_version is None else f"; it was version {made.replaced_version}"
    results.print(f"Version {made.version} is the champion now{before}.", soft_wrap=True)


def _told_champion(promise: Promise | None, taken_back: Deployment | None) -> str:
    if promise is None:
        return "There is no champion; the heuristics answer."
    told = f"Champion, version {promise.version}. {promise.sentence}"
    if not promise.is_broken:
        return told
    if taken_back is None:
        return f"{told} It does not keep its promise; `lm models judge --apply` takes it back."
    now = "The heuristics answer" if taken_back.action == "retire" else f"Version {taken_back.version} is champion"
    return f"{told} It did not keep its promise and was taken back. {now} now."


def _told_challenger(report: ChallengerReport | None) -> str:
    if report is None:
        return "There is no challenger; `lm models challenge VERSION` makes one."
    told = [*report.reasons, *_told_disagreements(report.evidence), _DECISIONS[report.decision]]
    return f"Challenger, version {report.version}. {' '.join(told)}"


def _told_disagreements(evidence: PairedEvidence) -> list[str]:
    found = evidence.disagreements
    if not found.wins + found.losses:
        return []
    counted = f"{evidence.comparison.treatment_units:,} {evidence.unit}"
    told = (
        f"Counting each of {counted} once, by the first suggestion that one of the two alone has right: {found.wins:,} "
        f"for the challenger and {found.losses:,} for the champion (e-value {found.e_value:.3g}; from "
        f"{1 / found.alpha:.0f} on it is no coincidence)."
    )
    return [told]


def _print_json(document: Any) -> None:
    results.print_json(json.dumps(document, default=str), indent=None)
