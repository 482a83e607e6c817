"""Train a model of a category set, judge it, register it, and let it become champion if it may.

A training is a row of `ml_training_runs` before it is anything else. What it learns from is read in one transaction, as
of a moment; the rest needs no database until the model is registered. Version, decision and the run's end are then
written in one transaction: killed before it, a training has changed nothing but MLflow, which may keep a version that
nobody deploys.
"""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.config import get_settings
from app.db import advisory_lock, session_for_jobs
from app.errors import InvalidInput, LedgermillError
from app.ml import train as learning
from app.ml.dataset import dataset_hash
from app.ml.gate import refuse
from app.ml.registry import FailedTraining, TrainingRecord, log_failure, log_training
from app.ml.report import write_report
from app.ml.tracking import MODEL_NAME
from app.services import deployments
from app.services.champions import judge_against_champion
from app.services.model_aliases import mirror_aliases
from app.services.model_versions import add_version
from app.services.training_record import Training, flat_numbers, gate_record, report_facts, run_metrics
from app.services.training_rows import read_rows, settled_moment, too_few
from app.services.training_runs import INTERRUPTED, check_request, finish_run, start_run

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from app.ml.evaluation import Evaluation
    from app.ml.gate import Verdict
    from app.ml.learning_curve import LearningPoint
    from app.ml.registry import RegisteredVersion
    from app.ml.train import FittedModel

    Progress = Callable[[int, int | None], None]

logger = logging.getLogger(__name__)

STEPS: Final = 6


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training has made.

    Attributes:
        version: The model's number.
        role: What the model is now; None if the gate refused it.
        dataset_hash: Of what was learnt from, so many rows.
        evaluation: How a twin that had not seen them did on the last months.
        verdict: What the gate said.
        seconds: What each step took.
    """

    run_id: int
    version: int
    role: deployments.Role | None
    sha256: str
    dataset_hash: str
    rows: int
    classes: int
    evaluation: Evaluation
    verdict: Verdict
    seconds: dict[str, float]


def train_model(
    category_set: int | None,
    *,
    as_of: dt.datetime | None = None,
    seed: int = 0,
    promote: bool = True,
    requested_by: str,
    say: Callable[[str], None] = logger.info,
    progress: Progress | None = None,
) -> TrainingOutcome:
    """Train a model of a category set; one training of a set runs at a time, the next one waits.

    Args:
        category_set: The user whose own categories are meant; None for the shared set.
        as_of: What was known at this moment is learnt from; default: `settled_moment`.
        seed: Of everything that is drawn: the same data and seed give the same model, byte for byte.
        promote: Let the model become champion if the gate lets it through; else it becomes challenger.
        requested_by: Who asked for it, for the record.
        say: Told what happens next.
        progress: Called with the number of steps done, and of how many.

    Raises:
        InvalidInput: There is too little to learn from, or the moment has not come yet.
        NotFound: There is no such user any more.
        DatabaseUnavailable: The ledger's or MLflow's database cannot be used.
    """
    with advisory_lock(f"train {'shared' if category_set is None else category_set}"):
        with session_for_jobs() as session:
            check_request(session, as_of=as_of, seed=seed)
        moment = as_of or settled_moment()
        with session_for_jobs() as session:
            run_id = start_run(session, category_set, as_of=moment, seed=seed)
        training = Training(category_set, moment, seed, get_settings().target_error, promote, requested_by, run_id)
        try:
            steps = _Steps(say, progress)
            learnt = _learn(training, steps)
            with steps.step("register", "Registering it"):
                outcome = _register(training, learnt, steps.seconds)
        except BaseException as error:
            _record_failure(training, error)
            raise
    mirror_aliases()
    return outcome


@dataclass(frozen=True)
class _Learnt:
    """A model that nobody else knows of yet, and what was found out about it."""

    rows: int
    dataset_hash: str
    evaluation: Evaluation
    champion: int | None
    verdict: Verdict
    curve: tuple[LearningPoint, ...]
    fitted: FittedModel


def _learn(training: Training, steps: _Steps) -> _Learnt:
    """Judge how models are made now, and make one."""
    with steps.step("read", "Reading what was known"):
        rows = read_rows(training.category_set, training.as_of)
        data_hash = dataset_hash(rows)
    seed, target_error = training.seed, training.target_error
    try:
        with steps.step(
            "assess", f"Learning from {rows.height:,} labels but those of the last months, to predict those"
        ):
            assessed = learning.assess_model(rows, seed=seed, target_error=target_error)
        with steps.step("gate", "Comparing with the champion on the same transactions"):
            champion, verdict = judge_against_champion(
                training.category_set, rows, assessed, as_of=training.as_of, target_error=target_error
            )
        with steps.step("curve", "Drawing the learning curve"):
            curve = learning.draw_learning_curve(rows, assessed, seed=seed, target_error=target_error)
        with steps.step("fit", "Fitting the model that is kept"):
            fitted = learning.fit_final(rows, seed=seed, target_error=target_error)
    except InvalidInput as error:
        raise too_few(rows, error) from error
    return _Learnt(rows.height, data_hash, assessed.evaluation, champion, verdict, curve, fitted)


def _register(training: Training, learnt: _Learnt, seconds: dict[str, float]) -> TrainingOutcome:
    """Bring a model into the registry, and then, at once, into our tables with what is decided about it."""
    metrics = run_metrics(learnt.evaluation, learnt.verdict, learnt.curve, seconds)
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(
            learnt.evaluation,
            Path(folder),
            title=f"Training {training.run_id}",
            facts=report_facts(training, learnt.rows, learnt.dataset_hash),
            learning_curve=learnt.curve,
        )
        registered = log_training(
            TrainingRecord(
                category_set=training.category_set,
                dataset_hash=learnt.dataset_hash,
                params=training.params,
                metrics=flat_numbers(metrics),
                artefact=learnt.fitted.content,
                reports=[page, page.with_suffix(".json")],
                actor=training.requested_by,
            )
        )
    classes = len(learnt.fitted.header["classes"])
    with session_for_jobs() as session:
        add_version(session, training.category_set, training.run_id, registered)
        role, verdict = _decide(session, training, registered, learnt)
        finish_run(
            session,
            training.run_id,
            status="refused" if role is None else "succeeded",
            dataset_hash=learnt.dataset_hash,
            feature_count=len(learnt.fitted.header["input_schema"]),
            train_size=learnt.rows,
            test_size=learnt.evaluation.rows,
            f1_macro=learnt.evaluation.f1_macro.value,
            accuracy=learnt.evaluation.accuracy.value,
            class_count=classes,
            model_uri=f"models:/{MODEL_NAME}/{registered.version}",
            notes=" ".join(verdict.reasons),
            metrics=metrics | {"gate": gate_record(verdict)},
        )
    return TrainingOutcome(
        run_id=training.run_id,
        version=registered.version,
        role=role,
        sha256=registered.sha256,
        dataset_hash=learnt.dataset_hash,
        rows=learnt.rows,
        classes=classes,
        evaluation=learnt.evaluation,
        verdict=verdict,
        seconds=seconds,
    )


def _decide(
    session: Session, training: Training, registered: RegisteredVersion, learnt: _Learnt
) -> tuple[deployments.Role | None, Verdict]:
    """Promote, refuse, or leave as challenger, for the gate's reasons."""
    verdict, category_set = learnt.verdict, training.category_set
    # Before looking: nobody may promote between the look and the decision.
    deployments.take_turns(session, category_set)
    if verdict.passed and deployments.current(session, category_set).champion != learnt.champion:
        verdict = refuse("While it was compared with the champion, another became champion; train again.")
    decision = {
        "actor": f"the gate, for {training.requested_by}",
        "reason": " ".join(verdict.reasons)[: deployments.LONGEST_TEXT],
    }
    if not verdict.passed:
        deployments.record_refusal(session, category_set, registered.version, **decision)
        return None, verdict
    if training.promote:
        deployments.promote(session, category_set, registered.version, **decision)
        return "champion", verdict
    deployments.challenge(session, category_set, registered.version, **decision)
    return "challenger", verdict


def _record_failure(training: Training, error: BaseException) -> None:
    """Let the run and MLflow say that the training failed and why; strings of people may be in an unexpected error."""
    if isinstance(error, LedgermillError):
        sentence = str(error)
    elif isinstance(error, Exception):
        sentence = f"{type(error).__name__}: something went wrong that nobody expected; the log says what."
    else:
        sentence = INTERRUPTED
    try:
        with session_for_jobs() as session:
            finish_run(session, training.run_id, status="failed", notes=sentence)
        log_failure(FailedTraining(training.category_set, training.params, sentence, actor=training.requested_by))
    except Exception as failure:  # noqa: BLE001 -- what ended the training is what the caller must hear of
        logger.warning("The end of training %d is not on record everywhere: %s", training.run_id, failure)


class _Steps:
    """The steps of a training, one after the other: announced, timed and counted."""

    def __init__(self, say: Callable[[str], None], progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say
        self._progress = progress

    @contextmanager
    def step(self, name: str, sentence: str) -> Iterator[None]:
        self._say(sentence)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)
        if self._progress:
            self._progress(len(self.seconds), STEPS)
