"""`lm warehouse`: the dbt models."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from app.cli.moments import moment_of
from app.cli.output import results
from app.progress import progress_of
from app.services.warehouse import WarehouseResult, build_warehouse, check_warehouse, document_warehouse

app = typer.Typer(help="Build, test and document the warehouse.", no_args_is_help=True)

logger = logging.getLogger(__name__)

Select = Annotated[
    list[str] | None, typer.Option(help="dbt's selector, such as dim_merchants or tag:ml. May be repeated.")
]


@app.command()
def build(
    *,
    as_of: Annotated[
        str | None,
        typer.Option(help="Training data and priors as of this moment, such as 2025-10-01; UTC. Default now."),
    ] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Build incremental models from nothing.")
    ] = False,
    select: Select = None,
) -> None:
    """Build the models and test them."""
    moment = moment_of(as_of) if as_of else None
    logger.info("Building and testing the warehouse")
    with progress_of("models and tests") as show:
        outcome = build_warehouse(as_of=moment, full_refresh=full_refresh, select=select or (), progress=show)
    _report(outcome)
    if moment:
        results.print(f"Training data and priors are as of {moment}; `lm warehouse build` brings back today.")


@app.command("test")
def check(*, select: Select = None) -> None:
    """Test the models as they stand."""
    logger.info("Testing the warehouse")
    with progress_of("models and tests") as show:
        outcome = check_warehouse(select=select or (), progress=show)
    _report(outcome)


@app.command()
def docs() -> None:
    """Write the documentation of all models as one page."""
    results.print(str(document_warehouse()), soft_wrap=True)


def _report(outcome: WarehouseResult) -> None:
    results.print(f"{outcome.models} models, {outcome.tests} tests passed, {outcome.seconds:.1f} s")
