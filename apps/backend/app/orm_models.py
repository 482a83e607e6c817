"""The mapped tables. Importing this module configures every mapper."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
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
from app.ml.models import (
    MONEY,
    TIMESTAMPTZ,
    Experiment,
    ExperimentArm,
    ExperimentChange,
    MLFeature,
    MLTrainingRun,
    ModelDeployment,
    ModelVersion,
    TransactionLabel,
)

__all__ = [
    "Category",
    "CategoryName",
    "Credential",
    "Experiment",
    "ExperimentArm",
    "ExperimentChange",
    "Import",
    "ImportRejection",
    "LabelEvent",
    "MLFeature",
    "MLTrainingRun",
    "MerchantAlias",
    "ModelDeployment",
    "ModelVersion",
    "Rule",
    "RuleApplication",
    "RuleApplicationLabel",
    "RuleRevision",
    "SharedMerchantPrior",
    "SuggestionEvent",
    "SuggestionFeedback",
    "Transaction",
    "TransactionLabel",
    "User",
    "UserPassword",
]


class User(Base):
    """Somebody with a ledger of their own.

    Attributes:
        is_demo: Whether this is a demo's data set and nobody's ledger.
        min_confidence: Below it a suggestion is withheld; null leaves that to the engine that suggests.
        own_categories: Whether the user's imports brought a category set of their own; else the shared set is theirs.
    """

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("min_confidence BETWEEN 0 AND 1", name="min_confidence"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    is_demo: Mapped[bool] = mapped_column(server_default=text("false"))
    min_confidence: Mapped[float | None]
    own_categories: Mapped[bool] = mapped_column(server_default=text("false"))


class UserPassword(Base):
    """What a user's password is checked against; requests cannot read it."""

    __tablename__ = "user_passwords"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    password_hash: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), onupdate=func.now())


class Credential(Base):
    """A bearer token or a session of the console; the secret itself is kept nowhere.

    Attributes:
        secret_hash: SHA-256 of the secret, which is random and long enough to need no slower hash.
        expires_at: Null for a token that lasts until it is revoked.
    """

    __tablename__ = "credentials"
    __table_args__ = (
        CheckConstraint("kind IN ('token', 'session')", name="kind"),
        CheckConstraint("scope IN ('read', 'write')", name="scope"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    expires_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)


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

    Attributes:
        written_in: Number of the database's transaction that wrote it; 0 for what is old.
    """

    __tablename__ = "label_events"
    __table_args__ = (
        Index(None, "txn_id", "id"),
        Index(None, "user_id", "id"),
        Index(None, "known_at"),
        Index(None, "user_id", "written_in"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    txn_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    label: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    known_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    assumed_known_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)
    written_in: Mapped[int] = mapped_column(BigInteger, server_default=text("pg_current_xact_id()::text::bigint"))


class Category(Base):
    """A name that a label may take: of the shared set (no user), or one user's own.

    Attributes:
        key: What a category of the shared set is called for good, whatever its name; null for a user's own.
        group_name: The group that it is listed under.
    """

    __tablename__ = "categories"
    __table_args__ = (UniqueConstraint("user_id", "name", postgresql_nulls_not_distinct=True),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    key: Mapped[str | None] = mapped_column(Text, unique=True)
    group_name: Mapped[str | None] = mapped_column(Text)


class CategoryName(Base):
    """A rename or merge: for a time, a user's category is shown under another name. Labels keep their own word."""

    __tablename__ = "category_names"
    __table_args__ = (
        CheckConstraint("name <> shown_as", name="another_name"),
        Index(
            "uq_category_names_user_id_name", "user_id", "name", unique=True, postgresql_where=text("valid_to IS NULL")
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)
    shown_as: Mapped[str] = mapped_column(Text)
    valid_from: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    valid_to: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)


class Rule(Base):
    """A rule of a user's; what it says is in its latest revision."""

    __tablename__ = "rules"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class RuleRevision(Base):
    """What a rule says from one edit to the next; a rule that was removed ends in a revision that is not enabled.

    Attributes:
        condition: What a transaction must be like, as `app.services.rules` defines it.
        priority: Of several rules that match, the one with the highest priority decides.
    """

    __tablename__ = "rule_revisions"

    rule_id: Mapped[int] = mapped_column(ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    condition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    category: Mapped[str] = mapped_column(Text)
    priority: Mapped[int]
    is_enabled: Mapped[bool]
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class RuleApplication(Base):
    """One time that a revision of a rule wrote labels."""

    __tablename__ = "rule_applications"
    __table_args__ = (
        ForeignKeyConstraint(
            ["rule_id", "revision"], ["rule_revisions.rule_id", "rule_revisions.revision"], ondelete="CASCADE"
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    rule_id: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int]
    labels: Mapped[int]
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
    undone_at: Mapped[dt.datetime | None] = mapped_column(TIMESTAMPTZ)


class RuleApplicationLabel(Base):
    """A label that an application of a rule wrote, the event that this was, and the label it found."""

    __tablename__ = "rule_application_labels"

    application_id: Mapped[int] = mapped_column(
        ForeignKey("rule_applications.id", ondelete="CASCADE"), primary_key=True
    )
    txn_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    label_event_id: Mapped[int] = mapped_column(BigInteger)
    previous_label: Mapped[str | None] = mapped_column(Text)
    previous_source: Mapped[str | None] = mapped_column(Text)


class SharedMerchantPrior(Base):
    """How many users call a merchant what, for merchants that enough users have labelled.

    Attributes:
        users: Users whose most frequent label for the merchant this is.
        merchant_users: Users who have labelled the merchant at all.
    """

    __tablename__ = "shared_merchant_priors"
    __table_args__ = (CheckConstraint("merchant_users >= 3", name="merchant_users"),)

    merchant: Mapped[str] = mapped_column(Text, primary_key=True)
    label: Mapped[str] = mapped_column(Text, primary_key=True)
    users: Mapped[int]
    merchant_users: Mapped[int]


class KnowledgeRevision(Base):
    """Which state a user's imports, categories and rules are in; triggers write it as a transaction commits.

    Attributes:
        written_in: Number of the database's transaction that changed them last.
    """

    __tablename__ = "knowledge_revisions"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    written_in: Mapped[int] = mapped_column(BigInteger)


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

    Attributes:
        served_event_id: Of what a challenger would have suggested: the suggestion that was made instead.
    """

    __tablename__ = "suggestion_events"
    __table_args__ = (
        CheckConstraint("mode IN ('heuristic', 'model', 'auto')", name="mode"),
        CheckConstraint("source IN ('rule', 'model', 'shadow')", name="source"),
        CheckConstraint("(served_event_id IS NOT NULL) = (source = 'shadow')", name="served_event_id"),
        Index("ix_suggestion_events_experiment", "experiment", postgresql_where=text("experiment IS NOT NULL")),
        Index(
            "uq_suggestion_events_served_event_id_model_version",
            "served_event_id",
            "model_version",
            unique=True,
            postgresql_where=text("served_event_id IS NOT NULL"),
        ),
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
    served_event_id: Mapped[int | None] = mapped_column(ForeignKey("suggestion_events.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), index=True)


class SuggestionFeedback(Base):
    """What a person answered to a suggestion; the last answer by (created_at, id) counts.

    Attributes:
        idempotency_key: What the client calls this answer, so that sending it again changes nothing.
        label_event_id: The label event that the answer caused, if it changed the label.
        previous_label: The label before the suggestion was answered, which an undo brings back.
        previous_source: That label's source.
    """

    __tablename__ = "suggestion_feedback"
    __table_args__ = (
        CheckConstraint("action IN ('accept', 'reject', 'undo')", name="action"),
        Index("uq_suggestion_feedback_event_id_idempotency_key", "event_id", "idempotency_key", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("suggestion_events.id", ondelete="CASCADE"), index=True)
    action: Mapped[str] = mapped_column(Text)
    label: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now(), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    label_event_id: Mapped[int | None] = mapped_column(BigInteger)
    previous_label: Mapped[str | None] = mapped_column(Text)
    previous_source: Mapped[str | None] = mapped_column(Text)


configure_mappers()
