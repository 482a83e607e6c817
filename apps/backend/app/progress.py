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
def progress_of(
    what: str, *, logger: logging.Logger | None = None, total: int | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far a piece of work is.

    Args:
        what: What is counted, in the plural: "transactions".
        logger: Gets "Processed N transactions" where standard error is no terminal; None says nothing there.
        total: How many there are, if that is known beforehand.

    Yields:
        A function to call with the number done so far, and the total where that has become known.
    """
    if not sys.stderr.isatty():
        last = 0

        def log(done: int, _total: int | None = None) -> None:
            nonlocal last
            # Work that is done side by side may report out of order.
            if logger and done > last:
                last = done
                logger.info("Processed %d %s", done, what)

        yield log
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

        def advance(done: int, known: int | None = None) -> None:
            bar.update(task, completed=done, total=known or total)

        yield advance
