"""How a model is learnt: what words say, what each source is worth, and how sure it may be.

Time is cut in three: the wording is learnt from the first days, the pool from the next, calibration from the last, so
each is judged on what it had not seen. Before calibration the wording is learnt again from the first two, which makes
the model's draft, and after it from all three: what was found out about confidence is kept, and what words mean is
brought up to date. What comes of it is a `category_model.CategoryModel`.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from app.errors import InvalidInput
from app.ml.calibration import NEVER, TARGET_ERRORS, AutoApply, choose_auto_apply, fit_temperature
from app.ml.category_model import ESTIMATOR_SCHEMA, RECIPE, CategoryModel, known_labels, score_unscaled
from app.ml.evidence import month_starts
from app.ml.features import FEATURE_VERSION
from app.ml.mixing import default_weights, fit_pool
from app.ml.softmax_regression import softmax
from app.ml.wording import fit_wording

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

    from app.ml.evidence import KnownLabels
    from app.ml.wording import Wording

FEWEST_ROWS: Final = 20
FEWEST_CLASSES: Final = 2

# Shares of the rows that the pool and the calibration get.
_POOL_SHARE: Final = 0.3
_CALIBRATION_SHARE: Final = 0.1
_FEWEST_ROWS_TO_JUDGE: Final = 100
_MOST_POOL_ROWS: Final = 12_000
# Days after which a label teaches the wording half as much.
_WORDING_HALF_LIFE: Final = 730.0
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


def fit_model(
    rows: pl.DataFrame,
    *,
    seed: int = 0,
    labels_arrive: bool = True,
    target_error: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> CategoryModel:
    """Learn from labelled rows.

    Args:
        rows: ESTIMATOR_SCHEMA with label and sample_weight, ordered by date; further columns are ignored.
        seed: Of everything that is drawn.
        labels_arrive: Whether the model will be told new labels month by month, as in the product. If not, the pool and
            the calibration are learnt with counts that stand still.
        target_error: Share of wrong ones that is tolerated among what is applied without asking; None: as strict as
            is of use, see `calibration.TARGET_ERRORS`.
        progress: Called with the number of steps done, and of how many.

    Raises:
        InvalidInput: There is too little to learn from.
    """
    model, _ = fit_with_draft(
        rows, seed=seed, labels_arrive=labels_arrive, target_error=target_error, progress=progress
    )
    return model


def fit_with_draft(
    rows: pl.DataFrame,
    *,
    seed: int = 0,
    labels_arrive: bool = True,
    target_error: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[CategoryModel, CategoryModel]:
    """Learn as `fit_model` does, and return with the model its draft, whose wording ends where calibration began.

    What is known of the model's confidence was found with the draft, on days that it had not seen.
    """
    _require_enough(rows)
    tell = _steps(progress, 5)
    classes = tuple(sorted(rows["label"].unique()))
    known = known_labels(rows, classes)
    pool_from, calibration_from = _cuts(known.days)
    pool, temperature = default_weights(), 1.0
    auto_apply = AutoApply(TARGET_ERRORS[0] if target_error is None else target_error, NEVER)

    def moments(chosen: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        if labels_arrive:
            # A month may begin before the cut; what came between was learnt from.
            return np.maximum(month_starts(known.days[chosen]), start)
        return np.full(chosen.size, start)

    for_pool = _sample(_between(known.days, pool_from, calibration_from), seed)
    if for_pool.size >= _FEWEST_ROWS_TO_JUDGE:
        wording = _fit_wording(known, len(classes), before=pool_from, seed=seed)
        tell()
        learning = score_unscaled(
            wording,
            _base_rates(known, len(classes), pool_from),
            pool,
            known,
            known.places[for_pool],
            moments(for_pool, pool_from),
        )
        importance = known.counts[for_pool] / known.counts[for_pool].mean()
        pool = fit_pool(learning.beliefs, known.labels[for_pool], importance)
    else:
        tell()
    tell()
    wording = _fit_wording(known, len(classes), before=calibration_from, seed=seed)
    tell()
    base_rates = _base_rates(known, len(classes), calibration_from)
    held_out = _between(known.days, calibration_from, None)
    if held_out.size >= _FEWEST_ROWS_TO_JUDGE:
        judged = score_unscaled(
            wording, base_rates, pool, known, known.places[held_out], moments(held_out, calibration_from)
        )
        truth = known.labels[held_out]
        temperature = fit_temperature(judged.scores, truth)
        probabilities = softmax(judged.scores / temperature)
        auto_apply = choose_auto_apply(
            probabilities.max(axis=1),
            probabilities.argmax(axis=1) == truth,
            month_starts(known.days[held_out]),
            judged.is_familiar,
            target_error,
        )
    tell()
    settings = {"seed": seed, "labels_arrive": labels_arrive, "target_error": auto_apply.target_error}
    header = _describe(classes, settings, rows) | {
        "temperature": temperature,
        "threshold": auto_apply.threshold,
        "calibrated_from": dt.date.fromordinal(_EPOCH + calibration_from).isoformat(),
    }
    draft = CategoryModel(classes, wording, pool, base_rates, temperature, auto_apply.threshold, header)
    if not held_out.size:
        tell()
        return draft, draft
    end = int(known.days.max()) + 1
    wording = _fit_wording(known, len(classes), before=end, seed=seed)
    tell()
    return replace(draft, wording=wording, base_rates=_base_rates(known, len(classes), end)), draft


def calibration_start(model: CategoryModel) -> dt.date:
    """Return the day from which on no label taught the draft's wording, or the pool."""
    return dt.date.fromisoformat(model.header["calibrated_from"])


def _fit_wording(known: KnownLabels, classes: int, *, before: int, seed: int) -> Wording:
    chosen = _between(known.days, None, before)
    age = before - known.days[chosen]
    weights = known.counts[chosen] * 0.5 ** (age / _WORDING_HALF_LIFE)
    return fit_wording(known.places[chosen], known.labels[chosen], weights, classes, seed=seed)


def _base_rates(known: KnownLabels, classes: int, before: int) -> NDArray[np.float64]:
    chosen = known.days < before
    counts = np.bincount(known.labels[chosen], known.counts[chosen], minlength=classes) + 0.5
    return counts / counts.sum()  # type: ignore[no-any-return]


def _cuts(days: NDArray[np.int64]) -> tuple[int, int]:
    """Say from which day on rows are for the pool, and from which on for calibration: whole months in a long ledger."""
    ordered = np.sort(days)
    cuts = [
        int(ordered[int((1 - share) * ordered.size)])
        for share in (_POOL_SHARE + _CALIBRATION_SHARE, _CALIBRATION_SHARE)
    ]
    months = month_starts(np.array(cuts))
    if ordered[0] < months[0] < months[1]:
        cuts = [int(month) for month in months]
    if not ordered[0] < cuts[0] < cuts[1]:
        end = int(ordered[-1]) + 1
        return end, end
    return cuts[0], cuts[1]


def _between(days: NDArray[np.int64], start: int | None, end: int | None) -> NDArray[np.int64]:
    chosen = np.ones(days.size, dtype=bool)
    if start is not None:
        chosen &= days >= start
    if end is not None:
        chosen &= days < end
    return np.flatnonzero(chosen)


def _sample(chosen: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if chosen.size <= _MOST_POOL_ROWS:
        return chosen
    return np.sort(np.random.default_rng(seed).choice(chosen, _MOST_POOL_ROWS, replace=False))


def _require_enough(rows: pl.DataFrame) -> None:
    classes = rows["label"].n_unique()
    if rows.height < FEWEST_ROWS or classes < FEWEST_CLASSES:
        raise InvalidInput(
            f"It takes at least {FEWEST_ROWS} labels of {FEWEST_CLASSES} categories to train; there are "
            f"{rows.height:,} of {classes:,}. Label more transactions, or ingest a file that has categories."
        )


def _describe(classes: tuple[str, ...], settings: dict[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "recipe": RECIPE,
        "classes": list(classes),
        "input_schema": {name: str(dtype) for name, dtype in ESTIMATOR_SCHEMA.items()},
        "feature_version": FEATURE_VERSION,
        "libraries": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "polars", "safetensors", "scipy")},
        },
        "settings": settings,
        "rows": rows.height,
        "first_date": str(rows["date"].min()),
        "last_date": str(rows["date"].max()),
    }


def _steps(progress: Callable[[int, int | None], None] | None, total: int) -> Callable[[], None]:
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return tell
