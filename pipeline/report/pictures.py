"""Pictures of data and networks: learning curves, kernels, feature maps, slices before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import BadSettings, MissingStep, UnreadableSlice
from haemo.extensions import unknown
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice
from haemo.models.training.history import Epoch, best_epoch
from haemo.models.training.recipes import RECIPES, Recipe, recipe_for
from haemo.pipeline.run.directory import NETWORKS, RunDirectory
from haemo.pipeline.trained.networkfolder import NetworkFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from haemo.features.views.preprocess import Preprocessing

__all__ = [
    "KINDS",
    "feature_maps",
    "first_kernels",
    "learning_curves",
    "make_picture",
    "plain_name",
    "sample_slices",
    "save_figure",
    "transformed_slice",
]

KINDS = ("curves", "kernels", "maps", "samples", "transforms")

# Blue and vermilion of Okabe and Ito, told apart by every eye.
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"
_DPI = 120
_SAMPLES_A_CLASS = 6
_MAPS_A_LAYER = 11


def make_picture(
    run: RunDirectory,
    kind: str,
    *,
    network: str | None = None,
    slice_id: str | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Draw one picture of a run and write it as PNG.

    Parameters
    ----------
    run : RunDirectory
    kind : str
        Of `KINDS`.
    network : str, optional
        Whose. None takes all trained ones for ``curves``, else the first of them, or ``cnn``.
    slice_id : str, optional
        The slice of ``maps`` and ``transforms``; None draws one.
    seed : int
        Of what is drawn.
    out : Path, optional
        In a folder that is there. Default: RUN/pictures/KIND.png, or KIND-NETWORK.png.

    Raises
    ------
    BadSettings
        If there is no such kind, network or slice.
    MissingStep
        If the network has not been trained.
    UnreadableSlice
        If the chosen slice cannot be read.
    """
    if kind not in KINDS:
        raise unknown("picture", kind, KINDS)
    if network is not None:
        recipe_for(network)
    trained = [name for name in NETWORKS if name in run.trained()]
    match kind:
        case "samples":
            network = None
            figure = sample_slices(run.manifest(), seed=seed)
        case "curves":
            names = [network] if network else trained
            if not names:
                raise MissingStep(f"{run} has no trained network; train one first: haemo cnn --run {run}")
            figure = learning_curves({name: NetworkFolder(run.model_path(name)).history() for name in names})
        case "transforms":
            network = network or next(iter(trained), "cnn")
            row = _chosen(run.manifest(), slice_id, seed)
            figure = transformed_slice(
                _read(row), recipe_for(network), _preprocessing(run, network), row.slice_id, seed=seed
            )
        case _:
            network = network or next(iter(trained), "cnn")
            folder = NetworkFolder(run.model_path(network))
            if kind == "kernels":
                figure = first_kernels(folder)
            else:
                row = _chosen(run.manifest(), slice_id, seed)
                figure = feature_maps(folder, _read(row), row.slice_id)
    if out is None:
        out = run.path / "pictures" / (f"{kind}-{network}.png" if network else f"{kind}.png")
        out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, out)
    return out


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    from haemo.atomic import replacing

    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def learning_curves(histories: Mapping[str, Sequence[Epoch]]) -> "Figure":
    """Loss and accuracy over the epochs, a column a network; the kept epoch is marked."""
    figure = _figure(3.4 * max(len(histories), 1) + 0.6, 5.2)
    axes = figure.subplots(2, len(histories), squeeze=False, sharex="col")
    for column, (name, history) in zip(axes.T, histories.items(), strict=True):
        best = best_epoch(history)
        numbers = [epoch.epoch for epoch in history]
        for axis, what in zip(column, ("loss", "accuracy"), strict=True):
            for part, colour in (("train", _TRAIN), ("validation", _VALIDATION)):
                values = [getattr(epoch, f"{part}_{what}") for epoch in history]
                axis.plot(numbers, values, color=colour, label=part, marker="." if len(history) < 3 else "")
            axis.axvline(best.epoch, color="0.5", linewidth=0.8, linestyle=":")
            axis.set_ylabel(what)
            axis.grid(color="0.92")
        highest = max(max(epoch.train_loss, epoch.validation_loss) for epoch in history)
        column[0].set_ylim(0, 1.08 * highest)
        column[1].set_ylim(0, 1.02)
        column[0].set_title(f"{RECIPES[name].title if name in RECIPES else name}\nkept: epoch {best.epoch}")
        column[1].set_xlabel("epoch")
        column[1].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(loc="upper right", frameon=False)
    return figure


def first_kernels(folder: NetworkFolder) -> "Figure":
    """The kernels of the first convolution as they act on gray slices, each scaled to its own range."""
    kernels = folder.network().kernels()
    columns = int(np.ceil(np.sqrt(len(kernels) * 2)))
    rows = int(np.ceil(len(kernels) / columns))
    figure = _figure(0.6 * columns + 0.4, 0.6 * rows + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, kernel in zip(axes, kernels, strict=False):
        limit = np.abs(kernel).max() or 1.0
        axis.imshow(kernel, cmap="gray", vmin=-limit, vmax=limit)
    _bare(axes)
    height, width = kernels.shape[1:]
    figure.suptitle(f"{folder.name}: {len(kernels)} kernels of {height}x{width} (gray is 0)", fontsize=9)
    return figure


def feature_maps(folder: NetworkFolder, image: Slice, title: str) -> "Figure":
    """A slice, and for each convolution the maps that it excites most."""
    network = folder.network()
    plane = folder.preprocessing().plane(image)
    layers = network.feature_maps(plane)
    figure = _figure(1.0 * (_MAPS_A_LAYER + 1), 1.1 * len(layers) + 0.5)
    axes = figure.subplots(len(layers), _MAPS_A_LAYER + 1, squeeze=False)
    for line, (name, maps) in zip(axes, layers.items(), strict=True):
        strongest = np.argsort(-maps.mean(axis=(1, 2)), kind="stable")[:_MAPS_A_LAYER]
        for axis, channel in zip(line[1:], strongest, strict=False):
            axis.imshow(maps[channel], cmap="magma")
            axis.set_title(f"{channel}", fontsize=6, pad=2)
        line[0].text(
            0.5, 0.5, f"{name}\n{'x'.join(map(str, maps.shape))}", ha="center", va="center", fontsize=8
        )
    _bare(axes.ravel())
    axes[0, 0].imshow(plane, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1))
    axes[0, 0].texts[0].set(color="white", fontsize=7)
    figure.suptitle(f"{folder.name}: {plain_name(title)}, strongest maps of each convolution", fontsize=9)
    return figure


def sample_slices(manifest: Manifest, *, seed: int = 0, each: int = _SAMPLES_A_CLASS) -> "Figure":
    """Some slices of every class, drawn at random, as a brain window shows them."""
    from haemo.features.views.preprocess import Preprocessing

    random = np.random.default_rng(seed)
    classes = manifest.classes or ("",)
    figure = _figure(1.6 * each + 0.3, 1.9 * len(classes))
    axes = figure.subplots(len(classes), each, squeeze=False)
    for line, name in zip(axes, classes, strict=True):
        rows = [row for row in manifest if row.label == name]
        shown = 0
        for place in random.permutation(len(rows)):
            if shown == each:
                break
            try:
                plane = Preprocessing().plane(read_guarded(rows[place].path))
            except UnreadableSlice:
                continue  # named by the step that needs it; here another one serves as well
            line[shown].imshow(plane, cmap="gray", vmin=0, vmax=255)
            line[shown].set_title(plain_name(_short(rows[place].slice_id)), fontsize=6)
            shown += 1
        line[0].set_ylabel(f"{plain_name(name) or 'no label'}\n{len(rows):,} slices", fontsize=8)
    _bare(axes.ravel())
    return figure


def transformed_slice(
    image: Slice, recipe: Recipe, preprocessing: "Preprocessing", title: str, *, seed: int = 0
) -> "Figure":
    """A slice as it is in its file, as the input of a network, and as augmentation may change it."""
    from haemo.features.views.augment import PAPER_ANGLES_DEG, rotate_planes

    size = recipe.input_size
    plane = replace(preprocessing, size=size).plane(image)
    larger = replace(preprocessing, size=size + recipe.crop_margin).plane(image)
    top, left = np.random.default_rng(seed).integers(0, recipe.crop_margin + 1, 2)
    turned = rotate_planes(plane[None])[0]
    height, width = image.pixels.shape
    low, high = (-1000, 1000) if image.is_hu else (0, 255)
    unit = "HU, -1000..1000" if image.is_hu else "gray levels"
    cropped = "cropped to the head, " if preprocessing.crop == "head" else ""
    pictures = [
        (image.pixels, low, high, f"file: {width}x{height}\n{unit}"),
        (plane, 0, 255, f"input: {size}x{size}\n{cropped}windowed, resized"),
        (plane[:, ::-1], 0, 255, "flip"),
        (larger[top : top + size, left : left + size], 0, 255, f"crop\nfrom {len(larger)}x{len(larger)}"),
        *((turned[number + 1], 0, 255, f"rotate {angle}°") for number, angle in enumerate(PAPER_ANGLES_DEG)),
    ]
    figure = _figure(1.9 * 5, 2.2 * 2 + 0.3)
    axes = figure.subplots(2, 5).ravel()
    for axis, (pixels, darkest, brightest, name) in zip(axes, pictures, strict=True):
        axis.imshow(pixels, cmap="gray", vmin=darkest, vmax=brightest)
        axis.set_title(name, fontsize=7)
    _bare(axes)
    figure.suptitle(plain_name(title), fontsize=9)
    return figure


def plain_name(name: str) -> str:
    """A name as a figure can show it: a sign for what cannot be printed, dollars that begin no formula."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in name).replace("$", r"\$")


def _preprocessing(run: RunDirectory, network: str) -> "Preprocessing":
    """What the network takes: as it was trained, or as it would be by default."""
    from haemo.features.views.preprocess import Preprocessing

    if network in run.trained():
        return NetworkFolder(run.model_path(network)).preprocessing()
    return Preprocessing(size=recipe_for(network).input_size)


def _chosen(manifest: Manifest, slice_id: str | None, seed: int) -> ManifestRow:
    if not len(manifest):
        raise BadSettings("the manifest has no slices")
    if slice_id is None:
        return manifest.rows[int(np.random.default_rng(seed).integers(len(manifest)))]
    found = [row for row in manifest if row.slice_id == slice_id]
    if not found:
        raise BadSettings(
            f"--slice {slice_id}: no such slice_id in the manifest, e.g. {manifest.rows[0].slice_id}"
        )
    return found[0]


def _read(row: ManifestRow) -> Slice:
    try:
        return read_guarded(row.path)
    except UnreadableSlice as error:
        raise UnreadableSlice(f"{row.path}: {error}") from error


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"...{name[-21:]}"


def _figure(width: float, height: float) -> "Figure":
    # Not pyplot: no window system, and nothing is kept after the figure is written.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _bare(axes: "Sequence[Axes]") -> None:
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
