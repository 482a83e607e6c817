"""Invariants 1 and 5: nothing that happens later changes what was known, computed or learnt at a moment.

A ledger of imported history is frozen at three moments: two inside the history, and the one at which the import
ended. Then anything may happen to later rows and labels, and to the names of merchants and categories. Features,
priors and training sets as of each moment must stay the same to the byte.

The last tests plant a leak each and require that this very check finds it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.db import session_for_user
from app.ml import feature_build
from app.ml.dataset import dataset_hash, read_training_set
from app.ml.priors import read_merchant_priors
from app.services.categories import list_categories, rename_or_merge
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.merchants import rename_merchant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

SHOPS = ("ALDI 0041 LEEDS", "SQ *BLUE BTL 0047 OAKLND", "NETFLIX.COM", "TESCO STORES 2617")
CATEGORIES = ("Groceries", "Eating out", "Subscriptions")
HISTORY_MOMENTS = (dt.datetime(2025, 3, 1, tzinfo=dt.UTC), dt.datetime(2025, 4, 15, 12, tzinfo=dt.UTC))
FIRST_DAY, LAST_DAY = dt.date(2025, 1, 1), dt.date(2025, 6, 30)

pytestmark = pytest.mark.usefixtures("database")


class Ledger:
    """A ledger of imported history, and what it looked like at each moment."""

    def __init__(self, connection: psycopg.Connection, folder: Path) -> None:
        self.connection = connection
        self.file = folder / "later.csv"
        connection.execute("TRUNCATE users, transactions, label_events RESTART IDENTITY CASCADE")
        self.user_id = ensure_user("somebody")
        self.ingest("2025-01-01,OPENING,-1.00,Groceries\n" + "".join(
            f"{FIRST_DAY + dt.timedelta(days=3 * n)},{SHOPS[n % 4]},-{n}.50,{CATEGORIES[n % 3]}\n" for n in range(1, 60)
        ))  # fmt: skip
        now = connection.execute("SELECT clock_timestamp()").fetchone()
        assert now is not None
        self.import_ended: dt.datetime = now[0]
        self.ids = [row[0] for row in connection.execute("SELECT id FROM transactions ORDER BY id")]

    def ingest(self, rows: str, action: str = "append") -> None:
        self.file.write_text("date,description,amount,category,account\n" + rows.replace("\n", ",current\n"))
        with session_for_user(self.user_id) as session:
            ingest_statement(session, self.user_id, self.file, action=action)  # type: ignore[arg-type] # from a list

    def as_of(self, moment: dt.datetime, *, strict: bool) -> dict[str, str]:
        """Return the bytes of everything that is learnt as of a moment, as hashes."""
        training = read_training_set(self.connection, moment, category_set=self.user_id, strict=strict)
        priors = read_merchant_priors(self.connection, moment, strict=strict)
        return {
            "training set": dataset_hash(training),
            "priors": hashlib.sha256(priors.write_ndjson().encode()).hexdigest(),
        }

    def features(self, ids: list[int]) -> list[Any]:
        """Return the stored feature rows of some transactions as PostgreSQL spells them."""
        return self.connection.execute(
            """
            SELECT (to_jsonb(ml_features) - 'created_at')::text FROM ml_features
            WHERE txn_id = ANY(%s) ORDER BY txn_id
            """,
            [ids],
        ).fetchall()


class Later:
    """What may happen afterwards; each event takes a moment and a number that picks the row."""

    def __init__(self, ledger: Ledger, moment: dt.datetime) -> None:
        self.ledger = ledger
        is_history = moment < ledger.import_ended
        # In the middle of the history only rows of later dates are new; at its end, rows of any date may be.
        self.first_day = moment.date() + dt.timedelta(days=1) if is_history else FIRST_DAY

    def pick(self, number: int) -> int:
        return self.ledger.ids[number % len(self.ledger.ids)]

    def add_row(self, number: int) -> None:
        day = max(self.first_day, self.ledger.import_ended.date()) + dt.timedelta(days=number % 40)
        self.ledger.ingest(f"{day},{SHOPS[number % 4]},-{number}.01,{CATEGORIES[number % 3]}\n")

    def replace_rows(self, number: int) -> None:
        first, last = self.first_day + dt.timedelta(days=number % 30), LAST_DAY
        self.ledger.ingest(f"{first},REPLACED,-1.00,Groceries\n{last},REPLACED,-2.00,Groceries\n", "replace")

    def label_by_hand(self, number: int) -> None:
        self.execute(
            "INSERT INTO transaction_labels VALUES (%(id)s, 'Corrected', 'human') "
            "ON CONFLICT (txn_id) DO UPDATE SET label = 'Corrected', source = 'human'",
            number,
        )

    def remove_label(self, number: int) -> None:
        self.execute("DELETE FROM transaction_labels WHERE txn_id = %(id)s", number)

    def delete_row(self, number: int) -> None:
        self.execute("UPDATE transactions SET deleted_at = now() WHERE id = %(id)s AND deleted_at IS NULL", number)

    def restore_rows(self, number: int) -> None:
        self.ledger.ingest("".join(
            f"{FIRST_DAY + dt.timedelta(days=3 * n)},{SHOPS[n % 4]},-{n}.50,{CATEGORIES[n % 3]}\n" for n in range(1, 60)
            if n % 5 != number % 5
        ))  # fmt: skip

    def rename_a_merchant(self, number: int) -> None:
        with session_for_user(self.ledger.user_id) as session:
            names = ("aldi", "blue btl", "netflix", "tesco", "tesco stores")
            known = session.execute(text("SELECT DISTINCT merchant FROM transactions")).scalars().all()
            name = names[number % len(names)]
            if name in known:
                rename_merchant(session, self.ledger.user_id, name, f"Renamed {number}")

    def rename_or_merge_a_category(self, number: int) -> None:
        with session_for_user(self.ledger.user_id) as session:
            shown = [category.name for category in list_categories(session, self.ledger.user_id)]
            name = shown[number % len(shown)]
            into = f"Renamed {number}" if number % 2 else shown[(number + 1) % len(shown)]
            if name != into:
                rename_or_merge(session, self.ledger.user_id, name, into)

    def rebuild_features(self, number: int) -> None:
        feature_build.build_range(FIRST_DAY, dt.date(2100, 1, 1), batch_size=number % 50 + 1)

    def execute(self, statement: str, number: int) -> None:
        self.ledger.connection.execute(statement, {"id": self.pick(number)})


KINDS = [name for name in vars(Later) if name not in ("pick", "execute") and not name.startswith("_")]
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1000)), min_size=1, max_size=6)
MOMENTS = st.sampled_from([*HISTORY_MOMENTS, None])  # None: the moment at which the import ended
SETTINGS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def difference_after(
    connection: psycopg.Connection, folder: Path, moment: dt.datetime | None, events: list[tuple[str, int]]
) -> list[str]:
    """Let things happen after a moment; name what is different as of it."""
    ledger = Ledger(connection, folder)
    moment = moment or ledger.import_ended
    strict = moment == ledger.import_ended
    # Old rows may come after the import too. They are history then, and change what is assumed to have been known
    # before it, but never what was on record.
    earlier = [moment] if strict else [each for each in HISTORY_MOMENTS if each <= moment]
    before = [ledger.as_of(each, strict=strict) for each in earlier]
    features = ledger.features(ledger.ids)
    assert features
    later = Later(ledger, moment)
    for kind, number in events:
        getattr(later, kind)(number)
    after = [ledger.as_of(each, strict=strict) for each in earlier]
    different = {name for old, new in zip(before, after, strict=True) for name in old if old[name] != new[name]}
    if ledger.features(ledger.ids) != features:
        different.add("features")
    return sorted(different)


@SETTINGS
@given(moment=MOMENTS, events=EVENTS)
def test_nothing_that_happens_later_changes_features_priors_or_training_sets(
    admin_connection: psycopg.Connection, tmp_path: Path, moment: dt.datetime | None, events: list[tuple[str, int]]
) -> None:
    assert difference_after(admin_connection, tmp_path, moment, events) == []


def test_every_kind_of_event_on_its_own_changes_the_present(
    admin_connection: psycopg.Connection, tmp_path: Path
) -> None:
    """The check would prove nothing if the events did nothing."""
    for kind in KINDS:
        ledger = Ledger(admin_connection, tmp_path)
        later = Later(ledger, ledger.import_ended)
        if kind == "restore_rows":
            later.delete_row(4)
        before = state(admin_connection)
        getattr(later, kind)(3)
        assert (state(admin_connection) == before) == (kind == "rebuild_features"), kind


def state(connection: psycopg.Connection) -> list[Any]:
    return connection.execute("""
        SELECT to_jsonb(transactions)::text, to_jsonb(transaction_labels)::text, to_jsonb(category_names)::text
        FROM transactions
        LEFT JOIN transaction_labels ON txn_id = id
        LEFT JOIN category_names ON category_names.name = label AND valid_to IS NULL
        ORDER BY transactions.id
    """).fetchall()


@contextmanager
def planted(connection: psycopg.Connection, right: str, wrong: str) -> Iterator[None]:
    """Replace a condition of the as-of read by a wrong one for a while."""
    functions = connection.execute("""
        SELECT pg_get_functiondef(name::regproc) FROM unnest(ARRAY['transactions_as_of', 'labels_as_of']) AS name
    """).fetchall()
    (sound,) = (text for (text,) in functions if right in text)
    connection.execute(sound.replace(right, wrong))
    try:
        yield
    finally:
        connection.execute(sound)


@pytest.mark.parametrize(
    ("right", "wrong", "event"),
    [
        pytest.param("event.known_at) END < moment", "event.known_at) END < 'infinity'", "label_by_hand", id="labels"),
        pytest.param(" OR transactions.deleted_at >= moment", "", "delete_row", id="rows deleted later"),
        pytest.param(
            "category_names.valid_from < moment", "true", "rename_or_merge_a_category", id="names of categories"
        ),
    ],
)
def test_a_leak_planted_in_the_as_of_read_is_found(
    admin_connection: psycopg.Connection, tmp_path: Path, right: str, wrong: str, event: str
) -> None:
    with planted(admin_connection, right, wrong):
        assert difference_after(admin_connection, tmp_path, None, [(event, 5)]) == ["priors", "training set"]
    assert difference_after(admin_connection, tmp_path, None, [(event, 5)]) == []


def test_a_row_that_came_again_is_still_missing_as_of_the_time_when_it_was_gone(
    admin_connection: psycopg.Connection, tmp_path: Path
) -> None:
    ledger = Ledger(admin_connection, tmp_path)
    later = Later(ledger, ledger.import_ended)
    later.delete_row(7)
    row = admin_connection.execute("SELECT max(deleted_at), clock_timestamp() FROM transactions").fetchone()
    assert row is not None
    # The very moment of the deletion, at which the row was still there, and one behind it.
    moments = row
    before = [ledger.as_of(moment, strict=True) for moment in moments]
    assert before[0] != before[1]
    later.restore_rows(0)
    assert [ledger.as_of(moment, strict=True) for moment in moments] == before
    with planted(admin_connection, "NOT transactions.deleted_periods @> moment", "true"):
        assert [ledger.as_of(moment, strict=True) for moment in moments] == [before[0], before[0]]


def test_a_leak_planted_in_the_features_is_found(
    admin_connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = feature_build.build_features

    def counts_its_neighbours(transactions: pl.DataFrame) -> pl.DataFrame:
        features = sound(transactions)
        return features.with_columns(norm_desc=features["norm_desc"] + f" {features.height}")

    monkeypatch.setattr(feature_build, "build_features", counts_its_neighbours)
    assert "features" in difference_after(admin_connection, tmp_path, None, [("add_row", 1), ("rebuild_features", 999)])


def test_a_leak_planted_by_renaming_what_features_know_is_found(
    admin_connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename_everywhere(later: Later, number: int) -> None:
        later.execute(f"UPDATE ml_features SET merchant = 'renamed {number}' WHERE txn_id = %(id)s", number)

    monkeypatch.setattr(Later, "rename_a_merchant", rename_everywhere)
    different = difference_after(admin_connection, tmp_path, None, [("rename_a_merchant", 3)])
    assert different == ["features", "priors", "training set"]
