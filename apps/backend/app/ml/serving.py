"""What a model says of transactions somebody asks about, and what is kept of that so that it can be said again.

A model scores its classes and, after them, the labels that the user has come to use since (`category_model`). What
people see are names: two words that are shown under one name are one candidate, whose probability is the sum of theirs.

What a score was computed from is the transaction, which never changes, and the counts at its places, which do; so the
counts are packed into the event. They are rounded before they are used, not after.
"""

from __future__ import annotations

import base64
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from app.ml.artefact import read_artefact
from app.ml.category_model import model_from_artefact, weigh_counts, weigh_wording
from app.ml.evidence import FIRST_LABELS, SLOTS, Evidence, place_of
from app.ml.single import score_weighed, weigh_one
from app.ml.softmax_regression import softmax
from app.ml.wording import read_wording

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores, WeighedWording
    from app.ml.evidence import Place

DECIMALS: Final = 4
MOST_WEIGHED: Final = 8192  # of a kilobyte or two
# So many rows are scored before anything else could have its turn.
FEW_ROWS: Final = 12

# What every model can score: a description, and counts of its first class in all slots.
_SOMEWHERE: Final = place_of(0, "", "", "warm up", None, Decimal(-1))
_EVERYTHING: Final = Evidence(
    row=np.zeros(len(SLOTS), dtype=np.int64),
    slot=np.arange(len(SLOTS)),
    label=np.zeros(len(SLOTS), dtype=np.int64),
    count=np.full(len(SLOTS), FIRST_LABELS + 1),
)

_PACKED: Final = np.dtype([("slot", "<u1"), ("label", "<u2"), ("count", "<f4")])


@dataclass(frozen=True)
class Candidate:
    """A category that may be right.

    Attributes:
        confidence: Probability that it is, between 0 and 1.
        reasons: Why, in sentences for the person.
    """

    label: str
    confidence: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class RankedCandidates:
    """All that an engine has to say about a transaction, best candidate first.

    Attributes:
        inputs: What was used, enough to compute the same again.
        by_rule: Whether a rule of the user's own decides it.
    """

    txn_id: int
    candidates: tuple[Candidate, ...]
    inputs: dict[str, Any]
    by_rule: bool = False


@dataclass(frozen=True)
class ServedModel:
    """A version that answers.

    Attributes:
        version: Its number.
        weigh: Weighs the wording of one transaction, by user, account, normalised description and how many words are
            scored; those that were weighed last are remembered, for ledgers repeat their strings.
    """

    version: int
    model: CategoryModel
    weigh: Callable[[int, str, str, int], WeighedWording]


def serve_model(model: CategoryModel, version: int) -> ServedModel:
    """Make a model ready to answer."""
    return ServedModel(version, model, lru_cache(maxsize=MOST_WEIGHED)(partial(weigh_one, model)))


def open_model(path: Path, sha256: str, version: int) -> ServedModel:
    """Open a version's file, which must be what was registered, and let it score once, so that nobody waits for that.

    Raises:
        ArtefactRefused: The file is missing, changed or of another format.
        InvalidInput: The model was made by a recipe, or from features, that this version does not know.
    """
    served = serve_model(model_from_artefact(read_artefact(path, sha256)), version)
    _warm_up(served)
    return served


def still_scores(served: ServedModel) -> bool:
    """Tell whether a model that failed scores what every model can, so that the fault was the transaction's."""
    try:
        _warm_up(served)
    except Exception:  # noqa: BLE001 -- whatever it is
        return False
    return True


def seconds_of_one(served: ServedModel) -> float:
    """Measure what one transaction takes a model, in seconds of a processor."""
    began = time.thread_time()
    _score_one_new(served.model)
    return time.thread_time() - began


def _warm_up(served: ServedModel) -> None:
    """Let a model do all that it may have to: what was never read, all counts, a category more, many rows."""
    _score_one_new(served.model)
    score_rows(served, [_SOMEWHERE] * 2, [_EVERYTHING] * 2, len(served.model.classes) + 1)


def _score_one_new(model: CategoryModel) -> None:
    place = _SOMEWHERE
    wording = weigh_one(model, place.user_id, place.account, place.norm_desc, len(model.classes) + 1)
    score_weighed(model, wording, _EVERYTHING)


@dataclass(frozen=True)
class LabelSpace:
    """What one user can be told by one model.

    Attributes:
        words: What is scored, in the order of positions: the model's classes, then what has come into use since.
        positions: Of each word that counts are of: the positions that they speak for, which share its name.
        names: The names that words are shown under, ascending.
        name_of: Index of each position's name, shape (positions,).
        not_offered: Names that the user does not have, ascending; they are scored and passed over.
    """

    words: tuple[str, ...]
    positions: Sequence[Sequence[int]]
    names: tuple[str, ...]
    name_of: NDArray[np.int64]
    not_offered: tuple[str, ...]

    @cached_property
    def _position(self) -> NDArray[np.int64] | None:
        """Position of each word that counts are of, -1 for those that stand nowhere; None where one has several."""
        if any(len(positions) > 1 for positions in self.positions):
            return None
        return np.array([positions[0] if positions else -1 for positions in self.positions], np.int64)

    @cached_property
    def _all_stand_somewhere(self) -> bool:
        return all(self.positions)

    def spread(self, counts: Evidence) -> Evidence:
        """Bring counts of words to the positions that they speak for; of words that stand nowhere there are none."""
        if self._position is not None:
            counted = replace(counts, label=self._position[counts.label])
            if self._all_stand_somewhere:
                return counted
            there = np.flatnonzero(counted.label >= 0)
            return Evidence(counted.row[there], counted.slot[there], counted.label[there], counted.count[there])
        entry, position = [], []
        for number, word in enumerate(counts.label.tolist()):
            for each in self.positions[word]:
                entry.append(number)
                position.append(each)
        entries = np.array(entry, np.int64)
        return Evidence(counts.row[entries], counts.slot[entries], np.array(position, np.int64), counts.count[entries])

    @cached_property
    def shown(self) -> dict[str, str]:
        """The names of words that are shown under another one."""
        named = zip(self.words, self.name_of.tolist(), strict=True)
        return {word: self.names[index] for word, index in named if word != self.names[index]}

    @cached_property
    def is_hidden(self) -> NDArray[np.bool_]:
        """Whether each name is not offered, shape (names,)."""
        return np.isin(self.names, list(self.not_offered))

    @cached_property
    def membership(self) -> NDArray[np.float64]:
        """Whether a word is shown under a name, 1 or 0, shape (words, names)."""
        return np.equal(self.name_of[:, None], np.arange(len(self.names))).astype(np.float64)


def label_space(
    classes: Sequence[str],
    words: Sequence[str],
    in_use: Collection[str],
    shown: Mapping[str, str],
    is_offered: Callable[[str], bool],
) -> LabelSpace:
    """Say what can be suggested to a user.

    Args:
        classes: Those of the model.
        words: What counts are of, in the order of their numbers.
        in_use: Those of them that are somebody's label now.
        shown: The name of each word that is shown under another.
        is_offered: Tells of a name whether the user has it.
    """
    known = {shown.get(word, word) for word in classes}
    scored = (*classes, *sorted({shown.get(word, word) for word in in_use} - known))
    by_name: dict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(scored):
        by_name[shown.get(word, word)].append(position)
    names = tuple(sorted(by_name))
    number = {name: index for index, name in enumerate(names)}
    return LabelSpace(
        words=scored,
        # A word that is no longer in use stands nowhere.
        positions=[by_name.get(shown.get(word, word), []) for word in words],
        names=names,
        name_of=np.array([number[shown.get(word, word)] for word in scored], dtype=np.int64),
        not_offered=tuple(name for name in names if not is_offered(name)),
    )


def score_rows(served: ServedModel, places: Sequence[Place], evidence: Sequence[Evidence], label_count: int) -> Scores:
    """Score transactions; one alone or many at once gives the same but for rounding.

    Args:
        served: The model.
        places: Of the transactions.
        evidence: Counts at each one's places, of row 0 each.
        label_count: How many words are scored.

    Returns:
        Scores of shape (transactions, label_count).
    """
    model = served.model
    if len(places) == 1:
        (place,) = places
        wording = served.weigh(place.user_id, place.account, place.norm_desc, label_count)
        return score_weighed(model, wording, evidence[0])
    frame = pl.DataFrame(
        [(place.user_id, place.account, place.norm_desc) for place in places],
        schema={"user_id": pl.Int64, "account": pl.String, "norm_desc": pl.String},
        orient="row",
    )
    wording = weigh_wording(read_wording(model.wording, frame), model.base_rates, model.pool, label_count)
    scored = weigh_counts(wording, _concatenated(evidence), model.pool)
    return replace(scored, scores=scored.scores / model.temperature)


def best_names(space: LabelSpace, scored: Scores, most: int) -> list[dict[str, float]]:
    """Give the names that are most probable for each transaction, best first, with their confidence.

    None, where no label is known of a transaction's merchant or description and it is like nothing that was learnt
    from: what remains is how common categories are.

    Args:
        space: What was scored.
        scored: The scores, of any number of transactions.
        most: How many at the most.
    """
    named = softmax(scored.scores) @ space.membership
    named[:, space.is_hidden] = -1
    # Names ascend, so of equal ones the first in the alphabet comes first.
    order = np.argsort(-named, axis=1, kind="stable")[:, :most]
    best = np.take_along_axis(named, order, axis=1).round(DECIMALS)
    return [
        {space.names[index]: sure for index, sure in zip(indices, confidences, strict=True) if sure >= 0}
        if known
        else {}
        for indices, confidences, known in zip(order.tolist(), best.tolist(), scored.is_familiar.tolist(), strict=True)
    ]


def pack_evidence(evidence: Evidence) -> str:
    """Write one row's counts into a short text."""
    packed = np.empty(evidence.slot.size, dtype=_PACKED)
    packed["slot"], packed["label"], packed["count"] = evidence.slot, evidence.label, evidence.count
    return base64.b64encode(packed.tobytes()).decode()


def unpack_evidence(text: str) -> Evidence:
    """Read what `pack_evidence` wrote."""
    packed = np.frombuffer(base64.b64decode(text), dtype=_PACKED)
    return Evidence(
        row=np.zeros(packed.size, dtype=np.int64),
        slot=packed["slot"].astype(np.int64),
        label=packed["label"].astype(np.int64),
        count=packed["count"].astype(np.float64),
    )


def kept_inputs(space: LabelSpace, served: ServedModel | None, evidence: Evidence) -> dict[str, Any]:
    """Say what a score was computed from beside the transaction and the model's file.

    Args:
        space: What was scored.
        served: By which model; None for counts that no model was told yet.
        evidence: The counts.

    Returns:
        version, counts (packed), further (words after the model's classes); and where there are any shown (the names
        of words that are shown under another one) and not_offered.
    """
    version, classes = (served.version, len(served.model.classes)) if served else (None, 0)
    further = list(space.words[classes:])
    kept: dict[str, Any] = {"version": version, "counts": pack_evidence(evidence), "further": further}
    if space.shown:
        kept["shown"] = space.shown
    if space.not_offered:
        kept["not_offered"] = space.not_offered
    return kept


def _concatenated(evidence: Sequence[Evidence]) -> Evidence:
    sizes = [each.slot.size for each in evidence]
    slot = np.concatenate([each.slot for each in evidence])
    # General levels come first, of all rows.
    order = np.argsort(slot, kind="stable")
    return Evidence(
        row=np.repeat(np.arange(len(evidence)), sizes)[order],
        slot=slot[order],
        label=np.concatenate([each.label for each in evidence])[order],
        count=np.concatenate([each.count for each in evidence])[order],
    )
