"""What a trained model answers: its best candidates, why, and what they were computed from."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from anyio import move_on_after

from app.ml.hierarchical_prior import Share
from app.ml.reason_sentences import tell_candidates
from app.ml.serving import FEW_ROWS, Candidate, RankedCandidates, best_names, kept_inputs, score_rows
from app.services.heuristics import MEMORY_LEVELS
from app.services.reasons import tell_counts
from app.services.served_models import SERVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.ml.category_model import Scores
    from app.ml.evidence import Evidence, Place
    from app.ml.serving import LabelSpace, ServedModel
    from app.services.asked_transactions import AskedTransaction
    from app.services.user_knowledge import UserKnowledge

# After so many transactions other requests get their turn.
_SLICE: Final = 25


# So many threads score at once what is not scored on the spot; one that hangs takes no other thread with it.
_SCORERS: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="scoring")


class TooSlow(Exception):
    """A model took longer than anybody may be made to wait.

    Attributes:
        by_itself: Whether most of that was its own work; else it waited for a thread or a processor.
    """

    def __init__(self, *, by_itself: bool) -> None:
        """Say whose fault it was."""
        super().__init__()
        self.by_itself = by_itself


async def rank_by_model(
    asked: Sequence[AskedTransaction],
    knowledge: UserKnowledge,
    served: ServedModel,
    *,
    most: int,
    patience: float,
) -> list[RankedCandidates]:
    """Rank categories for transactions by a model, from what is known now.

    Args:
        asked: The transactions.
        knowledge: Of the user.
        served: The model.
        most: How many candidates each is given at the most.
        patience: Seconds that the model may take.

    Returns:
        One entry for each transaction, in their order.

    Raises:
        TooSlow: It took longer.
    """
    space, evidence = await _count(asked, knowledge, served)
    scores = await _score(served, asked, evidence, len(space.words), patience)
    answers = []
    best = best_names(space, scores, most)
    for number, (each, counts, found) in enumerate(zip(asked, evidence, best, strict=True)):
        inputs = {"engine": "model"} | kept_inputs(space, served, counts)
        candidates = _with_reasons(each, knowledge, found)
        if candidates and not candidates[0].reasons:
            candidates = _with_words(each, knowledge, served, space, counts, candidates)
        answers.append(RankedCandidates(each.txn_id, candidates, inputs))
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
    return answers


async def _count(
    asked: Sequence[AskedTransaction], knowledge: UserKnowledge, served: ServedModel
) -> tuple[LabelSpace, list[Evidence]]:
    """Count the labels at all places in one space: should a category come or go meanwhile, begin again."""
    lets_others = True
    while True:
        space, vocabulary = knowledge.space_of(served), knowledge.memory.vocabulary
        evidence: list[Evidence] = []
        for number, each in enumerate(asked):
            evidence.append(model_evidence(each, knowledge, space))
            if lets_others and number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
                if knowledge.memory.vocabulary != vocabulary:
                    break
        else:
            return space, evidence
        lets_others = False


def model_evidence(asked: AskedTransaction, knowledge: UserKnowledge, space: LabelSpace) -> Evidence:
    """Count the labels at a transaction's places, its own label left out."""
    as_of = knowledge.memory.as_of(asked.day)
    return space.spread(knowledge.memory.evidence_at(asked.place, as_of, without=asked.txn_id))


def inputs_for_models(asked: AskedTransaction, knowledge: UserKnowledge) -> dict[str, Any]:
    """Say what a model would have been told that was not asked."""
    space = knowledge.bare_space
    return kept_inputs(space, None, model_evidence(asked, knowledge, space))


async def _score(
    served: ServedModel,
    asked: Sequence[AskedTransaction],
    evidence: Sequence[Evidence],
    label_count: int,
    patience: float,
) -> Scores:
    """Score; in a thread what takes longer than to tell one, and whatever a version is asked that may be slow."""
    places = [each.place for each in asked]
    if len(asked) > FEW_ROWS or not SERVER.is_quick(served.version):
        return await _score_aside(served, places, evidence, label_count, patience)
    began = time.thread_time()
    scores = score_rows(served, places, evidence, label_count)
    SERVER.note_time(served.version, time.thread_time() - began)
    return scores


async def _score_aside(
    served: ServedModel, places: Sequence[Place], evidence: Sequence[Evidence], label_count: int, patience: float
) -> Scores:
    used = _ProcessorTime()

    def score() -> Scores:
        used.begin()
        scores = score_rows(served, places, evidence, label_count)
        if len(places) <= FEW_ROWS:
            SERVER.note_time(served.version, used.seconds)
        return scores

    scoring = asyncio.get_running_loop().run_in_executor(_SCORERS, score)
    # Nobody may be there any longer to hear of it.
    scoring.add_done_callback(lambda done: done.cancelled() or done.exception())
    with move_on_after(patience):
        return await asyncio.shield(scoring)
    scoring.cancel()
    raise TooSlow(by_itself=used.seconds > patience / 2)


class _ProcessorTime:
    """What a thread has used of a processor since it began, which another thread may ask."""

    def __init__(self) -> None:
        self._clock: int | None = None
        self._began = 0.0

    def begin(self) -> None:
        clock = time.pthread_getcpuclockid(threading.get_ident())
        self._began = time.clock_gettime(clock)
        self._clock = clock

    @property
    def seconds(self) -> float:
        return 0.0 if self._clock is None else time.clock_gettime(self._clock) - self._began


def _with_reasons(
    asked: AskedTransaction, knowledge: UserKnowledge, found: Mapping[str, float]
) -> tuple[Candidate, ...]:
    """Say what the user labelled this payment and this merchant before."""
    counts = {
        level: _named(knowledge.memory.labels_at(asked.place, name, without=asked.txn_id), knowledge.shown)
        for level, name in MEMORY_LEVELS.items()
    }
    totals = {level: sum(here.values()) for level, here in counts.items()}
    merchant = asked.place.merchant.strip()
    candidates = []
    for label, confidence in found.items():
        levels = {level: Share(here[label], totals[level], 0.0) for level, here in counts.items() if label in here}
        candidates.append(Candidate(label, confidence, tuple(tell_counts(label, merchant, levels))))
    return tuple(candidates)


def _with_words(
    asked: AskedTransaction,
    knowledge: UserKnowledge,
    served: ServedModel,
    space: LabelSpace,
    counts: Evidence,
    candidates: Sequence[Candidate],
) -> tuple[Candidate, ...]:
    """Say what the words and the kind of a payment speak for that was never labelled, nor its merchant."""
    labels = [space.names[index] for index in space.name_of]
    kinds = knowledge.memory.labels_at(asked.place, "account_builtin", without=asked.txn_id)
    told = tell_candidates(
        served.model,
        asked.place,
        score_rows(served, [asked.place], [counts], len(labels)),
        labels,
        {"account_builtin": _named(kinds, knowledge.shown)},
        [labels.index(candidate.label) for candidate in candidates],
    )
    return tuple(
        replace(candidate, reasons=tuple(reasons)) for candidate, reasons in zip(candidates, told, strict=True)
    )


def _named(counts: dict[str, int], shown: Mapping[str, str]) -> dict[str, int]:
    """Add counts of words up to those of the names that they are shown under."""
    if not shown:
        return counts
    named: Counter[str] = Counter()
    for word, count in counts.items():
        named[shown.get(word, word)] += count
    return named
