"""A model's output never becomes a label: not in SQL under any role, not through the API, not from any code of ours.

The one way from a suggestion to a label is a person who answers it, and then the label is the person's.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest
from fastapi.testclient import TestClient

import app
from app.db import database_url, session_for_user
from app.main import create_app
from app.services.credentials import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.db import Role

APP = Path(app.__file__).parent
LABELLED, UNLABELLED = 1, 2
# What a model might be called; a source is exactly human, rule or import.
OTHER_SOURCES = ["model", "MODEL", "shadow", "auto", "heuristic", "suggestion", "Human", "human ", "", None]
WRITES: list[Literal["insert", "upsert", "update"]] = ["insert", "upsert", "update"]
STATEMENTS = {
    "insert": f"INSERT INTO transaction_labels (txn_id, label, source) VALUES ({UNLABELLED}, 'Fuel', %s)",
    "upsert": f"INSERT INTO transaction_labels (txn_id, label, source) VALUES ({LABELLED}, 'Fuel', %s) "
    "ON CONFLICT (txn_id) DO UPDATE SET label = excluded.label, source = excluded.source",
    "update": f"UPDATE transaction_labels SET label = 'Fuel', source = %s WHERE txn_id = {LABELLED}",
}


@pytest.fixture
def ledger(admin_connection: psycopg.Connection, user_id: int) -> int:
    """A user with one transaction labelled by a person and one that is not labelled."""
    for txn_id in (LABELLED, UNLABELLED):
        admin_connection.execute(
            "INSERT INTO transactions (id, user_id, account, date, amount, description, fingerprint) "
            "VALUES (%s, %s, 'card', '2025-03-03', -4.50, 'SHOP', int4send(%s))",
            [txn_id, user_id, txn_id],
        )
    admin_connection.execute("INSERT INTO transaction_labels VALUES (%s, 'Groceries', 'human')", [LABELLED])
    admin_connection.execute(
        "INSERT INTO categories (user_id, name) VALUES (%(user)s, 'Groceries'), (%(user)s, 'Fuel')", {"user": user_id}
    )
    return user_id


def connect(role: Role, user_id: int) -> psycopg.Connection:
    """Connect as a role, on behalf of a user as a request would be."""
    url = database_url(role).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SELECT set_config('lm.user_id', %s, false)", [str(user_id)])
    return connection


def labels(connection: psycopg.Connection) -> list[tuple[int, str, str]]:
    return connection.execute("SELECT txn_id, label, source FROM transaction_labels ORDER BY txn_id").fetchall()


# --- in SQL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "app", "jobs"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("source", OTHER_SOURCES, ids=repr)
def test_the_database_refuses_every_source_but_three_whoever_writes(
    ledger: int, admin_connection: psycopg.Connection, role: Role, write: str, source: str | None
) -> None:
    refusals = (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)
    refusal = psycopg.errors.InsufficientPrivilege if role == "jobs" else refusals
    with connect(role, ledger) as connection, pytest.raises(refusal):
        connection.execute(STATEMENTS[write].encode(), [source])
    assert labels(admin_connection) == [(LABELLED, "Groceries", "human")]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("source", ["human", "rule", "import"])
def test_what_trains_and_scores_writes_no_label_at_all(
    ledger: int, admin_connection: psycopg.Connection, write: str, source: str
) -> None:
    with connect("jobs", ledger) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(STATEMENTS[write].encode(), [source])
    assert labels(admin_connection) == [(LABELLED, "Groceries", "human")]


@pytest.mark.parametrize("write", WRITES)
def test_a_person_s_source_is_taken_from_a_request(ledger: int, write: str) -> None:
    """Or the refusals above might be about something else."""
    with connect("app", ledger) as connection:
        assert connection.execute(STATEMENTS[write].encode(), ["human"]).rowcount == 1


def test_copy_is_no_way_round(ledger: int, admin_connection: psycopg.Connection) -> None:
    statement = "COPY transaction_labels (txn_id, label, source) FROM STDIN"
    refusals: dict[Role, type[psycopg.Error]] = {
        "jobs": psycopg.errors.InsufficientPrivilege,
        "admin": psycopg.errors.CheckViolation,
    }
    for role, refusal in refusals.items():
        with connect(role, ledger) as connection, pytest.raises(refusal), connection.cursor().copy(statement) as copy:
            copy.write_row((UNLABELLED, "Fuel", "model"))
    assert labels(admin_connection) == [(LABELLED, "Groceries", "human")]


@pytest.mark.parametrize("role", ["app", "jobs"])
@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO label_events (txn_id, user_id, label, source) VALUES ({UNLABELLED}, 1, 'Fuel', 'human')",
        "UPDATE label_events SET label = 'Fuel'",
        "ALTER TABLE transaction_labels DROP CONSTRAINT ck_transaction_labels_source",
        "ALTER TABLE transaction_labels DISABLE TRIGGER ALL",
        "CREATE RULE pass AS ON INSERT TO suggestion_events DO ALSO DELETE FROM transaction_labels",
    ],
)
def test_nobody_writes_history_or_takes_the_guards_away(ledger: int, role: Role, statement: str) -> None:
    with connect(role, ledger) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_what_trains_and_scores_cannot_become_who_may_write_labels(
    ledger: int, admin_connection: psycopg.Connection
) -> None:
    writers = admin_connection.execute("""
        SELECT rolname FROM pg_roles
        WHERE NOT rolsuper
            AND rolname LIKE 'lm\\_%'
            AND (
                has_any_column_privilege(oid, 'transaction_labels', 'INSERT')
                OR has_any_column_privilege(oid, 'transaction_labels', 'UPDATE')
            )
            AND rolname <> (SELECT tableowner FROM pg_tables WHERE tablename = 'transaction_labels')
    """).fetchall()
    assert writers == [("lm_app",)]
    for writer in ("lm_app", "lm_owner"):
        with connect("jobs", ledger) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SET ROLE {writer}".encode())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO rules (user_id) VALUES (1)",
        "UPDATE rules SET user_id = user_id",
        "INSERT INTO rule_revisions VALUES (1, 2, 'Fuel', '{}', 'Fuel', 0, true)",
        "UPDATE rule_revisions SET category = 'Fuel'",
        "INSERT INTO rule_applications (user_id, rule_id, revision, labels) VALUES (1, 1, 1, 1)",
        "UPDATE rule_applications SET undone_at = NULL",
        "INSERT INTO rule_application_labels (application_id, txn_id, label_event_id) VALUES (1, 1, 1)",
        "UPDATE rule_application_labels SET previous_label = 'Fuel'",
        "UPDATE transactions SET category = 'Fuel'",
    ],
)
def test_what_trains_and_scores_adds_no_rule_that_would_speak_for_it_and_shows_no_category(
    ledger: int, admin_connection: psycopg.Connection, statement: str
) -> None:
    assert ledger
    with connect("jobs", ledger) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())
    shown = admin_connection.execute("SELECT category FROM transactions ORDER BY id").fetchall()
    assert shown == [("Groceries",), (None,)]


def test_what_trains_and_scores_may_read_rules_and_forget_them(ledger: int) -> None:
    with connect("jobs", ledger) as connection:
        for table in ("rules", "rule_revisions", "rule_applications", "rule_application_labels"):
            assert connection.execute(f"SELECT FROM {table}".encode()).fetchall() == []
            assert connection.execute(f"DELETE FROM {table}".encode()).rowcount == 0
        assert connection.execute("UPDATE transactions SET merchant_canonical = 'Shop'").rowcount == 2


def test_no_function_that_runs_as_its_owner_writes_labels(ledger: int, admin_connection: psycopg.Connection) -> None:
    assert ledger
    bodies = admin_connection.execute("SELECT proname, prosrc FROM pg_proc WHERE prosecdef").fetchall()
    assert len(bodies) > 3
    writing = re.compile(r"(insert\s+into|update|merge\s+into)\s+(public\.)?transaction_labels", re.IGNORECASE)
    assert [name for name, body in bodies if writing.search(body)] == []


# --- through the API -----------------------------------------------------------------------------------------------


@pytest.fixture
def client(ledger: int) -> Iterator[TestClient]:
    """A program with a token of the user that may write."""
    with session_for_user(ledger) as session:
        secret = new_token(session, ledger, name="test", scope="write").secret
    with TestClient(create_app(), base_url="http://localhost:8000", client=("127.0.0.1", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        yield client


@dataclass(frozen=True)
class Body:
    """A body that a route describes as an example of what it takes."""

    method: str
    path: str
    example: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


SAYS_A_LABEL = {"label", "labels", "category", "categories"}
OWN_WORDS = [
    {"source": "model"}, {"source": "human"}, {"label_source": "model"}, {"model": "champion"},
    {"model_version": "1"}, {"labelled_by": "model"},
]  # fmt: skip


def bodies_with_labels() -> Iterator[Body]:
    """Find every route whose JSON body holds a label, with the examples that its description gives."""
    description = create_app().openapi()
    schemas = description["components"]["schemas"]

    def resolve(schema: dict[str, Any]) -> dict[str, Any]:
        return schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def names(schema: dict[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
        reference = schema.get("$ref", "")
        if reference and reference in seen:
            return set()
        schema, seen = resolve(schema), seen | {reference}
        parts = [*schema.get("properties", {}).values(), schema.get("items", {})]
        parts += [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, [])]
        return set(schema.get("properties", {})).union(*(names(part, seen) for part in parts if part))

    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            if "application/json" not in content:
                continue
            schema = content["application/json"]["schema"]
            if names(schema) & SAYS_A_LABEL:
                examples = resolve(schema).get("examples", [])
                assert examples, f"{method} {path} takes a label and gives no example"
                yield from (Body(method.upper(), path, example) for example in examples)


def with_own_words(example: Any, words: dict[str, str]) -> Iterator[Any]:
    """Put words into the example, into each of its objects in turn."""
    if isinstance(example, dict):
        yield example | words
        for key, part in example.items():
            for changed in with_own_words(part, words):
                yield example | {key: changed}
    if isinstance(example, list):
        for position, part in enumerate(example):
            for changed in with_own_words(part, words):
                yield [*example[:position], changed, *example[position + 1 :]]


BODIES = list(bodies_with_labels())


def test_the_routes_that_take_labels_are_found() -> None:
    assert {("PATCH", "/transactions/{txn_id}"), ("POST", "/labels"), ("POST", "/suggestions/{event_id}/feedback")} <= {
        (body.method, body.path) for body in BODIES
    }


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_no_route_that_takes_a_label_lets_the_caller_say_whose_it_is(
    client: TestClient, admin_connection: psycopg.Connection, body: Body
) -> None:
    path = re.sub(r"\{\w+\}", str(UNLABELLED), body.path)
    before = labels(admin_connection)
    tried = 0
    for words in OWN_WORDS:
        for changed in with_own_words(body.example, words):
            answer = client.request(body.method, path, json=changed)
            assert answer.status_code == 422, (changed, answer.text)
            assert "Extra inputs are not permitted" in {fault["why"] for fault in answer.json()["faults"]}
            tried += 1
    assert tried >= len(OWN_WORDS)
    assert labels(admin_connection) == before


def test_a_file_s_categories_are_the_import_s_whatever_the_form_says(
    client: TestClient, admin_connection: psycopg.Connection
) -> None:
    statement = "date,description,amount,category,source\n2025-03-05,SHOP,-4.50,Fuel,model\n"
    client.post("/ingest", files={"file": ("march.csv", statement)}, data={"source": "model", "labelled_by": "model"})
    assert [source for _, _, source in labels(admin_connection)] in (["human"], ["human", "import"])


@pytest.mark.parametrize("source", ["model", "rule", "shadow"])
@pytest.mark.parametrize("mode", ["model", "auto"])
def test_an_accepted_suggestion_is_the_person_s_label_and_one_in_the_shadow_cannot_be_accepted(
    client: TestClient, ledger: int, admin_connection: psycopg.Connection, source: str, mode: str
) -> None:
    (event_id,) = admin_connection.execute(
        "INSERT INTO suggestion_events (id, served_event_id, txn_id, user_id, mode, source, candidates) "
        "VALUES (77, CASE WHEN %s = 'shadow' THEN 77 END, %s, %s, %s, %s, %s) RETURNING id",
        [source, UNLABELLED, ledger, mode, source, '[{"label": "Fuel", "confidence": 0.99, "reasons": []}]'],
    ).fetchone() or (0,)
    answer = client.post(f"/suggestions/{event_id}/feedback", json={"action": "accept"})
    written = [row for row in labels(admin_connection) if row[0] == UNLABELLED]
    if source == "shadow":
        assert (answer.status_code, written) == (404, [])
    else:
        assert (answer.status_code, written) == (200, [(UNLABELLED, "Fuel", "human")])


# --- in our own code -----------------------------------------------------------------------------------------------


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(APP.rglob("*.py")):
        yield path.relative_to(APP).as_posix(), path.read_text()


def test_two_modules_write_labels_and_no_other() -> None:
    writing = re.compile(r"(insert\s+into|update|merge\s+into|copy)\s+transaction_labels", re.IGNORECASE)
    assert {name for name, source in modules() if writing.search(source)} == {
        "services/labels.py",
        "services/ingest/labels.py",
    }
    # The mapped class would be another way to write.
    makes_one = re.compile(r"(?<!class )\bTransactionLabel\(|(insert|update)\(TransactionLabel\)")
    assert {name for name, source in modules() if makes_one.search(source)} == set()


def calls_of(name: str) -> Iterator[tuple[str, ast.Call]]:
    for module, source in modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) == name:
                yield module, node


def test_whoever_writes_a_label_says_in_so_many_words_that_it_is_a_person_s_or_a_rule_s() -> None:
    said: list[tuple[str, Sequence[Any]]] = [
        (module, [keyword.value for keyword in call.keywords if keyword.arg == "source"])
        for module, call in calls_of("write_labels")
    ]
    assert len(said) >= 3
    for module, values in said:
        (value,) = values
        assert isinstance(value, ast.Constant), module
        assert value.value in {"human", "rule"}, module


def test_nothing_that_learns_or_scores_knows_how_to_write_a_label() -> None:
    def imports(source: str) -> set[str]:
        return {
            f"{node.module}.{name.name}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }

    knowing = re.compile(r"app\.services\.(labels|labelling|ingest\.labels)\.(write|remove|restore|label|categorise)")
    found = {module for module, source in modules() if any(knowing.match(name) for name in imports(source))}
    assert "services/feedback.py" in found
    assert not [module for module in found if module.startswith("ml/") or "model" in module]
    assert "services/suggestions.py" not in found
