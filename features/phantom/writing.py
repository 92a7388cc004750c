"""Phantom slices as files: DICOM as a clinic's scanner writes them, or windowed PNG; masks as PNG."""

import hashlib
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.atomic import replacing
from haemo.features.phantom.scanner import Scan
from haemo.features.phantom.study import PhantomSlice, Study, patient_name

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "FORMATS",
    "PADDING_HU",
    "add_pixels",
    "decimal",
    "described",
    "outside",
    "slice_geometry",
    "window_gray",
    "write_mask",
    "write_slice",
]

FORMATS = {"dicom": ".dcm", "png": ".png"}
PADDING_HU = -1500
Vector = tuple[float, float, float]
_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_IMPLEMENTATION_UID = "2.25.303148706741237205346184902153012437"
_PNG_EFFORT = 1


def window_gray(hu: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """HU to 8-bit gray through a window of given centre and width."""
    centre, width = window
    return np.clip(np.rint((hu.astype(np.float32) - (centre - width / 2)) * (255 / width)), 0, 255).astype(
        np.uint8
    )


def write_slice(path: Path, study: Study, index: int, made: PhantomSlice) -> None:
    """Write one slice as DICOM or PNG, by the suffix of `path`, atomically."""
    with replacing(path) as temporary:
        if path.suffix == ".png":
            _save_png(temporary, _picture(study, made))
        else:
            _dataset(study, index, made).save_as(temporary, enforce_file_format=True)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as 8-bit PNG, 0 or 255, atomically."""
    with replacing(path) as temporary:
        _save_png(temporary, mask.astype(np.uint8) * np.uint8(255))


def _picture(study: Study, made: PhantomSlice) -> np.ndarray:
    """The slice through its window; many pictures of the wide population were JPEG once."""
    from PIL import Image

    gray = window_gray(made.hu, study.scan.window)
    if study.conditions is None or not study.conditions.jpeg_quality:
        return gray
    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, format="JPEG", quality=study.conditions.jpeg_quality)
    with Image.open(stream) as image:
        return np.asarray(image)


def _save_png(path: Path, gray: np.ndarray) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, format="PNG", compress_level=_PNG_EFFORT)
    path.write_bytes(stream.getvalue())


def _uid(*parts: object) -> str:
    """A UID below 2.25 that follows from `parts` alone."""
    digest = hashlib.sha256("/".join(str(part) for part in ("haemo phantom", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _dataset(study: Study, index: int, made: PhantomSlice) -> "Dataset":
    pixel = study.scan.field_mm / study.size
    data = described(study, _CT_IMAGE_STORAGE, "slice", index)
    data.SliceThickness = decimal(study.scan.thickness_mm)
    data.InstanceNumber = str(index + 1)
    place, right, down = slice_geometry(study.scan, study.size, made.position_mm)
    data.ImagePositionPatient = [decimal(value) for value in place]
    data.ImageOrientationPatient = [decimal(value) for value in (*right, *down)]
    data.SliceLocation = decimal(made.position_mm)
    hu = made.hu
    if study.scan.padded:
        data.PixelPaddingValue = PADDING_HU
        hu = np.where(outside(hu, study.scan), np.int16(PADDING_HU), hu)
    add_pixels(data, hu)
    data.WindowCenter, data.WindowWidth = (str(value) for value in study.scan.window)
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "HU"
    data.PixelSpacing = [decimal(pixel), decimal(pixel)]
    return data


def described(study: Study, sop_class: str, *instance: object) -> "Dataset":
    """Give a data set that says whose it is and how it was made, with an instance UID from `instance`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    scan, patient = study.scan, patient_name(study.patient)
    own = (study.seed, study.patient)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(_uid(*own, *instance))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_UID)

    data = Dataset()
    data.file_meta = meta
    data.SpecificCharacterSet = "ISO_IR 100"
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.Modality = "CT"
    data.Manufacturer = "haemo phantom"
    data.SeriesDescription = "synthetic head, not a patient"
    data.PatientName = f"Phantom^{patient}"
    data.PatientID = patient
    data.PatientBirthDate = data.PatientSex = ""
    data.BodyPartExamined = "HEAD"
    data.KVP = "120"
    data.ReconstructionDiameter = decimal(scan.field_mm)
    data.GantryDetectorTilt = decimal(scan.gantry_deg)
    data.TableHeight = decimal(scan.table_mm)
    data.ConvolutionKernel = scan.kernel
    data.PatientPosition = "HFS"
    data.StudyInstanceUID = _uid(*own, "study")
    data.SeriesInstanceUID = _uid(*own, "series")
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", "2", "1"
    data.FrameOfReferenceUID = _uid(*own, "frame")
    data.PositionReferenceIndicator = "OM"
    return data


def add_pixels(data: "Dataset", hu: np.ndarray) -> None:
    """Put pixels of shape (rows, columns), or (frames, rows, columns), into a data set."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = hu.shape[-2:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 1
    data.PixelData = hu.astype("<i2").tobytes()


def slice_geometry(scan: Scan, size: int, position_mm: float) -> tuple[Vector, Vector, Vector]:
    """Place of the first pixel, and the directions of rows and columns; DICOM's x points left, its y back."""
    tilt = math.radians(scan.gantry_deg)
    corner = -(size - 1) / 2 * scan.field_mm / size
    down = (0.0, math.cos(tilt), -math.sin(tilt))
    return (corner, corner * down[1], position_mm + corner * down[2]), (1.0, 0.0, 0.0), down


def outside(hu: np.ndarray, scan: Scan) -> np.ndarray:
    """Where pixels lie outside the circle that was scanned, as far as the scanner says that."""
    if not scan.padded:
        return np.zeros(hu.shape, bool)
    steps = np.arange(len(hu)) - (len(hu) - 1) / 2
    return np.hypot(steps[:, None], steps[None]) > len(hu) / 2


def decimal(value: float) -> str:
    """A decimal string as DICOM allows: at most 16 characters."""
    return f"{value:.6f}"
