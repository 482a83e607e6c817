"""Reasons of a model's suggestions in sentences for the person, worded like those of the heuristics.

That this payment or its merchant had a label before is a reason for that label in itself. Words, and places as general
as the account, speak for many labels at once: they are a reason for the one that they say more for than for its
strongest rival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from app.ml.evidence import GENERAL, LEVELS
from app.ml.explanation import score_parts
from app.ml.text_patterns import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.evidence import Place
    from app.ml.explanation import ScoreParts

    EarlierLabels = Mapping[str, Mapping[str, int]]
    Shares = Mapping[str, tuple[int, int]]

# Kinds of reasons beside the LEVELS.
_WORDS: Final = "words"
_ACCOUNT: Final = "account itself"

MOST_TOLD: Final = 3
# What changes the odds by less than a third is not worth a sentence, and one label of twenty speaks for the others.
LEAST_TOLD: Final = 0.3
LEAST_SHARE: Final = 0.1
_MOST_WORDS: Final = 2

# What was labelled, at each level; in braces what names the place.
_COUNTED: Final = {
    "account_description": "This same payment on this account was",
    "description": "This same payment was",
    "account_merchant": '"{merchant}" on this account was',
    "merchant": '"{merchant}" was',
    "account_first_word": 'Payments on this account that begin with "{first_word}" were',
    "account_builtin": "Payments of this kind on this account were",
    "account_amount": "Payments of about this amount on this account were",
    "account": "Payments on this account were",
}
_PARTICULAR: Final = tuple(level for level in _COUNTED if level not in GENERAL)
# Of two places, one within the other, that have the same labels, the second is told: it says as much in fewer words, or
# is the more particular one. In this order, for what is told in place of one may have the same labels as a third.
_SAME_LABELS: Final = (
    ("merchant", "description"),
    ("account_merchant", "account_description"),
    ("account_merchant", "merchant"),
    ("account_description", "description"),
)
_ROW: Final = {level: row for row, level in enumerate(LEVELS)}


class _Told(NamedTuple):
    """A reason that is worth telling: of one of the LEVELS, of words or of the account itself."""

    value: float
    kind: str
    words: tuple[str, ...] = ()


def tell_candidates(
    model: CategoryModel,
    place: Place,
    scored: Scores,
    labels: Sequence[str],
    earlier: EarlierLabels,
    candidates: Sequence[int],
) -> list[list[str]]:
    """Say what speaks for each of some candidates; that does not depend on which others are asked about.

    Args:
        model: What was learnt.
        place: Of the row.
        scored: What `single.score_one` gives for the row.
        labels: The name of each label that was scored; several may share one.
        earlier: How many labels the place has had before, by level and name; of a level that is missing, none are told.
        candidates: Indices of labels.

    Returns:
        For each candidate up to MOST_TOLD sentences, the particular before the general; none where hardly anything
        speaks for it.
    """
    rivals = _rivals(scored.scores[0], labels, candidates)
    parts = score_parts(model, place, scored, {*candidates, *rivals})
    places = [(level, here, sum(here.values())) for level, here in earlier.items() if _is_something(level, place)]
    told = []
    for candidate, rival in zip(candidates, rivals, strict=True):
        name = labels[candidate]
        shares = {
            level: (here[name], total) for level, here, total in places if here.get(name, 0) > LEAST_SHARE * total
        }
        reasons = _reasons_for(parts, candidate, rival, shares)
        told.append([_told_sentence(reason, name, place, shares) for reason in reasons])
    return told


def _is_something(level: str, place: Place) -> bool:
    """Say whether payments at a place have anything in common: those of no known kind are no kind."""
    return bool(place.builtin if level == "account_builtin" else place.first_word or level != "account_first_word")


def _rivals(scores: NDArray[np.float64], labels: Sequence[str], candidates: Sequence[int]) -> list[int]:
    """Return for each candidate the best label of another name; where there is none, the best, which is itself."""
    order = np.argsort(-scores, kind="stable").tolist()
    best = order[0]
    runner_up = next((label for label in order if labels[label] != labels[best]), best)
    return [runner_up if labels[candidate] == labels[best] else best for candidate in candidates]


def _reasons_for(parts: ScoreParts, candidate: int, rival: int, shares: Shares) -> list[_Told]:
    """Choose what is told for a candidate, the particular before the general."""
    own, other = parts.labels.index(candidate), parts.labels.index(rival)
    levels, rivals_levels = parts.levels[:, own].tolist(), parts.levels[:, other].tolist()
    by_word = parts.by_word + parts.on_account
    said = (by_word[:, own] - by_word[:, other]).tolist()
    general = [_Told(levels[_ROW[level]] - rivals_levels[_ROW[level]], level) for level in GENERAL if level in shares]
    if len(parts.words) > 1:
        # Of an empty description what the account says is not told apart.
        general.append(_Told(said[0], _ACCOUNT))
    # These overlap: that a payment is like many others is told once.
    found = [*_particular(levels, shares), *_telling_words(parts.words, said), *sorted(general)[-1:]]
    best = sorted(reason for reason in found if reason.value >= LEAST_TOLD)[-MOST_TOLD:]
    return [reason for reason in found if reason in best]


def _particular(levels: Sequence[float], shares: Shares) -> list[_Told]:
    values = {level: levels[_ROW[level]] for level in _PARTICULAR if level in shares}
    for level, instead in _SAME_LABELS:
        if level in values and instead in values and shares[level] == shares[instead]:
            values[instead] += values.pop(level)
    return [_Told(value, level) for level, value in values.items()]


def _telling_words(words: Sequence[str], said: Sequence[float]) -> list[_Told]:
    """Put the words that say most into one reason, without those that mean nothing to a person."""
    ranked = sorted(
        ((value, number) for number, value in enumerate(said) if number and words[number] not in STOP_WORDS),
        reverse=True,
    )[:_MOST_WORDS]
    telling = sorted(number for value, number in ranked if value >= max(LEAST_TOLD, ranked[0][0] / 2))
    if not telling:
        return []
    return [_Told(sum(said[number] for number in telling), _WORDS, tuple(words[number] for number in telling))]


def _told_sentence(reason: _Told, name: str, place: Place, shares: Shares) -> str:
    if reason.kind == _ACCOUNT:
        return f"This account speaks for {name}."
    if reason.kind == _WORDS:
        quoted = " and ".join(f'"{word}"' for word in reason.words)
        speaks = f"words {quoted} speak" if len(reason.words) > 1 else f"word {quoted} speaks"
        return f"The {speaks} for {name}."
    return _counted(reason.kind, place, name, *shares[reason.kind])


def _counted(level: str, place: Place, name: str, hits: int, total: int) -> str:
    subject = _COUNTED[level].format(merchant=place.merchant.strip(), first_word=place.first_word)
    return f"{subject} labelled {name} {'once before' if total == 1 else f'{hits:,} of {total:,} times'}."
