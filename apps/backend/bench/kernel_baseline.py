"""The feature kernel as a plain loop over rows with `re`: what it would be without a dataframe library.

It reads the same word lists and gives the same features, for strings within ASCII, so the two can be timed against
each other and neither does less than the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from app.ml import text_patterns
from app.ml.features import FEATURE_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SATURDAY: Final = 5  # as datetime.weekday() counts

_NOISE: Final = re.compile(text_patterns.NOISE)
_LEADING_NOISE: Final = re.compile(text_patterns.LEADING_NOISE)
_TRAILING_NOISE: Final = re.compile(text_patterns.TRAILING_NOISE)
_NAMES_NOBODY: Final = re.compile(text_patterns.NAMES_NOBODY)
_PLACE_AFTER_NUMBER: Final = re.compile(text_patterns.PLACE_AFTER_NUMBER)
_HINT_SEPARATORS: Final = re.compile(text_patterns.HINT_SEPARATORS)


def _whole_tokens(phrases: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")


_CHANNELS: Final = {channel: _whole_tokens(phrases) for channel, phrases in text_patterns.CHANNEL_PHRASES.items()}
_SUBSCRIPTION: Final = _whole_tokens(text_patterns.SUBSCRIPTION_PHRASES)


def build_features_loop(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compute the features of each transaction, one after the other.

    Args:
        rows: Mappings with the keys of `features.TRANSACTION_SCHEMA`; descriptions within ASCII.

    Returns:
        One dictionary per row with the keys of `features.FEATURE_SCHEMA`.
    """
    features = []
    for row in rows:
        folded = _fold(row["description"])
        norm_desc = _NOISE.sub(" ", folded).strip(" ")
        words = [word for word in norm_desc.split() if word not in text_patterns.STOP_WORDS]
        posted_at, date = row["posted_at"], row["date"]
        features.append(
            {
                "txn_id": row["txn_id"],
                "ts_month": date.replace(day=1),
                "amount": row["amount"],
                "abs_amount": abs(row["amount"]),
                "merchant": _merchant(folded, norm_desc),
                "mcc": row["mcc"],
                "channel": _channel(row["channel_hint"], norm_desc),
                "hour_of_day": None if posted_at is None else posted_at.hour,
                "dow": date.weekday(),
                "is_weekend": date.weekday() >= _SATURDAY,
                "is_subscription": _SUBSCRIPTION.search(norm_desc) is not None,
                "norm_desc": norm_desc,
                "tokens": words[: text_patterns.MAX_TOKENS],
                "feature_version": FEATURE_VERSION,
            }
        )
    return features


def _fold(description: str) -> str:
    folded = description.lower()
    for written, meant in text_patterns.REWRITES.items():
        folded = folded.replace(written, meant)
    return folded


def _channel(hint: str | None, norm_desc: str) -> str | None:
    if hint is not None:
        known = text_patterns.CHANNEL_HINTS.get(_HINT_SEPARATORS.sub(" ", hint.lower()).strip(" "))
        if known is not None:
            return known
    for channel, phrases in _CHANNELS.items():
        if phrases.search(norm_desc):
            return channel
    return None


def _merchant(folded: str, norm_desc: str) -> str | None:
    if not norm_desc:
        return None
    headed = _LEADING_NOISE.sub("", norm_desc)
    if _NAMES_NOBODY.search(headed):
        headed = norm_desc
    place = _PLACE_AFTER_NUMBER.search(folded)
    name = headed.removesuffix(place.group(1)) if place else headed
    name = _TRAILING_NOISE.sub("", name)
    return headed if _NAMES_NOBODY.search(name) else name
