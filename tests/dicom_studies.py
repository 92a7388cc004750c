"""Whole DICOM studies of drawn heads, with all that results refer to and that a PACS takes."""

from pathlib import Path
from typing import Any

from cohorts import dicom_dataset, save_dicom
from drawn_heads import SPACING_MM, STEP_MM, head

__all__ = ["write_study"]

# Places where the built-in segmenter finds the bleed with certainty.
_SEED = 300


def write_study(
    folder: Path,
    number: int,
    *,
    bleeds: bool,
    slices: int = 3,
    series: int = 1,
    suffix: str = ".dcm",
    **tags: Any,
) -> Path:
    """Write one series of a study, the bleed on all slices but the first; returns the folder.

    A tag that is None is left out of every slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = f"1.2.826.0.1.{1000 + number}"
    for place in range(slices):
        hu, _ = head(_SEED + number % 5, blood_mm=12 if bleeds and place else 0)
        uid = f"{study}.{series}.{place + 1}"
        values = {
            "SpecificCharacterSet": "ISO_IR 100",
            "PatientName": f"Müller^Erika^{number}",
            "PatientID": f"PID-{number}",
            "PatientBirthDate": "19500102",
            "PatientSex": "F",
            "StudyDate": "20260102",
            "StudyTime": "101530",
            "AccessionNumber": f"A{number}",
            "StudyID": "7",
            "ReferringPhysicianName": "Secret^Referrer",
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.{series}",
            "SeriesNumber": series,
            "InstanceNumber": place + 1,
            "SOPInstanceUID": uid,
            "FrameOfReferenceUID": f"{study}.99",
            "PixelSpacing": [SPACING_MM, SPACING_MM],
            "SliceThickness": STEP_MM,
            "ImagePositionPatient": [-90, -90, STEP_MM * place],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            **tags,
        }
        dataset = dicom_dataset((hu + 1024).clip(0, 4095).astype("int16"), **values)
        dataset.file_meta.MediaStorageSOPInstanceUID = str(dataset.SOPInstanceUID)
        save_dicom(dataset, folder / f"{series}-{place}{suffix}")
    return folder
