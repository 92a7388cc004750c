"""What stage one is measured beside: slices on disk, and the way through a DataLoader that tutorials show."""

import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import numpy as np

__all__ = [
    "FIRST",
    "FORMATS",
    "MEAN",
    "QUARTER",
    "STD",
    "autocast",
    "measured",
    "peer_network",
    "run_peer",
    "weights",
    "write_slices",
]

FORMATS = ("png", "dicom", "jpeg")
WINDOW_WIDTH, WINDOW_CENTRE = 80.0, 40.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PEER_BATCH = 64
FIRST = 8  # slices that are embedded before the clock is set: what is loaded for them is not what is measured
QUARTER = "few"  # a quarter of the PNG slices, for the rotations


def measured(work: Callable[[], float]) -> dict[str, float]:
    """Rate, CPU time a slice and peak memory of `work`, which gives its number of slices."""
    cpu, start = _cpu_seconds(), time.perf_counter()
    slices = work()
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": slices / seconds, "cpu_ms": 1e3 * cpu / slices, "peak_mb": peak}


def _cpu_seconds() -> float:
    """Of this process, those that it started and, on Linux, those of them that go on."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _living_seconds()


def _living_seconds() -> float:
    times: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, said = path.read_text().rpartition(")")
        except OSError:
            continue  # it has ended
        fields = said.split()
        process = int(path.parent.name)
        parents[process] = int(fields[1])
        times[process] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    family, grown = {os.getpid()}, set[int]()
    while family != grown:
        grown = family
        family = grown | {process for process, parent in parents.items() if parent in grown}
    return sum(times[process] for process in family - {os.getpid()})


def write_slices(folder: Path, count: int) -> None:
    """Write `count` smooth heads of 512 x 512 pixels with scanner noise, in every format."""
    import pydicom
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
    from scipy import ndimage

    rows, columns = np.mgrid[-1:1:512j, -1:1:512j]
    radius = np.hypot(columns / 0.75, rows / 0.9)
    for kind in (*FORMATS, QUARTER):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        noise = ndimage.gaussian_filter(rng.standard_normal((512, 512), dtype=np.float32), 1.0)
        tissue = ndimage.gaussian_filter(rng.standard_normal((64, 64)), 1.5).repeat(8, 0).repeat(8, 1)
        hu = np.where(radius < 0.9, 35 + 40 * tissue, np.where(radius < 1, 1000, -1000)) + 16 * noise
        gray = np.clip(hu / WINDOW_WIDTH * 255, 0, 255).astype(np.uint8)
        Image.fromarray(gray).save(folder / "png" / f"{number:05}.png")
        if number % 4 == 0:
            (folder / QUARTER / f"{number:05}.png").hardlink_to(folder / "png" / f"{number:05}.png")
        Image.fromarray(gray).save(folder / "jpeg" / f"{number:05}.jpg", quality=90)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.Modality, data.PatientID = "CT", "bench"
        data.Rows = data.Columns = 512
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        data.PixelData = np.clip(hu, -1024, 3000).astype("<i2").tobytes()
        pydicom.dcmwrite(folder / "dicom" / f"{number:05}.dcm", data, enforce_file_format=True)


class PeerSlices:
    """A data set as tutorials write it: one file, or one file and its six rotations, an item."""

    def __init__(self, paths: Sequence[Path], rotations: str):
        from torchvision import transforms

        self.paths = paths
        self.angles = (0, 70, 160, 270, -70, -160, -270) if rotations == "paper" else (0,)
        self.transform = transforms.Compose(
            [
                transforms.Resize((227, 227), antialias=True),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        import torch
        from torchvision.transforms import functional

        image = self.read(self.paths[index])
        return torch.stack([self.transform(functional.rotate(image, angle)) for angle in self.angles])

    @staticmethod
    def read(path: Path):
        from PIL import Image

        if path.suffix != ".dcm":
            return Image.open(path).convert("RGB")
        from pydicom import dcmread
        from pydicom.pixels import apply_modality_lut

        data = dcmread(path)
        hu = apply_modality_lut(data.pixel_array, data)
        low = WINDOW_CENTRE - WINDOW_WIDTH / 2
        gray = np.clip((hu - low) / WINDOW_WIDTH * 255, 0, 255).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")


@cache
def weights():
    """Those that both use."""
    from haemo.models.weights.imagenet import random_weights

    return random_weights(0)


@cache
def peer_network(device: str = "cpu"):
    import torch
    from torch import nn
    from torchvision.models import alexnet

    with torch.device("meta"):  # no random weights are drawn only to be replaced
        network = alexnet(weights=None)
    network.classifier = nn.Sequential(*list(network.classifier)[:6])
    network.load_state_dict(weights().state_dict, assign=True)
    return network.eval().to(device)


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """What people put around a network for another precision than float32."""
    import torch

    return torch.autocast(device, getattr(torch, precision), enabled=precision != "float32")


def run_peer(
    folder: Path, run: Path, rotations: str, device: str = "cpu", precision: str = "float32", workers: int = 2
) -> dict[str, float]:
    import h5py
    import torch
    from torch.utils.data import DataLoader

    network = peer_network(device)
    paths = sorted(folder.iterdir())

    def work(paths: Sequence[Path]) -> int:
        slices = PeerSlices(paths, rotations)
        batch = PEER_BATCH // len(slices.angles)
        loader = DataLoader(slices, batch, num_workers=workers, pin_memory=device == "cuda")
        with (
            torch.no_grad(),
            autocast(device, precision),
            h5py.File(run / "peer.h5", "w") as file,
        ):
            embedding = file.create_dataset("embedding", (len(slices), len(slices.angles), 4096), "f4")
            start = 0
            for images in loader:
                images = images.to(device, non_blocking=True)
                found = network(images.flatten(0, 1)).unflatten(0, images.shape[:2])
                embedding[start : start + len(images)] = found.float().cpu().numpy()
                start += len(images)
        return len(slices)

    PeerSlices.read(paths[0])  # what it loads, workers have from their parent
    work(paths[:FIRST])
    return measured(lambda: work(paths))
