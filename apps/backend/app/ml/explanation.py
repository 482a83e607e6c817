"""Why this category and not that one: the exact parts of a score that are about the transaction.

A score is a sum (`category_model`), so its reasons are its terms and nothing is estimated; what the wording says is
told by words (`wording_reasons`), so that a person can read it. A label that the model was not fitted on is read like
the class that each reading of the wording thinks least likely there; so are its words. What a label's score has
wherever it is asked about, such as how common the label is, is no reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.ml.evidence import LEVELS, SLOTS, evidence_values
from app.ml.wording_reasons import read_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.evidence import Place

_LEVEL_OF_SLOT: Final = np.array([list(LEVELS).index(level) for level, _ in SLOTS])


@dataclass(frozen=True)
class ScoreParts:
    """What some labels' scores at a place are made of, after the temperature.

    Attributes:
        labels: Which, ascending; the columns below, of shape (…, labels).
        words: The description's, each once, after "" for none.
        by_word: What each says, shape (words, labels).
        on_account: What each says on this account, and the account itself at "", shape (words, labels).
        levels: What counts say at each of `evidence.LEVELS`, never negative, shape (levels, labels).
    """

    labels: tuple[int, ...]
    words: tuple[str, ...]
    by_word: NDArray[np.float64]
    on_account: NDArray[np.float64]
    levels: NDArray[np.float64]


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
    alone, on_account, associated = read_as
    read = read_words(wording, place)
    count = len(read.words)
    by_word = weights[0] * read.alone.said(wording.alone, alone, count)
    by_word += weights[2] * read.associated.said(read.gains, associated, count)
    return ScoreParts(
        labels=tuple(asked.tolist()),
        words=read.words,
        by_word=by_word,
        on_account=weights[1] * read.on_account.said(wording.on_account, on_account, count),
        levels=_level_parts(model, scored)[:, asked],
    )


def _level_parts(model: CategoryModel, scored: Scores) -> NDArray[np.float64]:
    """Return what the counts at each level say of each label, shape (levels, all labels)."""
    evidence, label_count = scored.beliefs.evidence, scored.scores.shape[1]
    entry, parameter, value = evidence_values(evidence, scored.beliefs.references, scored.beliefs.base_rates)
    cell = (_LEVEL_OF_SLOT[evidence.slot] * label_count + evidence.label)[entry]
    said = np.bincount(cell, model.pool.evidence[parameter] * value, minlength=len(LEVELS) * label_count)
    return said.reshape(len(LEVELS), label_count) / model.temperature
