"""Volumes as a source of slices: seen as DICOM slices are, and refused by name where they are damaged."""

import gzip
import struct
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volume_files import head_hu, save_nifti

from haemo.errors import UnreadableSlice
from haemo.features.layouts import index_dataset
from haemo.features.reading.formats import open_volume, read_header, read_slice, slices_in, stamp_of
from haemo.features.reading.volumes import voxels

ORIENTATIONS = ["".join(order) for codes in product("RL", "AP", "SI") for order in permutations(codes)]


def pixels_of(path):
    return np.stack([read_slice(one).pixels for one in slices_in(path)])


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_head_is_seen_alike_however_its_voxels_are_stored(tmp_path, axes):
    hu = head_hu()
    path = save_nifti(tmp_path / "head.nii", hu, axes=axes)
    np.testing.assert_array_equal(pixels_of(path), hu[::-1] if "I" in axes else hu)
    places = [read_header(one).tags.z_mm for one in slices_in(path)]
    assert places == ([10.0, 5.0, 0.0] if "I" in axes else [0.0, 5.0, 10.0])
    first = read_slice(slices_in(path)[0])
    assert first.is_hu
    assert first.spacing_mm == (0.5, 0.5)


def test_a_packed_volume_is_unpacked_once(tmp_path, monkeypatch):
    hu = head_hu(slices=6)
    path = save_nifti(tmp_path / "head.nii.gz", hu)
    unpacked = []
    original = voxels._inflate
    monkeypatch.setattr(voxels, "_inflate", lambda *a: unpacked.append(1) or original(*a))
    np.testing.assert_array_equal(pixels_of(path), hu)
    assert unpacked == [1]


def test_a_volume_that_changes_is_read_anew(tmp_path):
    path = save_nifti(tmp_path / "head.nii.gz", head_hu(seed=1))
    before = pixels_of(path), stamp_of(path)
    save_nifti(path, head_hu(seed=2, slices=4))
    assert stamp_of(path) != before[1]
    np.testing.assert_array_equal(pixels_of(path), head_hu(seed=2, slices=4))


@pytest.mark.parametrize(
    ("kind", "slope", "shift", "mode"),
    [
        (np.int16, 1, 0, "NIfTI int16"),
        (np.uint16, 1, 1024, "NIfTI uint16, HU + 1024"),
        (np.float32, 1, 0, "NIfTI float32"),
        (np.float64, 1, 1024, "NIfTI float64, HU + 1024"),
        (np.int32, 2, 0, "NIfTI int32"),
    ],
)
def test_numbers_of_any_type_become_hu(tmp_path, kind, slope, shift, mode):
    hu = head_hu() // 2 * 2
    image = nibabel.Nifti1Image(
        ((hu + shift) // slope).astype(kind).transpose(2, 1, 0), np.diag([-1, -1, 5, 1])
    )
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, tmp_path / "head.nii")
    np.testing.assert_array_equal(pixels_of(tmp_path / "head.nii"), hu)
    assert read_header(slices_in(tmp_path / "head.nii")[0]).mode == mode


def test_what_is_no_number_is_air(tmp_path):
    hu = head_hu().astype(np.float32)
    outside = hu == -1000
    hu[outside] = np.nan
    got = pixels_of(save_nifti(tmp_path / "head.nii.gz", hu))
    assert (got[outside] == -1000).all()
    np.testing.assert_array_equal(got[~outside], hu[~outside])


def test_gray_levels_stay_gray_and_numbers_of_no_unit_are_refused_until_it_is_told(tmp_path):
    gray = np.clip((head_hu() + 0.0) * 255 / 80, 0, 255).astype(np.uint8)
    path = save_nifti(tmp_path / "gray.nii", gray)
    first = read_slice(slices_in(path)[0])
    assert (first.is_hu, first.mode) == (False, "NIfTI uint8, gray")
    np.testing.assert_array_equal(first.pixels, gray[0])
    faint = save_nifti(tmp_path / "faint.nii", (gray // 3).astype(np.uint8))
    with pytest.raises(UnreadableSlice, match=r"from 0 to 85.*--unit hu, --unit hu\+1024 or --unit gray"):
        read_slice(slices_in(faint)[0])
    told = tmp_path / "faint.nii#1&unit=gray"
    np.testing.assert_array_equal(read_slice(told).pixels, gray[0] // 3)
    assert read_slice(tmp_path / "faint.nii#1&unit=hu+1024").pixels.min() == -1024


def test_a_slice_of_nothing_but_air_has_the_unit_of_its_scan(tmp_path):
    hu = head_hu(slices=4)
    hu[-1] = -1000
    path = save_nifti(tmp_path / "head.nii", (hu + 1024).astype(np.uint16))
    np.testing.assert_array_equal(pixels_of(path), hu)


def test_the_affine_is_that_of_other_programs(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(20):
        affine = np.eye(4)
        turn = np.linalg.qr(np.eye(3) + rng.normal(0, 0.15, (3, 3)))[0]
        affine[:3, :3] = turn * np.sign(np.diag(turn)) * (0.5, 0.5, 5) * rng.choice([-1, 1], 3)
        affine[:3, 3] = rng.normal(0, 100, 3)
        image = nibabel.Nifti1Image(head_hu().transpose(2, 1, 0), None)
        image.header.set_xyzt_units("mm")
        # One of the two ways in which NIfTI says it, or both.
        if number % 3 != 1:
            image.set_sform(affine, 1)
        if number % 3 != 0:
            image.set_qform(affine, 1)
        nibabel.save(image, tmp_path / "head.nii")
        grid = open_volume(tmp_path / "head.nii").grid
        own = np.column_stack([grid.steps_mm, grid.origin_mm])
        theirs = nibabel.load(tmp_path / "head.nii").affine[:3]
        np.testing.assert_allclose(own, np.diag([-1, -1, 1]) @ theirs, atol=1e-4)


def test_a_file_that_says_not_how_the_head_lies_is_said(tmp_path):
    image = nibabel.Nifti1Image(head_hu().transpose(2, 1, 0), None)
    nibabel.save(image, tmp_path / "head.nii")
    assert read_header(tmp_path / "head.nii#1").mode == "NIfTI int16, orientation not said"


def test_nifti_2_and_the_other_byte_order_are_read(tmp_path):
    hu = head_hu()
    steps = np.diag([-0.5, -0.5, 5, 1])
    nibabel.save(nibabel.Nifti2Image(hu.transpose(2, 1, 0), steps), tmp_path / "two.nii")
    np.testing.assert_array_equal(pixels_of(tmp_path / "two.nii"), hu)
    big = nibabel.Nifti1Image(
        hu.transpose(2, 1, 0).astype(">i2"), steps, nibabel.Nifti1Header(endianness=">")
    )
    nibabel.save(big, tmp_path / "big.nii")
    np.testing.assert_array_equal(pixels_of(tmp_path / "big.nii"), hu)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ([[-0.5, 0, 0], [0, 0, -5], [0, 0.5, 0]], "pixels of 5 x 0.5 mm"),
        ([[0, 0, 5], [-0.5, 0, 0], [0, 0.5, 0]], "pixels of 0.5 x 5 mm"),
        (
            [[-0.5, 0, 0], [0, -0.3, 4], [0, 0.4, 3]],
            "an oblique slice, tilted by 37 degrees, not an axial one",
        ),
    ],
    ids=["coronal", "sagittal", "oblique"],
)
def test_what_was_not_made_axial_is_refused_by_name(tmp_path, axes, reason):
    affine = np.eye(4)
    affine[:3, :3] = axes
    nibabel.save(nibabel.Nifti1Image(head_hu().transpose(2, 1, 0), affine), tmp_path / "head.nii")
    with pytest.raises(UnreadableSlice, match=reason):
        slices_in(tmp_path / "head.nii")


def test_several_volumes_and_colours_are_refused(tmp_path):
    perfusion = np.zeros((4, 4, 3, 5), np.int16)
    nibabel.save(nibabel.Nifti1Image(perfusion, np.eye(4)), tmp_path / "time.nii")
    with pytest.raises(UnreadableSlice, match="it holds 5 volumes"):
        slices_in(tmp_path / "time.nii")
    colours = np.zeros((4, 4, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "colour.nii")
    with pytest.raises(UnreadableSlice, match=r"its voxels are colours \(RGB\), not CT values"):
        slices_in(tmp_path / "colour.nii")


def header_that_says(shape):
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = bytearray(header.binaryblock)
    struct.pack_into("<8h", data, 40, 3, *shape, 1, 1, 1, 1)
    return bytes(data) + bytes(4)


def test_a_header_that_does_not_call_itself_nifti_is_refused(tmp_path):
    """Analyze 7.5 has the same size of header, and other fields."""
    whole = nibabel.Nifti1Image(head_hu(), np.eye(4)).to_bytes()
    (tmp_path / "head.nii").write_bytes(whole[:344] + bytes(4) + whole[348:])
    with pytest.raises(UnreadableSlice, match="it may be Analyze, or damaged"):
        slices_in(tmp_path / "head.nii")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((512, 512, 40), "the header says 512 x 512 x 40 voxels, 20,971,520 bytes; the file holds 64"),
        ((32767, 32767, 40), "too many"),
        ((1000, 1000, 32767), "too many"),
        ((0, 512, 40), "no sound number of voxels"),
        ((-5, 512, 40), "no sound number of voxels"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_a_header_that_lies_is_refused_before_room_is_made(tmp_path, shape, reason, pack):
    path = tmp_path / ("head.nii" if pack is bytes else "head.nii.gz")
    path.write_bytes(pack(header_that_says(shape) + bytes(64)))
    if pack is not bytes:
        reason = reason.replace("the file holds 64", r"the file holds [\d,]+ at most")
    with pytest.raises(UnreadableSlice, match=reason):
        slices_in(path)


def test_a_stream_that_goes_on_and_on_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(voxels, "_MOST_AFTER", 1 << 20)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header_that_says((4, 4, 4)) + bytes(8 << 20)))
    with pytest.raises(UnreadableSlice, match="unpacks to more than the 480 bytes of its header"):
        read_slice(slices_in(path)[0])


def test_a_packed_volume_that_is_cut_short_is_refused_as_a_whole(tmp_path):
    path = save_nifti(tmp_path / "head.nii.gz", head_hu(slices=20))
    whole = path.read_bytes()
    path.write_bytes(whole[:-400])
    with pytest.raises(UnreadableSlice, match="cut short"):
        read_slice(slices_in(path)[0])
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(UnreadableSlice, match="cannot be unpacked"):
        read_slice(slices_in(path)[0])


def test_a_packed_file_of_several_members_is_one_stream(tmp_path):
    hu = head_hu()
    whole = gzip.decompress(save_nifti(tmp_path / "head.nii.gz", hu).read_bytes())
    (tmp_path / "parts.nii.gz").write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]))
    np.testing.assert_array_equal(pixels_of(tmp_path / "parts.nii.gz"), hu)


def test_there_are_no_slices_beyond_the_last_and_a_volume_is_none_itself(tmp_path):
    path = save_nifti(tmp_path / "head.nii", head_hu())
    with pytest.raises(UnreadableSlice, match="there is no slice 4: the volume has 3"):
        read_slice(tmp_path / "head.nii#4")
    with pytest.raises(UnreadableSlice, match="name one of its slices"):
        read_slice(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 500)
)
def test_damage_gives_slices_or_a_reason(tmp_path, flips, cut):
    data = bytearray(save_nifti(tmp_path / "head.nii", head_hu()).read_bytes())
    for place, value in flips:
        data[place] = value
    (tmp_path / "head.nii").write_bytes(data[: len(data) - cut])
    try:
        first = read_slice(slices_in(tmp_path / "head.nii")[0])
    except UnreadableSlice:
        return
    assert np.isfinite(first.pixels).all()


def test_index_names_every_slice_of_every_volume(tmp_path):
    (tmp_path / "scans").mkdir()
    save_nifti(tmp_path / "scans" / "002.nii.gz", head_hu(slices=11, seed=2))
    save_nifti(tmp_path / "scans" / "001.nii", head_hu(seed=1) + 1024)
    (tmp_path / "scans" / "003.nii.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    faint = save_nifti(tmp_path / "scans" / "004.nii.gz", np.full((3, 9, 9), 70, np.int16))
    found = index_dataset(tmp_path)
    rows = list(found.manifest)
    assert [row.slice_id for row in rows] == [
        *(f"scans/001.nii#{number}" for number in (1, 2, 3)),
        *(f"scans/002.nii.gz#{number}" for number in range(1, 12)),
    ]
    assert (
        {row.patient for row in rows} == {row.study for row in rows} == {"scans/001.nii", "scans/002.nii.gz"}
    )
    assert [row.position for row in rows[:3]] == [0.0, 5.0, 10.0]
    assert found.patients_from == "volumes, each stands as a patient of its own"
    assert found.modes == {"NIfTI int16, HU + 1024": 3, "NIfTI int16": 11}
    damaged, unknown = found.failures
    assert damaged.path.endswith("003.nii.gz")
    assert "cannot be unpacked" in damaged.reason
    assert unknown.path == str(faint)
    assert "(3 slices)" in unknown.reason


def test_folders_of_volumes_give_no_slice_a_label(tmp_path, caplog):
    for name in ("haemorrhage", "normal"):
        (tmp_path / name).mkdir()
        save_nifti(tmp_path / name / "a.nii.gz", head_hu())
    assert index_dataset(tmp_path).manifest.classes == ()
    assert "6 stay without a label" in caplog.text


def test_a_table_names_slices_of_volumes(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", head_hu())
    (tmp_path / "labels.csv").write_text(
        "path,label,patient\na.nii.gz#2,haemorrhage,p1\na.nii.gz#1,normal,p1\n"
    )
    rows = {row.slice_id: row.label for row in index_dataset(tmp_path).manifest}
    assert rows == {"a.nii.gz#1": "normal", "a.nii.gz#2": "haemorrhage", "a.nii.gz#3": ""}
