"""What is kept of a training beside its model: in its row, in MLflow and in the report. It quotes no description."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from app.config import get_settings
from app.ml.train import recipe

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from app.ml.evaluation import Evaluation
    from app.ml.gate import Verdict
    from app.ml.learning_curve import LearningPoint

_INTERVAL: Final = {"value", "low", "high"}
# Points of pictures and tables, which are in the report.
_NOT_KEPT: Final = ("reliability", "risk_coverage", "confusions", "confusion_matrix")


@dataclass(frozen=True)
class Training:
    """What is to be trained.

    Attributes:
        category_set: The user whose own categories are meant; None for the shared set.
        as_of: What was known at this moment is learnt from.
        seed: Of everything that is drawn.
        target_error: What of that which is applied without asking may be wrong; None: the model chooses.
        promote: Whether the model may become champion; else it becomes challenger.
        requested_by: Who asked for it.
        run_id: Its row.
    """

    category_set: int | None
    as_of: dt.datetime
    seed: int
    target_error: float | None
    promote: bool
    requested_by: str
    run_id: int

    @property
    def params(self) -> dict[str, str | float | bool]:
        """What it was told, with the settings that count."""
        weights = get_settings().label_weights.by_source()
        return {
            "run": self.run_id,
            "recipe": recipe(),
            "as_of": self.as_of.isoformat(),
            "seed": self.seed,
            "target_error": "the model's choice" if self.target_error is None else self.target_error,
            "promote": self.promote,
            **{f"weight_{source}": weight for source, weight in weights.items()},
        }


def report_facts(training: Training, rows: int, data_hash: str) -> dict[str, str]:
    """Say in a report what was evaluated."""
    return {
        "Recipe": recipe(),
        "Learnt from": f"{rows:,} labels as of {training.as_of:%Y-%m-%d %H:%M %Z}",
        "Hash of those": data_hash,
        "Protocol": "a twin that learnt from the months before these, and has the labels of each month for the next",
        "Seed": str(training.seed),
    }


def run_metrics(
    evaluation: Evaluation, verdict: Verdict, curve: tuple[LearningPoint, ...], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Gather what was measured, as JSON."""
    kept = {name: figure for name, figure in asdict(evaluation).items() if name not in _NOT_KEPT}
    return _plain(kept) | {
        "gate": gate_record(verdict),
        "learning_curve": [asdict(point) for point in curve],
        "seconds": dict(seconds),
    }


def gate_record(verdict: Verdict) -> dict[str, Any]:
    """Write down what the gate decided, as JSON."""
    return {"passed": verdict.passed, **verdict.figures, "reasons": list(verdict.reasons)}


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Write every interval as three numbers: `accuracy`, `accuracy_low` and `accuracy_high`."""
    written: dict[str, Any] = {}
    for name, figure in figures.items():
        if not isinstance(figure, dict):
            written[name] = figure
        elif figure.keys() == _INTERVAL:
            written |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        else:
            written[name] = _plain(figure)
    return written


def flat_numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Name every number by its path, as MLflow wants them."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= flat_numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = float(value)
    return found
