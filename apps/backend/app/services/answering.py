"""Which engine answers, and what it says.

Where both may (mode `auto`): a rule of the user's own that decides the transaction and is sure enough; else the model.
Without a model that can answer, the heuristics do. The heuristics' other claims are not put against the model's: where
they are surer than it they are right less often than they say, and less often than it (docs/decisions/0017).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from anyio import move_on_after
from anyio.to_thread import run_sync

from app.db import session_for_user
from app.services.experiment_assignment import assign
from app.services.heuristics import deciding_rules, rank_by_heuristics, read_habits, read_shared
from app.services.metrics import MODEL_FALLBACKS
from app.services.model_answers import TooSlow, inputs_for_models, rank_by_model
from app.services.served_models import SERVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from app.ml.serving import Candidate, RankedCandidates, ServedModel
    from app.services.asked_transactions import AskedTransaction
    from app.services.experiment_assignment import Assignment
    from app.services.heuristics import Habits
    from app.services.served_models import Deployed, Unavailable, VersionFile
    from app.services.user_knowledge import UserKnowledge

    Ranked = list[tuple[AskedTransaction, RankedCandidates]]

logger = logging.getLogger(__name__)

Mode = Literal["heuristic", "model", "auto"]
Source = Literal["rule", "model"]
Abstention = Literal["no_candidate", "below_confidence"]

# How long somebody waits for a model that is not open, or for its answer, before the heuristics answer.
PATIENCE_SECONDS: Final = 0.5
# As much more for each transaction.
PATIENCE_SECONDS_EACH: Final = 0.001

# Category sets of which the log says that they have none; once is enough.
_without_champion: Final[set[int | None]] = set()


@dataclass(frozen=True)
class Answer:
    """What an engine said about a transaction; `version` is the model's, None for the heuristics.

    Attributes:
        assignment: The arm of the experiment that was under way, if one was.
    """

    asked: AskedTransaction
    ranked: RankedCandidates
    version: int | None
    threshold: float
    assignment: Assignment | None

    @property
    def source(self) -> Source:
        """The engine."""
        return "rule" if self.version is None else "model"

    @property
    def model_version(self) -> str | None:
        """The model's version as events have it."""
        return None if self.version is None else str(self.version)

    @property
    def abstention(self) -> Abstention | None:
        """Why nothing is suggested; None where something is."""
        return _abstention(self.ranked, self.threshold)

    @property
    def offered(self) -> tuple[Candidate, ...]:
        """What is suggested."""
        return self.ranked.candidates if self.abstention is None else ()


async def answer(
    connection: psycopg.AsyncConnection[Any],
    knowledge: UserKnowledge,
    asked: Sequence[AskedTransaction],
    *,
    mode: Mode,
    most: int,
    threshold: float,
) -> list[Answer]:
    """Let the engine that is asked for answer each transaction, and another where that one cannot."""
    # What holds at the beginning holds for all of the request.
    deployed = SERVER.deployed
    assigned = _assign(deployed, knowledge, asked) if mode == "auto" else {}
    answers: dict[int, Answer] = {}
    if mode == "auto" and knowledge.has_rules:
        ruled = deciding_rules(asked, await _habits(knowledge))
        by_rule = await _ask_heuristics(connection, knowledge, [each for each in asked if each.txn_id in ruled], most)
        for each, ranked in by_rule:
            if _abstention(ranked, threshold) is None:
                answers[each.txn_id] = Answer(each, ranked, None, threshold, assigned.get(each.txn_id))
    if mode != "heuristic":
        for file, some in _by_model(deployed, knowledge, asked, assigned):
            rest = [each for each in some if each.txn_id not in answers]
            version, by_model = await _ask_model(file, knowledge, rest, most)
            for each, ranked in by_model:
                answers[each.txn_id] = Answer(each, ranked, version, threshold, assigned.get(each.txn_id))
    rest = [each for each in asked if each.txn_id not in answers]
    for each, ranked in await _ask_heuristics(connection, knowledge, rest, most):
        answers[each.txn_id] = Answer(each, ranked, None, threshold, assigned.get(each.txn_id))
    if knowledge.category_set in deployed.challengers:
        for each in asked:
            _tell_challenger(answers[each.txn_id], knowledge)
    return [answers[each.txn_id] for each in asked]


def _assign(deployed: Deployed, knowledge: UserKnowledge, asked: Sequence[AskedTransaction]) -> dict[int, Assignment]:
    """Say which arm of a running experiment each transaction is in."""
    experiment = deployed.experiments.get(knowledge.category_set)
    if experiment is None:
        return {}
    return {each.txn_id: assign(experiment, knowledge.user_id, each.place.merchant) for each in asked}


def _by_model(
    deployed: Deployed,
    knowledge: UserKnowledge,
    asked: Sequence[AskedTransaction],
    assigned: Mapping[int, Assignment],
) -> list[tuple[VersionFile | None, list[AskedTransaction]]]:
    """Divide transactions among the versions that are to be asked; those of the heuristics' arm are left out."""
    by_file: defaultdict[VersionFile | None, list[AskedTransaction]] = defaultdict(list)
    for each in asked:
        arm = assigned[each.txn_id].arm if each.txn_id in assigned else None
        if arm is None or arm.engine != "rule":
            by_file[deployed.file_of(knowledge.category_set, arm)].append(each)
    return list(by_file.items())


def _tell_challenger(answered: Answer, knowledge: UserKnowledge) -> None:
    """Keep what a model would have been told, where none was asked and a challenger will be, out of the request."""
    if answered.version is None and not answered.ranked.by_rule:
        answered.ranked.inputs["model"] = inputs_for_models(answered.asked, knowledge)


def _abstention(ranked: RankedCandidates, threshold: float) -> Abstention | None:
    if not ranked.candidates:
        return "no_candidate"
    return "below_confidence" if ranked.candidates[0].confidence < threshold else None


async def _ask_model(
    file: VersionFile | None, knowledge: UserKnowledge, asked: Sequence[AskedTransaction], most: int
) -> tuple[int, Ranked]:
    """Let a version rank candidates; nothing where there is none that can."""
    if not asked:
        return 0, []
    served = await _open(file)
    if served == "none" and knowledge.category_set not in _without_champion:
        _without_champion.add(knowledge.category_set)
        whose = (
            "The shared category set" if knowledge.category_set is None else f"Category set {knowledge.category_set}"
        )
        logger.warning("%s has no champion; the heuristics answer", whose)
    if isinstance(served, str):
        MODEL_FALLBACKS.labels(reason=served).inc(len(asked))
        return 0, []
    try:
        patience = PATIENCE_SECONDS + PATIENCE_SECONDS_EACH * len(asked)
        ranked = await rank_by_model(asked, knowledge, served, most=most, patience=patience)
    except TooSlow:
        return _give_up(served, "slow", f"it took longer than {patience:.1f} seconds", len(asked))
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with a model, people are answered
        # Not its words, which may hold what somebody bought.
        return _give_up(served, "broken", type(error).__name__, len(asked))
    return served.version, list(zip(asked, ranked, strict=True))


def _give_up(served: ServedModel, reason: Unavailable, why: str, count: int) -> tuple[int, Ranked]:
    SERVER.fail(served.version, reason, why)
    MODEL_FALLBACKS.labels(reason=reason).inc(count)
    return 0, []


async def _open(file: VersionFile | None) -> ServedModel | Unavailable:
    if file is None:
        return "none"
    found = SERVER.at_hand(file)
    if found == "loading":
        # Whoever is not waited for is opened all the same, for the next one who asks.
        with move_on_after(PATIENCE_SECONDS):
            found = await run_sync(SERVER.open, file, abandon_on_cancel=True)
    return found


async def _habits(knowledge: UserKnowledge) -> Habits:
    """Return how the user labels, reading it where it is not remembered or a hundredth of the labels have moved."""
    habits = knowledge.habits
    if habits is None or knowledge.has_moved_on:
        habits = await run_sync(_read_habits, knowledge.user_id)
        knowledge.remember(habits)
    return habits


def _read_habits(user_id: int) -> Habits:
    with session_for_user(user_id) as session:
        return read_habits(session, user_id)


async def _ask_heuristics(
    connection: psycopg.AsyncConnection[Any], knowledge: UserKnowledge, asked: Sequence[AskedTransaction], most: int
) -> Ranked:
    if not asked:
        return []
    habits = await _habits(knowledge)
    strange = {
        each.place.merchant.strip()
        for each in asked
        if each.place.merchant.strip() and not knowledge.memory.tallies_at(each.place, "merchant")
    }
    shared = await read_shared(connection, knowledge.user_id, sorted(strange)) if strange else {}
    return list(zip(asked, rank_by_heuristics(asked, knowledge, habits, shared, most=most), strict=True))
