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
        rows: `record` (Int64, 1 for the first record of the file), `line` (Int64, where the record starts) and
            one String column for each field that the file has.
        rejected: Record, line and reason of each record that could not be taken apart.
    """

    rows: pl.DataFrame
    rejected: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def record_count(self) -> int:
        """Records in the batch, good and bad."""
        return self.rows.height + len(self.rejected)


def gather_batches(
    records: Iterable[tuple[int, Mapping[str, str]]], fields: Sequence[str], batch_size: int
) -> Iterator[RawBatch]:
    """Batches of records that come one by one with their line and the texts of their fields."""
    numbers: list[int] = []
    starts: list[int] = []
    texts: dict[str, list[str | None]] = {name: [] for name in fields}

    def batch() -> RawBatch:
        series = {name: pl.Series(values, dtype=pl.String) for name, values in texts.items()}
        places = {"record": pl.Series(numbers, dtype=pl.Int64), "line": pl.Series(starts, dtype=pl.Int64)}
        return RawBatch(pl.DataFrame({**places, **series}))

    for number, (line, record) in enumerate(records, start=1):
        numbers.append(number)
        starts.append(line)
        for name, values in texts.items():
            values.append(record.get(name))
        if len(numbers) == batch_size:
            yield batch()
            numbers.clear()
            starts.clear()
            for values in texts.values():
                values.clear()
    if numbers:
        yield batch()
