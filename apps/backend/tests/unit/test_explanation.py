"""Explanations: exact, complete, and readable."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pytest

from app.ml.category_model import known_labels, labels_of, places_of, score_places
from app.ml.evidence import LEVELS, PARAMETERS, Place, gather_evidence
from app.ml.explanation import ScoreParts, score_parts
from app.ml.mixing import default_weights
from app.ml.ngrams import find_ngrams
from app.ml.reason_sentences import MOST_TOLD, tell_candidates
from app.ml.single import score_one
from app.ml.wording import crossed_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.ml.category_model import CategoryModel, Scores
    from app.ml.wording import Wording

# Weights and sums of the wording are of single precision.
ROUNDING = 1e-5
STRANGE = ["", "zzqx", "a", "tesco tesco tesco", "café 東京 🙂", "aldi", " ".join(f"word{n}" for n in range(150))]
COUNTED = re.compile(r"(?P<subject>.*) (was|were) labelled (?P<label>.*?) (?P<times>once before|\d+ of \d+ times)\.$")
WORDED = re.compile(r'(The word "\S+" speaks|The words "\S+" and "\S+" speak|This account speaks) for .*\.$')
# What is told of a count, the particular before the general, and what is counted.
SUBJECTS = {
    "This same payment on this account": ("account", "merchant", "norm_desc"),
    "This same payment": ("merchant", "norm_desc"),
    '"{merchant}" on this account': ("account", "merchant"),
    '"{merchant}"': ("merchant",),
    'Payments on this account that begin with "{first_word}"': ("account", "first_word"),
    "Payments of this kind on this account": ("account", "builtin"),
    "Payments of about this amount on this account": ("account", "amount_band"),
    "Payments on this account": ("account",),
}


class Asked(NamedTuple):
    """A row that is asked about, as whoever serves a request has it."""

    place: Place
    scored: Scores
    labels: tuple[str, ...]
    earlier: Mapping[str, Mapping[str, int]]

    def number(self, label: str) -> int:
        return self.labels.index(label)

    def ranked(self, most: int = 3) -> list[int]:
        return np.argsort(-self.scored.scores[0])[:most].tolist()

    def tell(self, model: CategoryModel, candidates: list[int]) -> list[list[str]]:
        return tell_candidates(model, self.place, self.scored, self.labels, self.earlier, candidates)

    def parts(self, model: CategoryModel) -> ScoreParts:
        """Take the scores of all labels apart."""
        return score_parts(model, self.place, self.scored, set(range(len(self.labels))))


def ask(model: CategoryModel, known: pl.DataFrame, row: pl.DataFrame, *, as_of: int | None = None) -> Asked:
    """Score a row with the labels of earlier days; of all days, unless one is given."""
    labels = labels_of(model, known)
    prepared = known_labels(known, labels)
    end = int(prepared.days.max()) + 1 if as_of is None else as_of
    place = Place(*places_of(row).row(0))
    evidence = gather_evidence(places_of(row), np.array([end]), prepared)
    scored = score_one(model, place.user_id, place.account, place.norm_desc, evidence, len(labels))
    places = [Place(*other) for other in prepared.places.iter_rows()]
    earlier: dict[str, Counter[str]] = {level: Counter() for level in LEVELS}
    for other, label, day in zip(places, known["label"], prepared.days.tolist(), strict=True):
        for level, columns in LEVELS.items():
            named = place.merchant or "merchant" not in columns
            if named and day < end and all(getattr(other, column) == getattr(place, column) for column in columns):
                earlier[level][label] += 1
    return Asked(place, scored, labels, earlier)


@pytest.fixture(scope="module")
def rows(sample_rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that were learnt from, later ones, and strange ones; the last are of a category that no model has seen."""
    chosen = sample_rows.gather_every(97)
    strange = sample_rows.tail(len(STRANGE)).with_columns(
        norm_desc=pl.Series(STRANGE), merchant=pl.Series(STRANGE), label=pl.lit("Brand new")
    )
    return pl.concat([chosen, strange])


@pytest.fixture(scope="module")
def questions(rows: pl.DataFrame, sample_model: CategoryModel) -> list[Asked]:
    return [ask(sample_model, rows, rows[number : number + 1]) for number in range(rows.height)]


def in_itself(model: CategoryModel, scored: Scores) -> NDArray[np.float64]:
    """Say what labels have in their scores whatever is asked about; a new one has what its readings' last have."""
    weights, wording, parts = model.pool.parts / model.temperature, model.wording, scored.beliefs.parts[:, 0]
    fitted = len(model.classes)
    last_alone, last_on_account, _ = parts[:3, :fitted].argmin(axis=1)
    new = parts.shape[1] - fitted
    alone = np.append(wording.alone_bias, [wording.alone_bias[last_alone]] * new)
    on_account = np.append(wording.on_account_bias, [wording.on_account_bias[last_on_account]] * new)
    said: NDArray[np.float64] = weights[0] * alone + weights[1] * on_account + weights[3] * parts[3]
    return said


def test_the_parts_add_up_to_every_difference_between_scores(
    sample_model: CategoryModel, rows: pl.DataFrame, questions: list[Asked]
) -> None:
    known = known_labels(rows, questions[0].labels)
    as_of = np.full(rows.height, int(known.days.max()) + 1)
    scores = score_places(sample_model, places_of(rows), known, as_of).scores
    for number, asked in enumerate(questions):
        assert asked.labels[-1] == "Brand new"
        parts = asked.parts(sample_model)
        added = sum(part.sum(axis=0) for part in (parts.by_word, parts.on_account, parts.levels))
        left = scores[number] - added - in_itself(sample_model, asked.scored)
        assert left == pytest.approx(np.full_like(left, left[0]), abs=ROUNDING)


def test_some_labels_are_taken_apart_as_all_are(sample_model: CategoryModel, questions: list[Asked]) -> None:
    for asked in questions:
        every = asked.parts(sample_model)
        chosen = {len(asked.labels) - 1, 0, 3}
        some = score_parts(sample_model, asked.place, asked.scored, chosen)
        columns = [0, 3, len(asked.labels) - 1]
        assert (some.labels, some.words) == (tuple(columns), every.words)
        for part in ("by_word", "on_account", "levels"):
            assert getattr(some, part) == pytest.approx(getattr(every, part)[:, columns])


def test_parts_are_of_the_words_of_the_description_each_once(
    sample_model: CategoryModel, rows: pl.DataFrame, questions: list[Asked]
) -> None:
    for asked, text in zip(questions, rows["norm_desc"], strict=True):
        assert asked.parts(sample_model).words == ("", *dict.fromkeys(text.split()))


def test_without_earlier_labels_counts_say_nothing(sample_model: CategoryModel, rows: pl.DataFrame) -> None:
    first = int(known_labels(rows, labels_of(sample_model, rows)).days.min())
    assert not ask(sample_model, rows, rows[:1], as_of=first).parts(sample_model).levels.any()
    assert ask(sample_model, rows, rows[:1]).parts(sample_model).levels.any()


def wording_of(model: CategoryModel, text: str, said: Mapping[str, str]) -> Wording:
    """Make a wording that knows a few n-grams of a text and nothing else, each for one label."""
    found = find_ngrams([text])
    padded = f" {text} ".encode()
    column_of = {
        padded[start : start + length].decode(): column
        for start, length, column in zip(
            found.start.tolist(), found.length.tolist(), found.column.tolist(), strict=True
        )
    }
    by_column = sorted((column_of[ngram], label) for ngram, label in said.items())
    weights = np.zeros((len(said), len(model.classes)), dtype=np.float32)
    for position, (_, label) in enumerate(by_column):
        weights[position, model.classes.index(label)] = 1_000
    associations = model.wording.associations
    return replace(
        model.wording,
        columns=np.array([column for column, _ in by_column], dtype=np.int32),
        idf=np.ones(len(said), dtype=np.float32),
        alone=weights,
        associations=replace(associations, gains=np.zeros_like(associations.gains)),
        on_account=np.zeros((len(said) + model.wording.crossed_columns.size, len(model.classes)), dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("ngram", "expected"),
    [
        ("shell", {"shell": 1.0}),
        ("hell ", {"shell": 1.0}),
        ("l y", {"shell": 0.5, "york": 0.5}),
        ("l yor", {"shell": 0.25, "york": 0.75}),
        (" york ", {"york": 1.0}),
        (" shell york ", {"shell": 5 / 9, "york": 4 / 9}),
    ],
)
def test_an_ngram_speaks_for_the_words_that_it_stands_in_by_what_it_covers_of_them(
    sample_model: CategoryModel, rows: pl.DataFrame, ngram: str, expected: dict[str, float]
) -> None:
    text = "shell york"
    wording = wording_of(sample_model, text, {ngram: "Fuel"})
    model = replace(sample_model, wording=wording)
    asked = ask(model, rows, rows[:1].with_columns(norm_desc=pl.lit(text)))
    parts = asked.parts(model)
    said = parts.by_word[:, asked.number("Fuel")] - parts.by_word[:, asked.number("Groceries")]
    assert said.sum() > 0
    shares = dict(zip(parts.words, (said / said.sum()).tolist(), strict=True))
    assert {word: share for word, share in shares.items() if share} == pytest.approx(expected)


def costa(count: int, norm_desc: str, account: str, label: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Make payments at a café, all on one day."""
    return pl.concat([rows[:1]] * count).with_columns(
        norm_desc=pl.lit(norm_desc), merchant=pl.lit("costa"), account=pl.lit(account), label=pl.lit(label)
    )


def test_a_candidate_is_told_how_often_the_payment_and_its_merchant_had_its_label(
    sample_model: CategoryModel, rows: pl.DataFrame
) -> None:
    earlier = pl.concat(
        [
            costa(12, "costa york", "card", "Eating out", rows),
            costa(2, "costa leeds", "card", "Groceries", rows),
            costa(3, "costa leeds", "joint", "Groceries", rows),
            costa(1, "costa leeds", "joint", "Fees", rows),
        ]
    )
    model = replace(sample_model, pool=default_weights(), wording=wording_of(sample_model, "", {}))
    asked = ask(model, earlier, costa(1, "costa york", "card", "Eating out", rows))
    told = asked.tell(model, [asked.number(label) for label in ("Eating out", "Groceries", "Fees", "Fuel")])
    # All twelve were on this account, which goes without saying; one of eighteen says that it is something else.
    assert told == [
        [
            "This same payment was labelled Eating out 12 of 12 times.",
            '"costa" on this account was labelled Eating out 12 of 14 times.',
            '"costa" was labelled Eating out 12 of 18 times.',
        ],
        [
            '"costa" on this account was labelled Groceries 2 of 14 times.',
            '"costa" was labelled Groceries 5 of 18 times.',
        ],
        [],
        [],
    ]


def test_thousands_are_set_apart(sample_model: CategoryModel, rows: pl.DataFrame) -> None:
    model = replace(sample_model, pool=default_weights(), wording=wording_of(sample_model, "", {}))
    asked = ask(model, costa(1_012, "costa york", "card", "Fees", rows), costa(1, "costa york", "card", "Fees", rows))
    (told,) = asked.tell(model, [asked.number("Fees")])
    assert told[0] == "This same payment was labelled Fees 1,012 of 1,012 times."


def test_labels_at_one_place_are_told_once(sample_model: CategoryModel, rows: pl.DataFrame) -> None:
    model = replace(sample_model, pool=default_weights(), wording=wording_of(sample_model, "", {}))
    this, other = costa(1, "costa york", "card", "Fees", rows), costa(1, "costa leeds", "card", "Fees", rows)
    expected = {
        '"costa" was labelled Fees once before.': other,
        "This same payment was labelled Fees once before.": this,
    }
    for sentence, earlier in expected.items():
        asked = ask(model, earlier, this)
        (told,) = asked.tell(model, [asked.number("Fees")])
        assert told[0] == sentence
        assert not [each for each in told[1:] if not each.startswith("Payments")]
    on_two = pl.concat([this, this.with_columns(account=pl.lit("joint"))])
    asked = ask(model, on_two, this)
    (told,) = asked.tell(model, [asked.number("Fees")])
    assert told[:2] == [
        "This same payment on this account was labelled Fees once before.",
        "This same payment was labelled Fees 2 of 2 times.",
    ]


def test_numbers_in_sentences_are_those_of_the_ledger(sample_model: CategoryModel, sample_rows: pl.DataFrame) -> None:
    known = sample_rows.head(1_500)
    places = places_of(known).with_columns(label=known["label"])
    told_subjects = set()
    for row in sample_rows[1_500:].gather_every(47).iter_slices(1):
        asked = ask(sample_model, known, row)
        subjects = {subject.format(**asked.place._asdict()): subject for subject in SUBJECTS}
        for label, told in zip(asked.ranked(), asked.tell(sample_model, asked.ranked()), strict=True):
            assert len(told) <= MOST_TOLD
            ranks = []
            for sentence in told:
                counted = COUNTED.match(sentence)
                if counted is None:
                    assert WORDED.match(sentence)
                    ranks.append(3.5)
                    continue
                subject = subjects[counted["subject"]]
                here = places.filter(pl.col(column) == getattr(asked.place, column) for column in SUBJECTS[subject])
                hits = here.filter(label=asked.labels[label]).height
                times = "once before" if here.height == 1 else f"{hits} of {here.height} times"
                assert (counted["label"], counted["times"]) == (asked.labels[label], times)
                ranks.append(list(SUBJECTS).index(subject))
                told_subjects.add(subject)
            assert ranks == sorted(ranks)
    assert len(told_subjects) >= 4


def tell_by_words(
    model: CategoryModel, rows: pl.DataFrame, text: str, said: Mapping[str, str], names: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Tell what speaks for Fuel and Travel where nothing is known but n-grams; labels may be called by other names."""
    learnt = replace(
        model, wording=wording_of(model, text, said), pool=replace(model.pool, parts=np.array([1, 1, 1, 0]))
    )
    first = int(known_labels(rows, labels_of(model, rows)).days.min())
    asked = ask(learnt, rows, rows[:1].with_columns(norm_desc=pl.lit(text)), as_of=first)
    names = names or {}
    asked = asked._replace(labels=tuple(names.get(label, label) for label in asked.labels))
    candidates = [model.classes.index(label) for label in ("Fuel", "Travel")]
    return dict(zip(("Fuel", "Travel"), asked.tell(learnt, candidates), strict=True))


@pytest.mark.parametrize(
    ("text", "said", "fuel", "travel"),
    [
        ("shell york", {"shell": "Fuel"}, ['The word "shell" speaks for Fuel.'], []),
        ("shell york", {"shell": "Fuel", "york": "Fuel"}, ['The words "shell" and "york" speak for Fuel.'], []),
        ("the york", {" the ": "Fuel", "york": "Travel"}, [], ['The word "york" speaks for Travel.']),
        (
            "shell york",
            {"shell": "Fuel", "york": "Travel"},
            ['The word "shell" speaks for Fuel.'],
            ['The word "york" speaks for Travel.'],
        ),
        # A word that says much less than another one goes without saying.
        (
            "shell york",
            {" shel": "Fuel", "shell": "Fuel", "hell ": "Fuel", "york": "Fuel"},
            ['The word "shell" speaks for Fuel.'],
            [],
        ),
        # What a word says for its rival as well speaks for neither.
        ("shell york", {"shell": "Fuel", "hell ": "Travel"}, [], []),
        ("shell york", {}, [], []),
        ("", {}, [], []),
    ],
)
def test_words_that_say_more_for_a_candidate_than_for_its_rival_are_told(
    sample_model: CategoryModel,
    rows: pl.DataFrame,
    text: str,
    said: dict[str, str],
    fuel: list[str],
    travel: list[str],
) -> None:
    assert tell_by_words(sample_model, rows, text, said) == {"Fuel": fuel, "Travel": travel}


@pytest.mark.parametrize(("text", "told"), [("shell", ["This account speaks for Fuel."]), ("", [])])
def test_an_account_that_is_known_for_a_category_speaks_for_it(
    sample_model: CategoryModel, rows: pl.DataFrame, text: str, told: list[str]
) -> None:
    row = rows[:1].with_columns(norm_desc=pl.lit(text))
    (column, _), *_ = crossed_features(*places_of(row).select("user_id", "account", "norm_desc").row(0))
    weights = np.zeros((1, len(sample_model.classes)), dtype=np.float32)
    weights[0, sample_model.classes.index("Fuel")] = 10
    wording = replace(
        wording_of(sample_model, "", {}), crossed_columns=np.array([column], dtype=np.int32), on_account=weights
    )
    model = replace(sample_model, wording=wording)
    asked = ask(model, rows, row, as_of=int(known_labels(rows, labels_of(model, rows)).days.min()))
    assert asked.tell(model, [asked.number("Fuel"), asked.number("Travel")]) == [told, []]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cash withdrawal", ["Payments of this kind on this account were labelled Cash 3 of 3 times."]),
        ("zzqx", []),
    ],
)
def test_payments_of_no_known_kind_are_no_kind(
    sample_model: CategoryModel, rows: pl.DataFrame, text: str, told: list[str]
) -> None:
    level = list(LEVELS).index("account_builtin")
    evidence = np.zeros((len(LEVELS), PARAMETERS // len(LEVELS)))
    evidence[level] = 1
    pool = replace(default_weights(), evidence=evidence.ravel())
    model = replace(sample_model, pool=pool, wording=wording_of(sample_model, "", {}))
    row = rows[:1].with_columns(norm_desc=pl.lit(text), mcc=pl.lit(None, pl.String), channel=pl.lit(None, pl.String))
    asked = ask(model, pl.concat([row] * 3).with_columns(label=pl.lit("Cash")), row)
    assert asked.tell(model, [asked.number("Cash")]) == [told]


def test_a_label_of_the_same_name_is_no_rival(sample_model: CategoryModel, rows: pl.DataFrame) -> None:
    said = {"shell": "Fuel", "hell ": "Travel"}
    told = tell_by_words(sample_model, rows, "shell york", said, {"Travel": "Fuel"})
    expected = ['The word "shell" speaks for Fuel.']
    assert told == {"Fuel": expected, "Travel": expected}
    one_name = dict.fromkeys(sample_model.classes, "Fuel") | {"Brand new": "Fuel"}
    assert tell_by_words(sample_model, rows, "shell york", said, one_name) == {"Fuel": [], "Travel": []}


def test_what_is_told_for_a_candidate_does_not_depend_on_the_others(
    sample_model: CategoryModel, questions: list[Asked]
) -> None:
    for asked in questions:
        ranked = asked.ranked(most=len(asked.labels))
        told = asked.tell(sample_model, ranked)
        assert [asked.tell(sample_model, [candidate])[0] for candidate in ranked] == told
        assert asked.tell(sample_model, ranked[::-1]) == told[::-1]


def test_only_counts_that_are_brought_are_told(sample_model: CategoryModel, questions: list[Asked]) -> None:
    for asked in questions:
        told = asked._replace(earlier={}).tell(sample_model, asked.ranked())
        assert not [sentence for each in told for sentence in each if COUNTED.match(sentence)]
