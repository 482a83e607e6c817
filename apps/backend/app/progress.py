"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator


@contextmanager
def progress_of(what: str, *, total: int | None, logger: logging.Logger) -> Iterator[Callable[[int], None]]:
    """Show how far a piece of work is.

    Args:
        what: What is counted, in the plural: "transactions".
        total: How many there are; None when nobody knows.
        logger: Gets "Processed N transactions" where standard error is no terminal.

    Yields:
        A function to call with the number done so far.
    """
    if not sys.stderr.isatty():
        yield lambda done: logger.info("Processed %d %s", done, what)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
