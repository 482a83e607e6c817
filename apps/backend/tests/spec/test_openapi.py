"""The API holds to its own description, whatever it is asked: generated requests against a real server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from app.config import BACKEND_DIR
from app.db import session_for_user
from app.services.credentials import new_token
from app.services.ingest import ingest_statement
from app.services.installation import ensure_user
from app.services.rules import RuleDraft, add_rule, apply_rule
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 60
EXAMPLES = 25
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method", "missing_required_header",
    "ignored_auth",
]  # fmt: skip

STATEMENT = "date,description,amount,category\n" + "".join(
    f"2025-03-{day:02},ALDI 0041 LEEDS,-{day}.50,{'Groceries' if day < 20 else ''}\n" for day in range(1, 25)
)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if httpx2.get(url, timeout=5).is_success:
                return
        except httpx2.HTTPError:
            pass
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.2)


@pytest.fixture
def token(database: str, tmp_path: Path) -> str:
    """A token of somebody who has one or more of everything, so that ids from one on are somebody's."""
    assert database
    user_id = ensure_user("somebody")
    path = tmp_path / "march.csv"
    path.write_text(STATEMENT)
    with session_for_user(user_id) as session:
        ingest_statement(session, user_id, path)
    suggest_now(user_id, list(range(1, 25)))
    draft = RuleDraft.model_validate(
        {
            "name": "aldi",
            "condition": {
                "match": "all", "conditions": [{"field": "description", "operator": "contains", "value": "aldi"}]
            },
            "category": "Groceries",
        }
    )  # fmt: skip
    with session_for_user(user_id) as session:
        rule = add_rule(session, user_id, draft)
        apply_rule(session, user_id, rule.rule_id)
        return new_token(session, user_id, name="schemathesis", scope="write").secret


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the server writes."""
    return tmp_path / "server.log"


@pytest.fixture
def server(token: str, log: Path) -> Iterator[str]:
    """Serve this test's database without an allowance; give the address."""
    assert token
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--api-only", "--port", address.rpartition(":")[2]],
            cwd=BACKEND_DIR,
            env=os.environ | {"LM_RATE_LIMIT_PER_MINUTE": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_for(f"{address}/readyz", process)
            yield address
        finally:
            process.kill()


def test_no_request_breaks_the_server_or_its_description(server: str, token: str, log: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "st", "run", f"{server}/openapi.json",
            "--header", f"Authorization: Bearer {token}",
            "--checks", ",".join(CHECKS),
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(EXAMPLES),
            "--seed", "1",
            "--generation-database", "none",
            # Either could end what the requests are made with.
            "--exclude-path", "/logout",
            "--exclude-name", "DELETE /tokens/{token_id}",
            "--continue-on-failure",
            "--no-color",
            "--warnings", "off",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    logged = log.read_text()
    assert '"status": 2' in logged or '"status":2' in logged
    assert "unexpected error" not in logged
