"""`make bench`: measure both sides in one run, print tables, write build/bench.json.

Every figure stands beside a baseline or a peer that is measured in the same run. Baselines slower than 20,000 rows/s
are timed on 20,000 rows; their rate is what is compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import serving
from accuracy import bench_accuracy, labelled_files
from accuracy_table import missed_reaches
from kernel_baseline import build_features_loop
from machine import Run, describe_machine, median_and_spread, run_process, throwaway_database
from naive_feature_build import build_row_by_row
from prediction import bench_prediction
from rich.console import Console
from rich.table import Table
from serving import bench_serving
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.config import get_settings
from app.db import driver_connection, get_engine, read_frame, session_for_jobs
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.services.sample import generate_ledger, write_ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASELINE_ROWS = 20_000
SECTIONS = ("ingest", "features", "serving", "prediction", "accuracy")
ROWS = 500_000
ROWS_IN_FULL = 1_000_000
# What the figures must reach; less ends the run with exit code 1.
AT_LEAST = {("serving", name): bound for name, bound in serving.AT_LEAST.items()} | {
    ("features", "first_ratio_naive"): 15,
    ("features", "unchanged_ratio_naive"): 60,
}
AT_MOST = {("serving", name): bound for name, bound in serving.AT_MOST.items()} | {
    ("features", "rss_mib"): 600,
    ("ingest", "rss_mib"): 400,
}
# Of every data set that is predicted.
PREDICTION_AT_LEAST = {"rows_per_s": 50_000}
PREDICTION_AT_MOST = {"one_row_ms": 0.2, "artefact_mib": 50}

console = Console(width=110)


def main() -> None:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--rows", type=int, help=f"of the generated ledger; default {ROWS:,}, in full {ROWS_IN_FULL:,}")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="more rows, repetitions and refits, no time limit")
    options = parser.parse_args()
    reps = 5 if options.full else options.reps
    rows = options.rows or (ROWS_IN_FULL if options.full else ROWS)
    results: dict[str, Any] = {"machine": describe_machine(), "rows": rows, "reps": reps}
    console.print(" · ".join(f"{name} {value}" for name, value in results["machine"].items()), highlight=False)
    if options.only in (None, "serving"):
        results["serving"] = bench_serving(console)
    if options.only not in ("accuracy", "prediction", "serving"):
        with throwaway_database() as folder:
            # The ingest also fills the database for the section after it.
            ingest = bench_ingest(folder, rows)
            if options.only != "features":
                results["ingest"] = ingest
            if options.only != "ingest":
                results["features"] = bench_features(reps)
    if options.only in (None, "accuracy", "prediction"):
        with labelled_files(console) as files:
            if options.only != "accuracy":
                results["prediction"] = bench_prediction(console, files)
            if options.only != "prediction":
                results["accuracy"] = bench_accuracy(console, files, full=options.full)
    path = get_settings().build_dir / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"Written to {path}", highlight=False, soft_wrap=True)
    missed = [
        f"{section}.{name} is {results[section][name]}, not {word} {bound}"
        for word, bounds in (("at least", AT_LEAST), ("at most", AT_MOST))
        for (section, name), bound in bounds.items()
        if section in results
        and (results[section][name] < bound) == (word == "at least")
        and results[section][name] != bound
    ]
    missed += [
        f"prediction.{dataset}.{name} is {figures[name]}, not {word} {bound}"
        for dataset, figures in results.get("prediction", {}).items()
        for word, bounds in (("at least", PREDICTION_AT_LEAST), ("at most", PREDICTION_AT_MOST))
        for name, bound in bounds.items()
        if (figures[name] < bound) == (word == "at least") and figures[name] != bound
    ]
    missed += missed_reaches(results.get("accuracy", {}))
    if missed:
        sys.exit("Missed: " + "; ".join(missed))


def bench_ingest(folder: Path, rows: int) -> dict[str, float]:
    """Ingest a file of the given size once into an empty ledger: parse, dedupe, merchants, labels, features."""
    file = folder / "ledger.csv"
    write_ledger(generate_ledger(seed=1, rows=rows), file)
    run = run_process(["-m", "app.cli", "ingest", file])
    with session_for_jobs() as session:
        count = session.execute(text("SELECT count(*) FROM transactions")).scalar_one()
    table = Table(title="Ingest", title_justify="left")
    for column in ("what", "rows", "seconds", "rows/s", "peak RSS, MiB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row(
        "lm ingest FILE.csv", f"{count:,}", f"{run.seconds:.1f}", f"{count / run.seconds:,.0f}", f"{run.rss_mib:.0f}"
    )
    console.print(table)
    return {"rows": count, "rows_per_s": round(count / run.seconds), "rss_mib": round(run.rss_mib)}


def bench_features(reps: int) -> dict[str, float]:
    """Compare the kernel with a plain loop, and the build with the row-by-row build."""
    with session_for_jobs() as session:
        count: int = session.execute(text("SELECT count(*) FROM transactions")).scalar_one()
        sample = read_frame(
            driver_connection(session),
            "SELECT id, date, posted_at, amount, description, mcc, channel_hint FROM transactions ORDER BY id",
            TRANSACTION_SCHEMA,
        )
    loop_rows = sample.head(BASELINE_ROWS).to_dicts()
    loop = [len(loop_rows) / seconds(lambda: build_features_loop(loop_rows)) for _ in range(reps)]
    kernel = [sample.height / seconds(lambda: build_features(sample)) for _ in range(reps)]
    naive, first, unchanged = [], [], []
    for _ in range(reps):
        naive.append(naive_rate())
        first.append(build(empty=True))
        unchanged.append(build(empty=False))
    naive_median = statistics.median(naive)
    rates = {
        "kernel, plain Python loop": loop,
        "kernel, ours": kernel,
        "build, row by row": naive,
        "build, ours, first": [count / run.seconds for run in first],
        "build, ours, unchanged": [count / run.seconds for run in unchanged],
    }
    result = {
        "rows": count,
        "kernel_rows_per_s": round(statistics.median(kernel)),
        "kernel_ratio": round(statistics.median(kernel) / statistics.median(loop), 1),
        "naive_rows_per_s": round(naive_median),
        "first_rows_per_s": round(statistics.median(rates["build, ours, first"])),
        "first_ratio_naive": round(statistics.median(rates["build, ours, first"]) / naive_median, 1),
        "unchanged_rows_per_s": round(statistics.median(rates["build, ours, unchanged"])),
        "unchanged_ratio_naive": round(statistics.median(rates["build, ours, unchanged"]) / naive_median, 1),
        "rss_mib": round(max(run.rss_mib for run in first + unchanged)),
    }
    table = Table(title=f"Features, {count:,} transactions", title_justify="left")
    for column in ("what", "rows/s, median (range)", "ratio", "reach"):
        table.add_column(column, justify="left" if column == "what" else "right")
    shown = {
        "kernel, ours": (result["kernel_ratio"], ""),
        "build, ours, first": (result["first_ratio_naive"], f"≥ {AT_LEAST['features', 'first_ratio_naive']}×"),
        "build, ours, unchanged": (
            result["unchanged_ratio_naive"],
            f"≥ {AT_LEAST['features', 'unchanged_ratio_naive']}×",
        ),
    }
    for what, values in rates.items():
        ratio, reach = shown.get(what, (1.0, ""))
        table.add_row(what, median_and_spread(values), f"{ratio}×", reach)
    table.add_row("build, ours, peak RSS", f"{result['rss_mib']} MiB", "", f"≤ {AT_MOST['features', 'rss_mib']} MiB")
    console.print(table)
    return result


def naive_rate() -> float:
    """Return the rows/s of the row-by-row build into an empty table."""
    empty_features()
    with Session(get_engine("jobs")) as session:
        return BASELINE_ROWS / seconds(lambda: build_row_by_row(session, BASELINE_ROWS))


def build(*, empty: bool) -> Run:
    """Run the whole command, start-up included."""
    if empty:
        empty_features()
    return run_process(["-m", "app.ml.feature_build", "--all"])


def empty_features() -> None:
    """Leave no features, and no pending writes of earlier runs to pay for."""
    with get_engine("admin").connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("TRUNCATE ml_features"))
        connection.execute(text("CHECKPOINT"))


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
