"""Ingest a statement: what a bank's file says becomes transactions, labels and features, all or nothing.

The file's rows are copied into a temporary table, so memory does not grow with the file and duplicates, twins and
replacements are decided by the database over the whole file at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb
from sqlalchemy import event

from app.db import driver_connection
from app.errors import InvalidInput
from app.services.ingest.labels import hold_back_categories, read_held_back, write_import_labels
from app.services.ingest.loading import MOST_KEPT_REJECTIONS, load_records
from app.services.ingest.transactions import (
    delete_missing,
    insert_transactions,
    match_transactions,
    restore_deleted,
    write_features,
)
from app.services.merchants import learn_aliases
from app.services.metrics import FEATURES_BUILT_TOTAL, INGEST_ROWS_TOTAL, LABELS_TOTAL
from app.services.statements import StatementOptions, inspect_statement, read_statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg
    from sqlalchemy.orm import Session

    from app.services.statements import StatementLayout

Action = Literal["append", "replace"]

REPORTED_REJECTIONS = 100
REPLACED_NOTHING = (
    "{rejected} records were rejected, and any of them may be a transaction that is stored, so nothing was marked "
    "deleted. Mend them and replace again."
)
KEPT_FIRST = "{rejected} records were rejected; the reasons of the first {kept} alone are kept."

OWN_CATEGORIES = (
    "The file brings categories of its own, so from now on these are the categories, with those in use before, and no "
    "longer the shared ones. `lm categories list` shows them, and `lm categories add` adds more."
)


@dataclass(frozen=True)
class Rejection:
    """A record of the file that is no transaction."""

    line: int
    reason: str


@dataclass(frozen=True)
class IngestResult:
    """What became of a file: rows = inserted + duplicates + rejected, always.

    Attributes:
        import_id: The row of `imports` that keeps this result.
        rows: Records in the file.
        inserted: New transactions, and deleted ones that came again.
        duplicates: Records that were there already.
        rejected: Records that are no transaction; the first 100,000 with reasons in `import_rejections`.
        deleted: Transactions that a replacement marked deleted, since the file no longer has them.
        labels: Labels of source import that are new or changed.
        warnings: What the reader should look at twice.
        rejections: The first of the rejected records.
        held_back: The categories that the file has for transactions of its last month, by transaction, where they
            were held back.
    """

    import_id: int
    rows: int
    inserted: int
    duplicates: int
    rejected: int
    deleted: int
    labels: int
    warnings: tuple[str, ...] = ()
    rejections: tuple[Rejection, ...] = field(default=())
    held_back: dict[int, str] = field(default_factory=dict)


def ingest_statement(  # noqa: PLR0913 -- keyword-only, and each is an option of its own
    session: Session,
    user_id: int,
    path: Path,
    *,
    file_name: str | None = None,
    action: Action = "append",
    options: StatementOptions | None = None,
    hold_back_last_month: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> IngestResult:
    """Ingest a file into a user's ledger inside the session's transaction.

    Args:
        session: A session of that user.
        user_id: Whose ledger.
        path: A CSV, OFX, QFX or QIF file, plain or gzip.
        file_name: What the person calls the file, where `path` is a temporary one.
        action: `append` adds what is new; `replace` makes the file's accounts hold exactly its rows within its dates.
        options: How to read the file where it does not say itself.
        hold_back_last_month: Do not import the categories of the file's last month that has any, but return them: for
            comparing suggestions with them.
        progress: Called with the number of records read so far, and of how many.

    Raises:
        AmbiguousInput: The file can be read in more than one way; the question names the option that decides.
        InvalidInput: The file is not a statement, or the action is unknown.
    """
    if action not in ("append", "replace"):
        raise InvalidInput(f"The action is append or replace, not {action!r}.")
    options = options or StatementOptions()
    name = printable(file_name or path.name)
    layout = inspect_statement(path, options)
    connection = driver_connection(session)
    # Two files of one user at once would both find a twin missing, so they take turns.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('ingest', %s))", [user_id])
    import_id = _open_import(connection, user_id, name, action, layout)

    def report(done: int) -> None:
        if progress:
            progress(done, layout.row_count)

    rows, rejected = load_records(connection, import_id, read_statement(path, layout, options), report)
    if hold_back_last_month:
        hold_back_categories(connection)
    learn_aliases(connection, user_id)
    inserted = insert_transactions(connection, user_id, import_id)
    match_transactions(connection, user_id, import_id)
    inserted += restore_deleted(connection)
    warnings = list(layout.warnings)
    if rejected > MOST_KEPT_REJECTIONS:
        warnings.append(KEPT_FIRST.format(rejected=rejected, kept=MOST_KEPT_REJECTIONS))
    deleted = 0
    if action == "replace" and rejected:
        warnings.append(REPLACED_NOTHING.format(rejected=rejected))
    elif action == "replace":
        deleted = delete_missing(connection, user_id)
    labels, brings_categories = write_import_labels(connection, user_id)
    if brings_categories:
        warnings.append(OWN_CATEGORIES)
    features = write_features(connection)
    counts = {"rows": rows + rejected, "inserted": inserted, "duplicates": rows - inserted, "rejected": rejected}
    connection.execute(
        "UPDATE imports SET (rows, inserted, duplicates, rejected) = "
        "(%(rows)s, %(inserted)s, %(duplicates)s, %(rejected)s) WHERE id = %(id)s",
        counts | {"id": import_id},
    )
    event.listen(session, "after_commit", partial(_count, counts, features, labels), once=True)
    return IngestResult(
        import_id=import_id,
        **counts,
        deleted=deleted,
        labels=labels,
        warnings=tuple(warnings),
        rejections=_first_rejections(connection, import_id),
        held_back=read_held_back(connection) if hold_back_last_month else {},
    )


def printable(text: str) -> str:
    """Leave out what PostgreSQL cannot store: NULs, and the bytes of file names that are no text."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _count(counts: dict[str, int], features: int, labels: int, _session: Session) -> None:
    for outcome in ("inserted", "duplicates", "rejected"):
        INGEST_ROWS_TOTAL.labels(outcome=outcome).inc(counts[outcome])
    FEATURES_BUILT_TOTAL.inc(features)
    LABELS_TOTAL.labels(source="import").inc(labels)


def _open_import(
    connection: psycopg.Connection[Any], user_id: int, file_name: str, action: Action, layout: StatementLayout
) -> int:
    return _scalar(
        connection,
        "INSERT INTO imports (user_id, file_name, action, layout) VALUES (%s, %s, %s, %s) RETURNING id",
        (user_id, file_name, action, Jsonb(layout.to_dict())),
    )


def _first_rejections(connection: psycopg.Connection[Any], import_id: int) -> tuple[Rejection, ...]:
    rows = connection.execute(
        "SELECT line, reason FROM import_rejections WHERE import_id = %s ORDER BY record LIMIT %s",
        (import_id, REPORTED_REJECTIONS),
    )
    return tuple(Rejection(line, reason) for line, reason in rows)


def _scalar(connection: psycopg.Connection[Any], query: str, parameters: tuple[Any, ...]) -> int:
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise LookupError(query)
    return int(row[0])
