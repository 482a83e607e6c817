"""The mapped tables. Importing this module configures every mapper."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, TSTZMULTIRANGE
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column, relationship

from app.db import Base
from app.ml.models import MONEY, TIMESTAMPTZ, MLFeature, MLTrainingRun, TransactionLabel

__all__ = [
    "Category",
    "Import",
    "ImportRejection",
    "LabelEvent",
    "MLFeature",
    "MLTrainingRun",
    "MerchantAlias",
    "SuggestionEvent",
    "SuggestionFeedback",
    "Transaction",
    "TransactionLabel",
    "User",
]


class User(Base):
    """Somebody with a ledger of their own."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class Import(Base):
    """One ingested file: how it was read and what became of its rows."""

    __tablename__ = "imports"
    __table_args__ = (
        CheckConstraint("action IN ('append', 'replace')", name="action"),
        CheckConstraint("rows = inserted + duplicates + rejected", name="balance"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    file_name: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    layout: Mapped[dict[str, Any]] = mapped_column(JSONB)
    rows: Mapped[int] = mapped_column(server_default=text("0"))
    inserted: Mapped[int] = mapped_column(server_default=text("0"))
    duplicates: Mapped[int] = mapped_column(server_default=text("0"))
    rejected: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class ImportRejection(Base):
    """A record of a file that is no transaction, and why; several may stand on one line."""

    __tablename__ = "import_rejections"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    record: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)


class Transaction(Base):
    """A movement on an account. What the bank said never changes; the person's view of it may.

    Attributes:
        fingerprint: SHA-256 of what the bank said; with `occurrence` it makes imports idempotent.
        occurrence: 1 for the first of several identical rows in one file, 2 for the second, ...
        known_at: When the row was recorded.
        assumed_known_at: For history that was imported late: when it would have been known, its date.
        deleted_periods: Spans in which the row was deleted before it came again.
    """

    __tablename__ = "transactions"
    __table_args__ = (
        UniqueConstraint("user_id", "fingerprint", "occurrence"),
        Index(None, "user_id", "date", "id"),
        CheckConstraint("amount <> 'NaN'", name="amount"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    account: Mapped[str] = mapped_column(Text)
    date: Mapped[dt.date]
    posted_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMP(timezone=False))
    amount: Mapped[Decimal] = mapped_column(MONEY)
    currency: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    merchant: Mapped[str | None] = mapped_column(Text)
    merchant_canonical: Mapped[str | None] = mapped_column(Text)
    mcc: Mapped[str | None] = mapped_column(Text)
    channel_hint: Mapped[str | None] = mapped_column(Text)
    category: Mapped[str | None] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    occurrence: Mapped[int] = mapped_column(server_default=text("1"))
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), onupdate=func.now())
    deleted_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)
    deleted_periods: Mapped[Any] = mapped_column(TSTZMULTIRANGE, server_default=text("'{}'"))
    known_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    assumed_known_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)

    label: Mapped[TransactionLabel | None] = relationship(
        "TransactionLabel", back_populates="transaction", uselist=False, cascade="all, delete-orphan"
    )
    features: Mapped[MLFeature | None] = relationship(
        "MLFeature", back_populates="transaction", uselist=False, cascade="all, delete-orphan"
    )


class LabelEvent(Base):
    """What happened to a transaction's label, kept by a trigger and never changed.

    There is no foreign key: the removal that a cascade causes is an event like any other. A null label is a
    removal.
    """

    __tablename__ = "label_events"
    __table_args__ = (Index(None, "txn_id", "id"), Index(None, "user_id"), Index(None, "known_at"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    txn_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    label: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    known_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    assumed_known_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)


class Category(Base):
    """A name that a label may take: of the shared set (no user), or one user's own."""

    __tablename__ = "categories"
    __table_args__ = (UniqueConstraint("user_id", "name", postgresql_nulls_not_distinct=True),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class MerchantAlias(Base):
    """The name under which a person wants to see a merchant, learnt or given by hand."""

    __tablename__ = "merchant_aliases"
    __table_args__ = (CheckConstraint("source IN ('learnt', 'human')", name="source"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    merchant: Mapped[str] = mapped_column(Text, primary_key=True)
    canonical: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), onupdate=func.now())


class SuggestionEvent(Base):
    """One suggestion: what was offered for a transaction, by which engine, and what it was computed from.

    There is no foreign key to the transaction: a suggestion outlives it.
    """

    __tablename__ = "suggestion_events"
    __table_args__ = (
        CheckConstraint("mode IN ('heuristic', 'model', 'auto')", name="mode"),
        CheckConstraint("source IN ('rule', 'model', 'shadow')", name="source"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    txn_id: Mapped[int] = mapped_column(BigInteger, index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    mode: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    model_version: Mapped[str | None] = mapped_column(Text)
    candidates: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    features_hash: Mapped[str | None] = mapped_column(Text)
    inputs: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    experiment: Mapped[str | None] = mapped_column(Text)
    arm: Mapped[str | None] = mapped_column(Text)
    propensity: Mapped[float | None]
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), index=True)


class SuggestionFeedback(Base):
    """What a person answered to a suggestion; the last answer by (created_at, id) counts."""

    __tablename__ = "suggestion_feedback"
    __table_args__ = (CheckConstraint("action IN ('accept', 'reject', 'undo')", name="action"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("suggestion_events.id", ondelete="CASCADE"), index=True)
    action: Mapped[str] = mapped_column(Text)
    label: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), index=True)


configure_mappers()
