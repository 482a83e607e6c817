"""Merchants as a person wants to see them: names learnt from truncated strings, and names given by hand.

An alias changes what is shown, `transactions.merchant_canonical`, and nothing else. Features and priors know a
merchant by the name in its string, so a rename today changes nothing that was computed before.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from app.errors import NotFound
from app.orm_models import MerchantAlias, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg
    from sqlalchemy.orm import Session

# Shorter beginnings are shared by different shops ("the co" is not "the corner cafe").
SHORTEST_TRUNCATED_NAME: Final = 10


@dataclass(frozen=True)
class Merchant:
    """A merchant of a user's ledger."""

    merchant: str
    canonical: str
    transactions: int


def learn_aliases(connection: psycopg.Connection[Any], user_id: int) -> None:
    """Learn aliases from the merchants of a file that is being ingested (table `identified`) and those there are."""
    rows = connection.execute(
        """
        SELECT merchant FROM identified WHERE merchant IS NOT NULL
        UNION SELECT merchant FROM transactions WHERE user_id = %(user_id)s AND merchant IS NOT NULL
        """,
        {"user_id": user_id},
    )
    learnt = list(truncated_names(name for (name,) in rows))
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO merchant_aliases (user_id, merchant, canonical, source) VALUES (%s, %s, %s, 'learnt')
            ON CONFLICT (user_id, merchant) DO NOTHING
            """,
            [(user_id, merchant, canonical) for merchant, canonical in learnt],
        )


def truncated_names(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find names that a bank cut off in the middle of a word, each with the full name it begins.

    A name that ends where a word of the longer one ends may be a shop of its own ("costa" and "costa rica tours"),
    so only a cut inside a word counts.

    Yields:
        Pairs of the name cut off and the longest name that completes it.
    """
    completed: dict[str, str] = {}
    # From the last to the first, so that a name which is cut twice already knows its full form.
    for longer, shorter in pairwise(sorted(set(names), reverse=True)):
        cut_inside_a_word = longer.startswith(shorter) and longer[len(shorter)] != " "
        if len(shorter) >= SHORTEST_TRUNCATED_NAME and cut_inside_a_word:
            completed[shorter] = completed.get(longer, longer)
            yield shorter, completed[shorter]


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
        NotFound: The ledger has no such merchant.
    """
    owned = (Transaction.user_id == user_id, Transaction.merchant == merchant)
    if session.scalar(select(Transaction.id).where(*owned).limit(1)) is None:
        raise NotFound(f"There is no merchant {merchant!r}; `lm merchants list` shows those there are.")
    alias = insert(MerchantAlias).values(user_id=user_id, merchant=merchant, canonical=canonical, source="human")
    session.execute(
        alias.on_conflict_do_update(
            index_elements=["user_id", "merchant"],
            set_={"canonical": canonical, "source": "human", "updated_at": text("now()")},
        )
    )
    update = text("""
        UPDATE transactions SET merchant_canonical = :canonical, updated_at = now()
        WHERE user_id = :user_id AND merchant = :merchant AND merchant_canonical IS DISTINCT FROM :canonical
    """)
    changed = session.execute(update, {"canonical": canonical, "user_id": user_id, "merchant": merchant})
    return changed.rowcount  # type: ignore[attr-defined, no-any-return] # a cursor result, as it is an UPDATE
