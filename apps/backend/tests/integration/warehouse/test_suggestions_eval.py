"""The evaluation of suggestions is right however late the answer, the label or the erasure comes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from app.db import database_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ledger, RunModels

CANDIDATES = ('[{"label": "Food", "confidence": 0.8, "reasons": []}, {"label": "Fun"}]', '["Fun", "Food"]', "[]")


EVALUATION = "fct_suggestions_eval"


def evaluation(ledger: Ledger) -> list[tuple[Any, ...]]:
    return ledger.rows("SELECT * FROM marts.fct_suggestions_eval ORDER BY event_id")


def verdict(ledger: Ledger, event_id: int) -> tuple[Any, ...]:
    (row,) = ledger.rows(
        """
        SELECT is_accepted, is_correct_accept, is_correct_reject, has_independent_truth
        FROM marts.fct_suggestions_eval WHERE event_id = %s
        """,
        event_id,
    )
    return row


@pytest.mark.parametrize("seed", [1, 2])
def test_incremental_builds_end_where_a_full_refresh_does(ledger: Ledger, run_models: RunModels, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 -- the same sequence every time
    run_models(EVALUATION, full_refresh=True)
    for _ in range(4):
        for _ in range(40):
            do_something(ledger, draw)
        run_models(EVALUATION)
    kept = evaluation(ledger)
    run_models(EVALUATION, full_refresh=True)
    assert evaluation(ledger) == kept
    served = "SELECT count(*) FROM suggestion_events WHERE source <> 'shadow'"
    assert len(kept) == ledger.value(served) > 20


def do_something(ledger: Ledger, draw: random.Random) -> None:
    """Change one thing that the evaluation depends on; timestamps are as often old as new."""
    transactions = [row[0] for row in ledger.rows("SELECT id FROM transactions ORDER BY id")]
    events = [row[0] for row in ledger.rows("SELECT id FROM suggestion_events ORDER BY id")]
    users = [row[0] for row in ledger.rows("SELECT id FROM users ORDER BY id")]
    if len(transactions) < 5 or not events:
        txn_id = ledger.transaction(ledger.user(draw.choice(("ana", "ben"))))
        ledger.suggest(txn_id, CANDIDATES[0])
        return
    txn_id, event_id, label = draw.choice(transactions), draw.choice(events), draw.choice(("Food", "Fun", "Rent"))
    source = draw.choice(("rule", "model", "shadow"))
    at = draw.choice((None, "2025-11-03", "2025-10-01"))
    changes: dict[str, tuple[float, Callable[[], object]]] = {
        "suggest": (8, lambda: ledger.suggest(txn_id, draw.choice(CANDIDATES), source=source, at=at or "now()")),
        "answer": (8, lambda: ledger.answer(event_id, draw.choice(("accept", "reject", "undo")), label, at=at)),
        "label": (8, lambda: ledger.label(txn_id, label, draw.choice(("human", "rule", "import")))),
        "unlabel": (3, lambda: ledger.unlabel(txn_id)),
        "erase transaction": (1, lambda: ledger.connection.execute("DELETE FROM transactions WHERE id = %s", [txn_id])),
        "erase suggestion": (
            1,
            lambda: ledger.connection.execute("DELETE FROM suggestion_events WHERE id = %s", [event_id]),
        ),
        "erase history": (1, lambda: ledger.connection.execute("DELETE FROM label_events WHERE txn_id = %s", [txn_id])),
        "erase user": (0.2, lambda: ledger.connection.execute("DELETE FROM users WHERE id = %s", [draw.choice(users)])),
    }
    (change,) = draw.choices([change for _, change in changes.values()], [weight for weight, _ in changes.values()])
    change()


def test_an_answer_that_commits_after_younger_ones_were_seen_is_not_missed(
    ledger: Ledger, run_models: RunModels
) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    slow, quick = (ledger.suggest(txn_id, '["Food"]') for _ in range(2))
    url = database_url("jobs").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as late:
        late.execute("INSERT INTO suggestion_feedback (event_id, action) VALUES (%s, 'reject')", [slow])
        ledger.answer(quick, "reject")
        run_models(EVALUATION)
        assert verdict(ledger, slow)[0] is None
        late.commit()
    run_models(EVALUATION)
    assert verdict(ledger, slow)[0] == 0


def test_verdict_follows_the_label_for_as_long_as_it_changes(ledger: Ledger, run_models: RunModels) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    event_id = ledger.suggest(txn_id, '["Food"]')
    history = []
    for change in (
        lambda: None,
        lambda: ledger.accept(event_id, "Food"),
        lambda: ledger.label(txn_id, "Rent"),
        lambda: ledger.label(txn_id, "Food"),
        lambda: ledger.unlabel(txn_id),
        lambda: ledger.answer(event_id, "undo"),
        lambda: ledger.answer(event_id, "reject", "Rent"),
        lambda: ledger.label(txn_id, "Rent"),
        lambda: ledger.connection.execute("DELETE FROM transactions"),
    ):
        change()
        run_models(EVALUATION)
        history.append(verdict(ledger, event_id))
    assert history == [
        (None, None, None, False),
        (1, 1, None, False),  # its own label is no proof
        (1, 0, None, True),
        (1, 1, None, True),  # the person came back to it
        (1, 0, None, False),
        (None, None, None, False),
        (0, None, None, False),
        (0, None, 1, True),
        (0, None, None, False),
    ]


def test_a_merge_makes_what_was_suggested_and_the_label_one_and_an_undo_two(
    ledger: Ledger, run_models: RunModels, admin_connection: psycopg.Connection
) -> None:
    user_id = ledger.user("ana")
    txn_id = ledger.transaction(user_id)
    event_id = ledger.suggest(txn_id, '["Coffee"]')
    ledger.accept(event_id, "Coffee")
    ledger.label(txn_id, "Eating out")
    verdicts = []
    for change in (
        "SELECT 1",
        f"INSERT INTO category_names (user_id, name, shown_as) VALUES ({user_id}, 'Coffee', 'Eating out')",
        "UPDATE category_names SET valid_to = now()",
    ):
        admin_connection.execute(change)
        run_models(EVALUATION)
        verdicts.append(verdict(ledger, event_id)[1])
    assert verdicts == [0, 1, 0]


def test_precision_of_the_specification_is_a_fraction(ledger: Ledger, run_models: RunModels) -> None:
    user_id = ledger.user("ana")
    for number in range(4):
        txn_id = ledger.transaction(user_id)
        event_id = ledger.suggest(txn_id, '["Food"]', source="model")
        if number == 3:
            ledger.answer(event_id, "reject", "Rent")
        else:
            ledger.accept(event_id, "Food")
        if number == 2:
            ledger.label(txn_id, "Rent")
    ledger.suggest(ledger.transaction(user_id), '["Food"]', source="shadow")
    run_models(EVALUATION)
    ledger.connection.execute("SET search_path = public, marts")
    rows = ledger.rows("""
        SELECT
          suggestion_mode,
          COUNT(*) as suggestions,
          AVG(is_accepted) as acceptance_rate,
          SUM(is_correct_accept) / NULLIF(SUM(is_accepted), 0) as precision
        FROM fct_suggestions_eval
        WHERE suggested_at >= '2025-11-01'
        GROUP BY suggestion_mode
    """)
    ((mode, suggestions, acceptance_rate, precision),) = rows
    assert (mode, suggestions) == ("model", 4)
    assert float(acceptance_rate) == pytest.approx(3 / 4)
    assert float(precision) == pytest.approx(2 / 3)
