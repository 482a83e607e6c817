"""Why a category is suggested, in sentences for the person: the particular before the general."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import iso18245

from app.ml.builtin_mccs import MCC_KEYS
from app.ml.hierarchical_prior import Share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.ml.hierarchical_prior import RankedLabel
    from app.services.asked_transactions import AskedTransaction
    from app.services.rules import ActiveRule, TrackRecord

_SILENT: Final = Share(0, 0, 0.0)


def tell_rule(rule: ActiveRule, record: TrackRecord | None) -> str:
    """Say that a rule of the user's decides, and how often it was right."""
    if record and record.total:
        return f'Your rule "{rule.name}" says so; it was right {_times(record.hits, record.total)}.'
    return f'Your rule "{rule.name}" says so.'


def tell_evidence(asked: AskedTransaction, level: RankedLabel, builtin_labels: Mapping[str, str]) -> list[str]:
    """Say what speaks for a candidate, the particular before the general."""
    label, merchant, builtin = level.label, asked.place.merchant.strip(), asked.place.builtin
    reasons = tell_counts(label, merchant, level.levels)
    if "shared" in level.levels and level.levels["shared"].hits:
        hits, total, _ = level.levels["shared"]
        reasons.append(f'{hits:,} of {total:,} other people here call "{merchant}" {label}.')
    is_named = builtin_labels.get(builtin) == label
    said = level.levels.get("builtin")
    if builtin and not reasons and (is_named or (said and said.hits)):
        if asked.mcc in MCC_KEYS:
            kind = iso18245.get_mcc(asked.mcc)
            reasons.append(f"The card scheme lists the merchant as {kind.iso_description or kind.range.description}.")
        elif is_named:
            reasons.append(f"Payments of this kind usually are {label}.")
        if said and said.hits:
            reasons.append(f"Payments of this kind were labelled {label} {_times(said.hits, said.total)}.")
    return reasons


def tell_counts(label: str, merchant: str, levels: Mapping[str, Share]) -> list[str]:
    """Say how often the user labelled this payment and this merchant so, the particular before the general.

    Args:
        label: The candidate.
        merchant: Of the transaction.
        levels: What MERCHANT_LEVELS say, of those that say anything.
    """
    account, description, at_merchant = (levels.get(level, _SILENT) for level in ("account", "description", "merchant"))
    reasons = []
    if account.hits and account.total != description.total:
        reasons.append(f"This same payment on this account was labelled {label} {_times(account.hits, account.total)}.")
    if description.hits:
        reasons.append(f"This same payment was labelled {label} {_times(description.hits, description.total)}.")
    if at_merchant.hits and at_merchant.total != description.total:
        reasons.append(f'"{merchant}" was labelled {label} {_times(at_merchant.hits, at_merchant.total)}.')
    return reasons


def _times(hits: int, total: int) -> str:
    if total == 1:
        return "once before" if hits else "not the one time before"
    return f"{hits:,} of {total:,} times"
