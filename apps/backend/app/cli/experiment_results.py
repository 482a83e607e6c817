"""What an experiment says so far, on a terminal; apart, for the libraries that it needs take long to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from app.cli.output import note, results
from app.ml.sequential import tell_comparison

if TYPE_CHECKING:
    from app.ml.sequential import ShareSequence
    from app.services.experiment_analysis import ArmResult, ExperimentResult


def print_results(found: ExperimentResult) -> None:
    """Print what an experiment says so far."""
    if found.is_suspect:
        note(
            "Suspect:",
            f"the numbers of units do not fit the shares (e-value {found.sample_ratio_e_value:,.0f}); believe nothing "
            "below before it is known why.",
            style="bold red",
        )
    table = Table(
        "arm", "units", "transactions", "accepted", "of those answered", "right by later labels", "suggested for",
        "fallbacks",
    )  # fmt: skip
    for arm in found.arms:
        table.add_row(
            arm.arm, f"{arm.units:,}", f"{arm.transactions:,}", _share(arm.acceptance), _share(arm.answered),
            _share(arm.precision), _share(arm.coverage), _share(arm.fallbacks),
        )  # fmt: skip
    results.print(table)
    for arm in found.arms[1:]:
        _print_differences(arm, found.arms[0].arm)
    if found.next_step:
        results.print(found.next_step.sentence, soft_wrap=True)
    for arm_name, reason in found.broken.items():
        note(f"{arm_name} is to be stopped:", reason, style="bold red")


def _print_differences(arm: ArmResult, control: str) -> None:
    """Print a treatment beside the control, and of when that is."""
    if arm.since is None or arm.until is None:
        results.print(f"{arm.arm} was not asked yet.")
        return
    versions = "".join(f", {name} by version {version}" for name, version in arm.versions.items() if version)
    results.print(
        f"{arm.arm} beside {control}, from {arm.since:%Y-%m-%d %H:%M} to {arm.until:%Y-%m-%d %H:%M}{versions}:",
        soft_wrap=True,
    )
    for verb, difference, more, fewer in (
        ("accepts", arm.acceptance_difference, "more", "fewer"),
        ("is right", arm.precision_difference, "more often", "less often"),
        ("suggests for", arm.coverage_difference, "more", "fewer"),
    ):
        if difference is not None:
            told = tell_comparison(arm.arm, verb, difference, more=more, fewer=fewer)
            results.print(f"- {told}", soft_wrap=True)
    last = arm.last_step
    if last:
        results.print(
            f"- At the last step, since {last.since:%Y-%m-%d %H:%M}: of those answered, {_share(last.acceptance)} "
            f"accepted, after {_share(last.control)} of {control}'s before it.",
            soft_wrap=True,
        )


def _share(share: ShareSequence) -> str:
    if share.share is None:
        return "nothing yet"
    return f"{share.share:.1%} of {share.answers:,} [{share.lower:.1%}, {share.upper:.1%}]"
