"""Which word is shown under which name, told by the history of a user's renames and merges.

The open rows of `category_names` say only what each word is shown as today. To take one rename back, what it carried
along must be known too; the closed rows tell that, for the rows of one change share their moment.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

# Who uses which word, as rows of (user_id, word): labels, rules in force, and what taking back an answer or the
# application of a rule would make a label again.
WORDS_IN_USE: Final = """
    SELECT transactions.user_id, transaction_labels.label AS word
    FROM transaction_labels INNER JOIN transactions ON transactions.id = transaction_labels.txn_id
    UNION ALL
    SELECT rules.user_id, latest.category
    FROM rules
    INNER JOIN LATERAL (
        SELECT category, is_enabled FROM rule_revisions
        WHERE rule_revisions.rule_id = rules.id ORDER BY revision DESC LIMIT 1
    ) AS latest ON latest.is_enabled
    UNION ALL
    SELECT suggestion_events.user_id, answered.word
    FROM suggestion_feedback
    INNER JOIN suggestion_events ON suggestion_events.id = suggestion_feedback.event_id
    CROSS JOIN LATERAL (
        VALUES (suggestion_feedback.label), (suggestion_feedback.previous_label)
    ) AS answered (word)
    UNION ALL
    SELECT rule_applications.user_id, rule_application_labels.previous_label
    FROM rule_application_labels
    INNER JOIN rule_applications ON rule_applications.id = rule_application_labels.application_id
    WHERE rule_applications.undone_at IS NULL
"""

# The same for what suggestions offer that nobody has answered: each may still be accepted.
WORDS_OFFERED: Final = """
    SELECT suggestion_events.user_id, candidate.value ->> 'label' AS word
    FROM suggestion_events
    CROSS JOIN LATERAL jsonb_array_elements(suggestion_events.candidates) AS candidate (value)
    WHERE suggestion_events.source <> 'shadow'
        AND coalesce((
            SELECT suggestion_feedback.action FROM suggestion_feedback
            WHERE suggestion_feedback.event_id = suggestion_events.id
            ORDER BY suggestion_feedback.created_at DESC, suggestion_feedback.id DESC LIMIT 1
        ), 'undo') = 'undo'
"""


class CategoryMap:
    """Words, each with the name that it was renamed to or merged into.

    Attributes:
        parents: The name that a word was renamed to, which may have been renamed itself since. Never a cycle.
    """

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    @property
    def shown(self) -> dict[str, str]:
        """What each word is shown as, for those that are shown under another name."""
        return {name: self._root(name) for name in self.parents}

    def merge(self, name: str, into: str) -> None:
        """Show a name under another one, and with it what is shown under it; `into` may be one of those."""
        self.parents.pop(into, None)
        self.parents[name] = into

    def undo(self, name: str) -> None:
        """Show a name under its own word again, and with it what came along when it was merged."""
        self.parents.pop(name, None)

    def _root(self, name: str) -> str:
        while name in self.parents:
            name = self.parents[name]
        return name


def read_category_map(session: Session, user_id: int) -> CategoryMap:
    """Fold the changes of a user's category names from the first to the last.

    A word that a change newly hides was renamed or merged by it; where a change hides none, the word that it shows
    under its own name again was taken back.
    """
    opened: dict[dt.datetime, dict[str, str]] = defaultdict(dict)
    closed: dict[dt.datetime, set[str]] = defaultdict(set)
    rows = session.execute(
        text("SELECT name, shown_as, valid_from, valid_to FROM category_names WHERE user_id = :user_id ORDER BY id"),
        {"user_id": user_id},
    )
    for row in rows:
        opened[row.valid_from][row.name] = row.shown_as
        if row.valid_to is not None:
            closed[row.valid_to].add(row.name)
    renames = CategoryMap()
    for moment in sorted({*opened, *closed}):
        hidden = [name for name in opened[moment] if name not in closed[moment]]
        for name in hidden:
            renames.merge(name, opened[moment][name])
        if not hidden:
            for name in closed[moment] - set(opened[moment]):
                renames.undo(name)
    return renames


def category_map_revision(session: Session, user_id: int) -> int:
    """Return a number that grows with every rename, merge and undo of a user's; 0 before the first.

    An undo may close rows and add none, so the highest id alone would not tell.
    """
    revision: int = session.execute(
        text("SELECT coalesce(max(id), 0) + count(valid_to) FROM category_names WHERE user_id = :user_id"),
        {"user_id": user_id},
    ).scalar_one()
    return revision


def write_category_map(session: Session, user_id: int, renames: CategoryMap) -> dt.datetime:
    """Close the rows that hold no longer and add those that do, all at one moment that no other change has.

    Returns:
        That moment.
    """
    wanted = renames.shown
    # Not the start of the transaction: two changes in one must be told apart, and come in their order.
    moment: dt.datetime = session.execute(
        text("""
            SELECT greatest(clock_timestamp(), max(greatest(valid_from, valid_to)) + interval '1 microsecond')
            FROM category_names WHERE user_id = :user_id
        """),
        {"user_id": user_id},
    ).scalar_one()
    change = {"user_id": user_id, "moment": moment, "names": list(wanted), "shown": list(wanted.values())}
    session.execute(
        text("""
            UPDATE category_names SET valid_to = :moment
            WHERE user_id = :user_id AND valid_to IS NULL
                AND (name, shown_as) NOT IN (
                    SELECT wanted.name, wanted.shown_as
                    FROM unnest(CAST(:names AS text[]), CAST(:shown AS text[])) AS wanted (name, shown_as)
                )
        """),
        change,
    )
    session.execute(
        text("""
            INSERT INTO category_names (user_id, name, shown_as, valid_from)
            SELECT :user_id, wanted.name, wanted.shown_as, :moment
            FROM unnest(CAST(:names AS text[]), CAST(:shown AS text[])) AS wanted (name, shown_as)
            WHERE NOT EXISTS (
                SELECT FROM category_names
                WHERE category_names.user_id = :user_id AND category_names.name = wanted.name AND valid_to IS NULL
            )
            ORDER BY wanted.name
        """),
        change,
    )
    return moment
