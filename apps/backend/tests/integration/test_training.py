"""A training on a real ledger: what it leaves behind, what becomes champion, and that it can be repeated."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.config import Settings, get_settings
from app.db import advisory_lock, get_engine, session_for_jobs, session_for_user
from app.errors import InvalidInput, NotFound
from app.ml import train as learning
from app.ml.artefact import read_artefact, resolve_artefact
from app.ml.estimator import fit_model
from app.ml.gate import Verdict
from app.ml.tracking import MODEL_NAME, artefact_root, open_tracking
from app.services import deployments, training, version_catalogue
from app.services.champions import judge_against_champion
from app.services.labels import write_labels
from app.services.model_versions import open_version
from app.services.training import TrainingOutcome, train_model
from app.services.training_rows import read_rows, settled_moment
from app.services.training_runs import INTERRUPTED, list_runs, start_run

if TYPE_CHECKING:
    from app.services.training_runs import TrainingRun
    from tests.integration.conftest import Ledger

SHOPS = {
    "ALDI 0041 LEEDS": "Einkauf",
    "SHELL YORK 22": "Tanken",
    "RENT STANDING ORDER": "Miete",
    "SQ *BLUE BTL 0047": "Kaffee",
    "NETFLIX.COM": "Abos",
}
DAYS = [dt.date(2025, 1, 1) + dt.timedelta(days=n) for n in range(300)]


@pytest.fixture
def taught(ledger: Ledger) -> Ledger:
    """Ten months of a ledger with categories of its own, one transaction a day."""
    ledger.add(*history(DAYS))
    return ledger


def history(days: list[dt.date]) -> list[str]:
    shops = list(SHOPS.items())
    return [f"{day},{shops[day.toordinal() % 5][0]},-{day.day}.50,card,{shops[day.toordinal() % 5][1]}" for day in days]


def train(ledger: Ledger, **options: Any) -> TrainingOutcome:
    return train_model(ledger.user_id, requested_by="a test", **options)


def runs(ledger: Ledger) -> list[TrainingRun]:
    with session_for_jobs() as session:
        return list_runs(session, ledger.user_id)


def decisions(ledger: Ledger) -> list[tuple[str, int]]:
    with session_for_jobs() as session:
        return [(each.action, each.version) for each in deployments.history(session, ledger.user_id)]


def test_a_training_leaves_a_run_a_version_and_a_champion(taught: Ledger) -> None:
    outcome = train(taught, seed=3)
    (run,) = runs(taught)
    assert run.status == "succeeded"
    assert (run.version, run.seed, run.dataset_hash) == (outcome.version, 3, outcome.dataset_hash)
    assert run.train_size == len(DAYS) == outcome.rows
    assert run.test_size == outcome.evaluation.rows < len(DAYS) / 2
    assert run.class_count == len(SHOPS) == outcome.classes
    assert run.accuracy == outcome.evaluation.accuracy.value > 0.9
    assert run.ece == outcome.evaluation.ece
    assert run.finished_at is not None
    assert outcome.role == "champion"
    assert decisions(taught) == [("promote", outcome.version)]
    with session_for_jobs() as session:
        (row,) = version_catalogue.list_versions(session, taught.user_id)
        metrics = session.execute(text("SELECT metrics FROM ml_training_runs")).scalar_one()
    artefact = read_artefact(resolve_artefact(artefact_root(), row.artefact_name), outcome.sha256)
    assert sorted(artefact.header["classes"]) == sorted(SHOPS.values())
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["gate"]["rival"] == "the heuristics"
    assert metrics["learning_curve"][-1]["labels"] == len(DAYS) - outcome.evaluation.rows
    reports = artefact_root() / row.mlflow_run_id / "artifacts" / "reports"
    assert {file.name for file in reports.iterdir()} == {"evaluation.html", "evaluation.json"}


def test_what_is_kept_of_a_training_quotes_no_description(taught: Ledger) -> None:
    outcome = train(taught)
    with session_for_jobs() as session:
        kept = str(session.execute(text("SELECT to_jsonb(ml_training_runs) FROM ml_training_runs")).scalar_one())
        (row,) = version_catalogue.list_versions(session, taught.user_id)
    client, _ = open_tracking()
    run = client.get_run(row.mlflow_run_id)
    version = client.get_model_version(MODEL_NAME, str(outcome.version))
    kept += str(run.data) + str(version.tags)
    for report in (artefact_root() / row.mlflow_run_id / "artifacts" / "reports").iterdir():
        kept += report.read_text()
    assert "Einkauf" in kept
    for word in ("ALDI", "SHELL", "NETFLIX", "LEEDS"):
        assert word.casefold() not in kept.casefold()


def test_the_same_moment_and_seed_give_the_same_model_whatever_happened_since(taught: Ledger) -> None:
    moment = now()
    first = train(taught, as_of=moment, seed=1)
    with session_for_user(taught.user_id) as session:
        ids = session.execute(text("SELECT id FROM transactions ORDER BY id LIMIT 60")).scalars().all()
        write_labels(session, dict.fromkeys(ids[:30], "Kaffee"), source="human")
    for change in (
        "UPDATE transactions SET deleted_at = now() WHERE id % 7 = 0",
        "DELETE FROM transaction_labels WHERE txn_id % 11 = 0",
        "UPDATE transactions SET merchant_canonical = 'Renamed'",
    ):
        with session_for_jobs() as session:
            session.execute(text(change))
    again = train(taught, as_of=moment, seed=1)
    assert (again.dataset_hash, again.sha256) == (first.dataset_hash, first.sha256)
    assert again.evaluation == first.evaluation
    assert again.version != first.version, "it is another model's number all the same: there is one to go back to"
    later = train(taught, seed=1, as_of=now())
    assert later.dataset_hash != first.dataset_hash, "what happened did change the present"
    assert later.sha256 != first.sha256


def test_a_twin_meets_each_month_with_what_was_known_before_it(ledger: Ledger) -> None:
    """A shop is something else from September on, the first of the months that are predicted."""
    changed = [row.replace(",Einkauf", ",Geschenke") if row >= "2025-09" else row for row in history(DAYS)]
    ledger.add(*changed)
    assessed = learning.assess_model(read_rows(ledger.user_id, now()), seed=0, target_error=None)
    shop = assessed.predictions.filter(pl.col("description").str.contains("ALDI")).sort("month")
    assert set(shop["truth"]) == {"Geschenke"}
    september, october = shop.partition_by("month", maintain_order=True)
    assert set(september["predicted"]) == {"Einkauf"}, "nobody could know"
    assert set(september["truth_rank"]) == {None}, "nor that there is such a category"
    assert max(september["truth_probability"]) == 0 < min(october["truth_probability"]), "it is known by now"
    assert assessed.start == dt.date(2025, 9, 1)


def test_a_training_repeated_ends_with_a_champion_and_one_to_go_back_to(taught: Ledger) -> None:
    first, second = train(taught), train(taught)
    assert second.sha256 == first.sha256
    assert second.verdict.figures["rival"] == f"version {first.version}"
    assert second.verdict.figures["accuracy_difference_low"] == 0
    with session_for_jobs() as session:
        assert deployments.current(session, taught.user_id).champion == second.version
        deployments.rollback(session, taught.user_id, actor="a test", reason="To see it.")
    with session_for_jobs() as session:
        assert deployments.current(session, taught.user_id).champion == first.version


def test_without_promotion_a_model_becomes_challenger(taught: Ledger) -> None:
    outcome = train(taught, promote=False)
    assert outcome.role == "challenger"
    assert decisions(taught) == [("challenge", outcome.version)]


def test_what_the_gate_refuses_is_on_record_with_its_reason_and_changes_nothing(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = train(taught)
    refusal = Verdict(passed=False, reasons=("It is worse.", "It is late."), figures={})
    monkeypatch.setattr(training, "judge_against_champion", lambda *_, **__: (champion.version, refusal))
    outcome = train(taught)
    assert outcome.role is None
    assert runs(taught)[0].status == "refused"
    assert runs(taught)[0].notes == "It is worse. It is late."
    assert decisions(taught) == [("refuse", outcome.version), ("promote", champion.version)]
    with session_for_jobs() as session:
        assert deployments.current(session, taught.user_id).champion == champion.version


def test_a_champion_that_changed_while_a_model_was_compared_is_not_replaced_unseen(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = train(taught), train(taught)
    sound = judge_against_champion

    def judge_and_roll_back(*arguments: Any, **named: Any) -> Any:
        judged = sound(*arguments, **named)
        with session_for_jobs() as session:
            deployments.rollback(session, taught.user_id, actor="a test", reason="Meanwhile.")
        return judged

    monkeypatch.setattr(training, "judge_against_champion", judge_and_roll_back)
    outcome = train(taught)
    assert outcome.role is None
    assert runs(taught)[0].status == "refused"
    assert "another became champion" in outcome.verdict.reasons[0]
    with session_for_jobs() as session:
        assert deployments.current(session, taught.user_id).champion == first.version < second.version


def test_the_champion_s_twin_learns_what_the_champion_knew_as_it_was_known_then(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = train(taught, as_of=now(), seed=3)
    with session_for_jobs() as session:
        session.execute(text("DELETE FROM transaction_labels WHERE txn_id % 3 = 0"))
    with session_for_user(taught.user_id) as session:
        ids = session.execute(text("SELECT id FROM transactions WHERE id % 3 = 1")).scalars().all()
        write_labels(session, dict.fromkeys(ids, "Miete"), source="human")
    learnt: list[tuple[pl.DataFrame, int]] = []
    sound = learning.predict_by_twin

    def watch(before: pl.DataFrame, *rows: Any, seed: int, target_error: float | None) -> pl.DataFrame:
        learnt.append((before, seed))
        return sound(before, *rows, seed=seed, target_error=target_error)

    monkeypatch.setattr(learning, "predict_by_twin", watch)
    outcome = train(taught, as_of=now(), seed=4)
    assert outcome.verdict.figures["rival"] == f"version {champion.version}"
    (theirs, their_seed), *_ = learnt  # the rest are of the learning curve
    assert their_seed == 3
    assert set(theirs["label_source"]) == {"import"}
    # Of ten months the last two are those that both predict.
    assert theirs["date"].to_list() == [day for day in DAYS if day < dt.date(2025, 9, 1)]


def test_a_champion_that_knew_nothing_of_the_last_months_predicts_them_as_it_stands(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = train(taught, as_of=dt.datetime(2025, 8, 1, tzinfo=dt.UTC))
    monkeypatch.setattr("app.services.champions._predict_by_twin", None)  # not to be asked
    outcome = train(taught)
    assert outcome.verdict.figures["rival"] == f"version {champion.version}"
    assert outcome.role == "champion"


def test_a_model_that_was_told_less_than_the_champion_knows_does_not_replace_it(taught: Ledger) -> None:
    champion = train(taught)
    outcome = train(taught, as_of=dt.datetime(2025, 9, 25, tzinfo=dt.UTC))
    assert (outcome.role, outcome.verdict.passed) == (None, False)
    assert "an older model takes its place by hand alone" in " ".join(outcome.verdict.reasons)
    with session_for_jobs() as session:
        assert deployments.current(session, taught.user_id).champion == champion.version


def test_a_champion_of_another_recipe_is_compared_on_what_came_after_it(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(taught, as_of=dt.datetime(2025, 9, 25, tzinfo=dt.UTC))
    monkeypatch.setattr("app.ml.train.RECIPE", "another/1")
    outcome = train(taught)
    assert outcome.verdict.figures["kind"] == "new_recipe"
    assert outcome.verdict.figures["rows"] == len([day for day in DAYS if day > dt.date(2025, 9, 25)])
    assert outcome.role is None, "it is as good, and a new recipe must be better"


def test_a_champion_of_another_recipe_that_has_learnt_everything_cannot_be_compared_with(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(taught)
    monkeypatch.setattr("app.ml.train.RECIPE", "another/1")
    outcome = train(taught)
    assert outcome.role is None
    assert "another recipe" in outcome.verdict.reasons[0]
    assert "lm models promote" in outcome.verdict.reasons[0]


def test_a_champion_that_this_version_cannot_open_is_no_champion_to_be_compared_with(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not serve either: the heuristics do."""
    champion = train(taught)
    for module in ("category_model", "estimator", "train"):
        monkeypatch.setattr(f"app.ml.{module}.RECIPE", "another/1")
    outcome = train(taught)
    assert outcome.verdict.figures["kind"] == "first"
    assert f"the heuristics, to which version {champion.version} leaves the field" in outcome.verdict.figures["rival"]
    assert outcome.role == "champion"


def test_a_champion_whose_file_is_broken_stays_and_is_not_replaced_unseen(taught: Ledger) -> None:
    champion = train(taught, as_of=dt.datetime(2025, 8, 1, tzinfo=dt.UTC))
    with session_for_jobs() as session:
        (row,) = version_catalogue.list_versions(session, taught.user_id)
    path = resolve_artefact(artefact_root(), row.artefact_name)
    path.write_bytes(path.read_bytes()[:-1])
    outcome = train(taught)
    assert outcome.role is None
    assert f"version {champion.version}, could not be compared with" in outcome.verdict.reasons[0]


def test_too_few_labels_are_a_failure_that_says_how_many_there_are(ledger: Ledger) -> None:
    ledger.add(*history(DAYS[:12]))
    with pytest.raises(InvalidInput, match="12 labelled transactions, from 2025-01-01 to 2025-01-12"):
        train(ledger)
    (run,) = runs(ledger)
    assert (run.status, run.version) == ("failed", None)
    assert run.notes is not None
    assert run.notes.startswith("12 labelled transactions")
    client, experiment = open_tracking()
    failed = client.search_runs([experiment], "attributes.status = 'FAILED'", order_by=["attributes.start_time DESC"])[
        0
    ]
    assert failed.data.tags["mlflow.note.content"] == run.notes
    assert failed.data.tags["category_set"] == str(ledger.user_id)


def test_no_label_at_all_says_where_labels_come_from(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="nothing to learn from: import a statement"):
        train(ledger)
    assert runs(ledger)[0].status == "failed"


def test_an_unexpected_error_is_on_record_without_its_words(taught: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("ALDI 0041 LEEDS")

    monkeypatch.setattr("app.ml.train.fit_final", fail)
    with pytest.raises(ZeroDivisionError):
        train(taught)
    (run,) = runs(taught)
    assert run.status == "failed"
    assert run.notes is not None
    assert "ZeroDivisionError" in run.notes
    assert "ALDI" not in run.notes


def test_an_interrupted_training_is_marked_when_it_is_interrupted(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.ml.train.fit_final", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(taught)
    assert (runs(taught)[0].status, runs(taught)[0].notes) == ("failed", INTERRUPTED)


def test_a_training_that_was_killed_is_marked_by_the_next_of_its_set_alone(taught: Ledger) -> None:
    with session_for_jobs() as session:
        killed = start_run(session, taught.user_id, as_of=now(), seed=0)
        elsewhere = start_run(session, None, as_of=now(), seed=0)
    train(taught)
    ended = {run.run_id: (run.status, run.notes) for run in runs(taught)}
    assert ended[killed] == ("failed", INTERRUPTED)
    with session_for_jobs() as session:
        (other,) = list_runs(session, None)
    assert (other.run_id, other.status) == (elsewhere, "running")


def test_one_training_of_a_category_set_runs_at_a_time(taught: Ledger) -> None:
    done = threading.Event()

    def wait_and_train() -> None:
        train(taught)
        done.set()

    thread = threading.Thread(target=wait_and_train)
    with advisory_lock(f"train {taught.user_id}"):
        thread.start()
        assert not done.wait(timeout=0.5)
        assert runs(taught) == [], "it is no run before its turn"
    thread.join(timeout=60)
    assert done.is_set()
    assert [run.status for run in runs(taught)] == ["succeeded"]


@pytest.mark.usefixtures("database")
def test_a_label_is_learnt_from_a_moment_after_it_was_given() -> None:
    with session_for_jobs() as session:
        before = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert before - settled_moment() < dt.timedelta(seconds=2)


def test_a_moment_to_come_and_a_user_who_is_gone_are_refused(taught: Ledger) -> None:
    with pytest.raises(InvalidInput, match="to come"):
        train(taught, as_of=now() + dt.timedelta(hours=1))
    with pytest.raises(InvalidInput, match="seed"):
        train(taught, seed=-1)
    with pytest.raises(NotFound):
        train_model(4711, requested_by="a test")
    assert runs(taught) == []


def test_the_weights_of_the_installation_are_those_of_the_training(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    usual = train(taught, as_of=moment)
    monkeypatch.setenv("LM_LABEL_WEIGHTS", '{"import": 2}')
    get_settings.cache_clear()
    other = train(taught, as_of=moment)
    get_settings.cache_clear()
    assert other.dataset_hash != usual.dataset_hash


def test_what_may_be_wrong_is_a_setting_that_every_fit_of_a_training_is_told(
    taught: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float | None] = []

    def watch(rows: pl.DataFrame, *, seed: int, target_error: float | None) -> Any:
        told.append(target_error)
        return fit_model(rows, seed=seed, target_error=target_error)

    monkeypatch.setattr("app.ml.train.fit_model", watch)
    champion = train(taught, seed=3)
    fits = len(told)
    assert told == [None] * fits, "nobody has said it"
    assert param("target_error", champion) == "the model's choice"
    monkeypatch.setenv("LM_TARGET_ERROR", "0.03")
    get_settings.cache_clear()
    outcome = train(taught, seed=4)
    get_settings.cache_clear()
    assert told[fits:] == [0.03] * (fits + 1), "the same fits, and the champion's twin"
    assert param("target_error", outcome) == "0.03"
    assert outcome.evaluation.auto_apply.target_error == 0.03
    with session_for_jobs() as session:
        assert open_version(session, taught.user_id, outcome.version).header["settings"]["target_error"] == 0.03
        metrics = session.execute(
            text("SELECT metrics FROM ml_training_runs ORDER BY run_id DESC LIMIT 1")
        ).scalar_one()
    assert metrics["auto_apply"]["target_error"] == 0.03


@pytest.mark.parametrize("share", ["0", "0.5", "1", "-0.01", "nan", "a few"])
def test_what_may_be_wrong_is_less_than_half_and_more_than_nothing(monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    monkeypatch.setenv("LM_TARGET_ERROR", share)
    with pytest.raises(ValidationError, match="target_error"):
        Settings()


def test_a_label_planted_in_the_future_changes_nothing_before_it(taught: Ledger) -> None:
    moment = dt.datetime(2025, 9, 1, tzinfo=dt.UTC)
    before = train(taught, as_of=moment)
    with get_engine("admin").begin() as connection:
        plant = text("UPDATE label_events SET label = 'Planted' WHERE assumed_known_at >= :moment")
        assert connection.execute(plant, {"moment": moment}).rowcount > 50
    after = train(taught, as_of=moment)
    assert (after.dataset_hash, after.sha256) == (before.dataset_hash, before.sha256)
    assert train(taught, as_of=now()).dataset_hash != before.dataset_hash


def test_who_was_writing_when_the_moment_was_chosen_is_waited_for(taught: Ledger) -> None:
    """Else what they wrote would be missing now, and known at the same moment when asked again."""
    begun, done = threading.Event(), threading.Event()
    moments: list[dt.datetime] = []

    def choose() -> None:
        begun.set()
        moments.append(settled_moment())
        done.set()

    with session_for_user(taught.user_id) as session:
        (txn_id,) = session.execute(text("SELECT id FROM transactions LIMIT 1")).scalars()
        write_labels(session, {txn_id: "Kaffee"}, source="human")
        thread = threading.Thread(target=choose)
        thread.start()
        assert begun.wait(timeout=10)
        assert not done.wait(timeout=0.3)
    thread.join(timeout=10)
    with session_for_jobs() as session:
        last = session.execute(text("SELECT max(known_at) FROM label_events")).scalar_one()
    assert moments[0] < last + dt.timedelta(seconds=1), "it lies behind"


def param(name: str, outcome: TrainingOutcome) -> str:
    client, _ = open_tracking()
    run_id = client.get_model_version(MODEL_NAME, str(outcome.version)).run_id
    assert run_id is not None
    return str(client.get_run(run_id).data.params[name])


def now() -> dt.datetime:
    with session_for_jobs() as session:
        moment: dt.datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment
