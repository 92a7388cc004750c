"""Writing NIfTI: numbers on a grid, packed, the same bytes each time."""

import gzip
import struct
from pathlib import Path

import numpy as np

from haemo.atomic import replacing

__all__ = ["write_nifti"]

_EFFORT = 4
_HEADER_BYTES = 348
_TYPES = {"int16": (4, 16), "uint8": (2, 8)}
_MILLIMETRES = 2
# From DICOM's coordinates: NIfTI counts to the right and to the front.
_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


def write_nifti(path: Path, values: np.ndarray, steps_mm: np.ndarray, origin_mm: np.ndarray) -> None:
    """Write a NIfTI-1 file packed by gzip, atomically.

    Parameters
    ----------
    path : Path
    values : ndarray of shape (slowest, ..., fastest), int16 or uint8
        Three axes.
    steps_mm : ndarray of shape (3, 3)
        Column n is the way to the next voxel along axis n, the fastest first, in DICOM's coordinates.
    origin_mm : ndarray of shape (3,)
        Where the first voxel lies.
    """
    code, bits = _TYPES[values.dtype.name]
    header = bytearray(_HEADER_BYTES + 4)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *values.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<4f", header, 76, 1.0, *np.linalg.norm(steps_mm, axis=0))
    struct.pack_into("<3f", header, 108, _HEADER_BYTES + 4, 1.0, 0.0)
    header[123] = _MILLIMETRES
    struct.pack_into("<2h", header, 252, 0, 1)
    rows = _FROM_LPS @ np.column_stack([steps_mm, origin_mm])
    struct.pack_into("<12f", header, 280, *rows.ravel())
    header[344:348] = b"n+1\0"
    voxels = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(bytes(header) + voxels.tobytes(), _EFFORT, mtime=0))
