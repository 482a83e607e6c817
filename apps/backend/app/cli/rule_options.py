"""The options that say what a rule asks, and the rule that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError

from app.errors import InvalidInput
from app.services.rules import RuleDraft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_ASKED = "What it asks of a transaction"
_GIVES = "What it gives"

Texts = list[str] | None
DescriptionContains = Annotated[
    Texts, typer.Option(metavar="TEXT", help="The bank's text holds this.", rich_help_panel=_ASKED)
]
DescriptionEquals = Annotated[
    Texts, typer.Option(metavar="TEXT", help="The bank's text is this.", rich_help_panel=_ASKED)
]
MerchantContains = Annotated[
    Texts, typer.Option(metavar="TEXT", help="The merchant's name holds this.", rich_help_panel=_ASKED)
]
MerchantEquals = Annotated[
    Texts, typer.Option(metavar="TEXT", help="The merchant's name is this.", rich_help_panel=_ASKED)
]
Regex = Annotated[
    Texts,
    typer.Option(metavar="PATTERN", help="The bank's text matches this regular expression.", rich_help_panel=_ASKED),
]
MerchantRegex = Annotated[
    Texts,
    typer.Option(metavar="PATTERN", help="The merchant's name matches this one.", rich_help_panel=_ASKED),
]
Min = Annotated[
    str | None, typer.Option("--min", metavar="AMOUNT", help="At least so much, in or out.", rich_help_panel=_ASKED)
]
Max = Annotated[
    str | None, typer.Option("--max", metavar="AMOUNT", help="At most so much, in or out.", rich_help_panel=_ASKED)
]
Income = Annotated[
    bool | None, typer.Option("--income/--spending", help="Money came in, or went out.", rich_help_panel=_ASKED)
]
Account = Annotated[Texts, typer.Option(metavar="NAME", help="It is on this account.", rich_help_panel=_ASKED)]
Mcc = Annotated[
    Texts, typer.Option(metavar="CODE", help="The card scheme's code, four digits.", rich_help_panel=_ASKED)
]
Weekday = Annotated[
    Texts,
    typer.Option(metavar="DAY", help="It is of this day: mon … sun. Several may be given.", rich_help_panel=_ASKED),
]
AnyOf = Annotated[
    bool, typer.Option("--any", help="One of these is enough; else all must hold.", rich_help_panel=_ASKED)
]
Category = Annotated[str | None, typer.Option(help="What its transactions are.", rich_help_panel=_GIVES)]
Priority = Annotated[
    int | None, typer.Option(help="The highest decides, -1000 to 1000; 0 at first.", rich_help_panel=_GIVES)
]
Name = Annotated[str | None, typer.Option(help="What you call it.", rich_help_panel=_GIVES)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Store nothing; show what applying it would change.")]


def default_name(asked: Sequence[Mapping[str, Any]], category: str) -> str:
    """Call a rule after the first text that it looks for."""
    texts = [part["value"] for part in asked if "value" in part]
    return f"{texts[0]} is {category}" if texts else f"{category}, by {asked[0]['field']}"


def text_parts(texts: Mapping[tuple[str, str], Sequence[str] | None]) -> list[dict[str, Any]]:
    """Give the conditions on texts, by field and operator."""
    return [
        {"field": field, "operator": operator, "value": value}
        for (field, operator), values in texts.items()
        for value in values or ()
    ]


def other_parts(
    amount: tuple[str | None, str | None],
    income: bool | None,  # noqa: FBT001 -- None, true and false say three things
    account: Sequence[str] | None,
    mcc: Sequence[str] | None,
    weekday: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """Give the other conditions; each takes the option's value as it was typed.

    Raises:
        InvalidInput: A weekday is none.
    """
    parts: list[dict[str, Any]] = []
    if amount != (None, None):
        parts.append({"field": "amount", "minimum": amount[0], "maximum": amount[1]})
    if income is not None:
        parts.append({"field": "sign", "is": "income" if income else "spending"})
    parts += [{"field": "account", "equals": name} for name in account or ()]
    parts += [{"field": "mcc", "equals": code} for code in mcc or ()]
    if weekday:
        parts.append({"field": "weekday", "days": [_weekday(day) for day in weekday]})
    return parts


def _weekday(name: str) -> int:
    beginning = name.strip().lower()[:3]
    if beginning not in WEEKDAYS:
        raise InvalidInput(f"--weekday takes {', '.join(WEEKDAYS)}.")
    return WEEKDAYS.index(beginning)


def read_draft(fields: dict[str, Any]) -> RuleDraft:
    """Make a rule of what the options gave.

    Raises:
        InvalidInput: It is not of the rules' language.
    """
    try:
        return RuleDraft.model_validate(fields)
    except ValidationError as error:
        # A part that is wrong makes the list of parts wrong too, which says nothing more.
        faults = [f"{each['loc'][-1]}: {each['msg']}" for each in error.errors() if each["type"] != "too_short"]
        raise InvalidInput(f"The rule cannot be stored. {'; '.join(faults)}.") from None
