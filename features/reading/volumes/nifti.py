"""NIfTI-1 and NIfTI-2 in one file, ``.nii`` or ``.nii.gz``.

The header is read here, field by field: it is 348 or 540 bytes of fixed layout (nifti1.h of 2007 and nifti2.h
of 2011, https://nifti.nimh.nih.gov), and a file that lies about its size must not be believed.
"""

import math
import struct
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.format import Format, only_by_number
from haemo.features.reading.volumes.grid import Grid, GridVolume
from haemo.features.reading.volumes.voxels import Stored, inflated_start

__all__ = ["NIFTI", "open_nifti"]

_GZIP = b"\x1f\x8b"
_SIZES = {348: 1, 540: 2}
_LONGEST = 544
_TYPES = {
    **{2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8"},
    **{16: "f4", 64: "f8"},
}
_OTHER_TYPES = {1: "bits", 32: "complex numbers", 128: "colours (RGB)", 2304: "colours (RGBA)"}
# Length of a unit in mm, by the lowest three bits of xyzt_units; 0 is unknown, and means mm in practice.
_LENGTHS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# To DICOM's coordinates: NIfTI counts to the right and to the front.
_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def open_nifti(path: Path) -> GridVolume:
    """Open a NIfTI file with one scan.

    Where a voxel lies is taken from the sform, else from the qform, else from the voxel sizes alone.

    Raises
    ------
    UnreadableSlice
        If it is damaged, holds several volumes or colours, or no axial slices.
    """
    with path.open("rb") as stream:
        is_packed = stream.read(2) == _GZIP
        stream.seek(0)
        head = inflated_start(stream, _LONGEST) if is_packed else stream.read(_LONGEST)
    fields = _Fields(head)
    shape = fields.shape()
    dtype = fields.dtype()
    stored = Stored(path, dtype, shape, fields.offset(), 0 if is_packed else None)
    slope, intercept = fields.rescale()
    steps, origin, has_place = fields.affine()
    mode = f"NIfTI {dtype.newbyteorder('=').name}"
    return GridVolume(
        Grid(stored, _TO_LPS @ steps, _TO_LPS @ origin, mode, slope, intercept, has_place=has_place)
    )


class _Fields:
    """The fields of a header of either version, in the byte order that makes its size what it must be."""

    def __init__(self, head: bytes):
        for order in "<>":
            size = struct.unpack_from(f"{order}i", head)[0] if len(head) >= 4 else 0
            if size in _SIZES:
                break
        else:
            raise UnreadableSlice("not a NIfTI file: its header has another size")
        self._order, self._version = order, _SIZES[size]
        if len(head) < size:
            raise UnreadableSlice(f"the file is cut short: {len(head)} of {size} bytes of the header")
        self._head = head
        magic = head[344:348] if self._version == 1 else head[4:8]
        if magic[:3] in (b"ni1", b"ni2"):
            raise UnreadableSlice("the voxels lie in a file .img of their own; save it as one file .nii")
        # Without it the same bytes are Analyze 7.5, whose fields are others.
        if magic not in (b"n+1\0", b"n+2\0"):
            raise UnreadableSlice(
                "not a NIfTI file: its header does not say so; it may be Analyze, or damaged"
            )

    def _get(self, first: tuple[int, str], second: tuple[int, str]) -> tuple:
        """A field by its place and type in version 1 and in version 2."""
        place, kind = first if self._version == 1 else second
        return struct.unpack_from(self._order + kind, self._head, place)

    def shape(self) -> tuple[int, int, int]:
        dims = self._get((40, "8h"), (16, "8q"))
        count, sides = dims[0], dims[1:]
        if not 2 <= count <= 7 or min(sides[:count]) < 1:
            raise UnreadableSlice("the header is damaged: it has no sound number of voxels")
        sides = [*sides[:count], 1][: max(3, count)]
        if math.prod(sides[3:]) > 1:
            raise UnreadableSlice(
                f"it holds {math.prod(sides[3:])} volumes, as perfusion scans do; save one as a file"
            )
        return sides[0], sides[1], sides[2]

    def dtype(self) -> np.dtype:
        (code,) = self._get((70, "h"), (12, "h"))
        if code not in _TYPES:
            what = _OTHER_TYPES.get(code, f"numbers of the unknown type {code}")
            raise UnreadableSlice(f"its voxels are {what}, not CT values")
        return np.dtype(_TYPES[code]).newbyteorder(self._order)

    def offset(self) -> int:
        (offset,) = self._get((108, "f"), (168, "q"))
        least = 348 if self._version == 1 else 540
        if not math.isfinite(offset) or not least <= offset < 1 << 31:
            raise UnreadableSlice(f"the header is damaged: voxels would begin at byte {offset:g}")
        return int(offset)

    def rescale(self) -> tuple[float, float]:
        slope, intercept = self._get((112, "2f"), (176, "2d"))
        if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
            return 1.0, 0.0
        return float(slope), float(intercept)

    def affine(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Steps (3, 3) and origin (3,) in mm to the right, to the front and up; whether they were said."""
        qform, sform = self._get((252, "2h"), (344, "2i"))
        (units,) = self._get((123, "b"), (500, "i"))
        scale = _LENGTHS_MM.get(units & 7, 1.0)
        if sform > 0:
            rows = np.array(self._get((280, "12f"), (400, "12d")), dtype=float).reshape(3, 4)
            if np.isfinite(rows).all() and abs(np.linalg.det(rows[:, :3])) > 1e-12:
                return rows[:, :3] * scale, rows[:, 3] * scale, True
        handed, *sizes = self._get((76, "4f"), (104, "4d"))
        steps = np.diag(np.abs(sizes) * scale)
        if qform <= 0:
            return steps, np.zeros(3), False
        b, c, d, *origin = self._get((256, "6f"), (352, "6d"))
        turn = _rotation(b, c, d)
        if handed < 0:
            turn[:, 2] *= -1
        return turn @ steps, np.array(origin, dtype=float) * scale, True


def _rotation(b: float, c: float, d: float) -> np.ndarray:
    """The rotation of a unit quaternion whose first part follows from the other three."""
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        length = math.sqrt(b * b + c * c + d * d)
        b, c, d, a = b / length, c / length, d / length, 0.0
    else:
        a = math.sqrt(rest)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _sniff(start: bytes, suffix: str) -> bool:
    if start.startswith(_GZIP):
        return suffix == ".nii.gz"
    return len(start) >= 4 and any(int.from_bytes(start[:4], order) in _SIZES for order in ("little", "big"))


NIFTI = Format(
    names=("NIfTI",),
    suffixes=(".nii", ".nii.gz"),
    decode=only_by_number,
    sniff=_sniff,
    has_tags=True,
    open_volume=open_nifti,
)
