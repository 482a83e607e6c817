"""Records of any format as text, before any of it is understood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass
class RawBatch:
    """Some consecutive records.

    Attributes:
        rows: `line` (Int64) and one String column for each field that the file has.
        rejected: Line and reason of each record that could not be taken apart.
    """

    rows: pl.DataFrame
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @property
    def record_count(self) -> int:
        """Records in the batch, good and bad."""
        return self.rows.height + len(self.rejected)


def gather_batches(
    records: Iterable[tuple[int, Mapping[str, str]]], fields: Sequence[str], batch_size: int
) -> Iterator[RawBatch]:
    """Batches of records that come one by one with their line and the texts of their fields."""
    numbers: list[int] = []
    texts: dict[str, list[str | None]] = {name: [] for name in fields}

    def batch() -> RawBatch:
        series = {name: pl.Series(values, dtype=pl.String) for name, values in texts.items()}
        return RawBatch(pl.DataFrame({"line": pl.Series(numbers, dtype=pl.Int64), **series}))

    for line, record in records:
        numbers.append(line)
        for name, values in texts.items():
            values.append(record.get(name))
        if len(numbers) == batch_size:
            yield batch()
            numbers.clear()
            for values in texts.values():
                values.clear()
    if numbers:
        yield batch()
