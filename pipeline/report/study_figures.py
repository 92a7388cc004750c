"""Figures of how the models came about: search, training, leakage, learning curve, and their worst errors."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import replacing
from haemo.errors import UnreadableSlice
from haemo.features.manifest import ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.evaluation.power_law import PowerLaw
from haemo.pipeline.report.drawing import COLOURS, INK, Drawing, figure_style, finish
from haemo.pipeline.report.evidence import Names
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.copies import SliceCopy
from haemo.tables import Records

__all__ = [
    "error_montage",
    "grid_figure",
    "history_figure",
    "leakage_figure",
    "learning_curve_figure",
]

_NOT_PARAMETERS = {"mean", "sd", "converged", "seconds", "rank"}
_PANEL_PIXELS = 160


def grid_figure(name: str, path: Path, metric: str, chosen_by: str, folder: Path) -> Drawing | None:
    """The grid that was searched: a heat map over two parameters, or a line over one.

    None if there is nothing to draw: fewer than two settings.
    """
    from matplotlib.figure import Figure

    rows = [row for row in Records(path) if row["mean"]]
    varied = [
        key
        for key in (rows[0] if rows else {})
        if key not in _NOT_PARAMETERS and not key.startswith("fold_") and len({row[key] for row in rows}) > 1
    ]
    if not varied:
        return None
    best = max(rows, key=lambda row: float(row["mean"]))
    words = ", ".join(f"{key} = {best[key]}" for key in varied)
    with figure_style():
        figure = Figure(figsize=(4, 2.8))
        axes = figure.subplots()
        if len(varied) == 1 and all(_by_number(row[varied[0]])[0] == 0 for row in rows):
            own = sorted(rows, key=lambda row: float(row[varied[0]]))
            x = [float(row[varied[0]]) for row in own]
            mean = np.array([float(row["mean"]) for row in own])
            spread = np.array([float(row["sd"]) for row in own])
            axes.errorbar(x, mean, spread, marker="o", markersize=4, capsize=3, color=COLOURS[0])
            axes.set(xscale="log", xlabel=varied[0], ylabel=f"{metric}, mean and sd over folds")
        else:
            across, down = (*varied, varied[0])[:2]
            columns, lines = (sorted({row[key] for row in rows}, key=_by_number) for key in (across, down))
            table = np.full((len(lines), len(columns)), np.nan)
            for row in rows:
                cell = lines.index(row[down]), columns.index(row[across])
                # Of settings that differ in a third parameter the best is shown.
                table[cell] = np.nanmax([table[cell], float(row["mean"])])
            axes.imshow(table, cmap="viridis", aspect="auto")
            middle = (np.nanmin(table) + np.nanmax(table)) / 2
            for (i, j), value in np.ndenumerate(table):
                if not np.isnan(value):
                    tone = "black" if value > middle else "white"
                    axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=tone, fontsize=8)
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(lines)), lines)
            axes.set(xlabel=across, ylabel=down)
        return finish(
            figure,
            folder,
            f"grid_{name}",
            f"{name}: the grid that was searched ({metric}, by {chosen_by}).",
            f"{metric} of {len(rows)} settings of {name}; the best, {words}, has {float(best['mean']):.3f}.",
        )


def _by_number(text: str) -> tuple[int, float, str]:
    """Key that puts numbers first, in their order; then words and none, which parameters may also be."""
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text


def history_figure(name: str, path: Path, folder: Path) -> Drawing:
    """Loss and accuracy of a network over epochs."""
    from matplotlib.figure import Figure

    rows = list(Records(path))
    epochs = [int(row["epoch"]) for row in rows]
    with figure_style():
        figure = Figure(figsize=(6, 2.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, what in zip(panels, ("loss", "accuracy"), strict=True):
            for part, colour, style in (("train", COLOURS[0], "-"), ("validation", COLOURS[1], "--")):
                values = [float(row[f"{part}_{what}"]) for row in rows]
                axes.plot(epochs, values, color=colour, linestyle=style, label=part)
            axes.set(xlabel="epoch", ylabel=what)
        panels[0].legend(loc="upper right")
        last = rows[-1]
        return finish(
            figure,
            folder,
            f"history_{name}",
            f"{name}: loss and accuracy over epochs; validation is on training patients held out whole.",
            f"Learning curves of {name} over {len(rows)} epochs: training accuracy ends at "
            f"{float(last['train_accuracy']):.3f}, validation accuracy at "
            f"{float(last['validation_accuracy']):.3f}.",
        )


def leakage_figure(leakage: Mapping[str, Any], folder: Path) -> Drawing:
    """ROC AUC of the same features and head under each protocol, with true and with shuffled labels."""
    from matplotlib.figure import Figure

    entries = [entry for entry in leakage["protocols"] if "figures" in entry]
    shuffled = {entry["protocol"]: entry for entry in leakage["shuffled"] if "figures" in entry}
    with figure_style():
        figure = Figure(figsize=(5.5, 0.5 * len(entries) + 1))
        axes = figure.subplots()
        words = []
        for place, entry in enumerate(entries):
            for source, colour, mark, shift in (
                (entry, COLOURS[0], "o", -0.12),
                (shuffled.get(entry["protocol"], {}), COLOURS[1], "s", 0.12),
            ):
                value = source.get("figures", {}).get("roc_auc", {})
                if "mean" not in value:
                    continue
                low, high = value.get("low", value["mean"]), value.get("high", value["mean"])
                axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.6)
                label = {"o": "true labels", "s": "labels shuffled between patients"}[mark]
                axes.plot(
                    value["mean"],
                    place + shift,
                    mark,
                    color=colour,
                    markersize=5,
                    label="" if place else label,
                )
            words.append(f"{entry['protocol']} {entry['figures']['roc_auc'].get('mean', float('nan')):.3f}")
        axes.axvline(0.5, color=INK, linestyle=":", linewidth=0.8)
        names = [f"{entry['protocol']} LEAKY" if entry["leaky"] else entry["protocol"] for entry in entries]
        axes.set_yticks(range(len(entries)), names)
        axes.invert_yaxis()
        axes.set(xlabel="ROC AUC")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.22 - 0.15 / len(entries)), ncols=2)
        return finish(
            figure,
            folder,
            "leakage",
            "The same features and linear SVM under each protocol, with intervals. With shuffled labels "
            "everything right of the dotted line is leakage.",
            f"ROC AUC by protocol: {', '.join(words)}.",
        )


def learning_curve_figure(curve: Mapping[str, Any], folder: Path) -> Drawing:
    """Accuracy and ROC AUC against the number of training patients, with the fitted power laws."""
    from matplotlib.figure import Figure

    x = np.array([point["patients"] for point in curve["points"]])
    smooth = np.geomspace(x.min(), 3 * x.max(), 100)
    with figure_style():
        figure = Figure(figsize=(5, 3))
        axes = figure.subplots()
        for name, words, colour, mark in (
            ("roc_auc", "ROC AUC", COLOURS[0], "o"),
            ("accuracy", "accuracy", COLOURS[1], "s"),
        ):
            mean, low, high = (
                np.array([point[name].get(end, point[name]["mean"]) for point in curve["points"]])
                for end in ("mean", "low", "high")
            )
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, mean, mark, color=colour, markersize=4, label=words)
            fit = curve["fits"][name]
            y = PowerLaw.curve(fit["b1"], fit["b2"], smooth) / 100
            inside = smooth <= x.max()
            axes.plot(smooth[inside], y[inside], color=colour, linewidth=1.2)
            axes.plot(smooth[~inside], y[~inside], color=colour, linewidth=1.2, linestyle=":")
        axes.set(xscale="log", xlabel="training patients", ylabel="score", ylim=(None, 1.0))
        axes.set_xticks(x[::2], [str(count) for count in x[::2]])
        axes.minorticks_off()
        axes.legend(loc="lower right")
        last = curve["points"][-1]
        return finish(
            figure,
            folder,
            "learning_curve",
            f"Score against training patients, {curve['repeats']} splits by patient; shaded: "
            f"{curve['level']:.0%} intervals. Lines: y = 100 + b1 x^b2; dotted beyond what was measured.",
            f"At {last['patients']} training patients ROC AUC is {last['roc_auc']['mean']:.3f} and accuracy "
            f"{last['accuracy']['mean']:.3f}.",
        )


def error_montage(
    predictions: Predictions,
    slices: Mapping[str, ManifestRow],
    names: Names,
    preprocessing: Preprocessing,
    folder: Path,
    most: int = 12,
) -> Drawing | None:
    """Pictures of the most confident errors, worst first; None where there are none or no file can be read.

    Parameters
    ----------
    predictions : Predictions
        Of one model.
    slices : mapping of str to ManifestRow
        By slice id; among them rotated copies, where the split deals them.
    names : Names
        How slices are called in the report.
    preprocessing : Preprocessing
        Of the pictures.
    folder : Path
    most : int
    """
    p = predictions
    columns = (
        p.probabilities if p.positive is None else np.column_stack([1 - p.probabilities, p.probabilities])
    )
    place = {name: i for i, name in enumerate(p.classes)}
    of_predicted = columns[np.arange(len(p)), [place[str(name)] for name in p.predicted]]
    wrong = np.flatnonzero(p.predicted != p.label)
    shown: list[tuple[int, np.ndarray]] = []
    for row in wrong[np.argsort(-of_predicted[wrong], kind="stable")]:
        if len(shown) == most:
            break
        known = slices.get(str(p.slice_id[row]))
        try:
            if known is not None:
                plane = preprocessing.plane(read_guarded(known.path))
                shown.append((int(row), known.turned(plane) if isinstance(known, SliceCopy) else plane))
        except (UnreadableSlice, OSError):
            continue  # named already: the shortcut control and stage one list what cannot be read
    if not shown:
        return None
    panels, words, images = [], [], []
    for row, plane in shown:
        image = _panel(plane)
        images.append(image)
        said = f"{p.predicted[row]} {of_predicted[row]:.3f}"
        name = names.slice(str(p.slice_id[row]))
        alternative = f"Slice {name}, true class {p.label[row]}, predicted {said}"
        data = base64.b64encode(_png(image)).decode()
        panels.append(
            f'<figure class="panel"><img src="data:image/png;base64,{data}" width="{_PANEL_PIXELS}" '
            f'height="{_PANEL_PIXELS}" alt="{escape(alternative)}"><figcaption>{escape(name)}<br>'
            f"true {escape(str(p.label[row]))}, said <b>{escape(said)}</b></figcaption></figure>"
        )
        words.append(alternative)
    _write_montage(images, folder)
    return Drawing(
        "errors",
        f"The {len(shown)} most confident of {len(wrong)} errors, worst first.",
        "",
        f'<div class="montage">{"".join(panels)}</div>',
    )


def _panel(plane: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize((_PANEL_PIXELS, _PANEL_PIXELS), Image.Resampling.LANCZOS))


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _write_montage(images: Sequence[np.ndarray], folder: Path) -> None:
    columns = min(len(images), 6)
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * _PANEL_PIXELS, columns * _PANEL_PIXELS), dtype=np.uint8)
    for number, image in enumerate(images):
        i, j = divmod(number, columns)
        sheet[i * _PANEL_PIXELS : (i + 1) * _PANEL_PIXELS, j * _PANEL_PIXELS : (j + 1) * _PANEL_PIXELS] = (
            image
        )
    with replacing(folder / "errors.png") as path:
        path.write_bytes(_png(sheet))
