"""The merchant's name from the bank's string alone, without anything learnt."""

from __future__ import annotations

import polars as pl

from app.ml import text_patterns


def extract_merchant(folded: pl.Expr, norm_desc: pl.Expr) -> pl.Expr:
    """Name the merchant as people would recognise it: `SQ *BLUE BTL 0047 OAKLND` gives "blue btl".

    What a payment processor or card scheme puts before the name goes, then what stands behind it: the place that
    follows a store number, towns and countries, web domains and corporate suffixes. A strip that leaves nothing or
    only a kind of place ("parking", "university of") is undone: two names for one shop are cheap, one name for
    two shops is not.

    Args:
        folded: Descriptions as `features.fold` gives them.
        norm_desc: The same descriptions as `features.normalise` gives them.

    Returns:
        Lower-case names; null where norm_desc is empty, and never empty.
    """
    unprefixed = norm_desc.str.replace(text_patterns.LEADING_NOISE, "")
    headed = pl.when(unprefixed.str.contains(text_patterns.NAMES_NOBODY)).then(norm_desc).otherwise(unprefixed)
    place = folded.str.extract(text_patterns.PLACE_AFTER_NUMBER).fill_null("")
    name = headed.str.strip_suffix(place).str.replace(text_patterns.TRAILING_NOISE, "")
    kept = pl.when(name.str.contains(text_patterns.NAMES_NOBODY)).then(headed).otherwise(name)
    return pl.when(norm_desc != "").then(kept)
