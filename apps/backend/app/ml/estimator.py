"""The model: what a description's wording says, weighed against how often its places were what before.

A score is a sum, and its parts are the reasons. Two readings of the wording are learnt (`wording`): one of the words
alone, one together with the account. Counts at the account, the merchant and the description (`evidence`) are not
learnt but known, and brought anew to every prediction. A pool (`mixing`) weighs them; a temperature and a threshold
(`calibration`) make a confidence of the score.

Time is cut in three: the wording is learnt from the first days, the pool from the next, calibration from the last, so
each is judged on what it had not seen. Before calibration the wording is learnt again from the first two, which makes
the model's twin, and after it from all three: what was found out about confidence is kept, and what words mean is
brought up to date.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from app.errors import InvalidInput
from app.ml.builtin_knowledge import builtin_categories
from app.ml.calibration import NEVER, TARGET_ERRORS, AutoApply, choose_auto_apply, fit_temperature
from app.ml.evidence import (
    KnownLabels,
    count_weights,
    day_numbers,
    gather_evidence,
    is_known_place,
    place_columns,
)
from app.ml.features import FEATURE_VERSION
from app.ml.mixing import Beliefs, PoolWeights, default_weights, fit_pool, pool_scores, reference_probabilities
from app.ml.softmax_regression import softmax
from app.ml.wording import Wording, fit_wording, read_wording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from app.ml.artefact import Artefact
    from app.ml.evidence import Evidence
    from app.ml.wording import WordingScores

RECIPE: Final = "wording-and-counts/2"

ESTIMATOR_SCHEMA: Final = pl.Schema(
    {
        "user_id": pl.Int64(),
        "account": pl.String(),
        "date": pl.Date(),
        "amount": pl.Decimal(18, 2),
        "merchant": pl.String(),
        "mcc": pl.String(),
        "channel": pl.String(),
        "norm_desc": pl.String(),
    }
)
"""What a prediction looks at; a labelled row has label and sample_weight as well."""

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
# Below this share of n-grams that were learnt from, a description at a place without labels is never applied.
LEAST_FAMILIARITY: Final = 0.5


@dataclass(frozen=True)
class CategoryModel:
    """What was learnt from the labels of one category set.

    Attributes:
        classes: The categories it was fitted on; their positions are the label ids.
        wording: What words say.
        pool: How much each source is worth.
        base_rates: How common the classes were, shape (classes,).
        temperature: What scores are divided by.
        threshold: Confidence from which on a suggestion may be applied without asking; `calibration.NEVER` for none.
        header: What describes it: recipe, input schema, libraries, settings.
    """

    classes: tuple[str, ...]
    wording: Wording
    pool: PoolWeights
    base_rates: NDArray[np.float64]
    temperature: float
    threshold: float
    header: Mapping[str, Any]

    @property
    def target_error(self) -> float:
        """What may be wrong of that which is applied without asking."""
        return float(self.header["settings"]["target_error"])

    @property
    def recipe(self) -> str:
        """The way it was made, by name and number."""
        return str(self.header["recipe"])


@dataclass(frozen=True)
class Scores:
    """What a model says of some rows.

    Attributes:
        beliefs: What went into the scores.
        scores: Shape (rows, labels).
        familiarity: Share of each description's long n-grams that occur in anything learnt from, shape (rows,).
        is_known_place: Whether any label is known of the row's merchant or description, shape (rows,).
    """

    beliefs: Beliefs
    scores: NDArray[np.float64]
    familiarity: NDArray[np.float32]
    is_known_place: NDArray[np.bool_]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of each label, shape (rows, labels)."""
        return softmax(self.scores)

    @property
    def is_familiar(self) -> NDArray[np.bool_]:
        """Whether a row is like anything seen; what is not is never applied without asking."""
        return self.is_known_place | (self.familiarity >= LEAST_FAMILIARITY)


def fit_model(
    rows: pl.DataFrame,
    *,
    seed: int = 0,
    horizon_months: int = 1,
    target_error: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> CategoryModel:
    """Learn from labelled rows.

    Args:
        rows: ESTIMATOR_SCHEMA with label and sample_weight, ordered by date; further columns are ignored.
        seed: Of everything that is drawn.
        horizon_months: For how long the model will predict without new labels. With 1, labels reach the counts month by
            month, as in the product; with more, the pool and the calibration are learnt with counts that stand still.
        target_error: Share of wrong ones that is tolerated among what is applied without asking; None: as strict as
            is of use, see `calibration.TARGET_ERRORS`.
        progress: Called with the number of steps done, and of how many.

    Raises:
        InvalidInput: There is too little to learn from.
    """
    return fit_with_twin(rows, seed=seed, horizon_months=horizon_months, target_error=target_error, progress=progress)[
        0
    ]


def fit_with_twin(
    rows: pl.DataFrame,
    *,
    seed: int = 0,
    horizon_months: int = 1,
    target_error: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[CategoryModel, CategoryModel]:
    """Learn as `fit_model` does, and return with the model its twin, whose wording ends where calibration began.

    What is known of the model's confidence was found with the twin, on days that it had not seen.
    """
    _require_enough(rows)
    tell = _steps(progress, 5)
    classes = tuple(sorted(rows["label"].unique()))
    known = known_labels(rows, classes)
    pool_from, calibration_from = _cuts(known.days)
    by_month = horizon_months == 1
    pool, temperature = default_weights(), 1.0
    auto_apply = AutoApply(TARGET_ERRORS[0] if target_error is None else target_error, NEVER)

    def moments(chosen: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        if by_month:
            # A month may begin before the cut; what came between was learnt from.
            return np.maximum(month_starts(known.days[chosen]), start)
        return np.full(chosen.size, start)

    for_pool = _sample(_between(known.days, pool_from, calibration_from), seed)
    if for_pool.size >= _FEWEST_ROWS_TO_JUDGE:
        wording = _fit_wording(known, len(classes), before=pool_from, seed=seed)
        tell()
        learning = _score(
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
        judged = _score(wording, base_rates, pool, known, known.places[held_out], moments(held_out, calibration_from))
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
    settings = {"seed": seed, "horizon_months": horizon_months, "target_error": auto_apply.target_error}
    header = _describe(classes, settings, rows) | {
        "temperature": temperature,
        "threshold": auto_apply.threshold,
        "calibrated_from": dt.date.fromordinal(_EPOCH + calibration_from).isoformat(),
    }
    twin = CategoryModel(classes, wording, pool, base_rates, temperature, auto_apply.threshold, header)
    if not held_out.size:
        tell()
        return twin, twin
    end = int(known.days.max()) + 1
    wording = _fit_wording(known, len(classes), before=end, seed=seed)
    tell()
    return replace(twin, wording=wording, base_rates=_base_rates(known, len(classes), end)), twin


def calibration_start(model: CategoryModel) -> dt.date:
    """Return the day from which on no label taught the twin's wording, or the pool."""
    return dt.date.fromisoformat(model.header["calibrated_from"])


def score_places(model: CategoryModel, places: pl.DataFrame, known: KnownLabels, as_of: NDArray[np.int64]) -> Scores:
    """Score every label at some places.

    Args:
        model: What was learnt.
        places: Of the rows, as `places_of` gives them; rows of one place at one moment are scored alike.
        known: Labels that may be known, as `known_labels` gives them for `labels_of`.
        as_of: For each row the day before which they are, as `evidence.day_numbers` counts.
    """
    scored = _score(model.wording, model.base_rates, model.pool, known, places, as_of)
    return replace(scored, scores=scored.scores / model.temperature)


def labels_of(model: CategoryModel, known: pl.DataFrame) -> tuple[str, ...]:
    """Return the model's classes and, after them, the labels that have come into use since."""
    return (*model.classes, *sorted(set(known["label"].unique()) - set(model.classes)))


def places_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Say where rows are: all that a model looks at.

    Args:
        rows: ESTIMATOR_SCHEMA.
    """
    return place_columns(rows.with_columns(builtin_categories(rows).alias("builtin")))


def known_labels(rows: pl.DataFrame, labels: Sequence[str]) -> KnownLabels:
    """Bring labelled rows to what counts are made of.

    Args:
        rows: ESTIMATOR_SCHEMA with label and sample_weight.
        labels: All labels that occur, in the order of their indices.
    """
    index = {label: position for position, label in enumerate(labels)}
    return KnownLabels(
        places=places_of(rows),
        days=day_numbers(rows["date"]),
        labels=rows["label"].replace_strict(index, return_dtype=pl.Int64).to_numpy(),
        counts=count_weights(rows["sample_weight"]),
        label_count=len(labels),
    )


def month_starts(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the first day of each day's month."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def model_to_artefact(model: CategoryModel) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Take a model apart into plain arrays and what describes it."""
    wording = model.wording
    arrays: dict[str, NDArray[Any]] = {
        "wording.columns": wording.columns,
        "wording.idf": wording.idf,
        "wording.fingerprints": wording.fingerprints,
        "wording.alone": wording.alone.astype(np.float16),
        "wording.alone_bias": wording.alone_bias,
        "wording.crossed_columns": wording.crossed_columns,
        "wording.on_account": wording.on_account.astype(np.float16),
        "wording.on_account_bias": wording.on_account_bias,
        "pool.parts": model.pool.parts,
        "pool.evidence": model.pool.evidence,
        "base_rates": model.base_rates,
    }
    return arrays, {**model.header, "rarest_idf": wording.rarest_idf}


def model_from_artefact(artefact: Artefact) -> CategoryModel:
    """Put a model together again.

    Args:
        artefact: As `artefact.read_artefact` opened it, so it is whole and nobody else's.

    Raises:
        InvalidInput: It was made by a recipe, or from features, that this version does not know.
    """
    arrays, header = artefact.arrays, dict(artefact.header)
    if header["recipe"] != RECIPE or header["feature_version"] != FEATURE_VERSION:
        raise InvalidInput(
            f"The model was made by the recipe {header['recipe']!r} from features of version "
            f"{header['feature_version']}; this version of Ledgermill uses {RECIPE!r} and {FEATURE_VERSION}. Train a "
            "new one: lm train."
        )
    wording = Wording(
        columns=arrays["wording.columns"],
        idf=arrays["wording.idf"],
        rarest_idf=float(header.pop("rarest_idf")),
        fingerprints=arrays["wording.fingerprints"],
        alone=arrays["wording.alone"].astype(np.float32),
        alone_bias=arrays["wording.alone_bias"],
        crossed_columns=arrays["wording.crossed_columns"],
        on_account=arrays["wording.on_account"].astype(np.float32),
        on_account_bias=arrays["wording.on_account_bias"],
    )
    return CategoryModel(
        classes=tuple(header["classes"]),
        wording=wording,
        pool=PoolWeights(arrays["pool.parts"], arrays["pool.evidence"]),
        base_rates=arrays["base_rates"],
        temperature=float(header["temperature"]),
        threshold=float(header["threshold"]),
        header=header,
    )


def _score(
    wording: Wording,
    base_rates: NDArray[np.float64],
    pool: PoolWeights,
    known: KnownLabels,
    places: pl.DataFrame,
    as_of: NDArray[np.int64],
) -> Scores:
    """Score rows before any temperature."""
    evidence = gather_evidence(places, as_of, known)
    return weigh_readings(read_wording(wording, places), evidence, base_rates, pool, known.label_count)


def weigh_readings(
    read: WordingScores, evidence: Evidence, base_rates: NDArray[np.float64], pool: PoolWeights, label_count: int
) -> Scores:
    """Weigh what the wording says of rows against their counts, before any temperature.

    Labels that the wording does not know start where the unlikeliest stands.

    Args:
        read: Of the rows.
        evidence: Of the rows.
        base_rates: How common the classes were, shape (classes,).
        pool: How much each source is worth.
        label_count: How many labels there are, the classes first.
    """
    new_labels = label_count - base_rates.size
    alone, on_account = (_centred(part, new_labels) for part in (read.alone, read.on_account))
    if new_labels:
        base_rates = np.append(base_rates, np.full(new_labels, base_rates.min()))
        base_rates /= base_rates.sum()
    beliefs = Beliefs(
        parts=np.stack([alone, on_account, np.broadcast_to(np.log(base_rates), alone.shape)]),
        evidence=evidence,
        references=reference_probabilities(alone, on_account, base_rates),
        base_rates=base_rates,
    )
    return Scores(beliefs, pool_scores(beliefs, pool), read.familiarity, is_known_place(evidence, alone.shape[0]))


def _centred(scores: NDArray[np.float32], new_labels: int) -> NDArray[np.float64]:
    centred = scores.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    if not new_labels:
        return centred
    return np.hstack([centred, np.repeat(centred.min(axis=1, keepdims=True), new_labels, axis=1)])


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
