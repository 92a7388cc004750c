"""Tables of what models would be worth in use, and for whom they hold."""

from collections.abc import Mapping
from typing import Any

import click

from haemo.pipeline.cli.console import table
from haemo.pipeline.cli.figures import cell

__all__ = ["entry_cell", "show_clinical", "show_subgroups"]


def entry_cell(entry: Mapping[str, Any] | None, places: int = 3, signed: bool = False) -> str:
    """A figure of `pipeline.evaluation.jackknife.with_interval`; a dash where there is none."""
    from haemo.pipeline.evaluation.jackknife import rough_mark

    if entry is None:
        return "-"
    form = f"{'+' if signed else ''}.{places}f"
    if "low" not in entry:
        return f"{entry['value']:{form}}"
    return f"{entry['value']:{form}} ({rough_mark(entry)}{entry['low']:{form}} to {entry['high']:{form}})"


def show_clinical(clinical: Mapping[str, Mapping[str, Any]], things: str) -> None:
    """Print calibration, net benefit, fixed points and predictive values, a column a model."""
    from haemo.pipeline.evaluation.decision_curve import SHOWN_THRESHOLDS, THRESHOLDS

    if not clinical:
        return
    models = list(clinical.values())
    rows = []
    for name, words in (
        ("in_the_large", "calibration in the large (0 is right)"),
        ("slope", "calibration slope (1 is right)"),
        ("observed_to_expected", "observed / expected (1 is right)"),
    ):
        rows.append([words, *(entry_cell(own["calibration"].get(name)) for own in models)])
    curves = [own["decision_curve"] for own in models]
    for threshold in SHOWN_THRESHOLDS:
        place = THRESHOLDS.index(threshold)
        cells = [entry_cell(curve["model"][place]) if "model" in curve else "-" for curve in curves]
        rows.append([f"net benefit at {threshold:g}", *cells])
        cells = [
            entry_cell(curve["gain"][place], signed=True) if "gain" in curve else "-" for curve in curves
        ]
        rows.append(["   over the better of all and none", *cells])
    for name, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        shares = next((own["at_fixed"][name] for own in models if name in own["at_fixed"]), [])
        for place, entry in enumerate(shares):
            rows.append(
                [
                    f"{name} at {entry['at']:.0%} {other}",
                    *(entry_cell(own["at_fixed"][name][place]) for own in models),
                ]
            )
    for place, first in enumerate(models[0]["at_prevalences"]):
        for name in ("ppv", "npv"):
            cells = [entry_cell(own["at_prevalences"][place].get(name)) for own in models]
            rows.append([f"{name.upper()} at a prevalence of {first['prevalence']:g}", *cells])
    table(["", *clinical], rows, f"in use, {things}; decisions at each model's own threshold")
    for name, own in clinical.items():
        for part in ("calibration", "decision_curve", "at_fixed"):
            if "why_not" in own[part]:
                click.echo(f"{name}: no {part.replace('_', ' ')}: {own[part]['why_not']}")
        useful = own["decision_curve"].get("useful")
        if useful:
            click.echo(
                f"{name}: its net benefit is above that of calling all or none at thresholds of "
                f"{useful[0]:g} to {useful[1]:g}, by a band that holds for all of them"
            )
        elif "model" in own["decision_curve"]:
            click.echo(f"{name}: at no threshold is its net benefit shown to be above that of all or none")
    click.echo(
        f"sensitivity at a specificity, and the reverse, are points of the ROC curve of these {things}: no "
        "threshold was set before"
    )


def show_subgroups(subgroups: Mapping[str, Any]) -> None:
    """Print figures by subgroup, a table a model, and what may be said."""
    from haemo.pipeline.evaluation.subgroups import COMPARED
    from haemo.pipeline.evaluation.tallies import metric_title

    for name, own in subgroups.get("models", {}).items():
        if not own["groups"]:
            continue
        rows = []
        for group in own["groups"]:
            cells = []
            for one in COMPARED:
                if one not in group["compared"]:
                    cells += ["", ""]
                    continue
                cells += [cell(group["figures"], one), _difference(group, one)]
            counts = [str(group["slices"]), f"{group['patients_positive']} / {group['patients_negative']}"]
            rows.append([f"{group['attribute']} {group['group']}", *counts, *cells])
        columns = ["", "slices", "patients +/-"]
        columns += [text for one in COMPARED for text in (metric_title(one), "less the rest")]
        table(
            columns, rows, f"{name}, for whom it holds (* differs, corrected for {subgroups['tests']} tests)"
        )
        for sentence in own["sentences"]:
            click.echo(sentence)


def _difference(group: Mapping[str, Any], one: str) -> str:
    if one in group["too_small"]:
        return "too small"
    entry = group["differences"].get(one)
    if entry is None:
        return ""
    mark = "*" if entry.get("p_holm", 1.0) < 0.05 else ""
    ends = f" ({entry['low']:+.3f} to {entry['high']:+.3f})" if "low" in entry else ""
    return f"{entry['difference']:+.3f}{ends}{mark}"
