"""What an evaluation holds: plain numbers, which `dataclasses.asdict` makes JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.ml.bootstrap import Interval

# To be shown wherever a figure of suggestions that are applied without asking is.
PROMISE: str = (
    "What may be wrong among the suggestions that are applied without asking is promised of all of them together, "
    "as if they were independent, and while the months stay alike."
)

# What predicts: a trained model, or the heuristics.
System = Literal["model", "rules"]


@dataclass(frozen=True)
class PartScores:
    """Scores of some of the rows.

    Attributes:
        rows: How many there are.
        share: Of all rows.
        accuracy: Share of right predictions among them; None where there are none.
    """

    rows: int
    share: float
    accuracy: Interval | None


@dataclass(frozen=True)
class AutoApplyScores:
    """What would be applied without asking.

    Attributes:
        target_error: The share that may be wrong.
        coverage: Share of the rows that would be applied.
        error: Share of wrong ones among those; None where there are none.
        wrong: How many those are.
    """

    target_error: float
    coverage: Interval
    error: Interval | None
    wrong: int


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar confidence.

    Attributes:
        rows: How many.
        confidence: Their mean confidence.
        accuracy: Share of right predictions among them.
    """

    rows: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True)
class RiskPoint:
    """What happens when only the surest rows are answered.

    Attributes:
        threshold: Least confidence that is answered.
        coverage: Share of the rows that are.
        error: Share of wrong ones among those.
    """

    threshold: float
    coverage: float
    error: float


@dataclass(frozen=True)
class ClassScores:
    """Scores of one category.

    Attributes:
        label: Its name.
        support: Rows that truly have it.
        predicted: Rows that were said to have it.
        precision: Share of right ones among those; 0 where there are none.
        recall: Share found of the rows that have it; 0 where there are none.
        f1: Their harmonic mean.
    """

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """One category taken for another.

    Attributes:
        truth: What it is.
        predicted: What was said.
        rows: How often.
        share: Of the rows with that truth.
        amount: The absolute amounts together.
    """

    truth: str
    predicted: str
    rows: int
    share: float
    amount: float


@dataclass(frozen=True)
class ConfusionMatrix:
    """How the largest categories are taken for each other.

    Attributes:
        labels: The categories, the largest first.
        counts: For each as truth, how often each of them was predicted, and last any other category.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class MonthScores:
    """Scores of one month.

    Attributes:
        month: As 2025-03.
        rows: How many.
        accuracy: Share of right predictions.
        unseen_share: Share of descriptions never learnt from.
        coverage: Share that would be applied without asking.
        applied_error: Share of wrong ones among those; None where there are none.
    """

    month: str
    rows: int
    accuracy: Interval
    unseen_share: float
    coverage: float
    applied_error: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that is measured on one set of predictions.

    Attributes:
        rows: Test rows.
        categories: Categories that are true or predicted somewhere.
        first_month: As 2025-03.
        last_month: The same.
        accuracy: Share of right predictions, forced to choose.
        f1_macro: Mean of the categories' F1, over those that are true or predicted somewhere.
        top3_accuracy: Share of rows whose truth is among the three likeliest.
        log_loss: Mean of -ln P(truth) in nats, with probabilities below LEAST_PROBABILITY taken for that.
        brier: Mean over rows of the squared distance between probabilities and truth, summed over classes, from 0 to 2
            (Brier 1950).
        ece: Expected calibration error, as in `ForcedScores`.
        aurc: Area under the risk-coverage curve: the error among the surest rows, averaged over all numbers of rows
            (Geifman, Uziel and El-Yaniv 2019).
        wrong_money: Share of the absolute amounts that is in wrong predictions; None where all amounts are 0.
        unknown_share: Share of rows whose truth is no class of the model: no prediction can be right there.
        unseen: Rows whose description was never learnt from.
        unseen_account: Rows of accounts never learnt from.
        auto_apply: What would be applied without asking.
        reliability: Bins of equally many rows by confidence.
        risk_coverage: The curve, from the surest rows to all.
        per_class: Each category, the most frequent first.
        confusions: The most frequent ones.
        confusion_matrix: The largest categories.
        months: In order.
    """

    rows: int
    categories: int
    first_month: str
    last_month: str
    accuracy: Interval
    f1_macro: Interval
    top3_accuracy: Interval
    log_loss: Interval
    brier: Interval
    ece: float
    aurc: float
    wrong_money: Interval | None
    unknown_share: float
    unseen: PartScores
    unseen_account: PartScores
    auto_apply: AutoApplyScores
    reliability: tuple[CalibrationBin, ...]
    risk_coverage: tuple[RiskPoint, ...]
    per_class: tuple[ClassScores, ...]
    confusions: tuple[Confusion, ...]
    confusion_matrix: ConfusionMatrix
    months: tuple[MonthScores, ...]
