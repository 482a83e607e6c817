"""What a transaction is by what everybody knows: its merchant category code and the words of its description.

Nothing here is learnt and no brand is known; that is what labels are for. The answer is the lasting key of a category
of the default set, such as "food.groceries".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from app.ml.builtin_mccs import MCC_KEYS, VAGUE_MCC_KEYS
from app.ml.builtin_words import CHANNELS, INCOME, INCOME_LAST_RESORT, SPENDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# For so few rows looking each run of words up is faster than preparing the search for all phrases at once.
FEW_ROWS: Final = 500

_CASH: Final = "transfers.cash"
_CHANNELS_RECEIVED: Final = CHANNELS | {"interest": "income.interest"}


def _listed(sections: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give each phrase's key, in the order listed; of a phrase that is listed twice the first one counts."""
    keys: dict[str, str] = {}
    for key, phrases in sections:
        for phrase in phrases.split(","):
            keys.setdefault(" ".join(phrase.split()), key)
    return keys


def _ranked(keys: Mapping[str, str]) -> dict[str, str]:
    """Put phrases of more words first, otherwise as listed."""
    return {phrase: keys[phrase] for phrase in sorted(keys, key=lambda phrase: -phrase.count(" "))}


# The phrases of either direction in order of precedence, with their keys.
_SPENT: Final = _ranked(_listed(SPENDING))
_LAST_RESORT: Final = {phrase: key for phrase, key in _listed(INCOME_LAST_RESORT).items() if phrase not in _SPENT}
_RECEIVED: Final = _ranked(_listed([*INCOME, *SPENDING])) | _LAST_RESORT
_SPENT_RANKS: Final = {phrase: rank for rank, phrase in enumerate(_SPENT)}
_RECEIVED_RANKS: Final = {phrase: rank for rank, phrase in enumerate(_RECEIVED)}
_MOST_WORDS: Final = max(phrase.count(" ") for phrase in _RECEIVED) + 1

BUILTIN_KEYS: Final = frozenset(
    {_CASH, *MCC_KEYS.values(), *VAGUE_MCC_KEYS.values(), *_RECEIVED.values(), *_SPENT.values()}
    | {*CHANNELS.values(), *_CHANNELS_RECEIVED.values()}
)
"""Every key that `builtin_categories` can return."""


def builtin_categories(features: pl.DataFrame) -> pl.Series:
    """Say what transactions are by built-in knowledge alone.

    A merchant category code that says what is sold beats everything. A cash machine gives cash. Then the description's
    words speak: the phrase with the most words wins, then the one listed first in `builtin_words`. Where they are
    silent, a vague code and then the channel may still tell. Income is only what comes in; money that comes in may also
    be a refund of spending.

    Args:
        features: With norm_desc, mcc, channel (each nullable) and amount, as in `features.FEATURE_SCHEMA`.

    Returns:
        The key of a category of the default set per row, null where nothing is known; named builtin_category.
    """
    if features.height <= FEW_ROWS:
        few = features.select("norm_desc", "mcc", "channel", _IS_RECEIVED).iter_rows()
        return pl.Series("builtin_category", [builtin_category(*row) for row in few], dtype=pl.String)
    # The search is prepared anew for every chunk.
    rows = features.select("norm_desc", "mcc", "channel", _IS_RECEIVED).rechunk()
    received = rows["is_received"]
    said = rows.select(_KEY_SPENT_FOR).to_series()
    if received.any():
        said = said.scatter(received.arg_true(), rows.filter(received).select(_KEY_RECEIVED_FOR).to_series())
    return rows.select(
        pl.coalesce(
            pl.col("mcc").replace_strict(MCC_KEYS, default=None, return_dtype=pl.String),
            pl.when(pl.col("channel") == "atm").then(pl.lit(_CASH)),
            said.alias("said"),
            pl.col("mcc").replace_strict(VAGUE_MCC_KEYS, default=None, return_dtype=pl.String),
            pl.when(received)
            .then(pl.col("channel").replace_strict(_CHANNELS_RECEIVED, default=None, return_dtype=pl.String))
            .otherwise(pl.col("channel").replace_strict(CHANNELS, default=None, return_dtype=pl.String)),
        ).alias("builtin_category")
    ).to_series()


def builtin_category(norm_desc: str | None, mcc: str | None, channel: str | None, is_received: bool) -> str | None:  # noqa: FBT001 -- a row's column
    """Say the same of one row as `builtin_categories` of many."""
    if mcc in MCC_KEYS:
        return MCC_KEYS[mcc]
    if channel == "atm":
        return _CASH
    keys, ranks = (_RECEIVED, _RECEIVED_RANKS) if is_received else (_SPENT, _SPENT_RANKS)
    words = (norm_desc or "").split(" ")
    runs = (
        " ".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + _MOST_WORDS, len(words)) + 1)
    )
    best = min((run for run in runs if run in ranks), key=ranks.__getitem__, default=None)
    if best is not None:
        return keys[best]
    return VAGUE_MCC_KEYS.get(mcc or "") or (_CHANNELS_RECEIVED if is_received else CHANNELS).get(channel or "")


def _said(keys: Mapping[str, str]) -> pl.Expr:
    # The spaces on both sides of phrase and description keep the match to whole words.
    phrases = [f" {phrase} " for phrase in keys]
    found = pl.format(" {} ", pl.col("norm_desc")).str.extract_many(phrases, overlapping=True)
    rank = found.list.eval(pl.element().cast(pl.Enum(phrases)).to_physical()).list.min()
    return pl.lit(pl.Series(list(keys.values()))).gather(rank)


_IS_RECEIVED: Final = (pl.col("amount") > 0).fill_null(value=False).alias("is_received")
_KEY_SPENT_FOR: Final = _said(_SPENT)
_KEY_RECEIVED_FOR: Final = _said(_RECEIVED)
