"""Phantom slices as files: DICOM as a clinic's scanner writes them, or windowed PNG; masks as PNG."""

import hashlib
import io
import math
from pathlib import Path

import numpy as np

from haemo.atomic import replacing
from haemo.features.phantom.scanner import Scan
from haemo.features.phantom.study import PhantomSlice, Study, patient_name

__all__ = ["FORMATS", "PADDING_HU", "window_gray", "write_mask", "write_slice"]

FORMATS = {"dicom": ".dcm", "png": ".png"}
PADDING_HU = -1500
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
            _save_png(temporary, window_gray(made.hu, study.scan.window))
        else:
            _dataset(study, index, made).save_as(temporary, enforce_file_format=True)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask as 8-bit PNG, 0 or 255, atomically."""
    with replacing(path) as temporary:
        _save_png(temporary, mask.astype(np.uint8) * np.uint8(255))


def _save_png(path: Path, gray: np.ndarray) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, format="PNG", compress_level=_PNG_EFFORT)
    path.write_bytes(stream.getvalue())


def _uid(*parts: object) -> str:
    """A UID below 2.25 that follows from `parts` alone."""
    digest = hashlib.sha256("/".join(str(part) for part in ("haemo phantom", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _dataset(study: Study, index: int, made: PhantomSlice):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    scan, patient = study.scan, patient_name(study.patient)
    pixel = scan.field_mm / study.size
    own = (study.seed, study.patient)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_CT_IMAGE_STORAGE)
    meta.MediaStorageSOPInstanceUID = UID(_uid(*own, "slice", index))
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
    data.SliceThickness = _decimal(scan.thickness_mm)
    data.KVP = "120"
    data.ReconstructionDiameter = _decimal(scan.field_mm)
    data.GantryDetectorTilt = _decimal(scan.gantry_deg)
    data.TableHeight = _decimal(scan.table_mm)
    data.ConvolutionKernel = scan.kernel
    data.PatientPosition = "HFS"
    data.StudyInstanceUID = _uid(*own, "study")
    data.SeriesInstanceUID = _uid(*own, "series")
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", "2", "1"
    data.InstanceNumber = str(index + 1)
    data.FrameOfReferenceUID = _uid(*own, "frame")
    data.PositionReferenceIndicator = "OM"
    data.ImagePositionPatient, data.ImageOrientationPatient = _geometry(scan, study.size, made.position_mm)
    data.SliceLocation = _decimal(made.position_mm)
    _add_pixels(data, made.hu, scan)
    data.PixelSpacing = [_decimal(pixel), _decimal(pixel)]
    return data


def _geometry(scan: Scan, size: int, position_mm: float) -> tuple[list[str], list[str]]:
    """ImagePositionPatient and ImageOrientationPatient; DICOM's x points left, its y to the back."""
    tilt = math.radians(scan.gantry_deg)
    corner = -(size - 1) / 2 * scan.field_mm / size
    down = (0.0, math.cos(tilt), -math.sin(tilt))
    place = (corner, corner * down[1], position_mm + corner * down[2])
    return [_decimal(value) for value in place], [_decimal(value) for value in (1.0, 0.0, 0.0, *down)]


def _add_pixels(data, hu: np.ndarray, scan: Scan) -> None:
    if scan.padded:
        data.PixelPaddingValue = PADDING_HU
        steps = np.arange(len(hu)) - (len(hu) - 1) / 2
        hu = np.where(np.hypot(steps[:, None], steps[None]) > len(hu) / 2, np.int16(PADDING_HU), hu)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = hu.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 1
    data.WindowCenter, data.WindowWidth = (str(value) for value in scan.window)
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "HU"
    data.PixelData = hu.astype("<i2").tobytes()


def _decimal(value: float) -> str:
    """A decimal string as DICOM allows: at most 16 characters."""
    return f"{value:.6f}"
