"""Small synthetic data sets in every layout that `haemo index` reads."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

__all__ = [
    "CLASSES",
    "class_folders",
    "ct_ich",
    "ct_values",
    "dicom_dataset",
    "dicom_tree",
    "gray_picture",
    "head_ct",
    "head_picture",
    "rsna",
    "save_dicom",
    "write_csv",
]

CLASSES = ("haemorrhage", "normal")
_BLEED_COLUMNS = ("Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural")


def gray_picture(seed: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A noisy gray picture, (height, width) uint8; another seed, another picture."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def head_picture(seed: int, size: int, bleeds: bool) -> np.ndarray:
    """Something like a windowed head: bright ring, gray inside with noise, and a bright spot if it bleeds."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(rows / rng.uniform(0.8, 0.95), columns / rng.uniform(0.65, 0.8))
    head = np.where(radius < 0.9, 90.0, np.where(radius < 1, 255.0, 0.0))
    head += np.where(radius < 0.9, rng.normal(0, 8, head.shape), 0)
    if bleeds:
        place = rng.uniform(-0.35, 0.35, 2)
        head[np.hypot(rows - place[0], columns - place[1]) < rng.uniform(0.12, 0.25)] = 190
    return np.clip(head, 0, 255).astype(np.uint8)


def class_folders(
    root: Path, patients: int = 8, slices: int = 3, size: int = 64, seed: int = 0, split: bool = False
) -> Path:
    """Write CLASS/PATIENT/N.png, half of the patients with a bleed; below train/ and test/ if `split`.

    Every patient has `slices` slices, and patients of one class are told from the others by a bright spot, so
    that a classifier has something to learn.
    """
    for patient, label, part in _patients(patients, split):
        folder = root / part / label / patient
        folder.mkdir(parents=True)
        for number in range(slices):
            picture = head_picture(seed_of(seed, patient, number), size, label == CLASSES[0])
            Image.fromarray(picture).save(folder / f"{number:03}.png")
    return root


def head_ct(root: Path, each: int = 3) -> Path:
    """Write the 200-image set as published, with fewer pictures: NNN.png, and labels.csv with a space."""
    root.mkdir(exist_ok=True)
    for number in range(2 * each):
        Image.fromarray(gray_picture(number)).convert("RGB").save(root / f"{number:03}.png")
    lines = [f"{number},{int(number < each)}" for number in range(2 * each)]
    (root / "labels.csv").write_bytes("\r\n".join(["id, hemorrhage", *lines, ""]).encode())
    return root


def ct_ich(root: Path, slices: Sequence[tuple[int, int, str]]) -> Path:
    """Write PhysioNet CT-ICH as published, from (patient, slice, type of bleed or '')."""
    rows = []
    for patient, number, bleed in slices:
        for window in ("brain", "bone"):
            folder = root / "Patients_CT" / f"{patient:03}" / window
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(gray_picture(patient * 100 + number)).save(folder / f"{number}.jpg")
            if bleed and window == "brain":
                Image.fromarray(gray_picture(0)).save(folder / f"{number}_HGE_Seg.jpg")
        flags = [int(bleed == column) for column in _BLEED_COLUMNS]
        rows.append((patient, number, *flags, int(not bleed), 0))
    heading = ("PatientNumber", "SliceNumber", *_BLEED_COLUMNS, "No_Hemorrhage", "Fracture_Yes_No")
    write_csv(root / "hemorrhage_diagnosis.csv", [heading, *rows])
    (root / "patient_demographics.csv").write_text("Patient Number,Age\n49,44\n")
    return root


def rsna(root: Path, slices: dict[str, dict[str, int]], present: Sequence[str] | None = None) -> Path:
    """Write RSNA 2019 as published, from id -> flags by type; files only for the ids in `present`."""
    folder = root / "stage_2_train"
    folder.mkdir(parents=True)
    rows: list[tuple[Any, ...]] = [("ID", "Label")]
    for number, (name, flags) in enumerate(slices.items()):
        rows += [(f"{name}_{kind}", flag) for kind, flag in flags.items()]
        if present is None or name in present:
            # The published identifiers are no proper UIDs.
            dataset = dicom_dataset(
                ct_values(number),
                SOPInstanceUID=name,
                PatientID=f"ID_p{number // 2}",
                StudyInstanceUID=f"ID_s{number}",
            )
            save_dicom(dataset, folder / f"{name}.dcm")
    write_csv(root / "stage_2_train.csv", rows)
    return root


def dicom_tree(root: Path, patients: int = 2, slices: int = 3) -> Path:
    """Write PATIENT/IM_N files without a suffix, numbered against the order of their positions."""
    for patient in range(patients):
        folder = root / f"folder{patient}"
        folder.mkdir(parents=True)
        for number in range(slices):
            dataset = dicom_dataset(
                ct_values(10 * patient + number),
                PatientID=f"P{patient}",
                StudyInstanceUID=f"1.2.{patient}",
                SOPInstanceUID=f"1.2.{patient}.{number + 1}",
                ImagePositionPatient=[-100, -100, 50 - 5 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )
            save_dicom(dataset, folder / f"IM_{number}")
    return root


def dicom_dataset(stored: np.ndarray, **tags: Any) -> Dataset:
    """A CT slice with `stored` as its stored values (rescale intercept -1024) and any tags by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    defaults = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "CT",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 8 * stored.itemsize,
        "BitsStored": 8 * stored.itemsize,
        "HighBit": 8 * stored.itemsize - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    for keyword, value in {**defaults, **tags}.items():
        if value is not None:
            with config.disable_value_validation():
                setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save_dicom(dataset: Dataset, target: Path | BinaryIO) -> None:
    """Write a file; identifiers need not be proper ones, since those of published data sets are not."""
    dataset.preamble = bytes(128)
    with config.disable_value_validation():
        dataset.save_as(target, enforce_file_format=False)


def ct_values(seed: int, size: tuple[int, int] = (32, 32), kind: type = np.int16) -> np.ndarray:
    """Stored values of a CT slice, 0..4095, as int16 or uint16."""
    return np.random.default_rng(seed).integers(0, 4096, size).astype(kind)


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def seed_of(seed: int, patient: str, number: int) -> int:
    """A seed for one slice that depends on nothing but its name."""
    return seed * 1_000_003 + int(patient[1:]) * 1_009 + number


def _patients(patients: int, split: bool) -> Iterator[tuple[str, str, str]]:
    for index in range(patients):
        part = ("test" if index // 2 % 3 == 2 else "train") if split else ""
        yield f"p{index:03}", CLASSES[index % 2], part
