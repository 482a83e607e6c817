"""A user's categories: the shared set or their own, and the names they are shown under.

Renaming, and merging one category into another, is one operation and rewrites nothing. A label keeps the word that it
was given; a row of `category_names` says under which name that word is shown until the row is closed. So there is
always exactly one open row per word that is shown under another one, and reads as of an earlier moment find what held
then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from app.errors import Conflict, InvalidInput, NotFound
from app.services.category_map import WORDS_IN_USE, read_category_map, write_category_map

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.orm import Session

LONGEST_NAME: Final = 100

_RENAMED_AWAY: Final = (
    "A category of that name was renamed or merged. Take that back first: `lm categories undo NAME`, "
    "or POST /categories/undo."
)


@dataclass(frozen=True)
class Category:
    """A category as its user sees it.

    Attributes:
        key: What a category of the shared set is called for good; None for a user's own.
        group_name: The heading that it is listed under, if any.
        is_own: Whether it is the user's and can be removed.
        transactions: How many transactions are labelled so, under whatever word.
        also_called: The words that are shown under this name, in order.
    """

    id: int
    key: str | None
    name: str
    group_name: str | None
    is_own: bool
    transactions: int
    also_called: tuple[str, ...]


_HAVE: Final = """
    FROM categories
    INNER JOIN users ON users.id = :user_id
    WHERE (categories.user_id = users.id OR (categories.user_id IS NULL AND NOT users.own_categories))
"""


def list_categories(session: Session, user_id: int) -> list[Category]:
    """List the categories that a user has, by group and name; those that are shown under another name are left out."""
    shown = shown_names(session, user_id)
    also_called: dict[str, list[str]] = {}
    for name, shown_as in sorted(shown.items()):
        also_called.setdefault(shown_as, []).append(name)
    labelled = session.execute(
        text("""
            SELECT transaction_labels.label, count(*) AS transactions
            FROM transaction_labels
            INNER JOIN transactions ON transactions.id = transaction_labels.txn_id
            WHERE transactions.user_id = :user_id AND transactions.deleted_at IS NULL
            GROUP BY transaction_labels.label
        """),
        {"user_id": user_id},
    )
    transactions: dict[str, int] = {}
    for row in labelled:
        name = shown.get(row.label, row.label)
        transactions[name] = transactions.get(name, 0) + row.transactions
    # Of two that have one name, the user's own and a shared one, the shared one's key counts.
    rows = session.execute(
        text(f"""
            SELECT DISTINCT ON (categories.name)
                categories.id, categories.key, categories.name, categories.group_name,
                categories.user_id IS NOT NULL AS is_own
            {_HAVE}
            ORDER BY categories.name, categories.key
        """),
        {"user_id": user_id},
    )
    categories = [
        Category(
            **found,
            transactions=transactions.get(found["name"], 0),
            also_called=tuple(also_called.get(found["name"], [])),
        )
        for found in rows.mappings()
        if found["name"] not in shown
    ]
    # Those without a group come last.
    return sorted(categories, key=lambda category: (category.group_name or "\U0010ffff", category.name))


def add_category(session: Session, user_id: int, name: str, group_name: str | None = None) -> Category:
    """Give a user a category of their own beside those they have.

    Raises:
        InvalidInput: The name is empty or too long.
        Conflict: There is such a category, or one whose name differs in capitals alone, or one that was renamed away.
    """
    name = _tidy(name)
    _lock(session, user_id)
    names = category_names(session, user_id)
    renames = read_category_map(session, user_id)
    _refuse_duplicate(name, names - set(renames.shown))
    if _resembling(name, set(renames.shown)):
        raise Conflict(_RENAMED_AWAY)
    category_id = _insert(session, user_id, name, group_name)
    return Category(category_id, None, name, group_name, is_own=True, transactions=0, also_called=())


def rename_or_merge(session: Session, user_id: int, name: str, into: str) -> None:
    """Show a category under another name from now on: that of one that is there (a merge), or a new one (a rename).

    What is shown under the category's name already comes along. Renaming a category back to a word that is shown under
    its name turns the two around.

    Raises:
        InvalidInput: The user has no category of that name, or the new name is empty, too long or the same.
        Conflict: The category is shown under another name already, or the new name is one that was renamed away
            elsewhere, or differs from another category's in capitals alone.
    """
    into = _tidy(into)
    _lock(session, user_id)
    names = category_names(session, user_id)
    renames = read_category_map(session, user_id)
    if name in renames.shown:
        raise Conflict(_RENAMED_AWAY)
    if name not in names:
        raise InvalidInput("There is no such category; `lm categories list` or GET /categories shows those there are.")
    if name == into:
        raise InvalidInput("The category has that name already.")
    elsewhere = {word for word, shown_as in renames.shown.items() if shown_as != name}
    if _resembling(into, elsewhere):
        raise Conflict(_RENAMED_AWAY)
    if into not in names:
        _refuse_duplicate(into, names - set(renames.shown) - {name})
    renames.merge(name, into)
    moment = write_category_map(session, user_id, renames)
    if into not in names:
        # The same moment as the rename's rows: so an undo knows that the rename made it.
        _insert(session, user_id, into, _group_of(session, user_id, name), moment)


def undo_rename(session: Session, user_id: int, name: str) -> None:
    """Show a word under its own name again, and with it what was shown under that name when it was renamed or merged.

    A category that only a rename made, and that nothing uses once this is undone, goes with it.

    Raises:
        InvalidInput: The word is not shown under another name.
    """
    _lock(session, user_id)
    renames = read_category_map(session, user_id)
    if name not in renames.shown:
        raise InvalidInput(
            "No category of that name was renamed or merged; `lm categories list` or GET /categories shows what each "
            "is also called."
        )
    if name not in category_names(session, user_id):
        # A later version words this category of the shared set anew; who takes that back has the old one.
        _insert(session, user_id, name, _group_of(session, user_id, renames.parents[name]))
    renames.undo(name)
    write_category_map(session, user_id, renames)
    session.execute(
        text(f"""
            DELETE FROM categories
            WHERE categories.user_id = :user_id AND categories.name <> ALL (CAST(:mapped AS text[]))
                AND EXISTS (
                    SELECT FROM category_names
                    WHERE category_names.user_id = :user_id AND category_names.shown_as = categories.name
                        AND category_names.valid_from = categories.created_at
                )
                AND NOT EXISTS (
                    SELECT FROM ({WORDS_IN_USE}) AS used
                    WHERE used.user_id = :user_id AND used.word = categories.name
                )
        """),  # noqa: S608 -- the fragment is a constant
        {"user_id": user_id, "mapped": [*renames.parents, *renames.parents.values()]},
    )


def remove_category(session: Session, user_id: int, category_id: int) -> None:
    """Remove a category of the user's own that nothing uses.

    Raises:
        NotFound: The user has no category of their own with that id.
        Conflict: A label or a rule says it, or one would again once an answer or an application of a rule were undone;
            or others are shown under its name.
    """
    _lock(session, user_id)
    owned = {"id": category_id, "user_id": user_id}
    find = text("SELECT name FROM categories WHERE id = :id AND user_id = :user_id")
    name = session.execute(find, owned).scalar_one_or_none()
    if name is None:
        raise NotFound("You have no category of your own with that id; those of the shared set cannot be removed.")
    shown = shown_names(session, user_id)
    if name in shown or name in shown.values():
        raise Conflict("The category was renamed or merged, or another one into it; take that back first.")
    # One statement: an answer that is being given moves the word from the label to what the answer found.
    used = session.execute(
        text(f"""
            SELECT EXISTS (SELECT FROM ({WORDS_IN_USE}) AS used WHERE used.user_id = :user_id AND used.word = :name)
        """),  # noqa: S608 -- the fragment is a constant
        {"user_id": user_id, "name": name},
    ).scalar_one()
    if used:
        raise Conflict(
            "Labels or rules use the category, or would again if an answer or an application of a rule were undone; "
            "merge it into another one instead."
        )
    session.execute(text("DELETE FROM categories WHERE id = :id AND user_id = :user_id"), owned)


def shown_names(session: Session, user_id: int) -> dict[str, str]:
    """Return the name that each word is shown under today, for those that are shown under another one."""
    rows = session.execute(
        text("SELECT name, shown_as FROM category_names WHERE user_id = :user_id AND valid_to IS NULL ORDER BY name"),
        {"user_id": user_id},
    )
    return {row.name: row.shown_as for row in rows}


def require_category(session: Session, user_id: int, name: str) -> str:
    """Return the name of a user's category as it is shown today, by that name or one that was renamed away.

    Until the session's transaction ends nobody removes or renames it.

    Raises:
        InvalidInput: The user has no such category.
    """
    # A statement of its own, for the next one must see what it waited for.
    session.execute(text("SELECT FROM users WHERE id = :user_id FOR SHARE"), {"user_id": user_id})
    found: str | None = session.execute(
        text(f"""
            SELECT coalesce(
                (
                    SELECT shown_as FROM category_names
                    WHERE user_id = :user_id AND category_names.name = :name AND valid_to IS NULL
                ),
                (SELECT categories.name {_HAVE} AND categories.name = :name LIMIT 1)
            )
        """),  # noqa: S608 -- the fragment is the constant above
        {"user_id": user_id, "name": name},
    ).scalar_one()
    if found is None:
        raise InvalidInput(
            "There is no such category. Choose one of those that `lm categories list` or GET /categories shows, or add "
            "it first."
        )
    return found


def _lock(session: Session, user_id: int) -> None:
    """Let one request at a time change a user's categories."""
    session.execute(text("SELECT FROM users WHERE id = :user_id FOR NO KEY UPDATE"), {"user_id": user_id})


def _tidy(name: str) -> str:
    tidied = " ".join(name.split())
    if not tidied:
        raise InvalidInput("The name is empty.")
    if len(tidied) > LONGEST_NAME:
        raise InvalidInput(f"The name is longer than {LONGEST_NAME} characters.")
    return tidied


def category_names(session: Session, user_id: int) -> set[str]:
    """Return all names that the user's categories have, those that are shown under another one included."""
    found = text(f"SELECT categories.name {_HAVE}")
    return set(session.scalars(found, {"user_id": user_id}))


def _resembling(name: str, names: set[str]) -> bool:
    return any(other.casefold() == name.casefold() for other in names)


def _refuse_duplicate(name: str, names: set[str]) -> None:
    if name in names:
        raise Conflict("There is a category of that name already.")
    if _resembling(name, names):
        raise Conflict("There is a category whose name differs from that only in capitals; use that one.")


def _group_of(session: Session, user_id: int, name: str) -> str | None:
    found = text(f"SELECT categories.group_name {_HAVE} AND categories.name = :name ORDER BY categories.key LIMIT 1")
    group_name: str | None = session.execute(found, {"user_id": user_id, "name": name}).scalar_one()
    return group_name


def _insert(
    session: Session, user_id: int, name: str, group_name: str | None, created_at: dt.datetime | None = None
) -> int:
    category_id: int = session.execute(
        text("""
            INSERT INTO categories (user_id, name, group_name, created_at)
            VALUES (:user_id, :name, :group_name, coalesce(CAST(:created_at AS timestamptz), now())) RETURNING id
        """),
        {"user_id": user_id, "name": name, "group_name": group_name, "created_at": created_at},
    ).scalar_one()
    return category_id
