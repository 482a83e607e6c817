"""Statements written to a file and read back whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from app.services.statements import ROW_SCHEMA, StatementLayout, StatementOptions, inspect_statement, read_statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_EMPTY_ROWS = pl.DataFrame(schema=ROW_SCHEMA)
_NONE_REJECTED = pl.DataFrame(schema={"record": pl.Int64, "line": pl.Int64, "reason": pl.String})


@dataclass
class Statement:
    layout: StatementLayout
    rows: pl.DataFrame
    rejected: pl.DataFrame

    def column(self, name: str) -> list[Any]:
        return self.rows[name].to_list()

    def amounts(self) -> list[str]:
        return [str(amount) for amount in self.rows["amount"]]

    def dates(self) -> list[str]:
        return [day.isoformat() for day in self.rows["date"]]

    def records(self) -> list[int]:
        return sorted([*self.rows["record"], *self.rejected["record"]])

    def reasons(self) -> dict[int, str]:
        return dict(self.rejected.select("line", "reason").rows())


def read_file(path: Path, **options: Any) -> Statement:
    given = StatementOptions(**options)
    layout = inspect_statement(path, given)
    batches = list(read_statement(path, layout, given, batch_size=7))
    rows = pl.concat([_EMPTY_ROWS, *(batch.rows for batch in batches)])
    rejected = pl.concat([_NONE_REJECTED, *(batch.rejected for batch in batches)])
    statement = Statement(layout, rows, rejected)
    assert statement.records() == list(range(1, layout.row_count + 1))
    return statement


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Statement]:
    """Read a statement from its text or bytes, with options."""

    path = tmp_path_factory.mktemp("statements") / "statement"

    def read_content(content: str | bytes, **options: Any) -> Statement:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_file(path, **options)

    return read_content
