"""What a category set can be taught with now, and at which moment that is."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from app.config import get_settings
from app.db import driver_connection, session_for_jobs
from app.errors import InvalidInput
from app.ml.dataset import read_training_set

if TYPE_CHECKING:
    import polars as pl

# A transaction stamps what it writes with the moment at which it began, and a request writes within this after it.
SETTLING: Final = dt.timedelta(seconds=1)
# How long those that are writing are waited for; one that takes longer, such as a large import, is seen the next time.
PATIENCE: Final = dt.timedelta(seconds=5)
_POLL_SECONDS: Final = 0.02


def settled_moment() -> dt.datetime:
    """Return a moment just behind, when those who were writing have ended: what was known at it changes no more."""
    with session_for_jobs() as session:
        # Our number is higher than those of who is writing; theirs are in every snapshot until they end.
        now = text("SELECT clock_timestamp() AS began, pg_current_xact_id()::text::bigint AS ours")
        row = session.execute(now).one()
        is_settled = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= :ours")
        patience = time.monotonic() + PATIENCE.total_seconds()
        while not session.execute(is_settled, {"ours": row.ours}).scalar_one() and time.monotonic() < patience:
            time.sleep(_POLL_SECONDS)
    moment: dt.datetime = row.began - SETTLING
    return moment


def read_rows(category_set: int | None, as_of: dt.datetime) -> pl.DataFrame:
    """Read the training set of a category set, with the installation's weights.

    Raises:
        InvalidInput: Nothing was labelled.
    """
    with session_for_jobs() as session:
        rows = read_training_set(
            driver_connection(session), as_of, category_set=category_set, weights=get_settings().label_weights
        )
    if not rows.height:
        raise InvalidInput(
            f"As of {as_of:%Y-%m-%d %H:%M} no transaction is labelled with one of these categories, so there is "
            "nothing to learn from: import a statement that has categories, or label transactions with "
            "`lm transactions categorise`."
        )
    return rows


def too_few(rows: pl.DataFrame, error: InvalidInput) -> InvalidInput:
    """Say how many labels an error is about that says that they are too few."""
    first, last = rows["date"][0], rows["date"][-1]
    return InvalidInput(f"{rows.height:,} labelled transactions, from {first} to {last}, are not enough. {error}")
