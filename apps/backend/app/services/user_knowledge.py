"""What is known of a user that a suggestion takes: their labels, counted by place, and what these are called today.

Read once it takes a pass over all of their labels; `remembered_users` keeps it, and keeps it true.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from app.config import get_settings
from app.db import driver_connection, read_frame, session_for_user
from app.errors import NotFound
from app.ml.builtin_knowledge import builtin_categories
from app.ml.evidence import Place, day_numbers, place_columns
from app.ml.label_memory import GivenLabel, LabelMemory
from app.ml.serving import LabelSpace, ServedModel, label_space
from app.services.categories import category_names, shown_names
from app.services.learnt_cache import TOLERATED_GROWTH

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from app.services.heuristics import Habits

LABEL_SCHEMA: Final = pl.Schema(
    {
        "txn_id": pl.Int64(),
        "user_id": pl.Int64(),
        "date": pl.Date(),
        "amount": pl.Decimal(18, 2),
        "account": pl.String(),
        "merchant": pl.String(),
        "norm_desc": pl.String(),
        "mcc": pl.String(),
        "channel": pl.String(),
        "label": pl.String(),
        "source": pl.String(),
    }
)

# What a model may learn from is what it counts: the same rows as in the training set.
LABELS: Final = """
    SELECT
        transactions.id, transactions.user_id, transactions.date, transactions.amount, transactions.account,
        ml_features.merchant, ml_features.norm_desc, ml_features.mcc, ml_features.channel,
        transaction_labels.label, transaction_labels.source
    FROM transactions
    INNER JOIN transaction_labels ON transaction_labels.txn_id = transactions.id
    INNER JOIN ml_features ON ml_features.txn_id = transactions.id
    WHERE transactions.user_id = %(user_id)s AND transactions.deleted_at IS NULL AND transactions.amount <> 0
        AND trim(ml_features.merchant) <> '' AND trim(transaction_labels.label) <> ''
"""
"""What a user has labelled, for `given_labels`; more conditions may follow."""

STATE_COLUMNS: Final = """
    users.created_at, users.min_confidence, users.own_categories, users.is_demo,
    (SELECT written_in FROM knowledge_revisions WHERE user_id = users.id)
"""
"""A `UserState`, of a row of users."""

# Whatever commits from here on is an event that is not among these, written by a transaction not below this number.
_HORIZON: Final = b"""
    SELECT
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
        ARRAY(
            SELECT id FROM label_events
            WHERE user_id = %s AND written_in >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        )
"""


_SECONDS_OF_A_DAY: Final = 86_400


class UserState(NamedTuple):
    """What knowledge of a user depends on beside labels.

    Attributes:
        revision: Of their imports, categories and rules; None before the first.
    """

    created_at: dt.datetime
    min_confidence: float | None
    own_categories: bool
    is_demo: bool
    revision: int | None


@dataclass(eq=False)
class UserKnowledge:
    """What is remembered of a user.

    Attributes:
        state: Another one is another knowledge.
        horizon: Label events of database transactions from this number on may not be in it yet.
        seen: Those of them that are.
        read_at: When that was read, by the monotonic clock: a request that began earlier need not read it again.
        category_set: The user, if their categories are their own; None for the shared set.
        memory: Their labels, under the words that were given.
        shown: The name that a word is shown under, of words that are shown under another.
        categories: The names that the user has.
        has_rules: Whether they ever had a rule.
        moved: Labels that have moved since the habits were read.
        habits: How they label and their rules, once somebody asked; see `remembered_users`.
        habits_read_at: When that was read.
    """

    user_id: int
    state: UserState
    horizon: int
    seen: frozenset[int]
    read_at: float
    category_set: int | None
    memory: LabelMemory
    shown: Mapping[str, str]
    categories: frozenset[str]
    has_rules: bool
    habits: Habits | None = None
    habits_read_at: float = 0.0
    moved: int = 0
    _spaces: dict[int | None, tuple[int, LabelSpace]] = field(default_factory=dict)

    @property
    def min_confidence(self) -> float | None:
        """Below it the user wants no suggestion; None leaves that to the engine."""
        return self.state.min_confidence

    @property
    def has_moved_on(self) -> bool:
        """Whether so many labels have moved since the habits were read that they hold no longer."""
        return self.moved > len(self.memory.given) * TOLERATED_GROWTH

    def space_of(self, served: ServedModel) -> LabelSpace:
        """Say what the user can be told by a model."""
        return self._space(served.version, served.model.classes)

    @property
    def bare_space(self) -> LabelSpace:
        """What the user's labels are, without any model."""
        return self._space(None, ())

    def _space(self, version: int | None, classes: Sequence[str]) -> LabelSpace:
        kept = self._spaces.get(version)
        if kept is None or kept[0] != self.memory.vocabulary:
            has = self.categories.__contains__
            space = label_space(classes, self.memory.words, self.memory.in_use, self.shown, has)
            self._spaces[version] = kept = (self.memory.vocabulary, space)
        return kept[1]


def read_knowledge(user_id: int) -> UserKnowledge:
    """Read everything that is known of a user now. What happens meanwhile is after the horizon, or another state then.

    Raises:
        NotFound: There is no such user.
    """
    read_at = time.monotonic()
    with session_for_user(user_id) as session:
        connection = driver_connection(session)
        query = f"SELECT {STATE_COLUMNS} FROM users WHERE users.id = %s"  # noqa: S608 -- the columns are a constant
        row = connection.execute(query.encode(), [user_id]).fetchone()
        if row is None:
            raise NotFound("There is no such user.")
        state = UserState(*row)
        ((horizon, seen),) = connection.execute(_HORIZON, [user_id]).fetchall()
        labels = read_frame(connection, LABELS, LABEL_SCHEMA, {"user_id": user_id})
        had_rules = connection.execute("SELECT EXISTS (SELECT FROM rules WHERE user_id = %s)", [user_id])
        ((has_rules,),) = had_rules.fetchall()
        return UserKnowledge(
            user_id=user_id,
            state=state,
            horizon=horizon,
            seen=frozenset(seen),
            read_at=read_at,
            category_set=user_id if state.own_categories or state.is_demo else None,
            memory=LabelMemory(given_labels(labels), get_settings().label_weights.by_source()),
            shown=shown_names(session, user_id),
            categories=frozenset(category_names(session, user_id)),
            has_rules=has_rules,
        )


def given_labels(labels: pl.DataFrame) -> dict[int, GivenLabel]:
    """Say where each label was given, by transaction.

    Args:
        labels: LABEL_SCHEMA.
    """
    places = place_columns(labels.with_columns(builtin_categories(labels).alias("builtin")))
    # A label with a date that is still to come, a slip of the pen most often, is as good as one of today; it is not for
    # that one to make all others old.
    days = np.minimum(day_numbers(labels["date"]), _tomorrow()).tolist()
    # Equal places are one object.
    one: dict[Place, Place] = {}
    return {
        txn_id: GivenLabel(one.setdefault(place, place), day, label, source)
        for txn_id, label, source, place, day in zip(
            labels["txn_id"], labels["label"], labels["source"], map(Place._make, places.iter_rows()), days, strict=True
        )
    }


def _tomorrow() -> int:
    """Number the day that may be today somewhere, as `day_numbers` does."""
    return int(time.time() // _SECONDS_OF_A_DAY) + 1
