"""Figures of what models are worth in use, and for whom: decision curves, and a forest of subgroups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haemo.pipeline.evaluation.subgroups import COMPARED
from haemo.pipeline.evaluation.tallies import metric_title
from haemo.pipeline.report.drawing import COLOURS, INK, Drawing, figure_style, finish, model_colours
from haemo.pipeline.report.pictures import plain_name

__all__ = ["decision_curve_figure", "forest_figure"]

_ROW_INCHES = 0.2
_MOST_BANDS = 3


def decision_curve_figure(clinical: Mapping[str, Mapping[str, Any]], folder: Path) -> Drawing | None:
    """Net benefit of each model against the threshold probability; None where no model has a curve."""
    from matplotlib.figure import Figure

    curves = {name: own["decision_curve"] for name, own in clinical.items()}
    curves = {name: curve for name, curve in curves.items() if "model" in curve}
    if not curves:
        return None
    words = []
    with figure_style():
        figure = Figure(figsize=(5, 3.4))
        axes = figure.subplots()
        colours = model_colours(list(clinical))
        highest = 0.0
        for number, (name, curve) in enumerate(curves.items()):
            x = curve["thresholds"]
            y = [entry["value"] for entry in curve["model"]]
            highest = max(highest, *y)
            axes.plot(x, y, color=colours[name], label=name, linewidth=1.6)
            if number < _MOST_BANDS:
                low, high = (
                    [entry.get(end, entry["value"]) for entry in curve["model"]] for end in ("low", "high")
                )
                axes.fill_between(x, low, high, color=colours[name], alpha=0.15, linewidth=0)
            useful = curve["useful"]
            words.append(
                f"{name} is of use at thresholds of {useful[0]:g} to {useful[1]:g}"
                if useful
                else f"{name} is not shown to be of use at any threshold"
            )
        first = next(iter(curves.values()))
        everyone = [entry["value"] for entry in first["everyone"]]
        axes.plot(
            first["thresholds"], everyone, color=INK, linestyle="--", linewidth=0.8, label="all positive"
        )
        axes.axhline(0, color=INK, linestyle=":", linewidth=0.8, label="none positive")
        axes.set(xlim=(0, 1), ylim=(-0.25 * highest - 0.02, 1.25 * highest + 0.02))
        axes.set(xlabel="threshold probability", ylabel="net benefit")
        axes.legend(loc="upper right")
        return finish(
            figure,
            folder,
            "decision_curve",
            "Decision curves: net benefit at each threshold probability; shaded: intervals of each point.",
            f"Decision curves. {'; '.join(words)}.",
        )


def forest_figure(
    name: str, groups: Sequence[Mapping[str, Any]], overall: Mapping[str, Any], folder: Path
) -> Drawing | None:
    """Every subgroup of one model on one page, with intervals; None where there are no groups.

    Parameters
    ----------
    name : str
        Of the model.
    groups : sequence of mapping
        As `pipeline.evaluation.subgroups.by_subgroup` gives them.
    overall : mapping
        Figures of all slices, of `pipeline.evaluation.intervals.assess`.
    folder : Path
    """
    from matplotlib.figure import Figure

    if not groups:
        return None
    rows: list[tuple[str, Mapping[str, Any] | None]] = [("all", None)]
    for number, group in enumerate(groups):
        if not number or group["attribute"] != groups[number - 1]["attribute"]:
            rows.append((f"{group['attribute']}:", {}))
        rows.append((f"{group['group']}  ({group['patients']})", group))
    with figure_style():
        figure = Figure(figsize=(8.5, _ROW_INCHES * len(rows) + 0.9), layout="constrained")
        panels = figure.subplots(1, len(COMPARED), sharey=True)
        for axes, metric in zip(panels, COMPARED, strict=True):
            for place, (_, group) in enumerate(rows):
                _mark(axes, place, metric, group, overall)
            if metric in overall:
                axes.axvline(overall[metric], color=INK, linestyle=":", linewidth=0.8)
            axes.set(xlim=(-0.02, 1.02), xlabel=metric_title(metric))
        panels[0].set_yticks(range(len(rows)), [plain_name(words) for words, _ in rows])
        for axes in panels:
            axes.tick_params(axis="y", length=0)
        panels[0].invert_yaxis()
        shown = [
            f"{group['attribute']} {group['group']} {group['figures'][COMPARED[0]]:.2f}"
            for group in groups
            if COMPARED[0] in group["figures"]
        ]
        return finish(
            figure,
            folder,
            f"subgroups_{name}",
            f"{name} by subgroup (patients in brackets), with intervals; dotted: all slices. Hollow: too "
            "small to say.",
            f"{name} by subgroup. {metric_title(COMPARED[0])}: {', '.join(shown)}.",
        )


def _mark(
    axes: Any, place: int, metric: str, group: Mapping[str, Any] | None, overall: Mapping[str, Any]
) -> None:
    if group == {} or (group is not None and metric not in group["compared"]):
        return
    figures = overall if group is None else group["figures"]
    if metric not in figures:
        return
    small = group is not None and metric in group["too_small"]
    colour = INK if group is None else COLOURS[0]
    ends = figures["intervals"].get(metric)
    if ends:
        axes.plot([ends["low"], ends["high"]], [place, place], color=colour, linewidth=1.0 if small else 1.6)
    face = "none" if small else colour
    shape = "D" if group is None else "o"
    axes.plot(
        figures[metric], place, shape, markersize=4.5, markerfacecolor=face, markeredgecolor=colour, zorder=3
    )
