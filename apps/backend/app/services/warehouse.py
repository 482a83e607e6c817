"""The warehouse: dbt in this process, on this installation's database."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.config import WAREHOUSE_DIR, get_settings
from app.db import advisory_lock
from app.errors import InvalidInput, LedgermillError
from app.services import installation

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Progress = Callable[[int, int | None], None]

SHOWN_FAILURES: Final = 5


class WarehouseError(LedgermillError):
    """A model does not build, or a test does not hold."""

    title = "Warehouse failed"


@dataclass(frozen=True)
class WarehouseResult:
    """What became of a run.

    Attributes:
        models: Models that were built.
        tests: Tests that ran, unit tests included.
        seconds: How long it took.
    """

    models: int
    tests: int
    seconds: float


def build_warehouse(
    *,
    as_of: dt.datetime | None = None,
    full_refresh: bool = False,
    select: Sequence[str] = (),
    progress: Progress | None = None,
) -> WarehouseResult:
    """Build the models and test them, each before what depends on it.

    Args:
        as_of: The moment of fct_training_view and dim_merchants, with its time zone; now if None.
        full_refresh: Build incremental models from nothing.
        select: dbt's selectors, such as `dim_merchants` or `tag:ml`; everything if empty.
        progress: Called with the number of models and tests done so far and their total, when a model is done.

    Raises:
        WarehouseError: A model did not build or a test did not hold; the message names them.
    """
    arguments = ["build"]
    if as_of is not None:
        arguments += ["--vars", json.dumps({"as_of": as_of.isoformat()})]
    if full_refresh:
        arguments.append("--full-refresh")
    return _run_nodes([*arguments, *_selection(select)], progress)


def check_warehouse(*, select: Sequence[str] = (), progress: Progress | None = None) -> WarehouseResult:
    """Test the models as they stand.

    Raises:
        WarehouseError: A test did not hold, or its model is not built; the message names them.
    """
    return _run_nodes(["test", *_selection(select)], progress)


def document_warehouse() -> Path:
    """Write the documentation of all models, with their lineage, as one page; return its path."""
    _invoke(["docs", "generate", "--static"])
    return _target_path() / "static_index.html"


def _selection(select: Sequence[str]) -> list[str]:
    """Select models, with the tests that read nothing else: others would fail on models that are not there."""
    return ["--select", *select, "--indirect-selection", "buildable"] if select else []


def _target_path() -> Path:
    return get_settings().data_dir / "warehouse-target"


def _run_nodes(arguments: list[str], progress: Progress | None) -> WarehouseResult:
    started = time.monotonic()
    results = _invoke(arguments, progress).results
    if not results:
        raise InvalidInput("That selects nothing in the warehouse; `dbt ls` in warehouse/ lists what there is.")
    kinds = [str(result.node.resource_type) for result in results]
    return WarehouseResult(
        models=kinds.count("model"),
        tests=kinds.count("test") + kinds.count("unit_test"),
        seconds=time.monotonic() - started,
    )


def _invoke(arguments: list[str], progress: Progress | None = None) -> Any:
    """Run one dbt command and return its result, which is of another type for each.

    dbt prints nothing: what failed is in the error, and everything in its log.
    """
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 -- takes a second, which no other command should wait for

    def report(event: Any) -> None:
        if progress is not None and event.info.name == "LogModelResult":
            progress(event.data.index, event.data.total)

    installation.prepare_installation()
    installation.write_profiles()
    options = {
        "--project-dir": WAREHOUSE_DIR,
        "--profiles-dir": get_settings().profiles_dir,
        "--target-path": _target_path(),
        "--log-path": _target_path() / "logs",
        "--log-level": "none",
    }
    flags = [text for name, value in options.items() for text in (name, str(value))]
    with advisory_lock("warehouse"):
        outcome = dbtRunner(callbacks=[report]).invoke([*arguments, *flags])
    result: Any = outcome.result
    if outcome.exception is not None:
        raise WarehouseError(str(outcome.exception))
    if not outcome.success:
        raise WarehouseError(_describe_failures(result.results))
    return result


def _describe_failures(results: Sequence[Any]) -> str:
    """Name what failed, and leave out what was skipped because of it."""
    failed = [result for result in results if result.status in {"error", "fail", "runtime error"}]
    lines = [f"{len(failed)} of {len(results)} models and tests failed:"]
    for result in failed[:SHOWN_FAILURES]:
        message = " ".join(str(result.message or "").partition("compiled code at")[0].split())
        lines.append(f"  {result.node.resource_type} {result.node.name}: {message}")
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"  and {len(failed) - SHOWN_FAILURES} more: see {_target_path() / 'logs' / 'dbt.log'}")
    return "\n".join(lines)
