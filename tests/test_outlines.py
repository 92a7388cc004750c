"""DICOM outlines (SEG, RTSTRUCT): drawn on their slices, and refused where it is not sure which these are."""

import numpy as np
import pydicom
import pytest
from cohorts import write_csv
from dicom_outlines import write_rtstruct, write_seg, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from published import corners_of
from pydicom import uid

from haemo.errors import BadDataset, BadSettings
from haemo.features.layouts import claims, index_dataset
from haemo.features.outlines.contours import inside_polygon

SIZE = (9, 13)
AIR = np.full(SIZE, -1000.0)


def patch(*, of: int = 0) -> np.ndarray:
    """A mask that is the same in no other direction; `of` moves it."""
    mask = np.zeros(SIZE, bool)
    mask[2:5, 3 + of : 6 + of] = mask[5, 3 + of] = True
    return mask


def labels(index) -> list[str]:
    return [row.label for row in index.manifest]


def truth(index) -> dict[str, np.ndarray]:
    return {slice_id: mask.unpack() for slice_id, mask in index.masks.items()}


@pytest.fixture
def series(tmp_path):
    """Four slices, and the folder that they lie in."""
    return write_series(tmp_path / "data", [AIR + n for n in range(4)]), tmp_path / "data"


@pytest.mark.parametrize("references", [True, False])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_lie_on_their_slices_whatever_the_order_of_frames(series, kind, references, caplog):
    slices, folder = series
    scale = 255 if kind == "FRACTIONAL" else 1
    dtype = np.uint8 if kind == "FRACTIONAL" else bool
    segments = [
        ("Subdural hematoma", {0: (patch() * scale).astype(dtype), 2: (patch(of=2) * scale).astype(dtype)}),
        ("IPH", {2: (np.roll(patch(), 3, 0) * scale).astype(dtype)}),
    ]
    order = [1, 0] if kind == "LABELMAP" else [2, 0, 1]
    write_seg(folder / "seg.dcm", slices, segments, kind=kind, order=order, references=references)
    index = index_dataset(folder)
    assert (index.layout, index.failures, index.aside) == ("dicom-tree", (), ())
    assert "not taken" not in caplog.text
    assert labels(index) == ["haemorrhage", "normal", "haemorrhage", "normal"]
    found = truth(index)
    np.testing.assert_array_equal(found["1.2.9.1.1"], patch())
    np.testing.assert_array_equal(found["1.2.9.1.3"], patch(of=2) | np.roll(patch(), 3, 0))
    assert not found["1.2.9.1.2"].any()
    assert labels(index_dataset(folder, label="intraparenchymal"))[2] == "intraparenchymal"
    assert set(index_dataset(folder, label="subtype").types.values()) == {
        ("subdural",),
        (),
        ("intraparenchymal", "subdural"),
    }


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_mask_comes_back_from_a_segmentation_as_it_was(tmp_path_factory, data):
    """Any size, so that frames begin within a byte; any number of frames; any turn of the slice."""
    root = tmp_path_factory.mktemp("seg")
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    count = data.draw(st.integers(1, 4))
    bits = data.draw(
        st.lists(st.booleans(), min_size=count * size[0] * size[1], max_size=count * size[0] * size[1])
    )
    masks = np.array(bits).reshape(count, *size)
    tilt = data.draw(st.sampled_from([0.0, 20.0, -30.0]))
    slices = write_series(root, [np.full(size, 10.0)] * count, tilt_deg=tilt)
    order = data.draw(st.permutations(range(count)))
    write_seg(root / "seg.dcm", slices, [("bleed", dict(enumerate(masks)))], order=order)
    found = truth(index_dataset(root))
    for place, mask in enumerate(masks):
        np.testing.assert_array_equal(found[f"1.2.9.1.{place + 1}"], mask)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_mask_comes_back_from_contours_as_it_was(tmp_path_factory, data):
    """With holes, islands in them, and bleeds that touch at a corner."""
    root = tmp_path_factory.mktemp("rtstruct")
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    mask = random.random(SIZE) < data.draw(st.sampled_from([0.1, 0.5, 0.8, 0.9]))
    slices = write_series(root, [AIR, AIR], tilt_deg=data.draw(st.sampled_from([0.0, 20.0])))
    write_rtstruct(
        root / "rt.dcm",
        slices,
        [("Hematoma", [(1, corners) for corners in corners_of(mask)])],
        references=data.draw(st.booleans()),
    )
    np.testing.assert_array_equal(truth(index_dataset(root))["1.2.9.1.2"], mask)


def is_inside(row: int, column: int, corners: np.ndarray) -> bool:
    """Whether a ray to the left from a centre crosses the outline an odd number of times."""
    crossings = 0
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (r0 <= row) != (r1 <= row):
            crossings += c0 + (row - r0) / (r1 - r0) * (c1 - c0) <= column
    return crossings % 2 == 1


@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 16)), min_size=3, max_size=9))
@settings(max_examples=100, deadline=None)
def test_polygons_are_filled_by_the_even_odd_rule_at_the_centres_of_pixels(corners):
    """Any polygon, also one that crosses itself or has corners on centres, against a ray for each pixel."""
    corners = np.array([np.round(corner, 1) for corner in corners])
    expected = [[is_inside(row, column, corners) for column in range(SIZE[1])] for row in range(SIZE[0])]
    np.testing.assert_array_equal(inside_polygon(corners[:, 0], corners[:, 1], SIZE), expected)


def test_a_keyhole_is_a_hole(series):
    slices, folder = series
    outer = [(1, 1), (1, 8), (7, 8), (7, 1)]
    inner = [(3, 3), (5, 3), (5, 6), (3, 6)]
    corners = np.array([*outer, outer[0], *inner, inner[0]], float) - 0.4
    write_rtstruct(folder / "rt.dcm", slices, [("bleed", [(0, corners)])])
    mask = np.zeros(SIZE, bool)
    mask[1:7, 1:8] = True
    mask[3:5, 3:6] = False
    np.testing.assert_array_equal(truth(index_dataset(folder))["1.2.9.1.1"], mask)


def test_masks_are_turned_as_their_slices_are(tmp_path):
    """Stored with the nose to the right, a slice is seen nose up, and its mask with it."""
    slices = write_series(tmp_path, [AIR], ImageOrientationPatient=[0, -1, 0, 1, 0, 0])
    write_seg(tmp_path / "seg.dcm", slices, [("bleed", {0: patch()})])
    np.testing.assert_array_equal(truth(index_dataset(tmp_path))["1.2.9.1.1"], patch().T[::-1])


def test_a_part_of_the_grid_is_laid_where_it_belongs(series):
    slices, folder = series
    write_seg(folder / "seg.dcm", slices, [("bleed", {1: patch()})])
    dataset = pydicom.dcmread(folder / "seg.dcm")
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    position[0], position[1] = position[0] + 3 * 0.75, position[1] - 1 * 0.5
    dataset.save_as(folder / "seg.dcm")
    expected = np.zeros(SIZE, bool)
    expected[:8, 3:] = patch()[1:, :-3]
    np.testing.assert_array_equal(truth(index_dataset(folder))["1.2.9.1.2"], expected)


def test_only_series_that_were_outlined_have_labels(tmp_path, caplog):
    first = write_series(tmp_path / "a", [AIR, AIR + 1])
    write_series(tmp_path / "b", [AIR + 2, AIR + 3], study="1.2.10")
    write_seg(tmp_path / "a" / "seg.dcm", first, [("bleed", {1: patch()})])
    index = index_dataset(tmp_path)
    assert labels(index) == ["normal", "haemorrhage", "", ""]
    assert set(index.masks) == {"1.2.9.1.1", "1.2.9.1.2"}


def test_outlines_in_a_folder_of_masks_are_found(series):
    slices, folder = series
    (folder / "masks").mkdir()
    write_seg(folder / "masks" / "seg.dcm", slices, [("bleed", {1: patch()})])
    (folder / "masks" / "other.dcm").write_bytes((folder / "00.dcm").read_bytes())
    index = index_dataset(folder)
    assert (labels(index), index.failures) == (["normal", "haemorrhage", "normal", "normal"], ())


def test_files_in_a_folder_of_masks_are_opened_once(series, monkeypatch):
    _, folder = series
    (folder / "masks").mkdir()
    (folder / "masks" / "other.dcm").write_bytes((folder / "00.dcm").read_bytes())
    opened = []
    read = claims.read_header_guarded
    monkeypatch.setattr(claims, "read_header_guarded", lambda path: opened.append(str(path)) or read(path))
    assert labels(index_dataset(folder)) == [""] * 4
    assert len(opened) == len(set(opened)) == 5


def test_of_two_series_the_outlined_one_is_taken(tmp_path):
    bone = write_series(tmp_path / "bone", [AIR] * 2, SeriesInstanceUID="1.2.9.2", ConvolutionKernel="BONE")
    for number, one in enumerate(bone):
        one.SOPInstanceUID = f"1.2.9.2.{number}"
        one.save_as(tmp_path / "bone" / f"{number:02}.dcm", enforce_file_format=False)
    write_series(tmp_path / "soft", [AIR] * 2, ConvolutionKernel="STANDARD")
    write_seg(tmp_path / "seg.dcm", bone, [("bleed", {1: patch()})])
    index = index_dataset(tmp_path)
    assert [row.slice_id for row in index.manifest] == ["1.2.9.2.0", "1.2.9.2.1"]
    assert [one.reason for one in index.series.series if not one.taken] == [
        "the labels are of another series"
    ]


def test_what_segments_are_is_told_by_names_and_codes(series, caplog):
    slices, folder = series
    segments = [("Skull", {0: patch()}), ("Segment_1", {1: patch()}), ("Blood left", {2: patch()})]
    write_seg(folder / "seg.dcm", slices, segments)
    assert labels(index_dataset(folder)) == ["normal", "normal", "haemorrhage", "normal"]
    assert "segments that are not taken, by their names: 'Skull' (1), 'Segment_1' (1); --label" in caplog.text
    named = index_dataset(folder, label="skull")
    assert labels(named) == ["skull", *["no skull"] * 3]
    write_seg(folder / "seg.dcm", slices, segments[:2])
    assert labels(index_dataset(folder)) == ["normal", "haemorrhage", "normal", "normal"]
    assert "segments whose names say nothing, taken for blood: 'Segment_1' (1)" in caplog.text
    write_seg(folder / "seg.dcm", slices, segments[:1], meaning="Subarachnoid intracranial hemorrhage")
    assert labels(index_dataset(folder, label="subtype"))[0] == "subarachnoid"
    write_seg(folder / "seg.dcm", slices, segments[:1])
    assert labels(index_dataset(folder)) == [""] * 4
    for name, is_blood in (
        ("Acute SDH left", True),
        ("extradural haematoma", True),
        ("Ventricular hemorrhage", True),
        ("Subdural hygroma", False),
        ("Blood vessel", False),
        ("no hemorrhage", False),
        ("Ventricular system", False),
    ):
        write_seg(folder / "seg.dcm", slices, [(name, {0: patch()})])
        assert labels(index_dataset(folder))[0] == ("haemorrhage" if is_blood else ""), name
    write_seg(folder / "seg.dcm", slices, segments[:1])
    with pytest.raises(BadSettings, match="the outlines here have any, skull"):
        index_dataset(folder, label="bone")


def test_fractions_count_from_a_half_on_and_that_is_said(series, caplog):
    slices, folder = series
    values = np.zeros(SIZE, np.uint8)
    values[0, :4] = 49, 50, 51, 100
    write_seg(folder / "seg.dcm", slices, [("bleed", {0: values})], kind="FRACTIONAL", most=100)
    assert truth(index_dataset(folder))["1.2.9.1.1"].sum() == 3
    assert "outlines in fractions, of which half and more counts as blood: 1 files" in caplog.text


def test_what_a_program_drew_is_said_and_what_haemo_drew_is_no_truth(series, caplog):
    slices, folder = series
    write_seg(folder / "seg.dcm", slices, [("bleed", {0: patch()})], algorithm="AUTOMATIC")
    assert labels(index_dataset(folder))[0] == "haemorrhage"
    assert "outlines that a program drew by itself, taken for the truth all the same: 1 files" in caplog.text
    caplog.clear()
    caplog.set_level("INFO")
    write_seg(folder / "seg.dcm", slices, [("bleed", {0: patch()})], Manufacturer="haemo")
    index = index_dataset(folder)
    assert (labels(index), dict(index.masks), len(index.aside)) == ([""] * 4, {}, 1)
    assert "outlines that haemo itself drew, which are no truth: 1 files" in caplog.text


def test_labels_of_folders_and_tables_go_before_outlines_which_are_masks_all_the_same(tmp_path):
    for study, name in enumerate(("normal", "bleed")):
        folder = tmp_path / "folders" / name / f"p{study}"
        slices = write_series(folder, [AIR, AIR + 1], study=f"1.2.{study}")
        write_seg(folder / "seg.dcm", slices, [("bleed", {1: patch()})])
    index = index_dataset(tmp_path / "folders")
    assert (index.layout, labels(index), len(index.masks)) == (
        "class-folders",
        ["bleed"] * 2 + ["normal"] * 2,
        4,
    )
    assert not index.aside
    write_csv(tmp_path / "folders" / "labels.csv", [("patient", "label"), ("P1.2.0", "x"), ("P1.2.1", "y")])
    index = index_dataset(tmp_path / "folders", "dicom-tree")
    assert index.study_labels == {"1.2.0": "x", "1.2.1": "y"}
    assert (labels(index), len(index.masks)) == ([""] * 4, 4)


def test_slices_that_are_missing_are_said_and_the_others_are_labelled(series, caplog):
    slices, folder = series
    write_seg(folder / "seg.dcm", slices, [("bleed", {0: patch(), 1: patch()})])
    (folder / "01.dcm").unlink()
    assert labels(index_dataset(folder)) == ["haemorrhage", "normal", "normal"]
    assert "outlines of slices that are not here: 'seg.dcm' (1)" in caplog.text


def test_what_lies_between_slices_is_refused_and_calls_nothing_normal(series):
    slices, folder = series
    write_rtstruct(folder / "rt.dcm", slices, [("bleed", [(1, corners_of(patch())[0])])], references=False)
    for number in (0, 1, 2, 3):
        dataset = pydicom.dcmread(folder / f"{number:02}.dcm")
        dataset.ImagePositionPatient[2] += 1.5
        dataset.save_as(folder / f"{number:02}.dcm", enforce_file_format=False)
    index = index_dataset(folder)
    assert labels(index) == [""] * 4
    assert [one.reason for one in index.failures] == [
        "an outline lies 1.5 mm off the nearest slice that it may be of"
    ]
    assert not index.aside


def test_a_refused_file_leaves_its_series_without_labels(series):
    """The bleed that it outlines would be called normal by what another file says of the series."""
    slices, folder = series
    write_seg(folder / "good.dcm", slices, [("bleed", {0: patch()})])
    write_rtstruct(folder / "bad.dcm", slices, [("bleed", [(2, np.eye(3)[:, :2])])], kind="OPEN_PLANAR")
    index = index_dataset(folder)
    assert (labels(index), dict(index.masks)) == ([""] * 4, {})


def not_here(*arguments):
    raise AssertionError("decoded in this process")


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [(uid.RLELossless, "pydicom"), (uid.JPEGLSLossless, "pyjpegls")],
)
def test_compressed_label_maps_are_drawn_and_decoded_apart(series, syntax, plugin, monkeypatch):
    slices, folder = series
    segments = [("Subdural hematoma", {0: patch(), 2: patch(of=2)}), ("IPH", {2: np.roll(patch(), 3, 0)})]
    path = write_seg(folder / "seg.dcm", slices, segments, kind="LABELMAP")
    expected = truth(index_dataset(folder))
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, encoding_plugin=plugin)
    dataset.save_as(path)
    monkeypatch.setattr("haemo.features.outlines.segmentation.decompressed", not_here)
    found = truth(index_dataset(folder))
    assert any(mask.any() for mask in found.values())
    for slice_id, mask in expected.items():
        np.testing.assert_array_equal(found[slice_id], mask)


def test_a_damaged_frame_of_a_label_map_costs_the_labels_of_its_series_and_nothing_else(series):
    slices, folder = series
    path = write_seg(folder / "seg.dcm", slices, [("bleed", {0: patch(), 2: patch()})], kind="LABELMAP")
    dataset = pydicom.dcmread(path)
    dataset.compress(uid.JPEGLSLossless, encoding_plugin="pyjpegls")
    dataset.PixelData = dataset.PixelData.replace(b"\xff\xf7", b"\xff\xf6")
    dataset.save_as(path)
    index = index_dataset(folder)
    assert [one.path.rpartition("/")[2] for one in index.failures] == ["seg.dcm"]
    assert "JPEG-LS" in index.failures[0].reason
    assert labels(index) == [""] * 4


def test_other_files_that_cannot_be_used_are_named(series):
    slices, folder = series
    other = write_series(folder.parent / "elsewhere", [AIR], study="1.2.10")
    write_seg(folder / "foreign.dcm", other, [("bleed", {0: patch()})])
    write_seg(folder / "short.dcm", slices, [("bleed", {0: patch()})], NumberOfFrames=2, PixelData=bytes(40))
    write_seg(folder / "kind.dcm", slices, [("bleed", {0: patch()})], SegmentationType="SURFACE")
    write_seg(folder / "large.dcm", slices, [("bleed", {0: patch()})], Rows=60000, Columns=60000)
    write_seg(folder / "bits.dcm", slices, [("bleed", {0: patch()})], BitsAllocated=8)
    write_seg(
        folder / "cut.dcm", slices, [("bleed", {0: patch(), 1: patch(), 2: patch()})], PixelData=b"\0\0"
    )
    write_seg(folder / "stored.dcm", slices, [("bleed", {0: patch()})], kind="LABELMAP", BitsStored=9)
    write_rtstruct(folder / "two.dcm", slices, [("bleed", [(0, np.array([[1.0, 1], [2, 2]]))])])
    write_rtstruct(folder / "open.dcm", slices, [("bleed", [(0, np.eye(2))])], kind="OPEN_PLANAR")
    index = index_dataset(folder)
    reasons = {one.path.rpartition("/")[2]: one.reason for one in index.failures}
    for name, reason in {
        "foreign.dcm": "outlines of 1 slices of which none is here",
        "short.dcm": "2 frames, of which 1 are described",
        "kind.dcm": "a segmentation of unknown kind (SURFACE)",
        "large.dcm": "60000 x 60000 pixels are too many",
        "bits.dcm": "a BINARY segmentation with 8 bits a pixel",
        "cut.dcm": "the file is cut short: 2 of 44 bytes of pixel data",
        "stored.dcm": "9 bits stored in 8",
        "two.dcm": "a contour of 'bleed' has no three points",
        "open.dcm": "contours of 'bleed' are OPEN_PLANAR, not closed",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    assert labels(index) == [""] * 4


def test_a_contour_that_would_take_all_memory_is_refused(series):
    slices, folder = series
    wild = np.tile([[-1e9, 0.0], [1e9, 5.0]], (500, 1))
    with pytest.MonkeyPatch.context() as patch_:
        patch_.setattr("haemo.features.outlines.contours._MOST_CROSSED", 1000)
        write_rtstruct(folder / "rt.dcm", slices, [("bleed", [(0, wild)])])
        assert "runs to and fro" in index_dataset(folder).failures[0].reason


@pytest.mark.parametrize("seed", range(12))
def test_damage_gives_masks_or_a_reason(series, seed):
    slices, folder = series
    write_seg(folder / "seg.dcm", slices, [("bleed", {0: patch(), 1: patch()})])
    write_rtstruct(folder / "rt.dcm", slices, [("bleed", [(2, corners_of(patch())[0])])])
    random = np.random.default_rng(seed)
    for name in ("seg.dcm", "rt.dcm"):
        data = bytearray((folder / name).read_bytes())
        for place in random.integers(140, len(data), 8):
            data[place] = random.integers(256)
        (folder / name).write_bytes(bytes(data[: random.integers(len(data) // 2, len(data) + 1)]))
    try:
        index = index_dataset(folder)
    except BadDataset:
        return
    assert all(mask.shape == SIZE for mask in truth(index).values())
