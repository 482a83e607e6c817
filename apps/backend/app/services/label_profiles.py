"""How a user labels: how often categories occur and how consistent the user is.

That changes slowly and costs a pass over all labels, so it is kept; what a merchant's labels are is read anew for every
suggestion, elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from app.db import driver_connection, read_frame
from app.ml.builtin_knowledge import builtin_categories
from app.ml.hierarchical_prior import LABEL_SCHEMA, LabelProfile, fit_profile
from app.services.learnt_cache import LearntCache

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.orm import Session

# The kernel's features that built-in knowledge looks at, as read_frame reads them; of the amount only its sign matters.
BUILTIN_SCHEMA: Final = {
    "norm_desc": pl.String(), "mcc": pl.String(), "channel": pl.String(), "amount": pl.Decimal(18, 2)
}  # fmt: skip


_profiles: LearntCache[LabelProfile] = LearntCache()


def profile_of(session: Session, user_id: int) -> LabelProfile:
    """Return how the user labels, not older than a hundredth of their labels.

    Args:
        session: A session of the user.
        user_id: Who.
    """

    def learn() -> tuple[LabelProfile, int]:
        profile = fit_profile(_count_labels(driver_connection(session)))
        return profile, profile.label_count

    return _profiles.value_for(session, user_id, learn)


def _count_labels(connection: psycopg.Connection[Any]) -> pl.DataFrame:
    """Count all labels of the session's user, under the names they have today, in LABEL_SCHEMA."""
    read = read_frame(
        connection,
        """
        SELECT merchant, account, norm_desc, mcc, channel, amount_sign, label, label_source, labels
        FROM own_label_counts()
        """,
        {"merchant": pl.String(), "account": pl.String()}
        | BUILTIN_SCHEMA
        | {"label": pl.String(), "label_source": pl.String(), "labels": pl.Int64()},
    )
    return read.with_columns(builtin_categories(read).alias("builtin")).select(list(LABEL_SCHEMA))
