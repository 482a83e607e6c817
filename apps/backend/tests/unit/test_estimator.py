"""The model: the same rows give the same bytes, and what is known by then decides."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import app
from app.errors import InvalidInput
from app.ml.artefact import encode_artefact, open_artefact
from app.ml.calibration import NEVER
from app.ml.category_model import (
    CategoryModel,
    known_labels,
    labels_of,
    model_from_artefact,
    model_to_artefact,
    places_of,
    score_places,
)
from app.ml.dataset import SAMPLE_WEIGHTS
from app.ml.estimator import calibration_start, fit_model, fit_with_draft
from app.ml.evidence import day_numbers
from app.ml.softmax_regression import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIT_ELSEWHERE = """
import hashlib, sys
import polars as pl
from app.ml.artefact import encode_artefact
from app.ml.category_model import model_to_artefact
from app.ml.estimator import fit_model
rows = pl.read_ipc(sys.argv[1])
print(hashlib.sha256(encode_artefact(*model_to_artefact(fit_model(rows)))).hexdigest())
"""
LOADED_FOR_SERVING = """
import sys
import app.ml.estimator, app.ml.explanation, app.ml.predictions, app.ml.single, app.ml.walk_forward
print(*sorted(sys.modules))
"""


def sha256(model: CategoryModel) -> str:
    return hashlib.sha256(encode_artefact(*model_to_artefact(model))).hexdigest()


def run_python(script: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    ).stdout.strip()


def scores(model: CategoryModel, rows: pl.DataFrame, known: pl.DataFrame) -> NDArray[np.float64]:
    """Score rows with everything that is known."""
    prepared = known_labels(known, labels_of(model, known))
    as_of = np.full(rows.height, int(day_numbers(known["date"]).max(initial=-1)) + 1)
    return score_places(model, places_of(rows), prepared, as_of).scores


def top(model: CategoryModel, rows: pl.DataFrame, known: pl.DataFrame) -> list[str]:
    labels = labels_of(model, known)
    return [labels[best] for best in scores(model, rows, known).argmax(axis=1)]


def labelled(row: pl.DataFrame, label: str, day: dt.date, *, source: str = "human") -> pl.DataFrame:
    """Label a row like this one on a day."""
    return row.with_columns(
        date=pl.lit(day), label=pl.lit(label), label_source=pl.lit(source), sample_weight=SAMPLE_WEIGHTS[source]
    )


def test_the_same_rows_and_seed_give_the_same_bytes_and_another_seed_gives_others(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    rows = sample_rows.head(2_000)
    assert sha256(fit_model(rows)) == sha256(sample_model)
    other = fit_model(rows, seed=1)
    assert sha256(other) != sha256(sample_model)
    assert not np.array_equal(other.wording.alone, sample_model.wording.alone)


def test_another_process_with_other_threads_gives_the_same_bytes(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, tmp_path: Path
) -> None:
    sample_rows.head(2_000).write_ipc(tmp_path / "rows.arrow")
    elsewhere = run_python(
        FIT_ELSEWHERE,
        str(tmp_path / "rows.arrow"),
        PYTHONHASHSEED="12345",
        POLARS_MAX_THREADS="1",
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )
    assert elsewhere == sha256(sample_model)


def test_the_order_of_rows_within_a_day_changes_what_is_said_by_rounding_alone(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    rows = sample_rows.head(2_000)
    order = list(range(rows.height))
    random.Random(4).shuffle(order)  # noqa: S311 -- any order will do
    other = fit_model(rows[order].sort("date", maintain_order=True))
    later = sample_rows[2_000:2_500]
    assert np.abs(scores(other, later, rows) - scores(sample_model, later, rows)).max() < 1e-3
    assert top(other, later, rows) == top(sample_model, later, rows)


def test_the_first_label_at_a_strange_place_never_lowers_what_it_confirms(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    known = sample_rows.head(2_000)
    for number, row in enumerate(sample_rows[2_000:2_300:10].iter_slices(1)):
        strange = row.with_columns(merchant=pl.lit(f"strange {number}"), norm_desc=pl.col("norm_desc") + f" {number}x")
        before = softmax(scores(sample_model, strange, known))[0]
        (label,) = top(sample_model, strange, known)
        told = pl.concat([known, labelled(strange, label, known["date"][-1], source="import").select(known.columns)])
        after = softmax(scores(sample_model, strange, told))[0]
        assert after[before.argmax()] > before.max()


def test_rows_after_the_last_change_nothing_that_was_learnt_before(sample_rows: pl.DataFrame) -> None:
    rows = sample_rows.head(1_500)
    shuffled = sample_rows.with_columns(
        label=pl.when(pl.int_range(pl.len()) < 1_500).then("label").otherwise(pl.lit("X"))
    )
    assert sha256(fit_model(shuffled.head(1_500))) == sha256(fit_model(rows))


def test_a_model_that_was_stored_says_the_same(sample_rows: pl.DataFrame, sample_model: CategoryModel) -> None:
    stored = encode_artefact(*model_to_artefact(sample_model))
    again = model_from_artefact(open_artefact(stored))
    rows, known = sample_rows[2_000:2_300], sample_rows.head(2_000)
    assert np.array_equal(scores(again, rows, known), scores(sample_model, rows, known))
    assert (again.classes, again.temperature, again.threshold) == (
        sample_model.classes,
        sample_model.temperature,
        sample_model.threshold,
    )
    assert sha256(again) == sha256(sample_model)
    assert again.recipe == sample_model.recipe


@pytest.mark.parametrize(("field", "value"), [("recipe", "logistic-1"), ("feature_version", 0)])
def test_a_model_of_another_recipe_or_of_other_features_is_refused(
    sample_model: CategoryModel, field: str, value: object
) -> None:
    arrays, header = model_to_artefact(sample_model)
    with pytest.raises(InvalidInput, match="Train a new one: lm train"):
        model_from_artefact(open_artefact(encode_artefact(arrays, header | {field: value})))


def test_nothing_that_is_labelled_on_the_day_or_later_changes_a_byte(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    moment = sample_rows["date"][2_000]
    past, future = sample_rows.filter(pl.col("date") < moment), sample_rows.filter(pl.col("date") >= moment)
    twisted = future.with_columns(label=future["label"].reverse(), sample_weight=3.0)
    labels = labels_of(sample_model, sample_rows)
    rows = places_of(future.head(200))
    as_of = np.full(200, day_numbers(pl.Series([moment]))[0])
    expected, *others = (
        score_places(sample_model, rows, known_labels(known, labels), as_of).scores.tobytes()
        for known in (past, pl.concat([past, future]), pl.concat([twisted, past]))
    )
    assert others == [expected, expected]


@pytest.mark.parametrize("account", [None, "", "somewhere else", "🏦"])
@pytest.mark.parametrize("text", ["", "zzqx", "東京 🙂 café", "aldi " * 500])
def test_any_input_is_scored(
    sample_rows: pl.DataFrame, sample_model: CategoryModel, text: str, account: str | None
) -> None:
    row = sample_rows[:1].with_columns(
        norm_desc=pl.lit(text), account=pl.lit(account, pl.String), merchant=pl.lit(None, pl.String), amount=None
    )
    row = row.with_columns(pl.col("amount").cast(pl.Decimal(18, 2)), user_id=pl.lit(99, pl.Int64))
    for known in (sample_rows.head(0), sample_rows.head(2_000)):
        said = scores(sample_model, row, known)
        assert said.shape == (1, len(sample_model.classes))
        assert np.isfinite(said).all()


def test_no_rows_have_no_scores(sample_rows: pl.DataFrame, sample_model: CategoryModel) -> None:
    assert scores(sample_model, sample_rows.head(0), sample_rows.head(100)).shape == (0, len(sample_model.classes))


def test_a_strange_description_where_nothing_is_known_is_not_familiar(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    known = sample_rows.head(2_000)
    rows = sample_rows[1_000:1_001].select(known.columns)
    strange = rows.with_columns(norm_desc=pl.lit("qqzxj wvvkq"), merchant=pl.lit("qqzxj"))
    prepared = known_labels(known, labels_of(sample_model, known))
    end = np.full(2, int(prepared.days.max()) + 1)
    scored = score_places(sample_model, places_of(pl.concat([rows, strange])), prepared, end)
    assert scored.is_familiar.tolist() == [True, False]


def test_a_category_that_no_model_has_seen_is_suggested_after_one_label(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    known = sample_rows.head(2_000)
    day = known["date"].max()
    assert isinstance(day, dt.date)
    row = known[:1].with_columns(norm_desc=pl.lit("qqzxj"), merchant=pl.lit("qqzxj"))
    assert top(sample_model, row, pl.concat([known, labelled(row, "Brand new", day)])) == ["Brand new"]


def test_a_new_category_elsewhere_moves_the_others_by_nearly_nothing(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    known, rows = sample_rows.head(2_000), sample_rows[2_000:2_300]
    elsewhere = known[:1].with_columns(
        norm_desc=pl.lit("qqzxj"), merchant=pl.lit("qqzxj"), account=pl.lit("elsewhere"), user_id=pl.lit(99, pl.Int64)
    )
    after = pl.concat([known, labelled(elsewhere, "Brand new", dt.date(2000, 1, 1))])
    assert top(sample_model, rows, after) == top(sample_model, rows, known)
    assert softmax(scores(sample_model, rows, after))[:, -1].max() < 0.05


def test_one_correction_moves_the_suggestion_for_that_merchant_and_account_at_once(
    sample_rows: pl.DataFrame, sample_model: CategoryModel
) -> None:
    known = sample_rows.head(2_000)
    labels = labels_of(sample_model, known)
    day = known["date"].max()
    assert isinstance(day, dt.date)
    once = (
        known.filter(pl.col("merchant") != "")
        .group_by("account", "merchant", maintain_order=True)
        .agg(pl.len(), pl.col("txn_id").last(), pl.col("label").last())
        .filter(pl.col("len") == 1)
        .head(30)
    )
    assert once.height > 20
    for txn_id, label in once.select("txn_id", "label").iter_rows():
        row, other = known.filter(pl.col("txn_id") == txn_id), "Health" if label != "Health" else "Travel"
        corrected = pl.concat([known.filter(pl.col("txn_id") != txn_id), labelled(row, other, day)])
        before, after = (
            said[0, labels.index(other)] - said[0, labels.index(label)]
            for said in (scores(sample_model, row, each) for each in (known, corrected))
        )
        # In nats: the odds grow more than fourfold. What the words still say may stand against one correction.
        assert after - before > 1.5


def test_one_label_decides_where_the_words_say_nothing(sample_rows: pl.DataFrame, sample_model: CategoryModel) -> None:
    known = sample_rows.head(2_000)
    day = known["date"].max()
    assert isinstance(day, dt.date)
    row = known[:1].with_columns(norm_desc=pl.lit("qqzxj"), merchant=pl.lit("qqzxj"), account=pl.lit("new"))
    for label in sample_model.classes:
        assert top(sample_model, row, pl.concat([known, labelled(row, label, day)])) == [label]


@pytest.mark.parametrize(("rows", "classes"), [(0, 0), (19, 2), (40, 1)])
def test_too_little_to_learn_from_is_refused_with_what_to_do(
    sample_rows: pl.DataFrame, rows: int, classes: int
) -> None:
    few = sample_rows.head(rows).with_columns(label=pl.format("C{}", pl.int_range(pl.len()) % max(classes, 1)))
    with pytest.raises(InvalidInput, match=r"at least 20 labels of 2 categories.*Label more transactions") as refused:
        fit_model(few)
    assert f"there are {rows} of {classes}" in str(refused.value)


def test_twenty_labels_are_enough_and_nothing_is_applied_without_asking(sample_rows: pl.DataFrame) -> None:
    rows = sample_rows.head(20)
    assert rows["label"].n_unique() >= 2
    model = fit_model(rows)
    assert model.threshold == NEVER
    assert np.isfinite(scores(model, sample_rows.head(50), rows)).all()


def test_labels_of_one_day_can_be_learnt_from(sample_rows: pl.DataFrame) -> None:
    rows = sample_rows.head(300).with_columns(date=dt.date(2025, 1, 1))
    model, draft = fit_with_draft(rows)
    assert model is draft
    assert model.threshold == NEVER
    assert np.mean(np.array(top(model, rows, rows)) == rows["label"].to_numpy()) > 0.8


def test_the_draft_saw_nothing_of_the_days_that_it_is_judged_on(sample_rows: pl.DataFrame) -> None:
    rows = sample_rows.head(2_000)
    model, draft = fit_with_draft(rows)
    start = calibration_start(draft)
    assert calibration_start(model) == start
    held_out = rows["date"] >= start
    assert 0.02 < held_out.mean() < 0.3  # type: ignore[operator]
    twisted = rows.with_columns(label=pl.when(held_out).then(pl.col("label").reverse()).otherwise("label"))
    _, other = fit_with_draft(twisted)
    assert draft.classes == other.classes
    learnt, twisted_learnt = (model_to_artefact(each)[0] for each in (draft, other))
    assert len(learnt) > 10
    for name, array in learnt.items():
        assert array.tobytes() == twisted_learnt[name].tobytes(), name
    assert (draft.temperature, draft.threshold) != (other.temperature, other.threshold)


def test_a_model_that_will_be_told_nothing_learns_what_counts_that_stand_still_are_worth(
    sample_rows: pl.DataFrame,
) -> None:
    rows = sample_rows.head(2_000)
    told, left_alone = (fit_model(rows, labels_arrive=labels_arrive) for labels_arrive in (True, False))
    assert [model.header["settings"]["labels_arrive"] for model in (told, left_alone)] == [True, False]
    assert told.wording.alone.tobytes() == left_alone.wording.alone.tobytes()
    assert told.pool.evidence.tobytes() != left_alone.pool.evidence.tobytes()


def test_progress_is_told_in_steps_that_end(sample_rows: pl.DataFrame) -> None:
    for rows in (sample_rows.head(25), sample_rows.head(1_000)):
        told: list[int] = []
        fit_model(rows, progress=lambda done, _, told=told: told.append(done))  # type: ignore[misc]
        assert told == [1, 2, 3, 4, 5]


def test_neither_training_nor_serving_loads_scikit_learn_or_pickled_models() -> None:
    loaded = set(run_python(LOADED_FOR_SERVING).split())
    assert "app.ml.estimator" in loaded
    assert not {name.split(".")[0] for name in loaded} & {"sklearn", "joblib", "cloudpickle", "dill", "mlflow"}


def test_no_module_of_ours_unpickles() -> None:
    modules = list(Path(app.__path__[0]).rglob("*.py"))
    assert len(modules) > 50
    assert [
        module for module in modules if re.search(r"import (pickle|joblib)|allow_pickle=True", module.read_text())
    ] == []
