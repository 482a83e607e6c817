"""A household ledger that is hard in the ways real ones are, the same for the same seed.

It is for the demo and for tests. Whoever wrote the generator decided what can be learnt from it, so no
accuracy on it is ever quoted as a result.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from app.errors import InvalidInput
from app.services.sample.draws import Draws
from app.services.sample.period import period_ending
from app.services.sample.purchases import draw_purchases
from app.services.sample.regulars import draw_regulars
from app.services.sample.statements import write_statements

DEFAULT_MONTHS = 24
DEFAULT_END = date(2025, 10, 31)
WRONG_LABELS_PER_MILLE = 30

_ROWS_PER_MONTH = 250  # of one household; twelve months hold 3,000
_FEWEST_ROWS_PER_MONTH = 60
_EXTRA_PER_MILLE = 20  # twins and refunds that come on top of the purchases


def generate_ledger(
    *, seed: int, months: int = DEFAULT_MONTHS, end: date = DEFAULT_END, rows: int | None = None
) -> pl.DataFrame:
    """Invent the statements of one household or of many.

    No accuracy on this ledger is ever quoted as a result.

    Args:
        seed: Any integer from 0; the same seed gives the same rows on any machine and day.
        months: Calendar months covered; the last one holds `end`.
        end: Last day.
        rows: Size to aim at, met within a few per cent; by default one household's natural size, about 250
            rows a month. Larger ledgers hold more households, whose accounts are numbered from the second on.

    Returns:
        One row per posting in the order of date and time (rows without a time first), with columns date (Date),
        time (Time, null where the bank gives none), description, amount (Decimal(18, 2), spending negative),
        currency, account, mcc (String, null where the bank gives none), type (the bank's own, or null),
        category (what an import would claim; wrong in 3 % of rows) and true_category.

    Raises:
        InvalidInput: The seed is negative, or rows and months do not fit together.
    """
    if seed < 0:
        raise InvalidInput(f"A seed is 0 or a positive whole number, not {seed}. Give another --seed.")
    period = period_ending(end, months)
    size = _ROWS_PER_MONTH * months if rows is None else rows
    if size < _FEWEST_ROWS_PER_MONTH * months:
        raise InvalidInput(
            f"{months} months of a household hold at least {_FEWEST_ROWS_PER_MONTH * months} rows, and {size} were "
            "asked for. Give more --rows or fewer --months."
        )
    households = max(1, round(size / (_ROWS_PER_MONTH * months)))
    draws = Draws(seed)
    regulars = draw_regulars(draws, period, households)
    purchases = max(0, size - len(regulars)) * 1000 // (1000 + _EXTRA_PER_MILLE)
    postings = pl.concat([regulars, draw_purchases(draws, period, households, purchases)])
    return _with_import_labels(draws, write_statements(postings, period))


def write_ledger(frame: pl.DataFrame, path: Path | IO[bytes], *, categories: bool = True, truth: bool = False) -> None:
    """Write a ledger as CSV; a path that ends in .gz is compressed, without a time or a name in its header.

    Args:
        frame: What `generate_ledger` returns.
        path: Where to; or an open binary file, which gets plain CSV.
        categories: Keep the column `category`.
        truth: Keep the column `true_category`.

    Raises:
        InvalidInput: The folder of `path` does not exist.
    """
    if isinstance(path, Path) and not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent}. Create it, or write somewhere else.")
    left_out = [name for name, kept in (("category", categories), ("true_category", truth)) if not kept]
    kept = frame.drop(left_out)
    compressed = isinstance(path, Path) and path.suffix == ".gz"
    # Polars brings its own compressor, so the bytes do not depend on the zlib of the machine.
    kept.write_csv(path, time_format="%H:%M:%S", compression="gzip" if compressed else "uncompressed")


def _with_import_labels(draws: Draws, ledger: pl.DataFrame) -> pl.DataFrame:
    """Add `category`: the truth, but for 3 % of rows, which get any other category in use with equal chance."""
    in_use = ledger["true_category"].unique().sort()
    truth = ledger["true_category"].replace_strict(in_use, np.arange(len(in_use)), return_dtype=pl.Int64).to_numpy()
    shift = draws.below(len(in_use) - 1, len(ledger)) + 1
    wrong = draws.happens(WRONG_LABELS_PER_MILLE, len(ledger))
    claimed = np.where(wrong, (truth + shift) % len(in_use), truth)
    return ledger.insert_column(ledger.width - 1, in_use.rename("category")[claimed])
