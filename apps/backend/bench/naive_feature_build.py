"""The baseline: the feature build that systems of this kind usually have.

Rows are read through the ORM, features computed in a Python loop with `re`, and written by SQLAlchemy's
`insert().values([...])` with a thousand dictionaries at a time and ON CONFLICT DO UPDATE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernel_baseline import build_features_loop
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.ml.features import FEATURE_SCHEMA, TRANSACTION_SCHEMA
from app.ml.models import MLFeature
from app.orm_models import Transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ROWS_PER_STATEMENT: Final = 1000
KERNEL_COLUMNS: Final = [(name, "id" if name == "txn_id" else name) for name in TRANSACTION_SCHEMA]


def build_row_by_row(session: Session, limit: int) -> int:
    """Build the features of the first transactions; return how many."""
    built = last_id = 0
    while built < limit:
        query = select(Transaction).where(Transaction.id > last_id).order_by(Transaction.id).limit(ROWS_PER_STATEMENT)
        transactions = session.scalars(query).all()
        if not transactions:
            break
        last_id = transactions[-1].id
        rows = [{name: getattr(transaction, column) for name, column in KERNEL_COLUMNS} for transaction in transactions]
        statement = insert(MLFeature).values(build_features_loop(rows))
        changed = {name: statement.excluded[name] for name in FEATURE_SCHEMA if name != "txn_id"}
        session.execute(statement.on_conflict_do_update(index_elements=["txn_id"], set_=changed))
        session.commit()
        built += len(rows)
    return built
