"""Twins of published sets and of trees with outlines, small and of the form in which they are handed out."""

from pathlib import Path

import numpy as np
from cohorts import ct_values, dicom_dataset, rsna, save_dicom, write_csv
from dicom_outlines import write_rtstruct, write_seg, write_series
from drawn_heads import SPACING_MM, STEP_MM, head
from skimage.measure import find_contours
from volume_files import head_hu, save_nifti

__all__ = [
    "bhsd",
    "corners_of",
    "cq500",
    "ct_ich_131",
    "instance_2022",
    "mask_of",
    "outlined",
    "outlined_volumes",
    "rsna_2019",
    "scans",
    "scans_in_class_folders",
]

SLICES = 4
TYPES = ("Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural")
FINDINGS = ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH")


def mask_of(values: dict[int, int]) -> np.ndarray:
    """A mask like a scan of `head_hu`, with a patch of a value on some slices, counted from 1."""
    mask = np.zeros((SLICES, 24, 20), np.int16)
    for number, value in values.items():
        mask[number - 1, 8:12, 6:9] = value
    return mask


def scans(root: Path, images: str, masks: str, suffix: str, values: dict[int, dict[int, int]]) -> Path:
    """Scans NNN with masks of the same name; `values` by scan and slice."""
    for folder in (images, masks):
        (root / folder).mkdir(parents=True)
    for scan, own in values.items():
        save_nifti(root / images / f"{scan:03}{suffix}", head_hu(SLICES, seed=scan))
        save_nifti(root / masks / f"{scan:03}{suffix}", mask_of(own))
    return root


def ct_ich_131(root: Path) -> Path:
    bleeds = {scan: {2: 1, 3: 1} if scan % 2 else {} for scan in range(49, 61)}
    scans(root, "ct_scans", "masks", ".nii", bleeds)
    rows = [("PatientNumber", "SliceNumber", *TYPES, "No_Hemorrhage", "Fracture_Yes_No")]
    for scan, own in bleeds.items():
        rows += [
            (scan, n, 0, int(n in own), 0, 0, int(n == 3 and n in own), int(n not in own), 0)
            for n in range(1, 5)
        ]
    write_csv(root / "hemorrhage_diagnosis_raw_ct.csv", rows)
    (root / "Patient_demographics.csv").write_text("Patient Number,Age\n49,44\n")
    return root


def instance_2022(root: Path) -> Path:
    return scans(
        root, "data", "label", ".nii.gz", {scan: {1: 1} if scan % 2 else {} for scan in range(1, 13)}
    )


def bhsd(root: Path) -> Path:
    own = {scan: {1: 1 + scan % 5, 2: 5} if scan % 2 else {} for scan in range(1, 13)}
    return scans(root / "label_192", "images", "ground truths", ".nii.gz", own).parent


def cq500(root: Path, scans: int = 12) -> Path:
    rows = [("name", "Category", *(f"R{reader}:{one}" for reader in (1, 2, 3) for one in FINDINGS))]
    for scan in range(scans):
        name, bleeds = f"CQ500CT{scan} CQ500CT{scan}", scan % 2
        # Two of three readers decide: one alone always says the opposite.
        votes = [bleeds, bleeds, 1 - bleeds]
        rows.append(
            (
                f"CQ500-CT-{scan}",
                "B1",
                *(vote if one in ("ICH", "SDH") else 0 for vote in votes for one in FINDINGS),
            )
        )
        for series, kernel, thickness in (("CT Plain", "STANDARD", 5), ("CT Plain THIN-2", "BONE", 1)):
            folder = root / name / "Unknown Study" / series
            folder.mkdir(parents=True)
            for number in range(2):
                uid = f"1.3.{scan}.{thickness}.{number}"
                dataset = dicom_dataset(
                    ct_values(10 * scan + number),
                    SOPInstanceUID=uid,
                    PatientID=f"CQ500-CT-{scan}",
                    StudyInstanceUID=f"1.3.{scan}",
                    SeriesInstanceUID=f"1.3.{scan}.{thickness}",
                    SeriesDescription=series,
                    ConvolutionKernel=kernel,
                    SliceThickness=thickness,
                    ImagePositionPatient=[0, 0, 5 * number],
                    ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                )
                save_dicom(dataset, folder / f"CT{number:06}.dcm")
    write_csv(root / "reads.csv", rows)
    return root


def rsna_2019(root: Path, patients: int = 12, slices: int = 3) -> Path:
    """Slices of studies that only their tags tell, as RSNA 2019 is published; every second patient bleeds."""
    flags = {}
    for patient in range(patients):
        for number in range(slices):
            bleeds = int(patient % 2 and number > 0)
            flags[f"ID_{patient:04x}{number:04x}"] = {
                **{kind.casefold(): int(bleeds and kind == "Subdural") for kind in TYPES},
                "any": bleeds,
            }
    rsna(root, flags)
    for index, name in enumerate(flags):
        patient, number = divmod(index, slices)
        dataset = dicom_dataset(
            ct_values(index),
            SOPInstanceUID=name,
            PatientID=f"ID_p{patient}",
            StudyInstanceUID=f"ID_s{patient}",
            SeriesInstanceUID=f"ID_r{patient}",
            # The files of a study are in no order.
            ImagePositionPatient=[0, 0, 5 * ((number + 1) % slices)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        save_dicom(dataset, root / "stage_2_train" / f"{name}.dcm")
    return root


def scans_in_class_folders(root: Path, patients: int = 12) -> Path:
    """Whole scans in folders that say what they show."""
    for scan in range(patients):
        folder = root / ("hemorrhage" if scan % 2 else "normal")
        folder.mkdir(parents=True, exist_ok=True)
        save_nifti(folder / f"{scan:03}.nii.gz", head_hu(SLICES, seed=scan))
    return root


def corners_of(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons half-way between the centres of pixels in a mask and out of it, as rows and columns."""
    return [found - 1 for found in find_contours(np.pad(mask.astype(float), 1), 0.5)]


def outlined(root: Path, kind: str, patients: int = 12) -> Path:
    """Drawn heads, a DICOM series each, with their bleeds in a SEG or RTSTRUCT beside them."""
    rng = np.random.default_rng(0)
    for patient in range(patients):
        drawn = [head(int(rng.integers(2**31)), 14 if patient % 2 and n else 0) for n in range(SLICES)]
        folder = root / f"P{patient:02}"
        slices = write_series(
            folder, [hu for hu, _ in drawn], study=f"1.2.{patient}", spacing_mm=(SPACING_MM, SPACING_MM)
        )
        masks = {number: mask for number, (_, mask) in enumerate(drawn)}
        if kind == "SEG":
            write_seg(folder / "outlines.dcm", slices, [("Hematoma", masks)])
        else:
            polygons = [(number, one) for number, mask in masks.items() for one in corners_of(mask)]
            write_rtstruct(folder / "outlines.dcm", slices, [("ICH", polygons)])
    return root


def outlined_volumes(root: Path, patients: int = 12) -> Path:
    """The same heads as NIfTI, with masks of the same names."""
    rng = np.random.default_rng(0)
    for folder in ("data", "label"):
        (root / folder).mkdir(parents=True)
    for patient in range(patients):
        drawn = [head(int(rng.integers(2**31)), 14 if patient % 2 and n else 0) for n in range(SLICES)]
        for folder, part in (("data", 0), ("label", 1)):
            voxels = np.stack([one[part] for one in drawn]).astype(np.int16)
            save_nifti(root / folder / f"{patient:03}.nii.gz", voxels, (STEP_MM, SPACING_MM, SPACING_MM))
    return root
