"""The HTTP door: thin, one transaction a request, errors as problem+json."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.config import get_settings
from app.db import session_for_user
from app.main import create_app
from app.services import ingest
from app.services.credentials import new_token
from app.services.ingest import loading
from app.services.installation import ensure_user

STATEMENT = "date,description,amount,category\n2025-03-03,SQ *BLUE BTL 0047 OAKLND,-4.50,Eating out\n"


def post(client: TestClient, content: str = STATEMENT, **fields: Any) -> Any:
    return client.post("/ingest", files={"file": ("march.csv", content)}, data=fields)


def test_a_posted_file_is_ingested_and_its_features_can_be_read(client: TestClient) -> None:
    answer = post(client, action="append", account="card")
    assert answer.status_code == 200
    assert answer.json() == {
        "import_id": 1, "rows": 1, "inserted": 1, "duplicates": 0, "rejected": 0, "deleted": 0, "labels": 1,
        "warnings": [], "rejections": [],
    }  # fmt: skip
    features = client.get("/features/1").json()
    assert features["merchant"] == "blue btl"
    assert (features["amount"], features["abs_amount"], features["dow"]) == ("-4.50", "4.50", 0)
    assert features["hour_of_day"] is None


def test_features_computed_for_rows_that_are_not_stored_equal_those_of_stored_ones(client: TestClient) -> None:
    post(client)
    row = {"date": "2025-03-03", "description": "SQ *BLUE BTL 0047 OAKLND", "amount": "-4.50"}
    computed = client.post("/features", json=[row, row | {"posted_at": "2025-03-03T14:05:00"}])
    assert computed.status_code == 200
    stored = client.get("/features/1").json()
    assert computed.json()[0] | {"txn_id": 1} == stored
    assert computed.json()[1]["hour_of_day"] == 14


def test_features_are_computed_from_what_an_ingest_would_have_stored(client: TestClient) -> None:
    row = {"date": "2025-03-03", "description": "SHOP", "amount": "-4.50"}
    midnight, unknown, short = client.post(
        "/features",
        json=[row | {"posted_at": "2025-03-03T00:00:00"}, row | {"mcc": "0000"}, row | {"mcc": "742"}],
    ).json()
    assert midnight["hour_of_day"] is None
    assert unknown["mcc"] is None
    assert short["mcc"] == "0742"


@pytest.mark.parametrize(
    "fields",
    [
        {"posted_at": "2025-03-03T10:00:00+05:00"},
        {"chanel_hint": "card"},
        {"description": "\ud800"},
        {"mcc": "a\0"},
        {"amount": "1e30"},
    ],
)
def test_a_transaction_that_could_not_be_stored_is_refused(client: TestClient, fields: dict[str, str]) -> None:
    row = {"date": "2025-03-03", "description": "SHOP", "amount": "-4.50"} | fields
    answer = client.post("/features", content=json.dumps([row]), headers={"content-type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize("txn_id", ["0", "-1", "99999999999999999999", "x"])
def test_an_id_that_no_transaction_can_have_is_refused(client: TestClient, txn_id: str) -> None:
    assert client.get(f"/features/{txn_id}").status_code == 422


def test_a_nul_in_a_field_does_no_harm(client: TestClient) -> None:
    assert post(client, account="a\0b").status_code in (200, 400, 422)


def test_a_dry_run_shows_the_mapping_and_stores_nothing(client: TestClient) -> None:
    answer = post(client, dry_run="true").json()
    assert answer["layout"]["columns"]["amount"] == "amount"
    assert answer["first_rows"][0]["description"] == "SQ *BLUE BTL 0047 OAKLND"
    assert client.get("/features/1").status_code == 404


@pytest.mark.parametrize("field", ["dryrun", "dry-run", "Dry_run"])
def test_a_misspelt_option_stores_nothing(client: TestClient, field: str) -> None:
    assert post(client, **{field: "true"}).status_code == 422
    assert client.get("/features/1").status_code == 404


def test_an_upload_has_one_file_and_options_of_a_modest_length(client: TestClient) -> None:
    two = [("file", ("a.csv", STATEMENT)), ("file", ("b.csv", STATEMENT))]
    assert client.post("/ingest", files=two).status_code == 400
    assert post(client, account="a" * 101).status_code == 422
    assert post(client, account="a" * (1 << 17)).status_code == 400
    assert post(client, account="a" * 100).status_code == 200


def test_of_many_rejected_records_all_are_counted_and_the_first_are_kept(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ingest, loading):
        monkeypatch.setattr(module, "MOST_KEPT_REJECTIONS", 5)
    answer = post(client, STATEMENT + "not a date,x,1.00,\n" * 7).json()
    assert (answer["rows"], answer["inserted"], answer["duplicates"], answer["rejected"]) == (8, 1, 0, 7)
    assert [rejection["line"] for rejection in answer["rejections"]] == [3, 4, 5, 6, 7]
    assert answer["warnings"][-1] == "7 records were rejected; the reasons of the first 5 alone are kept."


def test_an_ambiguous_file_is_answered_with_a_question_that_names_the_option(client: TestClient) -> None:
    content = "date,description,amount\n03/04/2025,SHOP,-1.00\n"
    answer = post(client, content)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["option"] == "date_format"
    assert set(answer.json()["choices"]) == {"dmy", "mdy"}
    assert post(client, content, date_format="dmy").json()["inserted"] == 1


def test_columns_can_be_named(client: TestClient) -> None:
    content = "when,what,much\n2025-03-03,SHOP,-1.00\n"
    columns = '{"date": "when", "description": "what", "amount": "much"}'
    assert post(client, content, columns=columns).json()["inserted"] == 1


@pytest.mark.parametrize("field", [{"action": "delete"}, {"decimal": "x"}, {"columns": "not json"}])
def test_a_payload_of_the_wrong_form_is_422_and_does_not_echo_its_values(
    client: TestClient, field: dict[str, str]
) -> None:
    answer = post(client, **field)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["where"][-1] == next(iter(field))
    assert next(iter(field.values())) not in answer.json()["faults"][0]["why"]


def test_features_of_somebody_else_s_transaction_look_like_none(client: TestClient) -> None:
    # With two users, a request must say which it acts for.
    with session_for_user(ensure_user("local")) as session:
        secret = new_token(session, ensure_user("local"), name="test", scope="read").secret
    client.headers["Authorization"] = f"Bearer {secret}"
    other = ensure_user("other")
    with session_for_user(other) as session:
        session.execute(
            text(
                """
                INSERT INTO transactions (id, user_id, account, date, amount, description, fingerprint)
                VALUES (7, :user, 'a', '2025-01-01', -1, 'x', 'x');
                INSERT INTO ml_features
                VALUES (7, '2025-01-01', -1, 1, 'x', NULL, NULL, NULL, 2, false, false, 'x', '{x}', 1)
            """.replace(":user", str(other))
            )
        )
    theirs, nobodys = client.get("/features/7"), client.get("/features/8")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["detail"].replace("7", "8") == nobodys.json()["detail"]


@pytest.mark.parametrize(
    "difference",
    [
        {"headers": {"Origin": "http://localhost:8000"}},
        {"headers": {"Referer": "http://localhost:8000/page"}},
        {"headers": {"Sec-Fetch-Site": "cross-site"}},
        {"headers": {"Host": "evil.example"}},
        {"client": ("192.0.2.7", 50000)},
        {"trust": "false"},
    ],
)
def test_only_a_program_on_this_machine_is_trusted(
    database: str, monkeypatch: pytest.MonkeyPatch, difference: dict[str, Any]
) -> None:
    assert database
    monkeypatch.setenv("LM_LOCAL_TRUST", difference.get("trust", "true"))
    get_settings.cache_clear()
    origin = difference.get("client", ("127.0.0.1", 50000))
    with TestClient(create_app(), base_url="http://localhost:8000", client=origin) as client:
        answer = client.get("/features/1", headers=difference.get("headers", {}))
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/healthz").json() == {"status": "alive"}
    get_settings.cache_clear()


def test_metrics_count_ingested_rows_by_outcome(client: TestClient) -> None:
    def counted(outcome: str) -> float:
        prefix = f'lm_ingest_rows_total{{outcome="{outcome}"}} '
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(prefix)]
        return float(lines[0].removeprefix(prefix)) if lines else 0.0

    before = {outcome: counted(outcome) for outcome in ("inserted", "duplicates", "rejected")}
    post(client, STATEMENT + "not a date,x,1.00,\n")
    post(client)
    assert {outcome: counted(outcome) - before[outcome] for outcome in before} == {
        "inserted": 1, "duplicates": 1, "rejected": 1,
    }  # fmt: skip


def test_a_commit_that_fails_is_not_answered_with_success(client: TestClient, database: str) -> None:
    import psycopg  # noqa: PLC0415 -- only this test breaks the schema

    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON imports DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION refuse()
        """)
        try:
            assert post(client).status_code == 500
        finally:
            admin.execute("DROP TRIGGER refuse ON imports; DROP FUNCTION refuse")
        assert admin.execute("SELECT count(*) FROM transactions").fetchone() == (0,)
