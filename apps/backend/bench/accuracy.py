"""How right we are and how right the peers are, on the very same rows and in one run.

*static* learns once from the months before the reference split; *live* predicts each month after it from everything
before that month. Each job runs in a process of its own with one thread, two at a time, so that no system gains from
threads and none waits for the slow ones.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

import peers
import polars as pl
from accuracy_table import accuracy_table
from sklearn.metrics import accuracy_score, f1_score

from app.config import REPOSITORY_ROOT
from app.ml.evaluation import System
from app.ml.walk_forward import split_rows, steps_of
from app.services.backtest import read_labelled, run_backtest
from app.services.sample import generate_ledger, write_ledger
from app.services.statements import StatementOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from accuracy_table import Figures, Results
    from rich.console import Console

    Steps = Sequence[tuple[pl.DataFrame, pl.DataFrame]]

Protocol = Literal["static", "live", "slice"]

FOLDER: Final = Path(os.environ.get("CARD_TRANSACTIONS", REPOSITORY_ROOT.parent / "shared" / "data"))
REFERENCE_SPLIT: Final = 0.8
# What is measured of a file that is not named here: both.
PROTOCOLS: Final[Mapping[str, tuple[Protocol, ...]]] = {"birmingham": ("static",)}

OURS: Final[tuple[str, ...]] = get_args(System)
PEERS: Final[Mapping[str, peers.Fit]] = {
    "lookup": peers.fit_lookup,
    "payee_majority": peers.fit_payee_majority,
    "naive_bayes": peers.fit_naive_bayes,
    "svm": peers.fit_svm,
}
# The slice that the real smart_importer is run on; its time grows with the square of what it learns from.
SLICED: Final = "calderdale"
SLICE: Final = (5_000, 1_000)
OUR_FIGURES: Final = (
    "train_rows",
    "test_rows",
    "accuracy",
    "f1_macro",
    "ece",
    "unseen_accuracy",
    "auto_apply",
    "fit_seconds",
    "predict_rows_per_second",
)

WORKERS: Final = 2
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """One system on one dataset; the SVM's also gives the lookup before it, smart_importer's all that is run beside."""

    dataset: str
    path: Path
    protocol: Protocol
    system: str


def bench_accuracy(console: Console, files: Mapping[str, Path], *, full: bool) -> Results:
    """Measure every system on every file, print a table for each protocol and return the figures.

    Args:
        console: Where the lines and tables go.
        files: By the data sets' names.
        full: Whether to refit the SVM for every month, too, which takes minutes.
    """
    results = run_jobs(plan(files, full=full), console)
    for dataset, protocols in results.items():
        for protocol, systems in protocols.items():
            console.print(accuracy_table(dataset, protocol, systems))
    return results


@contextmanager
def labelled_files(console: Console) -> Iterator[dict[str, Path]]:
    """Give the files to measure on; where there are none, the generated sample, and say so."""
    with tempfile.TemporaryDirectory(prefix="lm-bench-") as folder:
        files = card_transactions(FOLDER)
        if not files:
            console.print(
                f"No cards_NAME.csv.gz in {FOLDER} (CARD_TRANSACTIONS names the folder): accuracy is measured on the "
                "generated sample, which shows that the benchmark runs and not how good anything is.",
                highlight=False,
            )
            files = {"sample": Path(folder) / "sample.csv"}
            write_ledger(generate_ledger(seed=1), files["sample"])
        yield files


def card_transactions(folder: Path) -> dict[str, Path]:
    """Find the files to measure on, by the name between `cards_` and `.csv`."""
    return {path.name.removeprefix("cards_").split(".")[0]: path for path in sorted(folder.glob("cards_*.csv*"))}


def plan(files: Mapping[str, Path], *, full: bool) -> list[Job]:
    """List the jobs in the order of the tables; the SVM's months only in full."""
    jobs = [
        Job(dataset, path, protocol, system)
        for dataset, path in files.items()
        for protocol in PROTOCOLS.get(dataset, ("static", "live"))
        for system in (*PEERS, *OURS)
        if full or (protocol, system) != ("live", "svm")
    ]
    dataset = SLICED if SLICED in files else next(iter(files))
    return [*jobs, Job(dataset, files[dataset], "slice", "smart_importer")]


def run_jobs(jobs: Sequence[Job], console: Console) -> Results:
    """Run the jobs, two at a time and the longest first, and say how far it is."""
    console.print(f"Accuracy: {len(jobs)} jobs, {WORKERS} at a time; the longest takes minutes", highlight=False)
    started = time.perf_counter()
    done: dict[Job, dict[str, Figures]] = {}
    longest_first = sorted(jobs, key=lambda job: (job.system == "svm", job.path.stat().st_size), reverse=True)
    with _one_thread(), ProcessPoolExecutor(WORKERS, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, job): job for job in longest_first}
        for future in as_completed(running):
            job = running[future]
            done[job] = future.result()
            console.print(
                f"{time.perf_counter() - started:4.0f} s  {len(done)} of {len(jobs)}: "
                f"{job.dataset}, {job.protocol}, {job.system}",
                highlight=False,
            )
    results: Results = {}
    for job in jobs:
        results.setdefault(job.dataset, {}).setdefault(job.protocol, {}).update(done[job])
    return results


def run_job(job: Job) -> dict[str, Figures]:
    """Measure one system; return its figures under its name, and what came with it."""
    if job.system in OURS:
        return {job.system: measure_ours(job)}
    steps = list(read_steps(job.path, job.protocol))
    if job.protocol == "slice":
        return measure_smart_importer(steps)
    predicted, fit_seconds = fit_and_predict(PEERS[job.system], steps)
    figures = {job.system: score(steps, predicted) | {"fit_seconds": fit_seconds}}
    if job.system == "svm":
        # The same fit, asked second; the lookup's own time is some hundredths of a second.
        looked_up = [
            peers.put_lookup_before(said, train, test) for said, (train, test) in zip(predicted, steps, strict=True)
        ]
        figures["lookup_then_svm"] = score(steps, looked_up) | {"fit_seconds": fit_seconds}
    return figures


def measure_ours(job: Job) -> Figures:
    """Backtest one of our systems, exactly as `lm backtest` does."""
    split = REFERENCE_SPLIT if job.protocol == "static" else None
    report = asdict(run_backtest(job.path, system=cast("System", job.system), split=split))
    return {name: report[name] for name in OUR_FIGURES}


def measure_smart_importer(steps: Steps) -> dict[str, Figures]:
    """Run the real smart_importer, its recipe rebuilt, and the SVM on a slice."""
    # Imported where it is needed: no other job is to pay for it.
    from smart_importer_peer import fit_smart_importer  # noqa: PLC0415

    fits = {"smart_importer": fit_smart_importer, "smart_importer_recipe": peers.fit_smart_importer_recipe}
    figures, said = {}, {}
    for name, fit in (fits | {"svm": peers.fit_svm}).items():
        predicted, fit_seconds = fit_and_predict(fit, steps)
        figures[name] = score(steps, predicted) | {"fit_seconds": fit_seconds}
        said[name] = pl.concat(predicted)
    same = (said["smart_importer"] == said["smart_importer_recipe"]).sum()
    figures["smart_importer_recipe"]["same_as_smart_importer"] = round(same / len(said["smart_importer"]), 4)
    return figures


def read_steps(path: Path, protocol: Protocol) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Read what is learnt from and what is predicted then, the very rows that our backtest takes."""
    _, rows = read_labelled(path, StatementOptions())
    is_test = split_rows(rows, REFERENCE_SPLIT)
    if protocol == "slice":
        learnt, asked = SLICE
        yield rows.filter(~is_test).tail(learnt), rows.filter(is_test).head(asked)
    else:
        yield from steps_of(rows, is_test, by_month=protocol == "live")


def fit_and_predict(fit: peers.Fit, steps: Steps) -> tuple[list[pl.Series], float]:
    """Predict every step; return the labels, and the processor's seconds for all fits."""
    predicted, fit_seconds = [], 0.0
    for train, test in steps:
        started = time.process_time()
        predict = fit(train)
        fit_seconds += time.process_time() - started
        predicted.append(predict(test))
    return predicted, round(fit_seconds, 3)


def score(steps: Steps, predicted: Sequence[pl.Series]) -> Figures:
    """Score predictions of every row; macro-F1 is over the labels that are true or predicted somewhere, as ours is."""
    truth = pl.concat([test["label"] for _, test in steps]).to_list()
    said = pl.concat(predicted).to_list()
    return {
        "train_rows": steps[0][0].height,
        "test_rows": len(truth),
        "accuracy": round(accuracy_score(truth, said), 4),
        "f1_macro": round(f1_score(truth, said, average="macro"), 4),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start meanwhile compute with one thread."""
    before = dict(os.environ)
    os.environ |= ONE_THREAD
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
