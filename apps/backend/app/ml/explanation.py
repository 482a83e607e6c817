"""Why this category and not that one: the exact parts of a score.

A score is a sum (`category_model`), so its reasons are its terms and nothing is estimated; what the wording says is
told by words (`wording_reasons`), so that a person can read it. A label that the model was not fitted on is read like
the class that each reading of the wording thinks least likely there; so are its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.ml.evidence import LEVELS, SLOTS, evidence_values
from app.ml.wording_reasons import read_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.evidence import Place

    EarlierLabels = Mapping[str, Mapping[str, int]]

WORDS: Final = "words"
WORDS_ON_ACCOUNT: Final = "words on this account"
BASE_RATE: Final = "how common it is"
REST: Final = "everything else"

_LEVEL_OF_SLOT: Final = np.array([list(LEVELS).index(level) for level, _ in SLOTS])


@dataclass(frozen=True)
class Reason:
    """One part of a score, or of the difference between two labels' scores.

    Attributes:
        kind: WORDS, WORDS_ON_ACCOUNT, BASE_RATE, REST or one of `evidence.LEVELS`.
        what: The word, or "" for an empty description and, of words on this account, for the account itself; of other
            kinds "".
        value: Its share, in nats after the temperature; positive where it speaks for the label.
        labels: At a level how many earlier labels the place has, by name; else empty.
    """

    kind: str
    what: str
    value: float
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Explanation:
    """Why a label's score is what it is.

    Attributes:
        place: Of the row.
        label: The label.
        against: The label that it is compared with; None where the parts are those of its score alone.
        score: The label's score less the other's: the sum of the reasons' values, up to single precision.
        reasons: From the one that matters most.
    """

    place: Place
    label: str
    against: str | None
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class ScoreParts:
    """What some labels' scores at a place are made of, after the temperature.

    Attributes:
        labels: Which, ascending; the columns below, of shape (…, labels).
        words: The description's, each once, after "" for none.
        by_word: What each says, shape (words, labels).
        on_account: What each says on this account, and the account itself at "", shape (words, labels).
        levels: What counts say at each of `evidence.LEVELS`, never negative, shape (levels, labels).
        base_rate: How common the labels are, shape (labels,).
        rest: What every label has.
    """

    labels: tuple[int, ...]
    words: tuple[str, ...]
    by_word: NDArray[np.float64]
    on_account: NDArray[np.float64]
    levels: NDArray[np.float64]
    base_rate: NDArray[np.float64]
    rest: float


def explain(
    model: CategoryModel,
    place: Place,
    scored: Scores,
    labels: Sequence[str],
    earlier: EarlierLabels,
    *,
    label: int,
    against: int | None = None,
) -> Explanation:
    """Say what a label's score at a place is made of.

    Args:
        model: What was learnt.
        place: Of the row.
        scored: What `single.score_one` gives for the row.
        labels: The name of each label that was scored.
        earlier: How many labels the place has had before, by level and name; of a level that is missing, none are told.
        label: Index of the label that is asked about.
        against: Index of the label to compare it with, such as the runner-up; None for its score alone, of which a part
            that is the same for every label is then "everything else".
    """
    asked = {label} if against is None else {label, against}
    parts = score_parts(model, place, scored, asked)
    column = parts.labels.index(label)
    score = float(scored.scores[0, label])
    reasons = dict(_terms(parts, column))
    if against is not None:
        score -= float(scored.scores[0, against])
        for part, value in _terms(parts, parts.labels.index(against)):
            reasons[part] -= value
    return Explanation(
        place=place,
        label=labels[label],
        against=None if against is None else labels[against],
        score=score,
        reasons=tuple(
            Reason(kind, what, value, earlier.get(kind, {}))
            for (kind, what), value in sorted(reasons.items(), key=lambda reason: -abs(reason[1]))
            if value
        ),
    )


def score_parts(model: CategoryModel, place: Place, scored: Scores, labels: set[int]) -> ScoreParts:
    """Take the scores of some labels at a place apart; the description is read once for all of them.

    Args:
        model: What was learnt.
        place: Of the row.
        scored: What `single.score_one` gives for the row.
        labels: Indices of the labels.
    """
    wording, beliefs = model.wording, scored.beliefs
    weights = model.pool.parts / model.temperature
    asked = np.array(sorted(labels))
    fitted = len(model.classes)
    readings = beliefs.parts[:3, 0, :fitted]
    # A new label is read like the class that each reading thinks least likely.
    read_as = np.where(asked < fitted, asked, readings.argmin(axis=1)[:, None])
    # Readings are told from their best class, which is no reason for any of them: it comes last.
    alone, on_account, associated = np.hstack([read_as, readings.argmax(axis=1, keepdims=True)])
    read = read_words(wording, place)
    count = len(read.words)
    by_word = weights[0] * read.alone.said(wording.alone, alone, count)
    by_word += weights[2] * read.associated.said(read.gains, associated, count)
    by_word_on_account = weights[1] * read.on_account.said(wording.on_account, on_account, count)
    bias = weights[0] * wording.alone_bias[alone] + weights[1] * wording.on_account_bias[on_account]
    return ScoreParts(
        labels=tuple(asked.tolist()),
        words=read.words,
        by_word=by_word[:, :-1],
        on_account=by_word_on_account[:, :-1],
        levels=_level_parts(model, scored)[:, asked],
        base_rate=weights[3] * beliefs.parts[3, 0, asked] + bias[:-1],
        rest=-float(by_word[:, -1].sum() + by_word_on_account[:, -1].sum() + bias[-1]),
    )


def _level_parts(model: CategoryModel, scored: Scores) -> NDArray[np.float64]:
    """Return what the counts at each level say of each label, shape (levels, all labels)."""
    evidence, label_count = scored.beliefs.evidence, scored.scores.shape[1]
    entry, parameter, value = evidence_values(evidence, scored.beliefs.references, scored.beliefs.base_rates)
    cell = (_LEVEL_OF_SLOT[evidence.slot] * label_count + evidence.label)[entry]
    said = np.bincount(cell, model.pool.evidence[parameter] * value, minlength=len(LEVELS) * label_count)
    return said.reshape(len(LEVELS), label_count) / model.temperature


def _terms(parts: ScoreParts, column: int) -> Iterator[tuple[tuple[str, str], float]]:
    """Name the terms of one label's score, by kind and by what they are about."""
    for kind, said in ((WORDS, parts.by_word), (WORDS_ON_ACCOUNT, parts.on_account)):
        for word, value in zip(parts.words, said[:, column].tolist(), strict=True):
            yield (kind, word), value
    for level, value in zip(LEVELS, parts.levels[:, column].tolist(), strict=True):
        yield (level, ""), value
    yield (BASE_RATE, ""), float(parts.base_rate[column])
    yield (REST, ""), parts.rest
