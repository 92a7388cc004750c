"""Slices decoded once and kept as planes, for networks that pass over them many times."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.features.views.augment import rotate_planes
from haemo.pipeline.splitting.copies import VARIANTS
from haemo.processors import usable_processors
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing

__all__ = ["decode_planes"]

# 20,000 planes of 227 x 227 are 1 GB. Past this they go to a file, and the system keeps what it has room for.
_BYTES_IN_MEMORY = 1 << 30


def decode_planes(
    rows: Sequence[ManifestRow],
    preprocessing: "Preprocessing",
    *,
    stage: str,
    scratch: Path,
    rotations: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray, list[Failure]]:
    """Read, window and resize every slice, and turn it by each of the paper's angles where asked.

    Parameters
    ----------
    rows : sequence of ManifestRow
    preprocessing : Preprocessing
    stage : str
        Named in the failures.
    scratch : Path
        Folder for the file that takes the planes where they are too many for memory; it has no name and is
        gone when the process ends.
    rotations : bool
        Also make the rotated copies of each slice, in the order of `pipeline.splitting.copies.copies_of`.
    workers : int, optional
        Threads, as decoders let go of Python's lock; by default one for each processor this process may use.
    progress : Progress

    Returns
    -------
    planes : ndarray of shape (n or 7 n, size, size), uint8
        Rows of unreadable slices are zero and must not be used.
    usable : ndarray of shape (n or 7 n,), bool
    failures : list of Failure
        One for each unreadable slice.
    """
    copies = len(VARIANTS) if rotations else 1
    shape = (copies * len(rows), preprocessing.size, preprocessing.size)
    if np.prod(shape, dtype=np.int64) > _BYTES_IN_MEMORY:
        with tempfile.TemporaryFile(dir=scratch) as file:
            planes: np.ndarray = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    else:
        planes = np.zeros(shape, dtype=np.uint8)

    def decode(position: int) -> Failure | None:
        path = rows[position].path
        try:
            plane = preprocessing.plane(read_guarded(path))
        except UnreadableSlice as error:
            return Failure(str(path), stage, str(error))
        planes[position :: len(rows)] = rotate_planes(plane[None])[0] if rotations else plane
        return None

    with ThreadPoolExecutor(workers or usable_processors()) as pool:
        results = list(
            progress(pool.map(decode, range(len(rows))), total=len(rows), label=f"{stage}: decoding")
        )
    usable = np.tile([failure is None for failure in results], copies)
    return planes, usable, [failure for failure in results if failure]
