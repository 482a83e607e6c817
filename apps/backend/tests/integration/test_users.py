"""People, their passwords and their tokens: on the command line, and over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import app as lm
from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.errors import Conflict, InvalidInput, LedgermillError, NotFound
from app.main import create_app
from app.services import credentials, users
from app.services.installation import ensure_user
from app.services.rate_limit import spend

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = "https://ledger.example"
PASSWORD = "correct horse"


@pytest.fixture
def client(database: str) -> Iterator[TestClient]:
    """A browser far from the server, in which nobody is logged in."""
    assert database
    with TestClient(create_app(), base_url=SITE, client=("192.0.2.7", 50000)) as client:
        yield client


@pytest.fixture
def ada(client: TestClient) -> int:
    assert client
    with session_for_jobs() as session:
        return users.add_user(session, "ada", PASSWORD)


def log_in(client: TestClient, name: str = "ada", password: str = PASSWORD, **headers: str) -> Any:
    return client.post("/login", json={"name": name, "password": password}, headers=headers)


def run(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(lm, arguments, input=typed, catch_exceptions=True)


# --- on the command line ------------------------------------------------------------------------------------------


def test_a_user_added_with_a_password_can_log_in_and_out(client: TestClient) -> None:
    assert run("user", "add", "ada", "--password-stdin", typed=f"{PASSWORD}\n").exit_code == 0
    assert log_in(client).status_code == 204
    assert client.get("/me").json()["name"] == "ada"
    secret = client.cookies["lm_session"]
    assert client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 204
    assert "lm_session" not in client.cookies
    client.cookies["lm_session"] = secret
    assert client.get("/me").status_code == 401


def test_a_login_renews_a_hash_from_when_hashing_was_cheaper(client: TestClient, ada: int) -> None:
    cheap = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    with session_for_jobs() as session:
        session.execute(text("UPDATE user_passwords SET password_hash = :hash"), {"hash": cheap})
    assert log_in(client).status_code == 204
    with session_for_jobs() as session:
        renewed = session.scalars(
            text("SELECT password_hash FROM user_passwords WHERE user_id = :id"), {"id": ada}
        ).one()
    assert not PasswordHasher().check_needs_rehash(renewed)
    assert log_in(client).status_code == 204


def test_a_user_added_without_a_password_cannot_log_in(client: TestClient) -> None:
    assert run("user", "add", "ada").exit_code == 0
    assert log_in(client, password="").status_code == 401


def test_a_new_token_is_printed_alone_and_works_until_it_is_revoked(client: TestClient) -> None:
    run("user", "add", "ada")
    printed = run("token", "new", "--user", "ada", "--name", "notebook", "--scope", "read", "--days", "30")
    secret = printed.stdout.removesuffix("\n")
    assert secret.startswith("lm_")
    assert len(secret.split()) == 1
    shown = {"Authorization": f"Bearer {secret}"}
    assert client.get("/me", headers=shown).json()["scope"] == "read"
    assert "notebook" in run("token", "list", "--user", "ada").stdout
    assert run("token", "revoke", "1", "--user", "ada").exit_code == 0
    assert client.get("/me", headers=shown).status_code == 401
    assert "revoked" in run("token", "list", "--user", "ada").stdout


def test_a_token_for_a_mistyped_user_adds_nobody(client: TestClient) -> None:
    assert client
    assert isinstance(run("token", "new", "--user", "adda").exception, NotFound)
    assert "adda" not in run("user", "list").stdout


def test_a_token_of_somebody_else_cannot_be_revoked(ada: int) -> None:
    run("token", "new", "--user", "ada")
    assert ada
    assert isinstance(run("token", "revoke", "1").exception, NotFound)


def test_a_new_password_ends_logins_and_keeps_tokens(client: TestClient, ada: int) -> None:
    with session_for_user(ada) as session:
        token = credentials.new_token(session, ada, name="t", scope="write").secret
    log_in(client)
    assert run("user", "password", "ada", "--password-stdin", typed="battery staple\n").exit_code == 0
    assert client.get("/me").status_code == 401
    client.cookies.clear()
    assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).is_success
    assert log_in(client).status_code == 401
    assert log_in(client, password="battery staple").status_code == 204


@pytest.mark.parametrize(
    ("arguments", "typed", "error"),
    [
        (("add", "ada", "--password-stdin"), f"{PASSWORD}\n", Conflict),
        (("add", "bob", "--password-stdin"), "short\n", InvalidInput),
        (("add", " bob"), "", InvalidInput),
        (("add", "b\0b"), "", InvalidInput),
        (("add", "b" * 101), "", InvalidInput),
        (("password", "bob", "--password-stdin"), f"{PASSWORD}\n", NotFound),
        (("password", "ada"), "", InvalidInput),
        (("remove", "bob", "--yes"), "", NotFound),
        (("remove", "ada"), "bob\n", InvalidInput),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence_and_changes_nothing(
    ada: int, arguments: tuple[str, ...], typed: str, error: type[LedgermillError]
) -> None:
    with session_for_jobs() as session:
        before = users.list_users(session)
        assert [account.id for account in before if account.name == "ada"] == [ada]
        assert isinstance(run("user", *arguments, typed=typed).exception, error)
        assert users.list_users(session) == before


def test_a_removed_user_leaves_nothing_but_suggestions_without_a_name(
    ada: int, admin_connection: psycopg.Connection
) -> None:
    run("token", "new", "--user", "ada")
    admin_connection.execute(f"""
        INSERT INTO transactions (id, user_id, account, date, amount, description, fingerprint)
        VALUES (7, {ada}, 'a', '2025-01-01', -1, 'x', 'x');
        INSERT INTO transaction_labels VALUES (7, 'Groceries', 'human');
        INSERT INTO suggestion_events (txn_id, user_id, mode, source, candidates)
        VALUES (7, {ada}, 'heuristic', 'rule', '[]')
    """)
    assert run("user", "remove", "ada", typed="ada\n").exit_code == 0
    for table in ("transactions", "transaction_labels", "label_events", "credentials", "user_passwords"):
        assert admin_connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table
    assert admin_connection.execute("SELECT user_id FROM suggestion_events").fetchall() == [(None,)]


# --- logging in ---------------------------------------------------------------------------------------------------


def test_the_cookie_of_a_login_is_for_this_site_s_requests_alone(client: TestClient, ada: int) -> None:
    assert ada
    attributes = log_in(client).headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/", "secure"} <= set(attributes)
    near = TestClient(client.app, base_url="http://ledger.example")
    near.portal = client.portal
    assert "secure" not in log_in(near).headers["set-cookie"].lower().split("; ")
    # A proxy that ends TLS passes the page's own words on.
    behind = {"Origin": SITE, "Sec-Fetch-Site": "same-origin"}
    assert "secure" in log_in(near, **behind).headers["set-cookie"].lower().split("; ")


def test_a_login_ends_when_its_time_is_over(client: TestClient, ada: int, admin_connection: psycopg.Connection) -> None:
    assert ada
    log_in(client)
    assert client.get("/me").is_success
    admin_connection.execute("UPDATE credentials SET expires_at = now()")
    assert client.get("/me").status_code == 401


def test_neither_the_answer_nor_its_time_tells_whether_a_name_is_known(client: TestClient, ada: int) -> None:
    assert ada

    def refusal(name: str) -> tuple[float, dict[str, Any]]:
        began = time.perf_counter()
        answer = log_in(client, name, "wrong password")
        took = time.perf_counter() - began
        assert answer.status_code == 401
        return took, {key: value for key, value in answer.json().items() if key != "request_id"}

    # In turns, so that what else the machine does slows both alike; the first unknown name must be no exception.
    known, unknown = zip(*[(refusal("ada"), refusal("eve")) for _ in range(7)], strict=True)
    assert known[0][1] == unknown[0][1]
    assert 0.5 < min(took for took, _ in known) / min(took for took, _ in unknown) < 2


def test_a_name_that_is_guessed_at_must_wait_and_others_need_not(client: TestClient, ada: int) -> None:
    assert ada
    for _ in range(users.LOGINS_BY_NAME):
        assert log_in(client, password="wrong password").status_code == 401
    refused = log_in(client)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= users.LOGIN_SECONDS / users.LOGINS_BY_NAME
    assert log_in(client, "eve").status_code == 401


def test_an_address_that_guesses_at_many_names_must_wait(client: TestClient, ada: int) -> None:
    assert ada
    for _ in range(users.LOGINS_BY_ADDRESS):
        spend("login by address", "192.0.2.7", events=users.LOGINS_BY_ADDRESS, seconds=users.LOGIN_SECONDS)
    assert log_in(client).status_code == 429


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", "Origin": SITE},
     {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_a_page_of_another_site_cannot_log_a_browser_in(client: TestClient, ada: int, headers: dict[str, str]) -> None:
    assert ada
    assert log_in(client, **headers).status_code == 403
    assert log_in(client, **{"Origin": SITE, "Sec-Fetch-Site": "same-origin"}).status_code == 204


def test_a_login_is_json_and_no_form(client: TestClient, ada: int) -> None:
    assert ada
    assert client.post("/login", data={"name": "ada", "password": PASSWORD}).status_code == 422
    text = '{"name": "ada", "password": "correct horse"}'
    assert client.post("/login", content=text, headers={"Content-Type": "text/plain"}).status_code == 422


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": SITE}])
def test_with_a_login_this_site_s_pages_may_change_things(
    client: TestClient, ada: int, headers: dict[str, str]
) -> None:
    assert ada
    log_in(client)
    answer = client.patch("/me", json={"min_confidence": 0.5}, headers=headers)
    assert answer.json()["min_confidence"] == 0.5


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "http://ledger.example"},
        {"Origin": "https://ledger.example:444"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_with_a_login_nobody_else_may(client: TestClient, ada: int, headers: dict[str, str]) -> None:
    assert ada
    log_in(client)
    assert client.patch("/me", json={"min_confidence": 0.5}, headers=headers).status_code == 403
    assert client.get("/me", headers=headers).json()["min_confidence"] is None


# --- oneself and one's tokens -------------------------------------------------------------------------------------


@pytest.fixture
def program(client: TestClient, ada: int) -> TestClient:
    """A program of Ada's, with a token."""
    with session_for_user(ada) as session:
        secret = credentials.new_token(session, ada, name="first", scope="write").secret
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def test_tokens_are_made_listed_and_revoked_over_http(program: TestClient) -> None:
    made = program.post("/tokens", json={"name": "second", "scope": "read", "days": 1}).json()
    assert program.get("/me", headers={"Authorization": f"Bearer {made['secret']}"}).json()["scope"] == "read"
    listed = program.get("/tokens").json()
    assert [token["name"] for token in listed] == ["second", "first"]
    assert "secret" not in listed[0]
    for _ in range(2):
        assert program.delete(f"/tokens/{made['id']}").status_code == 204
    assert program.get("/me", headers={"Authorization": f"Bearer {made['secret']}"}).status_code == 401
    assert program.get("/me").is_success


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("wish", [{}, {"days": 30}, {"scope": "write"}])
def test_a_token_ends_no_later_than_the_token_that_made_it(program: TestClient, wish: dict[str, Any]) -> None:
    short = program.post("/tokens", json={"name": "short", "scope": "write", "days": 1}).json()
    made = program.post("/tokens", json={"name": "long"} | wish, headers=bearer(short["secret"])).json()
    assert made["expires_at"] == short["expires_at"]
    assert program.post("/tokens", json={"name": "long"}).json()["expires_at"] is None


def test_a_login_makes_tokens_that_outlast_it(client: TestClient, ada: int) -> None:
    assert ada
    log_in(client)
    made = client.post("/tokens", json={"name": "notebook"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert made.json()["expires_at"] is None


def test_nobody_has_more_good_tokens_than_a_hundred(program: TestClient, ada: int) -> None:
    with session_for_user(ada) as session:
        last = [credentials.new_token(session, ada, name="t", scope="read") for _ in range(99)][-1]
    refused = program.post("/tokens", json={"name": "another"})
    assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
    assert program.delete(f"/tokens/{last.token.id}").status_code == 204
    assert program.post("/tokens", json={"name": "another"}).status_code == 201


@pytest.mark.parametrize("name", ["", "x" * 101, "z\udcff", "z\0"])
def test_a_token_s_name_is_text_that_can_be_stored(ada: int, name: str) -> None:
    assert ada
    assert isinstance(run("token", "new", "--user", "ada", "--name", name).exception, InvalidInput)


def test_a_login_is_no_token(program: TestClient, admin_connection: psycopg.Connection) -> None:
    log_in(program)
    (login,) = admin_connection.execute("SELECT id FROM credentials WHERE kind = 'session'").fetchall()
    assert len(program.get("/tokens").json()) == 1
    assert program.delete(f"/tokens/{login[0]}").status_code == 404
    assert program.get("/me", headers={"Authorization": f"Bearer {program.cookies['lm_session']}"}).status_code == 401


def test_logging_out_with_a_token_leaves_the_token(program: TestClient) -> None:
    assert program.post("/logout").status_code == 204
    assert program.get("/me").is_success


def test_the_database_holds_no_secret(program: TestClient, admin_connection: psycopg.Connection) -> None:
    log_in(program)
    stored = str(admin_connection.execute("SELECT * FROM credentials").fetchall())
    stored += str(admin_connection.execute("SELECT * FROM user_passwords").fetchall())
    assert len(admin_connection.execute("SELECT FROM credentials").fetchall()) == 2
    for secret in (program.headers["Authorization"].split()[1], program.cookies["lm_session"], PASSWORD):
        assert secret not in stored


@pytest.mark.parametrize("wish", [1.5, -0.1, "NaN", "much"])
def test_a_confidence_that_is_none_is_refused(program: TestClient, wish: Any) -> None:
    assert program.patch("/me", json={"min_confidence": wish}).status_code == 422
    assert program.patch("/me", json={"min_confidence": 0.25}).json()["min_confidence"] == 0.25
    assert program.patch("/me", json={"min_confidence": None}).json()["min_confidence"] is None


def test_the_api_adds_the_local_user_where_there_is_nobody(client: TestClient) -> None:
    assert client
    with session_for_jobs() as session:
        assert [account.name for account in users.list_users(session)] == [get_settings().local_user]
    assert ensure_user("local") == 1
