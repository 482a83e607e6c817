"""`lm train`, `lm evaluate` and `lm labels audit` on a terminal."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import app as lm
from app.config import BACKEND_DIR, get_settings
from app.db import session_for_jobs, session_for_user
from app.errors import InvalidInput, NotFound
from app.services import deployments
from app.services.categories import rename_or_merge
from app.services.ledger_evaluation import audit_labels
from app.services.training import train_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Ledger


SHOPS = {
    "ALDI 0041 LEEDS": "Groceries",
    "SHELL YORK 22": "Petrol and diesel",
    "RENT STANDING ORDER": "Rent",
    "COSTA COFFEE": "Coffee and snacks",
    "ODEON": "Cinema",
}
FIRST_DAY = dt.date(2025, 1, 1)


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "250"}).invoke(lm, [*arguments])


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def history(days: int) -> list[str]:
    shops = list(SHOPS.items())
    return [
        f"{FIRST_DAY + dt.timedelta(days=day)},{shops[day % 5][0]},-{day % 28 + 1}.50,card,{shops[day % 5][1]}"
        for day in range(days)
    ]


@pytest.fixture
def taught(ledger: Ledger) -> Ledger:
    """Ten months on the shared set; two transactions, in May and July, were labelled wrongly, and cost a lot."""
    rows = history(300)
    for number, amount in ((130, "-950.00"), (205, "-940.00")):
        date, shop, *_ = rows[number].split(",")
        assert shop == "ALDI 0041 LEEDS"
        rows[number] = f"{date},{shop},{amount},card,Cinema"
    ledger.add(*rows)
    return ledger


def test_train_says_what_came_of_it(taught: Ledger) -> None:
    said = printed("train", "--seed", "3")
    with session_for_jobs() as session:
        champion = deployments.current(session, None).champion
    assert f"Version {champion} is the champion now." in said
    assert "right, the heuristics " in said
    assert "300" in said
    document = json.loads(printed("train", "--seed", "3", "--no-promote", "--json", "--as-of", "2025-10-01"))
    assert (document["role"], document["gate"]["passed"]) in {("challenger", True), (None, False)}
    assert document["rows"] == 273
    assert document["version"] > champion
    with session_for_jobs() as session:
        moments = session.execute(text("SELECT as_of FROM ml_training_runs ORDER BY run_id")).scalars().all()
        assert moments[1] == dt.datetime(2025, 10, 1, tzinfo=dt.UTC)
        assert deployments.current(session, None).champion == champion
    assert taught.user_id > 0


def test_train_says_how_many_labels_there_are_when_they_are_too_few(ledger: Ledger) -> None:
    assert isinstance(run("train").exception, InvalidInput)
    ledger.add(*history(9))
    error = run("train").exception
    assert isinstance(error, InvalidInput)
    assert "9 labelled transactions" in str(error)
    assert isinstance(run("train", "--user", "nobody").exception, NotFound)
    assert isinstance(run("train", "--as-of", "yesterday").exception, InvalidInput)


def test_evaluate_prints_intervals_and_writes_a_report_with_mistakes(taught: Ledger) -> None:
    assert taught
    said = printed("evaluate", "--months", "4")
    assert "2025-07 to 2025-10" in said
    assert "accuracy, forced to choose" in said
    page = get_settings().build_dir / "evaluation.html"
    assert str(page) in said.replace("\n", "")
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["rows"] == 119
    assert f"{figures['accuracy']['value']:.1%}" in said
    assert "ALDI 0041 LEEDS" in page.read_text(), "the costliest mistake is on the page"


def test_evaluate_holds_models_to_the_error_that_the_installation_tolerates(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taught
    monkeypatch.setenv("LM_TARGET_ERROR", "0.03")
    get_settings.cache_clear()
    printed("evaluate", "--months", "2")
    get_settings.cache_clear()
    figures = json.loads((get_settings().build_dir / "evaluation.json").read_text())
    assert figures["auto_apply"]["target_error"] == 0.03


def test_evaluate_quotes_mistakes_of_one_s_own_alone_where_categories_are_shared(
    taught: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    neighbour = ledger_of("neighbour")
    neighbour.add(*history(250), "2025-10-10,SECRET PLACE,-999.00,card,Rent")
    printed("evaluate", "--months", "4", "--user", "somebody")
    page = (get_settings().build_dir / "evaluation.html").read_text()
    assert "ALDI 0041 LEEDS" in page
    assert "SECRET PLACE" not in page
    assert taught


def test_evaluate_lets_a_version_predict_what_it_has_not_seen(taught: Ledger) -> None:
    moment = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
    version = train_model(None, as_of=moment, requested_by="a test").version
    said = printed("evaluate", "--version", str(version))
    assert f"version {version}" in said
    assert "2025-09 to 2025-10" in said
    with_everything = train_model(None, requested_by="a test").version
    error = run("evaluate", "--version", str(with_everything)).exception
    assert isinstance(error, InvalidInput)
    assert "has learnt until" in str(error)
    assert isinstance(run("evaluate", "--version", "4711").exception, NotFound)
    assert isinstance(run("evaluate", "--months", "10").exception, InvalidInput)
    assert taught


def test_the_audit_finds_the_wrong_label_and_names_its_transaction(taught: Ledger) -> None:
    with session_for_user(taught.user_id) as session:
        (wrong,) = session.execute(text("SELECT id FROM transactions WHERE amount = -950")).scalars()
        rename_or_merge(session, taught.user_id, "Groceries", "Food")
    doubtful = audit_labels(taught.user_id)
    assert doubtful["txn_id"][0] == wrong
    assert doubtful.select("label", "suggestion").row(0) == ("Cinema", "Food"), "under today's names"
    said = printed("labels", "audit", "--limit", "1")
    assert str(wrong) in said
    assert "950.00" in said
    assert "lm transactions categorise ID" in said


def test_the_audit_is_of_one_s_own_labels_where_categories_are_shared(
    taught: Ledger, ledger_of: Callable[[str], Ledger]
) -> None:
    neighbour = ledger_of("neighbour")
    neighbour.add(*history(250))
    assert "No label looks wrong." in printed("labels", "audit", "--user", "neighbour")
    assert audit_labels(taught.user_id).height >= 1


def test_the_audit_says_when_there_is_too_little_to_learn_from(ledger: Ledger) -> None:
    ledger.add(*history(60))
    error = run("labels", "audit").exception
    assert isinstance(error, InvalidInput)
    assert "more than 100 labels" in str(error)


def test_help_waits_for_no_library_that_only_learning_needs() -> None:
    heavy = "matplotlib", "mlflow", "dbt", "scipy"
    code = f"import sys, app.cli; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BACKEND_DIR, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
