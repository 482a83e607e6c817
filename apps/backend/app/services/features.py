"""Features for whoever asks: read for stored transactions, computed for others, by the one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from app.errors import NotFound
from app.ml.features import TRANSACTION_SCHEMA, build_features
from app.ml.models import MLFeature
from app.services.statements import no_time_at_midnight, read_mccs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


def read_features(session: Session, txn_id: int) -> MLFeature:
    """Return the stored features of one of the session's user's transactions.

    Raises:
        NotFound: There is no such transaction, or it is somebody else's.
    """
    features = session.get(MLFeature, txn_id)
    if features is None:
        raise NotFound("There are no features of such a transaction.")
    return features


def compute_features(transactions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compute the features of transactions that are not stored, in their order, as an ingest of them would.

    Args:
        transactions: Each with the kernel's columns but `txn_id`, which is their position.
    """
    numbered = [transaction | {"txn_id": position} for position, transaction in enumerate(transactions)]
    frame = pl.DataFrame(numbered, schema=TRANSACTION_SCHEMA)
    return build_features(frame.with_columns(read_mccs(frame["mcc"]), no_time_at_midnight("posted_at"))).to_dicts()
