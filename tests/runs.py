"""A small run for tests: slices on disk, features that know a little of the label, trained models."""

from pathlib import Path

import numpy as np
from PIL import Image

from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import create_store
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions

__all__ = ["add_model", "make_run"]

CLASSES = ("normal", "bleed")


def make_run(
    folder: Path,
    patients: int = 24,
    slices: int = 4,
    dimension: int = 60,
    *,
    signal: float = 0.8,
    patient_effect: float = 2.0,
    copies: int = 7,
    wide_bleeds: bool = False,
    known: bool = True,
) -> RunDirectory:
    """Write manifest, slices (16 x 16 PNG) and features; every third patient bleeds in half of the slices.

    `patient_effect` makes slices of a patient alike, `signal` sets bleeds apart; with `wide_bleeds` their
    pictures are wider, which a model could learn instead.
    """
    rng = np.random.default_rng(7)
    run = RunDirectory(folder)
    run.create()
    (folder / "slices").mkdir()
    rows, base = [], []
    for p in range(patients):
        own = rng.normal(size=dimension) * patient_effect
        for s in range(slices):
            bleeds = p % 3 == 0 and s >= slices // 2
            name = f"p{p:02d}-{s}"
            path = folder / "slices" / f"{name}.png"
            pixels = rng.integers(0, 255, (16, 20 if bleeds and wide_bleeds else 16), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            rows.append(
                ManifestRow(
                    name,
                    path,
                    CLASSES[bleeds],
                    f"patient{p:02d}" if known else name,
                    f"study{p:02d}" if known else name,
                    float(s),
                )
            )
            base.append(own + rng.normal(size=dimension) + signal * bleeds)
    manifest = Manifest(rows)
    manifest.write(run.manifest_path)
    run.record("index", positive="bleed", layout="class-folders", seconds=0.1)
    base = np.array(base)
    variants = np.repeat(np.arange(copies), len(rows))
    embeddings = np.concatenate([base + 0.3 * rng.normal(size=base.shape) for _ in range(copies)])
    create_store(
        run.store_path,
        [row.slice_id for row in rows] * copies,
        embeddings.astype(np.float32),
        Fingerprint({"network": "made up", "layer": "none", "weights": "0" * 64}),
        variants=variants.tolist(),
    )
    return run


def add_model(run: RunDirectory, name: str, noise: float = 0.5, classes: tuple[str, ...] = CLASSES) -> None:
    """Write predictions of a made-up model: the first two thirds of the patients are ``cv``."""
    rng = np.random.default_rng(len(name))
    rows = run.manifest().labelled.rows
    truth = np.array([row.label == classes[1] for row in rows])
    patients = sorted({row.patient for row in rows})
    tested = np.isin([row.patient for row in rows], patients[len(patients) * 2 // 3 :])
    scores = (2 * truth - 1) + rng.normal(size=len(rows)) * noise
    probabilities = 1 / (1 + np.exp(-2 * scores))
    run.model_path(name).mkdir()
    Predictions(
        slice_id=np.array([row.slice_id for row in rows]),
        patient=np.array([row.patient for row in rows]),
        study=np.array([row.study for row in rows]),
        label=np.array([row.label for row in rows]),
        part=np.where(tested, "test", "cv"),
        fold=np.where(tested, -1, 0),
        scores=scores,
        probabilities=probabilities,
        predicted=np.array(classes)[(probabilities >= 0.5).astype(int)],
        classes=classes,
    ).write(run.model_path(name) / "predictions.csv")
