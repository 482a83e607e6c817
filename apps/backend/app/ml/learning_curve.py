"""How good predictions become with more labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FEWEST_LABELS: Final = 50


@dataclass(frozen=True)
class LearningPoint:
    """Scores after learning from some number of labels.

    Attributes:
        labels: How many.
        accuracy: Share of right predictions, forced to choose.
        f1_macro: Mean of the categories' F1.
    """

    labels: int
    accuracy: float
    f1_macro: float


def curve_sizes(labels: int) -> tuple[int, ...]:
    """Choose numbers of labels for a learning curve: doubling from 50, and all there are."""
    doubling = (_FEWEST_LABELS << step for step in range(labels.bit_length()))
    return (*takewhile(lambda size: size < labels, doubling), labels)


def learning_curve(
    fit_and_score: Callable[[int], tuple[float, float]], sizes: Iterable[int]
) -> tuple[LearningPoint, ...]:
    """Learn from growing numbers of labels and score each time.

    Args:
        fit_and_score: Learns from the latest labels before the test rows, as many as it is told, and returns accuracy
            and macro-F1 on the test rows, always the same ones. Taking the latest makes each set a part of the next and
            asks what a person asks who starts now; the earliest would mix few labels with old ones.
        sizes: Numbers of labels; each is tried once, from the smallest.
    """
    return tuple(LearningPoint(size, *fit_and_score(size)) for size in sorted(set(sizes)))
