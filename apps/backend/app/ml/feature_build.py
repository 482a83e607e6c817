"""Build feature vectors for stored transactions: `python -m app.ml.feature_build`.

The batch job around the kernel. It reads transactions by id, computes their features and writes those that
differ from what is stored, each batch in a transaction of its own: killed anywhere, it is simply run again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from psycopg import sql
from sqlalchemy import func, select

from app.db import advisory_lock, copy_in, database_errors, driver_connection, read_frame, session_for_jobs
from app.errors import InvalidInput, LedgermillError
from app.ml.features import FEATURE_SCHEMA, TRANSACTION_SCHEMA, build_features
from app.orm_models import Transaction
from app.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

logger = logging.getLogger(__name__)

DEFAULT_DAYS: Final = 180
DEFAULT_BATCH_SIZE: Final = 50_000
MOST: Final = 500_000  # days and rows in a batch; beyond it lie the limits of dates and of memory


@dataclass(frozen=True)
class BuildResult:
    """How many transactions were looked at, and how many vectors were new or different."""

    processed: int
    written: int


def build_range(
    first: dt.date,
    last: dt.date,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Callable[[int, int | None], None] | None = None,
) -> BuildResult:
    """Build the features of every user's transactions in a span of days.

    Args:
        first: First day.
        last: Last day, included.
        batch_size: Transactions read, computed and committed at a time.
        progress: Called with the number of transactions done so far.
    """
    processed = written = 0
    with advisory_lock("feature_build"):
        for batch in _read_ahead(read_batches(first, last, batch_size)):
            features = differing_features(batch)
            if features.height:
                with session_for_jobs() as session:
                    written += write_features(driver_connection(session), features)
            processed += batch.height
            if progress:
                progress(processed, None)
    return BuildResult(processed, written)


def read_batches(first: dt.date, last: dt.date, batch_size: int) -> Iterator[pl.DataFrame]:
    """Read transactions in order of id, each beside the features that are stored for it.

    Yields:
        Frames of the kernel's columns and, with the prefix `stored_`, those of its result.
    """
    after_id = 0
    while True:
        with session_for_jobs() as session:
            connection = driver_connection(session)
            # Both tables are walked along their keys. Without statistics, as after a bulk load, the planner would
            # rather sort or hash everything once for each batch.
            connection.execute("SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off")
            batch = read_frame(connection, READ, READ_SCHEMA, (after_id, after_id, first, last, batch_size))
        if batch.is_empty():
            return
        yield batch
        after_id = batch.item(-1, "txn_id")


def _read_ahead(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Let the database read the next batch while this process works on the last one."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def differing_features(batch: pl.DataFrame) -> pl.DataFrame:
    """Compute the features of a batch that `read_batches` gave; return those that are not stored like that."""
    features = build_features(batch.select(TRANSACTION_SCHEMA.names()))
    spelled = features.with_columns(pl.col("tokens").list.join(" "))
    stored = batch.select(pl.col(f"stored_{name}").alias(name) for name in STORED)
    differs = pl.any_horizontal(spelled[name].ne_missing(stored[name]).alias(name) for name in STORED)
    return features.filter(pl.select(differs).to_series())


def write_features(connection: psycopg.Connection[Any], features: pl.DataFrame) -> int:
    """Store feature vectors, touching only rows that are new or differ; return how many.

    Sorted by key, so that two writers of the same rows wait for each other instead of deadlocking. As the last thing,
    servers are told whose they are, for they remember where these users' labels are.
    """
    open_staging(connection)
    stage_features(connection, features)
    written = connection.execute(UPSERT).rowcount
    if written:
        connection.execute("SELECT number_knowledge_of(%s)", [features["txn_id"].to_list()])
    return written


def open_staging(connection: psycopg.Connection[Any]) -> None:
    """Make the temporary table `incoming_features`, empty."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS incoming_features (LIKE ml_features INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    connection.execute("TRUNCATE incoming_features")


def stage_features(connection: psycopg.Connection[Any], features: pl.DataFrame) -> None:
    """Append feature vectors to `incoming_features`."""
    copy_in(connection, "incoming_features", features.with_columns(array_literal(pl.col("tokens"))))


def array_literal(tokens: pl.Expr) -> pl.Expr:
    """Write lists of tokens as PostgreSQL array literals; tokens hold neither quotes nor backslashes."""
    quoted = tokens.list.eval(pl.concat_str(pl.lit('"'), pl.element(), pl.lit('"')))
    return pl.concat_str(pl.lit("{"), quoted.list.join(","), pl.lit("}")).alias("tokens")


STORED: Final = tuple(name for name in FEATURE_SCHEMA if name != "txn_id")

READ_SCHEMA: Final = pl.Schema(
    dict(TRANSACTION_SCHEMA)
    | {f"stored_{name}": pl.String() if name == "tokens" else FEATURE_SCHEMA[name] for name in STORED}
)


def _read() -> str:
    # Booleans and arrays are spelled the way the frame has them; tokens hold no spaces.
    spelling = {name: f"ml_features.{name}" for name in STORED}
    spelling |= {name: f"ml_features.{name}::text" for name in STORED if FEATURE_SCHEMA[name] == pl.Boolean}
    spelling["tokens"] = "array_to_string(ml_features.tokens, ' ')"
    return f"""
        SELECT
            transactions.id, transactions.date, transactions.posted_at, transactions.amount,
            transactions.description, transactions.mcc, transactions.channel_hint, {", ".join(spelling.values())}
        FROM transactions
        LEFT JOIN ml_features ON ml_features.txn_id = transactions.id AND ml_features.txn_id > %s
        WHERE transactions.id > %s AND transactions.date BETWEEN %s AND %s
        ORDER BY transactions.id
        LIMIT %s
    """  # noqa: S608 -- the columns are the schema's


def _upsert() -> sql.Composed:
    columns = [sql.Identifier(name) for name in FEATURE_SCHEMA]
    values = [sql.Identifier(name) for name in STORED]
    return sql.SQL("""
        INSERT INTO ml_features ({columns})
        SELECT {columns} FROM incoming_features ORDER BY txn_id
        ON CONFLICT (txn_id) DO UPDATE SET ({values}) = ROW ({new})
        WHERE ({old}) IS DISTINCT FROM ({new})
    """).format(
        columns=sql.SQL(", ").join(columns),
        values=sql.SQL(", ").join(values),
        new=sql.SQL(", ").join(sql.SQL("excluded.{}").format(name) for name in values),
        old=sql.SQL(", ").join(sql.SQL("ml_features.{}").format(name) for name in values),
    )


READ: Final = _read()
UPSERT: Final = _upsert()


# --- the command ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = _parser().parse_args(arguments)
    try:
        with database_errors():
            run(options)
    except LedgermillError as error:
        logger.error("%s", error)  # noqa: TRY400 -- a sentence for the person, not a traceback
        return error.exit_code
    return 0


def run(options: argparse.Namespace) -> None:
    """Build what the options ask for."""
    first, last = _days(options)
    logger.info("Building features for %s to %s", first, last)
    with progress_of("transactions", total=count_transactions(first, last), logger=logger) as show:
        result = build_range(first, last, batch_size=options.batch_size, progress=show)
    logger.info("✅ Built %d feature vectors", result.processed)
    logger.info("%d of them were new or had changed", result.written)


def count_transactions(first: dt.date, last: dt.date) -> int:
    """Count the transactions of a span of days."""
    with session_for_jobs() as session:
        return session.scalar(select(func.count()).where(Transaction.date.between(first, last))) or 0


def _days(options: argparse.Namespace) -> tuple[dt.date, dt.date]:
    today = dt.datetime.now(dt.UTC).date()
    if options.all and options.end_date is None:
        with session_for_jobs() as session:
            first, last = session.execute(select(func.min(Transaction.date), func.max(Transaction.date))).one()
        return first or today, last or today
    if options.all:
        raise InvalidInput("--all and --end-date do not go together.")
    if (options.start_date is None) != (options.end_date is None):
        raise InvalidInput("--start-date and --end-date go together.")
    if options.start_date is not None:
        if options.start_date > options.end_date:
            raise InvalidInput(
                f"The range is inverted: --start-date {options.start_date} comes after --end-date {options.end_date}."
            )
        return options.start_date, options.end_date
    return today - dt.timedelta(days=options.days), today


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.ml.feature_build",
        description="Build the feature vectors of stored transactions; by default those of the last 180 days.",
    )
    span = parser.add_mutually_exclusive_group()
    span.add_argument("--days", type=_positive, default=DEFAULT_DAYS, help="the last DAYS days (default: 180)")
    span.add_argument("--start-date", type=_date, metavar="YYYY-MM-DD", help="first day, with --end-date")
    span.add_argument("--all", action="store_true", help="every transaction there is")
    parser.add_argument("--end-date", type=_date, metavar="YYYY-MM-DD", help="last day, included")
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=DEFAULT_BATCH_SIZE,
        help=f"transactions committed at a time (default: {DEFAULT_BATCH_SIZE})",
    )
    return parser


def _date(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a date like 2025-01-31") from None


def _positive(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or not 0 < int(value) <= MOST:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number above zero and up to {MOST:,}")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
