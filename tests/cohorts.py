"""Small synthetic data sets in every layout that `haemo index` reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["CLASSES", "class_folders", "gray_picture", "head_picture"]

CLASSES = ("haemorrhage", "normal")


def gray_picture(seed: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A noisy gray picture, (height, width) uint8; another seed, another picture."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def head_picture(seed: int, size: int, bleeds: bool) -> np.ndarray:
    """Something like a windowed head: bright ring, gray inside with noise, and a bright spot if it bleeds."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(rows / rng.uniform(0.8, 0.95), columns / rng.uniform(0.65, 0.8))
    head = np.where(radius < 0.9, 90.0, np.where(radius < 1, 255.0, 0.0))
    head += np.where(radius < 0.9, rng.normal(0, 8, head.shape), 0)
    if bleeds:
        place = rng.uniform(-0.35, 0.35, 2)
        head[np.hypot(rows - place[0], columns - place[1]) < rng.uniform(0.12, 0.25)] = 190
    return np.clip(head, 0, 255).astype(np.uint8)


def class_folders(
    root: Path, patients: int = 8, slices: int = 3, size: int = 64, seed: int = 0, split: bool = False
) -> Path:
    """Write CLASS/PATIENT/N.png, half of the patients with a bleed; below train/ and test/ if `split`.

    Every patient has `slices` slices, and patients of one class are told from the others by a bright spot, so
    that a classifier has something to learn.
    """
    for patient, label, part in _patients(patients, split):
        folder = root / part / label / patient
        folder.mkdir(parents=True)
        for number in range(slices):
            picture = head_picture(hash_of(seed, patient, number), size, label == CLASSES[0])
            Image.fromarray(picture).save(folder / f"{number:03}.png")
    return root


def hash_of(seed: int, patient: str, number: int) -> int:
    """A seed for one slice that depends on nothing but its name."""
    return seed * 1_000_003 + int(patient[1:]) * 1_009 + number


def _patients(patients: int, split: bool) -> Iterator[tuple[str, str, str]]:
    for index in range(patients):
        part = ("test" if index // 2 % 3 == 2 else "train") if split else ""
        yield f"p{index:03}", CLASSES[index % 2], part
