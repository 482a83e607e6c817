"""The demo: the whole loop, which adds nothing when it is run again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.services import deployments
from app.services.demo import demo_user, run_demo
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.users import find_user

if TYPE_CHECKING:
    from pathlib import Path

STATEMENT = "date,description,amount,account,category\n" + "".join(
    f"2025-03-{day:02},ALDI 0041 LEEDS,-{day}.50,card,Groceries\n" for day in range(1, 21)
)


def written(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((get_settings().build_dir / name).read_text())
    return report


def test_the_demo_fills_a_ledger_and_run_again_adds_nothing(database: str) -> None:
    assert database
    said: list[str] = []
    first = run_demo(None, said.append)
    report = written("demo.json")
    assert set(report) == {
        "name", "ingest", "labels", "features", "training_rows", "suggestions", "serving", "experiment", "model",
        "rollback_ms", "merchants", "seconds",
    }  # fmt: skip
    assert set(report["ingest"]) == {"rows", "inserted", "duplicates", "rejected"}
    assert report == written("demo-sample.json")
    rows = report["ingest"]["rows"]
    assert report["ingest"] == {"rows": rows, "inserted": rows, "duplicates": 0, "rejected": 0}
    assert report["features"] == report["training_rows"] == sum(report["labels"].values()) == rows
    suggestions = report["suggestions"]
    assert set(suggestions) == {"count", "covered", "accepted", "rejected", "precision"}
    # The last month's categories were held back; all of them have become labels by answers.
    assert suggestions["count"] == report["labels"]["human"] > 100
    assert suggestions["accepted"] + suggestions["rejected"] == suggestions["covered"] > 100
    assert suggestions["precision"] == pytest.approx(suggestions["accepted"] / suggestions["covered"], abs=1e-4)
    assert suggestions["precision"] > 0.9
    assert first.token is not None
    assert first.token not in json.dumps(report)
    assert min(report["merchants"].values()) > 0
    assert len(first.examples) > 3
    assert "Building and testing the warehouse" in said

    model = report["model"]
    assert {"version", "accuracy", "f1_macro", "ece", "auto_apply_coverage", "dataset_hash"} <= set(model)
    assert model["role"] == "champion", model["verdict"]
    assert model["accuracy"] > 0.89
    assert 0.5 < model["f1_macro"] <= 1
    assert model["ece"] < 0.05
    assert 0 <= model["auto_apply_coverage"] <= 1

    assert 0 < report["serving"]["p50_ms"] <= report["serving"]["p99_ms"]
    experiment = report["experiment"]
    # All that was asked about counts, and what nothing was suggested for was not accepted.
    assert experiment["answers"] == suggestions["count"]
    assert experiment["lower"] <= experiment["difference"] <= experiment["upper"]
    assert experiment["decision"].endswith("yes" if experiment["is_decided"] else "no")
    assert 0 < report["rollback_ms"] < 10_000

    second = run_demo(None, said.append)
    assert second.token is None
    again = written("demo.json")
    assert again["ingest"] == {"rows": rows, "inserted": 0, "duplicates": rows, "rejected": 0}
    kept = ("labels", "features", "training_rows", "suggestions", "serving", "experiment", "merchants")
    assert {key: again[key] for key in kept} == {key: report[key] for key in kept}
    # The same data give the same model, under a number of its own.
    assert again["model"]["version"] > model["version"] == report["model"]["version"]
    same = ("accuracy", "f1_macro", "ece", "auto_apply_coverage", "dataset_hash")
    assert {key: again["model"][key] for key in same} == {key: model[key] for key in same}
    with session_for_jobs() as session:
        sample = find_user(session, "demo-sample")
        assert deployments.current(session, sample).champion == again["model"]["version"]
        back = deployments.rollback(session, sample, actor="a test", reason="To see that there is one to go back to.")
    assert back.version == model["version"]


def test_a_category_that_only_the_month_held_back_has_is_the_user_s_all_the_same(database: str, tmp_path: Path) -> None:
    assert database
    file = tmp_path / "late.csv"
    old = [f"2025-03-{day:02},ALDI 0041 LEEDS,-{day}.50,card,Einkauf" for day in range(1, 21)]
    new = ["2025-04-01,ALDI 0041 LEEDS,-1.00,card,Groceries", "2025-04-02,ALDI 0041 LEEDS,-2.00,card,Einkauf"]
    file.write_text("\n".join(["date,description,amount,account,category", *old, *new]) + "\n")
    run_demo(file, lambda _: None)
    suggestions = written("demo-late.json")["suggestions"]
    assert (suggestions["count"], suggestions["accepted"], suggestions["rejected"]) == (2, 1, 1)


def test_a_month_that_an_earlier_run_imported_with_its_categories_is_answered_too(
    database: str, tmp_path: Path
) -> None:
    assert database
    file = tmp_path / "known.csv"
    file.write_text(STATEMENT + "2025-04-01,ALDI 0041 LEEDS,-1.00,card,Groceries\n")
    user_id = ensure_user(demo_user(file), is_demo=True)
    with session_for_user(user_id) as session:
        ingest_statement(session, user_id, file)
    run_demo(file, lambda _: None)
    assert written("demo-known.json")["suggestions"]["precision"] == 1.0


def test_files_of_one_name_are_users_of_their_own(database: str, tmp_path: Path) -> None:
    assert database
    for folder, days in (("one", 20), ("two", 10)):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "card.csv"
        file.write_text("\n".join(STATEMENT.splitlines()[: days + 1]) + "\n")
        report = run_demo(file, lambda _: None)
        assert written("demo-card.json")["training_rows"] == days
        assert written("demo-card.json")["model"] is None
        assert report.model_missing is not None
        assert f"{days} labelled transactions" in report.model_missing
