"""Twins of published sets of scans: CT-ICH 1.3.1, CQ500, INSTANCE 2022 and BHSD, from index to report."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cohorts import ct_values, dicom_dataset, save_dicom, write_csv
from drawn_heads import SPACING_MM, head
from volume_files import head_hu, save_nifti

from haemo.errors import BadDataset, BadSettings
from haemo.features.layouts import index_dataset
from haemo.features.pixels.masks import find_mask, read_mask
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import create_store
from haemo.pipeline.cli import main
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory

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


def counts(index) -> dict[str, int]:
    labels = [row.label for row in index.manifest]
    return {name: labels.count(name) for name in set(labels)}


def test_ct_ich_131_is_labelled_by_its_table(tmp_path):
    index = index_dataset(ct_ich_131(tmp_path))
    assert index.layout == "ct-ich"
    assert counts(index) == {"haemorrhage": 12, "normal": 36}
    assert {row.patient for row in index.manifest} == {f"{scan:03}" for scan in range(49, 61)}
    bleeding = {row.slice_id for row in index.manifest if row.label == "haemorrhage"}
    assert bleeding == {f"ct_scans/{scan:03}.nii#{n}" for scan in range(49, 61, 2) for n in (2, 3)}
    assert [row.position for row in index.manifest][:4] == [0, 5, 10, 15]
    assert counts(index_dataset(tmp_path, label="subdural")) == {"subdural": 6, "no subdural": 42}


def test_masks_of_instance_2022_are_its_labels(tmp_path):
    index = index_dataset(instance_2022(tmp_path))
    assert index.layout == "masked-volumes"
    assert counts(index) == {"haemorrhage": 6, "normal": 42}
    with pytest.raises(BadSettings, match="these masks tell any"):
        index_dataset(tmp_path, label="subdural")


def test_values_of_bhsd_are_types(tmp_path):
    index = index_dataset(bhsd(tmp_path))
    assert counts(index) == {"haemorrhage": 12, "normal": 36}
    assert counts(index_dataset(tmp_path, label="subdural"))["subdural"] == 7
    types = index_dataset(tmp_path, label="subtype")
    assert counts(types)["subdural"] == 7
    save_nifti(tmp_path / "label_192" / "ground truths" / "001.nii.gz", mask_of({1: 7}))
    index = index_dataset(tmp_path, label="subdural")
    assert "its mask has values [7]" in index.failures[0].reason
    assert len(index.manifest) == 44


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "Subdural hematoma", "2": "EDH"},
        {"background": 0, "subdural": 1, "extradural": 2, "all of it": [1, 2]},
    ],
)
def test_what_values_of_masks_mean_is_told_as_nnu_net_does(tmp_path, labels):
    root = scans(tmp_path, "imagesTr", "labelsTr", ".nii.gz", {1: {1: 1, 2: 2}, 2: {3: 1}})
    (root / "imagesTr" / "001.nii.gz").rename(root / "imagesTr" / "001_0000.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert counts(index_dataset(root, label="subtype")) == {"normal": 5, "subdural": 2, "epidural": 1}
    assert counts(index_dataset(root, label="epidural")) == {"no epidural": 7, "epidural": 1}


def test_a_dataset_json_that_tells_no_types_is_said(tmp_path, caplog):
    root = scans(tmp_path, "imagesTr", "labelsTr", ".nii.gz", {1: {1: 1, 2: 2}})
    (root / "dataset.json").write_text(json.dumps({"labels": {"1": "bleeding", "2": "edema"}}))
    assert counts(index_dataset(root)) == {"normal": 2, "haemorrhage": 2}
    assert "dataset.json calls values of masks edema; they count as blood" in caplog.text
    (root / "dataset.json").write_text("[]")
    with pytest.raises(BadDataset, match="does not say in nnU-Net's way"):
        index_dataset(root)


@pytest.mark.parametrize(("make", "images"), [(ct_ich_131, "ct_scans"), (bhsd, "images")])
def test_masks_of_scans_are_found_and_read_as_their_slices_are_seen(tmp_path, make, images):
    make(tmp_path)
    rows = {row.slice_id: row.path for row in index_dataset(tmp_path).manifest}
    path = rows["ct_scans/049.nii#2" if images == "ct_scans" else "label_192/images/001.nii.gz#1"]
    mask = read_mask(find_mask(path), (24, 20))
    expected = np.zeros((24, 20), bool)
    expected[8:12, 6:9] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_mask_of_another_shape_or_unreadable_costs_its_scan(tmp_path):
    instance_2022(tmp_path)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((5, 6, 4), np.int16), np.eye(4)), tmp_path / "label" / "001.nii.gz"
    )
    (tmp_path / "label" / "002.nii.gz").write_bytes(b"no volume")
    (tmp_path / "label" / "003.nii.gz").unlink()
    index = index_dataset(tmp_path)
    reasons = {Path(failure.path).name: failure.reason for failure in index.failures}
    assert set(reasons) == {"001.nii.gz", "002.nii.gz"}
    assert "the scan of 24 x 20" in reasons["001.nii.gz"]
    assert counts(index)[""] == SLICES


def test_cq500_takes_what_two_readers_say_of_a_scan(tmp_path, caplog):
    index = index_dataset(cq500(tmp_path))
    assert index.layout == "cq500"
    assert counts(index) == {"": 24}
    assert index.study_labels == {
        f"CQ500-CT-{scan}": "haemorrhage" if scan % 2 else "normal" for scan in range(12)
    }
    assert {row.path.parent.name for row in index.manifest} == {"CT Plain"}
    assert "B1" not in set(index.study_labels.values())
    assert set(index_dataset(tmp_path, label="epidural").study_labels.values()) == {"no epidural"}
    (tmp_path / "reads.csv").write_text(
        (tmp_path / "reads.csv").read_text().replace("CQ500-CT-3,B1,1", "CQ500-CT-3,B1,x")
    )
    index = index_dataset(tmp_path)
    assert "expected a name as CQ500-CT-12, and 0 or 1 of each reader" in index.failures[0].reason
    assert "CQ500-CT-3" not in index.study_labels
    write_csv(tmp_path / "reads.csv", [("name", "R1:ICH", "R2:ICH", "R3:ICH"), ("CQ500-CT-99", 0, 0, 0)])
    with pytest.raises(BadDataset, match="no scan below"):
        index_dataset(tmp_path)


def test_masks_of_scans_teach_and_measure_outlines(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder in ("data", "label"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for scan in range(12):
        drawn = [head(int(rng.integers(2**31)), 14 if scan % 2 and number else 0) for number in range(4)]
        for folder, part in (("data", 0), ("label", 1)):
            voxels = np.stack([one[part] for one in drawn]).astype(np.int16)
            save_nifti(tmp_path / "set" / folder / f"{scan:03}.nii.gz", voxels, (5.0, SPACING_MM, SPACING_MM))
    run = str(tmp_path / "run")
    assert main(["index", str(tmp_path / "set"), "--run", run]) == 0
    train = ["segment", "train", "--run", run, "--kind", "logistic", "--jobs", "1"]
    assert main(train) == 0, capsys.readouterr().err
    assert main(["segment", "score", "--run", run, "--jobs", "1"]) == 0
    measured = json.loads((tmp_path / "run" / "explain" / "segment.json").read_text())
    assert measured["groups"]["all"]["dice"]["mean"] > 0.9
    assert main(train) == 0
    assert "up to date" in capsys.readouterr().err


@pytest.mark.parametrize("make", [ct_ich_131, instance_2022, bhsd, cq500])
def test_a_twin_goes_from_index_to_report(tmp_path, make, capsys):
    run = RunDirectory(tmp_path / "run")
    index_run(make(tmp_path / "data"), run)
    rows = list(run.manifest())
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(len(rows), 12)).astype(np.float32)
    create_store(
        run.store_path, [row.slice_id for row in rows], embeddings, Fingerprint({"made": "for a test"})
    )
    if make is cq500:
        assert main(["pool", "--run", str(run.path)]) == 0
        run = RunDirectory(run.path / "studies")
    # Few patients: any figure will do, as long as all steps are made.
    for command in (["svm", "--grid", "C=1e-3"], ["report"]):
        assert main([command[0], "--run", str(run.path), *command[1:]]) == 0, capsys.readouterr().err
    assert (run.path / "report.html").stat().st_size > 10_000
