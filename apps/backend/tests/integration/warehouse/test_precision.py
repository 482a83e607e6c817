"""The specification's precision query says what the events themselves say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.db import session_for_jobs, session_for_user
from app.services.feedback import answer_suggestion
from app.services.ingest import ingest_statement
from app.services.labels import write_labels
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunModels

SPECIFIED = """
    SELECT
      suggestion_mode,
      COUNT(*) as suggestions,
      AVG(is_accepted) as acceptance_rate,
      SUM(is_correct_accept) / NULLIF(SUM(is_accepted), 0) as precision
    FROM marts.fct_suggestions_eval
    WHERE suggested_at >= '2025-11-01'
    GROUP BY suggestion_mode
"""
KNOWN = "".join(
    f"2025-01-{day:02},{shop},-{day}.00,card,{category}\n"
    for shop, category in (("ALDI LEEDS", "Groceries"), ("SHELL YORK", "Fuel"))
    for day in range(1, 16)
)
NEW = "".join(
    f"2025-02-{day:02},{draw},-{day}.50,card,\n" for day in range(1, 29) for draw in ("ALDI LEEDS", "SHELL YORK")
)


def test_precision_in_the_warehouse_equals_precision_computed_from_the_events(
    user_id: int, tmp_path: Path, run_models: RunModels
) -> None:
    file = tmp_path / "statement.csv"
    file.write_text("date,description,amount,account,category\n" + KNOWN + NEW)
    with session_for_user(user_id) as session:
        ingest_statement(session, user_id, file)
    draw = random.Random(5)  # noqa: S311 -- the same answers every time
    with session_for_user(user_id) as session:
        waiting = session.scalars(text("SELECT id FROM transactions WHERE category IS NULL ORDER BY id"))
        ids = [int(txn_id) for txn_id in waiting]
    made = suggest_now(user_id, ids).suggestions
    assert all(each.candidates for each in made)
    for each in made:
        action = draw.choice(["accept", "accept", "accept", "reject", None, "undone"])
        with session_for_user(user_id) as session:
            if action == "undone":
                answer_suggestion(session, user_id, each.event_id, "accept")
            elif action is not None:
                answer_suggestion(session, user_id, each.event_id, action)  # type: ignore[arg-type]
        with session_for_user(user_id) as session:
            if action == "undone":
                answer_suggestion(session, user_id, each.event_id, "undo")
            elif action == "accept" and draw.random() < 0.3:
                write_labels(session, {each.txn_id: draw.choice(["Groceries", "Fuel"])}, source="human")
    run_models("+fct_suggestions_eval", full_refresh=True)
    with session_for_jobs() as session:
        (row,) = session.execute(text(SPECIFIED))
    suggestions, rate, precision = computed(user_id)
    assert row.suggestion_mode == "heuristic"
    assert row.suggestions == suggestions == len(made)
    assert float(row.acceptance_rate) == pytest.approx(rate)
    assert float(row.precision) == pytest.approx(precision)
    assert 0 < precision < 1


def computed(user_id: int) -> tuple[int, float, float]:
    """Compute the same from the logs, in Python."""
    with session_for_user(user_id) as session:
        events = session.execute(text("SELECT id, txn_id, candidates FROM suggestion_events")).all()
        answers = session.execute(
            text("SELECT event_id, action, label FROM suggestion_feedback ORDER BY created_at, id")
        ).all()
        rows = session.execute(text("SELECT txn_id, label FROM transaction_labels"))
        labels: dict[int, str] = {row.txn_id: row.label for row in rows}
    last = {answer.event_id: answer for answer in answers}
    answered = [(event, last[event.id]) for event in events if event.id in last and last[event.id].action != "undo"]
    accepted = [event for event, answer in answered if answer.action == "accept"]
    right = [event for event in accepted if labels.get(event.txn_id) == event.candidates[0]["label"]]
    return len(events), len(accepted) / len(answered), len(right) / len(accepted)
