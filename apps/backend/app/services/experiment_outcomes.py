"""What an experiment's suggestions came to, summed by unit.

Which unit, which arms and which versions a suggestion was part of is read from its event alone, which kept that when it
was made; nothing that changed since, such as a merchant's name, can move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import text

from app.services.todays_names import shown_today

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from app.services.experiments import Experiment

Outcome = Literal["acceptance", "precision", "coverage", "fallbacks", "answered"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("acceptance", "precision", "coverage", "fallbacks")
"""What results are about. Of what was answered is acceptance, too, but what that is may be the arm's doing, so it says
only how much is known and what happens across time."""


@dataclass(frozen=True)
class UnitSums:
    """What became of the transactions of a unit, while one change of the experiment and the same versions held.

    Attributes:
        change: The change in force.
        versions: Those that were due, by arm; None where a role was empty.
        unit: Its hash.
        first_at: When its first suggestion was made.
        last_at: When the last one was.
        transactions: How many were asked about.
        sums: Of each outcome, of how many transactions it is known and how many of them have it.
        fallback_hours: Hours since 1970 in which any of them fell back.
    """

    change: int
    versions: Mapping[str, int | None]
    unit: str
    arm: str
    first_at: dt.datetime
    last_at: dt.datetime
    transactions: int
    sums: Mapping[Outcome, tuple[int, int]]
    fallback_hours: frozenset[int] = frozenset()


def read_outcomes(session: Session, experiment: Experiment) -> list[UnitSums]:
    """Read what became of an experiment's suggestions, the unit that came first at the front.

    A transaction counts once in a period, however often it was asked about. It is

    - accepted, if the last answer to one of its suggestions is an accept, and not, if it is a rejection or nobody said
      anything: so it is known of every transaction, and neither who offers nothing nor whom nobody answers gains by it;
    - right, if the first candidate of its last suggestion is the label of now. That is known where a person said so
      after it was first asked about and otherwise than by accepting any suggestion of it: an accept repeats what was
      shown;
    - covered, if its last suggestion offered anything;
    - fell back, if the heuristics ever answered where a model was due;
    - and answered, if it has a last answer or a person labelled it by hand after it was first asked about.

    Args:
        session: Of the role lm_jobs, or of a request for what is the user's own.
        experiment: Started or not.
    """
    rows = session.execute(text(_QUERY), {"id": experiment.id, "name": experiment.name})
    return [
        UnitSums(
            change=row.change,
            versions=row.versions,
            unit=row.unit,
            arm=row.arm,
            first_at=row.first_at,
            last_at=row.last_at,
            transactions=row.transactions,
            sums=dict(zip((*OUTCOMES, "answered"), zip(row.answers, row.successes, strict=True), strict=True)),
            fallback_hours=frozenset(hour for hours in row.fallback_hours or () for hour in hours),
        )
        for row in rows.all()
    ]


# Looked up row by row, by an index: how many rows there are is guessed too badly for anything else.
_QUERY: Final = f"""
    WITH exposed AS (
        SELECT
            event.id, event.txn_id, event.user_id, event.arm, event.created_at, changes.id AS change,
            event.inputs #> '{{exposure,versions}}' AS versions, event.inputs #>> '{{exposure,unit}}' AS unit,
            event.candidates -> 0 ->> 'label' AS first_label,
            -- A rule of the user's own answers before any model.
            CASE WHEN arms.engine <> 'rule' AND NOT (event.source = 'rule' AND event.inputs ? 'rule')
                THEN event.source = 'rule'
            END AS fell_back,
            last_answer.action, last_answer.created_at AS answered_at, last_answer.id AS answer_id
        FROM suggestion_events AS event
        INNER JOIN experiment_arms AS arms ON arms.experiment_id = :id AND arms.name = event.arm
        INNER JOIN experiment_changes AS changes
            ON changes.experiment_id = :id AND changes.id = CAST(event.inputs #>> '{{exposure,change}}' AS bigint)
        -- No LIMIT: it tempts the planner to go through all answers by their time.
        CROSS JOIN LATERAL (
            SELECT
                (array_agg(answer.action ORDER BY answer.created_at DESC, answer.id DESC))[1] AS action,
                max(answer.created_at) AS created_at, max(answer.id) AS id
            FROM suggestion_feedback AS answer WHERE answer.event_id = event.id
        ) AS last_answer
        WHERE event.experiment = :name AND event.source <> 'shadow' AND event.user_id IS NOT NULL
    ),
    asked AS (
        SELECT
            change, versions, txn_id, min(user_id) AS user_id, min(created_at) AS first_at, max(created_at) AS last_at,
            bool_or(fell_back) AS fell_back,
            array_agg(DISTINCT floor(extract(epoch FROM created_at) / 3600)::bigint)
                FILTER (WHERE fell_back) AS fallback_hours,
            (array_agg(unit ORDER BY created_at, id))[1] AS unit,
            (array_agg(arm ORDER BY created_at, id))[1] AS arm,
            (array_agg(first_label ORDER BY created_at DESC, id DESC))[1] AS first_label,
            (
                array_agg(action ORDER BY answered_at DESC, answer_id DESC) FILTER (WHERE action <> 'undo')
            )[1] AS action
        FROM exposed GROUP BY change, versions, txn_id
    ),
    outcomes AS (
        SELECT
            asked.*,
            coalesce(asked.action = 'accept', false) AS accepted,
            asked.action IS NOT NULL OR coalesce(said.is_by_hand, false) AS answered,
            CASE
                WHEN said.is_vouched THEN {shown_today("asked.user_id", "asked.first_label")} = said.label
            END AS is_right
        FROM asked
        -- What a person said after the first suggestion, and the label of now.
        LEFT JOIN LATERAL (
            SELECT
                bool_or(answered.is_accept IS NULL) AS is_by_hand,
                bool_or(
                    answered.is_accept IS NOT true
                    AND {shown_today("asked.user_id", "labelled.label")} = last_label.label
                ) AS is_vouched,
                min(last_label.label) AS label
            FROM label_events AS labelled
            CROSS JOIN LATERAL (
                SELECT {shown_today("asked.user_id", "latest.label")} AS label FROM label_events AS latest
                WHERE latest.txn_id = asked.txn_id ORDER BY latest.id DESC LIMIT 1
            ) AS last_label
            -- An answer and the label that it writes are recorded in one transaction of the database.
            CROSS JOIN LATERAL (
                SELECT bool_or(answer.action = 'accept') AS is_accept
                FROM suggestion_events AS event INNER JOIN suggestion_feedback AS answer ON answer.event_id = event.id
                WHERE event.txn_id = asked.txn_id AND answer.created_at = labelled.known_at
            ) AS answered
            WHERE labelled.txn_id = asked.txn_id AND labelled.source = 'human' AND labelled.known_at > asked.first_at
        ) AS said ON true
    )
    -- In the order of OUTCOMES, then of what was answered.
    SELECT
        change, versions, unit, arm, min(first_at) AS first_at, max(last_at) AS last_at, count(*) AS transactions,
        ARRAY[
            count(*), count(is_right), count(*), count(fell_back), count(*) FILTER (WHERE answered)
        ] AS answers,
        ARRAY[
            count(*) FILTER (WHERE accepted), count(*) FILTER (WHERE is_right), count(first_label),
            count(*) FILTER (WHERE fell_back), count(*) FILTER (WHERE accepted)
        ] AS successes,
        jsonb_agg(fallback_hours) FILTER (WHERE fallback_hours IS NOT NULL) AS fallback_hours
    FROM outcomes GROUP BY change, versions, unit, arm ORDER BY min(first_at), unit
"""  # noqa: S608 -- of literals
