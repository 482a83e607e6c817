"""A trained model: what is kept of it, how it comes out of a file, and how it scores.

A score is a sum, and its parts are the reasons: what the description's wording says, read in three ways (`wording`),
and how often its places were what before (`evidence`). Counts are not learnt but known, and brought anew to every
prediction. A pool (`mixing`) weighs them all; a temperature and a threshold (`calibration`) make a confidence of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from app.errors import InvalidInput
from app.ml.associations import Associations
from app.ml.builtin_knowledge import builtin_categories
from app.ml.evidence import (
    NO_EVIDENCE,
    KnownLabels,
    count_weights,
    day_numbers,
    gather_evidence,
    is_known_place,
    place_columns,
)
from app.ml.features import FEATURE_VERSION
from app.ml.mixing import PARTS, Beliefs, PoolWeights, add_counts, pool_parts, reference_probabilities
from app.ml.softmax_regression import softmax
from app.ml.wording import Wording, read_wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from app.ml.artefact import Artefact
    from app.ml.evidence import Evidence
    from app.ml.wording import WordingScores

RECIPE: Final = "wording-and-counts/3"

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


@dataclass(frozen=True)
class WeighedWording:
    """What a model says of some rows before anything is counted.

    Attributes:
        beliefs: What went into the scores, without evidence.
        scores: Before any temperature, shape (rows, labels).
        familiarity: As of `Scores`.
    """

    beliefs: Beliefs
    scores: NDArray[np.float64]
    familiarity: NDArray[np.float32]


def score_places(model: CategoryModel, places: pl.DataFrame, known: KnownLabels, as_of: NDArray[np.int64]) -> Scores:
    """Score every label at some places.

    Args:
        model: What was learnt.
        places: Of the rows, as `places_of` gives them; rows of one place at one moment are scored alike.
        known: Labels that may be known, as `known_labels` gives them for `labels_of`.
        as_of: For each row the day before which they are, as `evidence.day_numbers` counts.
    """
    scored = score_unscaled(model.wording, model.base_rates, model.pool, known, places, as_of)
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
        "wording.associations.fingerprints": wording.associations.fingerprints,
        "wording.associations.starts": wording.associations.starts,
        "wording.associations.labels": wording.associations.labels,
        "wording.associations.gains": wording.associations.gains.astype(np.float16),
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
    recipe, features = header.get("recipe"), header.get("feature_version")
    if recipe != RECIPE or features != FEATURE_VERSION:
        raise InvalidInput(
            f"The model was made by the recipe {recipe!r} from features of version {features}; this version of "
            f"Ledgermill uses {RECIPE!r} and {FEATURE_VERSION}. Train a new one: lm train."
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
        associations=Associations(
            fingerprints=arrays["wording.associations.fingerprints"],
            starts=arrays["wording.associations.starts"],
            labels=arrays["wording.associations.labels"],
            gains=arrays["wording.associations.gains"].astype(np.float32),
        ),
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


def score_unscaled(
    wording: Wording,
    base_rates: NDArray[np.float64],
    pool: PoolWeights,
    known: KnownLabels,
    places: pl.DataFrame,
    as_of: NDArray[np.int64],
) -> Scores:
    """Score rows before any temperature, by a model that is not whole yet.

    Args:
        wording: What words say.
        base_rates: How common the classes were, shape (classes,).
        pool: How much each source is worth.
        known: As for `score_places`.
        places: The same.
        as_of: The same.
    """
    wording_s = weigh_wording(read_wording(wording, places), base_rates, pool, known.label_count)
    return weigh_counts(wording_s, gather_evidence(places, as_of, known), pool)


def weigh_wording(
    read: WordingScores, base_rates: NDArray[np.float64], pool: PoolWeights, label_count: int
) -> WeighedWording:
    """Weigh what the wording says of rows.

    Labels that the wording does not know start where the unlikeliest stands.

    Args:
        read: Of the rows.
        base_rates: How common the classes were, shape (classes,).
        pool: How much each source is worth.
        label_count: How many labels there are, the classes first.
    """
    new_labels = label_count - base_rates.size
    readings = (read.alone, read.on_account, read.associated)
    alone, on_account, associated = (_centred(part, new_labels) for part in readings)
    if new_labels:
        base_rates = np.append(base_rates, np.full(new_labels, base_rates.min()))
        base_rates /= base_rates.sum()
    parts = np.empty((len(PARTS), *alone.shape), dtype=np.float32)
    for part, said in zip(parts, (alone, on_account, associated, np.log(base_rates)), strict=True):
        part[:] = said
    beliefs = Beliefs(
        parts=parts,
        evidence=NO_EVIDENCE,
        references=reference_probabilities(alone, on_account, base_rates),
        base_rates=base_rates,
    )
    return WeighedWording(beliefs, pool_parts(parts, pool), read.familiarity)


def weigh_counts(wording: WeighedWording, evidence: Evidence, pool: PoolWeights) -> Scores:
    """Weigh what the wording says of rows against their counts, before any temperature.

    Args:
        wording: Of the rows.
        evidence: Of the rows.
        pool: How much each source is worth.
    """
    beliefs = replace(wording.beliefs, evidence=evidence)
    scores = add_counts(wording.scores, beliefs, pool)
    return Scores(beliefs, scores, wording.familiarity, is_known_place(evidence, scores.shape[0]))


def _centred(scores: NDArray[np.float32], new_labels: int) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = scores - scores.max(axis=1, keepdims=True)
    if not new_labels:
        return centred
    return np.hstack([centred, np.repeat(centred.min(axis=1, keepdims=True), new_labels, axis=1)])
