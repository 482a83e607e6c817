"""Suggestions that were made, and what their events kept of what they were computed from, to be computed again.

A model's score is computed again from the transaction, which never changes, and the counts that the event kept. Another
model can be told the same counts: that is how a challenger is asked what it would have said.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from app.ml.evidence import Evidence, Place, place_of
from app.ml.features import TRANSACTION_SCHEMA, build_features, feature_hashes
from app.ml.serving import best_names, label_space, score_rows, unpack_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

    from app.ml.serving import LabelSpace, ServedModel

EVENT_COLUMNS: Final = """
    suggestion_events.id, suggestion_events.user_id, suggestion_events.mode, suggestion_events.source,
    suggestion_events.model_version, suggestion_events.candidates, suggestion_events.features_hash,
    suggestion_events.inputs, suggestion_events.experiment, suggestion_events.arm, suggestion_events.propensity,
    transactions.id, transactions.date, transactions.posted_at, transactions.amount, transactions.description,
    transactions.mcc, transactions.channel_hint, transactions.account
"""
_OF_THE_EVENT: Final = 11


# What an event of either engine keeps of the request and of what features were then.
_ASKED_FOR: Final = frozenset({"min_confidence", "top_k", "feature_version"})


@dataclass(frozen=True)
class KeptSuggestion:
    """An event, its transaction as the features have it now, and the hash of those features.

    Attributes:
        inputs: As the engine that answered wrote them.
        features_hash: That the event kept; None where it kept none.
        hash_now: Of the features as they are built now.
    """

    event_id: int
    user_id: int
    mode: str
    source: str
    model_version: str | None
    candidates: Sequence[Mapping[str, Any]]
    features_hash: str | None
    inputs: Mapping[str, Any]
    experiment: str | None
    arm: str | None
    propensity: float | None
    txn_id: int
    place: Place
    hash_now: str

    @property
    def counts_for_models(self) -> Mapping[str, Any] | None:
        """What a model was told, or would have been; None where no model was deployed then."""
        return self.inputs if self.source == "model" else self.inputs.get("model")

    @property
    def is_complete(self) -> bool:
        """Whether the event has every field that its engine computes from; those of earlier versions lack some."""
        if not self.inputs.keys() >= _ASKED_FOR:
            return False
        if self.source == "model":
            return {"counts", "further"} <= self.inputs.keys()
        rule = self.inputs.get("rule")
        return (
            {"evidence", "strengths"} <= self.inputs.keys()
            and (rule is None or {"category", "confidence"} <= rule.keys())
            and all({"label", "base"} <= each.keys() for each in self.inputs["evidence"])
        )


def read_kept(
    connection: psycopg.Connection[Any], condition: str, parameters: Mapping[str, Any]
) -> list[KeptSuggestion]:
    """Read events whose user and transaction are there still.

    Args:
        connection: Of the role lm_jobs.
        condition: What follows FROM and the joins, with its ORDER BY and LIMIT.
        parameters: Of the condition.
    """
    query = f"""
        SELECT {EVENT_COLUMNS}
        FROM suggestion_events
        INNER JOIN transactions
            ON transactions.id = suggestion_events.txn_id AND transactions.user_id = suggestion_events.user_id
        {condition}
    """  # noqa: S608 -- the condition is one of ours
    rows = connection.execute(query.encode(), parameters).fetchall()
    transactions = [row[_OF_THE_EVENT : _OF_THE_EVENT + len(TRANSACTION_SCHEMA)] for row in rows]
    features = build_features(pl.DataFrame(transactions, schema=TRANSACTION_SCHEMA, orient="row"))
    hashes = feature_hashes(features)
    described = features.select("merchant", "norm_desc", "amount")
    return [
        # What a place is for counts is in the counts.
        KeptSuggestion(
            *(*row[: _OF_THE_EVENT + 1], place_of(row[1], row[-1], merchant, norm_desc, None, amount), hash_now)
        )
        for row, (merchant, norm_desc, amount), hash_now in zip(rows, described.iter_rows(), hashes, strict=True)
    ]


def score_again(served: ServedModel, kept: Sequence[KeptSuggestion], most: int) -> list[dict[str, float]]:
    """Let the model that answered answer again.

    Args:
        served: The version that the events name.
        kept: Events that have counts for models.
        most: How many names each is given at the most.

    Returns:
        Names and confidences, best first, for each event.
    """
    spaces, evidence = [], []
    for each in kept:
        counts = each.counts_for_models or {}
        shown = counts.get("shown", {})
        spaces.append(label_space(served.model.classes, [], counts["further"], shown, _was_offered(counts)))
        evidence.append(unpack_evidence(counts["counts"]))
    return _score(served, kept, spaces, evidence, most)


def score_by_another(
    served: ServedModel, kept: Sequence[KeptSuggestion], classes: Mapping[int, Sequence[str]], most: int
) -> list[dict[str, float]]:
    """Ask a model what it would have said, from what another one was told.

    Args:
        served: The model that is asked.
        kept: Events that have counts for models.
        classes: Those of every version that the counts were written for.
        most: How many names each is given at the most.

    Returns:
        Names and confidences, best first, for each event.
    """
    spaces, evidence = [], []
    for each in kept:
        counts = each.counts_for_models or {}
        shown = counts.get("shown", {})
        words = [*(classes[counts["version"]] if counts["version"] else ()), *counts["further"]]
        told = unpack_evidence(counts["counts"])
        names = [shown.get(word, word) for word in words]
        # Counts of one name were written at each of its positions.
        is_first = np.array([names.index(name) == position for position, name in enumerate(names)])
        once = np.flatnonzero(is_first[told.label])
        told = Evidence(told.row[once], told.slot[once], told.label[once], told.count[once])
        counted = {names[label] for label in told.label.tolist()}
        in_use = counted.union(counts["further"])
        space = label_space(served.model.classes, names, in_use, shown, _was_offered(counts))
        spaces.append(space)
        evidence.append(space.spread(told))
    return _score(served, kept, spaces, evidence, most)


def _was_offered(counts: Mapping[str, Any]) -> Callable[[str], bool]:
    not_offered = frozenset(counts.get("not_offered", ()))
    return lambda name: name not in not_offered


def _score(
    served: ServedModel,
    kept: Sequence[KeptSuggestion],
    spaces: Sequence[LabelSpace],
    evidence: Sequence[Evidence],
    most: int,
) -> list[dict[str, float]]:
    """Score events of one vocabulary at a time."""
    answers: list[dict[str, float]] = [{} for _ in kept]
    alike: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, space in enumerate(spaces):
        alike[space.words, space.names, tuple(space.name_of), space.not_offered].append(number)
    for (words, *_), chosen in alike.items():
        scores = score_rows(served, [kept[n].place for n in chosen], [evidence[n] for n in chosen], len(words))
        found = best_names(spaces[chosen[0]], scores, most)
        for number, each_found in zip(chosen, found, strict=True):
            answers[number] = each_found
    return answers
