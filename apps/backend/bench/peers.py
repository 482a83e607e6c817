"""What a person could install today to categorise transactions, rebuilt from the same few lines that each of them is.

Every peer is a function that fits on labelled rows and returns a function that predicts. Rows are frames with
`services.backtest`'s columns, in order of their dates: description, label, account, date and the rest. None of the
peers knows how sure it is, and each is made to say something for every row: where its own rule is silent, the most
frequent label.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Final

import polars as pl
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    import numpy as np

    Predict = Callable[[pl.DataFrame], pl.Series]
    Fit = Callable[[pl.DataFrame], Predict]

# Actual Budget's rule of payees: `updateCategoryRules` and `getProbableCategory` of its transaction-rules.ts.
LOOKED_AT: Final = 5
AGREEING: Final = 3
REMEMBERED_DAYS: Final = 180

# smart_importer's PredictPostings, version 1.2: the weights of a transaction's narration and of its day.
NARRATION_WEIGHT: Final = 0.8
DAY_WEIGHT: Final = 0.1


def fit_lookup(train: pl.DataFrame) -> Predict:
    """Remember the most frequent label of each description, whatever its case; of equally frequent ones, the last."""
    lookup, usual = _lookup(train), _usual(train)
    return lambda rows: _folded(rows).replace_strict(lookup, default=usual, return_dtype=pl.String)


def fit_svm(train: pl.DataFrame) -> Predict:
    """Fit a linear SVM on TF-IDF of character n-grams within words, which most open-source categorisers settle on."""
    model = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)), LinearSVC())
    model.fit(train["description"].to_list(), train["label"].to_list())
    return lambda rows: _series(model.predict(rows["description"].to_list()))


def fit_naive_bayes(train: pl.DataFrame) -> Predict:
    """Fit multinomial naive Bayes on words, as importers that learn from a user's bookings do."""
    model = make_pipeline(CountVectorizer(), MultinomialNB())
    model.fit(train["description"].to_list(), train["label"].to_list())
    return lambda rows: _series(model.predict(rows["description"].to_list()))


def fit_payee_majority(train: pl.DataFrame) -> Predict:
    """Learn a rule for each payee as Actual Budget does.

    After each transaction, the payee's rule becomes the label that three of its last five within 180 days share; where
    none is shared by three, the rule before it stays. The payee is the merchant of the feature kernel.
    """
    recent: dict[str, deque[tuple[dt.date, str]]] = defaultdict(lambda: deque(maxlen=LOOKED_AT))
    rules: dict[str, str] = {}
    for payee, date, label in zip(_payee(train), train["date"], train["label"], strict=True):
        recent[payee].append((date, label))
        labels = Counter(label for when, label in recent[payee] if (date - when).days <= REMEMBERED_DAYS)
        winner, votes = labels.most_common(1)[0]
        if votes >= AGREEING:
            rules[payee] = winner
    usual = _usual(train)
    return lambda rows: _payee(rows).replace_strict(rules, default=usual, return_dtype=pl.String)


def fit_smart_importer_recipe(train: pl.DataFrame) -> Predict:
    """Fit what smart_importer fits: counts of one to three words and the day of the month, in an SVM of all pairs.

    Its time grows with the square of the rows, so it is for slices.
    """
    words = CountVectorizer(ngram_range=(1, 3))
    words.fit(train["description"].to_list())
    model = SVC(kernel="linear").fit(_narration_and_day(words, train), train["label"].to_list())
    return lambda rows: _series(model.predict(_narration_and_day(words, rows)))


def put_lookup_before(predicted: pl.Series, train: pl.DataFrame, rows: pl.DataFrame) -> pl.Series:
    """Let the lookup answer where it knows the description, and keep another peer's predictions elsewhere."""
    return _folded(rows).replace_strict(_lookup(train), default=predicted, return_dtype=pl.String)


def _narration_and_day(words: CountVectorizer, rows: pl.DataFrame) -> sparse.csr_matrix:
    counts = NARRATION_WEIGHT * words.transform(rows["description"].to_list())
    days = DAY_WEIGHT * rows["date"].dt.day().cast(pl.Float64).to_numpy()
    return sparse.hstack([counts, days.reshape(-1, 1)]).tocsr()


def _folded(rows: pl.DataFrame) -> pl.Series:
    return rows["description"].str.strip_chars().str.to_lowercase()


def _lookup(train: pl.DataFrame) -> dict[str, str]:
    said = pl.DataFrame({"folded": _folded(train), "label": train["label"]}).with_row_index()
    counts = said.group_by("folded", "label").agg(rows=pl.len(), last=pl.col("index").max())
    best = counts.sort("rows", "last", descending=True).unique("folded", keep="first", maintain_order=True)
    return dict(best.select("folded", "label").rows())


def _usual(train: pl.DataFrame) -> str:
    counts = train.group_by("label").len().sort("len", "label", descending=[True, False])
    return str(counts["label"][0])


def _payee(rows: pl.DataFrame) -> pl.Series:
    merchants = rows["merchant"].fill_null("")
    return merchants.zip_with(merchants != "", rows["description"])


def _series(predicted: np.ndarray) -> pl.Series:
    return pl.Series(predicted.tolist(), dtype=pl.String)
