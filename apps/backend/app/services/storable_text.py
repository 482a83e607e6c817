"""Text that the database can hold."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return a text as it is.

    Raises:
        ValueError: It is no Unicode, or PostgreSQL could not hold it.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds characters that are no text")
    return text
