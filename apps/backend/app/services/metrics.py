"""Every metric of the server, as a constant with closed sets of labels, and what a scrape answers.

`lm serve` has each process write its numbers into files of one folder (the multiprocess mode of prometheus_client), so
that whichever process is asked answers for all of them and for those that have died. Elsewhere, as in the command line,
the numbers are this process's own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import prometheus_client
from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from app.services import server_processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SOURCES: Final = ("rule", "model")
ABSTENTIONS: Final = ("no_candidate", "below_confidence")
FALLBACK_REASONS: Final = ("none", "broken", "loading", "slow", "failed")
LABEL_SOURCES: Final = ("human", "rule", "import")
INGEST_OUTCOMES: Final = ("inserted", "duplicates", "rejected")
HTTP_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")
UNMATCHED_ROUTE: Final = "unmatched"

# A request is for 1 to 1,000 transactions: a few milliseconds for one, some tenths of a second for the most.
_SUGGESTION_BUCKETS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# From an answer out of memory to the upload of a statement of many years.
_HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

SUGGESTIONS_TOTAL: Final = Counter("lm_suggestions", "Suggestions made, by the engine that made them.", ["source"])
SUGGESTIONS_ACCEPT: Final = Counter(
    "lm_suggestions_accepted", "Suggestions that were accepted, by the engine that made them.", ["source"]
)
SUGGESTIONS_REJECT: Final = Counter(
    "lm_suggestions_rejected", "Suggestions that were rejected, by the engine that made them.", ["source"]
)
SUGGESTIONS_ABSTAINED: Final = Counter(
    "lm_suggestions_abstained",
    "Transactions that an engine was asked about and made no suggestion for, by the reason.",
    ["source", "reason"],
)
SUGGESTION_SECONDS: Final = Histogram(
    "lm_suggestion_seconds",
    "Time to suggest categories for the transactions of one request, by the engine that answered.",
    ["source"],
    buckets=_SUGGESTION_BUCKETS,
)
MODEL_FALLBACKS: Final = Counter(
    "lm_model_fallbacks", "Transactions that the heuristics answered in a model's place, by the reason.", ["reason"]
)
SHADOW_SCORED: Final = Counter("lm_shadow_scored", "Suggestions that a challenger was asked about.")
SHADOW_DROPPED: Final = Counter(
    "lm_shadow_dropped",
    "Suggestions that no challenger was asked about, because it could not keep up or was not running.",
)
SHADOW_FAILED: Final = Counter("lm_shadow_failed", "Suggestions that a challenger failed on.")
SHADOW_RESTARTS: Final = Counter("lm_shadow_restarts", "Times that the process which scores challengers ended.")
LABELS_TOTAL: Final = Counter("lm_labels", "Labels written, by where they came from.", ["source"])
INGEST_ROWS_TOTAL: Final = Counter("lm_ingest_rows", "Records of ingested files, by what became of them.", ["outcome"])
FEATURES_BUILT_TOTAL: Final = Counter("lm_features_built", "Feature vectors written because they were new or differed.")
HTTP_REQUESTS_TOTAL: Final = Counter(
    "lm_http_requests",
    "Requests answered, by the template of the route and the class of the status.",
    ["method", "route", "status"],
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "lm_http_request_seconds",
    "Time from the arrival of a request's head to the last part of its answer, by the template of the route.",
    ["route"],
    buckets=_HTTP_BUCKETS,
)

# Names that the specification fixes without the suffix that the library puts at the end of every counter.
_WITHOUT_SUFFIX: Final = frozenset({"lm_suggestions_accepted", "lm_suggestions_rejected"})


def expect_route(route: str, methods: Iterable[str]) -> None:
    """Make the series of a route, all at zero: what first appears with a value is no increase to Prometheus.

    Args:
        route: The template of the route.
        methods: Those it takes, each one of HTTP_METHODS.
    """
    HTTP_REQUEST_SECONDS.labels(route=route)
    for method in methods:
        for status in STATUS_CLASSES:
            HTTP_REQUESTS_TOTAL.labels(method=method, route=route, status=status)


def _expect_series() -> None:
    for source in SOURCES:
        for metric in (SUGGESTIONS_TOTAL, SUGGESTIONS_ACCEPT, SUGGESTIONS_REJECT, SUGGESTION_SECONDS):
            metric.labels(source=source)
        for reason in ABSTENTIONS:
            SUGGESTIONS_ABSTAINED.labels(source=source, reason=reason)
    for reason in FALLBACK_REASONS:
        MODEL_FALLBACKS.labels(reason=reason)
    for source in LABEL_SOURCES:
        LABELS_TOTAL.labels(source=source)
    for outcome in INGEST_OUTCOMES:
        INGEST_ROWS_TOTAL.labels(outcome=outcome)
    expect_route(UNMATCHED_ROUTE, HTTP_METHODS)


_expect_series()


def render() -> bytes:
    """Return every metric of the server in Prometheus's text format, its families in a fixed order."""
    families = sorted([*_counted(), *_of_the_processes()], key=lambda family: family.name)
    return "".join(line for family in families for line in _lines(family)).encode()


def _counted() -> Iterable[Metric]:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return prometheus_client.REGISTRY.collect()
    # A process that is just starting, or was killed while it did, leaves a file that nothing is in yet.
    files = sorted(str(path) for path in Path(folder).glob("*.db") if path.stat().st_size)
    merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return merged


def _of_the_processes() -> Iterator[Metric]:
    use = server_processes.resource_use()
    if use is None:
        return
    memory = Metric("lm_server_resident_memory_bytes", "Resident memory of the server's processes together.", "gauge")
    memory.add_sample(memory.name, {}, use.resident_bytes)
    yield memory
    processor = Metric("lm_server_cpu_seconds", "Processor time that the server's processes have used.", "counter")
    processor.add_sample(f"{processor.name}_total", {}, use.cpu_seconds)
    yield processor


def _lines(family: Metric) -> Iterator[str]:
    suffix = "" if family.type != "counter" or family.name in _WITHOUT_SUFFIX else "_total"
    yield f"# HELP {family.name}{suffix} {_escaped(family.documentation)}\n"
    yield f"# TYPE {family.name}{suffix} {family.type}\n"
    for sample in family.samples:
        if sample.name == f"{family.name}_created":
            continue
        name = family.name + suffix if family.type == "counter" else sample.name
        labels = ",".join(f'{key}="{_escaped(text, quote=True)}"' for key, text in sorted(sample.labels.items()))
        braced = f"{{{labels}}}" if labels else ""
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        yield f"{name}{braced} {value}\n"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text
