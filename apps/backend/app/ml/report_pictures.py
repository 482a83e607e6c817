"""The pictures of a report, as SVG that stands inside a page.

Nothing that a user wrote is drawn, only figures and months: fonts lack letters, and text would be read as formulae.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

    from app.ml.bootstrap import Interval
    from app.ml.evaluation import AutoApplyScores, CalibrationBin, MonthScores, RiskPoint
    from app.ml.learning_curve import LearningPoint

INK: Final = "#1f2933"
MUTED: Final = "#8795a1"
BLUE: Final = "#1f5fa8"
# Blue and orange are told apart by those who cannot tell red from green.
ORANGE: Final = "#d9730d"
_PALE: Final = "#b9cfe8"
_WIDTH: Final = 7.2  # inches

_STYLE: Final[dict[RcKeyType, Any]] = {
    "svg.fonttype": "path",  # letters as outlines look the same wherever the page is opened
    "svg.hashsalt": "report",  # the same ids, and so the same bytes, for the same figures
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
_MOST_MONTH_TICKS: Final = 12


def draw_reliability(bins: Sequence[CalibrationBin], name: str) -> str:
    """Draw how often predictions of each confidence are right.

    Args:
        bins: At least one.
        name: Of the picture in its page: its ids begin with it.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(4.2)
        least = min(0.5, *(each.accuracy.low for each in bins), *(each.confidence for each in bins))
        low = np.floor(least * 10) / 10
        axes.plot([low, 1], [low, 1], color=MUTED, linestyle="--", linewidth=1, label="as sure as it is right")
        _draw_intervals(axes, [each.confidence for each in bins], [each.accuracy for each in bins], marker="o")
        axes.set(xlabel="how sure it was", ylabel="how often it was right", xlim=(low, 1.01), ylim=(low, 1.01))
        _percent_axes(axes, "xy")
        axes.legend(loc="upper left")
        return _svg(figure, name)


def draw_risk_coverage(curve: Sequence[RiskPoint], applied: AutoApplyScores, name: str) -> str:
    """Draw the error against the share that is answered, with what would be applied.

    Args:
        curve: From the surest rows to all.
        applied: Of the same rows.
        name: Of the picture in its page.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.6)
        # Among the first few rows one mistake is a large share; the curve begins where shares mean something.
        drawn = [point for point in curve if point.coverage >= 0.02] or list(curve)  # noqa: PLR2004 -- a share
        axes.plot([point.coverage for point in drawn], [point.error for point in drawn], color=BLUE, linewidth=2)
        axes.axhline(applied.target_error, color=MUTED, linestyle="--", linewidth=1, label="may be wrong at the most")
        if applied.error is not None:
            reach = _reach([applied.error])
            axes.errorbar(
                applied.coverage.value,
                applied.error.value,
                yerr=reach,
                color=ORANGE,
                marker="D",
                markersize=7,
                capsize=3,
                linestyle="none",
                label="applied by itself",
                zorder=3,
            )
        axes.set(xlabel="share answered, the surest first", ylabel="share of those that is wrong", xlim=(0, 1.01))
        axes.set_ylim(bottom=0)
        _percent_axes(axes, "xy")
        # Above the picture: within it the legend would hide the line of what may be wrong.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return _svg(figure, name)


def draw_months(months: Sequence[MonthScores], name: str) -> str:
    """Draw accuracy by month, and below it how much was new and how much would be applied.

    Args:
        months: In order, at least one.
        name: Of the picture in its page.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        places = list(range(len(months)))
        _draw_intervals(above, places, [month.accuracy for month in months], marker="o", line="-")
        above.set(ylabel="right")
        below.bar(places, [month.unseen_share for month in months], color=_PALE, width=0.6, label="new descriptions")
        coverage = [month.coverage for month in months]
        below.plot(places, coverage, color=ORANGE, marker="D", markersize=4, label="applied by itself")
        below.set(ylim=(0, 1.05), ylabel="share")
        figure.legend(loc="outside lower center", ncols=2)
        step = -(-len(months) // _MOST_MONTH_TICKS)
        below.set_xticks(places[::step], [month.month for month in months[::step]], rotation=30, ha="right")
        for axes in (above, below):
            axes.grid(visible=False, axis="x")
            _percent_axes(axes, "y")
        above.yaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, name)


def draw_learning_curve(points: Sequence[LearningPoint], name: str) -> str:
    """Draw accuracy and macro-F1 against the number of labels, which doubles from tick to tick.

    Args:
        points: In order, at least one.
        name: Of the picture in its page.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.4)
        labels = [point.labels for point in points]
        axes.plot(labels, [point.accuracy for point in points], color=BLUE, marker="o", label="right")
        axes.plot(
            labels, [point.f1_macro for point in points], color=ORANGE, marker="D", markersize=5, label="macro F1"
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks(labels, minor=False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(axis="x", rotation=30)
        axes.set(xlabel="labels learnt from", ylim=(0, 1.02))
        _percent_axes(axes, "y")
        axes.legend(loc="lower right")
        return _svg(figure, name)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _draw_intervals(
    axes: Axes, places: Sequence[float], shares: Sequence[Interval], *, marker: str, line: str = "none"
) -> None:
    axes.errorbar(
        places,
        [share.value for share in shares],
        yerr=_reach(shares),
        color=BLUE,
        ecolor=_PALE,
        elinewidth=2.5,
        marker=marker,
        markersize=5,
        linestyle=line,
    )


def _reach(shares: Sequence[Interval]) -> list[list[float]]:
    """Say how far the bounds lie below and above the shares."""
    below = [max(0.0, share.value - share.low) for share in shares]
    return [below, [max(0.0, share.high - share.value) for share in shares]]


def _percent_axes(axes: Axes, which: str) -> None:
    for axis in which:
        getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))


def _svg(figure: Figure, name: str) -> str:
    """Write a figure as one `svg` element that may stand beside others and grows and shrinks with its page."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()
    svg = re.sub(r"<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        r'<svg \1 xmlns="http://www.w3.org/2000/svg" '
        r'xmlns:xlink="http://www.w3.org/1999/xlink" aria-hidden="true">',
        svg,
        count=1,
    )
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
