"""NRRD, MetaImage and enhanced CT: as SimpleITK writes them, and as one cohort in every format."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_outlines import write_seg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from stand_ins import extract
from volume_files import head_hu, save_nifti, save_with_itk

from haemo.errors import BadSettings, UnreadableSlice
from haemo.features.layouts import index_dataset
from haemo.features.phantom import CohortSettings, write_cohort
from haemo.features.pixels.masks import find_mask, mask_values, read_mask
from haemo.features.pixels.region import Region
from haemo.features.reading.formats import open_volume, read_header, read_slice, slices_in, stamp_of
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import content_hash
from haemo.features.store.store import FeatureStore
from haemo.pipeline.predicting.prediction import find_slices
from haemo.pipeline.run.directory import RunDirectory

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".nii.gz")
SMALL = {"patients": 2, "seed": 7, "slices": (3, 3), "size": 64, "prevalence": 0.5}


def pixels_of(path):
    return np.stack([read_slice(one).pixels for one in slices_in(path)])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
def test_what_simpleitk_writes_is_read(tmp_path, suffix, packed):
    hu = head_hu()
    path = save_with_itk(tmp_path / f"head{suffix}", hu, packed=packed)
    np.testing.assert_array_equal(pixels_of(path), hu)
    first = read_header(slices_in(path)[0])
    assert (first.tags.z_mm, first.size) == (7.0, hu.shape[1:])
    assert read_slice(slices_in(path)[0]).spacing_mm == (0.5, 0.5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_directions_are_those_of_simpleitk(tmp_path, suffix):
    angle = np.deg2rad(20)
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    mirrored = np.diag([-1.0, -1.0, 1.0]) @ tilted
    for directions, turned in ((tilted, slice(None)), (mirrored, slice(None, None, -1))):
        path = save_with_itk(tmp_path / f"head{suffix}", head_hu(), directions=directions)
        volume = open_volume(path)
        own = volume.grid.steps_mm / np.linalg.norm(volume.grid.steps_mm, axis=0)
        np.testing.assert_allclose(own, directions, atol=1e-5)
        np.testing.assert_allclose(volume.grid.origin_mm, [-3, 4, 7], atol=1e-5)
        assert volume.tags(1).tilt_deg == pytest.approx(20, abs=0.01)
        np.testing.assert_array_equal(pixels_of(path), head_hu()[:, turned, turned])


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_beside_their_header_count_as_one_file(tmp_path, suffix):
    path = save_with_itk(tmp_path / f"head{suffix}", head_hu())
    first = slices_in(path)[0]
    before = stamp_of(first)
    save_with_itk(path, head_hu(seed=5))
    assert stamp_of(first) != before
    np.testing.assert_array_equal(pixels_of(path), head_hu(seed=5))
    data = next(one for one in tmp_path.iterdir() if one != path)
    data.unlink()
    with pytest.raises(UnreadableSlice, match="which is not there"):
        slices_in(path)
    for elsewhere in ("../other.raw", "/etc/passwd", "C:\\other.raw"):
        text = path.read_bytes().replace(data.name.encode(), elsewhere.encode())
        (tmp_path / f"bad{suffix}").write_bytes(text)
        with pytest.raises(UnreadableSlice, match="outside of its folder"):
            slices_in(tmp_path / f"bad{suffix}")


@pytest.mark.parametrize(
    ("suffix", "sound", "damaged", "reason"),
    [
        (".mha", b"MET_SHORT", b"MET_STRING", "of the type STRING"),
        (".mha", b"DimSize = 20", b"DimSize = 900", "the header says 900 x 24 x 3 voxels"),
        (".mha", b"DimSize = 20", b"DimSize = x", "no sound number of voxels"),
        (".mha", b"ElementDataFile", b"ElementDataFine", "does not say where its voxels are"),
        (".mha", b"= LOCAL", b"= LIST", "several files"),
        (".nrrd", b"sizes: 20 24 3", b"sizes: 20 24 99", "the header says 20 x 24 x 99 voxels"),
        (".nrrd", b"encoding: raw", b"encoding: hex", "packed as hex"),
        (".nrrd", b"type: short", b"type: block", "of the type block"),
        (
            ".nrrd",
            b"space: left-posterior-superior",
            b"space: scanner-xyz",
            "says nothing of how the head lies",
        ),
        (".nrrd", b"dimension: 3\n", b"dimension: 3\ndata file: %03d.raw 1 3 1\n", "several files"),
    ],
)
def test_headers_that_say_something_else_are_refused_by_name(tmp_path, suffix, sound, damaged, reason):
    path = save_with_itk(tmp_path / f"head{suffix}", head_hu())
    data = path.read_bytes()
    assert sound in data
    path.write_bytes(data.replace(sound, damaged, 1))
    with pytest.raises(UnreadableSlice, match=reason):
        slices_in(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".mha", ".nrrd"]),
    packed=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 500),
)
def test_damage_gives_slices_or_a_reason(tmp_path, suffix, packed, flips, cut):
    path = save_with_itk(tmp_path / f"head{suffix}", head_hu(), packed=packed)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data[: len(data) - cut])
    try:
        first = read_slice(slices_in(path)[0])
    except UnreadableSlice:
        return
    assert np.isfinite(first.pixels).all()


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """The same heads in every format, indexed."""
    root = tmp_path_factory.mktemp("cohorts")
    formats = ("dicom", "nifti", "nrrd", "metaimage", "enhanced")
    for name in formats:
        write_cohort(root / name, CohortSettings(format=name, **SMALL), workers=1)
    shutil.make_archive(str(root / "zip"), "zip", root / "dicom")
    where = {name: root / name for name in formats} | {"zip": root / "zip.zip"}
    return {name: index_dataset(place, unpack_to=root / "unpacked") for name, place in where.items()}


def test_one_cohort_has_one_manifest_in_every_format(cohorts):
    said = {
        name: [(row.label, row.patient, row.study, row.position, row.part) for row in index.manifest]
        for name, index in cohorts.items()
    }
    assert len(said["dicom"]) == 6
    assert all(rows == said["dicom"] for rows in said.values())
    assert not any(index.failures for index in cohorts.values())
    places = {
        name: [read_header(row.path).tags.z_mm for row in index.manifest] for name, index in cohorts.items()
    }
    for found in places.values():
        np.testing.assert_allclose(found, places["dicom"], atol=1e-3)


def test_one_cohort_has_equal_embeddings_in_every_format(cohorts, tmp_path):
    embeddings = {}
    for name, index in cohorts.items():
        report = extract(index.manifest, tmp_path / name)
        assert (report.failures, report.rows) == ([], 6)
        with FeatureStore(tmp_path / name / "features.h5") as store:
            embeddings[name] = store.embeddings([row.slice_id for row in index.manifest])
    for found in embeddings.values():
        np.testing.assert_array_equal(found, embeddings["dicom"])


def test_masks_of_volumes_are_found_and_lie_as_their_slices(cohorts):
    rows = {name: list(index.manifest) for name, index in cohorts.items()}
    for name in ("nifti", "enhanced"):
        for row, plain in zip(rows[name], rows["dicom"], strict=True):
            shape = read_header(row.path).size
            found, expected = find_mask(row.path), find_mask(plain.path)
            assert found.name.startswith(f"{row.patient}.nii.gz#")
            np.testing.assert_array_equal(read_mask(found, shape), read_mask(expected, shape))


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.DeflatedExplicitVRLittleEndian])
def test_packed_frames_are_read_each_by_its_number(cohorts, tmp_path, syntax):
    plain = next(iter(cohorts["enhanced"].manifest)).path
    source = str(plain).split("#")[0]
    dataset = pydicom.dcmread(source)
    dataset.compress(uid.RLELossless) if syntax == uid.RLELossless else None
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "packed.dcm")
    found = slices_in(tmp_path / "packed.dcm")
    with SliceReader(1) as reader:
        for one, expected in zip(found, slices_in(plain.parent / plain.name.split("#")[0]), strict=True):
            assert content_hash(reader(one)) == content_hash(read_slice(expected))


def test_packed_masks_in_an_enhanced_file_are_read_by_number_and_decoded_apart(
    cohorts, tmp_path, monkeypatch
):
    source = str(next(iter(cohorts["enhanced"].manifest)).path).split("#")[0]
    dataset = pydicom.dcmread(source)
    dataset.compress(uid.RLELossless)
    dataset.save_as(tmp_path / "mask.dcm")
    expected = [np.array(pydicom.dcmread(source).pixel_array[place]) for place in range(3)]

    def not_here(*arguments):
        raise AssertionError("decoded in this process")

    monkeypatch.setattr("haemo.features.reading.volumes.enhanced.decompressed", not_here)
    for number, values in enumerate(expected, start=1):
        np.testing.assert_array_equal(mask_values(tmp_path / f"mask.dcm#{number}"), values)


def test_frames_of_an_enhanced_ct_are_outlined(cohorts, tmp_path):
    """Outlines name the one instance that all frames are, and lie where one frame does."""
    first = next(iter(cohorts["enhanced"].manifest)).path
    shutil.copy(first.parent / first.name.split("#")[0], tmp_path / "ct.dcm")
    dataset = pydicom.dcmread(tmp_path / "ct.dcm")
    slices = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        one = pydicom.Dataset()
        one.update(
            {element.tag: element for element in dataset if element.VR != "SQ" and element.tag.group < 0x7FE0}
        )
        for group in [*dataset.SharedFunctionalGroupsSequence[0], *frame]:
            one.update({element.tag: element for element in group.value[0]})
        slices.append(one)
    mask = np.zeros((slices[0].Rows, slices[0].Columns), bool)
    mask[20:24, 30:37] = True
    write_seg(tmp_path / "seg.dcm", slices, [("bleed", {1: mask})])
    index = index_dataset(tmp_path)
    assert [row.label for row in index.manifest] == ["normal", "haemorrhage", "normal"]
    np.testing.assert_array_equal(index.masks["ct.dcm#2"].unpack(), mask)


def test_enhanced_files_that_lie_are_refused(cohorts, tmp_path):
    source = str(next(iter(cohorts["enhanced"].manifest)).path).split("#")[0]
    for change, reason in (
        ({"NumberOfFrames": 9}, "says 9 frames, and tells of 3"),
        ({"NumberOfFrames": 99999}, "up to 8,192 are read"),
        ({"Rows": 4000}, "the file is cut short"),
        ({"Modality": "MR", "SOPClassUID": uid.EnhancedMRImageStorage}, "modality MR is not CT"),
    ):
        dataset = pydicom.dcmread(source)
        for keyword, value in change.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / "bad.dcm")
        with pytest.raises(UnreadableSlice, match=reason):
            open_volume(tmp_path / "bad.dcm")


def test_the_unit_that_was_told_goes_with_the_slices(tmp_path):
    from haemo.pipeline.cli import main

    faint = np.clip((head_hu() + 0.0) * 60 / 80, 0, 60).astype(np.uint8)
    for name in ("a", "b"):
        save_with_itk(tmp_path / "data" / f"{name}.nii.gz", faint)
    run = RunDirectory(tmp_path / "run")
    assert main(["index", str(tmp_path / "data"), "--run", str(run.path)]) == 1
    assert main(["index", str(tmp_path / "data"), "--run", str(run.path), "--unit", "gray"]) == 0
    rows = list(run.manifest())
    assert [row.slice_id for row in rows] == [f"{name}.nii.gz#{n}" for name in "ab" for n in (1, 2, 3)]
    assert rows[0].path.name == "a.nii.gz#1&unit=gray"
    np.testing.assert_array_equal(read_slice(rows[0].path).pixels, faint[0])
    assert run.told_unit() == "gray"
    files, failures = find_slices([tmp_path / "data", tmp_path / "data" / "a.nii.gz#2"], unit=run.told_unit())
    assert (len(files), failures) == (6, [])
    assert {read_slice(path).is_hu for path in files} == {False}


def test_a_unit_that_every_file_says_itself_is_refused(tmp_path):
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,normal\n")
    with pytest.raises(BadSettings, match="--unit has no meaning here"):
        index_dataset(tmp_path, unit="hu")
    with pytest.raises(BadSettings, match=r"no unit 'HU'.*Did you mean hu"):
        index_dataset(tmp_path, unit="HU")


def test_a_scan_that_is_one_file_is_outlined_into_one_mask_that_lies_on_it(tmp_path, monkeypatch):
    """The outline of a slice stored in another way than it is seen must be turned back to lie on it."""
    import nibabel

    from haemo.pipeline.cli import main
    from haemo.pipeline.segmenting.segmenter import Segmenter

    hu = head_hu(slices=2)
    blood = np.zeros(hu.shape[1:], bool)
    blood[6:9, 7:12] = True
    monkeypatch.setattr(Segmenter, "regions", lambda self, found: [Region(blood, (7, 9), 0.9, True, None)])
    scan = save_nifti(tmp_path / "scan.nii.gz", hu, spacing_mm=(5.0, 8.0, 8.0), axes="RAS")
    out = tmp_path / "out"
    assert main(["segment", "predict", str(scan), "--out", str(out)]) == 0
    mask = nibabel.load(out / "masks" / "scan.nii.gz")
    source = nibabel.load(scan)
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-5)
    for one in slices_in(out / "masks" / "scan.nii.gz"):
        np.testing.assert_array_equal(read_mask(one, blood.shape), blood)
    assert sorted(path.name for path in (out / "overlays").rglob("*.png")) == ["scan-001.png", "scan-002.png"]
    assert [
        row.split(",")[0].rsplit("/")[-1] for row in (out / "slices.csv").read_text().splitlines()[1:]
    ] == [
        "scan.nii.gz#1",
        "scan.nii.gz#2",
    ]
