"""Ledgers that several of the tests on a real database begin with."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from small_model import small_model
from sqlalchemy import text

from app.config import get_settings
from app.db import driver_connection, session_for_jobs, session_for_user
from app.main import create_app
from app.ml.artefact import encode_artefact
from app.ml.category_model import model_to_artefact
from app.ml.dataset import read_training_set
from app.ml.estimator import fit_model
from app.ml.registry import TrainingRecord, log_training
from app.services import deployments, remembered_users
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.model_versions import add_version
from app.services.served_models import SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Ledger:
    """A user with transactions; ids by description, in the order of the file."""

    user_id: int
    folder: Path

    def add(self, *rows: str) -> list[int]:
        """Ingest rows of date, description, amount and category; return the ids of all transactions, in file order."""
        path = self.folder / "statement.csv"
        path.write_text("date,description,amount,account,category\n" + "".join(f"{row}\n" for row in rows))
        with session_for_user(self.user_id) as session:
            result = ingest_statement(session, self.user_id, path)
        assert result.rejected == 0, result.rejections
        with session_for_user(self.user_id) as session:
            found = session.execute(
                text("SELECT id FROM transactions WHERE import_id = :import ORDER BY id"), {"import": result.import_id}
            )
            return list(found.scalars())

    def labels(self, txn_ids: Sequence[int]) -> list[tuple[str, str] | None]:
        """Return label and source of transactions, None for those without."""
        with session_for_user(self.user_id) as session:
            rows = session.execute(
                text("SELECT txn_id, label, source FROM transaction_labels WHERE txn_id = ANY(:ids)"),
                {"ids": list(txn_ids)},
            )
            found = {txn_id: (str(label), str(source)) for txn_id, label, source in rows}
        return [found.get(txn_id) for txn_id in txn_ids]


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Users and versions of another test's database have the same numbers."""
    remembered_users.KNOWN.clear()
    yield
    SERVER.__init__()  # type: ignore[misc]


@pytest.fixture
def ledger(user_id: int, tmp_path: Path) -> Ledger:
    """Somebody's ledger, empty."""
    return Ledger(user_id, tmp_path)


@pytest.fixture
def ledger_of(database: str, tmp_path: Path) -> Callable[[str], Ledger]:
    """Somebody else's ledger, by their name."""
    assert database

    def open_ledger(name: str) -> Ledger:
        folder = tmp_path / name
        folder.mkdir()
        return Ledger(ensure_user(name), folder)

    return open_ledger


@pytest.fixture
def labelled(ledger: Ledger) -> Ledger:
    """The same with two merchants whose meaning is settled and one whose meaning is not."""
    ledger.add(
        *[f"2025-01-{day:02},ALDI 0041 LEEDS,-{day}.50,card,Groceries" for day in range(1, 13)],
        *[f"2025-01-{day:02},SHELL YORK,-4{day}.00,card,Fuel" for day in range(10, 19)],
        "2025-01-20,CORNER SHOP,-3.00,card,Groceries",
        "2025-01-21,CORNER SHOP,-4.00,card,Household",
    )
    return ledger


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A program on this machine, trusted."""
    assert database
    monkeypatch.setenv("LM_LOCAL_TRUST", "true")
    get_settings.cache_clear()
    with TestClient(create_app(), base_url="http://localhost:8000", client=("127.0.0.1", 50000)) as client:
        yield client
    get_settings.cache_clear()


@pytest.fixture
def train_version(database: str) -> Callable[[Ledger], int]:
    """Learn from a ledger as it stands and register that, as a training does but without judging it."""
    assert database
    seeds = count()

    def register(ledger: Ledger) -> int:
        tomorrow = dt.datetime.now(tz=dt.UTC) + dt.timedelta(days=1)
        with session_for_jobs() as session:
            rows = read_training_set(driver_connection(session), tomorrow, category_set=ledger.user_id)
        artefact = encode_artefact(*model_to_artefact(fit_model(rows, seed=next(seeds))))
        record = TrainingRecord(ledger.user_id, "d" * 64, {"seed": 7}, {"accuracy": 0.9}, artefact)
        with session_for_jobs() as session:
            add_run = text("""
                INSERT INTO ml_training_runs (status, user_id, seed, accuracy, f1_macro, as_of, metrics)
                VALUES ('succeeded', :user_id, 7, 0.9, 0.8, now(), '{}') RETURNING run_id
            """)
            run_id = session.execute(add_run, {"user_id": ledger.user_id}).scalar_one()
            registered = log_training(record)
            add_version(session, ledger.user_id, run_id, registered)
        return registered.version

    return register


@pytest.fixture
def make_version(database: str) -> Callable[[int | None], int]:
    """Register a model of a category set, as a training does, and give its version."""
    assert database
    made = count()

    def register(category_set: int | None = None) -> int:
        arrays, header = model_to_artefact(small_model())
        artefact = encode_artefact(arrays | {"base_rates": arrays["base_rates"] * (1 + next(made) / 1000)}, header)
        record = TrainingRecord(category_set, "d" * 64, {"seed": 7}, {"accuracy": 0.9}, artefact)
        with session_for_jobs() as session:
            add_run = text("""
                INSERT INTO ml_training_runs (status, user_id, seed, accuracy, f1_macro, as_of, metrics)
                VALUES ('succeeded', :user_id, 7, 0.9, 0.8, '2025-06-01Z', '{"ece": 0.02, "gate": {"passed": true}}')
                RETURNING run_id
            """)
            run_id = session.execute(add_run, {"user_id": category_set}).scalar_one()
            registered = log_training(record)
            add_version(session, category_set, run_id, registered)
        return registered.version

    return register


@pytest.fixture
def champion(labelled: Ledger, train_version: Callable[[Ledger], int]) -> int:
    """A model of the ledger that answers for it."""
    version = train_version(labelled)
    with session_for_jobs() as session:
        deployments.promote(session, labelled.user_id, version, actor="a test", reason="to see")
    return version
