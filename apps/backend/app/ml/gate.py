"""Whether a new model may take the champion's place: a decision on figures, without a database or a clock.

Both have predicted the same transactions, none of which either had learnt from; what they are compared on is chosen by
`app.ml.train`. A rule that is not met is a reason to refuse, and so is having too little to judge by: who keeps the old
model loses little by waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from app.ml.bootstrap import PairedComparison
    from app.ml.evaluation import ClassScores, Evaluation

# first: there is no champion, and the heuristics stand in for one; refresh: the champion's recipe on newer data.
Kind = Literal["first", "refresh", "new_recipe"]

# The lower end of the interval of the difference of accuracy must lie above these.
LEAST_DIFFERENCE: Final[dict[Kind, float]] = {"first": -0.005, "refresh": -0.005, "new_recipe": 0.0}
# An interval over fewer rows says little, whatever it says.
FEWEST_ROWS: Final = 50
# A first model may come with fewer, down to these: then it must be right as often as the heuristics, as counted.
FEWEST_FIRST_ROWS: Final = 10

# How much larger the expected calibration error may be, and from how many rows on its bins (of 20 rows then) say much.
CALIBRATION_TOLERANCE: Final = 0.02
FEWEST_CALIBRATION_ROWS: Final = 300

# A class is lost if it has this many rows, the champion finds this share of them, and the challenger finds less than
# this share of what the champion does.
LOST_SUPPORT: Final = 20
LOST_RECALL: Final = 0.5
LOST_SHARE: Final = 0.5
_NAMED_CLASSES: Final = 5


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        passed: Whether the challenger may become champion.
        reasons: Sentences: of a refusal every rule that was not met, else what it was let through for.
        figures: What was compared, for the record.
    """

    passed: bool
    reasons: tuple[str, ...]
    figures: dict[str, Any]


def judge(kind: Kind, paired: PairedComparison, challenger: Evaluation, champion: Evaluation, rival: str) -> Verdict:
    """Decide whether a challenger may become champion.

    Args:
        kind: What it would be.
        paired: The challenger compared with the champion, the challenger being `ours`.
        challenger: Its evaluation on the rows of `paired`.
        champion: The champion's, or that of the heuristics for a first model, on the same rows.
        rival: What the champion is called in a sentence, such as "version 3".
    """
    faults = [
        fault
        for fault in (
            _too_few(kind, paired),
            _worse(kind, paired, rival),
            _worse_calibrated(challenger, champion, rival),
            _lost(challenger, champion, rival),
        )
        if fault
    ]
    compared = (
        f"Of {paired.rows:,} transactions from {challenger.first_month} to {challenger.last_month} it has "
        f"{_percent(challenger.accuracy.value)} right, {rival} {_percent(champion.accuracy.value)}."
    )
    figures = {
        "kind": kind,
        "rival": rival,
        "rows": paired.rows,
        "accuracy_difference": paired.accuracy.value,
        "accuracy_difference_low": paired.accuracy.low,
        "accuracy_difference_high": paired.accuracy.high,
        "least_difference": LEAST_DIFFERENCE[kind],
        "f1_macro_difference": paired.f1_macro.value,
        "only_challenger_right": paired.only_ours_right,
        "only_champion_right": paired.only_theirs_right,
        "mcnemar_p": paired.mcnemar_p,
        "ece": challenger.ece,
        "champion_ece": champion.ece,
    }
    return Verdict(not faults, tuple(faults) if faults else (compared,), figures)


def refuse(reason: str) -> Verdict:
    """Refuse what cannot be compared at all."""
    return Verdict(passed=False, reasons=(reason,), figures={})


def _too_few(kind: Kind, paired: PairedComparison) -> str | None:
    fewest = FEWEST_FIRST_ROWS if kind == "first" else FEWEST_ROWS
    if paired.rows >= fewest:
        return None
    return (
        f"There are {paired.rows:,} labelled transactions in the months that it is judged by, and at least {fewest} "
        "are needed: label more of the last months, or make it champion by hand with `lm models promote`."
    )


def _worse(kind: Kind, paired: PairedComparison, rival: str) -> str | None:
    """Compare accuracy: by its interval, or by counting where a first model has too few rows for one."""
    difference, least = paired.accuracy, LEAST_DIFFERENCE[kind]
    if kind == "first" and paired.rows < FEWEST_ROWS:
        if difference.value >= 0:
            return None
        return (
            f"Of {paired.rows:,} transactions it has {paired.only_theirs_right - paired.only_ours_right:,} fewer right "
            f"than {rival}."
        )
    if difference.low > least:
        return None
    between = (
        f"the difference to {rival} is {_points(difference.value)} of accuracy, with an interval from "
        f"{_points(difference.low)} to {_points(difference.high)}"
    )
    if kind == "new_recipe":
        return f"A new recipe must be better beyond chance, and {between}."
    return f"It may be worse by more than {abs(100 * least):.1f} points: {between}."


def _worse_calibrated(challenger: Evaluation, champion: Evaluation, rival: str) -> str | None:
    if challenger.rows < FEWEST_CALIBRATION_ROWS or challenger.ece <= champion.ece + CALIBRATION_TOLERANCE:
        return None
    return (
        f"Its confidence is off by {challenger.ece:.3f} on average, that of {rival} by {champion.ece:.3f}; it may be "
        f"{CALIBRATION_TOLERANCE:.2f} more."
    )


def _lost(challenger: Evaluation, champion: Evaluation, rival: str) -> str | None:
    recall = {scores.label: scores.recall for scores in challenger.per_class}
    lost = [before for before in champion.per_class if _is_lost(before, recall.get(before.label, 0.0))]
    if not lost:
        return None
    named = ", ".join(
        f"{before.label} (of {before.support:,} it finds {_percent(recall[before.label])}, {rival} "
        f"{_percent(before.recall)})"
        for before in lost[:_NAMED_CLASSES]
    )
    more = f" and {len(lost) - _NAMED_CLASSES} more" if len(lost) > _NAMED_CLASSES else ""
    return f"It has lost what {rival} finds: {named}{more}."


def _is_lost(before: ClassScores, recall: float) -> bool:
    return before.support >= LOST_SUPPORT and before.recall >= LOST_RECALL and recall < LOST_SHARE * before.recall


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f} points"
