"""A page about an evaluation that a person can read, and the same figures for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.ml.report_pictures import draw_learning_curve, draw_months, draw_reliability, draw_risk_coverage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.ml.bootstrap import Interval
    from app.ml.evaluation import AutoApplyScores, Evaluation
    from app.ml.learning_curve import LearningPoint
    from app.ml.mistakes import Mistake

PAGE: Final = "evaluation.html"
FIGURES: Final = "evaluation.json"

_TEMPLATES: Final = Path(__file__).with_name("templates")


def write_report(
    evaluation: Evaluation,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    learning_curve: Sequence[LearningPoint] = (),
    mistakes: Sequence[Mistake] = (),
) -> Path:
    """Write an evaluation as one HTML file that loads nothing, and its figures as JSON beside it.

    Args:
        evaluation: What to show.
        folder: Where to; it is made if it is not there.
        title: Of the page, such as the model's name and version.
        facts: What was evaluated, by name: the system, the protocol, the hash of what was learnt from.
        learning_curve: Shown and written where there is one.
        mistakes: Shown where there are some, in the page alone. They quote what a bank wrote about a person, so leave
            them out of a report that is kept with a model.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"title": title, "facts": dict(facts), **asdict(evaluation)}
    figures["learning_curve"] = [asdict(point) for point in learning_curve]
    (folder / FIGURES).write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    page = folder / PAGE
    page.write_text(
        _environment()
        .get_template(f"{PAGE}.jinja")
        .render(
            title=title,
            facts=facts,
            evaluation=evaluation,
            headline=headline(evaluation),
            promise=judge_promise(evaluation.auto_apply),
            learning_curve=learning_curve,
            mistakes=mistakes,
            pictures=_pictures(evaluation, learning_curve),
        ),
        encoding="utf-8",
    )
    return page


def headline(evaluation: Evaluation) -> str:
    """Say in a sentence how good the predictions are."""
    applied = evaluation.auto_apply
    right = f"Of 100 transactions it gets {of_hundred(evaluation.accuracy.value)} right"
    if applied.error is None:
        return f"{right}; it would apply none by itself."
    wrong = of_hundred(applied.coverage.value * applied.error.value)
    return f"{right}; it would apply {of_hundred(applied.coverage.value)} by itself, of which {wrong} would be wrong."


def of_hundred(share: float) -> str:
    """Write a share as so many of a hundred, in whole ones, but for tenths where those would say none or all."""
    if share in (0, 1):
        return "all" if share else "none"
    hundredths = 100 * share
    if 1 <= hundredths < 99.5:  # noqa: PLR2004 -- above it, whole ones say 100
        return f"{hundredths:.0f}"
    written = f"{hundredths:.1f}"
    return {"0.0": "fewer than 0.1", "100.0": "more than 99.9", "1.0": "1"}.get(written, written)


def judge_promise(applied: AutoApplyScores) -> str:
    """Say whether no more of the applied predictions were wrong than promised."""
    if applied.error is None:
        return "Nothing was sure enough to be applied, so nothing was put to the test."
    if applied.error.value <= applied.target_error:
        return "It was kept."
    if applied.error.low <= applied.target_error:
        return "More were wrong than that, by no more than chance explains."
    return "It was not kept: these months are not like those that the threshold was chosen on."


def _pictures(evaluation: Evaluation, learning_curve: Sequence[LearningPoint]) -> dict[str, Markup]:
    """Draw what there is to draw. The SVG is our own and holds nothing that a user wrote."""
    pictures = {
        "reliability": draw_reliability(evaluation.reliability, "reliability"),
        "risk_coverage": draw_risk_coverage(evaluation.risk_coverage, evaluation.auto_apply, "risk"),
    }
    if len(evaluation.months) > 1:
        pictures["months"] = draw_months(evaluation.months, "months")
    if len(learning_curve) > 1:
        pictures["learning_curve"] = draw_learning_curve(learning_curve, "learning")
    return {name: Markup(svg) for name, svg in pictures.items()}  # noqa: S704 -- drawn above from numbers


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "interval": _interval}
    return environment


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


def _interval(figure: Interval, digits: int = 1) -> str:
    return f"{figure.low:.{digits}%} to {figure.high:.{digits}%}"
