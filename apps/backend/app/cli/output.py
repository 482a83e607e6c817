"""What commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

# No markup: what a bank or a person wrote may hold brackets.
results = Console(markup=False, highlight=False)
errors = Console(stderr=True, markup=False, highlight=False)


def one_line(text: str) -> str:
    """Keep what people and banks wrote from steering the terminal or breaking a row."""
    return "".join(character if character.isprintable() else " " for character in text)


def note(heading: str, sentence: str, *, style: str = "yellow") -> None:
    """Print a sentence to standard error behind a heading in colour."""
    errors.print(Text.assemble((heading, style), " ", sentence), soft_wrap=True)
