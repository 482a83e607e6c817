"""The log of suggestions as a challenger's queue: what is due, from where on, and what was passed over unscored.

What was scored stands in the log. What was skipped stands nowhere but in a counter that lives as long as the server, so
its number is kept in the folder that lives as long too: a process that begins again counts nothing twice.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.config import get_settings

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

# Of some, for what was made first need not have been numbered first.
_FIRST_DUE: Final = b"""
    SELECT min(id) FROM (
        SELECT id FROM suggestion_events
        WHERE created_at >= (
            SELECT created_at FROM model_deployments
            WHERE version = %(version)s AND action = 'challenge' ORDER BY id DESC LIMIT 1
        )
        ORDER BY created_at LIMIT 1000
    ) AS earliest
"""
_LAST_SCORED: Final = b"""
    SELECT served_event_id FROM suggestion_events
    WHERE served_event_id >= %(first)s AND model_version = %(version)s ORDER BY served_event_id DESC LIMIT 1
"""
# The next ones are found by number alone, which no statistics of the table are needed for.
_FOLLOWING: Final = b"""
    WITH following AS MATERIALIZED (
        SELECT
            id, user_id, created_at,
            source <> 'shadow' AND (source = 'model' OR inputs ? 'model')
                AND model_version IS DISTINCT FROM %(version)s AS can_be_scored
        FROM suggestion_events WHERE id > %(passed)s ORDER BY id LIMIT %(most)s
    )
    SELECT
        following.id,
        following.created_at < now() - make_interval(secs => %(settling)s),
        following.created_at < now() - make_interval(secs => %(longest)s),
        following.can_be_scored AND users.id IS NOT NULL
            AND CASE WHEN users.own_categories OR users.is_demo THEN users.id END IS NOT DISTINCT FROM %(category_set)s
    FROM following LEFT JOIN users ON users.id = following.user_id
    ORDER BY following.id
"""


class LoggedEvent(NamedTuple):
    """An event of the log, as it concerns a challenger.

    Attributes:
        is_settled: Whether it is old enough that all with a lower number can be seen.
        is_late: Whether it has waited too long.
        is_due: Whether the challenger is to be asked about it: somebody of its category set was suggested something by
            another model, or by the heuristics where a model would have been told the same.
    """

    event_id: int
    is_settled: bool
    is_late: bool
    is_due: bool


def last_passed(connection: psycopg.Connection[Any], version: int) -> int | None:
    """Return the number of the last event that a challenger need not be asked about any more.

    Its queue begins when it becomes challenger.

    Args:
        connection: Of the role lm_jobs.
        version: The challenger.

    Returns:
        None while nothing was suggested since.
    """
    ((first,),) = connection.execute(_FIRST_DUE, {"version": version}).fetchall()
    if first is None:
        return None
    scored = connection.execute(_LAST_SCORED, {"first": first, "version": str(version)}).fetchone()
    passed: int = max(first - 1, scored[0] if scored else 0, _read_skipped().get(str(version), 0))
    return passed


def read_following(
    connection: psycopg.Connection[Any],
    version: int,
    category_set: int | None,
    passed: int,
    *,
    settling: float,
    longest: float,
    most: int,
) -> list[LoggedEvent]:
    """Read the events that follow one, by number.

    Args:
        connection: Of the role lm_jobs.
        version: The challenger.
        category_set: Whose.
        passed: The number that they follow.
        settling: Seconds after which an event is settled.
        longest: Seconds after which it is late.
        most: How many.
    """
    chosen = {"version": str(version), "category_set": category_set, "passed": passed}
    limits = {"settling": settling, "longest": longest, "most": most}
    return [LoggedEvent(*row) for row in connection.execute(_FOLLOWING, chosen | limits)]


def keep_skipped(version: int, event_id: int) -> None:
    """Remember that events up to a number were counted, though not scored, for as long as the counters live."""
    path = _skipped_file()
    if path is not None:
        written = path.with_suffix(".new")
        written.write_text(json.dumps(_read_skipped() | {str(version): event_id}))
        written.replace(path)


def _read_skipped() -> dict[str, int]:
    path = _skipped_file()
    if path is None or not path.exists():
        return {}
    skipped: dict[str, int] = json.loads(path.read_text())
    return skipped


def _skipped_file() -> Path | None:
    run_dir = get_settings().run_dir
    return run_dir / "shadow-skipped.json" if run_dir else None
