"""The baseline: the feature build that systems of this kind usually have.

Rows are read through the ORM, features computed in a Python loop with `re`, and written by SQLAlchemy's
`insert().values([...])` with a thousand dictionaries at a time and ON CONFLICT DO UPDATE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernel_baseline import build_features_loop
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.ml.models import MLFeature
from app.orm_models import Transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ROWS_PER_STATEMENT: Final = 1000


def build_row_by_row(session: Session, limit: int) -> int:
    """Build the features of the first transactions; return how many."""
    query = select(Transaction).order_by(Transaction.id).limit(limit).execution_options(yield_per=ROWS_PER_STATEMENT)
    built = 0
    for transactions in session.scalars(query).partitions():
        rows = [
            {
                "txn_id": transaction.id,
                "date": transaction.date,
                "posted_at": transaction.posted_at,
                "amount": transaction.amount,
                "description": transaction.description,
                "mcc": transaction.mcc,
                "channel_hint": transaction.channel_hint,
            }
            for transaction in transactions
        ]
        statement = insert(MLFeature).values(build_features_loop(rows))
        changed = {name: statement.excluded[name] for name in MLFeature.__table__.columns.keys() if name not in ("txn_id", "created_at")}
        session.execute(statement.on_conflict_do_update(index_elements=["txn_id"], set_=changed))
        session.commit()
        built += len(rows)
    return built
