"""What a champion and its challenger suggested, written into the log as serving and the shadow do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import session_for_user
from app.services.feedback import answer_suggestion
from app.services.labels import write_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}

# What was suggested, what the challenger would have suggested, and what it was; "" where nobody says so.
RIGHT_WRONG = ("Groceries", "Fuel", "Groceries")
WRONG_RIGHT = ("Groceries", "Fuel", "Fuel")
BOTH_RIGHT = ("Fuel", "Fuel", "Fuel")
SILENT_RIGHT = ("", "Fuel", "Fuel")


@dataclass(frozen=True)
class Served:
    """How a suggestion came to be that was served.

    Attributes:
        version: Of the model that answered; None for the heuristics.
    """

    version: int | None
    mode: str = "auto"
    experiment: str | None = None
    arm: str | None = None


def play(
    connection: psycopg.Connection,
    ledger: Ledger,
    served: Served,
    challenger: int,
    said: Sequence[tuple[str, str, str]],
    *,
    accepting: bool = False,
) -> None:
    """Log what was suggested for a merchant each and what the challenger said, and later what it was.

    Args:
        connection: Of the superuser.
        ledger: Whose transactions, which are added.
        served: How all of them were answered.
        challenger: Its version.
        said: As RIGHT_WRONG.
        accepting: Whether what it was is told by accepting what was suggested, where that is right.
    """
    ids = ledger.add(*[f"2025-03-01,{stem(number)} SHOP,-{number}.00,card," for number in range(1, len(said) + 1)])
    truths, accepted = {}, []
    for txn_id, (first, second, truth) in zip(ids, said, strict=True):
        event_id = log_suggestion(connection, ledger, txn_id, [first] if first else [], served)
        connection.execute(
            """
            INSERT INTO suggestion_events (
                txn_id, user_id, mode, source, model_version, candidates, served_event_id, inputs
            ) VALUES (%s, %s, %s, 'shadow', %s, %s, %s, '{"milliseconds": 0.4}')
            """,
            [txn_id, ledger.user_id, served.mode, str(challenger), candidates([second]), event_id],
        )
        if accepting and first == truth:
            accepted.append(event_id)
        elif truth:
            truths[txn_id] = truth
    with session_for_user(ledger.user_id) as session:
        write_labels(session, truths, source="human")
        for event_id in accepted:
            answer_suggestion(session, ledger.user_id, event_id, "accept")


def log_suggestion(
    connection: psycopg.Connection, ledger: Ledger, txn_id: int, labels: Sequence[str], served: Served
) -> int:
    """Log that labels were suggested for a transaction, best first; return the event's id."""
    row: Any = connection.execute(
        """
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, model_version, candidates, experiment, arm)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id
        """,
        [
            txn_id,
            ledger.user_id,
            served.mode,
            "rule" if served.version is None else "model",
            None if served.version is None else str(served.version),
            candidates(labels),
            served.experiment,
            served.arm,
        ],
    ).fetchone()
    return int(row[0])


def candidates(labels: Sequence[str]) -> str:
    """Give candidates as events keep them, the first with a confidence of 0.9."""
    return json.dumps([{"label": label, "confidence": 0.9 - n / 10, "reasons": []} for n, label in enumerate(labels)])


def stem(number: int) -> str:
    """Give a merchant's name of its own to each number."""
    return "".join(chr(ord("A") + int(digit)) for digit in f"{number:04}") + "X"
