"""A ledger that tests fill row by row, without ingesting files."""

from __future__ import annotations

import datetime as dt
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from dbt.cli.main import dbtRunner

from app.config import WAREHOUSE_DIR, get_settings
from app.services import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

    Dbt = Callable[..., Any]

CATEGORIES = ("Groceries", "Eating out", "Über-Spaß", "Travel's", "rent", 'The "rest"')
SOURCES = ("human", "rule", "import")
# The description is the merchant here; blank ones have none.
MERCHANTS = ("tesco", "Tesco", "café ñandú", 'o\'neill "bar"', "a:b", "1:a:b", " ", "", "netflix", "one-off")


@dataclass(frozen=True)
class Ledger:
    """Rows of any user, written as the superuser; every call is a database transaction of its own."""

    connection: psycopg.Connection

    def user(self, name: str) -> int:
        return installation.ensure_user(name)

    def transaction(
        self,
        user_id: int,
        *,
        merchant: str = "tesco",
        date: dt.date = dt.date(2025, 3, 1),
        amount: float = -3.20,
        posted_at: dt.datetime | None = None,
        imported: tuple[str, bool] | None = None,
    ) -> int:
        """Add a transaction with its features; `imported` gives its label of source import, history or not."""
        label, is_history = imported or (None, False)
        with self.connection.transaction():
            txn_id = self.value(
                """
                INSERT INTO transactions
                    (user_id, account, date, posted_at, amount, description, fingerprint, assumed_known_at)
                VALUES (%s, 'current', %s, %s, %s, %s, sha256(gen_random_uuid()::text::bytea), %s) RETURNING id
                """,
                user_id,
                date,
                posted_at,
                amount,
                merchant,
                dt.datetime.combine(date, dt.time(), dt.UTC) if is_history else None,
            )
            self.connection.execute(
                """
                INSERT INTO ml_features
                SELECT
                    id, date_trunc('month', date), amount, abs(amount), nullif(description, ''), mcc, 'pos',
                    extract(hour FROM posted_at), extract(isodow FROM date) - 1, extract(isodow FROM date) >= 6,
                    description = 'netflix', lower(description), string_to_array(lower(description), ' '), 1
                FROM transactions WHERE id = %s
                """,
                [txn_id],
            )
            if label is not None:
                self.label(txn_id, label, "import")
        return int(txn_id)

    def label(self, txn_id: int, label: str, source: str = "human") -> None:
        self.connection.execute(
            """
            INSERT INTO transaction_labels (txn_id, label, source) VALUES (%s, %s, %s)
            ON CONFLICT (txn_id) DO UPDATE SET label = excluded.label, source = excluded.source, updated_at = now()
            """,
            [txn_id, label, source],
        )

    def unlabel(self, txn_id: int) -> None:
        self.connection.execute("DELETE FROM transaction_labels WHERE txn_id = %s", [txn_id])

    def mark_deleted(self, txn_id: int) -> None:
        self.connection.execute("UPDATE transactions SET deleted_at = now() WHERE id = %s", [txn_id])

    def suggest(
        self,
        txn_id: int,
        candidates: str,
        *,
        source: str = "rule",
        version: str | None = None,
        part_of: tuple[str, str, float] | None = None,
        exposure: Mapping[str, Any] | None = None,
        at: str = "2025-11-02",
    ) -> int:
        """Add a suggestion.

        `part_of` names an experiment, its arm and that arm's probability; `exposure` is what it keeps of that.
        """
        event_id = self.value(
            """
            INSERT INTO suggestion_events (
                id, served_event_id, txn_id, user_id, mode, source, model_version, candidates, experiment, arm,
                propensity, inputs, created_at
            )
            SELECT
                number, CASE WHEN %s = 'shadow' THEN number END, %s,
                (SELECT user_id FROM transactions WHERE id = %s), 'auto', %s, %s, %s, %s, %s, %s, %s, %s
            FROM nextval(pg_get_serial_sequence('suggestion_events', 'id')) AS number RETURNING id
            """,
            source,
            txn_id,
            txn_id,
            source,
            version,
            candidates,
            *(part_of or (None, None, None)),
            json.dumps({"exposure": exposure} if exposure else {}),
            at,
        )
        return int(event_id)

    def shadow(self, served_event_id: int, candidates: str, *, version: str = "2") -> int:
        """Add what a challenger would have suggested instead."""
        event_id = self.value(
            """
            INSERT INTO suggestion_events (
                served_event_id, txn_id, user_id, mode, source, model_version, candidates, experiment, arm, propensity,
                inputs
            )
            SELECT id, txn_id, user_id, mode, 'shadow', %s, %s, experiment, arm, propensity, inputs
            FROM suggestion_events WHERE id = %s RETURNING id
            """,
            version,
            candidates,
            served_event_id,
        )
        return int(event_id)

    def experiment(self, name: str, *arms: str, unit: str = "user_merchant") -> int:
        """Add an experiment of the heuristics, which come first, and models."""
        experiment_id = self.value(
            """
            INSERT INTO experiments (name, unit, salt, ramp, guardrails, created_by)
            VALUES (%s, %s, repeat('0', 32), '{1}', '{}', 'ana') RETURNING id
            """,
            name,
            unit,
        )
        for position, arm in enumerate(arms):
            self.connection.execute(
                """
                INSERT INTO experiment_arms (experiment_id, name, position, engine, share)
                VALUES (%s, %s, %s, %s, %s)
                """,
                [experiment_id, arm, position, "champion" if position else "rule", 1 / len(arms)],
            )
        return int(experiment_id)

    def change(self, experiment_id: int, action: str, *, arm: str | None = None, ramp: float = 1) -> int:
        """Record that something was done to an experiment; return the change."""
        change_id = self.value(
            """
            INSERT INTO experiment_changes (experiment_id, action, ramp, arm, actor, reason)
            VALUES (%s, %s, %s, %s, 'ana', 'To see what happens.') RETURNING id
            """,
            experiment_id,
            action,
            ramp,
            arm,
        )
        return int(change_id)

    def answer(self, event_id: int, action: str, label: str | None = None, *, at: str | None = None) -> None:
        self.connection.execute(
            """
            INSERT INTO suggestion_feedback (event_id, action, label, created_at)
            VALUES (%s, %s, %s, coalesce(%s::timestamptz, now()))
            """,
            [event_id, action, label, at],
        )

    def accept(self, event_id: int, label: str) -> None:
        """Accept as the service does: the answer and the label in one database transaction."""
        with self.connection.transaction():
            self.answer(event_id, "accept", label)
            self.label(self.transaction_of(event_id), label)

    def reject(self, event_id: int, label: str) -> None:
        """Reject for a label, as the service does."""
        with self.connection.transaction():
            self.answer(event_id, "reject", label)
            self.label(self.transaction_of(event_id), label)

    def undo(self, event_id: int) -> None:
        """Take an answer back where there was no label before, as the service does."""
        with self.connection.transaction():
            self.answer(event_id, "undo")
            self.unlabel(self.transaction_of(event_id))

    def transaction_of(self, event_id: int) -> int:
        return int(self.value("SELECT txn_id FROM suggestion_events WHERE id = %s", event_id))

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, parameters).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        (row,) = self.rows(query, *parameters)
        return row[0]

    def now(self) -> dt.datetime:
        """The database's clock."""
        moment: dt.datetime = self.value("SELECT clock_timestamp()")
        return moment


@pytest.fixture
def ledger(admin_connection: psycopg.Connection) -> Ledger:
    """An empty ledger."""
    return Ledger(admin_connection)


@pytest.fixture
def messy_ledger(ledger: Ledger) -> Ledger:
    """Three users' transactions with labels of every source, imported history, corrections, removals, deletions."""
    draw = random.Random(7)  # noqa: S311 -- the same rows every time
    users = [ledger.user(name) for name in ("ana", "ben", "with-one-label")]
    transactions = [
        ledger.transaction(
            user_id,
            merchant=draw.choice(MERCHANTS),
            date=dt.date(2024, 1, 1) + dt.timedelta(days=draw.randrange(600)),
            amount=draw.choice((-12.5, -3, 0, 40)),
            posted_at=draw.choice((None, dt.datetime(2024, 1, 1, 13, 5))),  # noqa: DTZ001 -- the bank's wall clock
            imported=draw.choice((None, None, (draw.choice(CATEGORIES), True), (draw.choice(CATEGORIES), False))),
        )
        for user_id in users[:2]
        for _ in range(120)
    ]
    for txn_id in draw.sample(transactions, 130):
        ledger.label(txn_id, draw.choice(CATEGORIES[:3]), draw.choice(SOURCES))
    for txn_id in draw.sample(transactions, 10):
        ledger.unlabel(txn_id)
    for txn_id in draw.sample(transactions, 10):
        ledger.mark_deleted(txn_id)
    for _ in range(12):
        ledger.label(ledger.transaction(users[0], merchant="trusted"), "Groceries")
    ledger.label(ledger.transaction(users[2]), "Groceries")
    return ledger


@pytest.fixture(scope="session")
def dbt(worker_database: str) -> Dbt:
    """dbt in this process, with this worker's folders and a project that is parsed once."""
    assert worker_database
    installation.write_profiles()
    target = str(get_settings().data_dir / "dbt-target")
    folders = ["--project-dir", str(WAREHOUSE_DIR), "--profiles-dir", str(get_settings().profiles_dir)]
    written = ["--target-path", target, "--log-path", target, "--log-level", "none"]
    parsed: Any = dbtRunner().invoke(["parse", *folders, *written]).result

    def invoke(*arguments: str) -> Any:
        # A run leaves compiled code in the manifest that it is given.
        return dbtRunner(manifest=parsed.deepcopy()).invoke([*arguments, *folders, *written])

    return invoke


class RunModels(Protocol):
    """Build models without their tests."""

    def __call__(self, *models: str, as_of: dt.datetime | None = None, full_refresh: bool = False) -> None: ...


@pytest.fixture
def run_models(dbt: Dbt) -> RunModels:
    """Build the named models and nothing else."""

    def run(*models: str, as_of: dt.datetime | None = None, full_refresh: bool = False) -> None:
        arguments = ["run", "--select", *models]
        if as_of is not None:
            arguments += ["--vars", json.dumps({"as_of": as_of.isoformat()})]
        if full_refresh:
            arguments.append("--full-refresh")
        outcome = dbt(*arguments)
        assert outcome.success, outcome.exception or [result.message for result in outcome.result]

    return run
