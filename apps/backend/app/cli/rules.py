"""`lm rules`: rules of one's own, tried before they are applied, and taken back where they were wrong."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import TypeAdapter
from rich.table import Table

from app.cli.output import note, results
from app.cli.rule_options import (
    Account,
    AnyOf,
    Category,
    DescriptionContains,
    DescriptionEquals,
    DryRun,
    Income,
    Max,
    Mcc,
    MerchantContains,
    MerchantEquals,
    MerchantRegex,
    Min,
    Name,
    Priority,
    Regex,
    Weekday,
    default_name,
    other_parts,
    read_draft,
    text_parts,
)
from app.cli.who import User, acting_user
from app.db import session_for_user
from app.errors import InvalidInput
from app.services import rules
from app.services.rules import describe_condition

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(help="Rules of your own: add, try, apply and measure them.", no_args_is_help=True)

SHOWN_CONFLICTS: Final = 10

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RuleId = Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="The rule's number, as `lm rules list` shows it.")]


@app.command(name="list")
def list_(*, as_json: AsJson = False, user: User = None) -> None:
    """List the rules in force: how often each was right, and what they contradict."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        report = rules.report_rules(session, user_id)
    if as_json:
        _print_json(report)
        return
    if not report.rules:
        results.print("No rules yet: `lm rules propose` suggests some, `lm rules add --help` shows how to write one.")
        return
    table = Table("rule", "name", "category")
    for column in ("priority", "matches", "decides", "right", "at least"):
        table.add_column(column, justify="right")
    for each in report.rules:
        record = each.record
        right = f"{record.hits:,} of {record.total:,}" if record.total else "unknown"
        lower = "" if record.lower is None else f"{record.lower:.0%}"
        counts = (f"{each.rule.priority}", f"{each.matches:,}", f"{each.wins:,}", right, lower)
        table.add_row(str(each.rule.rule_id), each.rule.name, each.rule.category, *counts)
    results.print(table)
    for conflict in report.conflicts[:SHOWN_CONFLICTS]:
        sentence = f"both match {conflict.transactions:,} of the transactions; rule {conflict.winner_id} decides."
        note(f"Rules {conflict.winner_id} and {conflict.loser_id}:", sentence)
    if report.conflict_count > SHOWN_CONFLICTS:
        note(
            "Other rules:", f"{report.conflict_count - SHOWN_CONFLICTS:,} more pairs contradict each other; see --json."
        )
    for each in report.rules:
        if each.redundant_beside is not None:
            sentence = f"rule {each.redundant_beside} decides the same without it; `lm rules remove` takes it out."
            note(f"Rule {each.rule.rule_id}:", sentence)


@app.command()
def show(rule_id: RuleId, *, as_json: AsJson = False, user: User = None) -> None:
    """Show what a rule says, and what it said before."""
    with session_for_user(acting_user(user)) as session:
        history = rules.rule_history(session, rule_id)
    if as_json:
        _print_json(history)
        return
    _show_revisions(history, title=f"Rule {rule_id}")


@app.command()
def add(
    *,
    description_contains: DescriptionContains = None,
    description_equals: DescriptionEquals = None,
    merchant_contains: MerchantContains = None,
    merchant_equals: MerchantEquals = None,
    regex: Regex = None,
    merchant_regex: MerchantRegex = None,
    minimum: Min = None,
    maximum: Max = None,
    income: Income = None,
    account: Account = None,
    mcc: Mcc = None,
    weekday: Weekday = None,
    any_of: AnyOf = False,
    category: Category = None,
    priority: Priority = None,
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Add a rule. It speaks for suggestions at once; `lm rules apply` labels what is there already."""
    texts = {
        ("description", "contains"): description_contains,
        ("description", "equals"): description_equals,
        ("merchant", "contains"): merchant_contains,
        ("merchant", "equals"): merchant_equals,
        ("description", "regex"): regex,
        ("merchant", "regex"): merchant_regex,
    }
    asked = text_parts(texts) + other_parts((minimum, maximum), income, account, mcc, weekday)
    if not asked or category is None:
        raise InvalidInput("A rule needs a --category and something that it asks, such as --merchant-equals.")
    draft = read_draft(
        {
            "name": name or default_name(asked, category),
            "condition": {"match": "any" if any_of else "all", "conditions": asked},
            "category": category,
            "priority": priority or 0,
        }
    )
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        if dry_run:
            preview_ = rules.preview_draft(session, user_id, draft)
        else:
            rule = rules.add_rule(session, user_id, draft)
    if dry_run:
        _show_preview(preview_, as_json=as_json)
    else:
        _show_rule(rule, "added", as_json=as_json)


@app.command()
def edit(
    rule_id: RuleId,
    *,
    description_contains: DescriptionContains = None,
    description_equals: DescriptionEquals = None,
    merchant_contains: MerchantContains = None,
    merchant_equals: MerchantEquals = None,
    regex: Regex = None,
    merchant_regex: MerchantRegex = None,
    minimum: Min = None,
    maximum: Max = None,
    income: Income = None,
    account: Account = None,
    mcc: Mcc = None,
    weekday: Weekday = None,
    any_of: AnyOf = False,
    category: Category = None,
    priority: Priority = None,
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Let a rule say something else; what is not given stays. One that was removed is in force again.

    Options about transactions replace all that the rule asked before.
    """
    texts = {
        ("description", "contains"): description_contains,
        ("description", "equals"): description_equals,
        ("merchant", "contains"): merchant_contains,
        ("merchant", "equals"): merchant_equals,
        ("description", "regex"): regex,
        ("merchant", "regex"): merchant_regex,
    }
    asked = text_parts(texts) + other_parts((minimum, maximum), income, account, mcc, weekday)
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        before = rules.read_rule(session, rule_id)
        match = "any" if any_of else "all" if asked else before.condition.match
        kept = json.loads(before.condition.to_json())["conditions"]
        draft = read_draft(
            {
                "name": name or before.name,
                "condition": {"match": match, "conditions": asked or kept},
                "category": category or before.category,
                "priority": before.priority if priority is None else priority,
            }
        )
        if dry_run:
            preview_ = rules.preview_draft(session, user_id, draft, rule_id=rule_id)
        else:
            rule = rules.edit_rule(session, user_id, rule_id, draft)
    if dry_run:
        _show_preview(preview_, as_json=as_json)
    else:
        is_new = (before.revision, before.is_enabled) != (rule.revision, rule.is_enabled)
        _show_rule(rule, "edited" if is_new else "as it was: nothing changes", as_json=as_json)


@app.command()
def remove(rule_id: RuleId, *, user: User = None) -> None:
    """Put a rule out of force. Its history and the labels that it gave remain; `lm rules edit` brings it back."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        rules.remove_rule(session, user_id, rule_id)
    results.print(f"Rule {rule_id} is out of force. The labels that it gave remain.")


@app.command()
def preview(rule_id: RuleId, *, as_json: AsJson = False, user: User = None) -> None:
    """Show what applying a rule would change."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        planned = rules.preview_rule(session, user_id, rule_id)
    _show_preview(planned, as_json=as_json)


@app.command()
def apply(rule_id: RuleId, *, as_json: AsJson = False, user: User = None) -> None:
    """Label the transactions that a rule decides. What you labelled yourself stays."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        application = rules.apply_rule(session, user_id, rule_id)
    if as_json:
        _print_json(application)
        return
    results.print(
        f"Transactions labelled: {application.labels:,}. `lm rules undo {application.application_id}` takes that back."
    )


@app.command()
def undo(
    application_id: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="As `lm rules apply` printed it.")],
    *,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Take back what an application of a rule did, where nothing has happened since."""
    with session_for_user(acting_user(user)) as session:
        undone = rules.undo_application(session, application_id)
    if as_json:
        _print_json(undone)
        return
    results.print(undone.sentence)


@app.command()
def propose(
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 10,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Propose rules that your own labels support, each with the command that adds it."""
    user_id = acting_user(user)
    with session_for_user(user_id) as session:
        proposals = rules.propose_rules(session, user_id, limit=limit)
    if as_json:
        _print_json(proposals)
        return
    if not proposals:
        results.print(
            "Nothing to propose: no merchant without a rule has three labels that you gave it yourself and that agree."
        )
        return
    table = Table("rule", "category")
    for column in ("labels", "right", "at least"):
        table.add_column(column, justify="right")
    for each in proposals:
        figures = (f"{each.support:,}", f"{each.precision:.0%}", f"{each.lower:.0%}")
        table.add_row(describe_condition(each.rule.condition), each.rule.category, *figures)
    results.print(table)
    for each in proposals:
        results.print(adding_command(each.rule), soft_wrap=True)


def adding_command(draft: rules.RuleDraft) -> str:
    """Return the command that adds a proposed rule, for a shell."""
    (part,) = json.loads(draft.condition.to_json())["conditions"]
    options = {f"{part['field']}-{part['operator']}": part["value"], "category": draft.category, "name": draft.name}
    return " ".join(["lm rules add", *(f"--{option}={shlex.quote(value)}" for option, value in options.items())])


def _show_rule(rule: rules.RuleRevision, what: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(rule)
        return
    results.print(f"Rule {rule.rule_id} {what}.")
    _show_revisions([rule], title=None)
    results.print(f"Next: lm rules preview {rule.rule_id}")


def _show_revisions(revisions: Sequence[rules.RuleRevision], *, title: str | None) -> None:
    table = Table("revision", "since", "name", "asks", "category", "priority", title=title, title_justify="left")
    for each in revisions:
        asks = describe_condition(each.condition) if each.is_enabled else "out of force"
        since = f"{each.created_at.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(str(each.revision), since, each.name, asks, each.category, str(each.priority))
    results.print(table)


def _show_preview(planned: rules.RulePreview, *, as_json: bool) -> None:
    if as_json:
        _print_json(planned)
        return
    if planned.first:
        shown = (
            f", the latest {len(planned.first)} of {planned.changes:,}" if planned.changes > len(planned.first) else ""
        )
        table = Table("date", "description", title=f"Would change{shown}", title_justify="left")
        table.add_column("amount", justify="right", no_wrap=True)
        table.add_column("from")
        table.add_column("to")
        for change in planned.first:
            amount = f"{change.amount:,.2f}"
            table.add_row(str(change.date), change.description, amount, change.from_label or "", change.to_label)
        results.print(table)
    counts = Table("of the transactions that it matches", show_header=True)
    counts.add_column(f"{planned.matches:,}", justify="right")
    for what, count in (
        ("would change", planned.changes),
        ("have its category already", planned.labelled_same),
        ("you labelled otherwise, and stay", planned.labelled_otherwise),
        ("are decided by a rule above it", planned.overruled),
    ):
        counts.add_row(what, f"{count:,}")
    results.print(counts)


def _print_json(answer: Any) -> None:
    plain = TypeAdapter(Any).dump_python(answer, mode="json", by_alias=True)
    results.print_json(json.dumps(plain), indent=None)
