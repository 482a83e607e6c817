"""Transactions in pages: every filter, every order of arrival, and the index that makes a page cheap."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from typer.testing import CliRunner

from app.cli import app as lm
from app.config import get_settings
from app.db import get_engine, session_for_user
from app.errors import InvalidInput, NotFound
from app.main import create_app
from app.services.credentials import new_token
from app.services.installation import ensure_user
from app.services.transactions import (
    TransactionFilter,
    TransactionPage,
    list_transactions,
    read_transaction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 100_000
FIRST_DAY = dt.date(2025, 3, 1)
TEXTS = ["ALDI 0041 LEEDS", "50% OFF_SALE", "50X OFFYSALE", "Café Über", "a\\b", "SHELL leeds"]
MERCHANTS = [None, "Aldi", "Café Central", "100%"]
CATEGORIES = [None, "Groceries", "Food", "Fuel", "Rent"]
SHOWN = {"Food": "Groceries"}


# --- a small ledger, and what a person would find in it by hand ---------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A transaction as the tests wrote it."""

    id: int
    date: dt.date
    account: str
    amount: Decimal
    description: str
    merchant: str | None
    label: str | None
    source: str | None
    deleted: bool

    @property
    def category(self) -> str | None:
        return SHOWN.get(self.label, self.label) if self.label else None


def write_rows(connection: psycopg.Connection, user_id: int, rows: list[Written]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO transactions (
                id, user_id, account, date, amount, description, merchant_canonical, fingerprint, deleted_at
            ) VALUES (%s, %s, %s, %s, %s, %s, %s, int8send(%s), %s)
            """,
            [
                (
                    row.id, user_id, row.account, row.date, row.amount, row.description, row.merchant, row.id,
                    dt.datetime(2025, 6, 1, tzinfo=dt.UTC) if row.deleted else None,
                )
                for row in rows
            ],
        )  # fmt: skip
        cursor.executemany(
            "INSERT INTO transaction_labels (txn_id, label, source) VALUES (%s, %s, %s)",
            [(row.id, row.label, row.source) for row in rows if row.label],
        )


def some_rows(first_id: int = 1) -> list[Written]:
    """Rows in which every value of every column meets many of the others."""
    rows = []
    for n in range(240):
        label = CATEGORIES[n * 7 % 5]
        rows.append(
            Written(
                id=first_id + n * 11 % 240,
                date=FIRST_DAY + dt.timedelta(days=n * 13 % 17),
                account=["card", "current"][n % 2],
                amount=Decimal(n * 37 % 200 - 150) / 4,
                description=TEXTS[n % 6],
                merchant=MERCHANTS[n * 3 % 4],
                label=label,
                source=["human", "rule", "import"][n % 3] if label else None,
                deleted=n % 9 == 0,
            )
        )
    return rows


def expected(rows: list[Written], wanted: TransactionFilter) -> list[int]:
    def meets(row: Written) -> bool:
        words = wanted.search.lower().split()
        texts = [row.description.lower(), (row.merchant or "").lower()]
        return (
            not row.deleted
            and (wanted.account is None or row.account == wanted.account)
            and (wanted.date_from is None or row.date >= wanted.date_from)
            and (wanted.date_to is None or row.date <= wanted.date_to)
            and (wanted.category is None or row.category == wanted.category)
            and (not wanted.uncategorised or row.label is None)
            and (wanted.labelled_by is None or row.source == wanted.labelled_by)
            and (wanted.amount_min is None or row.amount >= wanted.amount_min)
            and (wanted.amount_max is None or row.amount <= wanted.amount_max)
            and (wanted.merchant is None or row.merchant == wanted.merchant)
            and all(any(word in text for text in texts) for word in words)
        )

    met = [row for row in rows if meets(row)]
    return [row.id for row in sorted(met, key=lambda row: (row.date, row.id), reverse=True)]


def pages(user_id: int, wanted: TransactionFilter, limit: int = 50) -> Iterator[TransactionPage]:
    after = None
    while True:
        with session_for_user(user_id) as session:
            page = list_transactions(session, user_id, wanted, limit=limit, after=after)
        yield page
        if page.next is None:
            return
        assert page.next != after, "a page that leads to itself"
        after = page.next


def listed(user_id: int, wanted: TransactionFilter | None = None, limit: int = 500) -> list[int]:
    return [row.id for page in pages(user_id, wanted or TransactionFilter(), limit) for row in page.transactions]


@pytest.fixture
def rows(admin_connection: psycopg.Connection, user_id: int) -> list[Written]:
    """A small ledger, one of its categories renamed, and somebody else's just like it."""
    written = some_rows()
    write_rows(admin_connection, user_id, written)
    write_rows(admin_connection, ensure_user("other"), some_rows(first_id=1000))
    admin_connection.execute(
        "INSERT INTO category_names (user_id, name, shown_as, valid_from, valid_to) VALUES "
        "(%(user)s, 'Food', 'Groceries', '2025-05-01', NULL), "
        "(%(user)s, 'Fuel', 'Petrol', '2025-04-01', '2025-05-01')",
        {"user": user_id},
    )
    return written


ONE_BY_ONE = [
    TransactionFilter(),
    TransactionFilter(account="card"),
    TransactionFilter(date_from=FIRST_DAY + dt.timedelta(days=9)),
    TransactionFilter(date_to=FIRST_DAY + dt.timedelta(days=9)),
    TransactionFilter(category="Groceries"),
    TransactionFilter(category="Fuel"),
    TransactionFilter(uncategorised=True),
    TransactionFilter(labelled_by="human"),
    TransactionFilter(labelled_by="rule"),
    TransactionFilter(labelled_by="import"),
    TransactionFilter(amount_min=Decimal("-3.5")),
    TransactionFilter(amount_max=Decimal("-3.5")),
    TransactionFilter(merchant="Aldi"),
    TransactionFilter(search="leeds"),
    TransactionFilter(search="sale 50% off_"),
    TransactionFilter(search="aLDI ÜBER"),
    TransactionFilter(search="a\\b"),
]


@pytest.mark.parametrize("wanted", ONE_BY_ONE, ids=repr)
def test_a_condition_lists_what_meets_it_and_nothing_else(
    user_id: int, rows: list[Written], wanted: TransactionFilter
) -> None:
    assert expected(rows, wanted), "the condition must have something to find"
    assert listed(user_id, wanted) == expected(rows, wanted)


@pytest.mark.parametrize("wanted", [{"category": "Food"}, {"category": "Petrol"}, {"search": "x%y"}])
def test_an_old_name_a_name_that_has_ended_and_a_pattern_find_nothing(
    user_id: int, rows: list[Written], wanted: dict[str, str]
) -> None:
    assert rows
    assert listed(user_id, TransactionFilter(**wanted)) == []  # type: ignore[arg-type]


amounts = st.none() | st.integers(-160, 60).map(lambda quarter: Decimal(quarter) / 4)
days = st.none() | st.integers(-1, 18).map(lambda day: FIRST_DAY + dt.timedelta(days=day))
combined = st.builds(
    TransactionFilter,
    account=st.sampled_from([None, None, "card", "current", "Card"]),
    date_from=days,
    date_to=days,
    category=st.sampled_from([None, None, "Groceries", "Food", "Fuel", "Rent"]),
    uncategorised=st.booleans(),
    labelled_by=st.sampled_from([None, None, "human", "rule", "import"]),
    amount_min=amounts,
    amount_max=amounts,
    merchant=st.sampled_from([None, None, "Aldi", "100%", "%"]),
    search=st.lists(st.sampled_from(["leeds", "LEEDS", "%", "_", "50", "off", "café", "ÜBER", "\\", "aldi"])).map(
        " ".join
    ),
)


def test_conditions_together_list_what_meets_all_of_them(user_id: int, rows: list[Written]) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(wanted=combined, limit=st.integers(1, 100))
    def check(wanted: TransactionFilter, limit: int) -> None:
        assert listed(user_id, wanted, limit) == expected(rows, wanted)

    check()


def test_a_row_shows_the_category_s_name_of_today_and_the_label_s_own_word(user_id: int, rows: list[Written]) -> None:
    renamed = next(row for row in rows if row.label == "Food" and not row.deleted)
    with session_for_user(user_id) as session:
        shown = read_transaction(session, user_id, renamed.id)
    assert shown.label is not None
    assert (shown.category, shown.label.label, shown.label.source) == ("Groceries", "Food", renamed.source)
    assert [(entry.label, entry.source) for entry in shown.history] == [("Food", renamed.source)]


# --- pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 240, 500])
def test_pages_of_any_size_hold_every_row_once(user_id: int, rows: list[Written], limit: int) -> None:
    assert listed(user_id, limit=limit) == expected(rows, TransactionFilter())


def test_the_last_page_has_no_next_even_when_it_is_full(user_id: int, rows: list[Written]) -> None:
    there_are = len(expected(rows, TransactionFilter()))
    (page,) = pages(user_id, TransactionFilter(), limit=there_are)
    assert len(page.transactions) == there_are


def test_rows_that_arrive_or_go_between_pages_neither_repeat_nor_hide_others(
    user_id: int, rows: list[Written], admin_connection: psycopg.Connection
) -> None:
    before = expected(rows, TransactionFilter())
    seen: list[int] = []
    turning = pages(user_id, TransactionFilter(), limit=20)
    for number, page in enumerate(turning):
        seen += [row.id for row in page.transactions]
        # One above the place where the reader is, one on its very day, one below.
        reached = page.transactions[-1].date
        model = replace(rows[1], deleted=False, label=None, source=None)
        for offset in (-1, 0, 1):
            row = replace(model, id=6000 + 3 * number + offset, date=reached + dt.timedelta(days=offset))
            write_rows(admin_connection, user_id, [row])
        # What was the end of the page is gone before the next one is read.
        admin_connection.execute("UPDATE transactions SET deleted_at = now() WHERE id = %s", [seen[-1]])
    assert len(seen) == len(set(seen))
    assert [txn_id for txn_id in seen if txn_id < 5000] == before


def encoded(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "after",
    [
        "", "x", "=", "é", "\0", "\ud800", "a" * 10_000,
        encoded("2/2025-03-03/1"), encoded("1/2025-02-30/1"), encoded("1/2025-03-03/0"), encoded("1/2025-03-03/-1"),
        encoded(f"1/2025-03-03/{2**63}"), encoded("1/2025-03-03/1/2"), encoded("1/0000-01-01/1"), encoded("1/x/y"),
        encoded("1/2025-03-03/1\n"), encoded("1/2025-03-03/\u0661"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_place_that_no_page_gave_is_refused(user_id: int, after: str) -> None:
    with session_for_user(user_id) as session, pytest.raises(InvalidInput, match="no place in the list"):
        list_transactions(session, user_id, TransactionFilter(), after=after)


def test_no_text_as_a_place_does_worse_than_being_refused(user_id: int, rows: list[Written]) -> None:
    assert rows
    places = st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    near = st.builds(lambda day, txn_id: encoded(f"1/{day}/{txn_id}"), st.dates() | st.text(max_size=12), st.integers())

    @settings(max_examples=300, deadline=None)
    @given(places | near.filter(lambda place: place.isascii()))
    def check(after: str) -> None:
        with session_for_user(user_id) as session:
            try:
                list_transactions(session, user_id, TransactionFilter(), limit=1, after=after)
            except InvalidInput:
                return

    check()


# --- what a page costs --------------------------------------------------------------------------------------------


@pytest.fixture
def long_ledger(admin_connection: psycopg.Connection, user_id: int) -> int:
    """A user with many transactions, two in three of them labelled; others have theirs between them."""
    admin_connection.execute("INSERT INTO users (name) SELECT 'other ' || n FROM generate_series(1, 3) AS n")
    admin_connection.execute(
        """
        INSERT INTO transactions (user_id, account, date, amount, description, merchant_canonical, fingerprint)
        SELECT
            CASE WHEN n %% 5 = 0 THEN %(user)s + 1 + n / 5 %% 3 ELSE %(user)s END, 'card', '2015-01-01'::date + n / 30,
            -1 - n %% 100, 'SHOP ' || n %% 1000 || ' TOWN', 'shop ' || n %% 1000, int4send(n::int)
        FROM generate_series(1, %(rows)s * 5 / 4) AS n
        """,
        {"user": user_id, "rows": MANY},
    )
    admin_connection.execute(
        "INSERT INTO transaction_labels (txn_id, label, source) "
        "SELECT id, 'Category ' || id % 12, 'human' FROM transactions WHERE id % 3 > 0"
    )
    admin_connection.execute("ANALYZE transactions, transaction_labels, category_names")
    return user_id


@pytest.fixture
def plans(database: str) -> Iterator[list[dict[str, Any]]]:
    """What the statements that have listed transactions since did, step by step."""
    assert database
    seen: list[dict[str, Any]] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT transactions.id"):
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
            (plan,) = cursor.fetchone()
            seen.append((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"])

    event.listen(get_engine("app"), "before_cursor_execute", explain)
    yield seen
    event.remove(get_engine("app"), "before_cursor_execute", explain)


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from steps(part)


@pytest.mark.parametrize(
    "wanted",
    [
        TransactionFilter(),
        TransactionFilter(search="shop town"),
        TransactionFilter(uncategorised=True),
        TransactionFilter(labelled_by="human"),
        TransactionFilter(date_to=dt.date(2022, 1, 1)),
    ],
    ids=repr,
)
def test_the_first_page_and_one_deep_down_read_the_index_in_its_order(
    long_ledger: int, plans: list[dict[str, Any]], wanted: TransactionFilter
) -> None:
    with session_for_user(long_ledger) as session:
        list_transactions(session, long_ledger, wanted)
        deep = list_transactions(session, long_ledger, wanted, after=encoded("1/2016-01-01/3000"))
    assert len(deep.transactions) == 50
    assert deep.transactions[0].date <= dt.date(2016, 1, 1)
    assert len(plans) == 2
    for plan in plans:
        by_index = [step for step in steps(plan) if step.get("Index Name") == "ix_transactions_user_id_date_id"]
        assert [step["Scan Direction"] for step in by_index] == ["Backward"]
        # Three in four of the rows at worst, so that a page takes a few of them and never the ledger.
        assert by_index[0]["Actual Rows"] < 200
        assert not [step for step in steps(plan) if "Sort" in step["Node Type"]]


# --- the API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(database: str, user_id: int) -> Iterator[TestClient]:
    """A program with a token of the user."""
    assert database
    get_settings.cache_clear()
    with session_for_user(user_id) as session:
        secret = new_token(session, user_id, name="test", scope="write").secret
    with TestClient(create_app(), base_url="http://localhost:8000", client=("127.0.0.1", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        yield client
    get_settings.cache_clear()


def test_the_api_takes_every_condition_and_turns_the_pages(client: TestClient, rows: list[Written]) -> None:
    parameters = {
        "account": "card", "from": "2025-03-02", "to": "2025-03-16", "category": "Groceries",
        "labelled_by": "rule", "amount_min": "-40", "amount_max": "20.5", "search": "e",
    }  # fmt: skip
    wanted = TransactionFilter(
        account="card", date_from=dt.date(2025, 3, 2), date_to=dt.date(2025, 3, 16), category="Groceries",
        labelled_by="rule", amount_min=Decimal(-40), amount_max=Decimal("20.5"), search="e",
    )  # fmt: skip
    first = client.get("/transactions", params=parameters | {"limit": 2}).json()
    second = client.get("/transactions", params=parameters | {"limit": 500, "after": first["next"]}).json()
    ids = [row["id"] for row in first["transactions"] + second["transactions"]]
    assert len(ids) > 2
    assert ids == expected(rows, wanted)
    assert second["next"] is None


def test_a_transaction_is_answered_with_all_that_is_promised(client: TestClient, rows: list[Written]) -> None:
    row = next(row for row in rows if row.label == "Food" and row.merchant == "Aldi" and not row.deleted)
    answer = client.get(f"/transactions/{row.id}").json()
    when = answer["label"].pop("updated_at")
    assert answer == {
        "id": row.id, "date": row.date.isoformat(), "posted_at": None, "account": row.account,
        "amount": f"{row.amount:.2f}", "currency": None, "description": row.description, "merchant": "Aldi",
        "mcc": None, "category": "Groceries", "label": {"label": "Food", "source": row.source},
        "history": [{"at": when, "label": "Food", "source": row.source}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"}, {"limit": "501"}, {"labelled_by": "model"}, {"from": "yesterday"}, {"amount_min": "NaN"},
        {"amount_max": "1.234"}, {"search": "a\0"}, {"search": "x" * 201}, {"catgory": "Fuel"}, {"after": "x" * 65},
    ],
    ids=repr,
)  # fmt: skip
def test_a_condition_that_is_none_is_refused(client: TestClient, parameters: dict[str, str]) -> None:
    assert client.get("/transactions", params=parameters).status_code == 422


def test_a_wrong_place_is_answered_with_what_to_do(client: TestClient) -> None:
    answer = client.get("/transactions", params={"after": "nowhere"})
    assert answer.status_code == 400
    assert "`next`" in answer.json()["detail"]
    assert "nowhere" not in answer.text


def test_what_is_deleted_somebody_else_s_or_never_was_looks_the_same(client: TestClient, rows: list[Written]) -> None:
    deleted = next(row.id for row in rows if row.deleted)
    answers = [client.get(f"/transactions/{txn_id}") for txn_id in (deleted, 1001, 999_999)]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert len({answer.json()["detail"] for answer in answers}) == 1


# --- the command line ----------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(lm, ["transactions", *arguments, "--user", "somebody"])
    assert result.exit_code == 0, result.output
    return result.output


def test_an_empty_ledger_says_what_to_do(user_id: int) -> None:
    assert user_id
    assert "lm ingest FILE" in run("list")


def test_a_list_without_rows_says_that_the_conditions_are_why(rows: list[Written]) -> None:
    assert rows
    assert "Leave a condition out" in run("list", "--search", "nowhere")


@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits_the_terminal_with_one_line_a_row(
    user_id: int, admin_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    row = replace(
        some_rows()[1], id=12_345_678, account="a very long account's name", amount=Decimal("-1234567.89"),
        description="LONG\n\x1b[31mTEXT " * 30, label="Eating out with very many people", source="human",
    )  # fmt: skip
    write_rows(admin_connection, user_id, [row])
    output = run("list")
    assert max(map(len, output.splitlines())) <= columns
    assert len([line for line in output.splitlines() if "12345678" in line]) == 1
    assert "\x1b" not in output
    for whole in ("2025-03-14", "-1,234,567.89", "human", "LONG", "a ", "Eating"):
        assert whole in output


def test_the_list_takes_the_same_conditions_and_prints_json(rows: list[Written]) -> None:
    wanted = TransactionFilter(
        account="card", date_from=dt.date(2025, 3, 2), date_to=dt.date(2025, 3, 16), category="Groceries", search="o"
    )
    arguments = [
        "--account", "card", "--from", "2025-03-02", "--to", "2025-03-16", "--category", "Groceries", "--search", "o",
        "--limit", "3", "--json",
    ]  # fmt: skip
    first = json.loads(run("list", *arguments))
    second = json.loads(run("list", *arguments, "--after", first["next"], "--limit", "500"))
    ids = [row["id"] for row in first["transactions"] + second["transactions"]]
    assert len(ids) > 3
    assert ids == expected(rows, wanted)


def test_a_transaction_that_is_gone_is_not_found(user_id: int, rows: list[Written]) -> None:
    deleted = next(row.id for row in rows if row.deleted)
    with session_for_user(user_id) as session, pytest.raises(NotFound):
        read_transaction(session, user_id, deleted)
