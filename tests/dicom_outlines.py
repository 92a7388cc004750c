"""DICOM outlines of small slices, written element by element as the standard has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import dicom_dataset, save_dicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage

__all__ = ["STEP_MM", "write_rtstruct", "write_seg", "write_series"]

STEP_MM = 5.0
Masks = Mapping[int, np.ndarray]
"""Masks of a segment, (rows, columns) as slices are stored, by place in the series."""


def write_series(
    folder: Path,
    values: Sequence[np.ndarray],
    study: str = "1.2.9",
    tilt_deg: float = 0.0,
    spacing_mm: tuple[float, float] = (0.5, 0.75),
    **tags: Any,
) -> list[Dataset]:
    """Write a series of HU, lowest first; its slices in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    tilt = np.deg2rad(tilt_deg)
    down = np.array([0, np.cos(tilt), -np.sin(tilt)])
    slices = []
    for place, hu in enumerate(values):
        own = {
            "PatientID": f"P{study}",
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.1",
            "SOPInstanceUID": f"{study}.1.{place + 1}",
            "FrameOfReferenceUID": f"{study}.99",
            "PixelSpacing": list(spacing_mm),
            "SliceThickness": STEP_MM,
            "ImagePositionPatient": [-4.0, -6.0, STEP_MM * place],
            "ImageOrientationPatient": [1, 0, 0, *down.round(6)],
            **tags,
        }
        dataset = dicom_dataset((np.asarray(hu) + 1024).astype(np.int16), **own)
        save_dicom(dataset, folder / f"{place:02}.dcm")
        slices.append(dataset)
    return slices


def write_seg(
    path: Path,
    slices: Sequence[Dataset],
    segments: Sequence[tuple[str, Masks]],
    *,
    kind: str = "BINARY",
    order: Sequence[int] | None = None,
    references: bool = True,
    meaning: str = "",
    algorithm: str = "MANUAL",
    most: int = 255,
    **tags: Any,
) -> Path:
    """Write segments, (name, masks by place); frames in `order`, with references or found by their place.

    Masks of a fractional segmentation are values up to `most`; those of a label map are joined.
    """
    frames = [
        (number, place, mask) for number, (_, own) in enumerate(segments, 1) for place, mask in own.items()
    ]
    if kind == "LABELMAP":
        joined: dict[int, np.ndarray] = {}
        for number, place, mask in frames:
            values = joined.setdefault(place, np.zeros(mask.shape, np.uint8))
            values[mask] = number
        frames = [(0, place, values) for place, values in joined.items()]
    frames = [frames[index] for index in order] if order is not None else frames
    rows, columns = slices[0].Rows, slices[0].Columns
    dataset = _new(SegmentationStorage, "SEG", slices)
    dataset.SegmentationType = kind
    dataset.MaximumFractionalValue = most
    dataset.SegmentSequence = [
        _segment(number, name, meaning, algorithm) for number, (name, _) in enumerate(segments, 1)
    ]
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    if kind == "LABELMAP":
        dataset.SegmentSequence.insert(0, _segment(0, "Background", "", algorithm))
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    shared = Dataset()
    shared.PixelMeasuresSequence = [_with(PixelSpacing=list(slices[0].PixelSpacing))]
    shared.PlaneOrientationSequence = [_with(ImageOrientationPatient=slices[0].ImageOrientationPatient)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(number, slices[place], references) for number, place, _ in frames
    ]
    if references:
        listed = [_with(ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in slices]
        dataset.ReferencedSeriesSequence = [
            _with(SeriesInstanceUID=slices[0].SeriesInstanceUID, ReferencedInstanceSequence=listed)
        ]
    values = np.array([mask for _, _, mask in frames], np.uint8)
    raw = np.packbits(values.ravel(), bitorder="little").tobytes() if bits == 1 else values.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    save_dicom(dataset, path)
    return path


def write_rtstruct(
    path: Path,
    slices: Sequence[Dataset],
    regions: Sequence[tuple[str, Sequence[tuple[int, np.ndarray]]]],
    *,
    references: bool = True,
    kind: str = "CLOSED_PLANAR",
) -> Path:
    """Write regions, (name, [(place, corners as rows and columns)])."""
    dataset = _new(RTStructureSetStorage, "RTSTRUCT", slices)
    dataset.StructureSetROISequence = [
        _with(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=slices[0].FrameOfReferenceUID)
        for number, (name, _) in enumerate(regions, 1)
    ]
    outlines = []
    for number, (_, polygons) in enumerate(regions, 1):
        contours = []
        for place, corners in polygons:
            one = slices[place]
            axes = np.array(one.ImageOrientationPatient, float)
            right, down = axes[:3] * float(one.PixelSpacing[1]), axes[3:] * float(one.PixelSpacing[0])
            points = (
                np.array(one.ImagePositionPatient, float) + corners[:, 1:] * right + corners[:, :1] * down
            )
            contour = _with(ContourGeometricType=kind, NumberOfContourPoints=len(points))
            contour.ContourData = [f"{value:.6g}" for value in points.ravel()]
            if references:
                contour.ContourImageSequence = [_with(ReferencedSOPInstanceUID=one.SOPInstanceUID)]
            contours.append(contour)
        outlines.append(_with(ReferencedROINumber=number, ContourSequence=contours))
    dataset.ROIContourSequence = outlines
    save_dicom(dataset, path)
    return path


def _new(sop_class: str, modality: str, slices: Sequence[Dataset]) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{slices[0].StudyInstanceUID}.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = modality
    dataset.PatientID = slices[0].PatientID
    dataset.StudyInstanceUID = slices[0].StudyInstanceUID
    dataset.SeriesInstanceUID = f"{slices[0].StudyInstanceUID}.8"
    dataset.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    return dataset


def _segment(number: int, name: str, meaning: str, algorithm: str) -> Dataset:
    segment = _with(SegmentNumber=number, SegmentLabel=name, SegmentAlgorithmType=algorithm)
    if meaning:
        code = _with(CodeValue="1386000", CodingSchemeDesignator="SCT", CodeMeaning=meaning)
        segment.SegmentedPropertyTypeCodeSequence = [code]
    return segment


def _frame(number: int, of: Dataset, references: bool) -> Dataset:
    frame = Dataset()
    if number:
        frame.SegmentIdentificationSequence = [_with(ReferencedSegmentNumber=number)]
    frame.PlanePositionSequence = [_with(ImagePositionPatient=of.ImagePositionPatient)]
    if references:
        source = _with(ReferencedSOPInstanceUID=of.SOPInstanceUID)
        frame.DerivationImageSequence = [_with(SourceImageSequence=[source])]
    return frame


def _with(**tags: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset
