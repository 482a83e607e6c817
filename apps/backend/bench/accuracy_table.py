"""The table of accuracies, and what our model has to reach in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Figures = dict[str, Any]
    # dataset -> protocol -> system -> figures
    Results = dict[str, dict[str, dict[str, Figures]]]

TITLES: Final = {
    "lookup": "exact lookup, else the usual",
    "payee_majority": "payee: 3 of the last 5",
    "naive_bayes": "naive Bayes on words",
    "svm": "char n-grams, linear SVM",
    "lookup_then_svm": "exact lookup, then that SVM",
    "smart_importer": "smart_importer",
    "smart_importer_recipe": "its recipe, rebuilt",
    "rules": "ours: heuristics",
    "model": "ours: model",
}


@dataclass(frozen=True)
class Reach:
    """What our model has to reach on a dataset; less ends the run with exit code 1."""

    accuracy: float
    f1_macro: float
    ece: float
    auto_apply_error: float
    auto_apply_coverage: float
    fit_to_svm: float | None = None  # our fit's seconds over the SVM's


JUDGED: Final = "model"
REACHES: Final[Mapping[tuple[str, str], Reach]] = {
    ("calderdale", "static"): Reach(0.922, 0.790, 0.040, 0.01, 0.60, fit_to_svm=1),
    ("calderdale", "live"): Reach(0.952, 0.858, 0.020, 0.01, 0.70),
    ("birmingham", "static"): Reach(0.750, 0.400, 0.030, 0.10, 0.40, fit_to_svm=0.2),
}


def accuracy_table(dataset: str, protocol: str, systems: Mapping[str, Figures]) -> Table:
    """Lay out one dataset's systems under one protocol, and what ours has to reach."""
    first = next(iter(systems.values()))
    learnt = f"{first['train_rows']:,} rows learnt from" + (" at first" if protocol == "live" else "")
    title = f"{dataset}, {protocol}: {learnt}, {first['test_rows']:,} predicted"
    table = Table(title=title, title_justify="left")
    for column in ("system", "accuracy", "macro-F1", "ECE", "applied (wrong)", "fits, s", "rows/s"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for system, figures in systems.items():
        applied = figures.get("auto_apply")
        same = figures.get("same_as_smart_importer")
        table.add_row(
            TITLES.get(system, system) + (f" ({same:.1%} the same)" if same is not None else ""),
            f"{figures['accuracy']:.3f}",
            f"{figures['f1_macro']:.3f}",
            f"{figures['ece']:.3f}" if "ece" in figures else "",
            f"{applied['coverage']:.1%} ({applied['error']:.1%})" if applied else "",
            f"{figures['fit_seconds']:,.1f}",
            f"{figures['predict_rows_per_second']:,}" if "predict_rows_per_second" in figures else "",
        )
    if protocol == "live" and "svm" not in systems:
        table.add_row(f"{TITLES['svm']}: make bench-full")
    if reach := REACHES.get((dataset, protocol)):
        table.add_section()
        table.add_row(
            "reach of our model",
            f"≥ {reach.accuracy:.3f}",
            f"≥ {reach.f1_macro:.3f}",
            f"≤ {reach.ece:.3f}",
            f"≥ {reach.auto_apply_coverage:.0%} (≤ {reach.auto_apply_error:.0%})",
            f"≤ {reach.fit_to_svm * systems['svm']['fit_seconds']:,.1f}" if reach.fit_to_svm is not None else "",
            "",
        )
    return table


def missed_reaches(results: Results) -> Iterator[str]:
    """Name every figure of our model that does not reach what it has to, on the datasets that were measured."""
    for (dataset, protocol), reach in REACHES.items():
        systems = results.get(dataset, {}).get(protocol)
        if systems is None:
            continue
        where = f"accuracy.{dataset}.{protocol}.{JUDGED}"
        if JUDGED not in systems:
            yield f"{where} was not measured"
            continue
        ours = systems[JUDGED]
        at_least = {
            "accuracy": (ours["accuracy"], reach.accuracy),
            "f1_macro": (ours["f1_macro"], reach.f1_macro),
            "auto_apply.coverage": (ours["auto_apply"]["coverage"], reach.auto_apply_coverage),
        }
        at_most = {
            "ece": (ours["ece"], reach.ece),
            "auto_apply.error": (ours["auto_apply"]["error"], reach.auto_apply_error),
        }
        if reach.fit_to_svm is not None:
            at_most["fit_seconds"] = (ours["fit_seconds"], reach.fit_to_svm * systems["svm"]["fit_seconds"])
        for name, (found, bound) in at_least.items():
            if found < bound:
                yield f"{where}.{name} is {found:,}, not at least {bound:,}"
        for name, (found, bound) in at_most.items():
            if found > bound:
                yield f"{where}.{name} is {found:,}, not at most {bound:,.4g}"
