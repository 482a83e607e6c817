"""What holds for every request: limits, ids, a log that tells no secrets, readiness, and the API's own description."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from app.config import BACKEND_DIR, get_settings
from app.db import session_for_jobs, session_for_user
from app.main import create_app
from app.request_pool import close_request_pool
from app.services import credentials, rate_limit, users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Stands in whatever callers send; no problem and no line of the log may hold it.
MARK = "zebrafish"
KIB, MIB = 1 << 10, 1 << 20
ROW = {"date": "2025-03-03", "description": "SHOP", "amount": "-4.50"}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set variables with this, before the first request."""
    monkeypatch.setenv("LM_MAX_BODY_MIB", "1")
    monkeypatch.setenv("LM_MAX_UPLOAD_MIB", "2")
    get_settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def client(database: str, settings: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A program of somebody's, with a token, far from the server."""
    assert database
    assert settings
    app = create_app()

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError(f"the driver said {MARK}") from ValueError(MARK)

    with TestClient(app, base_url="https://ledger.example", client=("192.0.2.7", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {token_of('somebody')}"
        yield client


def token_of(name: str) -> str:
    with session_for_jobs() as session:
        user_id = users.add_user(session, name)
    with session_for_user(user_id) as session:
        return credentials.new_token(session, user_id, name="test", scope="write").secret


# --- limits -------------------------------------------------------------------------------------------------------


class Body:
    """A body in chunks that remembers how much of it was asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.read < self.size:
            self.read += 1 << 16
            yield b" " * (1 << 16)


@pytest.mark.parametrize(
    ("path", "most"), [("/features", MIB), ("/login", 16 * KIB), ("/nowhere", MIB), ("/ingest", 2 * MIB)]
)
def test_a_body_that_says_to_be_too_large_is_refused_before_any_of_it_is_read(
    client: TestClient, path: str, most: int
) -> None:
    body = Body(most + 1)
    answer = client.post(path, content=iter(body), headers={"Content-Length": str(most + 1)})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert (f"{most // MIB} MiB" if most >= MIB else f"{most // KIB} KiB") in answer.json()["detail"]


@pytest.mark.parametrize(("path", "most"), [("/features", 1), ("/login", 1), ("/ingest", 2)])
def test_a_body_that_does_not_say_its_size_is_counted(client: TestClient, path: str, most: int) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/ingest" else "application/json"
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if path == "/ingest" else b""

    def body() -> Iterator[bytes]:
        yield head
        yield from Body(10 * most * MIB)

    answer = client.post(path, content=body(), headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["title"]) == (413, "Too large")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_of_just_the_size_that_is_allowed_is_read(client: TestClient) -> None:
    row = json.dumps([ROW]).encode()
    headers = {"Content-Type": "application/json"}
    assert client.post("/features", content=row.ljust(MIB), headers=headers).status_code == 200
    assert client.post("/features", content=row.ljust(MIB + 1), headers=headers).status_code == 413
    statement = b"date,description,amount\n2025-03-03,SHOP,-4.50\n".ljust(2 * MIB - 1000, b"\n")
    assert client.post("/ingest", files={"file": ("march.csv", statement)}).status_code == 200


def test_a_user_who_asks_too_often_must_wait_and_others_need_not(
    client: TestClient, settings: pytest.MonkeyPatch
) -> None:
    settings.setenv("LM_RATE_LIMIT_PER_MINUTE", "3")
    get_settings.cache_clear()
    assert [client.get("/me").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/me")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert client.get("/me", headers={"Authorization": f"Bearer {token_of('other')}"}).status_code == 200
    bad = {"Authorization": "Bearer bad"}
    assert [client.get("/me", headers=bad).status_code for _ in range(4)] == [401, 401, 401, 429]
    assert client.get("/healthz", headers=bad).status_code == 200


def test_a_limit_of_zero_is_none(client: TestClient, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("LM_RATE_LIMIT_PER_MINUTE", "0")
    get_settings.cache_clear()
    assert {client.get("/me").status_code for _ in range(20)} == {200}


SPEND = """
import sys
from pathlib import Path
from app.services.rate_limit import open_allowances
allowances = open_allowances(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(allowances.take("requests", "user 1", events=40000, seconds=1e9) == 0 for _ in range(30000)))
"""


def test_processes_share_an_allowance(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SPEND, str(tmp_path)],
            cwd=BACKEND_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    with start() as one, start() as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        allowed = [int(process.communicate()[0]) for process in (one, two)]
    assert sum(allowed) == 40000
    assert [path.name for path in tmp_path.iterdir()] == [rate_limit.FILE_NAME]


def test_an_allowance_refills_evenly_and_says_how_long_to_wait() -> None:
    allowances = rate_limit.open_allowances(None)
    assert [allowances.take("requests", "a", events=4, seconds=1000) for _ in range(4)] == [0] * 4
    assert 249 < allowances.take("requests", "a", events=4, seconds=1000) <= 250
    # To be refused costs nothing.
    assert 249 < allowances.take("requests", "a", events=4, seconds=1000) <= 250
    assert allowances.take("requests", "b", events=4, seconds=1000) == 0
    # As much as a tiny allowance takes to refill has long passed.
    assert all(allowances.take("requests", "c", events=1, seconds=1e-9) == 0 for _ in range(100))
    allowances.close()


def test_kinds_of_allowance_do_not_reset_each_other_where_keys_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "SLOTS", 1)
    allowances = rate_limit.open_allowances(None)
    assert [allowances.take("login by name", "ada", events=2, seconds=300) for _ in range(2)] == [0, 0]
    for kind in ("requests", "login by address"):
        assert allowances.take(kind, "somebody", events=1000, seconds=60) == 0
    assert allowances.take("login by name", "ada", events=2, seconds=300) > 100
    allowances.close()


def test_a_metrics_token_that_is_guessed_at_is_counted(client: TestClient, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("LM_RATE_LIMIT_PER_MINUTE", "3")
    settings.setenv("LM_METRICS_TOKEN", "scrape")
    get_settings.cache_clear()
    bad, good = ({"Authorization": f"Bearer {token}"} for token in ("bad", "scrape"))
    assert [client.get("/metrics", headers=bad).status_code for _ in range(4)] == [401, 401, 401, 429]
    assert {client.get("/metrics", headers=good).status_code for _ in range(4)} == {200}


def test_an_allowance_from_before_the_machine_was_started_anew_holds_nobody_up(tmp_path: Path) -> None:
    rate_limit.open_allowances(tmp_path).close()
    content = (tmp_path / rate_limit.FILE_NAME).read_bytes()
    far = struct.pack("d", 1e12)
    (tmp_path / rate_limit.FILE_NAME).write_bytes(content[:16] + far * rate_limit.SLOTS * 3)
    allowances = rate_limit.open_allowances(tmp_path)
    assert [allowances.take("requests", "a", events=2, seconds=1000) for _ in range(2)] == [0, 0]
    assert allowances.take("requests", "a", events=2, seconds=1000) > 0
    allowances.close()


# --- ids and the log ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/me", "/healthz", "/nowhere", "/broken", "/metrics"])
def test_every_answer_bears_the_request_s_id_and_so_does_every_problem(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"X-Request-ID": "a.b_c-1"})
    assert answer.headers["x-request-id"] == "a.b_c-1"
    assert answer.is_success or answer.json()["request_id"] == "a.b_c-1"


@pytest.mark.parametrize("offered", ["", "a b", "a" * 65, 'x"y', "ä"])
def test_an_id_that_would_not_be_safe_in_a_log_is_replaced(client: TestClient, offered: str) -> None:
    first, second = (client.get("/me", headers={b"X-Request-ID": offered.encode()}) for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert MARK not in captured.out + captured.err
    return [json.loads(line) for line in captured.out.splitlines()]


def test_a_request_is_one_line_with_the_route_and_nothing_of_what_was_sent(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    client.get(f"/features/4711?note={MARK}", headers={"X-Request-ID": "one"})
    client.post("/features", json=[ROW | {"description": MARK, "amount": "-771.25"}])
    client.post("/ingest", files={"file": (f"{MARK}.csv", f"date,description,amount\n2025-03-03,{MARK},-771.25\n")})
    client.get(f"/{MARK}")
    client.request(MARK.upper(), "/me", headers={"User-Agent": MARK})
    logged = lines(capsys)
    assert [(line["method"], line["route"], line["status"]) for line in logged] == [
        ("GET", "/features/{txn_id}", 404), ("POST", "/features", 200), ("POST", "/ingest", 200), ("GET", None, 404),
        ("other", "/me", 405),
    ]  # fmt: skip
    assert logged[0]["request_id"] == "one"
    assert {line["user_id"] for line in logged} == {2}
    assert all(line["milliseconds"] >= 0 for line in logged)
    assert set(logged[0]) == {
        "event", "level", "timestamp", "method", "route", "status", "milliseconds", "request_id", "user_id",
    }  # fmt: skip
    assert "771" not in json.dumps([line | {"milliseconds": 0, "timestamp": "", "request_id": ""} for line in logged])


def test_an_unexpected_error_is_logged_by_its_type_and_place_and_answered_without_its_words(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    answer = client.get("/broken", headers={"X-Request-ID": "one"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert MARK not in answer.text
    assert "RuntimeError" not in answer.text
    error, request = lines(capsys)
    assert error["error"] == ["builtins.RuntimeError", "builtins.ValueError"]
    assert error["request_id"] == request["request_id"] == "one"
    assert request["status"] == 500
    assert any(re.fullmatch(r"(.+\.)?test_api_habits:\d+", place) for place in error["places"])


# --- problems -----------------------------------------------------------------------------------------------------

CONDITION = {"match": "all", "conditions": [{"field": MARK, "operator": "equals", "value": MARK}]}


@pytest.mark.parametrize(
    "request_",
    [
        ("POST", "/features", {"json": [ROW | {"amount": MARK}]}),
        ("POST", "/features", {"json": [ROW | {"date": MARK}]}),
        ("POST", "/features", {"json": {MARK: MARK}}),
        ("POST", "/features", {"content": f'[{{"{MARK}'}),
        ("POST", "/features", {"content": MARK, "headers": {"Content-Type": MARK}}),
        ("POST", "/login", {"json": {"name": MARK, "password": MARK, MARK: MARK}}),
        ("POST", "/login", {"json": {"name": MARK, "password": MARK}}),
        ("POST", "/login", {"json": {"name": MARK + "\0", "password": MARK}}),
        ("PATCH", "/me", {"json": {"min_confidence": MARK, MARK: 1}}),
        ("POST", "/tokens", {"json": {"name": MARK, "scope": MARK, MARK: {MARK: MARK}}}),
        ("POST", "/rules", {"json": {"name": MARK, "condition": CONDITION, "category": MARK}}),
        ("POST", "/ingest", {"data": {"columns": json.dumps({MARK: 1}), MARK: MARK, "action": MARK}}),
        ("POST", "/ingest", {"content": MARK, "headers": {"Content-Type": f"multipart/form-data; boundary={MARK}"}}),
        ("POST", "/ingest", {"content": MARK, "headers": {"Content-Type": "multipart/form-data"}}),
        ("GET", f"/features/{MARK}", {}),
        ("GET", f"/{MARK}?{MARK}={MARK}", {}),
        (MARK, "/me", {}),
        ("GET", "/me", {"headers": {"Authorization": f"Bearer {MARK}"}}),
        ("GET", "/me", {"headers": {"Authorization": MARK}}),
    ],
    ids=str,
)  # fmt: skip
def test_a_problem_never_repeats_what_was_sent(client: TestClient, request_: tuple[str, str, dict[str, Any]]) -> None:
    method, path, content = request_
    answer = client.request(method, path, **content)
    assert answer.is_client_error
    assert answer.headers["content-type"] == "application/problem+json"
    assert MARK not in answer.text.lower()
    assert MARK not in str(answer.headers).lower()


def test_a_fault_names_the_field_and_says_why(client: TestClient) -> None:
    assert client.post("/features", json=[ROW, ROW | {"date": "not a date"}]).json()["faults"] == [
        {"where": ["body", 1, "date"], "why": "Value error, is no day such as 2025-03-01"}
    ]


def test_of_many_faults_the_first_are_named(client: TestClient) -> None:
    answer = client.post("/features", json=[{}] * 1000)
    assert answer.status_code == 422
    assert len(answer.json()["faults"]) == 20
    unknown = json.dumps({f"k{i}": 0 for i in range(1500)}, separators=(",", ":")).encode()
    answer = client.post("/login", content=unknown, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 4 * KIB


def test_the_longest_name_and_password_can_log_in(client: TestClient) -> None:
    name, password = "\U0001f600" * users.LONGEST_NAME, "\U0001f600" * users.LONGEST_PASSWORD
    with session_for_jobs() as session:
        users.add_user(session, name, password)
    body = json.dumps({"name": name, "password": password}).encode()
    assert client.post("/login", content=body, headers={"Content-Type": "application/json"}).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/rules", "GET, POST"), ("PUT", "/tokens", "GET, POST"), ("GET", "/tokens/1", "DELETE"),
        ("PUT", "/me", "GET, PATCH"),
    ],
)  # fmt: skip
def test_a_method_that_an_address_does_not_know_is_answered_with_all_it_knows(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


# --- readiness ----------------------------------------------------------------------------------------------------


def test_the_server_is_ready_while_schema_and_program_fit(
    client: TestClient, admin_connection: psycopg.Connection
) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    ((revision,),) = admin_connection.execute("SELECT version_num FROM alembic_version").fetchall()
    admin_connection.execute("UPDATE alembic_version SET version_num = 'older'")
    try:
        answer = client.get("/readyz")
    finally:
        admin_connection.execute("UPDATE alembic_version SET version_num = %s", [revision])
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/readyz").status_code == 200


def test_without_a_database_requests_are_answered_503_and_the_process_is_alive(
    client: TestClient, settings: pytest.MonkeyPatch
) -> None:
    assert client.portal is not None
    client.portal.call(close_request_pool)
    settings.setenv("LM_APP_DATABASE_URL", f"postgresql://{MARK}:x@127.0.0.1:1/nowhere")
    get_settings.cache_clear()
    for path in ("/readyz", "/me", "/nowhere"):
        answer = client.get(path)
        assert answer.status_code == 503, path
        assert int(answer.headers["retry-after"]) > 0
        assert MARK not in answer.text
    assert client.get("/healthz").status_code == 200
    client.portal.call(close_request_pool)


# --- the API's description ----------------------------------------------------------------------------------------


def test_every_route_is_described_with_its_problems_and_with_who_may_ask(client: TestClient) -> None:
    assert client.get("/me").is_success
    description = create_app().openapi()
    assert set(description["components"]["securitySchemes"]) == {"token", "login", "metrics"}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for status in ("400", "401", "403", "404", "409", "413", "422", "429", "500", "503"):
                (media_type,) = operation["responses"][status]["content"]
                assert media_type == "application/problem+json", (method, path)
            expected = description["security"]
            if path in {"/healthz", "/readyz", "/login"}:
                expected = []
            elif path == "/metrics":
                expected = [{"metrics": []}, {}]
            assert operation.get("security", description["security"]) == expected


def test_a_problem_has_the_members_that_are_described(client: TestClient) -> None:
    described = create_app().openapi()["components"]["schemas"]["Problem"]
    for answer in (client.get("/nowhere"), client.post("/features", json={}), client.get("/broken")):
        assert set(described["required"]) <= set(answer.json()) <= set(described["properties"])


def test_the_page_of_documentation_names_every_route_and_loads_nothing(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("LM_METRICS_TOKEN", "scrape")
    get_settings.cache_clear()
    client = TestClient(create_app())
    answer = client.get("/docs", headers={"Authorization": "Bearer scrape"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in create_app().openapi()["paths"]:
        assert f"</span> {path}</h3>" in answer.text
    assert re.findall(r"<script|<link|<img|\bsrc=|@import|url\(|https?://", answer.text) == []
    targets = set(re.findall(r'href="#([^"]+)"', answer.text))
    assert targets <= set(re.findall(r'id="([^"]+)"', answer.text))
