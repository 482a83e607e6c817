"""The real smart_importer, asked through its own public interface."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from beancount.core import data
from smart_importer import PredictPostings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peers import Predict

CARD: Final = "Assets:Card"


def fit_smart_importer(train: pl.DataFrame) -> Predict:
    """Let smart_importer learn from a ledger that books each row on the card and on its label."""
    # Numbered in the order of the labels: where two are equally good, an SVM's choice depends on it.
    labels = train["label"].unique().sort()
    account_of = {label: f"Expenses:C{number:04}" for number, label in enumerate(labels)}
    label_of = {account: label for label, account in account_of.items()}
    ledger: list[data.Directive] = [data.Open(_nowhere(), dt.date.min, name, [], None) for name in (CARD, *label_of)]
    ledger += _bookings(train, [[CARD, account_of[label]] for label in train["label"]])
    predictor = PredictPostings()
    # It learns when a statement comes in, here one without entries.
    statements: list[Any] = [("statement", [], CARD, None)]
    predictor.hook(statements, ledger)

    def predict(rows: pl.DataFrame) -> pl.Series:
        booked = predictor.process_entries(_bookings(rows, [[CARD]] * rows.height))
        legs = [[leg.account for leg in entry.postings if leg.account != CARD] for entry in data.filter_txns(booked)]
        return pl.Series([label_of[account] for [account] in legs], dtype=pl.String)

    return predict


def _bookings(rows: pl.DataFrame, accounts: Iterable[Iterable[str]]) -> list[data.Directive]:
    """Book rows as transactions; it looks at no amounts, so they are left out."""
    return [
        data.Transaction(
            _nowhere(),
            date,
            "*",
            None,
            description,
            frozenset(),
            frozenset(),
            [data.Posting(account, None, None, None, None, None) for account in booked_on],
        )
        for date, description, booked_on in zip(rows["date"], rows["description"], accounts, strict=True)
    ]


def _nowhere() -> data.Meta:
    return data.new_metadata("statement", 0)
