"""How fast suggestions are served, beside the least that a server could do, and what shadow and promotion add."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import throwaway_database
from rich.table import Table
from shadow_cost import shadow_added
from sqlalchemy import text

from app.db import database_url, get_engine, session_for_jobs, session_for_user
from app.services import deployments, installation
from app.services.credentials import new_token
from app.services.ingest import ingest_statement
from app.services.sample import generate_ledger, write_ledger
from app.services.training import train_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

WORKERS = 2
CONNECTIONS = 16
SECONDS = 4.0
ROUNDS = 3
BATCHES = 9
BATCH = 1_000
# Where neither side waits for a processor, so that what the shadow adds is not lost in queues.
PACED_RATE, PACED_CONNECTIONS = 150, 4
PROMOTE_SECONDS = 5.0
AT_LEAST = {"ratio": 0.25, "shadow_scored_share": 0.95}
AT_MOST = {
    "p99_ms": 60,
    "errors": 0,
    "batch_1000_ms": 250,
    "shadow_added_p99_ms": 1,
    "promote_failed": 0,
    "promote_seconds": 1,
}
BENCH = Path(__file__).parent
OK = 200


def bench_serving(console: Console) -> dict[str, Any]:
    """Measure all of it on a ledger of the generated sample, with a model that was trained on it."""
    with throwaway_database() as folder:
        user_id, token, versions = prepare(folder)
        with session_for_user(user_id) as session:
            ids: list[int] = list(session.execute(text("SELECT id FROM transactions ORDER BY id")).scalars())
        one_each = [[txn_id] for txn_id in ids]
        plan = {"path": "/suggestions", "token": token, "txn_ids": one_each, "connections": CONNECTIONS, "rate": None}
        with our_server() as (ours, server):
            with floor_server() as floor:
                for port in (floor, ours):
                    load(plan | {"port": port, "seconds": 2.0})
                rounds = [
                    [load(plan | {"port": port, "seconds": SECONDS}) for port in (floor, ours)] for _ in range(ROUNDS)
                ]
            batches = [ask(ours, token, ids[:BATCH]) for _ in range(BATCHES)]
            promotion = promote_under_load(plan | {"port": ours}, user_id, versions)
            paced = plan | {"port": ours, "rate": PACED_RATE, "connections": PACED_CONNECTIONS}
            shadow = shadow_added(
                lambda seconds: p99_ms(load(paced | {"seconds": seconds})), server, user_id, versions[0]
            )
    floors, served = zip(*rounds, strict=True)
    results = {
        "floor_rps": round(statistics.median(rate(answers) for answers in floors)),
        "floor_p99_ms": round(statistics.median(p99_ms(answers) for answers in floors), 1),
        "rps": round(statistics.median(rate(answers) for answers in served)),
        "p99_ms": round(statistics.median(p99_ms(answers) for answers in served), 1),
        "errors": sum(failed(answers) for answers in served),
        "ratio": round(statistics.median(rate(ours) / rate(floor) for floor, ours in rounds), 3),
        "batch_1000_ms": round(1000 * statistics.median(batches)),
        **shadow,
        **promotion,
    }
    console.print(table_of(results))
    return results


def prepare(folder: Path) -> tuple[int, str, list[int]]:
    """Fill the ledger, train two versions, let the second be champion; give the user, a token and the versions."""
    installation.prepare_installation()
    file = folder / "sample.csv"
    write_ledger(generate_ledger(seed=7), file)
    user_id = installation.ensure_user("bench")
    with session_for_user(user_id) as session:
        ingest_statement(session, user_id, file)
    with session_for_user(user_id) as session:
        token = new_token(session, user_id, name="bench", scope="write").secret
    versions = [
        train_model(user_id, seed=seed, requested_by="the benchmark", say=lambda _: None).version for seed in (1, 2)
    ]
    with get_engine("admin").begin() as connection:
        connection.execute(text("CREATE TABLE floor_transactions (id bigint PRIMARY KEY, description text)"))
        connection.execute(text("INSERT INTO floor_transactions SELECT id, description FROM transactions"))
        connection.execute(
            text("CREATE TABLE floor_events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, txn_id bigint)")
        )
        connection.execute(text("ANALYZE"))
    return user_id, token, versions


@contextmanager
def our_server() -> Iterator[tuple[int, int]]:
    """Run `lm serve`; give its port and the number of its process."""
    port = free_port()
    command = ["-m", "app.cli", "serve", "--api-only", f"--workers={WORKERS}", f"--port={port}"]
    with running(command, {"LM_RATE_LIMIT_PER_MINUTE": "0"}, f"http://127.0.0.1:{port}/readyz") as process:
        yield port, process


@contextmanager
def floor_server() -> Iterator[int]:
    """Run the floor under the same server; give its port."""
    port = free_port()
    command = ["-m", "uvicorn", "floor_app:app", f"--app-dir={BENCH}", f"--workers={WORKERS}", f"--port={port}"]
    url = database_url("admin").set(drivername="postgresql").render_as_string(hide_password=False)
    with running([*command, "--no-access-log", "--log-level=warning"], {"FLOOR_URL": url}, None):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        time.sleep(1)
        yield port


@contextmanager
def running(command: list[str], settings: dict[str, str], ready: str | None) -> Iterator[int]:
    """Run a program of ours until the end of the block, from when an address answers; give its process's number."""
    with subprocess.Popen(
        [sys.executable, *command], env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while ready is not None and not answers_at(ready):
                if process.poll() is not None:
                    sys.exit(f"{command} ended")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()


def answers_at(url: str) -> bool:
    """Tell whether an address answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- an address of our own
            return bool(answer.status == OK)
    except OSError:
        return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(plan: dict[str, Any]) -> list[list[Any]]:
    """Carry out a plan of `load.py`."""
    done = subprocess.run(
        [sys.executable, BENCH / "load.py"], input=json.dumps(plan), capture_output=True, check=True, text=True
    )
    answers: list[list[Any]] = json.loads(done.stdout)
    return answers


def ask(port: int, token: str, ids: Sequence[int]) -> float:
    """Ask about many transactions at once; return the seconds it took."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/suggestions",
        json.dumps({"txn_ids": ids}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- the same
        assert len(json.loads(answer.read())["suggestions"]) == len(ids)
    return time.perf_counter() - began


def promote_under_load(plan: dict[str, Any], user_id: int, versions: Sequence[int]) -> dict[str, float]:
    """Promote and roll back while suggestions are asked for.

    Returns:
        promote_failed: requests that failed. promote_seconds: from a decision's end to the last answer by the version
        before it, the longer of the two.
    """
    first, second = versions
    decision = {"actor": "the benchmark", "reason": "To see how long it takes."}
    with subprocess.Popen(
        [sys.executable, BENCH / "load.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(plan | {"seconds": PROMOTE_SECONDS}))
        process.stdin.close()
        process.stdin = None
        time.sleep(PROMOTE_SECONDS * 0.4)
        with session_for_jobs() as session:
            deployments.promote(session, user_id, first, **decision)
        promoted = time.monotonic()
        time.sleep(PROMOTE_SECONDS * 0.25)
        with session_for_jobs() as session:
            deployments.rollback(session, user_id, **decision)
        rolled_back = time.monotonic()
        answers = json.loads(process.communicate()[0])
    old_after_promotion = [end - promoted for _, end, _, version in answers if version == second and end < rolled_back]
    old_after_rollback = [end - rolled_back for _, end, _, version in answers if version == first]
    assert min(version for *_, version in answers if version) == first, "nobody was answered by what was promoted"
    return {
        "promote_failed": failed(answers),
        "promote_seconds": round(max(0.0, *old_after_promotion, *old_after_rollback), 3),
    }


def rate(answers: Sequence[Sequence[Any]]) -> float:
    """Answers per second."""
    seconds: float = max(end for _, end, _, _ in answers) - min(start for start, *_ in answers)
    answered = sum(1 for _, _, status, _ in answers if status == OK)
    return answered / seconds


def p99_ms(answers: Sequence[Sequence[Any]]) -> float:
    """Give the milliseconds within which 99 of 100 answers came."""
    return 1000.0 * float(statistics.quantiles((end - start for start, end, _, _ in answers), n=100)[-1])


def failed(answers: Sequence[Sequence[Any]]) -> int:
    """Count requests that were not answered with success."""
    return sum(status != OK for _, _, status, _ in answers)


def table_of(results: dict[str, Any]) -> Table:
    """Show the figures beside what they must reach."""
    table = Table(title=f"Serving, {WORKERS} workers, {CONNECTIONS} connections", title_justify="left")
    for column in ("what", "floor", "ours", "reach"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("requests/s", f"{results['floor_rps']:,}", f"{results['rps']:,}", "")
    table.add_row("share of the floor", "", f"{results['ratio']:.1%}", f"≥ {AT_LEAST['ratio']:.0%}")
    table.add_row("p99, ms", f"{results['floor_p99_ms']}", f"{results['p99_ms']}", f"≤ {AT_MOST['p99_ms']}")
    for what, name in (
        ("errors", "errors"),
        ("1,000 transactions at once, ms", "batch_1000_ms"),
        ("shadow adds to p99, ms", "shadow_added_p99_ms"),
        ("failed while promoting", "promote_failed"),
        ("last answer by the version before, s", "promote_seconds"),
    ):
        table.add_row(what, "", f"{results[name]}", f"≤ {AT_MOST[name]}")
    for what, name in (("shadow adds, interval", "shadow_added"), ("nothing adds, interval", "nothing_added")):
        low, high = results[f"{name}_p99_interval"]
        table.add_row(what, "", f"{low} … {high}", "")
    scored = f"{results['shadow_scored_share']:.1%}"
    table.add_row("scored in the shadow", "", scored, f"≥ {AT_LEAST['shadow_scored_share']:.0%}")
    return table
