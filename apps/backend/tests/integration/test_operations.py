"""What operators rely on: the rules, the dashboard and the scrape, on a real Prometheus and a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import httpx2
import psycopg
import pytest
import yaml
from processes import METRICS_TOKEN, answers, free_address, running, server, wait_until

from app.config import BACKEND_DIR, REPOSITORY_ROOT, get_settings
from app.embedded_postgres import client_binary
from app.services.metrics import render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMETHEUS = REPOSITORY_ROOT / "ops" / "prometheus"
DASHBOARD = REPOSITORY_ROOT / "ops" / "grafana" / "dashboards" / "ledgermill.json"

STATEMENT = """Date,Description,Amount
2025-03-14,COFFEE CORNER,-3.20
2025-03-15,GREEN GROCER,-21.75
2025-03-16,EMPLOYER PAYROLL,1850.00
"""


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "config", str(configure(tmp_path)))


@pytest.mark.parametrize("cases", sorted(PROMETHEUS.glob("tests/*.yml")), ids=lambda path: path.name)
def test_alerts_fire_and_stay_quiet_as_their_cases_say(cases: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(cases))


def test_every_alert_has_a_case_that_fires_and_one_that_stays_quiet() -> None:
    expected: dict[str, set[bool]] = {rule["alert"]: set() for rule in alert_rules()}
    for path in PROMETHEUS.glob("tests/*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                expected[check["alertname"]].add(bool(check["exp_alerts"]))
    assert expected == {alert: {True, False} for alert in expected}


def test_every_metric_of_ours_is_in_the_documentation_and_on_the_dashboard() -> None:
    known = set(re.findall(r"^# TYPE (lm_\w+) ", render().decode(), re.MULTILINE))
    assert "lm_shadow_dropped_total" in known
    section = (REPOSITORY_ROOT / "docs" / "operations.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`lm_[^|]+) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == known
    shown = " ".join(panel_expressions())
    assert {name for name in known if not re.search(rf"\b{name}(_bucket)?\b", shown)} == set()


def test_every_query_of_a_runbook_runs(admin_connection: psycopg.Connection) -> None:
    section = (REPOSITORY_ROOT / "docs" / "operations.md").read_text().split("## Alerts")[1].split("\n## ")[0]
    queries: list[LiteralString] = re.findall(r"^ *```sql\n(.*?)```", section, re.MULTILINE | re.DOTALL)
    assert len(queries) >= 4
    for each in queries:
        admin_connection.execute(each)


def test_prometheus_scrapes_the_server_and_answers_every_panel_and_rule(database: str, tmp_path: Path) -> None:
    assert database
    with server() as api, prometheus(tmp_path, target=api) as monitoring:
        answer = httpx2.post(f"http://{api}/ingest", files={"file": ("march.csv", STATEMENT)}, timeout=30)
        assert answer.status_code == 200, answer.text
        wait_until(lambda: query(monitoring, "lm_ingest_rows_total"))
        counted = {row["metric"]["outcome"]: row["value"][1] for row in query(monitoring, "lm_ingest_rows_total")}
        assert counted == {"inserted": "3", "duplicates": "0", "rejected": "0"}
        for expression in (*panel_expressions(), *(rule["expr"] for rule in alert_rules())):
            query(monitoring, expression)
        for expression in ('up{job="ledgermill"}', 'lm_server_resident_memory_bytes{job="ledgermill"}'):
            assert query(monitoring, expression), expression
        wait_until(lambda: all(rule["health"] == "ok" for rule in loaded_rules(monitoring)))
        assert len(loaded_rules(monitoring)) == len(alert_rules())


HISTORY = "date,description,amount,category\n" + "".join(
    f"2025-{month:02}-{day:02},ALDI LEEDS,-{day}.00,{'Groceries' if month < 3 else ''}\n"
    for month in (1, 2, 3)
    for day in range(1, 11)
)


def test_prometheus_reads_back_every_suggestion_and_answer_over_all_worker_processes(
    database: str, tmp_path: Path
) -> None:
    assert database
    with server(workers=2) as api, prometheus(tmp_path, target=api) as monitoring:

        def post(path: str, **body: Any) -> Any:
            # A connection of its own for each call, so that both processes get some.
            answer = httpx2.post(f"http://{api}{path}", timeout=30, **body)
            assert answer.is_success, answer.text
            return answer.json()

        post("/ingest", files={"file": ("history.csv", HISTORY)})
        made = [
            suggestion
            for txn_id in range(21, 31)
            for suggestion in post("/suggestions", json={"txn_ids": [txn_id, 4711]})["suggestions"]
        ]
        assert len(made) == 10
        for number, suggestion in enumerate(made[:9]):
            body = {"action": "accept"} if number % 3 else {"action": "reject"}
            for _ in range(2):  # a repeat counts once
                post(f"/suggestions/{suggestion['event_id']}/feedback", json=body)

        def counted(name: str) -> list[float]:
            return [float(row["value"][1]) for row in query(monitoring, f'{name}{{source="rule"}}')]

        wait_until(lambda: counted("lm_suggestions_rejected") == [3])
        assert counted("lm_suggestions_total") == [10]
        assert counted("lm_suggestions_accepted") == [6]
        assert counted("lm_suggestion_seconds_count") == [10]
        kinds = httpx2.get(f"http://{monitoring}/api/v1/metadata").json()["data"]
        for name in ("lm_suggestions_total", "lm_suggestions_accepted", "lm_suggestions_rejected"):
            assert [entry["type"] for entry in kinds[name]] == ["counter"]


COUNT_ANSWERS = """
from app.services.metrics import SUGGESTIONS_ABSTAINED, SUGGESTIONS_ACCEPT, SUGGESTIONS_REJECT, SUGGESTIONS_TOTAL
SUGGESTIONS_TOTAL.labels(source='rule').inc(30)
SUGGESTIONS_ABSTAINED.labels(source='rule', reason='no_candidate').inc(10)
SUGGESTIONS_ACCEPT.labels(source='rule').inc(6)
SUGGESTIONS_REJECT.labels(source='rule').inc(2)
"""

COVERAGE = """
sum by (source) (lm_suggestions_total)
  / (sum by (source) (lm_suggestions_total) + sum by (source) (lm_suggestions_abstained_total))
"""


def test_prometheus_knows_what_was_counted_by_a_process_of_the_server_that_is_gone(
    database: str, tmp_path: Path
) -> None:
    assert database
    with server() as api, prometheus(tmp_path, target=api) as monitoring:
        folder = get_settings().data_dir / "run" / api.partition(":")[2] / "metrics"
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
        subprocess.run([sys.executable, "-c", COUNT_ANSWERS], cwd=BACKEND_DIR, env=environment, check=True)

        def counted(expression: str) -> list[float]:
            return [float(row["value"][1]) for row in query(monitoring, expression)]

        wait_until(lambda: counted('lm_suggestions_total{source="rule"}') == [30])
        assert counted('lm_suggestions_accepted{source="rule"}') == [6]
        assert counted('lm_suggestions_rejected{source="rule"}') == [2]
        assert {row["metric"]["source"]: row["value"][1] for row in query(monitoring, COVERAGE)} == {
            "rule": "0.75",
            "model": "NaN",
        }


def test_mlflow_gets_its_database_once_and_its_password_each_time(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        try:
            for password in ("first", "second"):
                assert create_mlflow(database, password).returncode == 0
                with psycopg.connect(database, dbname="mlflow", user="mlflow", password=password) as mlflow:
                    assert mlflow.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'mlflow'")
                    mlflow.execute("CREATE TABLE IF NOT EXISTS experiments (id int)")
        finally:
            connection.execute("DROP DATABASE IF EXISTS mlflow")
            connection.execute("DROP ROLE IF EXISTS mlflow")


def test_mlflow_is_refused_without_a_password(database: str) -> None:
    refused = create_mlflow(database, "")
    assert refused.returncode != 0
    assert "Set MLFLOW_DB_PASSWORD in .env" in refused.stderr


def create_mlflow(url: str, password: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY_ROOT / "ops" / "postgres" / "create_mlflow.sql"
    return subprocess.run(
        [client_binary("psql"), "--no-psqlrc", f"--file={script}", url],
        env=os.environ | {"MLFLOW_DB_PASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )


def promtool(*arguments: str) -> str:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing (Debian: apt-get install prometheus)"
    return found


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels if panel["type"] != "row" for target in panel["targets"]]
    # Grafana puts a time there that fits the zoom.
    return [expression.replace("$__rate_interval", "1m") for expression in expressions]


def query(address: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx2.get(f"http://{address}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    rows: list[dict[str, Any]] = answer["data"]["result"]
    return rows


def loaded_rules(address: str) -> list[dict[str, Any]]:
    groups = httpx2.get(f"http://{address}/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, *, target: str) -> Iterator[str]:
    """Run Prometheus with our configuration, but a quicker clock and another target; give its address."""
    path = configure(folder)
    configuration = yaml.safe_load(path.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    path.write_text(yaml.safe_dump(configuration))
    address = free_address()
    command = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}", "--log.level=error",
    ]  # fmt: skip
    with running(command):
        wait_until(lambda: answers(f"http://{address}/-/ready"))
        yield address


def configure(folder: Path) -> Path:
    """Write our configuration as compose.yaml has it, with the secret in a file; return its path."""
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    configuration["rule_files"] = [str(PROMETHEUS / name) for name in configuration["rule_files"]]
    secret = folder / "metrics_token"
    secret.write_text(METRICS_TOKEN)
    authorization = configuration["scrape_configs"][0]["authorization"]
    assert authorization == {"credentials_file": f"/run/secrets/{secret.name}"}
    authorization["credentials_file"] = str(secret)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path
