"""Deciding how a whole column is to be read, from the evidence of all of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping


def filled(texts: pl.Series) -> pl.Series:
    """The values that are not blank."""
    return texts.filter(texts != "")


@dataclass
class Readings:
    """Evidence for several readings of one column, gathered batch by batch.

    Attributes:
        readable: Values that at least one reading accepts.
        accepted: For each reading, the values that it accepts.
        only: For each reading, an example that the other readings refuse.
        differing: For two readings, an example that they accept with different results.
    """

    readable: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    only: dict[str, str] = field(default_factory=dict)
    differing: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, texts: pl.Series, results: Mapping[str, pl.Series]) -> None:
        """Count one batch.

        Args:
            texts: Distinct values as written.
            results: For each reading, what each value means by it; null where it is refused.
        """
        frame = pl.DataFrame({"text": texts, **results})
        names = list(results)
        self.readable += frame.filter(pl.any_horizontal(pl.col(names).is_not_null())).height
        for name in names:
            self.accepted[name] = self.accepted.get(name, 0) + len(texts) - results[name].null_count()
            refused = [other for other in names if other != name]
            alone = pl.col(name).is_not_null() & pl.all_horizontal(pl.col(refused).is_null())
            _keep_example(self.only, name, frame, alone)
        for pair in combinations(names, 2):
            _keep_example(self.differing, pair, frame, pl.col(pair[0]) != pl.col(pair[1]))

    def candidates(self) -> list[str]:
        """The readings that accept every value which any reading accepts, best first.

        Empty when the values contradict each other; several when they leave the choice open.
        Of two that mean the same for all values only the first is given.
        """
        fitting = [name for name, count in self.accepted.items() if count == self.readable]
        return [
            name
            for position, name in enumerate(fitting)
            if position == 0 or any((other, name) in self.differing for other in fitting[:position])
        ]

    def possible(self) -> tuple[str, ...]:
        """The readings that accept anything at all."""
        return tuple(name for name, count in self.accepted.items() if count)


def _keep_example(examples: dict[Any, str], key: object, frame: pl.DataFrame, condition: pl.Expr) -> None:
    if key not in examples:
        found = frame.filter(condition)
        if found.height:
            examples[key] = found["text"][0]
