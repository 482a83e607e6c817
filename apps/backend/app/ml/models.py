"""The three tables that machine learning reads and writes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Numeric, SmallInteger, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base

if TYPE_CHECKING:
    from app.orm_models import Transaction  # noqa: TC004 -- at run time SQLAlchemy finds it by its name

TIMESTAMPTZ = TIMESTAMP(timezone=True)
MONEY = Numeric(18, 2)


class TransactionLabel(Base):
    """A golden label: what a person, a person's rule or a person's import says a transaction is.

    A model's output is none of the three, so the database refuses it.
    """

    __tablename__ = "transaction_labels"
    __table_args__ = (CheckConstraint("source IN ('human', 'rule', 'import')", name="source"),)

    txn_id: Mapped[int] = mapped_column(ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(Text, index=True)
    source: Mapped[str] = mapped_column(Text, index=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), onupdate=func.now())

    transaction: Mapped[Transaction] = relationship("Transaction", back_populates="label")


class MLFeature(Base):
    """The features of one transaction: a pure function of its own row, so they never need to be taken back."""

    __tablename__ = "ml_features"

    txn_id: Mapped[int] = mapped_column(ForeignKey("transactions.id", ondelete="CASCADE"), primary_key=True)
    ts_month: Mapped[dt.date] = mapped_column(index=True)
    amount: Mapped[Decimal] = mapped_column(MONEY)
    abs_amount: Mapped[Decimal] = mapped_column(MONEY)
    merchant: Mapped[str | None] = mapped_column(Text, index=True)
    mcc: Mapped[str | None] = mapped_column(Text)
    channel: Mapped[str | None] = mapped_column(Text)
    hour_of_day: Mapped[int | None] = mapped_column(SmallInteger)
    dow: Mapped[int] = mapped_column(SmallInteger)
    is_weekend: Mapped[bool]
    is_subscription: Mapped[bool]
    norm_desc: Mapped[str] = mapped_column(Text)
    tokens: Mapped[list[str]] = mapped_column(ARRAY(Text))
    feature_version: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())

    transaction: Mapped[Transaction] = relationship("Transaction", back_populates="features")


class MLTrainingRun(Base):
    """One training, successful or not."""

    __tablename__ = "ml_training_runs"

    run_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    started_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), index=True)
    finished_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)
    feature_count: Mapped[int | None]
    train_size: Mapped[int | None]
    test_size: Mapped[int | None]
    f1_macro: Mapped[float | None]
    accuracy: Mapped[float | None]
    class_count: Mapped[int | None]
    model_uri: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    as_of: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)
    dataset_hash: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
