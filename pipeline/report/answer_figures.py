"""Figures drawn from predictions: ROC and precision-recall with bands, calibration, confusion, scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.tallies import CALIBRATION_BINS
from haemo.pipeline.report.drawing import INK, Drawing, figure_style, finish, model_colours
from haemo.pipeline.report.pictures import plain_name
from haemo.pipeline.run.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "curve_band",
    "precision_recall_figure",
    "roc_figure",
    "score_figure",
]

_GRID = np.linspace(0, 1, 101)
_BAND_RESAMPLES = 500
_MOST_BANDS = 3  # more bands than that cover one another

Models = Mapping[str, Predictions]


def curve_band(predictions: Predictions, kind: str, resampling: Resampling) -> tuple[np.ndarray, np.ndarray]:
    """A curve and its resamples of patients on a grid of 101 places.

    Parameters
    ----------
    predictions : Predictions
        Of two classes, both there.
    kind : {'roc', 'pr'}
        Sensitivity against 1 - specificity, or PPV against sensitivity.
    resampling : Resampling

    Returns
    -------
    curve : ndarray of shape (101,)
    resampled : ndarray of shape (resamples, 101)
        Resamples without both classes are left out.
    """
    order = np.argsort(-predictions.scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(predictions.scores[order]) < 0, True])
    patients, place = np.unique(predictions.patient, return_inverse=True)
    positive = (predictions.label == predictions.positive)[order]
    place = place[order]

    def on_grid(weights: np.ndarray) -> np.ndarray | None:
        each = weights[place]
        hits, alarms = np.cumsum(each * positive)[ends], np.cumsum(each * ~positive)[ends]
        if not hits[-1] or not alarms[-1]:
            return None
        if kind == "roc":
            return np.interp(_GRID, np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]])
        named = hits + alarms
        precision = np.divide(hits, named, out=np.ones_like(hits), where=named > 0)
        recall = hits / hits[-1]
        # The precision that can be had at this recall or more: a curve that is a function of recall.
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return best[np.minimum(np.searchsorted(recall, _GRID - 1e-12), len(best) - 1)]

    curve = on_grid(np.ones(len(patients)))
    found = [on_grid(row) for block in resampling.weights(len(patients)) for row in block]
    return curve, np.array([row for row in found if row is not None])


def _curves(models: Models, kind: str, axes: "Axes", resampling: Resampling) -> None:
    colours = model_colours(list(models))
    for number, (name, predictions) in enumerate(models.items()):
        if number < _MOST_BANDS:
            draws = Resampling(_BAND_RESAMPLES, resampling.seed, resampling.level)
            curve, found = curve_band(predictions, kind, draws)
            ends = [(1 - draws.level) / 2, (1 + draws.level) / 2]
            low, high = np.quantile(found, ends, axis=0)
            axes.fill_between(_GRID, low, high, color=colours[name], alpha=0.15, linewidth=0)
        else:
            curve, _ = curve_band(predictions, kind, Resampling(100, resampling.seed))
        axes.plot(_GRID, curve, color=colours[name], label=name, linewidth=1.6)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")


def roc_figure(models: Models, figures: Mapping[str, Any], folder: Path, resampling: Resampling) -> Drawing:
    """ROC curves with bands."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(4, 4))
        axes = figure.subplots()
        _curves(models, "roc", axes, resampling)
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=0.8)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
        axes.legend(loc="lower right")
        words = "; ".join(f"{name} has an area of {figures[name]['roc_auc']:.3f}" for name in models)
        return finish(
            figure,
            folder,
            "roc",
            f"ROC curves; bands hold {resampling.level:.0%} of resamples of patients. Dotted: chance.",
            f"ROC curves, sensitivity against 1 - specificity: {words}.",
        )


def precision_recall_figure(
    models: Models, figures: Mapping[str, Any], folder: Path, resampling: Resampling
) -> Drawing:
    """Precision-recall curves with bands."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(4, 4))
        axes = figure.subplots()
        _curves(models, "pr", axes, resampling)
        first = next(iter(models.values()))
        share = float(np.mean(first.label == first.positive))
        axes.axhline(share, color=INK, linestyle=":", linewidth=0.8)
        axes.set(xlabel="sensitivity (recall)", ylabel="PPV (precision)")
        axes.legend(loc="lower left")
        words = "; ".join(f"{name} {figures[name]['average_precision']:.3f}" for name in models)
        return finish(
            figure,
            folder,
            "precision_recall",
            f"PPV at each sensitivity or more, with bands. Dotted: the share of positives, {share:.1%}.",
            f"Precision-recall curves; average precision: {words}; a model without skill has {share:.3f}.",
        )


def calibration_figure(models: Models, figures: Mapping[str, Any], folder: Path) -> Drawing:
    """Observed frequency against predicted probability, in the bins of the calibration error."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(4, 4.8))
        upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        for name, colour in model_colours(list(models)).items():
            p = models[name]
            place = np.minimum((p.probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
            count = np.bincount(place, minlength=CALIBRATION_BINS)
            used = count > 0
            truth = np.bincount(place, p.label == p.positive, CALIBRATION_BINS)[used] / count[used]
            mean = np.bincount(place, p.probabilities, CALIBRATION_BINS)[used] / count[used]
            upper.plot(mean, truth, color=colour, marker="o", markersize=4, linewidth=1.2, label=name)
            lower.stairs(count, edges, color=colour)
        upper.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=0.8)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is positive")
        upper.legend(loc="upper left")
        lower.set(xlabel="probability that the model gives", ylabel="slices")
        words = "; ".join(f"{name} {figures[name]['calibration_error']:.3f}" for name in models)
        return finish(
            figure,
            folder,
            "calibration",
            f"Calibration in {CALIBRATION_BINS} bins of equal width; on the dotted line probabilities are "
            "right. Below: slices in each bin.",
            f"Observed frequency against predicted probability. Expected calibration error: {words}.",
        )


def confusion_figure(figures: Mapping[str, Any], folder: Path) -> Drawing:
    """A confusion matrix for each model."""
    from matplotlib.figure import Figure

    names = list(figures)
    classes = next(iter(figures.values()))["classes"]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    side = 1.5 + 0.35 * len(classes)
    with figure_style():
        figure = Figure(figsize=(side * columns, side * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        words = []
        for axes, name in zip(panels, names, strict=False):
            table = np.array(figures[name]["confusion"])
            shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for i in range(len(classes)):
                for j in range(len(classes)):
                    # Dark text on pale cells and the reverse, whatever the page's colours are.
                    tone = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(
                        j, i, f"{table[i, j]}\n{shares[i, j]:.0%}", ha="center", va="center", color=tone
                    )
            ticks, shown = range(len(classes)), [plain_name(one) for one in classes]
            axes.set_xticks(ticks, shown, rotation=0 if len(classes) == 2 else 45)
            axes.set_yticks(ticks, shown, rotation=90 if len(classes) == 2 else 0, va="center")
            axes.set(title=name, xlabel="predicted", ylabel="true")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            words.append(
                f"{name}: "
                + ", ".join(
                    f"of {row.sum()} {c} {row[i]} right"
                    for i, (c, row) in enumerate(zip(classes, table, strict=True))
                )
            )
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        return finish(
            figure,
            folder,
            "confusion",
            "Confusion matrices: number of slices, and share of the true class.",
            f"Confusion matrices. {'; '.join(words)}.",
        )


def score_figure(models: Models, folder: Path) -> Drawing:
    """Histograms of the probability, by true class."""
    from matplotlib.figure import Figure

    names = list(models)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    first = models[names[0]]
    with figure_style():
        figure = Figure(figsize=(2.4 * columns, 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        bins = np.linspace(0, 1, 21)
        for axes, name in zip(panels, names, strict=False):
            p = models[name]
            for label, colour, hatch in ((p.classes[0], "#56B4E9", None), (p.classes[1], "#D55E00", "///")):
                axes.hist(
                    p.probabilities[p.label == label],
                    bins,
                    color=colour,
                    alpha=0.55,
                    hatch=hatch,
                    edgecolor=colour,
                    linewidth=0.5,
                    label=plain_name(label),
                )
            positive = plain_name(p.classes[1])
            axes.set(title=name, xlim=(0, 1), xlabel=f"probability of {positive}", ylabel="slices")
        panels[0].legend(loc="upper right")
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        medians = "; ".join(
            f"{name}: median {np.median(p.probabilities[p.label == p.classes[0]]):.2f} for {p.classes[0]}, "
            f"{np.median(p.probabilities[p.label == p.classes[1]]):.2f} for {p.classes[1]}"
            for name, p in models.items()
        )
        return finish(
            figure,
            folder,
            "scores",
            f"Probability of {first.positive} by true class.",
            f"Histograms of the probability by true class. {medians}.",
        )
