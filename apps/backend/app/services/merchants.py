"""Merchants as a person wants to see them: names learnt from truncated strings, and names given by hand.

An alias changes what is shown, `transactions.merchant_canonical`, and nothing else. Features and priors know a
merchant by the name in its string, so a rename today changes nothing that was computed before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from app.errors import InvalidInput, NotFound
from app.orm_models import MerchantAlias, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg
    from sqlalchemy.orm import Session

# Shorter beginnings are shared by different shops ("the co" is not "the corner cafe").
SHORTEST_TRUNCATED_NAME: Final = 10
# A beginning that so many names share is a word, not a cut.
MOST_LONGER: Final = 20


@dataclass(frozen=True)
class Merchant:
    """A merchant of a user's ledger."""

    merchant: str
    canonical: str
    transactions: int


def learn_aliases(connection: psycopg.Connection[Any], user_id: int) -> None:
    """Learn aliases from the merchants of a file that is being ingested (table `identified`) and those there are.

    Rows that are stored already are shown under a newly learnt name too. What was learnt before, or given by hand,
    stays.
    """
    rows = connection.execute(
        """
        SELECT merchant FROM identified WHERE merchant IS NOT NULL
        UNION SELECT merchant FROM transactions WHERE user_id = %(user_id)s AND merchant IS NOT NULL
        """,
        {"user_id": user_id},
    )
    learnt = [
        {"user_id": user_id, "merchant": merchant, "full_name": full_name}
        for merchant, full_name in truncated_names(name for (name,) in rows)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            WITH learnt AS (
                INSERT INTO merchant_aliases (user_id, merchant, canonical, source)
                SELECT
                    %(user_id)s, %(merchant)s,
                    coalesce(
                        (SELECT canonical FROM merchant_aliases
                         WHERE user_id = %(user_id)s AND merchant = %(full_name)s),
                        %(full_name)s
                    ),
                    'learnt'
                ON CONFLICT (user_id, merchant) DO NOTHING
                RETURNING merchant, canonical
            )
            UPDATE transactions SET merchant_canonical = learnt.canonical, updated_at = now()
            FROM learnt
            WHERE transactions.user_id = %(user_id)s AND transactions.merchant = learnt.merchant
            """,
            learnt,
        )


def truncated_names(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find names that a bank cut off in the middle of a word, each with the full name it begins.

    Only a cut inside a word counts, for a name that ends where a word of a longer one ends may be a shop of its own
    ("costa" and "costa rica tours"); and only if every longer name goes on in the same way, for "national tr" may be
    the trust or the trains.

    Yields:
        Pairs of the name cut off and the full name.
    """
    ordered = sorted(set(names))
    full_names: dict[str, str] = {}
    # From the last to the first, so that a name which is cut twice already knows its full form.
    for position in range(len(ordered) - 1, -1, -1):
        name = ordered[position]
        if len(name) < SHORTEST_TRUNCATED_NAME:
            continue
        following = ordered[position + 1 : position + 1 + MOST_LONGER]
        longer = [other for other in following if other.startswith(name)]
        if not longer or len(longer) == MOST_LONGER or any(other[len(name)] == " " for other in longer):
            continue
        nearest = min(longer, key=len)
        if all(other.startswith(nearest) for other in longer):
            full_names[name] = full_names.get(nearest, nearest)
            yield name, full_names[name]


def list_merchants(session: Session, user_id: int, *, search: str = "", limit: int = 50) -> list[Merchant]:
    """List a user's merchants by how often they occur."""
    query = text("""
        SELECT merchant, merchant_canonical AS canonical, count(*) AS transactions FROM transactions
        WHERE user_id = :user_id AND deleted_at IS NULL AND merchant IS NOT NULL
            AND (strpos(merchant, lower(:search)) > 0 OR strpos(lower(merchant_canonical), lower(:search)) > 0)
        GROUP BY merchant, merchant_canonical ORDER BY transactions DESC, merchant LIMIT :limit
    """)
    rows = session.execute(query, {"user_id": user_id, "search": search, "limit": limit})
    return [Merchant(**row) for row in rows.mappings()]


def rename_merchant(session: Session, user_id: int, merchant: str, canonical: str) -> int:
    """Show a merchant under another name from now on; return how many transactions that changed.

    Raises:
        InvalidInput: The new name is empty.
        NotFound: The ledger has no such merchant.
    """
    if not canonical.strip():
        raise InvalidInput("The new name is empty.")
    owned = (Transaction.user_id == user_id, Transaction.merchant == merchant)
    if session.scalar(select(Transaction.id).where(*owned).limit(1)) is None:
        raise NotFound("There is no such merchant; `lm merchants list` shows those there are.")
    alias = insert(MerchantAlias).values(user_id=user_id, merchant=merchant, canonical=canonical, source="human")
    session.execute(
        alias.on_conflict_do_update(
            index_elements=["user_id", "merchant"],
            set_={"canonical": canonical, "source": "human", "updated_at": text("now()")},
        )
    )
    names = {"user_id": user_id, "merchant": merchant, "canonical": canonical}
    # Names that were learnt to be this one, cut off, follow it.
    session.execute(
        text("""
            UPDATE merchant_aliases SET canonical = :canonical, updated_at = now()
            WHERE user_id = :user_id AND source = 'learnt' AND canonical = :merchant
        """),
        names,
    )
    shown = session.execute(
        text("""
            UPDATE transactions SET merchant_canonical = merchant_aliases.canonical, updated_at = now()
            FROM merchant_aliases
            WHERE transactions.user_id = :user_id
                AND merchant_aliases.user_id = :user_id
                AND merchant_aliases.merchant = transactions.merchant
                AND merchant_aliases.canonical = :canonical
                AND transactions.merchant_canonical IS DISTINCT FROM merchant_aliases.canonical
            RETURNING transactions.id
        """),
        names,
    )
    return len(shown.all())
