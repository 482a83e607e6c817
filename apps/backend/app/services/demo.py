"""The whole loop on one file, as a user of its own: ingest, labels, features, suggestions, warehouse, a model."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, text

from app.config import get_settings
from app.db import session_for_jobs, session_for_user
from app.errors import InvalidInput
from app.ml.feature_build import build_range
from app.orm_models import Transaction
from app.progress import progress_of
from app.services import demo_answers, demo_experiment, installation
from app.services.credentials import list_tokens, new_token
from app.services.deployments import category_set_of, current
from app.services.ingest import ingest_statement
from app.services.sample import generate_ledger, write_ledger
from app.services.warehouse import build_warehouse

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from app.services.demo_experiment import DemoExperiment

logger = logging.getLogger(__name__)

SAMPLE_SEED: Final = 7
EXAMPLES: Final = 8
SUGGESTION_EXAMPLES: Final = 6
NOT_WRITTEN: Final = frozenset({"user", "examples", "suggestion_examples", "token", "model_missing"})
TRAINING_SEED: Final = 7
FEWEST_TIMED: Final = 20


@dataclass(frozen=True)
class DemoModel:
    """The model that the demo has trained, and how a twin did that knew nothing of the last months.

    Attributes:
        version: Its number.
        accuracy: Share of right predictions, forced to choose, as macro-F1 and calibration error are.
        auto_apply_coverage: Share that it is sure enough of to apply them without asking.
        target_error: Share of wrong ones among those that it promises not to exceed.
        dataset_hash: Of what it has learnt from.
        role: champion, or None where the gate refused it.
        champion: The version that serves the demo's user now.
        verdict: What the gate said.
    """

    version: int
    accuracy: float
    f1_macro: float
    ece: float
    auto_apply_coverage: float
    target_error: float
    dataset_hash: str
    role: str | None
    champion: int | None
    verdict: str


@dataclass(frozen=True)
class DemoReport:
    """What the loop did.

    Attributes:
        user: Whose ledger it is.
        serving: What a suggestion took, as `p50_ms` and `p99_ms`, in the run that made them; None where none did.
        experiment: The heuristics against the champion on the last month; None where there was no champion in time.
        model: None where there is too little to train on, and `model_missing` says so.
        rollback_ms: From a rollback until a server had followed; None where there was nothing to go back to.
        token: A bearer token of the demo's user, told once, when the user is made; None afterwards. All but this, the
            user, the examples and `model_missing` is in build/demo.json under the same keys.
        examples: A few training rows.
        suggestion_examples: A few suggestions: description, category, confidence and reason.
    """

    name: str
    user: str
    ingest: dict[str, int]
    labels: dict[str, int]
    features: int
    training_rows: int
    merchants: dict[str, int]
    suggestions: demo_answers.SuggestionCounts
    serving: dict[str, float] | None
    experiment: DemoExperiment | None
    model: DemoModel | None
    rollback_ms: float | None
    model_missing: str | None
    seconds: dict[str, float]
    examples: list[tuple[str, ...]]
    suggestion_examples: list[tuple[str, str, str, str]]
    token: str | None


def run_demo(file: Path | None, say: Callable[[str], None]) -> DemoReport:
    """Run the loop on a file, or on the shipped sample, and write the report into the build folder.

    Args:
        file: A statement; None generates the sample.
        say: Told what happens next.

    Returns:
        The report, which is also in build/demo.json and build/demo-NAME.json.
    """
    seconds: dict[str, float] = {}
    step = _stopwatch(seconds, say)
    with step("database", "Making the database ready"):
        installation.prepare_installation()
    user = "demo-sample" if file is None else demo_user(file)
    if file is None:
        with step("sample", "Writing the sample ledger"):
            file = write_sample()
    name = demo_name(file)
    user_id, token = _demo_user(user)
    with (
        step("ingest", f"Ingesting {file.name}"),
        progress_of("records", logger=logger) as show,
        session_for_user(user_id) as session,
    ):
        result = ingest_statement(session, user_id, file, hold_back_last_month=True, progress=show)
    with step("features", "Building features"), progress_of("transactions", logger=logger) as show:
        build_range(*_span(user_id), progress=show)
    with session_for_jobs() as session:
        category_set = category_set_of(session, user_id)
        is_first = current(session, category_set).champion is None
    if is_first:
        with step("first_model", "Training a first model, which knows nothing of the last month"):
            _train(category_set, lambda _done, _of: None)
    with (
        step("suggestions", "Suggesting for the last month, whose categories were held back, and answering with them"),
        progress_of("transactions", logger=logger) as show,
    ):
        demo_experiment.begin_experiment(category_set)
        suggestions, taken = demo_answers.suggest_and_answer(user_id, result.held_back, show)
        experiment = demo_experiment.end_experiment(category_set)
    with (
        step("warehouse", "Building and testing the warehouse"),
        progress_of("models and tests") as show,
    ):
        build_warehouse(progress=show)
    with step("model", "Training a model, and comparing it on the last months"), progress_of("steps") as show:
        model, model_missing = _train(category_set, show)
    with step("rollback", "Going back to the version before, and forward again"):
        rollback_ms = demo_experiment.time_rollback(category_set)
    seconds["total"] = round(sum(seconds.values()), 2)
    counts = {key: getattr(result, key) for key in ("rows", "inserted", "duplicates", "rejected")}
    report = DemoReport(
        name=name,
        user=user,
        ingest=counts,
        **_outcome(user_id),
        suggestions=suggestions,
        serving=_percentiles(taken) or _earlier(name).get("serving"),
        experiment=experiment,
        model=model,
        rollback_ms=rollback_ms,
        model_missing=model_missing,
        examples=read_examples(user_id),
        suggestion_examples=demo_answers.read_examples(user_id, result.held_back, SUGGESTION_EXAMPLES),
        seconds=seconds,
        token=token,
    )
    _write(report)
    return report


def read_examples(user_id: int) -> list[tuple[str, ...]]:
    """Return training rows of a user, of each label the noisiest string of a merchant that is known well.

    Returns:
        Description, merchant and label.
    """
    query = text("""
        SELECT DISTINCT ON (training.label)
            transactions.description, training.merchant, training.label
        FROM marts.fct_training_view AS training
        INNER JOIN transactions ON transactions.id = training.txn_id
        INNER JOIN marts.dim_merchants AS merchants
            ON merchants.user_id = training.user_id AND merchants.merchant = training.merchant
                AND merchants.top_category = training.label
        WHERE training.user_id = :user_id
        ORDER BY
            training.label, merchants.confidence = 'high' DESC,
            length(transactions.description) - length(training.merchant) DESC, training.txn_id
        LIMIT :examples
    """)
    with session_for_jobs() as session:
        rows = session.execute(query, {"user_id": user_id, "examples": EXAMPLES})
        return [tuple(map(str, row)) for row in rows]


def write_sample() -> Path:
    """Write the sample ledger of the demo's seed and return its path."""
    folder = get_settings().build_dir
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sample.csv"
    write_ledger(generate_ledger(seed=SAMPLE_SEED), path)
    return path


def demo_name(file: Path) -> str:
    """Return the name of a demo data set: its file's, without endings."""
    return file.name.removesuffix(".gz").rsplit(".", 1)[0]


def demo_user(file: Path) -> str:
    """Return the name of a file's demo user; files of one name in two folders are two data sets."""
    return f"demo-{demo_name(file)}-" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]


def _demo_user(name: str) -> tuple[int, str | None]:
    """Return the demo's user and, if they have none yet, a token for them."""
    user_id = installation.ensure_user(name, is_demo=True)
    with session_for_user(user_id) as session:
        if list_tokens(session):
            return user_id, None
        return user_id, new_token(session, user_id, name="demo", scope="write").secret


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Give the milliseconds that half of the suggestions and 99 of 100 took."""
    if len(seconds) < FEWEST_TIMED:
        return None
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


def _earlier(name: str) -> dict[str, Any]:
    """Read the report of the run before, if it is there."""
    path = get_settings().build_dir / f"demo-{name}.json"
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return earlier


def _train(
    category_set: int | None, progress: Callable[[int, int | None], None]
) -> tuple[DemoModel | None, str | None]:
    """Train on what is known now; give the model, or the sentence that says why there is none."""
    from app.services.training import train_model  # noqa: PLC0415 -- libraries that `lm --help` need not wait for

    try:
        made = train_model(category_set, seed=TRAINING_SEED, requested_by="the demo", progress=progress)
    except InvalidInput as error:
        return None, str(error)
    with session_for_jobs() as session:
        champion = current(session, category_set).champion
    measured = made.evaluation
    return (
        DemoModel(
            version=made.version,
            accuracy=round(measured.accuracy.value, 4),
            f1_macro=round(measured.f1_macro.value, 4),
            ece=round(measured.ece, 4),
            auto_apply_coverage=round(measured.auto_apply.coverage.value, 4),
            target_error=measured.auto_apply.target_error,
            dataset_hash=made.dataset_hash,
            role=made.role,
            champion=champion,
            verdict=" ".join(made.verdict.reasons),
        ),
        None,
    )


def _stopwatch(seconds: dict[str, float], say: Callable[[str], None]) -> Callable[[str, str], Any]:
    @contextmanager
    def step(key: str, sentence: str) -> Iterator[None]:
        say(sentence)
        started = time.perf_counter()
        yield
        seconds[key] = round(time.perf_counter() - started, 2)

    return step


def _span(user_id: int) -> tuple[dt.date, dt.date]:
    with session_for_jobs() as session:
        query = select(func.min(Transaction.date), func.max(Transaction.date)).where(Transaction.user_id == user_id)
        first, last = session.execute(query).one()
        return first, last


def _outcome(user_id: int) -> dict[str, Any]:
    """Count what the user now has."""
    with session_for_jobs() as session:

        def count(query: str) -> dict[str, int]:
            return {str(row[0]): int(row[1]) for row in session.execute(text(query), {"user_id": user_id})}

        labels = count("""
            SELECT source, count(*) FROM transaction_labels
            INNER JOIN transactions ON transactions.id = txn_id AND user_id = :user_id GROUP BY source
        """)
        features = count("""
            SELECT 'features', count(*) FROM ml_features
            INNER JOIN transactions ON transactions.id = txn_id AND user_id = :user_id
        """)
        training = count("SELECT 'rows', count(*) FROM marts.fct_training_view WHERE user_id = :user_id")
        merchants = count(
            "SELECT confidence, count(*) FROM marts.dim_merchants WHERE user_id = :user_id GROUP BY confidence"
        )
    return {
        "labels": {source: labels.get(source, 0) for source in ("human", "rule", "import")},
        "features": features["features"],
        "training_rows": training["rows"],
        "merchants": {confidence: merchants.get(confidence, 0) for confidence in ("high", "medium", "low")},
    }


def _write(report: DemoReport) -> None:
    folder = get_settings().build_dir
    folder.mkdir(parents=True, exist_ok=True)
    counted = {key: value for key, value in asdict(report).items() if key not in NOT_WRITTEN}
    content = json.dumps(counted, indent=2) + "\n"
    for name in (f"demo-{report.name}.json", "demo.json"):
        (folder / name).write_text(content, encoding="utf-8")
