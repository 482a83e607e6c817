"""The names that categories are shown under today: labels and suggestions keep the words they were made with."""

from __future__ import annotations


def shown_today(user_id: str, word: str) -> str:
    """Return SQL for the name under which a user sees a word today.

    Args:
        user_id: SQL for the user, a column's name for one.
        word: SQL for the word.
    """
    return f"""coalesce((
        SELECT shown_as FROM category_names AS today
        WHERE today.user_id = {user_id} AND today.name = {word} AND today.valid_to IS NULL
    ), {word})"""  # noqa: S608 -- of literals
