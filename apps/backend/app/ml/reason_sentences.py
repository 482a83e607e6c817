"""Reasons of a model's suggestions in sentences for the person, worded like those of the heuristics.

That this payment or its merchant had a label before is a reason for that label in itself. Words, and places as general
as the account, speak for many labels at once: they are a reason for the one that they say more for than for its
strongest rival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from app.ml.evidence import GENERAL, LEVELS
from app.ml.explanation import BASE_RATE, REST, WORDS, score_parts
from app.ml.wording_reasons import NO_WORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.evidence import Place
    from app.ml.explanation import EarlierLabels, Explanation, Reason, ScoreParts

# What changes the odds by less than a third is not worth a sentence.
LEAST_TOLD: Final = 0.3
MOST_TOLD: Final = 3
_MOST_WORDS: Final = 2

# What was labelled, at each level, the particular before the general; in braces what names the place.
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
# is the more particular one. In this order, for what is told for one may be told for another.
_SAME_LABELS: Final = (
    ("merchant", "description"),
    ("account_merchant", "account_description"),
    ("account_merchant", "merchant"),
    ("account_description", "description"),
)
_ROW: Final = {level: row for row, level in enumerate(LEVELS)}


class _Told(NamedTuple):
    value: float
    sentence: str


def tell(explanation: Explanation, *, most: int = MOST_TOLD) -> list[str]:
    """Say the reasons that matter most, those that speak for the label first.

    Args:
        explanation: Of a label against another, or of its score alone.
        most: How many at the most.
    """
    told: dict[bool, list[str]] = {True: [], False: []}
    for reason in explanation.reasons:
        sentence = _reason_sentence(reason, explanation)
        if sentence and len(told[True]) + len(told[False]) < most:
            told[reason.value > 0].append(sentence)
    # Names keep their case, and a sentence begins with no name.
    return told[True] + [f"But {sentence[0].lower()}{sentence[1:]}" for sentence in told[False]]


def tell_candidates(
    model: CategoryModel,
    place: Place,
    scored: Scores,
    labels: Sequence[str],
    earlier: EarlierLabels,
    candidates: Sequence[int],
) -> list[list[str]]:
    """Say what speaks for each of some candidates, which does not depend on what the others are.

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
    return [
        _tell_one(place, parts, labels[candidate], candidate, rival, earlier)
        for candidate, rival in zip(candidates, rivals, strict=True)
    ]


def _rivals(scores: NDArray[np.float64], labels: Sequence[str], candidates: Sequence[int]) -> list[int]:
    """Return for each candidate the best label of another name; where there is none, the best, which is itself."""
    order = np.argsort(-scores, kind="stable").tolist()
    best = order[0]
    runner_up = next((label for label in order if labels[label] != labels[best]), best)
    return [runner_up if labels[candidate] == labels[best] else best for candidate in candidates]


def _tell_one(
    place: Place, parts: ScoreParts, name: str, candidate: int, rival: int, earlier: EarlierLabels
) -> list[str]:
    own, other = parts.labels.index(candidate), parts.labels.index(rival)
    levels, others_levels = parts.levels[:, own].tolist(), parts.levels[:, other].tolist()
    by_word = parts.by_word + parts.on_account
    found = [
        *_particular(place, name, levels, earlier),
        *_words(name, parts.words, by_word[:, own] - by_word[:, other]),
    ]
    general = [
        _Told(levels[_ROW[level]] - others_levels[_ROW[level]], _counted(level, place, name, earlier))
        for level in GENERAL
        if name in earlier.get(level, {}) and _is_named(level, place)
    ]
    if parts.words != (NO_WORD,):
        general.append(_Told(float(by_word[0, own] - by_word[0, other]), f"This account speaks for {name}."))
    # They overlap: of a payment that is like many others, one such likeness is enough.
    found += sorted(general, reverse=True)[:1]
    enough = sorted((told.value for told in found), reverse=True)[:MOST_TOLD]
    return [told.sentence for told in found if told.value >= max(enough[-1], LEAST_TOLD)]


def _particular(place: Place, name: str, levels: Sequence[float], earlier: EarlierLabels) -> Iterator[_Told]:
    values = {level: levels[_ROW[level]] for level in _PARTICULAR if name in earlier.get(level, {})}
    totals = {level: sum(earlier[level].values()) for level in values}
    for level, instead in _SAME_LABELS:
        if level in values and instead in values and totals[level] == totals[instead]:
            values[instead] += values.pop(level)
    for level, value in values.items():
        yield _Told(value, _counted(level, place, name, earlier))


def _words(name: str, words: Sequence[str], said: NDArray[np.float64]) -> Iterator[_Told]:
    most = [int(word) for word in np.argsort(-said)[:_MOST_WORDS] if said[word] >= LEAST_TOLD and words[word]]
    quoted = [f'"{words[word]}"' for word in most]
    if len(quoted) == 1:
        yield _Told(float(said[most[0]]), f"The word {quoted[0]} speaks for {name}.")
    elif quoted:
        yield _Told(float(said[most].sum()), f"The words {' and '.join(quoted)} speak for {name}.")


def _counted(level: str, place: Place, name: str, earlier: EarlierLabels) -> str:
    here = earlier[level]
    subject = _COUNTED[level].format(merchant=place.merchant.strip(), first_word=place.first_word)
    return f"{subject} labelled {name} {_times(here[name], sum(here.values()))}."


def _times(hits: int, total: int) -> str:
    return "once before" if total == 1 else f"{hits:,} of {total:,} times"


def _is_named(level: str, place: Place) -> bool:
    """Say whether a place is more than "the others": payments of no known kind have nothing in common."""
    return not (level == "account_builtin" and not place.builtin) and not (
        level == "account_first_word" and not place.first_word
    )


def _reason_sentence(reason: Reason, explanation: Explanation) -> str | None:
    label, against = explanation.label, explanation.against
    if reason.kind in LEVELS:
        meant = label if reason.value > 0 or against is None else against
        if meant not in reason.labels:
            return None
        return _counted(reason.kind, explanation.place, meant, {reason.kind: reason.labels})
    speaks = f"speaks against {label}" if against is None else f"speaks for {against}"
    if reason.value > 0:
        speaks = f"speaks for {label}"
    if reason.kind == REST:
        return None
    if reason.kind == BASE_RATE:
        return f"How common it is {speaks}."
    if reason.kind == WORDS:
        return f'The word "{reason.what}" {speaks}.' if reason.what else f"An empty description {speaks}."
    return f'On this account the word "{reason.what}" {speaks}.' if reason.what else f"This account {speaks}."
