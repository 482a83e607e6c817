"""Who is answered: every route there is, asked by its owner, by somebody else, by nobody, and with lesser credentials.

The routes are taken from the application itself, so a new one is tested without being named here; one that needs a body
or a path parameter needs a line in BODIES or PARAMETERS.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from psycopg.types.json import Jsonb
from small_model import small_model
from starlette.requests import HTTPConnection

from app.api.authentication import OPERATIONS_PATHS, PUBLIC, address_of
from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.main import create_app
from app.ml.artefact import encode_artefact
from app.ml.category_model import model_to_artefact
from app.ml.tracking import artefact_root
from app.services import credentials, users
from app.services.installation import ensure_user

if TYPE_CHECKING:
    from collections.abc import Iterator

# Stands in every text of the owner's; nobody else may ever read it.
MARK = "zebrafish"
TXN, IMPORT, EVENT, RULE, APPLICATION, CATEGORY, LABELLED, VERSION = range(770001, 770009)

PARAMETERS: dict[str, int | str] = {
    "txn_id": TXN,
    "import_id": IMPORT,
    "event_id": EVENT,
    "rule_id": RULE,
    "application_id": APPLICATION,
    "category_id": CATEGORY,
    "version": VERSION,
    "name": MARK,
    "merchant": MARK,
}
CONDITION = {"match": "all", "conditions": [{"field": "merchant", "operator": "contains", "value": MARK}]}
# What callers send themselves may come back to them.
SENT = "minnow"
RENAMED = "minnow away"
DRAFT = {
    "name": SENT,
    "condition": {"match": "all", "conditions": [{"field": "amount", "minimum": "1.00"}]},
    "category": SENT,
    "priority": 1,
}
STATEMENT = f"date,description,amount\n2025-03-03,{SENT.upper()} SHOP,-4.50\n"
BODIES: dict[str, dict[str, Any]] = {
    "POST /ingest": {"files": {"file": ("march.csv", STATEMENT)}},
    "POST /features": {"json": [{"date": "2025-03-03", "description": "SHOP", "amount": "-4.50"}]},
    "POST /login": {"json": {"name": "owner", "password": "correct horse"}},
    "PATCH /me": {"json": {"min_confidence": 0.5}},
    "POST /tokens": {"json": {"name": "another"}},
    "POST /rules": {"json": DRAFT},
    "POST /rules/preview": {"json": DRAFT},
    "PUT /rules/{rule_id}": {"json": DRAFT},
    "POST /categories": {"json": {"name": f"{SENT} two"}},
    "POST /categories/merge": {"json": {"name": SENT, "into": f"{SENT} two"}},
    "POST /categories/undo": {"json": {"name": RENAMED}},
    "PATCH /transactions/{txn_id}": {"json": {"category": None}},
    "POST /labels": {"json": {"labels": [{"txn_id": TXN, "label": SENT}]}},
    "POST /ml/train": {"json": {"seed": 7}},
    "POST /suggestions": {"json": {"txn_ids": [TXN]}},
    "POST /suggestions/{event_id}/feedback": {"json": {"action": "reject"}},
}
# Nothing of them is shown to a credential that may only read.
WRITERS_ALONE = {"GET /tokens"}

ROUTES = sorted(
    f"{method} {route.path_format}"
    for route in iter_route_contexts(create_app().routes)
    for method in sorted(route.methods or ())
    if method != "HEAD"
)
GUARDED = [
    route for route in ROUTES if tuple(route.split(" ")) not in PUBLIC and route.split(" ")[1] not in OPERATIONS_PATHS
]
DESCRIBED = create_app().openapi()["paths"]


@dataclass
class World:
    """A server far from its callers, an owner of one row of each kind, and what different callers show."""

    client: TestClient
    token_id: int
    headers: dict[str, dict[str, str]]

    def ask(self, route: str, caller: str) -> Any:
        method, path = route.split(" ")
        for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
            values = PARAMETERS | {"token_id": self.token_id}
            assert name in values, f"Add a row of the owner's for the path parameter {name} to PARAMETERS."
            path = path.replace("{" + name + "}", str(values[name]))
        needs_body = "requestBody" in DESCRIBED.get(route.split(" ")[1], {}).get(method.lower(), {})
        assert not needs_body or route in BODIES, f"Add a valid body of {route} to BODIES."
        return self.client.request(method, path, headers=self.headers[caller], **BODIES.get(route, {}))


@pytest.fixture
def world(admin_connection: psycopg.Connection) -> Iterator[World]:
    with session_for_jobs() as session:
        owner = users.add_user(session, "owner", "correct horse")
        other = users.add_user(session, "other")
    own_rows(admin_connection, owner)
    headers, token_id = {"anonymous": {}, "made up": bearer("lm_made_up")}, 0
    callers: list[tuple[str, int, Literal["read", "write"]]] = [
        ("owner", owner, "write"),
        ("reader", owner, "read"),
        ("revoked", owner, "write"),
        ("expired", owner, "write"),
        ("other", other, "write"),
    ]
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    for caller, user_id, scope in callers:
        with session_for_user(user_id) as session:
            made = credentials.new_token(
                session,
                user_id,
                name=f"the {caller}'s",
                scope=scope,
                expires_at=yesterday if caller == "expired" else None,
            )
            if caller == "revoked":
                credentials.revoke_token(session, made.token.id)
                token_id = made.token.id
        headers[caller] = bearer(made.secret)
    with TestClient(create_app(), base_url="https://ledger.example", client=("192.0.2.7", 50000)) as client:
        yield World(client=client, token_id=token_id, headers=headers)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def own_rows(connection: psycopg.Connection, user_id: int) -> None:
    content = encode_artefact(*model_to_artefact(small_model()))
    (artefact_root() / "model.safetensors").write_bytes(content)
    statements = """
        UPDATE users SET own_categories = true WHERE id = %(user)s;
        INSERT INTO categories (id, user_id, name) VALUES
            (770101, %(user)s, '{MARK}'), (770102, %(user)s, '{SENT}'), (770103, %(user)s, '{RENAMED}'),
            ({CATEGORY}, %(user)s, '{MARK} of which there are none');
        INSERT INTO category_names (user_id, name, shown_as) VALUES (%(user)s, '{RENAMED}', '{SENT}');
        INSERT INTO imports (id, user_id, file_name, action, layout)
            VALUES ({IMPORT}, %(user)s, '{MARK}', 'append', '{{}}');
        INSERT INTO transactions (
            id, user_id, account, date, amount, description, merchant, merchant_canonical, fingerprint, import_id
        ) VALUES
            ({TXN}, %(user)s, '{MARK}', '2025-01-01', -770, '{MARK} shop', '{MARK}', '{MARK}', sha256('a'), {IMPORT}),
            ({LABELLED}, %(user)s, '{MARK}', '2025-01-02', -771, '{MARK} shop', '{MARK}', '{MARK}', sha256('b'),
                {IMPORT});
        INSERT INTO ml_features
            SELECT id, '2025-01-01', amount, abs(amount), '{MARK}', NULL, NULL, NULL, 2, false, false, '{MARK} shop',
                '{{{MARK}}}', 1
            FROM transactions;
        INSERT INTO transaction_labels VALUES ({LABELLED}, '{MARK}', 'human');
        INSERT INTO merchant_aliases (user_id, merchant, canonical, source)
            VALUES (%(user)s, '{MARK}', '{MARK}', 'human');
        INSERT INTO suggestion_events (id, txn_id, user_id, mode, source, candidates)
            VALUES ({EVENT}, {TXN}, %(user)s, 'heuristic', 'rule',
                '[{{"label": "{MARK}", "confidence": 0.9, "reasons": []}}]');
        INSERT INTO rules (id, user_id) VALUES ({RULE}, %(user)s);
        INSERT INTO rule_revisions (rule_id, revision, name, condition, category, priority, is_enabled)
            VALUES ({RULE}, 1, '{MARK}', %(condition)s, '{MARK}', 1, true);
        INSERT INTO ml_training_runs (user_id, status, notes) VALUES (%(user)s, 'failed', '{MARK}');
        INSERT INTO ml_training_runs (run_id, user_id, status) VALUES ({VERSION}, %(user)s, 'succeeded');
        INSERT INTO model_versions (version, user_id, run_id, sha256, artefact_name, mlflow_run_id, recipe)
            VALUES ({VERSION}, %(user)s, {VERSION}, %(sha256)s, 'model.safetensors', '{MARK}', '{MARK}');
        INSERT INTO experiments (id, user_id, name, unit, salt, ramp, guardrails, created_by)
            VALUES ({VERSION}, %(user)s, '{MARK}', 'user', '{MARK}', '{{1}}', '{{}}', '{MARK}');
        INSERT INTO experiment_arms (experiment_id, name, position, engine, share)
            VALUES ({VERSION}, '{MARK}', 0, 'rule', 0.5), ({VERSION}, 'treatment', 1, 'champion', 0.5);
        INSERT INTO rule_applications (id, user_id, rule_id, revision, labels)
            VALUES ({APPLICATION}, %(user)s, {RULE}, 1, 0)
    """.format_map(globals())
    sha256 = hashlib.sha256(content).hexdigest()
    for statement in statements.split(";\n"):
        connection.execute(statement.encode(), {"user": user_id, "condition": Jsonb(CONDITION), "sha256": sha256})


@pytest.mark.parametrize("route", GUARDED)
def test_a_route_answers_its_owner(world: World, route: str) -> None:
    answer = world.ask(route, "owner")
    assert answer.is_success, answer.text


def test_no_route_shows_or_changes_somebody_else_s_rows(world: World) -> None:
    wrong = {}
    for route in GUARDED:
        answer = world.ask(route, "other")
        hidden = answer.status_code == 404 if "{" in route else MARK not in answer.text
        # An id that was asked for may be named as unknown.
        if not hidden or (answer.is_success and f'"txn_id":{TXN}' in answer.text):
            wrong[route] = answer.text
    assert wrong == {}


@pytest.mark.parametrize("caller", ["anonymous", "revoked", "expired", "made up"])
def test_no_route_answers_who_shows_nothing_good(world: World, caller: str) -> None:
    for route in [*GUARDED, "GET /nowhere", "DELETE /healthz", "GET /login", "GET /features/"]:
        answer = world.ask(route, caller)
        assert answer.status_code == 401, route
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_that_may_read_reads_and_changes_nothing(world: World) -> None:
    for route in GUARDED:
        answer = world.ask(route, "reader")
        may = route.startswith("GET ") and route not in WRITERS_ALONE
        assert answer.is_success if may else answer.status_code == 403, (route, answer.text)


@pytest.mark.parametrize("route", [" ".join(public) for public in sorted(PUBLIC)])
@pytest.mark.parametrize("caller", ["anonymous", "revoked", "owner"])
def test_health_and_login_answer_everybody(world: World, route: str, caller: str) -> None:
    assert world.ask(route, caller).is_success


@pytest.mark.parametrize("path", sorted(OPERATIONS_PATHS))
@pytest.mark.parametrize("caller", ["anonymous", "owner"])
def test_operations_are_shown_to_no_one_far_away_without_the_metrics_token(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, caller: str
) -> None:
    assert world.ask(f"GET {path}", caller).status_code == 401
    monkeypatch.setenv("LM_METRICS_TOKEN", "scrape")
    get_settings.cache_clear()
    assert world.ask(f"GET {path}", caller).status_code == 401
    assert world.client.get(path, headers=bearer("scrape")).is_success
    get_settings.cache_clear()


def test_a_body_is_not_read_before_it_is_known_who_sends_it(world: World) -> None:
    def body() -> Iterator[bytes]:
        yield b"x"
        raise AssertionError("the body was read")

    assert world.client.post("/features", content=body()).status_code == 401


@dataclass
class Near:
    """A client on the machine that the server trusts, and the one user there is."""

    client: TestClient
    user_id: int


@pytest.fixture
def near(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Near]:
    assert database
    monkeypatch.setenv("LM_LOCAL_TRUST", "true")
    get_settings.cache_clear()
    only = ensure_user("only")
    with TestClient(create_app(), base_url="http://localhost:8000", client=("127.0.0.1", 50000)) as client:
        yield Near(client=client, user_id=only)
    get_settings.cache_clear()


def test_a_trusted_machine_acts_as_its_only_user_whatever_they_are_called(near: Near) -> None:
    assert near.client.get("/me").json() == {
        "id": near.user_id, "name": "only", "scope": "write", "min_confidence": None, "own_categories": False,
    }  # fmt: skip


def test_the_local_user_is_added_only_where_there_is_nobody(near: Near) -> None:
    assert near.client
    with session_for_jobs() as session:
        assert [account.name for account in users.list_users(session)] == ["only"]


def test_where_there_are_several_users_trust_says_that_a_token_is_needed(near: Near) -> None:
    ensure_user("second")
    answer = near.client.get("/me")
    assert answer.status_code == 401
    assert "several users" in answer.json()["detail"]
    assert "lm token new" in answer.json()["detail"]


def test_a_demo_s_user_does_not_count_where_there_is_another(near: Near) -> None:
    ensure_user("demo-household", is_demo=True)
    assert near.client.get("/me").json()["name"] == "only"


@pytest.mark.parametrize(
    "shown", [bearer("lm_bad"), {"Authorization": "Basic b246eQ=="}, {"Cookie": "lm_session=bad"}, bearer("")]
)
def test_a_bad_credential_is_refused_even_where_none_would_have_been_needed(near: Near, shown: dict[str, str]) -> None:
    assert near.client.get("/me").is_success
    assert near.client.get("/me", headers=shown).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost:8000@evil.example", "[", "127.0.0.1.nip.io", ""]
)
def test_another_name_for_this_machine_is_not_trusted(near: Near, host: str) -> None:
    for path in ("/me", "/metrics", "/docs", "/openapi.json"):
        assert near.client.get(path).is_success
        assert near.client.get(path, headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto"]
)
def test_what_a_proxy_on_the_machine_passes_on_is_not_trusted(near: Near, header: str) -> None:
    for path in ("/me", *sorted(OPERATIONS_PATHS)):
        assert near.client.get(path).is_success
        assert near.client.get(path, headers={header: "localhost"}).status_code == 401, path


@pytest.mark.parametrize(("host", "status"), [("::ffff:127.0.0.1", 200), ("::1", 200), ("::ffff:192.0.2.7", 401)])
def test_ipv4_inside_of_ipv6_is_the_address_that_it_holds(near: Near, host: str, status: int) -> None:
    client = TestClient(near.client.app, base_url="http://localhost:8000", client=(host, 50000))
    client.portal = near.client.portal
    assert client.get("/me").status_code == status


@pytest.mark.parametrize(
    ("host", "known_as"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::2", "2001:db8:0:1::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_has_one_allowance_however_it_is_written(host: str, known_as: str) -> None:
    assert address_of(HTTPConnection({"type": "http", "client": (host, 50000), "headers": []})) == known_as


def test_operations_are_shown_to_programs_on_the_machine_and_not_to_pages(near: Near) -> None:
    for path in sorted(OPERATIONS_PATHS):
        assert near.client.get(path).is_success
        for header in ({"Origin": "http://localhost:8000"}, {"Referer": "x"}, {"Sec-Fetch-Site": "cross-site"}):
            assert near.client.get(path, headers=header).status_code == 401
