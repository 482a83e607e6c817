"""One row's score without frames, for a person who waits for one suggestion.

The sums of `category_model.score_places`, equal but for rounding, over plain arrays: the few weights that the row's
n-grams and words have are gathered, where a frame's worth of rows is a product of sparse matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.ml.associations import find_words, weigh_words
from app.ml.category_model import weigh_counts, weigh_wording
from app.ml.ngrams import find_ngrams, look_up
from app.ml.wording import WordingScores, crossed_features, measure_familiarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores, WeighedWording
    from app.ml.evidence import Evidence
    from app.ml.ngrams import Ngrams
    from app.ml.wording import Wording


@dataclass(frozen=True)
class Weighed:
    """Features of a row that were learnt from.

    Attributes:
        position: Row of each feature in its table of weights, ascending, shape (features,).
        value: What the feature is multiplied by, float32, shape (features,).
    """

    position: NDArray[np.int64]
    value: NDArray[np.float32]

    def score(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up what the features say.

        Args:
            weights: Shape (table, classes).

        Returns:
            Shape (classes,).
        """
        said: NDArray[np.float32] = self.value @ weights[self.position]
        return said


def score_one(
    model: CategoryModel, user_id: int, account: str, norm_desc: str, evidence: Evidence, label_count: int
) -> Scores:
    """Score every label for one row.

    Args:
        model: What was learnt.
        user_id: Whose row it is.
        account: Its account, "" where it has none.
        norm_desc: Its normalised description.
        evidence: Counts at the row's places, all of row 0, as `evidence.gather_evidence` gives them.
        label_count: How many labels there are, those of `category_model.labels_of`.

    Returns:
        What `category_model.score_places` gives for the row, shape (1, labels).
    """
    return score_weighed(model, weigh_one(model, user_id, account, norm_desc, label_count), evidence)


def weigh_one(model: CategoryModel, user_id: int, account: str, norm_desc: str, label_count: int) -> WeighedWording:
    """Do of `score_one` what takes no counts."""
    read = read_one(model.wording, user_id, account, norm_desc)
    return weigh_wording(read, model.base_rates, model.pool, label_count)


def score_weighed(model: CategoryModel, wording: WeighedWording, evidence: Evidence) -> Scores:
    """Do the rest of it."""
    scored = weigh_counts(wording, evidence, model.pool)
    return replace(scored, scores=scored.scores / model.temperature)


def read_one(wording: Wording, user_id: int, account: str, norm_desc: str) -> WordingScores:
    """Score one row by its wording, as `wording.read_wording` does."""
    found = find_ngrams([norm_desc])
    ngrams = weigh_ngrams(wording, found)
    crossed = weigh_crossed(wording, user_id, account, norm_desc)
    size = wording.columns.size
    alone = ngrams.score(wording.alone) + wording.alone_bias
    on_account = ngrams.score(wording.on_account[:size]) + wording.on_account_bias
    on_account += crossed.score(wording.on_account[size:])
    gains = weigh_words(wording.associations, find_words(found))
    associated = np.bincount(gains.label, gains.value, minlength=alone.size).astype(np.float32)
    return WordingScores(alone[None], on_account[None], associated[None], measure_familiarity(wording, found, 1))


def weigh_ngrams(wording: Wording, found: Ngrams) -> Weighed:
    """Weigh one text's n-grams by rarity, at unit length over all of them."""
    columns = np.unique(found.column)
    position, is_learnt = look_up(columns, wording.columns)
    rarity = np.full(columns.size, wording.rarest_idf, dtype=np.float32)
    rarity[is_learnt] = wording.idf[position]
    length = np.sqrt((rarity * rarity).sum(dtype=np.float64)).astype(np.float32)
    return Weighed(position, rarity[is_learnt] / length)


def weigh_crossed(wording: Wording, user_id: int, account: str, norm_desc: str) -> Weighed:
    """Weigh one row's features of its account and of the words on it."""
    values: dict[int, float] = {}
    for column, value in crossed_features(user_id, account, norm_desc):
        # A word that occurs twice counts twice.
        values[column] = values.get(column, 0.0) + value
    columns = sorted(values)
    position, is_learnt = look_up(np.array(columns), wording.crossed_columns)
    return Weighed(position, np.array([values[column] for column in columns], dtype=np.float32)[is_learnt])
