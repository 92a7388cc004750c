"""HU within the skull, phantom beside real: percentiles over slices with much brain on them.

    python benchmarks/phantom_histogram.py phantom REAL...

Each folder holds DICOM slices. Brain is what bone encloses, eroded; of a phantom, slices without blood.
"""

import csv
from pathlib import Path

import click
import numpy as np
from scipy import ndimage

from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import read_slice

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
LEAST_CM2 = 60.0
_ERODED_MM = 5.0


def brain_of(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """HU of the largest area that bone encloses, without its margin; empty if it is small."""
    bone = ndimage.binary_closing(hu > 300, iterations=2)
    within = ndimage.binary_fill_holes(bone) & ~bone
    labels, count = ndimage.label(within)
    if not count:
        return np.empty(0)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    inner = ndimage.distance_transform_edt(largest) * spacing_mm > _ERODED_MM
    return hu[inner] if inner.sum() * spacing_mm**2 > 100 * LEAST_CM2 else np.empty(0)


def texture(hu: np.ndarray, spacing_mm: float) -> float:
    """Standard deviation in the brain of what is finer than 3 mm: the noise."""
    fine = hu - ndimage.gaussian_filter(hu, 1.5 / spacing_mm)
    inside = (hu > 10) & (hu < 60)
    return float(fine[ndimage.binary_erosion(inside, iterations=2)].std())


def slices_of(folder: Path) -> list[Path]:
    labels = folder / "labels.csv"
    if not labels.exists():
        return sorted(folder.rglob("*.dcm"))
    with labels.open(newline="") as stream:
        return [folder / row["path"] for row in csv.DictReader(stream) if row["label"] == "normal"]


@click.command()
@click.argument("folders", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--most", default=200, help="Slices of a folder, spread evenly.")
def main(folders: tuple[Path, ...], most: int) -> None:
    print("folder".ljust(28), *(f"p{number}".rjust(6) for number in PERCENTILES), " noise  slices")
    for folder in folders:
        paths = slices_of(folder)
        pixels, noise, used = [], [], 0
        for path in paths[:: max(1, len(paths) // most)]:
            try:
                image = read_slice(path)
            except UnreadableSlice:
                continue
            spacing = image.spacing_mm[0]
            brain = brain_of(image.pixels, spacing)
            if len(brain):
                used += 1
                pixels.append(brain[::7])
                noise.append(texture(image.pixels, spacing))
        values = np.percentile(np.concatenate(pixels), PERCENTILES)
        columns = (f"{value:6.1f}" for value in values)
        print(folder.name.ljust(28), *columns, f"{np.median(noise):6.2f} {used:7d}")


if __name__ == "__main__":
    main()
