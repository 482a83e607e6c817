"""What /metrics says: names and label values that stay, and totals that stay right over processes and their deaths."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import stat
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import prometheus_client
import psutil
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.api.http_metrics import count_requests
from app.config import BACKEND_DIR, get_settings
from app.main import create_app
from app.services import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PATIENCE_SECONDS = 60
REQUESTS = 300

Series = tuple[str, tuple[tuple[str, str], ...]]


def series_of(exposition: str) -> dict[Series, float]:
    """Read an exposition as Prometheus does, family by family."""
    found = {}
    for line in exposition.splitlines():
        if line.startswith("#"):
            continue
        for family in text_string_to_metric_families(line):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def own_series() -> dict[Series, float]:
    return series_of(metrics.render().decode())


def growth(before: dict[Series, float], name: str) -> dict[tuple[str, ...], float]:
    """Give what has grown since, by the values of the labels in alphabetical order of their names."""
    return {
        tuple(value for _, value in labels): value - before.get((sample, labels), 0)
        for (sample, labels), value in own_series().items()
        if sample == name and value != before.get((sample, labels), 0)
    }


def fresh_process(code: str) -> str:
    """Run code in a process of its own, in which nothing has been counted."""
    done = subprocess.run([sys.executable, "-c", code], cwd=BACKEND_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FROM_THE_START = [
    *product(
        ["lm_suggestions_total", "lm_suggestions_accepted", "lm_suggestions_rejected", "lm_suggestion_seconds_count"],
        [{"source": "rule"}, {"source": "model"}],
    ),
    *(
        ("lm_suggestions_abstained_total", {"source": source, "reason": reason})
        for source, reason in product(["rule", "model"], ["no_candidate", "below_confidence"])
    ),
    *(("lm_model_fallbacks_total", {"reason": reason}) for reason in ["none", "broken", "loading", "slow", "failed"]),
    *(("lm_labels_total", {"source": source}) for source in ["human", "rule", "import"]),
    *(("lm_ingest_rows_total", {"outcome": outcome}) for outcome in ["inserted", "duplicates", "rejected"]),
    ("lm_features_built_total", {}),
    *((f"lm_shadow_{what}_total", {}) for what in ["scored", "dropped", "failed", "restarts"]),
    *(
        ("lm_http_requests_total", {"method": method, "route": "unmatched", "status": status})
        for method, status in product(
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"], ["2xx", "3xx", "4xx", "5xx"]
        )
    ),
    ("lm_http_request_seconds_count", {"route": "unmatched"}),
]


def test_every_series_is_there_at_zero_before_anything_has_happened() -> None:
    shown = series_of(fresh_process("from app.services.metrics import render; print(render().decode())"))
    counted = {
        series: value
        for series, value in shown.items()
        if series[0].startswith("lm_") and not series[0].startswith("lm_server_")
        and not series[0].endswith(("_bucket", "_sum"))
    }  # fmt: skip
    assert counted == {(name, tuple(sorted(labels.items()))): 0 for name, labels in FROM_THE_START}


@pytest.mark.parametrize("family", ["lm_suggestions_total", "lm_suggestions_accepted", "lm_suggestions_rejected"])
def test_the_specified_families_are_counters_under_exactly_their_names(family: str) -> None:
    lines = fresh_process(
        "from app.services.metrics import *\n"
        "for metric in (SUGGESTIONS_TOTAL, SUGGESTIONS_ACCEPT, SUGGESTIONS_REJECT):\n"
        "    metric.labels(source='rule').inc()\n"
        "print(render().decode())"
    ).splitlines()
    assert f"# TYPE {family} counter" in lines
    assert any(line.startswith(f"# HELP {family} ") for line in lines)
    assert f'{family}{{source="rule"}} 1.0' in lines
    assert f'{family}{{source="model"}} 0.0' in lines


def test_promtool_finds_no_fault_but_the_two_names_that_are_fixed() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing (Debian: apt-get install prometheus)"
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics.render(), capture_output=True, check=False)
    assert sorted(checked.stderr.decode().splitlines()) == [
        'lm_suggestions_accepted counter metrics should have "_total" suffix',
        'lm_suggestions_rejected counter metrics should have "_total" suffix',
    ]


def test_whatever_stands_in_help_and_labels_is_read_back_as_it_was() -> None:
    nasty = 'a "quoted" \\n \\ \n end'

    class Collector:
        def collect(self) -> Iterable[Metric]:
            counter = Metric("a_test", nasty, "counter")
            counter.add_sample("a_test_total", {"b": nasty, "a": ""}, 1e21)
            histogram = Metric("a_test_seconds", "x", "histogram")
            for name, labels, value in [("_bucket", {"le": "+Inf"}, 2), ("_sum", {}, float("inf")), ("_count", {}, 2)]:
                histogram.add_sample(f"a_test_seconds{name}", labels, value)
            return [counter, histogram]

    collector = Collector()
    prometheus_client.REGISTRY.register(collector)
    try:
        exposition = metrics.render().decode()
    finally:
        prometheus_client.REGISTRY.unregister(collector)
    families = {family.name: family for family in text_string_to_metric_families(exposition)}
    assert families["a_test"].documentation == nasty
    assert families["a_test"].samples[0].labels == {"a": "", "b": nasty}
    assert families["a_test"].samples[0].value == 1e21
    assert families["a_test_seconds"].type == "histogram"
    assert [sample.value for sample in families["a_test_seconds"].samples] == [2, float("inf"), 2]


def test_a_request_is_counted_and_timed_by_its_routes_template(client: TestClient) -> None:
    before = own_series()
    assert client.get("/features/12").status_code == 404
    assert client.get("/features/13?a=b").status_code == 404
    assert client.get("/healthz").status_code == 200
    assert growth(before, "lm_http_requests_total") == {
        ("GET", "/features/{txn_id}", "4xx"): 2,
        ("GET", "/healthz", "2xx"): 1,
    }
    assert growth(before, "lm_http_request_seconds_count") == {("/features/{txn_id}",): 2, ("/healthz",): 1}


def test_every_route_of_the_application_has_its_series_from_the_start(client: TestClient) -> None:
    application: Any = client.app
    expected = {
        (method, context.path_format)
        for context in iter_route_contexts(application.routes)
        for method in context.methods or ()
    }
    shown = {tuple(value for _, value in labels) for name, labels in own_series() if name == "lm_http_requests_total"}
    assert len(expected) > 3
    assert {(*route, status) for route in expected for status in ("2xx", "3xx", "4xx", "5xx")} <= shown


def test_what_no_route_takes_is_counted_as_unmatched_also_when_it_is_refused_before_routing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own_series()
    assert client.get("/nowhere").status_code == 404
    assert client.delete("/healthz").status_code == 405
    assert client.request("BREW", "/healthz").status_code == 405
    monkeypatch.setenv("LM_LOCAL_TRUST", "false")
    get_settings.cache_clear()
    assert client.get("/features/1").status_code == 401
    assert growth(before, "lm_http_requests_total") == {
        ("GET", "unmatched", "4xx"): 2,
        ("DELETE", "unmatched", "4xx"): 1,
        ("other", "unmatched", "4xx"): 1,
    }


def failing_application() -> FastAPI:
    application = FastAPI()
    mounted = FastAPI()

    @application.get("/fails")
    def fail() -> None:
        raise ZeroDivisionError

    @mounted.get("/page/{name}")
    def show(name: str) -> str:
        return name

    application.mount("/console", mounted)
    application.add_middleware(count_requests)
    return application


def test_a_request_that_fails_is_counted_as_5xx() -> None:
    before = own_series()
    assert TestClient(failing_application(), raise_server_exceptions=False).get("/fails").status_code == 500
    assert growth(before, "lm_http_requests_total") == {("GET", "/fails", "5xx"): 1}


def test_routes_of_a_mounted_application_are_counted_by_their_whole_template() -> None:
    client = TestClient(failing_application())
    before = own_series()
    assert client.get("/console/page/one").status_code == 200
    assert client.get("/console/none").status_code == 404
    assert growth(before, "lm_http_requests_total") == {
        ("GET", "/console/page/{name}", "2xx"): 1,
        ("GET", "unmatched", "4xx"): 1,
    }


def http_scope(application: FastAPI, method: str, path: str, host: str) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "app": application, "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", host.encode())], "client": ("192.0.2.1", 5), "server": ("192.0.2.2", 80), "state": {},
    }  # fmt: skip


async def ask(application: FastAPI, scope: dict[str, Any], on_send: Callable[[Any], None]) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        on_send(message)

    await application(scope, receive, send)


def test_who_has_an_answers_last_byte_finds_it_counted() -> None:
    application = FastAPI()
    application.get("/answers")(lambda: "yes")
    application.add_middleware(count_requests)
    before = own_series()
    seen: list[tuple[str, dict[tuple[str, ...], float]]] = []
    asyncio.run(
        ask(
            application,
            http_scope(application, "GET", "/answers", "here"),
            lambda message: seen.append((message["type"], growth(before, "lm_http_requests_total"))),
        )
    )
    assert seen == [("http.response.start", {}), ("http.response.body", {("GET", "/answers", "2xx"): 1})]


def test_twenty_thousand_random_paths_methods_and_hosts_add_no_series() -> None:
    application = create_app()
    chance = random.Random(7)  # noqa: S311 -- what is drawn must be the same each time
    characters = string.ascii_letters + string.digits + '/{}"\\\n%é'

    def text(most: int, alphabet: str = characters) -> str:
        return "".join(chance.choices(alphabet, k=chance.randint(1, most)))

    async def visit() -> set[Series]:
        await ask(application, http_scope(application, "GET", "/healthz", "first"), lambda _: None)
        declared = set(own_series())
        for number in range(20_000):
            path = chance.choice(["/", "/features/", "/healthz", "/healthz/", "/docs/", "/tokens/"]) + text(30)
            method = text(10, string.ascii_uppercase) if number % 2 else chance.choice(["GET", "POST", "HEAD", "PATCH"])
            await ask(application, http_scope(application, method, path, text(20)), lambda _: None)
        return declared

    before = own_series()
    declared = asyncio.run(visit())
    assert set(own_series()) == declared
    assert sum(growth(before, "lm_http_requests_total").values()) == 20_001


# ---------------------------------------------------------------- over processes


class Server:
    """`lm serve` with several workers, the number of requests it was sent, and what it says of itself."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], workers: int) -> None:
        # A connection for each request, which any of the workers may take.
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Connection": "close"}, timeout=10, trust_env=False
        )
        self.process = process
        self.workers = workers
        self.run_dir = Path(os.environ["LM_DATA_DIR"]) / "run" / str(port)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(path, headers=headers)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the server ended"
        with contextlib.suppress(httpx2.HTTPError):
            return self.get("/readyz").status_code == 200 and len(self.living()) >= self.workers
        return False

    def ever(self) -> set[int]:
        return {int(path.stem.split("_")[1]) for path in self.run_dir.glob("metrics/counter_*.db")}

    def living(self) -> set[int]:
        return {pid for pid in self.ever() if psutil.pid_exists(pid)}

    def series(self) -> dict[Series, float]:
        answer = self.get("/metrics")
        assert answer.status_code == 200, answer.text
        return series_of(answer.text)

    def counted(self) -> float:
        labels = (("method", "GET"), ("route", "/healthz"), ("status", "2xx"))
        return self.series()["lm_http_requests_total", labels]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@contextlib.contextmanager
def serving(port: int, workers: int) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--api-only", f"--port={port}", f"--workers={workers}"],
        cwd=BACKEND_DIR,
        env=os.environ | {"LM_LOCAL_TRUST": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        server = Server(port, process, workers)
        try:
            wait_until(server.is_ready)
            yield server
        finally:
            server.client.close()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_totals_are_of_all_workers_and_outlive_the_one_that_is_killed(database: str, port: int) -> None:
    assert database
    with serving(port, workers=2) as server:
        first = server.living()
        assert len(first) == 2
        for _ in range(REQUESTS):
            assert server.get("/healthz").status_code == 200
        assert {server.counted() for _ in range(20)} == {REQUESTS}
        processor = server.series()["lm_server_cpu_seconds_total", ()]

        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(server.ever()) == 3 and server.is_ready())
        assert killed not in server.living()
        assert {server.counted() for _ in range(20)} == {REQUESTS}
        for _ in range(REQUESTS):
            assert server.get("/healthz").status_code == 200
        assert {server.counted() for _ in range(20)} == {2 * REQUESTS}

        (replacement,) = server.living() - first
        since = sum(psutil.Process(replacement).cpu_times()[:2])
        series = server.series()
        # What the killed one used is still counted. The kernel counts in hundredths of a second.
        assert series["lm_server_cpu_seconds_total", ()] >= processor + since - 0.1
        resident = sum(psutil.Process(pid).memory_info().rss for pid in (server.process.pid, *server.living()))
        assert series["lm_server_resident_memory_bytes", ()] == pytest.approx(resident, rel=0.1)
        assert not [name for name, _ in series if name.startswith("process_")]


def test_no_answer_that_somebody_has_is_lost_when_a_worker_is_killed_at_work(database: str, port: int) -> None:
    assert database
    with serving(port, workers=2) as server:
        killed = min(server.living())

        def send(number: int) -> bool:
            if number == REQUESTS // 2:
                os.kill(killed, signal.SIGKILL)
            with contextlib.suppress(httpx2.HTTPError):
                return server.get("/healthz").status_code == 200
            return False

        with ThreadPoolExecutor(4) as clients:
            answered = sum(clients.map(send, range(REQUESTS)))
        wait_until(server.is_ready)
        assert REQUESTS // 2 <= answered <= server.counted() <= REQUESTS


def test_a_server_counts_from_zero_in_a_folder_that_nobody_else_can_enter(database: str, port: int) -> None:
    assert database
    with serving(port, workers=1) as server:
        assert server.get("/healthz").status_code == 200
        assert server.counted() == 1
        assert server.ever() == {server.process.pid}
        assert stat.S_IMODE(server.run_dir.stat().st_mode) == 0o700
        assert (server.run_dir / "pid").read_text() == str(server.process.pid)
    with serving(port, workers=1) as server:
        assert server.counted() == 0
        assert server.ever() == {server.process.pid}


def test_a_second_server_on_the_same_port_is_refused_and_takes_nothing_from_the_first(database: str, port: int) -> None:
    assert database
    with serving(port, workers=1) as server:
        assert server.get("/healthz").status_code == 200
        second = subprocess.run(
            [sys.executable, "-m", "app.cli", "serve", f"--port={port}"],
            cwd=BACKEND_DIR, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert second.returncode == 2
        assert f"running on port {port}" in second.stderr
        assert server.counted() == 1


def test_an_answer_names_no_server_and_a_header_cannot_say_where_a_request_comes_from(database: str, port: int) -> None:
    assert database
    with serving(port, workers=1) as server:
        answer = server.get("/healthz")
        assert "server" not in answer.headers
        # Something stands between that may speak for anybody, so the machine itself is not taken to ask.
        assert server.get("/features/1").status_code == 404
        for claimed in ("203.0.113.9", "127.0.0.1"):
            assert server.get("/features/1", **{"X-Forwarded-For": claimed}).status_code == 401


def test_a_file_that_a_dying_process_left_empty_hides_no_totals(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    shown = subprocess.run(
        [sys.executable, "-c", "from app.services.metrics import render; print(render().decode())"],
        cwd=BACKEND_DIR, env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert series_of(shown.stdout)["lm_suggestions_total", (("source", "rule"),)] == 0
