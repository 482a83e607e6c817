"""How fast a trained model predicts, and how large it is: many rows at once, and one row for a person who waits."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from accuracy import read_steps
from rich.table import Table

from app.ml.artefact import encode_artefact
from app.ml.category_model import known_labels, labels_of, model_to_artefact, places_of, score_places
from app.ml.estimator import fit_model
from app.ml.evidence import Evidence, gather_evidence
from app.ml.predictions import predict
from app.ml.single import score_one
from app.ml.softmax_regression import softmax

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from app.ml.category_model import CategoryModel

SINGLE_ROWS = 500
APART_ROWS = 50
BULK_REPETITIONS = 5


def bench_prediction(console: Console, files: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Measure each data set with a model of its reference split.

    One row is timed from its description and the counts at its places to a probability of each category: row after row,
    as under load; after other work, as when nobody else asks; and through a frame of one row.
    """
    table = Table(title="Prediction", title_justify="left")
    for column in (
        "data",
        "rows/s in bulk",
        "one row, ms",
        "after other work, ms",
        "through a frame, ms",
        "artefact, MiB",
    ):
        table.add_column(column, justify="left" if column == "data" else "right")
    results: dict[str, dict[str, float]] = {}
    for name, path in files.items():
        results[name] = figures = measure(path)
        table.add_row(
            name,
            f"{figures['rows_per_s']:,}",
            f"{figures['one_row_ms']:.3f}",
            f"{figures['one_row_apart_ms']:.3f}",
            f"{figures['one_row_frame_ms']:.3f}",
            f"{figures['artefact_mib']:.1f}",
        )
    console.print(table)
    return results


def measure(path: Path) -> dict[str, Any]:
    """Fit on the reference split's training rows; predict all rows, and single test rows; medians."""
    train, test = next(iter(read_steps(path, "static")))
    model = fit_model(train, labels_arrive=False)
    everything = pl.concat([train, test])
    bulk: list[float] = []
    for _ in range(BULK_REPETITIONS):
        started = time.perf_counter()
        predict(model, everything, train, by_month=False)
        bulk.append(time.perf_counter() - started)
    known = known_labels(train, labels_of(model, train))
    places = places_of(test.sample(min(SINGLE_ROWS, test.height), seed=1))
    as_of = np.full(1, int(known.days.max()) + 1)
    rows = list(places.iter_rows(named=True))
    together = gather_evidence(places, np.repeat(as_of, places.height), known)
    evidence = [evidence_of_row(together, number) for number in range(places.height)]
    alone, apart, framed = [], [], []
    for row, counts in zip(rows, evidence, strict=True):
        alone.append(seconds_of_one(model, row, counts, known.label_count))
    for number, (row, counts) in enumerate(zip(rows[:APART_ROWS], evidence, strict=False)):
        started = time.perf_counter()
        softmax(score_places(model, places[number : number + 1], known, as_of).scores)
        framed.append(time.perf_counter() - started)
        # After so much other work nothing that it needs is in the processor's caches.
        apart.append(seconds_of_one(model, row, counts, known.label_count))
    return {
        "rows": everything.height,
        "rows_per_s": round(everything.height / statistics.median(bulk)),
        "one_row_ms": round(1000 * statistics.median(alone), 3),
        "one_row_apart_ms": round(1000 * statistics.median(apart), 3),
        "one_row_frame_ms": round(1000 * statistics.median(framed), 3),
        "artefact_mib": round(len(encode_artefact(*model_to_artefact(model))) / 2**20, 1),
    }


def seconds_of_one(model: CategoryModel, row: Mapping[str, Any], evidence: Evidence, labels: int) -> float:
    """Time one row."""
    started = time.perf_counter()
    softmax(score_one(model, row["user_id"], row["account"], row["norm_desc"], evidence, labels).scores)
    return time.perf_counter() - started


def evidence_of_row(evidence: Evidence, row: int) -> Evidence:
    """Pick one row's counts."""
    chosen = np.flatnonzero(evidence.row == row)
    return Evidence(np.zeros_like(chosen), evidence.slot[chosen], evidence.label[chosen], evidence.count[chosen])
