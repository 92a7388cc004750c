"""Stage one from .nii.gz beside DICOM: the same heads, slices a second, CPU and memory.

    make bench-volumes
    make bench-volumes ARGS="--volumes 10 --slices 24"

Every measurement is a process of its own, and each kind is measured several times in turn. Rates are
wall-clock and suffer from whatever else the machine does; CPU time a slice suffers less.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

SIZE = 512
PIXEL_MM, RISE_MM = 0.45, 5.0
KINDS = ("dicom", "nifti")
FIGURES = ("rate", "cpu_ms", "peak_mb")


def scan(number: int, slices: int) -> np.ndarray:
    """A smooth head with scanner noise, (slices, rows, columns) int16 in HU; no two slices are equal."""
    from scipy import ndimage

    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radius = np.hypot(columns / 0.75, rows / 0.9)
    rng = np.random.default_rng(number)
    noise = [ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE), np.float32), 1.0) for _ in range(4)]
    hu = np.empty((slices, SIZE, SIZE), np.int16)
    for place in range(slices):
        head = np.where(radius < 0.9, 35.0, np.where(radius < 1, 1000.0, -1000.0))
        hu[place] = head + 16 * np.roll(noise[place % 4], 7 * place, axis=(place % 2))
    return hu


def write_scans(folder: Path, volumes: int, slices: int) -> None:
    """Write the same heads as DICOM files and as .nii.gz."""
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    from haemo.features.reading.volumes.nifti_file import write_nifti

    (folder / "nifti").mkdir(parents=True)
    for number in range(volumes):
        hu = scan(number, slices)
        steps = np.diag([PIXEL_MM, PIXEL_MM, RISE_MM])
        write_nifti(folder / "nifti" / f"{number:03}.nii.gz", hu, steps, np.zeros(3))
        (folder / "dicom" / f"{number:03}").mkdir(parents=True)
        for place, pixels in enumerate(hu):
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
            uid = generate_uid(entropy_srcs=[str(number), str(place)])
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
            data.Modality, data.PatientID, data.StudyInstanceUID = "CT", f"{number:03}", f"1.2.{number + 1}"
            data.ImagePositionPatient, data.ImageOrientationPatient = (
                [0, 0, RISE_MM * place],
                [1, 0, 0, 0, 1, 0],
            )
            data.Rows = data.Columns = SIZE
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
            data.RescaleSlope, data.RescaleIntercept, data.PixelSpacing = 1, 0, [PIXEL_MM, PIXEL_MM]
            data.PixelData = pixels.astype("<i2").tobytes()
            dcmwrite(folder / "dicom" / f"{number:03}" / f"{place:03}.dcm", data, enforce_file_format=True)


def measured(work: Callable[[], int]) -> dict[str, float]:
    """Rate, CPU time a slice and peak memory of `work`, which gives its number of slices."""

    def cpu() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before, start = cpu(), time.perf_counter()
    slices = work()
    seconds, spent = time.perf_counter() - start, cpu() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": slices / seconds, "cpu_ms": 1e3 * spent / slices, "peak_mb": peak}


def index(folder: Path) -> dict[str, float]:
    """`haemo index`: headers, and of volumes the unit."""
    from haemo.features.layouts import index_dataset

    return measured(lambda: len(index_dataset(folder, "dicom-tree").manifest))


def features(folder: Path) -> dict[str, float]:
    """`haemo features`: every slice through AlexNet with random weights into a new store."""
    from haemo.features.extraction.extract import extract_features
    from haemo.features.layouts import index_dataset
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.alexnet import load_extractor
    from haemo.models.weights.imagenet import random_weights

    manifest = index_dataset(folder, "dicom-tree").manifest
    extractor = load_extractor(random_weights(0), precision="float32", device="cpu")
    with tempfile.TemporaryDirectory() as run:

        def work() -> int:
            return extract_features(manifest, Path(run) / "features.h5", extractor, Preprocessing()).computed

        return measured(work)


def reading(folder: Path) -> dict[str, float]:
    """Every slice decoded once, one after the other."""
    from haemo.features.layouts import index_dataset
    from haemo.features.reading.formats import read_slice

    rows = list(index_dataset(folder, "dicom-tree").manifest)
    return measured(lambda: sum(read_slice(row.path).is_hu for row in rows))


MEASUREMENTS = {"index": index, "reading": reading, "features": features}


def in_fresh_process(name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", json.dumps([name, str(folder)])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


@click.command()
@click.option("--volumes", default=50, show_default=True)
@click.option("--slices", default=32, show_default=True, help="Of a volume.")
@click.option("--repeats", default=3, show_default=True, help="Of each measurement; medians are printed.")
@click.option("--measure", hidden=True)
def main(volumes: int, slices: int, repeats: int, measure: str | None) -> None:
    """Read the same heads from DICOM files and from .nii.gz."""
    if measure:
        name, folder = json.loads(measure)
        click.echo(json.dumps(MEASUREMENTS[name](Path(folder))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scans(folder, volumes, slices)
        click.echo(f"{volumes} scans of {slices} slices, {SIZE} x {SIZE}; medians of {repeats}")
        for name in MEASUREMENTS:
            found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
            for _ in range(repeats):
                for kind in KINDS:
                    found[kind].append(in_fresh_process(name, folder / kind))
            rates = {}
            for kind in KINDS:
                medians = np.median([[one[key] for key in FIGURES] for one in found[kind]], axis=0)
                rate, cpu, peak = map(float, medians)
                rates[kind] = rate
                click.echo(f"{name:9}{kind:6}{rate:8.1f} slices/s{cpu:8.2f} ms CPU a slice{peak:7.0f} MB")
            click.echo(f"{name:9}nifti : dicom {rates['nifti'] / rates['dicom']:.2f}")


if __name__ == "__main__":
    main()
