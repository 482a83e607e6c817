"""The suggestions that an experiment served, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.services.experiment_periods import Exposure

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services.experiments import Experiment


@dataclass(frozen=True)
class ServedSuggestion(Exposure):
    """A suggestion of an experiment; outcomes are None where nothing tells them.

    Attributes:
        is_accepted: Whether the last answer accepted it.
        is_correct: Whether the first candidate is the label of now.
        is_covered: Whether anything was suggested.
        is_fallback: Whether the heuristics answered in a model's place.
    """

    is_accepted: bool | None
    is_correct: bool | None
    is_covered: bool
    is_fallback: bool | None


def read_outcomes(session: Session, experiment: Experiment) -> list[ServedSuggestion]:
    """Read the suggestions of an experiment with what became of them, from the first to the last.

    What is accepted and right means the same as in the warehouse's `fct_suggestions_eval`: names are those of today,
    and a label that nothing but the accept of this very suggestion has written vouches for nothing.
    """
    rows = session.execute(
        text(f"""
            SELECT
                events.user_id, CASE WHEN :unit = 'user_merchant' THEN coalesce(ml_features.merchant, '') ELSE '' END,
                :unit = 'user' OR ml_features.txn_id IS NOT NULL,
                events.arm, events.created_at,
                CASE WHEN events.first_label IS NOT NULL THEN last_answer.action = 'accept' END,
                CASE WHEN vouched.is_independent THEN last_label.label = events.first_label END,
                events.first_label IS NOT NULL,
                CASE WHEN events.is_for_model THEN events.source = 'rule' END
            FROM (
                SELECT
                    event.*, {_shown("event.user_id", "event.candidates -> 0 ->> 'label'")} AS first_label,
                    -- A rule of the user's own answers before any model.
                    arms.engine <> 'rule' AND NOT (event.source = 'rule' AND event.inputs ? 'rule') AS is_for_model
                FROM suggestion_events AS event
                INNER JOIN experiment_arms AS arms ON arms.experiment_id = :id AND arms.name = event.arm
                WHERE event.experiment = :name AND event.source <> 'shadow' AND event.user_id IS NOT NULL
            ) AS events
            LEFT JOIN ml_features ON ml_features.txn_id = events.txn_id
            LEFT JOIN LATERAL (
                SELECT action FROM suggestion_feedback AS answer WHERE answer.event_id = events.id
                ORDER BY answer.created_at DESC, answer.id DESC LIMIT 1
            ) AS last_answer ON last_answer.action <> 'undo'
            LEFT JOIN LATERAL (
                SELECT {_shown("events.user_id", "labelled.label")} AS label
                FROM label_events AS labelled WHERE labelled.txn_id = events.txn_id ORDER BY labelled.id DESC LIMIT 1
            ) AS last_label ON true
            LEFT JOIN LATERAL (
                SELECT EXISTS (
                    SELECT FROM label_events AS labelled
                    WHERE labelled.txn_id = events.txn_id
                        AND {_shown("events.user_id", "labelled.label")} = last_label.label
                        AND NOT (
                            labelled.source = 'human' AND EXISTS (
                                SELECT FROM suggestion_feedback AS accepted
                                WHERE accepted.event_id = events.id AND accepted.action = 'accept'
                                    AND accepted.created_at = labelled.known_at
                            )
                        )
                ) AS is_independent
            ) AS vouched ON true
            ORDER BY events.created_at, events.id
        """),  # noqa: S608 -- of literals
        {"id": experiment.id, "name": experiment.name, "unit": experiment.unit},
    )
    return [ServedSuggestion((row[0], row[1]), *row[2:]) for row in rows.all()]


def _shown(user_id: str, word: str) -> str:
    """Return SQL for the name under which a user sees a word today."""
    return f"""coalesce((
        SELECT shown_as FROM category_names AS today
        WHERE today.user_id = {user_id} AND today.name = {word} AND today.valid_to IS NULL
    ), {word})"""  # noqa: S608 -- of literals
