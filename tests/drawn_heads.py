"""Heads drawn with rings and discs, as DICOM with masks: quick, and blood is where it is known to be."""

from pathlib import Path

import numpy as np
from cohorts import dicom_dataset, save_dicom, write_csv
from PIL import Image

SPACING_MM = 1.25
STEP_MM = 5.0
SIDE = 144


def head(seed: int, blood_mm: float = 0.0, turn_deg: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """HU of a head, float32, and the mask of its bleed: a disc of this radius, in one half of the brain."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.indices((SIDE, SIDE)) - SIDE / 2) * SPACING_MM
    angle = np.deg2rad(turn_deg)
    along, across = (
        rows * np.cos(angle) - columns * np.sin(angle),
        columns * np.cos(angle) + rows * np.sin(angle),
    )
    radius = np.hypot(along / 78, across / 62)
    hu = np.full((SIDE, SIDE), -1000.0)
    hu[radius < 1.12] = 0.0  # scalp
    hu[radius < 1.06] = 900.0
    inside = radius < 0.94
    hu[inside] = 32 + 4 * np.sin(rows[inside] / 9) * np.cos(columns[inside] / 7)
    ventricle = inside & (np.hypot(along / 22, (np.abs(across) - 10) / 5) < 1)
    hu[ventricle] = 8
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    if blood_mm:
        place = rng.uniform(-30, 30), rng.choice([-1, 1]) * rng.uniform(22, 36)
        mask = inside & (np.hypot(along - place[0], across - place[1]) < blood_mm)
        hu[mask] = 66
    noise = rng.normal(0, 3, hu.shape)
    return (hu + noise * (hu > -900)).astype(np.float32), mask


def cohort(root: Path, patients: int = 16, slices: int = 4, seed: int = 0) -> Path:
    """Write PATIENT/NN.dcm, masks/PATIENT/NN.png and labels.csv; every second patient bleeds."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, ...]] = [("path", "label", "patient", "subtype")]
    for patient in range(patients):
        name = f"P{patient:02}"
        for number in range(slices):
            bleeds = patient % 2 == 1 and number > 0
            hu, mask = head(int(rng.integers(2**31)), rng.uniform(7, 16) if bleeds else 0)
            write_slice(root / name / f"{number:02}.dcm", hu, name, number)
            target = root / "masks" / name / f"{number:02}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(target)
            label = "haemorrhage" if bleeds else "normal"
            rows.append((f"{name}/{number:02}.dcm", label, name, "intraparenchymal" if bleeds else ""))
    write_csv(root / "labels.csv", rows)
    return root


def write_slice(path: Path, hu: np.ndarray, patient: str, number: int) -> Path:
    """Write one slice, `STEP_MM` from the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = dicom_dataset(
        (hu + 1024).clip(0, 4095).astype(np.int16),
        PatientID=patient,
        StudyInstanceUID=f"1.2.{patient[1:]}",
        SeriesInstanceUID=f"1.2.{patient[1:]}.1",
        SOPInstanceUID=f"1.2.{patient[1:]}.{number + 1}",
        PixelSpacing=[SPACING_MM, SPACING_MM],
        ImagePositionPatient=[-90, -90, STEP_MM * number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
    save_dicom(dataset, path)
    return path


def as_picture(hu: np.ndarray) -> np.ndarray:
    """The slice as it is shown in a brain window, uint8."""
    return np.rint(np.clip(hu * 255 / 80, 0, 255)).astype(np.uint8)
