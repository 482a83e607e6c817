"""What would be suggested otherwise, with the money it is about: the answer of `model_preview`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

Verdict = Literal["wrong → right", "right → wrong", "wrong → wrong"]


@dataclass(frozen=True)
class ChangedSuggestion:
    """A transaction whose suggestion would change.

    Attributes:
        currency: Of the amount; None where the bank did not say.
        before: What is suggested now; None for nothing. `before_confidence` is how sure that is.
        after: What would be.
        label: What the person has labelled it as; None where they have not.
        verdict: How the change looks beside that label; nothing is suggested counts as wrong. None without one.
    """

    txn_id: int
    date: dt.date
    description: str
    amount: Decimal
    currency: str | None
    before: str | None
    before_confidence: float | None
    after: str | None
    after_confidence: float | None
    label: str | None
    verdict: Verdict | None


@dataclass(frozen=True)
class Sum:
    """Money of one currency, whichever way it went; of no currency, what the bank gave none for."""

    currency: str | None
    amount: Decimal


@dataclass(frozen=True)
class ChangedMerchant:
    """A merchant with suggestions that would change.

    Attributes:
        changed: How many they are.
        sums: What they are about, of each currency.
        suggestions: Which they are, by date; `first_changes` may have left some out.
    """

    merchant: str
    changed: int
    sums: tuple[Sum, ...]
    suggestions: tuple[ChangedSuggestion, ...]


@dataclass(frozen=True)
class Preview:
    """What would change.

    Attributes:
        champion: The version that suggests now; None for the heuristics.
        champion_problem: Why the heuristics do though there is a champion, in a sentence; else None.
        since: The first day that was looked at.
        transactions: How many there are from then on.
        by_rule: Those that a rule of the person's own decides, and surely enough, whichever model there is.
        changed: How many suggestions would change.
        right_to_wrong: Of those that the person has labelled, how many were right and would not be any more.
        right_to_nothing: Those of them that nothing would be suggested for.
        wrong_to_right: Of those that the person has labelled, how many would be right and are not.
        nothing_to_right: Those of them without a suggestion today.
        sums: What the changes are about, of each currency, the one that most of them are in first.
        merchants: By the money that the changes are about, that of the first currency before the others.
    """

    version: int
    champion: int | None
    champion_problem: str | None
    since: dt.date
    until: dt.date
    transactions: int
    by_rule: int
    changed: int
    right_to_wrong: int
    right_to_nothing: int
    wrong_to_right: int
    nothing_to_right: int
    sums: tuple[Sum, ...]
    merchants: tuple[ChangedMerchant, ...]


def first_changes(found: Preview, most: int) -> Preview:
    """Leave out all but so many changes, those of the most money first; the figures stay those of all."""
    merchants = []
    for merchant in found.merchants:
        if most <= 0:
            break
        merchants.append(replace(merchant, suggestions=merchant.suggestions[:most]))
        most -= merchant.changed
    return replace(found, merchants=tuple(merchants))


def add_up(changes: Iterable[ChangedSuggestion]) -> tuple[Sum, ...]:
    """Add up the money of each currency, the one that most changes are in first."""
    amounts: defaultdict[str | None, list[Decimal]] = defaultdict(list)
    for change in changes:
        amounts[change.currency].append(abs(change.amount))
    ranked = sorted(amounts.items(), key=lambda item: (-len(item[1]), item[0] or ""))
    return tuple(Sum(currency, sum(some, Decimal(0))) for currency, some in ranked)


def group_by_merchant(
    changes: Sequence[ChangedSuggestion], merchants: Mapping[int, str], currencies: Sequence[str | None]
) -> tuple[ChangedMerchant, ...]:
    """Group changes by merchant, those of the most money first; a currency is compared with itself alone.

    Args:
        changes: All of them.
        merchants: Of each, by the transaction.
        currencies: The order in which they are looked at.
    """
    grouped: defaultdict[str, list[ChangedSuggestion]] = defaultdict(list)
    for change in changes:
        grouped[merchants[change.txn_id]].append(change)
    found = [ChangedMerchant(name, len(some), add_up(some), tuple(some)) for name, some in grouped.items()]

    def rank(merchant: ChangedMerchant) -> tuple[list[Decimal], str]:
        amounts = {each.currency: each.amount for each in merchant.sums}
        return [-amounts.get(currency, Decimal(0)) for currency in currencies], merchant.merchant

    return tuple(sorted(found, key=rank))
