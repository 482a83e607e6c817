"""Fields that several routes have in common.

Numbers are taken as numbers alone: `true` is no 1, and a date is no count of seconds, as the description says.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Final

from fastapi import Path
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.services.storable_text import storable

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT: Final = re.compile(_DAY.pattern + r"[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")
_MOST_ID: Final = 2**63


def _as_day(value: object) -> object:
    if isinstance(value, dt.date) or (isinstance(value, str) and _DAY.fullmatch(value)):
        return value
    raise ValueError("is no day such as 2025-03-01")


def _as_moment(value: object) -> object:
    if isinstance(value, dt.datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise ValueError("is no moment such as 2025-03-01T12:00:00Z")


Text = Annotated[str, AfterValidator(storable)]
CategoryName = Annotated[Text, Field(min_length=1, max_length=200)]
PathId = Annotated[int, Path(ge=1, lt=_MOST_ID)]
BodyId = Annotated[int, Field(ge=1, lt=_MOST_ID, strict=True)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Day = Annotated[dt.date, BeforeValidator(_as_day), WithJsonSchema({"type": "string", "format": "date"})]
Moment = Annotated[dt.datetime, BeforeValidator(_as_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
