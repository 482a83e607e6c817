"""The pool: its arithmetic, its gradient, and what it learns to believe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from app.ml import mixing
from app.ml.evidence import PARAMETERS, SLOTS, Evidence, evidence_values
from app.ml.mixing import (
    DEFAULT_PARTS,
    PARTS,
    STARTING_EVIDENCE,
    Beliefs,
    PoolWeights,
    default_weights,
    fit_pool,
    pool_scores,
    reference_probabilities,
)
from app.ml.softmax_regression import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

CATEGORIES = 4
TRUE_WORDING, FALSE_WORDING = 0, 1
START = np.concatenate([DEFAULT_PARTS, np.full(PARAMETERS, STARTING_EVIDENCE)])


def beliefs_about(rows: int, *, seed: int = 0) -> tuple[Beliefs, NDArray[np.int64]]:
    """Invent beliefs of which the first reading is right, the second noise, and the counts often right."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, CATEGORIES, rows)
    right = draw.normal(size=(rows, CATEGORIES)) + 2 * np.eye(CATEGORIES)[truth]
    noise = draw.normal(size=(rows, CATEGORIES))
    base_rates = np.full(CATEGORIES, 1 / CATEGORIES)
    slot = np.sort(draw.integers(0, len(SLOTS), 3 * rows))
    row = draw.integers(0, rows, 3 * rows)
    label = np.where(draw.random(3 * rows) < 0.7, truth[row], draw.integers(0, CATEGORIES, 3 * rows))
    even = np.broadcast_to(np.log(base_rates), right.shape)
    parts = np.stack([right, noise, draw.normal(size=right.shape), even]).astype(np.float32)
    evidence = Evidence(row, slot, label, draw.exponential(4, 3 * rows))
    return Beliefs(parts, evidence, reference_probabilities(right, noise, base_rates), base_rates), truth


def loss_of(
    beliefs: Beliefs, truth: NDArray[np.int64], importance: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, PoolWeights]:
    """Return the function that is minimised, which gives loss and gradient, and where it was found least."""
    seen = []

    def watch(function: Any, *args: Any, **options: Any) -> Any:
        seen.append(function)
        return minimize(function, *args, **options)

    monkeypatch.setattr(mixing, "minimize", watch)
    fitted = fit_pool(beliefs, truth, importance)
    return seen[0], fitted


def test_scores_are_the_weighted_sum_of_all_that_is_believed() -> None:
    beliefs, _ = beliefs_about(20)
    draw = np.random.default_rng(1)
    weights = PoolWeights(draw.normal(size=len(PARTS)), draw.normal(size=PARAMETERS))
    expected = sum(weight * part for weight, part in zip(weights.parts, beliefs.parts, strict=True))
    entry, parameter, value = evidence_values(beliefs.evidence, beliefs.references, beliefs.base_rates)
    for piece in range(value.size):
        cell = beliefs.evidence.row[entry[piece]], beliefs.evidence.label[entry[piece]]
        expected[cell] += weights.evidence[parameter[piece]] * value[piece]
    assert pool_scores(beliefs, weights) == pytest.approx(expected)


def test_the_gradient_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    beliefs, truth = beliefs_about(30)
    importance = np.random.default_rng(2).uniform(0.2, 2, 30)
    function, _ = loss_of(beliefs, truth, importance, monkeypatch)
    at = np.random.default_rng(3).normal(0, 0.3, START.size)
    size = np.linalg.norm(function(at)[1])
    assert check_grad(lambda weights: function(weights)[0], lambda weights: function(weights)[1], at) < 1e-5 * size


def test_the_loss_is_the_likelihood_of_the_labels_by_importance_and_the_pull_to_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beliefs, truth = beliefs_about(30)
    importance = np.random.default_rng(2).uniform(0.2, 2, 30)
    function, _ = loss_of(beliefs, truth, importance, monkeypatch)
    weights = START + 0.1
    scores = pool_scores(beliefs, PoolWeights(weights[: len(PARTS)], weights[len(PARTS) :]))
    likelihood = np.log(softmax(scores)[np.arange(30), truth])
    expected = -(importance * likelihood).sum() + 100 * (0.1**2 * START.size) / 2
    assert function(weights)[0] == pytest.approx(expected)


def test_what_is_found_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    beliefs, truth = beliefs_about(500)
    function, fitted = loss_of(beliefs, truth, np.ones(500), monkeypatch)
    found = np.concatenate([fitted.parts, fitted.evidence])
    gradient = function(found)[1]
    # Counts are held at nothing where the loss would still fall below it.
    is_held = np.concatenate([np.zeros(len(PARTS), dtype=bool), fitted.evidence == 0])
    assert np.linalg.norm(gradient[~is_held]) < 1e-2 * np.linalg.norm(function(START)[1])
    assert gradient[is_held].min(initial=0) >= 0
    assert function(found)[0] < function(START)[0]


def test_a_source_that_is_right_is_believed_and_one_that_is_noise_is_not() -> None:
    beliefs, truth = beliefs_about(4_000)
    fitted = fit_pool(beliefs, truth, np.ones(4_000))
    assert fitted.parts[TRUE_WORDING] > 1.2
    assert abs(fitted.parts[FALSE_WORDING]) < 0.3
    before, after = (
        (pool_scores(beliefs, weights).argmax(axis=1) == truth).mean() for weights in (default_weights(), fitted)
    )
    assert after > before


def test_no_count_speaks_against_its_own_category() -> None:
    beliefs, truth = beliefs_about(2_000)
    wrong = (truth[beliefs.evidence.row] + 1) % CATEGORIES
    contrary = replace(beliefs, evidence=replace(beliefs.evidence, label=wrong))
    assert fit_pool(contrary, truth, np.ones(2_000)).evidence.min() == 0
    assert fit_pool(beliefs, truth, np.ones(2_000)).evidence.min() > 0


def test_few_rows_move_the_weights_little() -> None:
    few, many = (
        np.abs(fit_pool(*beliefs_about(rows), np.ones(rows)).parts - DEFAULT_PARTS).max() for rows in (5, 4_000)
    )
    assert few < 0.05 < many


def test_references_leave_something_to_every_category() -> None:
    certain = np.array([[50.0, 0.0, 0.0]])
    base_rates = np.array([0.2, 0.3, 0.5])
    references = reference_probabilities(certain, certain, base_rates)
    assert references.sum() == pytest.approx(1)
    assert references[0] == pytest.approx([0.92, 0.03, 0.05])
