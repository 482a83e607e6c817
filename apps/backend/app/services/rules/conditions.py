"""What a rule may ask of a transaction: a small language, stored as JSON, that Polars can answer for many rows at once.

There is deliberately no negation and no nesting. A rule that needs them is two rules with different priorities, which
can be read, previewed and measured one by one.
"""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

import polars as pl
from polars.exceptions import ComputeError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.errors import InvalidInput
from app.services.storable_text import storable

MOST_CONDITIONS: Final = 20
LONGEST_TEXT: Final = 200
MOST_PRIORITY: Final = 1000
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

# A compiled pattern may take a tenth of what the engine allows: it is compiled for each answer, beside the others'.
PATTERN_COPIES: Final = 10


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return storable(value)


def _with_cents(amount: Decimal) -> Decimal:
    # 1E+2 and 100 are one amount, and read as one.
    return amount.quantize(Decimal("0.01"))


def _every_day_once(days: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(days)) < len(days):
        raise ValueError("names a day twice")
    return tuple(sorted(days))


RuleText = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), AfterValidator(_not_blank)]
Money = Annotated[
    Decimal, Field(ge=0, max_digits=18, decimal_places=2, allow_inf_nan=False), AfterValidator(_with_cents)
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextCondition(_Part):
    """The description, or the merchant as the bank or the person calls it, holds, is or matches a text."""

    field: Literal["description", "merchant"]
    operator: Literal["contains", "equals", "regex"]
    value: RuleText


class AmountCondition(_Part):
    """The amount, whichever way the money went, lies between two bounds; both belong to the range."""

    field: Literal["amount"]
    minimum: Money | None = None
    maximum: Money | None = None

    @model_validator(mode="after")
    def _some_range(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("needs a minimum or a maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("has a minimum above its maximum")
        return self


class SignCondition(_Part):
    """Money went out or came in; an amount of zero is neither."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    field: Literal["sign"]
    is_: Literal["spending", "income"] = Field(alias="is")


class AccountCondition(_Part):
    """The transaction is on this account."""

    field: Literal["account"]
    equals: RuleText


class MccCondition(_Part):
    """The card scheme's merchant category code is this."""

    field: Literal["mcc"]
    equals: Annotated[str, Field(pattern="^[0-9]{4}$")]


class WeekdayCondition(_Part):
    """The transaction is of one of these days, 0 for Monday."""

    field: Literal["weekday"]
    days: Annotated[
        tuple[Annotated[int, Field(ge=0, le=6, strict=True)], ...],
        Field(min_length=1, max_length=7),
        AfterValidator(_every_day_once),
    ]


Part = Annotated[
    TextCondition | AmountCondition | SignCondition | AccountCondition | MccCondition | WeekdayCondition,
    Field(discriminator="field"),
]


class Condition(_Part):
    """What a transaction must be like for a rule to match it: all of its conditions hold, or any."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "match": "all",
                    "conditions": [
                        {"field": "merchant", "operator": "equals", "value": "blue btl"},
                        {"field": "amount", "maximum": "20.00"},
                    ],
                }
            ]
        }
    )

    match: Literal["all", "any"]
    conditions: Annotated[tuple[Part, ...], Field(min_length=1, max_length=MOST_CONDITIONS)]

    def to_json(self) -> str:
        """Return the JSON that is stored: no bound that is not there, money as text."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class RuleDraft(BaseModel):
    """A rule as a person writes it: what it asks, what the category then is, and how it stands to other rules."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "Coffee on workdays",
                    "condition": {
                        "match": "all",
                        "conditions": [
                            {"field": "merchant", "operator": "equals", "value": "blue btl"},
                            {"field": "weekday", "days": [0, 1, 2, 3, 4]},
                        ],
                    },
                    "category": "Eating out",
                    "priority": 10,
                }
            ]
        },
    )

    name: RuleText
    condition: Condition
    category: RuleText
    priority: Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY, strict=True)] = 0


def describe_condition(condition: Condition) -> str:
    """Say what a condition asks, on one line for a person."""
    return (" and " if condition.match == "all" else " or ").join(_describe(part) for part in condition.conditions)


def _describe(part: Part) -> str:
    match part:
        case TextCondition():
            verb = "matches" if part.operator == "regex" else part.operator
            described = f'{part.field} {verb} "{part.value}"'
        case AmountCondition(minimum=minimum, maximum=maximum):
            bounds = [
                f"{word} {bound:,.2f}" for word, bound in (("least", minimum), ("most", maximum)) if bound is not None
            ]
            described = "amount at " + ", at ".join(bounds)
        case SignCondition(is_=described):
            pass
        case AccountCondition() | MccCondition():
            described = f'{part.field} equals "{part.equals}"'
        case WeekdayCondition(days=days):
            described = "on " + ", ".join(WEEKDAYS[day] for day in days)
    return described


def engine_pattern(pattern: str) -> str:
    """Return what the engine compiles for a pattern: one for any case, and for text in composed form (NFC)."""
    return f"(?i){unicodedata.normalize('NFC', pattern)}"


def check_patterns(condition: Condition) -> None:
    """Make sure that every regular expression of a condition can be matched, in time linear in the text.

    Raises:
        InvalidInput: One does not compile, or compiles to something too large.
    """
    for part in condition.conditions:
        if isinstance(part, TextCondition) and part.operator == "regex":
            _check_pattern(part.value)


def _check_pattern(pattern: str) -> None:
    fault = _fault_of(pattern)
    if fault is not None and "size limit" not in fault:
        raise InvalidInput(
            "A regular expression of the rule cannot be used: look-around, (?=…) or (?<!…), and back-references, \\1, "
            "are not supported, and brackets must be closed. Write what follows or precedes as part of the expression, "
            "or use several conditions."
        )
    # Only the size of the copies matters, so they stand one after the other; a line break ends a comment, if any.
    fault = fault or _fault_of("\n".join([pattern] * PATTERN_COPIES))
    if fault is not None and "size limit" in fault:
        raise InvalidInput(
            "A regular expression of the rule is too large once its repetitions are written out, such as a{1000}{1000} "
            "or \\w{300}. Use smaller counts, or + and *, which cost nothing."
        )
    if fault is not None:
        raise InvalidInput("A regular expression of the rule names its groups; leave the names out.")


def _fault_of(pattern: str) -> str | None:
    try:
        pl.Series([""]).str.contains(engine_pattern(pattern))
    except ComputeError as error:
        # The lines after the first repeat the pattern.
        return str(error).partition("\n")[0]
    return None
