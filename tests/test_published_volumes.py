"""How twins of published sets of scans are indexed: CT-ICH 1.3.1, CQ500, INSTANCE 2022 and BHSD."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cohorts import write_csv
from published import SLICES, bhsd, cq500, ct_ich_131, instance_2022, mask_of, scans
from volume_files import head_hu, save_nifti

from haemo.errors import BadDataset, BadSettings
from haemo.features.layouts import index_dataset
from haemo.features.pixels.masks import find_mask, read_mask


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
    (root / "dataset.json").write_text('{"made by": "another program"}')
    assert counts(index_dataset(root)) == {"normal": 2, "haemorrhage": 2}
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


@pytest.mark.parametrize(
    ("scan", "mask"),
    [("p{}/ct.nii.gz", "p{}/mask.nii.gz"), ("{}.nii.gz", "{}_seg.nii"), ("a-{}.nii", "a-{}-label.nii")],
)
def test_masks_beside_their_scans_are_known_by_their_names(tmp_path, scan, mask):
    for number in range(3):
        path = tmp_path / scan.format(number)
        path.parent.mkdir(exist_ok=True)
        save_nifti(path, head_hu(SLICES, seed=number))
        # As gray levels such a mask would pass for a scan.
        save_nifti(tmp_path / mask.format(number), 255 * mask_of({2: number % 2}))
    index = index_dataset(tmp_path)
    assert (index.layout, index.failures) == ("masked-volumes", ())
    assert counts(index) == {"normal": 11, "haemorrhage": 1}
    assert len({row.patient for row in index.manifest}) == 3
    (row,) = (row for row in index.manifest if row.label == "haemorrhage")
    np.testing.assert_array_equal(read_mask(find_mask(row.path), (24, 20)), mask_of({2: 1})[1] > 0)


def test_a_volume_that_is_only_called_like_a_mask_is_a_scan(tmp_path):
    for name in ("seg", "001_label", "002"):
        save_nifti(tmp_path / f"{name}.nii.gz", head_hu(SLICES))
    save_nifti(tmp_path / "003.nii.gz", head_hu(SLICES, seed=3))
    assert len(index_dataset(tmp_path).manifest) == 4 * SLICES
