"""How many units an experiment would have: what it can find out depends on them and not on answers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from app.services.experiment_assignment import LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.services.experiment_assignment import Arm, Unit

FEW_UNITS: Final = 100
"""With fewer units in an arm, what its acceptance could be is hardly bounded, however many transactions they have."""

UNIT_DAYS: Final = 90
"""Who had a transaction in so many days is likely to have one while an experiment is under way."""


def count_units(session: Session, category_set: int | None, unit: Unit) -> int:
    """Count the units that had a transaction in the last 90 days that the category set has transactions of.

    Args:
        session: Of the role lm_jobs.
        category_set: Whose own categories; None for the shared set.
        unit: What is divided; merchants as the features have them.
    """
    count = text("""
        WITH of_set AS (
            SELECT transactions.id, transactions.user_id, transactions.date
            FROM transactions INNER JOIN users ON users.id = transactions.user_id
            WHERE transactions.deleted_at IS NULL
                AND CASE WHEN users.own_categories OR users.is_demo THEN users.id END
                    IS NOT DISTINCT FROM CAST(:category_set AS bigint)
        )
        SELECT count(DISTINCT (
            of_set.user_id, CASE WHEN :unit = 'user_merchant' THEN coalesce(ml_features.merchant, '') END
        ))
        FROM of_set LEFT JOIN ml_features ON ml_features.txn_id = of_set.id
        WHERE of_set.date > (SELECT max(date) FROM of_set) - CAST(:days AS integer)
    """)
    found = session.execute(count, {"category_set": category_set, "unit": unit, "days": UNIT_DAYS})
    return int(found.scalar_one())


def units_of_smaller_arm(arms: Sequence[Arm], units: int, ramp: float) -> int:
    """Say how many units the smallest arm that has any is to have at a step of the ramp.

    Args:
        arms: Of an experiment, the control first.
        units: How many are divided.
        ramp: What part of their final shares the treatments have.
    """
    treatments = [arm.share * ramp for arm in arms[1:]]
    return round(units * min(share for share in (1 - sum(treatments), *treatments) if share > LEAST_SHARE))
