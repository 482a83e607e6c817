"""What words say: learnt from distinct strings, the same bits from the same input."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from app.ml.ngrams import ngram_matrix
from app.ml.softmax_regression import fit_softmax, softmax
from app.ml.wording import Wording, crossed_features, fit_wording, raise_rare_classes, read_wording

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROCERIES, FUEL, TRAVEL = range(3)
SHOPS = {"aldi": GROCERIES, "lidl": GROCERIES, "shell": FUEL, "esso petrol": FUEL, "ryanair": TRAVEL, "hotel": TRAVEL}
TOWNS = ("leeds", "york", "hull", "ripon")


def places(*rows: tuple[str, str], user_id: int = 1) -> pl.DataFrame:
    """Give places of account and description."""
    return pl.DataFrame(
        {"user_id": user_id, "account": [row[0] for row in rows], "norm_desc": [row[1] for row in rows]},
        schema={"user_id": pl.Int64, "account": pl.String, "norm_desc": pl.String},
    )


PLACES = places(*((account, f"{shop} {town}") for account in ("card", "joint") for shop in SHOPS for town in TOWNS))
LABELS = np.array([label for _ in ("card", "joint") for label in SHOPS.values() for _ in TOWNS])


def fit(rows: pl.DataFrame = PLACES, labels: NDArray[np.int64] = LABELS, *, seed: int = 0) -> Wording:
    return fit_wording(rows, labels, np.ones(labels.size), 3, seed=seed)


@pytest.fixture(scope="module")
def wording() -> Wording:
    return fit()


def same(one: Wording, other: Wording) -> bool:
    return all(np.array_equal(first, second) for first, second in zip(values(one), values(other), strict=True))


def values(part: Any) -> list[Any]:
    """Return all arrays and numbers of a wording, those of its parts too."""
    if not dataclasses.is_dataclass(part):
        return [part]
    return [value for field in dataclasses.fields(part) for value in values(getattr(part, field.name))]


def test_words_are_recognised_in_towns_and_on_accounts_that_they_were_never_seen_in(wording: Wording) -> None:
    read = read_wording(wording, places(*(("savings", f"{shop} bath") for shop in SHOPS)))
    assert read.alone.argmax(axis=1).tolist() == list(SHOPS.values())
    assert read.on_account.argmax(axis=1).tolist() == list(SHOPS.values())
    assert read.associated.argmax(axis=1).tolist() == list(SHOPS.values())


def test_the_second_reading_knows_who_calls_what_how() -> None:
    shops = [f"{shop} {town}" for shop in ("corner", "market") for town in TOWNS]
    rows = places(*(("card", shop) for shop in shops), *(("joint", shop) for shop in shops))
    wording = fit(rows, np.repeat([GROCERIES, TRAVEL], len(shops)))
    read = read_wording(wording, places(("card", "corner bath"), ("joint", "corner bath")))
    assert read.on_account.argmax(axis=1).tolist() == [GROCERIES, TRAVEL]
    assert np.array_equal(read.alone[0], read.alone[1])


def test_what_a_row_scores_does_not_depend_on_the_rows_beside_it(wording: Wording) -> None:
    asked = places(("card", "shell leeds"), ("", ""), ("joint", "zzqx"), ("card", "shell leeds"), ("card", "東京 🙂"))
    together = read_wording(wording, asked)
    for number in range(asked.height):
        alone = read_wording(wording, asked[number : number + 1])
        assert np.array_equal(together.alone[number], alone.alone[0])
        assert np.array_equal(together.on_account[number], alone.on_account[0])
        assert np.array_equal(together.associated[number], alone.associated[0])
        assert together.familiarity[number] == alone.familiarity[0]


def test_the_same_rows_in_any_order_and_the_same_seed_give_the_same_bits(wording: Wording) -> None:
    order = list(range(PLACES.height))
    random.Random(1).shuffle(order)  # noqa: S311 -- any order will do
    assert same(wording, fit())
    assert same(wording, fit(PLACES[order], LABELS[order]))
    assert not same(wording, fit(seed=1))


def test_a_description_that_occurs_often_is_one_string_whose_importance_grows_with_the_root() -> None:
    often = pl.concat([PLACES[:1]] * 100)
    counted = fit_wording(PLACES[:1], LABELS[:1], np.array([100.0]), 3, seed=0)
    assert same(fit_wording(often, np.repeat(LABELS[:1], 100), np.ones(100), 3, seed=0), counted)
    # Without n-grams in common only the bias is left, which begins at the logarithm of the importance.
    apart = fit_wording(
        places(("card", "qq"), ("card", "ww")), np.array([GROCERIES, FUEL]), np.array([1e4, 1.0]), 3, seed=0
    )
    assert apart.columns.size < 3
    assert 3 < apart.alone_bias[GROCERIES] - apart.alone_bias[FUEL] < 5


def test_labels_of_rare_classes_count_more_by_how_rare_they_are() -> None:
    shares = np.array([[1, 0], [1, 0], [1, 0], [0.5, 0.5]], dtype=np.float32)
    importance = np.array([4.0, 2.0, 1.0, 2.0])
    raised, weighed = raise_rare_classes(shares, importance)
    # Nine labels of one class and two of the other, with the one that each is given.
    common, rare = (9 / 5.5) ** -0.3, (2 / 5.5) ** -0.3
    assert weighed == pytest.approx([4 * common, 2 * common, common, common + rare])
    assert raised.sum(axis=1) == pytest.approx(1)
    assert raised[3] == pytest.approx([common / (common + rare), rare / (common + rare)])


def test_ngrams_of_one_description_alone_are_left_out(wording: Wording) -> None:
    rows = pl.concat([PLACES, places(("card", "qqqq"), ("joint", "qqqq"))])
    learnt = fit(rows, np.append(LABELS, [TRAVEL, TRAVEL]))
    only_there = set(ngram_matrix(["qqqq"]).indices) - set(ngram_matrix(PLACES["norm_desc"].to_list()).indices)
    assert only_there
    assert not only_there & set(learnt.columns.tolist())
    assert np.all(np.diff(wording.columns) > 0)


def test_familiarity_is_the_share_of_a_text_that_occurs_in_what_was_learnt_from(wording: Wording) -> None:
    texts = ("shell leeds", "shell qqqqq", "qqqqq wwwww", "")
    known, half, strange, empty = read_wording(wording, places(*(("card", text) for text in texts))).familiarity
    assert known == 1
    assert 0.1 < half < 0.9
    assert strange == 0
    assert empty == 0


def test_weights_are_kept_as_the_artefact_rounds_them(wording: Wording) -> None:
    for weights in (wording.alone, wording.on_account, wording.associations.gains):
        assert np.array_equal(weights, weights.astype(np.float16).astype(np.float32))


def test_features_of_words_on_accounts_begin_with_the_accounts_own() -> None:
    account, shell, york = crossed_features(1, "card", "shell york")
    assert [value for _, value in (shell, york)] == pytest.approx([0.5 / 2**0.5] * 2)
    assert crossed_features(1, "card", "york shell") == [account, york, shell]
    assert crossed_features(1, "card", "") == [account]
    others = {crossed_features(user, name, "shell")[1][0] for user, name in ((1, "card"), (2, "card"), (1, "joint"))}
    assert len(others) == 3


def test_the_regression_finds_the_shares_of_labels_and_heeds_importance() -> None:
    features = ngram_matrix(["a", "b"])
    features.data[:] /= 2
    shares = np.array([[0.8, 0.2], [0.1, 0.9]], dtype=np.float32)
    learnt = fit_softmax(features, shares, np.ones(2), epochs=400, seed=0)
    assert softmax(features @ learnt.weights + learnt.bias) == pytest.approx(shares, abs=0.05)
    one_matters = fit_softmax(features, shares[::-1].copy(), np.array([1.0, 1e-9]), epochs=400, seed=0)
    said = softmax(features @ one_matters.weights + one_matters.bias)
    assert said[0] == pytest.approx(shares[1], abs=0.05)
