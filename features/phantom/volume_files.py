"""A phantom study in one file: NIfTI, NRRD, MetaImage or enhanced CT DICOM; its mask as NIfTI."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.atomic import replacing
from haemo.features.phantom.study import PhantomSlice, Study
from haemo.features.phantom.writing import add_pixels, decimal, described, outside, slice_geometry
from haemo.features.reading.volumes.nifti_file import write_nifti

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["VOLUME_FORMATS", "write_mask_volume", "write_volume"]

_AIR_HU = -1000
_EFFORT = 4
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def write_volume(path: Path, study: Study, slices: Sequence[PhantomSlice]) -> None:
    """Write the slices of a study as one file, by the suffix of `path`, atomically.

    What lies outside the scanned field is air, as none of these formats but DICOM can say that it is none.
    """
    hu = np.stack([np.where(outside(one.hu, study.scan), np.int16(_AIR_HU), one.hu) for one in slices])
    write = next(write for suffix, write in _WRITERS.items() if path.name.endswith(suffix))
    write(path, study, hu.astype("<i2"), [one.position_mm for one in slices])


def write_mask_volume(path: Path, study: Study, slices: Sequence[PhantomSlice]) -> None:
    """Write the masks of a study as one NIfTI file, 1 where there is blood, atomically."""
    mask = np.stack([one.mask for one in slices]).astype(np.uint8)
    _write_nifti(path, study, mask, [one.position_mm for one in slices])


def _axes(study: Study, positions_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (3, 3) to the next column, row and slice, and the first pixel's place, in DICOM's coordinates."""
    origin, right, down = slice_geometry(study.scan, study.size, positions_mm[0])
    pixel = study.scan.field_mm / study.size
    rise = (positions_mm[-1] - positions_mm[0]) / (len(positions_mm) - 1) if len(positions_mm) > 1 else 0.0
    up = (0.0, 0.0, rise or study.scan.thickness_mm)
    return np.column_stack([np.array(right) * pixel, np.array(down) * pixel, up]), np.array(origin)


def _write_nifti(path: Path, study: Study, values: np.ndarray, positions_mm: Sequence[float]) -> None:
    write_nifti(path, values, *_axes(study, positions_mm))


def _write_nrrd(path: Path, study: Study, values: np.ndarray, positions_mm: Sequence[float]) -> None:
    steps, origin = _axes(study, positions_mm)
    lines = (
        "NRRD0004",
        "type: int16",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, values.shape[::-1]))}",
        f"space directions: {' '.join(_vector(step) for step in steps.T)}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(origin)}",
    )
    head = "\n".join(lines) + "\n\n"
    with replacing(path) as temporary:
        temporary.write_bytes(head.encode() + gzip.compress(values.tobytes(), _EFFORT, mtime=0))


def _write_metaimage(path: Path, study: Study, values: np.ndarray, positions_mm: Sequence[float]) -> None:
    steps, origin = _axes(study, positions_mm)
    spacing = np.linalg.norm(steps, axis=0)
    packed = zlib.compress(values.tobytes(), _EFFORT)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(packed)),
        "TransformMatrix": _numbers((steps / spacing).T.ravel()),
        "Offset": _numbers(origin),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, values.shape[::-1])),
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    head = "".join(f"{name} = {value}\n" for name, value in fields.items())
    with replacing(path) as temporary:
        temporary.write_bytes(head.encode() + packed)


def _write_enhanced(path: Path, study: Study, values: np.ndarray, positions_mm: Sequence[float]) -> None:
    from pydicom.dataset import Dataset

    data = described(study, _ENHANCED_CT, "volume")
    add_pixels(data, values)
    data.NumberOfFrames = len(values)
    data.InstanceNumber = "1"
    pixel = decimal(study.scan.field_mm / study.size)
    shared = Dataset()
    thickness = decimal(study.scan.thickness_mm)
    shared.PixelMeasuresSequence = [_group(SliceThickness=thickness, PixelSpacing=[pixel] * 2)]
    rescale = {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "HU"}
    shared.PixelValueTransformationSequence = [_group(**rescale)]
    _, *axes = slice_geometry(study.scan, study.size, 0.0)
    directions = [decimal(part) for axis in axes for part in axis]
    shared.PlaneOrientationSequence = [_group(ImageOrientationPatient=directions)]
    frames = []
    for number, position_mm in enumerate(positions_mm, start=1):
        place, *_ = slice_geometry(study.scan, study.size, position_mm)
        frame = Dataset()
        frame.FrameContentSequence = [_group(StackID="1", InStackPositionNumber=number)]
        frame.PlanePositionSequence = [_group(ImagePositionPatient=[decimal(part) for part in place])]
        frames.append(frame)
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = frames
    with replacing(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def _group(**elements: object) -> "Dataset":
    from pydicom.dataset import Dataset

    group = Dataset()
    for keyword, value in elements.items():
        setattr(group, keyword, value)
    return group


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6f}" for value in values)


def _vector(values: Sequence[float]) -> str:
    return f"({','.join(f'{value:.6f}' for value in values)})"


_WRITERS: dict[str, Callable[[Path, Study, np.ndarray, Sequence[float]], None]] = {
    ".nii.gz": _write_nifti,
    ".nrrd": _write_nrrd,
    ".mha": _write_metaimage,
    ".dcm": _write_enhanced,
}
VOLUME_FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "metaimage": ".mha", "enhanced": ".dcm"}
