"""Why this category and not that one: the exact parts of a score.

A score is a sum (`category_model`), so its reasons are its terms and nothing is estimated. What n-grams and pairs of
words say is divided among the words in which they stand, in proportion to the bytes that they cover, and so a person
reads words. A label that the model was not fitted on is read like the class that each reading of the wording thinks
least likely there; so are its words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from app.ml.associations import find_words, weigh_words
from app.ml.category_model import score_places
from app.ml.evidence import LEVELS, SLOTS, evidence_values
from app.ml.ngrams import find_ngrams, look_up
from app.ml.single import read_one, weigh_ngrams
from app.ml.wording import crossed_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.evidence import KnownLabels
    from app.ml.wording import Wording

WORDS: Final = "words"
WORDS_ON_ACCOUNT: Final = "words on this account"
BASE_RATE: Final = "how common it is"
REST: Final = "everything else"

# Stands for the account itself, and for an empty description.
_NO_WORD: Final = ""
# How a level's place is spoken of; in braces what names it.
_PLACES: Final = {
    "account": "on this account",
    "account_amount": "of about this amount on this account",
    "account_builtin": "of this kind on this account",
    "account_first_word": "on this account whose description begins with '{first_word}'",
    "merchant": "at '{merchant}'",
    "description": "with this very description",
    "account_merchant": "at '{merchant}' on this account",
    "account_description": "with this very description on this account",
}


@dataclass(frozen=True)
class Reason:
    """One part of a score, or of the difference between two labels' scores.

    Attributes:
        kind: WORDS, WORDS_ON_ACCOUNT, BASE_RATE, REST or one of `evidence.LEVELS`.
        what: The word, or "" for an empty description and, of words on this account, for the account itself; at a level
            the place, as a sentence speaks of it; else "".
        value: Its share, in nats after the temperature; positive where it speaks for the label.
        labels: At a level how many earlier labels the place has by name, in order of the numbers; else empty.
    """

    kind: str
    what: str
    value: float
    labels: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Why a label's score is what it is.

    Attributes:
        label: The label.
        against: The label that it is compared with; None where the parts are those of its score alone.
        score: The label's score less the other's: the sum of the reasons' values, up to single precision.
        reasons: From the one that matters most.
    """

    label: str
    against: str | None
    score: float
    reasons: tuple[Reason, ...]


def explain(
    model: CategoryModel,
    place: pl.DataFrame,
    known: KnownLabels,
    as_of: int,
    labels: Sequence[str],
    *,
    label: str,
    against: str | None = None,
) -> Explanation:
    """Say what a label's score at a place is made of.

    Args:
        model: What was learnt.
        place: Of one row, as `category_model.places_of` gives it.
        known: Labels that may be known.
        as_of: The day before which they are, as `evidence.day_numbers` counts.
        labels: Their names, from `category_model.labels_of`.
        label: The label that is asked about.
        against: The label to compare it with, such as the runner-up; None for its score alone, of which a part that is
            the same for every label is then "everything else".
    """
    scored = score_places(model, place, known, np.array([as_of]))
    index = labels.index(label)
    other = None if against is None else labels.index(against)
    values = _parts(model, place, scored, index)
    score = float(scored.scores[0, index])
    if other is not None:
        for part, value in _parts(model, place, scored, other).items():
            values[part] -= value
        score -= float(scored.scores[0, other])
    counted = _earlier_labels(place, known, as_of, labels)
    row = place.row(0, named=True)
    reasons = [
        Reason(kind, _PLACES[kind].format(**row) if kind in LEVELS else what, float(value), counted.get(kind, ()))
        for (kind, what), value in values.items()
        if value
    ]
    return Explanation(label, against, score, tuple(sorted(reasons, key=lambda reason: -abs(reason.value))))


def tell(explanation: Explanation, *, most: int = 3) -> list[str]:
    """Say the reasons that matter most in sentences, those that speak for the label first.

    Args:
        explanation: Of a label against another, or of its score alone.
        most: How many reasons at the most.
    """
    told = [reason for reason in explanation.reasons if reason.kind != REST][:most]
    for_it, against_it = ([reason for reason in told if (reason.value > 0) is is_for] for is_for in (True, False))
    sentences = [_sentence(reason, explanation) for reason in for_it]
    sentences += [f"but {_sentence(reason, explanation)}" for reason in against_it]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences]


def _sentence(reason: Reason, explanation: Explanation) -> str:
    label, against = explanation.label, explanation.against
    speaks = f"speaks against {label}" if against is None else f"speaks for {against}"
    if reason.value > 0:
        speaks = f"speaks for {label}"
    if reason.kind in LEVELS:
        return _counted(reason, label if reason.value > 0 or against is None else against)
    if reason.kind == BASE_RATE:
        return f"how common it is {speaks}"
    if reason.kind == WORDS:
        return f"the word '{reason.what}' {speaks}" if reason.what else f"an empty description {speaks}"
    return f"on this account the word '{reason.what}' {speaks}" if reason.what else f"this account {speaks}"


def _counted(reason: Reason, meant: str) -> str:
    counts = dict(reason.labels)
    # A count may speak for the other label: where the one that is meant has none, the most frequent one tells why.
    told = meant if meant in counts else max(counts, key=counts.__getitem__)
    here, total = counts[told], sum(counts.values())
    if total == 1:
        return f"the one earlier transaction {reason.what} was {told}"
    share = f"all {total:,}" if here == total else f"{here:,} of the {total:,}"
    return f"{share} earlier transactions {reason.what} {'was' if here == 1 else 'were'} {told}"


def _parts(
    model: CategoryModel, place: pl.DataFrame, scored: Scores, label: int
) -> defaultdict[tuple[str, str], float]:
    """Return the terms of one label's score, by kind and by what they are about."""
    wording, row = model.wording, place.row(0, named=True)
    read = read_one(wording, row["user_id"], row["account"], row["norm_desc"])
    alone_weight, account_weight, associated_weight, base_weight = model.pool.parts / model.temperature
    alone, on_account, associated, base_rate = scored.beliefs.parts[:, 0, :]
    fitted = len(model.classes)
    # A new label is read like the class that each reading thinks least likely.
    readings = (alone, on_account, associated)
    first, second, third = (label if label < fitted else int(part[:fitted].argmin()) for part in readings)
    parts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for word, value in _ngrams_by_word(wording, row["norm_desc"], wording.alone[:, first]):
        parts[WORDS, word] += alone_weight * value
    for word, value in _associations_by_word(wording, row["norm_desc"], third):
        parts[WORDS, word] += associated_weight * value
    size = wording.columns.size
    for word, value in _ngrams_by_word(wording, row["norm_desc"], wording.on_account[:size, second]):
        parts[WORDS_ON_ACCOUNT, word] += account_weight * value
    for word, value in _crossed_by_word(wording, row, wording.on_account[size:, second]):
        parts[WORDS_ON_ACCOUNT, word] += account_weight * value
    for level, value in _by_level(model, scored, label):
        parts[level, ""] += value
    parts[BASE_RATE, ""] = base_weight * base_rate[label]
    parts[BASE_RATE, ""] += alone_weight * wording.alone_bias[first] + account_weight * wording.on_account_bias[second]
    # Readings are told from their best class, which is no reason for any of them.
    best = (read.alone.max(), read.on_account.max(), read.associated.max())
    parts[REST, ""] = -float(np.dot((alone_weight, account_weight, associated_weight), best))
    return parts


def _ngrams_by_word(wording: Wording, text: str, weights: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    """Yield words and what the n-grams in them say; a column that stands at several places is divided among them."""
    found = find_ngrams([text])
    weighed = weigh_ngrams(wording, found)
    columns = wording.columns[weighed.position].tolist()
    said = dict(zip(columns, (weighed.value * weights[weighed.position]).tolist(), strict=True))
    yield from _by_word(text, found.start, found.length, found.column, said)


def _associations_by_word(wording: Wording, text: str, label: int) -> Iterator[tuple[str, float]]:
    """Yield words and what they, and the pairs that they are in, are worth by count."""
    words = find_words(find_ngrams([text]))
    gains = weigh_words(wording.associations, words)
    of_label = gains.label == label
    said = dict(zip(gains.fingerprint[of_label].tolist(), gains.value[of_label].tolist(), strict=True))
    yield from _by_word(text, words.start, words.length, words.fingerprint, said)


def _by_word(
    text: str,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    features: NDArray[np.integer],
    said: dict[int, float],
) -> Iterator[tuple[str, float]]:
    """Divide what features say among the places where they stand, and there among the words that they cover."""
    times = Counter(features.tolist())
    word_at = list(_word_at_each_byte(text))
    for start, length, feature in zip(starts.tolist(), lengths.tolist(), features.tolist(), strict=True):
        if feature in said:
            # Spaces are nobody's, save where there is nothing else.
            inside = Counter(word for word in word_at[start : start + length] if word) or Counter([_NO_WORD])
            for word, covered in inside.items():
                yield word, said[feature] / times[feature] * covered / inside.total()


def _word_at_each_byte(text: str) -> Iterator[str]:
    """Yield the word that each byte of a text with a space before and behind belongs to."""
    yield _NO_WORD
    for word in text.split(" "):
        yield from [word] * len(word.encode())
        yield _NO_WORD


def _crossed_by_word(
    wording: Wording, row: dict[str, Any], weights: NDArray[np.float32]
) -> Iterator[tuple[str, float]]:
    """Yield what the account itself says and, after it, what each word on it says."""
    features = crossed_features(row["user_id"], row["account"], row["norm_desc"])
    for word, (column, value) in zip([_NO_WORD, *row["norm_desc"].split()], features, strict=True):
        position, _ = look_up(np.array([column]), wording.crossed_columns)
        if position.size:
            yield word, value * float(weights[position[0]])


def _by_level(model: CategoryModel, scored: Scores, label: int) -> Iterator[tuple[str, float]]:
    """Yield levels and what their counts of one label say, piece by piece for each half-life."""
    beliefs = scored.beliefs
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    said = model.pool.evidence[parameter] * value / model.temperature
    for piece in np.flatnonzero(beliefs.evidence.label[entry] == label):
        level, _ = SLOTS[beliefs.evidence.slot[entry[piece]]]
        yield level, float(said[piece])


def _earlier_labels(
    place: pl.DataFrame, known: KnownLabels, as_of: int, labels: Sequence[str]
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Count, for each level, the labels that the place has had, however long ago."""
    row = place.row(0, named=True)
    earlier = known.places.with_columns(label=known.labels).filter(pl.Series(known.days < as_of))
    counted = {}
    for level, columns in LEVELS.items():
        here = [pl.col(column) == row[column] for column in ("user_id", *columns)]
        counts = earlier.filter(*here).group_by("label").len().sort("label")
        counted[level] = tuple((labels[label], count) for label, count in counts.iter_rows())
    return counted
