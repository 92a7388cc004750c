"""A run on pictures of discs with patches for bleeds, embedded by a network with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.training.head import HeadSettings, train_head

__all__ = ["picture", "trained_run"]

CLASSES = ("normal", "haemorrhage", "other")


def picture(random: np.random.Generator, kind: int) -> np.ndarray:
    """A disc on black, in an 80 x 70 image; a bleed is a brighter patch in it."""
    y, x = np.mgrid[:80, :70]
    disc = (y - 40) ** 2 + (x - 35) ** 2 < 30**2
    values = disc * 90.0 + random.normal(size=disc.shape) * 8
    values[30:42, 20:35] += 60 * (kind == 1)
    values[50:60, 30:50] -= 60 * (kind == 2)
    return values.clip(0, 255).astype(np.uint8)


def trained_run(
    root: Path,
    kinds: int = 2,
    dtype: str = "float32",
    head: HeadSettings | None = None,
    slices: int = 2,
    **options: Any,
) -> RunDirectory:
    """A run of 18 patients with two PNG slices each; masks of the bleeds lie in a folder beside them.

    With more `slices` to a patient there are fewer patients; slices are placed against their order then.
    """
    random = np.random.default_rng(0)
    rows = []
    for number in range(36):
        patient, kind = f"p{number // slices:02d}", number // slices % kinds
        path = root / "slices" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(random, kind)).save(path)
        mask = np.zeros((80, 70), dtype=np.uint8)
        mask[30:42, 20:35] = 255 * (kind == 1)
        (path.parent / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(path.parent / "masks" / path.name)
        place = -5.0 * number if slices > 2 else None
        rows.append(ManifestRow(path.name, path, CLASSES[kind], patient, patient, place))
    run = RunDirectory(root / "run")
    run.create()
    Manifest(rows).write(run.manifest_path)
    chosen = {"weights": "random", "layer": "pool5", "precision": "float32", "dtype": dtype, **options}
    settings = ExtractionSettings(**chosen)
    make_features(run, settings)
    train_head(run, "svm", head or HeadSettings(grid={"C": [1e-4]}))
    return run
