"""The tables that machine learning reads and writes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    SmallInteger,
    Text,
    func,
)
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
    """One training, successful or not.

    Attributes:
        user_id: Whose own category set was trained on; null for the installation's shared one.
        status: Whether it runs, succeeded, failed, or made a model that the gate refused.
    """

    __tablename__ = "ml_training_runs"
    __table_args__ = (CheckConstraint("status IN ('running', 'succeeded', 'failed', 'refused')", name="status"),)

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
    status: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    seed: Mapped[int | None] = mapped_column(BigInteger)


class ModelVersion(Base):
    """A trained model that can be deployed, in the registry under the same number.

    Attributes:
        version: MLflow's number of `transaction-category`; category sets share the numbers.
        user_id: Whose own category set it serves; null for the installation's shared one.
        sha256: Of the artefact's bytes, in hexadecimal.
        artefact_name: Where the artefact is below the registry's folder.
        recipe: What the model was built with; a refresh has the recipe of the model that it replaces.
    """

    __tablename__ = "model_versions"
    __table_args__ = (CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="hash"),)

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("ml_training_runs.run_id"), index=True)
    sha256: Mapped[str] = mapped_column(Text)
    artefact_name: Mapped[str] = mapped_column(Text, unique=True)
    mlflow_run_id: Mapped[str] = mapped_column(Text)
    recipe: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class ModelDeployment(Base):
    """One decision about a model: rows are added and never changed, and they alone say what is champion.

    Attributes:
        user_id: Whose own category set it was about; null for the installation's shared one.
        role: What the version became, ceased to be or was refused as.
        replaced_version: What had the role before; null where nothing had.
        actor: Who decided: a person, or the program that did.
    """

    __tablename__ = "model_deployments"
    __table_args__ = (
        CheckConstraint("role IN ('champion', 'challenger')", name="role"),
        CheckConstraint(
            "action IN ('promote', 'rollback', 'retire', 'challenge', 'withdraw', 'refuse')", name="action"
        ),
        Index(None, "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(ForeignKey("model_versions.version", ondelete="CASCADE"), index=True)
    replaced_version: Mapped[int | None] = mapped_column(
        ForeignKey("model_versions.version", ondelete="CASCADE"), index=True
    )
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class Experiment(Base):
    """What suggestions of a category set are divided between, as it was planned.

    Attributes:
        user_id: Whose own category set it is about; null for the installation's shared one.
        unit: What is divided: users, or merchants of users.
        salt: Makes this experiment's division independent of any other's.
        ramp: Shares of the treatments' final shares, ascending, that they are given one after the other.
        guardrails: What stops an arm by itself.
    """

    __tablename__ = "experiments"
    __table_args__ = (CheckConstraint("unit IN ('user', 'user_merchant')", name="unit"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    unit: Mapped[str] = mapped_column(Text)
    salt: Mapped[str] = mapped_column(Text)
    ramp: Mapped[list[float]] = mapped_column(ARRAY(Double))
    guardrails: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())


class ExperimentArm(Base):
    """Who suggests to a share of an experiment's units; the one at position 0 is the control."""

    __tablename__ = "experiment_arms"
    __table_args__ = (
        CheckConstraint("engine IN ('rule', 'champion', 'challenger', 'version')", name="engine"),
        CheckConstraint("share BETWEEN 0 AND 1", name="share"),
        CheckConstraint("(version IS NOT NULL) = (engine = 'version')", name="version"),
    )

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int]
    engine: Mapped[str] = mapped_column(Text)
    version: Mapped[int | None] = mapped_column(ForeignKey("model_versions.version", ondelete="CASCADE"), index=True)
    share: Mapped[float]


class ExperimentChange(Base):
    """Something that was done to an experiment: rows are added and never changed, and the last ones say what holds."""

    __tablename__ = "experiment_changes"
    __table_args__ = (
        CheckConstraint("action IN ('start', 'ramp', 'stop_arm', 'stop')", name="action"),
        CheckConstraint("ramp BETWEEN 0 AND 1", name="ramp"),
        Index(None, "experiment_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    action: Mapped[str] = mapped_column(Text)
    ramp: Mapped[float]
    arm: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(TIMESTAMPTZ, server_default=func.now())
