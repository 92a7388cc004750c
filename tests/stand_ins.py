"""A network that costs nothing, for tests of what stands around the network."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from haemo.features.extraction.extract import ExtractionReport, ExtractionRequest, extract_features
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.engine import Engine
from haemo.models.networks.mirrored import MirroredExtractor
from haemo.pipeline.preparing import extraction as extraction_module
from haemo.progress import silent

__all__ = [
    "SIZE",
    "NamedNetwork",
    "Network",
    "embed",
    "extract",
    "folder_manifest",
    "put_in_place",
    "write_slices",
]

SIZE = 24


class Network:
    """Stands in for the extractor: each plane's gray levels, mixed by a fixed matrix.

    Parameters
    ----------
    seed : int
        Of the matrix; it counts as the weights.
    limit : int, optional
        Raise `stop` instead of embedding more than this many batches.
    stop : exception
    pause : float
        Seconds that each batch takes.
    """

    dimension = 16
    batch = 8
    engine = "stand-in"

    def __init__(
        self,
        seed: int = 0,
        limit: int | None = None,
        stop: BaseException | None = None,
        pause: float = 0.0,
    ):
        self.seed = seed
        self.planes_seen = 0
        self._limit = limit
        self._stop = stop
        self._pause = pause
        self._matrix = np.random.default_rng(seed).normal(0, 1 / SIZE, (SIZE * SIZE, self.dimension))

    def describe(self) -> dict[str, Any]:
        return {"network": "stand-in", "weights": str(self.seed), "precision": "float32"}

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, planes in enumerate(batches):
            if number == self._limit:
                raise self._stop
            time.sleep(self._pause)
            self.planes_seen += len(planes)
            yield embed(self, planes)


class NamedNetwork(Network):
    """A stand-in with what run.json asks for."""

    engine = Engine("cpu", "float32", "contiguous")
    weights = type("Weights", (), {"origin": "made up"})
    layer = "only"


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in in the place of the network of commands; its seed is the seed of the settings."""

    def load(settings, notes=None, batch=None, progress=None):
        network = NamedNetwork(settings.seed)
        preprocessing = Preprocessing(size=SIZE, crop=settings.crop, upright=settings.upright)
        return MirroredExtractor(network) if settings.mirror else network, preprocessing

    monkeypatch.setattr(extraction_module, "load_stage_one", load)


def embed(network: Network, planes: np.ndarray) -> np.ndarray:
    """The slow, obvious way: one plane at a time."""
    return np.array([plane.ravel() @ network._matrix for plane in planes], dtype=np.float32)


def write_slices(folder: Path, count: int, seed: int = 0) -> Path:
    """Write `count` pictures as folder/NNN.png, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (30, 28), dtype=np.uint8)).save(folder / f"{number:03}.png")
    return folder


def folder_manifest(folder: Path) -> Manifest:
    """A row for every file of a folder, by name."""
    return Manifest(
        ManifestRow(path.name, path, "normal", path.name, path.name) for path in sorted(folder.iterdir())
    )


def extract(
    slices: Path | Manifest, run: Path, network: Network | None = None, **options: Any
) -> ExtractionReport:
    """Extract the features of a folder into run/features.h5."""
    run.mkdir(exist_ok=True)
    manifest = slices if isinstance(slices, Manifest) else folder_manifest(slices)
    progress = options.pop("progress", silent)
    request = ExtractionRequest(**{"workers": 2, **options})
    return extract_features(
        manifest,
        run / "features.h5",
        network or Network(),
        Preprocessing(size=SIZE),
        request,
        progress=progress,
    )
