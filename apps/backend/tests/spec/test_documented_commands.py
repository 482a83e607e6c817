"""The pages of commands are run from top to bottom, as a person would who follows them on a fresh clone.

Blocks marked `container` need a container engine; they are named and checked against compose.yaml and the command line
instead. The block marked `setup` is what made the environment that runs this.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from app.config import REPOSITORY_ROOT
from app.main import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = REPOSITORY_ROOT / "docs"
PROGRAMS = Path(sys.executable).parent
SERVER_STARTS_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its mark and its text."""

    line: int
    language: str
    mark: str
    text: str


def blocks_of(page: str) -> list[Block]:
    content = (DOCS / page).read_text()
    found = re.finditer(r"^```(\w+) ?(\w*)\n(.*?)^```$", content, re.MULTILINE | re.DOTALL)
    return [Block(content[: each.start()].count("\n") + 1, *each.groups()) for each in found]


class Newcomer:
    """A folder with a warehouse and a database of its own, and the programs of this environment on the path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        shutil.copytree(
            REPOSITORY_ROOT / "warehouse",
            root / "warehouse",
            ignore=shutil.ignore_patterns("target", "logs", "profiles.yml", ".user.yml"),
        )
        self.environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "LM_DATA_DIR": str(root / ".data"),
            "LM_BUILD_DIR": str(root / "build"),
            "LM_PROFILES_DIR": str(root / "warehouse"),
            "LM_LOCAL_TRUST": "true",
            "BROWSER": "true",
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def follow(self, block: Block) -> str:
        """Carry a block out and return what it prints."""
        text = block.text.replace("localhost:8000", f"localhost:{self.port}")
        if block.language == "sql":
            return self.run("lm", "db", "psql", "-c", text)
        if block.language == "python":
            return self.run(sys.executable, "-c", text)
        return self.run("bash", "-euo", "pipefail", "-c", text)

    @contextmanager
    def serving(self, *command: str, port: int, folder: str = ".") -> Iterator[None]:
        """Keep a server up for a while."""
        process = subprocess.Popen(
            command, cwd=self.root / folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(port, process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SERVER_STARTS_WITHIN_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    root = Path(tempfile.mkdtemp(prefix="lm-newcomer-"))
    root.chmod(0o755)
    newcomer = Newcomer(root)
    yield newcomer
    newcomer.run("lm", "db", "down")
    shutil.rmtree(root)


def test_every_command_on_the_commands_page_runs(newcomer: Newcomer) -> None:
    blocks = [block for block in blocks_of("commands.md") if block.mark in ("", "server")]
    printed: dict[str, str] = {}
    with newcomer.serving("lm", "serve", "--port", str(newcomer.port), port=newcomer.port):
        for block in blocks:
            if block.mark == "":
                printed[block.text] = newcomer.follow(block)
            elif "dbt docs serve" in block.text:
                port = free_port()
                with (
                    newcomer.serving("dbt", "docs", "serve", "--port", str(port), port=port, folder="warehouse"),
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page,
                ):
                    assert b"dbt Docs" in page.read()
            else:
                assert block.text == "make serve\n", "a server that this test does not start"

    def shown(part: str) -> str:
        return next(output for text, output in printed.items() if part in text)

    assert '"inserted":' in shown("curl -X POST")
    assert '"rejected":0' in shown("curl -X POST")
    assert 'lm_ingest_rows_total{outcome="inserted"}' in shown("grep lm_")
    assert re.search(r'^lm_suggestions_total\{source="rule"\} \d', shown("grep suggestion"), re.MULTILINE)
    assert "INSERT 0 1" in shown("INSERT INTO transaction_labels")
    assert "✅ Built" in shown("feature_build --all")
    assert "fk_transaction_labels_txn_id_transactions" in shown(r"\d transaction_labels")
    assert "<app.ml.models.MLFeature" in shown("db.query(Transaction)")
    assert "suggestion_mode" in shown("fct_suggestions_eval")


def test_every_snippet_on_the_export_page_runs(newcomer: Newcomer) -> None:
    newcomer.run("lm", "sample", "sample.csv", "--seed", "7")
    newcomer.run("lm", "ingest", "sample.csv")
    newcomer.run("lm", "warehouse", "build")
    blocks = blocks_of("export.md")
    assert {block.mark for block in blocks} == {""}
    exports = "".join(block.text for block in blocks if block.language == "bash")
    snippets = "".join(block.text for block in blocks if block.language == "python")
    checks = """
import decimal, pyarrow.parquet
assert set(df['sample_weight']) == {decimal.Decimal('0.50')}
assert len(train) > len(test) > 0
assert train['ts_month'].max() < test['ts_month'].min()
stored = pyarrow.parquet.read_table('training_data.parquet')
assert stored.num_rows == len(df)
assert str(stored.schema.field('amount').type).startswith('decimal128'), stored.schema.field('amount')
assert str(stored.schema.field('tokens').type).startswith('list'), stored.schema.field('tokens')
print('checked', len(df))
"""
    printed = newcomer.run("bash", "-euc", f'{exports}exec "$@"', "bash", sys.executable, "-c", snippets + checks)
    assert "checked" in printed


def test_every_call_on_the_api_page_is_answered_and_every_route_is_on_it(newcomer: Newcomer) -> None:
    blocks = blocks_of("api.md")
    # With six transactions there is nothing to train on, so what needs a model is not called.
    assert {(block.language, block.mark) for block in blocks} == {("bash", ""), ("bash", "trained")}
    script = "".join(block.text for block in blocks if block.mark != "trained")
    called = set(re.findall(r"localhost:8000(/[^\s\"?]*)", "".join(block.text for block in blocks)))
    routes = {*create_app().openapi()["paths"], "/openapi.json", "/docs"}
    patterns = {path: re.compile(re.sub(r"\{[^}]*\}", r"[^/]+", path)) for path in routes}
    assert [path for path, pattern in patterns.items() if not any(map(pattern.fullmatch, called))] == []
    assert [path for path in called if not any(pattern.fullmatch(path) for pattern in patterns.values())] == []
    strict = 'curl() { command curl --silent --show-error --fail-with-body --write-out "\\n" "$@"; }\n'
    with newcomer.serving("lm", "serve", "--port", str(newcomer.port), port=newcomer.port):
        printed = newcomer.follow(Block(0, "bash", "", strict + script))
    assert '"inserted":6' in printed
    assert '"label":"Groceries","confidence":0.' in printed
    assert '"unknown":[4711]' in printed
    assert '"action":"undo"' in printed


CONTAINER_BLOCKS = [block for block in blocks_of("commands.md") if block.mark == "container"]


@pytest.mark.parametrize("block", CONTAINER_BLOCKS, ids=lambda block: f"commands.md:{block.line}")
def test_commands_that_need_a_container_engine_name_services_and_programs_that_exist(block: Block) -> None:
    services = yaml.safe_load((REPOSITORY_ROOT / "compose.yaml").read_text())["services"]
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        assert words[:2] == ["docker", "compose"]
        if words[2] == "cp":
            assert words[4].split(":")[0] in services
            continue
        assert words[2] == "exec"
        service, program = words[3], words[4:]
        if service == "postgres":
            settings = services["postgres"]["environment"]
            assert program[:5] == ["psql", "-U", settings["POSTGRES_USER"], "-d", settings["POSTGRES_DB"]]
        else:
            assert service == "backend"
            assert (
                program[0] == "lm" or program == ["python"] or program[:3] == ["python", "-m", "app.ml.feature_build"]
            )


def test_every_command_block_of_the_page_is_run_or_named() -> None:
    assert {block.mark for block in blocks_of("commands.md")} == {"", "setup", "server", "container"}
    assert {block.language for block in blocks_of("commands.md")} == {"bash", "sql", "python"}


SPECIFIED_COMMANDS = [
    'docker compose exec postgres psql -U myuser -d finance -c "\\d transaction_labels"',
    'docker compose exec postgres psql -U myuser -d finance -c "\\dt *ml*"',
    "docker compose exec backend python -m app.ml.feature_build",
    "docker compose exec backend python -m app.ml.feature_build --start-date 2025-01-01 --end-date 2025-10-31",
    "docker compose exec backend python -m app.ml.feature_build --all",
    "docker compose exec backend python -m app.ml.feature_build --batch-size 5000",
    "docker compose exec backend python -m app.ml.feature_build --days 30",
    "docker compose exec backend python -m app.ml.feature_build --days 180",
    (
        'docker compose exec postgres psql -U myuser -d finance -c "SELECT COUNT(*), MIN(ts_month), MAX(ts_month)'
        ' FROM ml_features"'
    ),
    "cd warehouse",
    "dbt parse --profiles-dir .",
    "dbt compile --select tag:ml",
    "dbt run --select tag:ml,staging",
    "dbt run --select tag:ml",
    "dbt test --select tag:ml",
    "dbt run --select fct_training_view dim_merchants",
    "dbt docs generate",
    "dbt docs serve",
    "docker compose exec backend python",
    'curl -X POST http://localhost:8000/ingest -F "file=@sample.csv" -F "action=append"',
    "curl http://localhost:8000/metrics | grep suggestion",
    "docker compose exec postgres psql -U myuser -d finance",
]

SPECIFIED_SNIPPETS = [
    """from app.db import get_db
    from app.orm_models import Transaction
    from app.ml.models import MLFeature, TransactionLabel
    db = next(get_db())
    # Check relationships
    txn = db.query(Transaction).first()
    print(txn.label) # Should access TransactionLabel
    print(txn.features) # Should access MLFeature""",
    """INSERT INTO transaction_labels (txn_id, label, source)
    VALUES (123, 'Groceries', 'human');""",
    "import pandas as pd",
    "import psycopg2 conn = psycopg2.connect(",
    'database="finance", user="myuser", password=',
    """df = pd.read_sql(\"\"\"
    SELECT * FROM fct_training_view
    WHERE ts_month < '2025-10-01' -- Training set
    \"\"\", conn)""",
    "df['sample_weight'] = df['label_source'].map({ 'human': 3.0, 'rule': 1.0, 'import': 0.5 })",
    """SELECT suggestion_mode, COUNT(*) as suggestions, AVG(is_accepted) as acceptance_rate,
    SUM(is_correct_accept) / NULLIF(SUM(is_accepted), 0) as precision
    FROM fct_suggestions_eval
    WHERE suggested_at >= '2025-11-01'
    GROUP BY suggestion_mode""",
    "SELECT COUNT(*) FROM transaction_labels;",
    "SELECT COUNT(*) FROM ml_features;",
    "SELECT * FROM fct_training_view LIMIT 5;",
    "SELECT * FROM dim_merchants WHERE confidence = 'high' LIMIT 10;",
    "train = df[df['ts_month'] < '2025-10-01'] test = df[df['ts_month'] == '2025-10-01']",
    "from sqlalchemy import create_engine",
    "engine = create_engine(",
    "df = pd.read_sql('SELECT * FROM fct_training_view', engine",
    "df.to_parquet('training_data.parquet')",
]


def on_one_line(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())


@pytest.mark.parametrize("command", SPECIFIED_COMMANDS)
def test_every_specified_command_is_a_line_of_the_page_as_in_containers_or_as_here(command: str) -> None:
    lines = {
        on_one_line(line) for block in blocks_of("commands.md") for line in block.text.replace("\\\n", " ").splitlines()
    }
    here = command.removeprefix("docker compose exec backend ")
    here = here.replace("docker compose exec postgres psql -U myuser -d finance", "lm db psql")
    assert lines & {command, here}


@pytest.mark.parametrize("snippet", SPECIFIED_SNIPPETS)
def test_every_specified_snippet_stands_on_the_pages(snippet: str) -> None:
    shown = [on_one_line(block.text) for page in ("commands.md", "export.md") for block in blocks_of(page)]
    assert any(on_one_line(snippet) in text for text in shown)
