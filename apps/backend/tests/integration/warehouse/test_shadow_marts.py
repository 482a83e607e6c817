"""What challengers say in the shadow is judged as late as the truth comes, and an accept is no proof against them."""

from __future__ import annotations

import random
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.config import WAREHOUSE_DIR
from app.db import session_for_jobs
from app.ml.sequential import compare_on_same_answers
from app.services.challenger_evidence import read_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Dbt, Ledger, RunModels

MARTS = ("+fct_shadow_comparisons", "fct_shadow_agreement")
MODEL: dict[str, Any] = {"source": "model", "version": "1"}
RULE: dict[str, Any] = {"source": "rule"}


def verdict(ledger: Ledger, event_id: int) -> tuple[Any, ...]:
    (row,) = ledger.rows(
        """
        SELECT champion_is_correct, challenger_is_correct, is_answered, has_independent_truth
        FROM marts.fct_shadow_comparisons WHERE served_event_id = %s
        """,
        event_id,
    )
    return row


@pytest.mark.parametrize("seed", [3, 4])
def test_incremental_builds_end_where_a_full_refresh_does(ledger: Ledger, run_models: RunModels, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 -- the same sequence every time
    ledger.suggest(ledger.transaction(ledger.user("ana")), '["Food"]')
    run_models(*MARTS, full_refresh=True)
    for _ in range(3):
        for _ in range(50):
            do_something(ledger, draw)
        run_models(*MARTS)
    kept = ledger.rows("SELECT * FROM marts.fct_shadow_comparisons ORDER BY comparison")
    run_models(*MARTS, full_refresh=True)
    assert ledger.rows("SELECT * FROM marts.fct_shadow_comparisons ORDER BY comparison") == kept
    assert len(kept) == ledger.value("SELECT count(*) FROM suggestion_events WHERE source = 'shadow'") > 15


def do_something(ledger: Ledger, draw: random.Random) -> None:
    """Change one thing that a comparison depends on."""
    transactions = [row[0] for row in ledger.rows("SELECT id FROM transactions ORDER BY id")]
    served = [row[0] for row in ledger.rows("SELECT id FROM suggestion_events WHERE source <> 'shadow' ORDER BY id")]
    if len(transactions) < 5 or not served:
        ledger.suggest(ledger.transaction(ledger.user(draw.choice(("ana", "ben")))), '["Food"]')
        return
    txn_id, event_id, label = draw.choice(transactions), draw.choice(served), draw.choice(("Food", "Fun", "Rent"))
    candidates, version = draw.choice(('["Fun", "Food"]', '["Food"]', "[]")), draw.choice(("2", "3"))
    beside = ledger.rows("SELECT model_version FROM suggestion_events WHERE served_event_id = %s", event_id)
    rename = "INSERT INTO category_names (user_id, name, shown_as) SELECT user_id, 'Fun', 'Food' FROM transactions"
    changes: dict[str, tuple[float, Callable[[], object]]] = {
        "suggest": (6, lambda: ledger.suggest(txn_id, candidates)),
        "shadow": (9, lambda: (version,) in beside or ledger.shadow(event_id, candidates, version=version)),
        "answer": (6, lambda: ledger.answer(event_id, draw.choice(("accept", "reject", "undo")), label)),
        "accept": (4, lambda: accept_if_it_is_there(ledger, event_id, label)),
        "label": (6, lambda: ledger.label(txn_id, label, draw.choice(("human", "rule", "import")))),
        "unlabel": (2, lambda: ledger.unlabel(txn_id)),
        "rename": (0.5, lambda: ledger.connection.execute(f"{rename} WHERE id = %s ON CONFLICT DO NOTHING", [txn_id])),
        "undo renames": (0.5, lambda: ledger.connection.execute("UPDATE category_names SET valid_to = now()")),
        "erase transaction": (1, lambda: ledger.connection.execute("DELETE FROM transactions WHERE id = %s", [txn_id])),
        "erase served": (
            1,
            lambda: ledger.connection.execute("DELETE FROM suggestion_events WHERE id = %s", [event_id]),
        ),
        "erase shadow": (
            3,
            lambda: ledger.connection.execute("DELETE FROM suggestion_events WHERE served_event_id = %s", [event_id]),
        ),
        "erase user": (0.2, lambda: ledger.connection.execute("DELETE FROM users WHERE name = 'ben'")),
    }
    (change,) = draw.choices([change for _, change in changes.values()], [weight for weight, _ in changes.values()])
    change()


def accept_if_it_is_there(ledger: Ledger, event_id: int, label: str) -> None:
    query = "SELECT 1 FROM transactions WHERE id = (SELECT txn_id FROM suggestion_events WHERE id = %s)"
    if ledger.rows(query, event_id):
        ledger.accept(event_id, label)


def test_a_verdict_comes_with_the_truth_and_goes_with_it(ledger: Ledger, run_models: RunModels) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    event_id = ledger.suggest(txn_id, '["Food"]')
    ledger.shadow(event_id, '["Fun"]')
    changes: tuple[Callable[[], None], ...] = (
        lambda: None,
        lambda: ledger.accept(event_id, "Food"),
        lambda: ledger.label(txn_id, "Fun"),
        lambda: ledger.label(txn_id, "Rent", "import"),
        lambda: ledger.label(txn_id, "Fun", "rule"),
        lambda: ledger.unlabel(txn_id),
    )
    history = []
    for change in changes:
        change()
        run_models(*MARTS)
        history.append(verdict(ledger, event_id))
    assert history == [
        (None, None, False, False),
        (1, 0, True, False),  # of course: Food was shown, and Fun was not
        (0, 1, True, True),
        (0, 0, True, True),
        (None, None, False, False),  # a rule says what another engine says
        (None, None, False, False),
    ]


def test_an_accept_of_a_later_suggestion_is_no_independent_truth_of_an_earlier_one(
    ledger: Ledger, run_models: RunModels
) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    first, second = (ledger.suggest(txn_id, '["Food"]') for _ in range(2))
    ledger.shadow(first, '["Fun"]')
    ledger.accept(second, "Food")
    run_models(*MARTS)
    assert verdict(ledger, first) == (1, 0, True, False)
    ((loses, independently),) = ledger.rows("SELECT losses, independent_losses FROM marts.fct_shadow_agreement")
    assert (loses, independently) == (1, 0)


def test_a_label_that_was_there_before_is_no_verdict(ledger: Ledger, run_models: RunModels) -> None:
    txn_id = ledger.transaction(ledger.user("ana"))
    ledger.label(txn_id, "Fun", "import")
    event_id = ledger.suggest(txn_id, '["Food"]', at="now()")
    ledger.shadow(event_id, '["Fun"]')
    run_models(*MARTS)
    assert verdict(ledger, event_id) == (None, None, False, False)
    ledger.label(txn_id, "Fun", "human")
    run_models(*MARTS)
    assert verdict(ledger, event_id) == (0, 1, True, True)


def test_accepting_whatever_is_shown_favours_the_champion_and_independent_truth_does_not(
    ledger: Ledger, run_models: RunModels
) -> None:
    draw = random.Random(11)  # noqa: S311 -- the same rows every time
    user_id = ledger.user("ana")
    for _ in range(60):
        # The two are right equally often, and half of the people accept whatever they see.
        shown, other = draw.sample(("Food", "Fun"), 2)
        txn_id = ledger.transaction(user_id)
        event_id = ledger.suggest(txn_id, f'["{shown}"]')
        ledger.shadow(event_id, f'["{other}"]')
        if draw.random() < 0.5:
            ledger.accept(event_id, shown)
        else:
            ledger.label(txn_id, draw.choice((shown, other)))
    run_models(*MARTS)
    ((all_of_them, independent, truths),) = ledger.rows(
        "SELECT paired_difference, independent_difference, independent_truths FROM marts.fct_shadow_agreement"
    )
    assert all_of_them < -0.3
    assert abs(independent) < 0.3
    assert 20 < truths < 40


def test_agreement_adds_up_to_the_paired_comparison_of_the_same_rows(ledger: Ledger, run_models: RunModels) -> None:
    draw = random.Random(5)  # noqa: S311 -- the same rows every time
    user_id = ledger.user("ana")
    first: dict[int, int] = {}
    expected = {"comparisons": 0, "agreements": 0, "champion": 0, "challenger": 0}
    for txn_id in [ledger.transaction(user_id) for _ in range(40)] * 2:
        truth, champion, challenger = draw.choices(("Food", "Fun", None), (5, 4, 1), k=3)
        at = f"2025-11-{draw.randrange(1, 5):02}T12:00Z"
        event_id = ledger.suggest(txn_id, f'["{champion}"]' if champion else "[]", source="model", version="1", at=at)
        ledger.shadow(event_id, f'["{challenger}"]' if challenger else "[]")
        if txn_id not in first and truth is not None:
            ledger.label(txn_id, truth)
        expected["comparisons"] += 1
        expected["agreements"] += champion == challenger
        expected["champion"] += champion is not None
        expected["challenger"] += challenger is not None
        first.setdefault(txn_id, 0 if truth is None else (challenger == truth) - (champion == truth))
    labelled = [txn_id for (txn_id,) in ledger.rows("SELECT txn_id FROM transaction_labels")]
    run_models(*MARTS)
    (sums,) = ledger.rows("""
        SELECT
            sum(comparisons), sum(agreements), sum(champion_covered), sum(challenger_covered), sum(truths),
            sum(wins), sum(losses), sum(wins - losses) / sum(truths), count(*)
        FROM marts.fct_shadow_agreement
    """)
    differences = np.array([first[txn_id] for txn_id in labelled], dtype=np.int64)
    comparison = compare_on_same_answers(differences, np.ones_like(differences))
    assert sums[:4] == tuple(expected.values())
    assert sums[4:7] == (len(labelled), int((differences == 1).sum()), int((differences == -1).sum()))
    assert comparison.difference is not None
    assert float(sums[7]) == pytest.approx(comparison.difference)
    assert sums[8] == 4


@pytest.mark.parametrize("seed", [3, 4])
def test_silence_counts_for_the_champion_as_it_does_in_a_promotion(
    ledger: Ledger, run_models: RunModels, seed: int
) -> None:
    draw = random.Random(seed)  # noqa: S311 -- the same rows every time
    user_id = ledger.user("ana")
    transactions = [ledger.transaction(user_id) for _ in range(60)]
    since = ledger.now()
    for txn_id in draw.choices(transactions, k=120):
        offered, beside = draw.choices(('[{"label": "Food"}]', '[{"label": "Fun"}]', "[]"), (5, 4, 1), k=2)
        event_id = ledger.suggest(txn_id, offered, **draw.choice((MODEL, RULE)), at="now()")
        ledger.shadow(event_id, beside)
        reactions = (
            lambda: None,
            partial(ledger.accept, event_id, "Food"),
            partial(ledger.answer, event_id, "reject"),
            partial(ledger.undo, event_id),
            partial(ledger.label, txn_id, "Fun", draw.choice(("human", "rule", "import"))),
            partial(ledger.unlabel, txn_id),
        )
        draw.choices(reactions, (4, 1, 1, 1, 2, 1))[0]()
    run_models(*MARTS, full_refresh=True)
    page = (WAREHOUSE_DIR / "models" / "ML_README.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"-- A challenger, 2, beside a champion, 1.*?;\n", page, re.DOTALL)
    ((count, difference),) = ledger.rows(query.replace("FROM fct", "FROM marts.fct"))
    with session_for_jobs() as session:
        answers = read_answers(session, None, champion=1, challenger=2, since=since)
    differences = [answer.difference for answer in answers]
    assert count == len(differences) > 40
    assert float(difference) == pytest.approx(sum(differences) / len(differences))
    assert {1, 0, -1} == set(differences)
    found = "SELECT count(*) FROM marts.fct_shadow_comparisons WHERE NOT is_answered AND champion_is_covered"
    assert ledger.value(f"{found} AND NOT agrees") > 10


def test_the_tests_of_the_marts_hold_and_notice_a_challenger_beside_itself(
    ledger: Ledger, run_models: RunModels, dbt: Dbt
) -> None:
    event_id = ledger.suggest(ledger.transaction(ledger.user("ana")), '["Food"]', source="model", version="1")
    ledger.shadow(event_id, '["Food"]')
    run_models(*MARTS)
    tests = ("test", "--select", "fct_shadow_comparisons", "fct_shadow_agreement", "--indirect-selection", "cautious")
    assert dbt(*tests).success
    ledger.shadow(event_id, '["Food"]', version="1")
    run_models(*MARTS)
    failed = [result.node.name for result in dbt(*tests).result if str(result.status) == "fail"]
    assert failed == ["fct_shadow_comparisons_no_challenger_stands_beside_itself"]


def test_a_challenger_belongs_to_the_category_set_it_was_trained_for(ledger: Ledger, run_models: RunModels) -> None:
    user_id = ledger.user("ana")
    run = "INSERT INTO ml_training_runs (status) VALUES ('succeeded') RETURNING run_id"
    version = """
        INSERT INTO model_versions (version, user_id, run_id, sha256, artefact_name, mlflow_run_id, recipe)
        VALUES (2, %s, %s, repeat('0', 64), 'a', 'b', 'c')
    """
    ledger.connection.execute(version, [user_id, ledger.value(run)])
    event_id = ledger.suggest(ledger.transaction(user_id), '["Food"]')
    ledger.shadow(event_id, '["Food"]')
    run_models(*MARTS)
    found = "SELECT category_set FROM marts.fct_shadow_comparisons UNION ALL SELECT category_set FROM {}"
    assert ledger.rows(found.format("marts.fct_shadow_agreement")) == [(user_id,), (user_id,)]
    ledger.connection.execute("DELETE FROM users WHERE id = %s", [user_id])
    run_models(*MARTS)
    assert ledger.rows("SELECT user_id, category_set FROM marts.fct_shadow_comparisons") == [(None, None)]
