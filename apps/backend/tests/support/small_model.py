"""A real model that takes no time to learn."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import cache

import polars as pl

from app.ml.category_model import ESTIMATOR_SCHEMA, CategoryModel
from app.ml.estimator import fit_model


@cache
def small_model() -> CategoryModel:
    """Learn Fuel and Groceries from forty labels."""
    rows = [
        {
            "user_id": 1, "account": "card", "date": dt.date(2025, 1 + day % 12, 1 + day % 28), "amount": Decimal(-day),
            "merchant": shop, "mcc": None, "channel": None, "norm_desc": shop, "label": label, "sample_weight": 0.5,
        }
        for day in range(1, 21) for shop, label in (("aldi", "Groceries"), ("shell", "Fuel"))
    ]  # fmt: skip
    schema = dict(ESTIMATOR_SCHEMA) | {"label": pl.String, "sample_weight": pl.Float64}
    return fit_model(pl.DataFrame(rows, schema=schema).sort("date"))
