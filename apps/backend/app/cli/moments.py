"""Moments on the command line: a date or a time, in UTC unless it says otherwise."""

from __future__ import annotations

import datetime as dt

from app.errors import InvalidInput


def moment_of(text: str, *, option: str = "--as-of") -> dt.datetime:
    """Read what an option was given.

    Raises:
        InvalidInput: It is neither a date nor a time.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{option} takes a date or time such as 2025-10-01 or 2025-10-01T12:00, not {text!r}."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
