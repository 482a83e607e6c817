"""Ingest: rows balance, a repeat adds nothing, twins stay two, and nothing that a person said is lost."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.db import session_for_user
from app.errors import Conflict
from app.ml.feature_build import build_range
from app.services.categories import add_category, remove_category
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.merchants import list_merchants, rename_merchant, truncated_names

if TYPE_CHECKING:
    from pathlib import Path

    from app.services.ingest import Action, IngestResult

HEADER = "date,description,amount,currency,account,category\n"
COFFEE = "2025-03-03,SQ *BLUE BTL 0047 OAKLND,-4.50,USD,card,Eating out\n"
RENT = "2025-03-01,RENT MARCH,-900.00,USD,current,Housing\n"
SALARY = "2025-03-25,SALARY ACME,2500.00,USD,current,\n"


@pytest.fixture
def ledger(user_id: int, tmp_path: Path) -> Ledger:
    """Somebody's ledger to ingest into."""
    return Ledger(user_id, tmp_path)


class Ledger:
    """Ingests texts as files, each in a transaction of its own as the API does."""

    def __init__(self, user_id: int, folder: Path) -> None:
        self.user_id = user_id
        self.file = folder / "statement.csv"

    def ingest(self, content: str, action: Action = "append") -> IngestResult:
        self.file.write_text(content)
        with session_for_user(self.user_id) as session:
            return ingest_statement(session, self.user_id, self.file, action=action)

    def rows(self, columns: str, condition: str = "deleted_at IS NULL") -> list[Any]:
        with session_for_user(self.user_id) as session:
            query = f"SELECT {columns} FROM transactions WHERE {condition} ORDER BY id"
            return [tuple(row) for row in session.execute(text(query))]

    def execute(self, statement: str) -> None:
        with session_for_user(self.user_id) as session:
            session.execute(text(statement))


def counts(result: IngestResult) -> tuple[int, int, int, int]:
    return result.rows, result.inserted, result.duplicates, result.rejected


def test_what_the_bank_said_is_kept_exactly(ledger: Ledger) -> None:
    assert counts(ledger.ingest(HEADER + COFFEE + SALARY)) == (2, 2, 0, 0)
    assert ledger.rows("date, amount, currency, account, description, merchant, category") == [
        (dt.date(2025, 3, 3), Decimal("-4.50"), "USD", "card", "SQ *BLUE BTL 0047 OAKLND", "blue btl", "Eating out"),
        (dt.date(2025, 3, 25), Decimal("2500.00"), "USD", "current", "SALARY ACME", "salary acme", None),
    ]


def test_a_repeat_adds_nothing_and_two_identical_coffees_stay_two(ledger: Ledger) -> None:
    assert counts(ledger.ingest(HEADER + COFFEE + COFFEE)) == (2, 2, 0, 0)
    assert counts(ledger.ingest(HEADER + COFFEE + COFFEE)) == (2, 0, 2, 0)
    assert counts(ledger.ingest(HEADER + COFFEE)) == (1, 0, 1, 0)
    assert counts(ledger.ingest(HEADER + COFFEE + COFFEE + COFFEE)) == (3, 1, 2, 0)
    assert len(ledger.rows("id")) == 3


def test_bad_rows_are_rejected_with_line_and_reason_and_hold_up_no_good_one(ledger: Ledger) -> None:
    result = ledger.ingest(
        HEADER + COFFEE + "2025-02-31,NO SUCH DAY,-1.00,USD,card,\n" + RENT + "2025-03-04,X,,USD,card,\n"
    )
    assert counts(result) == (4, 2, 0, 2)
    assert [rejection.line for rejection in result.rejections] == [3, 5]
    assert "2025-02-31" in result.rejections[0].reason
    with session_for_user(ledger.user_id) as session:
        assert session.execute(text("SELECT array_agg(line ORDER BY line) FROM import_rejections")).scalar_one() == [
            3,
            5,
        ]


def test_two_users_do_not_share_rows(ledger: Ledger, tmp_path: Path) -> None:
    ledger.ingest(HEADER + COFFEE)
    other = Ledger(ensure_user("other"), tmp_path)
    assert counts(other.ingest(HEADER + COFFEE)) == (1, 1, 0, 0)


def test_categories_become_labels_of_source_import_and_categories_of_the_user(ledger: Ledger) -> None:
    assert ledger.ingest(HEADER + COFFEE + RENT + SALARY).labels == 2
    with session_for_user(ledger.user_id) as session:
        labels = session.execute(text("SELECT label, source FROM transaction_labels ORDER BY txn_id")).all()
        names = (
            session.execute(text("SELECT name FROM categories WHERE user_id IS NOT NULL ORDER BY name")).scalars().all()
        )
    assert [tuple(row) for row in labels] == [("Eating out", "import"), ("Housing", "import")]
    assert names == ["Eating out", "Housing"]


def test_an_import_never_overwrites_a_person_s_label_and_brings_back_none_that_was_removed(ledger: Ledger) -> None:
    ledger.ingest(HEADER + COFFEE + RENT)
    ledger.execute("UPDATE transaction_labels SET label = 'Treats', source = 'human' WHERE label = 'Eating out'")
    ledger.execute("DELETE FROM transaction_labels WHERE label = 'Housing'")
    assert ledger.ingest(HEADER + COFFEE + RENT).labels == 0
    with session_for_user(ledger.user_id) as session:
        labels = session.execute(text("SELECT label, source FROM transaction_labels")).all()
    assert [tuple(row) for row in labels] == [("Treats", "human")]


def test_a_category_is_not_removed_while_a_file_labels_with_it(
    ledger: Ledger, admin_connection: psycopg.Connection
) -> None:
    ledger.ingest(HEADER + RENT)
    with session_for_user(ledger.user_id) as session:
        category_id = add_category(session, ledger.user_id, "Eating out").id

    def remove() -> None:
        with session_for_user(ledger.user_id) as session:
            remove_category(session, ledger.user_id, category_id)

    ledger.file.write_text(HEADER + COFFEE)
    with ThreadPoolExecutor(1) as other:
        with session_for_user(ledger.user_id) as session:
            ingest_statement(session, ledger.user_id, ledger.file)
            removal = other.submit(remove)
            waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            while not removal.done() and admin_connection.execute(waits).fetchone() is None:
                pass
        with pytest.raises(Conflict, match="merge it"):
            removal.result()


def test_a_file_with_corrected_categories_corrects_imported_labels(ledger: Ledger) -> None:
    ledger.ingest(HEADER + COFFEE)
    result = ledger.ingest(HEADER + COFFEE.replace("Eating out", "Coffee"))
    assert (result.inserted, result.labels) == (0, 1)
    assert ledger.rows("category") == [("Coffee",)]


def test_history_is_assumed_known_on_its_dates_and_what_comes_after_the_first_import_is_not(ledger: Ledger) -> None:
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).date()
    ledger.ingest(HEADER + COFFEE)
    ledger.ingest(HEADER + f"{tomorrow},SHOP,-2.00,USD,card,Food\n" + RENT)
    assert ledger.rows("description, assumed_known_at") == [
        ("SQ *BLUE BTL 0047 OAKLND", dt.datetime(2025, 3, 3, tzinfo=dt.UTC)),
        ("SHOP", None),
        ("RENT MARCH", dt.datetime(2025, 3, 1, tzinfo=dt.UTC)),
    ]
    with session_for_user(ledger.user_id) as session:
        events = session.execute(text("SELECT label, assumed_known_at IS NULL FROM label_events ORDER BY id")).all()
    assert [tuple(row) for row in events] == [("Eating out", False), ("Food", True), ("Housing", False)]


def test_a_label_that_comes_later_than_its_row_is_known_from_then_on(ledger: Ledger) -> None:
    ledger.ingest(HEADER + COFFEE.replace("Eating out", ""))
    ledger.ingest(HEADER + COFFEE)
    with session_for_user(ledger.user_id) as session:
        events = session.execute(text("SELECT label, assumed_known_at FROM label_events")).all()
    assert [tuple(row) for row in events] == [("Eating out", None)]


def test_replace_makes_the_account_hold_the_file_s_rows_within_its_dates_and_keeps_labels(ledger: Ledger) -> None:
    before, inside, after = (f"2025-0{month}-10,SHOP,-{month}.00,USD,current,\n" for month in (2, 3, 4))
    elsewhere = COFFEE
    ledger.ingest(HEADER + before + RENT + inside + SALARY + after + elsewhere)
    ledger.execute("UPDATE transaction_labels SET label = 'Home', source = 'human' WHERE label = 'Housing'")
    result = ledger.ingest(HEADER + RENT + SALARY, "replace")
    assert (result.inserted, result.duplicates, result.deleted) == (0, 2, 1)
    assert [description for (description,) in ledger.rows("description")] == [
        "SHOP", "RENT MARCH", "SALARY ACME", "SHOP", "SQ *BLUE BTL 0047 OAKLND",
    ]  # fmt: skip
    with session_for_user(ledger.user_id) as session:
        assert (
            session.execute(text("SELECT label FROM transaction_labels WHERE source = 'human'")).scalar_one() == "Home"
        )


def test_rows_that_come_again_after_a_replacement_keep_their_labels_and_say_when_they_were_gone(ledger: Ledger) -> None:
    ledger.ingest(HEADER + RENT + COFFEE.replace("card", "current") + SALARY)
    ledger.execute("UPDATE transaction_labels SET label = 'Treats', source = 'human' WHERE label = 'Eating out'")
    assert ledger.ingest(HEADER + RENT + SALARY, "replace").deleted == 1
    assert counts(ledger.ingest(HEADER + COFFEE.replace("card", "current"))) == (1, 1, 0, 0)
    assert sorted(ledger.rows("isempty(deleted_periods)")) == [(False,), (True,), (True,)]
    with session_for_user(ledger.user_id) as session:
        assert session.execute(text("SELECT count(*) FROM transaction_labels WHERE label = 'Treats'")).scalar_one() == 1


def test_a_failure_in_the_middle_leaves_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("app.services.ingest.write_import_labels", fail)
    with pytest.raises(RuntimeError):
        ledger.ingest(HEADER + COFFEE)
    monkeypatch.undo()
    assert ledger.rows("id") == []
    assert counts(ledger.ingest(HEADER + COFFEE)) == (1, 1, 0, 0)


def test_features_are_there_when_the_ingest_is_and_the_batch_job_finds_nothing_to_change(
    ledger: Ledger, jobs_connection: psycopg.Connection
) -> None:
    ledger.ingest(HEADER + COFFEE + RENT + SALARY + '2025-03-05,"Zoë\'s ""Café"", Köln #12",-1.00,EUR,card,\n')
    assert jobs_connection.execute("SELECT count(*) FROM ml_features").fetchone() == (4,)
    result = build_range(dt.date(2025, 1, 1), dt.date(2025, 12, 31))
    assert (result.processed, result.written) == (4, 0)


def test_names_cut_off_by_the_bank_are_learnt_and_a_rename_by_hand_wins(ledger: Ledger) -> None:
    ledger.ingest(
        HEADER
        + "2025-03-01,HARBOUR STREET BAKE,-4.00,USD,card,\n"
        + "2025-03-02,HARBOUR STREET BAKERY,-4.00,USD,current,\n"
    )
    assert set(ledger.rows("merchant_canonical")) == {("harbour street bakery",)}
    with session_for_user(ledger.user_id) as session:
        assert rename_merchant(session, ledger.user_id, "harbour street bake", "My bakery") == 1
        assert {each.canonical for each in list_merchants(session, ledger.user_id)} == {
            "My bakery", "harbour street bakery",
        }  # fmt: skip
    ledger.ingest(HEADER + "2025-03-09,HARBOUR STREET BAKE,-4.00,USD,card,\n")
    assert ledger.rows("merchant_canonical")[-1] == ("My bakery",)


def test_replace_deletes_nothing_while_a_record_is_rejected_for_it_may_be_a_stored_row(ledger: Ledger) -> None:
    ledger.ingest(HEADER + RENT + COFFEE.replace("card", "current") + SALARY)
    result = ledger.ingest(HEADER + RENT + COFFEE.replace("card", "current").replace("-4.50", "") + SALARY, "replace")
    assert (result.duplicates, result.rejected, result.deleted) == (2, 1, 0)
    assert "nothing was marked deleted" in result.warnings[-1]
    assert len(ledger.rows("id")) == 3


def test_several_records_on_one_line_stay_several(ledger: Ledger) -> None:
    entries = "".join(
        f"<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>2025030{day}<TRNAMT>{amount}<FITID>{day}<NAME>SHOP</STMTTRN>"
        for day, amount in ((1, "-1.00"), (2, "bad"), (3, "-3.00"), (4, "worse"))
    )
    statement = (
        f"<CURDEF>EUR<BANKACCTFROM><BANKID>1<ACCTID>12345678</BANKACCTFROM><BANKTRANLIST>{entries}</BANKTRANLIST>"
    )
    result = ledger.ingest(
        "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\n\n"
        f"<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS>{statement}</STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>"
    )
    assert counts(result) == (4, 2, 0, 2)
    assert [amount for (amount,) in ledger.rows("amount")] == [Decimal("-1.00"), Decimal("-3.00")]


@pytest.mark.parametrize("column", ["description", "category"])
def test_a_value_longer_than_an_index_can_hold_costs_its_own_record_only(ledger: Ledger, column: str) -> None:
    # Words that differ, for PostgreSQL compresses what repeats.
    words = " ".join(f"word{number * 7919 % 99991}" for number in range(3000))
    long = COFFEE.replace("SQ *BLUE BTL 0047 OAKLND" if column == "description" else "Eating out", words)
    assert counts(ledger.ingest(HEADER + long + RENT)) == (2, 1, 0, 1)


def test_a_name_cut_off_is_recognised_when_its_full_form_comes_later(ledger: Ledger) -> None:
    ledger.ingest(HEADER + "2025-03-01,HARBOUR STREET BAKE,-4.00,USD,card,\n")
    assert ledger.rows("merchant_canonical") == [("harbour street bake",)]
    ledger.ingest(HEADER + "2025-03-02,HARBOUR STREET BAKERY,-4.00,USD,current,\n")
    assert set(ledger.rows("merchant_canonical")) == {("harbour street bakery",)}
    with session_for_user(ledger.user_id) as session:
        assert rename_merchant(session, ledger.user_id, "harbour street bakery", "My bakery") == 2
    assert set(ledger.rows("merchant_canonical")) == {("My bakery",)}


@pytest.mark.parametrize(
    ("names", "learnt"),
    [
        (["harbour street bake", "harbour street bakery"], {"harbour street bake": "harbour street bakery"}),
        (["harbour str", "harbour stree", "harbour street bakery"], {
            "harbour str": "harbour street bakery", "harbour stree": "harbour street bakery",
        }),
        (["national tr", "national trains", "national trust"], {}),
        (["costa coffee", "costa coffee leeds"], {}),
        (["harbour street", "harbour streets", "harbour street market"], {}),
        (["the co", "the corner cafe"], {}),
    ],
)  # fmt: skip
def test_only_a_cut_inside_a_word_that_can_go_on_in_one_way_is_learnt(names: list[str], learnt: dict[str, str]) -> None:
    assert dict(truncated_names(names)) == learnt


row = st.tuples(st.integers(1, 4), st.sampled_from(["SHOP A", "SHOP B"]), st.sampled_from(["-1.00", "-2.00", "bad"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(row, min_size=1, max_size=8), min_size=1, max_size=4))
def test_rows_always_balance_and_each_file_s_rows_are_there_as_often_as_in_it(
    database: str, tmp_path: Path, files: list[list[tuple[int, str, str]]]
) -> None:
    assert database
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("TRUNCATE users RESTART IDENTITY CASCADE")
    ledger = Ledger(ensure_user("somebody"), tmp_path)
    most: dict[tuple[int, str, str], int] = {}
    for rows in files:
        content = HEADER + "2025-01-31,ANCHOR,-1.00,USD,card,\n"
        content += "".join(f"2025-03-0{day},{shop},{amount},USD,card,\n" for day, shop, amount in rows)
        for _ in range(2):
            result = ledger.ingest(content)
            assert result.rows == len(rows) + 1 == result.inserted + result.duplicates + result.rejected
        assert result.inserted == 0
        for each in set(rows):
            most[each] = max(most.get(each, 0), rows.count(each))
    expected = 1 + sum(number for (_, _, amount), number in most.items() if amount != "bad")
    assert len(ledger.rows("id")) == expected
