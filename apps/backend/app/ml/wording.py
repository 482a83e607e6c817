"""What a description's words say: three readings, two of hashed n-grams and one that counts whole words.

The first reading is learnt from distinct descriptions, whatever account they are on, and so carries over to accounts
that are new. The second is learnt from distinct pairs of account and description and has features of the account and of
its words crossed with it, so it knows who calls what how. N-grams that occur in one description alone are left out of
both; what whole words are worth that are so rare is counted (`associations`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import scipy.sparse as sp

from app.ml.associations import Associations, find_words, fit_associations, read_associations
from app.ml.ngrams import find_ngrams, look_up, to_matrix
from app.ml.softmax_regression import fit_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from app.ml.ngrams import Ngrams

_CROSS_BITS: Final = 18
# Bytes: of shorter n-grams a large ledger has nearly all that there are.
LONG_NGRAM: Final = 4
_FEWEST_DESCRIPTIONS: Final = 2
_EPOCHS_ALONE: Final = 10
_EPOCHS_ON_ACCOUNT: Final = 5
_ACCOUNT: Final = 0.7
_CROSSED: Final = 0.5
# Labels of a class that a k-th of the average class's strings have count k to the power of this.
_RARE_CLASS_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class Wording:
    """Weights of both linear readings, over the n-grams that were learnt from, and counts of words.

    Attributes:
        columns: Hashed columns of the n-grams, ascending, shape (n-grams,).
        idf: Inverse document frequency of each, shape (n-grams,).
        rarest_idf: The same of an n-gram that was not learnt from.
        fingerprints: Of the long n-grams that occur in anything learnt from, ascending, shape (long n-grams,).
        alone: Shape (n-grams, classes).
        alone_bias: Shape (classes,).
        crossed_columns: Hashed columns of accounts and of words on accounts, ascending, shape (crossed,).
        on_account: Weights of n-grams and crossed columns, shape (n-grams + crossed, classes).
        on_account_bias: Shape (classes,).
        associations: Of whole words.
    """

    columns: NDArray[np.int32]
    idf: NDArray[np.float32]
    rarest_idf: float
    fingerprints: NDArray[np.uint32]
    alone: NDArray[np.float32]
    alone_bias: NDArray[np.float32]
    crossed_columns: NDArray[np.int32]
    on_account: NDArray[np.float32]
    on_account_bias: NDArray[np.float32]
    associations: Associations


@dataclass(frozen=True)
class WordingScores:
    """What the wording says of rows.

    Attributes:
        alone: Scores of the first reading, shape (rows, classes).
        on_account: Scores of the second, shape (rows, classes).
        associated: What the words are worth by count, shape (rows, classes).
        familiarity: Share of each description's long n-grams that occur in anything learnt from, shape (rows,).
    """

    alone: NDArray[np.float32]
    on_account: NDArray[np.float32]
    associated: NDArray[np.float32]
    familiarity: NDArray[np.float32]


def fit_wording(
    places: pl.DataFrame, labels: NDArray[np.int64], weights: NDArray[np.float64], classes: int, *, seed: int
) -> Wording:
    """Learn both linear readings, and count words.

    Args:
        places: user_id, account and norm_desc of labelled rows.
        labels: Indices of their categories.
        weights: What each label counts.
        classes: How many categories there are.
        seed: Of the order of the rows.
    """
    keyed, description, pair = _distinct(places)
    descriptions, found, matrix = _matrix(keyed)
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    columns = np.flatnonzero(frequency >= _FEWEST_DESCRIPTIONS)
    idf = np.log((1 + matrix.shape[0]) / (1 + frequency[columns])) + 1
    rarest = float(np.log((1 + matrix.shape[0]) / 2) + 1)
    ngrams = _weighed(matrix, columns, idf.astype(np.float32), rarest)
    shares, importance = _label_shares(description, labels, weights, len(descriptions), classes)
    alone = fit_softmax(ngrams, *raise_rare_classes(shares, importance), epochs=_EPOCHS_ALONE, seed=seed)
    crossed = _crossed(keyed)
    shared = np.bincount(crossed.indices, minlength=crossed.shape[1])
    crossed_columns = np.flatnonzero(shared >= _FEWEST_DESCRIPTIONS)
    both = sp.hstack([ngrams[keyed["description"].to_numpy()], crossed[:, crossed_columns]]).tocsr()
    of_pairs = raise_rare_classes(*_label_shares(pair, labels, weights, keyed.height, classes))
    on_account = fit_softmax(both, *of_pairs, epochs=_EPOCHS_ON_ACCOUNT, seed=seed)
    return Wording(
        columns=columns.astype(np.int32),
        idf=idf.astype(np.float32),
        rarest_idf=rarest,
        fingerprints=np.unique(found.fingerprint[found.length >= LONG_NGRAM]),
        alone=_as_stored(alone.weights),
        alone_bias=alone.bias,
        crossed_columns=crossed_columns.astype(np.int32),
        on_account=_as_stored(on_account.weights),
        on_account_bias=on_account.bias,
        associations=fit_associations(find_words(found), shares),
    )


def read_wording(wording: Wording, places: pl.DataFrame) -> WordingScores:
    """Score rows by their wording; each distinct description and pair is scored once.

    Args:
        wording: What was learnt.
        places: user_id, account and norm_desc.
    """
    keyed, description, pair = _distinct(places)
    descriptions, found, matrix = _matrix(keyed)
    familiarity = measure_familiarity(wording, found, len(descriptions))
    ngrams = _weighed(matrix, wording.columns, wording.idf, wording.rarest_idf)
    size = wording.columns.size
    by_description = ngrams @ wording.alone + wording.alone_bias
    shared = ngrams @ wording.on_account[:size] + wording.on_account_bias
    crossed = _crossed(keyed)[:, wording.crossed_columns]
    by_pair = shared[keyed["description"].to_numpy()] + crossed @ wording.on_account[size:]
    associated = read_associations(wording.associations, find_words(found), len(descriptions), wording.alone_bias.size)
    return WordingScores(by_description[description], by_pair[pair], associated[description], familiarity[description])


def _distinct(places: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct accounts' descriptions in order, and each row's description and pair among them."""
    keys = ["user_id", "account", "norm_desc"]
    keyed = places.select(keys).unique().sort("norm_desc", "user_id", "account", nulls_last=True)
    keyed = keyed.with_columns(
        description=pl.col("norm_desc").rle_id().cast(pl.Int64), pair=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    found = places.select(keys).join(keyed, on=keys, how="left", maintain_order="left", nulls_equal=True)
    return keyed, found["description"].to_numpy(), found["pair"].to_numpy()


def measure_familiarity(wording: Wording, found: Ngrams, texts: int) -> NDArray[np.float32]:
    """Say how much of each text is like something learnt from; a text without long n-grams is like nothing.

    By fingerprints, not by columns: in a large ledger half of all columns are taken, and gibberish would look familiar.
    """
    is_long = found.length >= LONG_NGRAM
    row, fingerprint = found.row[is_long], found.fingerprint[is_long]
    _, is_known = look_up(fingerprint, wording.fingerprints)
    known = np.bincount(row, is_known, minlength=texts)
    share: NDArray[np.float32] = (known / np.bincount(row, minlength=texts).clip(min=1)).astype(np.float32)
    return share


def _matrix(keyed: pl.DataFrame) -> tuple[list[str], Ngrams, sp.csr_matrix]:
    descriptions = keyed["norm_desc"].unique(maintain_order=True).to_list()
    found = find_ngrams(descriptions)
    return descriptions, found, to_matrix(found, len(descriptions))


def _weighed(
    matrix: sp.csr_matrix, columns: NDArray[np.integer], idf: NDArray[np.float32], rarest_idf: float
) -> sp.csr_matrix:
    """Weigh n-grams by rarity at unit length over all of a text's, and keep those that were learnt from.

    What was not learnt from takes part in the length alone: a text that is mostly strange says little.
    """
    every = np.full(matrix.shape[1], rarest_idf, dtype=np.float32)
    every[columns] = idf
    squares = every[matrix.indices] ** 2
    lengths = np.sqrt(np.add.reduceat(np.append(squares, 0), matrix.indptr[:-1])) if matrix.shape[0] else np.ones(0)
    lengths[np.diff(matrix.indptr) == 0] = 1
    values = every[matrix.indices] / np.repeat(lengths, np.diff(matrix.indptr)).astype(np.float32)
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)[:, columns]


def _crossed(keyed: pl.DataFrame) -> sp.csr_matrix:
    """Give each pair the columns of its account and of its words there; an unnamed account is one like any other."""
    rows, columns, values = [], [], []
    for row, (column, value) in _crossed_columns(keyed):
        rows.append(row)
        columns.append(column)
        values.append(value)
    shape = (keyed.height, 1 << _CROSS_BITS)
    return sp.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)


def _crossed_columns(keyed: pl.DataFrame) -> Iterator[tuple[int, tuple[int, float]]]:
    for row, (user_id, account, norm_desc) in enumerate(keyed.select("user_id", "account", "norm_desc").iter_rows()):
        for feature in crossed_features(user_id, account, norm_desc):
            yield row, feature


def crossed_features(user_id: int, account: str, norm_desc: str) -> list[tuple[int, float]]:
    """Return column and value of the account's own feature and, after it, of each of the words on it."""
    prefix = zlib.crc32(f"{user_id}\x1f{account}\x1f".encode())
    words = norm_desc.split()
    value = _CROSSED / len(words) ** 0.5 if words else 0.0
    # The shift lets the high bits of the checksum speak, which differ more than the low ones.
    shift = 32 - _CROSS_BITS
    return [(prefix >> shift, _ACCOUNT), *((zlib.crc32(word.encode(), prefix) >> shift, value) for word in words)]


def _label_shares(
    place: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64], places: int, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Divide each place among its labels; a place's importance grows with the root of what it has."""
    table = np.bincount(place * classes + labels, weights, minlength=places * classes).reshape(places, classes)
    totals = table.sum(axis=1)
    return (table / totals[:, None]).astype(np.float32), np.sqrt(totals)


def raise_rare_classes(
    shares: NDArray[np.float32], importance: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Let labels of rare classes count more, so that these are learnt too.

    Args:
        shares: How each string's labels divide among the classes, shape (strings, classes).
        importance: Of each string, shape (strings,).

    Returns:
        The same two, with each class weighed.
    """
    frequency = (importance[:, None] * shares).sum(axis=0) + 1
    weighed = shares * (frequency / frequency.mean()) ** -_RARE_CLASS_WEIGHT
    totals = weighed.sum(axis=1)
    return (weighed / totals[:, None]).astype(np.float32), importance * totals


def _as_stored(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to what the artefact keeps, so that a fresh model and a stored one say the same."""
    return weights.astype(np.float16).astype(np.float32)
