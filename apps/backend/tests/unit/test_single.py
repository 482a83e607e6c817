"""One row's score without frames is the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from app.ml.category_model import known_labels, labels_of, places_of, score_places
from app.ml.evidence import gather_evidence
from app.ml.single import score_one

if TYPE_CHECKING:
    from app.ml.category_model import CategoryModel

STRANGE = ["", "zzqx", "a", "tesco tesco tesco", "café 東京 🙂", "aldi " * 200]


@pytest.mark.parametrize("new_label", [False, True])
def test_one_row_is_scored_as_a_frame_of_rows_is(
    sample_model: CategoryModel, sample_rows: pl.DataFrame, *, new_label: bool
) -> None:
    strange = sample_rows.tail(len(STRANGE)).with_columns(norm_desc=pl.Series(STRANGE))
    if new_label:
        strange = strange.with_columns(label=pl.lit("Brand new"))
    rows = pl.concat([sample_rows.gather_every(17), strange])
    known = known_labels(rows, labels_of(sample_model, rows))
    places, as_of = places_of(rows), np.full(rows.height, int(known.days.max()) + 1)
    expected = score_places(sample_model, places, known, as_of)
    assert expected.scores.shape[1] == len(sample_model.classes) + new_label
    for number, row in enumerate(places.iter_rows(named=True)):
        evidence = gather_evidence(places[number : number + 1], as_of[:1], known)
        scored = score_one(sample_model, row["user_id"], row["account"], row["norm_desc"], evidence, known.label_count)
        np.testing.assert_allclose(scored.scores[0], expected.scores[number], rtol=0, atol=1e-5)
        assert scored.familiarity[0] == pytest.approx(expected.familiarity[number], abs=1e-5)
        assert scored.is_known_place[0] == expected.is_known_place[number]
        assert scored.is_familiar[0] == expected.is_familiar[number]
