"""AlexNet's embeddings of slices, as ``haemo features`` makes them, from Python."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings, RunLocked, UnreadableSlice
from haemo.features.extraction.embedding import embed_slices
from haemo.features.reading.slice import Slice
from haemo.features.store.store import FeatureStore
from haemo.pipeline.api.slices import as_slices
from haemo.pipeline.preparing.extraction import ExtractionSettings, load_stage_one
from haemo.pipeline.run.claim import claim
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.frozen import Embedder

__all__ = ["extract"]

log = logging.getLogger("haemo")

_Key = tuple[Any, ...]
# The network that was used last: reading its weights takes a second, and a search asks for it once a fold.
_last: dict[_Key, "tuple[Embedder, Preprocessing]"] = {}


def extract(
    slices: Any,
    layer: str = "fc7",
    *,
    crop: str = "none",
    upright: bool = False,
    mirror: bool = False,
    window: str = "brain",
    windows: str | None = None,
    weights: str = "auto",
    seed: int = 0,
    precision: str = "auto",
    device: str = "auto",
    units: str | None = None,
    store: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Embed slices with AlexNet, as it was trained on ImageNet unless `weights` says otherwise.

    Parameters
    ----------
    slices : sequence of path, Slice or ndarray (height, width); or ndarray (n, height, width)
        A manifest serves too. Arrays of uint8 are gray levels; of others `units` says what they are.
    layer : {'fc7', 'fc6', 'pool5', 'pool4', 'pool3'}
        4096, 4096, 9216, 9216 or 13824 numbers a slice.
    crop : {'none', 'head'}
        The whole slice, or the box of the head in it.
    upright : bool
        Turn slices by the midline of the head first.
    mirror : bool
        Embed mirror images too; of embeddings a and b a + b is given, then abs(a - b): twice as many numbers.
    window : str
        Of slices in HU: ``brain``, ``subdural``, ``bone`` or ``WIDTH/CENTRE`` in HU.
    windows : str, optional
        Three of these with commas in place of `window`, one for each channel of the network:
        ``brain,subdural,bone``. Slices in gray levels are refused then.
    weights : str
        ``auto``, ``trunk`` (to pool5), ``builtin`` (comes with haemo, to pool5), ``random`` (a control) or a
        file.
    seed : int
        Of random weights.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
    device : {'auto', 'cpu', 'cuda'}
    units : {'hu', 'gray'}, optional
        What the numbers of arrays are.
    store : str or Path, optional
        Feature store (.h5) that remembers: what it holds is not computed again, and what is new is added.
        Slices are known by their pixels. It may be a run's features.h5.
    workers : int, optional
        Threads that decode; by default one a CPU.
    progress : Progress
        Shows how far the slices have come; silent by default.

    Returns
    -------
    ndarray of shape (n, d), float32
        In the order of `slices`; bit for bit what ``haemo features`` keeps for them with these settings.

    Raises
    ------
    UnreadableSlice
        If slices cannot be used; they are named.
    BadSettings, WeightsUnavailable
        If a setting is not allowed, or the weights cannot be had.
    FingerprintMismatch
        If the store was made with other settings.
    """
    if windows is not None and window != "brain":
        raise BadSettings(f"window {window} and windows {windows} were given; leave one of the two out")
    settings = ExtractionSettings(
        layer=layer,
        weights=str(weights),
        seed=seed,
        precision=precision,
        device=device,
        window=window,
        windows=windows,
        crop=crop,
        upright=upright,
        mirror=mirror,
    )
    images = as_slices(slices, units)
    path = None if store is None else _store_path(store)
    extractor, preprocessing = _stage_one(settings, path, progress)
    _refuse_gray(images, preprocessing)
    with ExitStack() as stack:
        keep = False
        if path is not None:
            try:
                stack.enter_context(claim(path.parent))
                keep = True
            except (RunLocked, PermissionError) as error:
                log.warning("embeddings that are new are not kept in %s: %s", path, error)
        return embed_slices(
            images, extractor, preprocessing, path, keep=keep, workers=workers, progress=progress
        )


def _refuse_gray(images: Sequence[Path | Slice], preprocessing: "Preprocessing") -> None:
    """Refuse arrays of gray levels where three windows are wanted; files are refused when they are read."""
    for place, image in enumerate(images):
        if isinstance(image, Slice):
            try:
                preprocessing.refuse_gray(image)
            except UnreadableSlice as error:
                raise UnreadableSlice(f"item {place}: {error}") from error


def _store_path(store: str | Path) -> Path:
    path = Path(store)
    if path.is_dir() or path.suffix not in (".h5", ".hdf5"):
        raise BadSettings(f"the store {path} is no .h5 file; name one, as {path / 'features.h5'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _stage_one(
    settings: ExtractionSettings, store: Path | None, progress: Progress
) -> "tuple[Embedder, Preprocessing]":
    """Network and preprocessing; a store is carried on with the engine and batch that it was begun with."""
    notes: dict[str, str] = {}
    if store is not None and store.exists():
        with FeatureStore(store) as held:
            notes = held.notes
    weights = Path(settings.weights)
    stamp = weights.stat().st_mtime_ns if weights.is_file() else None
    key = (settings, notes.get("engine"), notes.get("batch"), stamp)
    found = _last.get(key)
    if found is None:
        found = load_stage_one(settings, notes, progress=progress)
        _last.clear()
        _last[key] = found
    return found
