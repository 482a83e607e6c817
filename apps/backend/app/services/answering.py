"""Which engine answers, and what it says.

Where both may (mode `auto`): a rule of the user's own that decides the transaction and is sure enough; else the model.
Without a model that can answer, the heuristics do. The heuristics' other claims are not put against the model's: where
they are surer than it they are right less often than they say, and less often than it (docs/decisions/0017).
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from anyio import move_on_after
from anyio.to_thread import run_sync

from app.ml.serving import still_scores
from app.request_pool import WaitFirst
from app.services.experiment_assignment import assign
from app.services.heuristics import deciding_rules, rank_by_heuristics, read_shared, strange_merchants
from app.services.metrics import MODEL_FALLBACKS, SHADOW_FAILED
from app.services.model_answers import TooSlow, inputs_for_models, rank_by_model
from app.services.remembered_users import habits_of, once
from app.services.served_models import SERVER, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import psycopg

    from app.ml.serving import Candidate, RankedCandidates, ServedModel
    from app.services.asked_transactions import AskedTransaction
    from app.services.experiment_assignment import Assignment
    from app.services.heuristics import Habits
    from app.services.remembered_users import Waited
    from app.services.served_models import Deployed, VersionFile
    from app.services.user_knowledge import UserKnowledge

    Ranked = dict[int, RankedCandidates]

logger = logging.getLogger(__name__)

Mode = Literal["heuristic", "model", "auto"]
Source = Literal["rule", "model"]
# Why the heuristics answer in a model's place: there is none that can, or it fails on this request alone.
Fallback = Unavailable | Literal["failed"]
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
    waited: Waited,
    *,
    mode: Mode,
    most: int,
    threshold: float,
) -> list[Answer]:
    """Let the engine that is asked for answer each transaction, and another where that one cannot.

    Args:
        connection: The request's transaction.
        knowledge: Of the user.
        asked: The transactions.
        waited: What the request has waited for.
        mode: The engine.
        most: How many candidates each is given at the most.
        threshold: Say nothing where the best candidate is less sure.

    Raises:
        WaitFirst: Something has to be read or opened first.
    """
    # What holds at the beginning holds for all of the request.
    deployed = SERVER.deployed
    assigned = _assign(deployed, knowledge, asked) if mode == "auto" else {}
    said: dict[int, RankedCandidates] = {}
    if mode == "auto" and knowledge.has_rules:
        said.update(await _ask_own_rules(connection, knowledge, asked, waited, most, threshold))
    fallbacks: Counter[Fallback] = Counter()
    for file, some in _by_model(deployed, knowledge, asked, assigned) if mode != "heuristic" else []:
        rest = [each for each in some if each.txn_id not in said]
        by_model = await _ask_model(file, knowledge, rest, waited, most) if rest else {}
        if isinstance(by_model, str):
            fallbacks[by_model] += len(rest)
        else:
            said.update(by_model)
    if rest := [each for each in asked if each.txn_id not in said]:
        said.update(await _ask_heuristics(connection, knowledge, habits_of(knowledge, waited), rest, most))
    answers = [
        Answer(each, ranked, ranked.inputs.get("version"), threshold, assigned.get(each.txn_id))
        for each, ranked in ((each, said[each.txn_id]) for each in asked)
    ]
    if knowledge.category_set in deployed.challengers:
        _tell_challenger(answers, knowledge)
    # Nothing is waited for any more, so what is counted here is counted once.
    for reason, count in fallbacks.items():
        MODEL_FALLBACKS.labels(reason=reason).inc(count)
    return answers


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


def _tell_challenger(answers: Iterable[Answer], knowledge: UserKnowledge) -> None:
    """Keep what a model would have been told, where none was asked and a challenger will be, out of the request."""
    for each in answers:
        if each.version is None and not each.ranked.by_rule:
            try:
                each.ranked.inputs["model"] = inputs_for_models(each.asked, knowledge)
            except Exception as error:  # noqa: BLE001 -- whatever becomes of a challenger, people are answered
                SHADOW_FAILED.inc()
                # Not its words, which may hold what somebody bought.
                logger.error("A challenger could not be told what it would be asked: %s", type(error).__name__)  # noqa: TRY400


def _abstention(ranked: RankedCandidates, threshold: float) -> Abstention | None:
    if not ranked.candidates:
        return "no_candidate"
    return "below_confidence" if ranked.candidates[0].confidence < threshold else None


async def _ask_own_rules(
    connection: psycopg.AsyncConnection[Any],
    knowledge: UserKnowledge,
    asked: Sequence[AskedTransaction],
    waited: Waited,
    most: int,
    threshold: float,
) -> Ranked:
    """Let the user's own rules decide what they are sure enough about."""
    habits = habits_of(knowledge, waited)
    ruled = deciding_rules(asked, habits)
    decided = [each for each in asked if each.txn_id in ruled]
    ranked = await _ask_heuristics(connection, knowledge, habits, decided, most) if decided else {}
    return {txn_id: each for txn_id, each in ranked.items() if _abstention(each, threshold) is None}


async def _ask_model(
    file: VersionFile | None, knowledge: UserKnowledge, asked: Sequence[AskedTransaction], waited: Waited, most: int
) -> Ranked | Fallback:
    """Let a version rank candidates; where it cannot, say why not."""
    served = _at_hand(file, waited)
    if served == "none" and knowledge.category_set not in _without_champion:
        _without_champion.add(knowledge.category_set)
        whose = (
            "The shared category set" if knowledge.category_set is None else f"Category set {knowledge.category_set}"
        )
        logger.warning("%s has no champion; the heuristics answer", whose)
    if isinstance(served, str):
        return served
    try:
        patience = PATIENCE_SECONDS + PATIENCE_SECONDS_EACH * len(asked)
        return _by_id(await rank_by_model(asked, knowledge, served, most=most, patience=patience))
    except TooSlow as slow:
        # Where it only had to wait for a processor, it is not for that to answer nobody.
        if slow.by_itself:
            SERVER.fail(served.version, "slow", f"it took longer than {patience:.1f} seconds")
        return "slow"
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with a model, people are answered
        # Not its words, which may hold what somebody bought.
        what = type(error).__name__
        if not still_scores(served):
            SERVER.fail(served.version, "broken", what)
            return "broken"
        # It is not for one transaction that it cannot take to turn a model off for everybody.
        logger.error("The heuristics answer a request that model version %d fails on: %s", served.version, what)  # noqa: TRY400
        return "failed"


def _at_hand(file: VersionFile | None, waited: Waited) -> ServedModel | Unavailable:
    if file is None:
        return "none"
    found = SERVER.at_hand(file)
    if found == "loading" and file.version not in waited.opened:
        raise WaitFirst(partial(_open, file, waited))
    return found


async def _open(file: VersionFile, waited: Waited) -> None:
    waited.opened.add(file.version)
    # If nobody waits any longer it is opened all the same, for the next one who asks.
    with move_on_after(PATIENCE_SECONDS):
        await once(("version", file.version), partial(run_sync, SERVER.open, file))


async def _ask_heuristics(
    connection: psycopg.AsyncConnection[Any],
    knowledge: UserKnowledge,
    habits: Habits,
    asked: Sequence[AskedTransaction],
    most: int,
) -> Ranked:
    strange = strange_merchants(asked, knowledge)
    shared = await read_shared(connection, knowledge.user_id, strange) if strange else {}
    return _by_id(rank_by_heuristics(asked, knowledge, habits, shared, most=most))


def _by_id(ranked: Iterable[RankedCandidates]) -> Ranked:
    return {each.txn_id: each for each in ranked}
