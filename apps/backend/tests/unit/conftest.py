"""A small fitted model that several of the tests of learning begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.ml.estimator import fit_model
from app.services.backtest import read_labelled
from app.services.sample import generate_ledger, write_ledger
from app.services.statements import StatementOptions

if TYPE_CHECKING:
    import polars as pl

    from app.ml.category_model import CategoryModel


@pytest.fixture(scope="session")
def sample_rows(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The labelled rows of an invented household, ordered by date."""
    path = tmp_path_factory.mktemp("sample") / "sample.csv"
    write_ledger(generate_ledger(seed=7, months=12), path)
    return read_labelled(path, StatementOptions())[1]


@pytest.fixture(scope="session")
def sample_model(sample_rows: pl.DataFrame) -> CategoryModel:
    """What is learnt from the first two thousand of them."""
    return fit_model(sample_rows.head(2_000))
