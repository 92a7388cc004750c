"""DICOM slices: Hounsfield units as the reference reader gives them, and a reason for every refusal."""

import warnings
from io import BytesIO
from pathlib import Path
from unittest import mock

import numpy as np
import pydicom
import pytest
from cohorts import ct_values, dicom_dataset, save_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_rescale
from small_files import lossless_jpeg, saved
from volume_files import head_hu

import haemo.features.reading.dicom
import haemo.features.reading.dicom_header
from haemo.errors import UnreadableSlice
from haemo.features.layouts.folder import Folder
from haemo.features.reading.dicom import decode_dicom, read_dicom_header
from haemo.features.reading.formats import read_header, read_slice
from haemo.features.reading.plain_dataset import plain_dataset
from haemo.features.reading.slice import content_hash
from haemo.features.reading.streams.lossless_jpeg import check_lossless_head
from haemo.features.reading.unit import AIR_HU

CT = get_testdata_file("CT_small.dcm")


def hu(dataset: pydicom.Dataset) -> np.ndarray:
    """What pydicom's own helpers make of a file, in float64."""
    return apply_rescale(pydicom.dcmread(BytesIO(saved(dataset))).pixel_array, dataset).astype(np.float64)


def edited(name: str, **tags) -> bytes:
    """A file that pydicom ships, with tags changed; None deletes one."""
    dataset = pydicom.dcmread(get_testdata_file(name))
    for keyword, value in tags.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return saved(dataset)


def test_hounsfield_units_are_those_of_the_reference_reader():
    dataset = pydicom.dcmread(CT)
    slice_ = read_slice(Path(CT))
    assert slice_.pixels.dtype == np.float32
    np.testing.assert_array_equal(slice_.pixels, hu(dataset))
    assert slice_.is_hu
    assert slice_.mode == "DICOM int16"
    assert slice_.spacing_mm == pytest.approx((0.661468, 0.661468))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([np.int16, np.uint16, np.uint8, np.int8]),
    bits=st.integers(5, 16),
    slope=st.sampled_from([1, 2, 0.5, 0.1]),
    intercept=st.sampled_from([-1024, -2000.5, -8192]),
    seed=st.integers(0, 99),
)
def test_any_pixel_type_and_rescale_agree_with_the_reference_reader(kind, bits, slope, intercept, seed):
    width = 8 * np.dtype(kind).itemsize
    stored = np.random.default_rng(seed).integers(0, 2**width, (5, 7)).astype(f"u{width // 8}").view(kind)
    dataset = dicom_dataset(
        stored,
        BitsStored=min(bits, width),
        HighBit=min(bits, width) - 1,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    ours = decode_dicom(saved(dataset)).pixels
    np.testing.assert_allclose(ours, hu(dataset), rtol=3e-7, atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([np.int16, np.uint16, np.uint8]),
    bits=st.sampled_from([8, 12, 16]),
    slope=st.sampled_from([1, 1.0, 2]),
    intercept=st.sampled_from([0, -50, -1024, -1024.5, 31000, -32768, -40000, 1e12]),
    padding=st.sampled_from([None, 0, 3096]),
    high=st.sampled_from([200, 4095, 32767, 65535]),
    seed=st.integers(0, 99),
)
def test_whole_hounsfield_units_are_the_same_in_integers(kind, bits, slope, intercept, padding, high, seed):
    width = 8 * np.dtype(kind).itemsize
    values = np.random.default_rng(seed).integers(0, min(high, 2**width - 1) + 1, (5, 7))
    values[0, :3] = (0, min(high, 3096), min(high, 2**width - 1))
    tags = {} if padding is None else {"PixelPaddingValue": padding}
    dataset = dicom_dataset(
        values.astype(f"u{width // 8}").view(kind),
        BitsStored=min(bits, width),
        HighBit=min(bits, width) - 1,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        **tags,
    )
    ours = decode_dicom(saved(dataset))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(haemo.features.reading.dicom, "_stay_integers", lambda *_: False)
        floats = decode_dicom(saved(dataset))
    assert floats.integers is None
    assert ours.pixels.tobytes() == floats.pixels.tobytes()
    assert content_hash(ours) == content_hash(floats)
    if slope == 1 and intercept in (0, -50, -1024) and high < 32767 and kind is not np.int16:
        assert ours.integers is not None


def test_unsigned_values_do_not_overflow():
    stored = np.array([[0, 24], [1024, 4095]], np.uint16)
    np.testing.assert_array_equal(
        decode_dicom(saved(dicom_dataset(stored))).pixels, [[-1024, -1000], [0, 3071]]
    )


def test_monochrome1_says_how_a_slice_is_shown_and_not_what_its_values_are():
    for stored, tags in (
        (ct_values(1, kind=np.uint16), {"BitsStored": 12, "HighBit": 11}),
        (ct_values(1) - np.int16(1024), {"RescaleIntercept": 0}),
    ):
        plain = dicom_dataset(stored, **tags)
        shown_inverted = dicom_dataset(stored, PhotometricInterpretation="MONOCHROME1", **tags)
        assert content_hash(decode_dicom(saved(plain))) == content_hash(decode_dicom(saved(shown_inverted)))


# Where rows and columns of a head may run, with what turns it as it is seen to that.
TURNS = {
    "as it is": ([1, 0, 0, 0, 1, 0], lambda seen: seen),
    "turned by half": ([-1, 0, 0, 0, -1, 0], lambda seen: seen[::-1, ::-1]),
    "from above": ([-1, 0, 0, 0, 1, 0], lambda seen: seen[:, ::-1]),
    "lying on the side": ([0, 1, 0, 1, 0, 0], lambda seen: seen.T),
    "nose to the right": ([0, -1, 0, 1, 0, 0], lambda seen: np.rot90(seen, -1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_slice_is_turned_as_heads_are_seen(name):
    axes, turn = TURNS[name]
    seen = ct_values(3, size=(24, 32))
    dataset = dicom_dataset(
        np.ascontiguousarray(turn(seen)),
        ImageOrientationPatient=axes,
        ImagePositionPatient=[-100, -90, 40],
        PixelSpacing=[0.4, 0.5] if turn(seen).shape == seen.shape else [0.5, 0.4],
    )
    got = decode_dicom(saved(dataset))
    np.testing.assert_array_equal(got.pixels, seen.astype(np.float32) - 1024)
    assert got.spacing_mm == (0.4, 0.5)
    header = read_dicom_header(BytesIO(saved(dataset)))
    assert (header.size, header.tags.z_mm) == ((24, 32), 40.0)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ([1, 0, 0, 0, 0, -1], "a coronal slice, not an axial one"),
        ([0, 1, 0, 0, 0, -1], "a sagittal slice, not an axial one"),
        ([1, 0, 0, 0, 0.766, -0.643], "an oblique slice, tilted by 40 degrees, not an axial one"),
        ([1, 0, 0, 1, 0, 0], "point the same way"),
    ],
)
def test_slices_that_are_not_axial_are_refused_by_name(axes, reason):
    data = saved(dicom_dataset(ct_values(0), ImageOrientationPatient=axes))
    with pytest.raises(UnreadableSlice, match=reason):
        decode_dicom(data)
    with pytest.raises(UnreadableSlice, match=reason):
        read_dicom_header(BytesIO(data))


@pytest.mark.parametrize("modality", ["CT", "OT"])
@pytest.mark.parametrize("shift", [0, 1024])
def test_without_a_rescale_the_unit_is_told_by_how_the_slice_looks(tmp_path, modality, shift):
    hu = head_hu(slices=1)[0]
    dataset = dicom_dataset(
        hu + np.int16(shift),
        RescaleSlope=None,
        RescaleIntercept=None,
        Modality=modality,
        SOPClassUID=uid.SecondaryCaptureImageStorage if modality == "OT" else uid.CTImageStorage,
    )
    save_dicom(dataset, tmp_path / "a.dcm")
    got = read_slice(tmp_path / "a.dcm")
    np.testing.assert_array_equal(got.pixels, hu)
    mode = read_header(tmp_path / "a.dcm").mode
    assert mode == got.mode == ("DICOM int16, HU + 1024" if shift else "DICOM int16")
    told = read_slice(tmp_path / "a.dcm#unit=hu")
    np.testing.assert_array_equal(told.pixels, hu + shift)


def test_padding_of_no_unit_is_air(tmp_path):
    hu = head_hu(slices=1)[0]
    padded = hu + np.int16(1024)
    padded[0] = -2000
    save_dicom(
        dicom_dataset(padded, RescaleSlope=None, RescaleIntercept=None, PixelPaddingValue=-2000),
        tmp_path / "a",
    )
    np.testing.assert_array_equal(read_slice(tmp_path / "a").pixels, hu)


def test_without_a_rescale_and_like_nothing_a_slice_is_refused_with_the_remedy(tmp_path):
    faint = np.full((9, 9), 70, np.int16)
    save_dicom(dicom_dataset(faint, RescaleSlope=None, RescaleIntercept=None), tmp_path / "a.dcm")
    for read in (read_slice, read_header):
        with pytest.raises(UnreadableSlice, match=r"from 70 to 70.*Say it: --unit hu"):
            read(tmp_path / "a.dcm")
    assert read_header(tmp_path / "a.dcm#unit=hu").mode == "DICOM int16"


def test_a_file_without_a_preamble_is_found_and_read(tmp_path):
    save_dicom(dicom_dataset(ct_values(4)), tmp_path / "whole.dcm")
    data = (tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "bare").write_bytes(data[132:])
    (tmp_path / "notes").write_bytes(b"\x08\x00 are no elements")
    folder = Folder.scan(tmp_path)
    assert [path.name for path in folder.slices] == ["bare", "whole.dcm"]
    assert [path.name for path in folder.others] == ["notes"]
    np.testing.assert_array_equal(
        read_slice(tmp_path / "bare").pixels, read_slice(tmp_path / "whole.dcm").pixels
    )


def test_padding_becomes_air():
    stored = np.array([[-2000, -2000, 5], [-1999, 40, -2000]], np.int16)
    pixels = decode_dicom(saved(dicom_dataset(stored, RescaleIntercept=0, PixelPaddingValue=-2000))).pixels
    np.testing.assert_array_equal(pixels, [[AIR_HU, AIR_HU, 5], [-1999, 40, AIR_HU]])


def test_a_range_of_padding_becomes_air_in_either_direction():
    stored = np.array([[-2000, -1900, -1800], [-1700, 40, 60]], np.int16)
    for value, limit in ((-2000, -1800), (-1800, -2000)):
        dataset = dicom_dataset(
            stored, RescaleIntercept=0, PixelPaddingValue=value, PixelPaddingRangeLimit=limit
        )
        pixels = decode_dicom(saved(dataset)).pixels
        np.testing.assert_array_equal(pixels, [[AIR_HU] * 3, [-1700, 40, 60]])


def test_padding_of_the_wrong_signedness_is_still_padding():
    dataset = dicom_dataset(np.array([[-2000, 30]], np.int16), RescaleIntercept=0)
    dataset.add_new(0x00280120, "US", 65536 - 2000)
    np.testing.assert_array_equal(decode_dicom(saved(dataset)).pixels, [[AIR_HU, 30]])


def test_padding_that_does_not_fit_the_pixels_is_no_obstacle():
    dataset = dicom_dataset(np.array([[7, 255]], np.uint8), RescaleIntercept=-200, PixelPaddingValue=65535)
    np.testing.assert_array_equal(decode_dicom(saved(dataset)).pixels, [[-193, AIR_HU]])


def test_twelve_bit_values_that_wrapped_around_are_unwrapped():
    wanted = np.array([[-1000, -1, 0], [40, 80, 3000]])
    wrapped = dicom_dataset((wanted % 4096).astype(np.uint16), BitsStored=12, HighBit=11, RescaleIntercept=0)
    np.testing.assert_array_equal(decode_dicom(saved(wrapped)).pixels, wanted)
    # The same stored values are taken as they are where the file can hold air without wrapping.
    sound = dicom_dataset(
        (wanted % 4096).astype(np.uint16), BitsStored=12, HighBit=11, RescaleIntercept=-1024
    )
    np.testing.assert_array_equal(decode_dicom(saved(sound)).pixels, wanted % 4096 - 1024)


def test_windows_in_the_file_change_nothing():
    stored = ct_values(3)
    windowed = dicom_dataset(stored, WindowCenter=[40, 80], WindowWidth=[80, 200])
    assert content_hash(decode_dicom(saved(windowed))) == content_hash(
        decode_dicom(saved(dicom_dataset(stored)))
    )


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless],
    ids=lambda syntax: syntax.name,
)
def test_a_slice_is_the_same_in_every_lossless_syntax(syntax):
    dataset = dicom_dataset(ct_values(4) - np.int16(1024), RescaleIntercept=0)
    plain = decode_dicom(saved(dataset))
    if syntax.is_encapsulated:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    data = saved(dataset)
    assert content_hash(decode_dicom(data)) == content_hash(plain)
    assert read_dicom_header(BytesIO(data)).size == (32, 32)


@pytest.mark.parametrize(
    "name",
    ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
def test_big_endian_and_compressed_files_hold_the_same_pixels(name):
    as_ct = {"Modality": "CT", "SOPClassUID": uid.CTImageStorage, "RescaleSlope": 1, "RescaleIntercept": 0}
    plain = decode_dicom(edited("MR_small_implicit.dcm", **as_ct))
    assert content_hash(decode_dicom(edited(name, **as_ct))) == content_hash(plain)


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_jpeg_2000_agrees_with_the_reference_reader(name):
    dataset = pydicom.dcmread(get_testdata_file(name))
    ours = read_slice(Path(get_testdata_file(name))).pixels
    theirs = apply_rescale(dataset.pixel_array, dataset)
    padding = dataset.pixel_array == dataset.get("PixelPaddingValue", -99999)
    np.testing.assert_array_equal(ours, np.where(padding, AIR_HU, theirs))


def test_lossless_jpeg_holds_the_same_pixels(tmp_path):
    stored = ct_values(6)
    compressed = decode_dicom(lossless_jpeg(stored, tmp_path))
    assert content_hash(compressed) == content_hash(decode_dicom(saved(dicom_dataset(stored))))
    assert compressed.mode.startswith("DICOM int16 JPEG Lossless")


def test_a_damaged_head_of_lossless_jpeg_never_reaches_the_decoder(tmp_path):
    data = lossless_jpeg(ct_values(6), tmp_path)
    start = data.index(b"\xff\xd8")
    head = data[start : data.index(b"\xff\xda") + 10]
    check_lossless_head(head, (32, 32))
    with pytest.raises(UnreadableSlice, match="not sound"):
        check_lossless_head(head, (32, 31))
    for place in range(len(head) - 1):
        with pytest.raises(UnreadableSlice, match="not sound"):
            check_lossless_head(head[:place], (32, 32))
    # Samples of 205 bits, a component too many, a code that is too long: each has ended a process.
    for place, value in ((6, 205), (11, 3), (21, 0xC0), (24, 200), (len(head) - 9, 2)):
        damaged = bytearray(data)
        damaged[start + place] = value
        with pytest.raises(UnreadableSlice, match="not sound"):
            decode_dicom(bytes(damaged))


def test_a_code_that_cannot_be_built_never_reaches_the_decoder():
    frame = b"\xff\xc3\x00\x0b\x10\x00\x20\x00\x20\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"
    for of_one_bit, is_sound in ((2, True), (3, False)):
        table = bytes([0, of_one_bit, *[0] * 15, *range(of_one_bit)])
        head = b"\xff\xd8" + frame + b"\xff\xc4" + (len(table) + 2).to_bytes(2, "big") + table + scan
        if is_sound:
            check_lossless_head(head, (32, 32))
        else:
            with pytest.raises(UnreadableSlice, match="not sound"):
                check_lossless_head(head, (32, 32))


# pydicom says so too, as a warning, and goes on with what there is.
@pytest.mark.filterwarnings("ignore:End of file reached before delimiter")
def test_compressed_pixels_without_an_end_are_refused(tmp_path):
    dataset = dicom_dataset(ct_values(6))
    dataset.compress(uid.JPEG2000Lossless)
    for whole in (lossless_jpeg(ct_values(6), tmp_path), saved(dataset)):
        for missing in (8, 9, 100, 500):
            with pytest.raises(UnreadableSlice, match="cut short"):
                decode_dicom(whole[:-missing])


def test_a_missing_decoder_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.available_plugins", ())
    path = tmp_path / "lossless.dcm"
    path.write_bytes(lossless_jpeg(ct_values(6), tmp_path))
    for read in (read_slice, read_header):
        with pytest.raises(UnreadableSlice, match=r"JPEG Lossless.*pip install 'haemo\[dicom\]'"):
            read(path)


def test_an_unknown_transfer_syntax_is_refused():
    data = saved(dicom_dataset(ct_values(0))).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.99999.7.7.7\x00")
    for read in (decode_dicom, lambda data: read_dicom_header(BytesIO(data))):
        with pytest.raises(UnreadableSlice, match=r"transfer syntax 1\.2\.840\.99999.* is not supported"):
            read(data)


def test_what_no_free_decoder_reads_is_refused_as_such():
    dataset = dicom_dataset(ct_values(0), BitsStored=12, HighBit=11)
    for syntax, reason in ((uid.JPEGExtended12Bit, "12-bit lossy JPEG"), (uid.MPEG2MPML, "MPEG2")):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([b"\xff\xd8 no picture"])
        dataset["PixelData"].is_undefined_length = True
        with pytest.raises(UnreadableSlice, match=f"{reason}.* not supported"):
            read_dicom_header(BytesIO(saved(dataset)))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "MR", "SOPClassUID": uid.MRImageStorage}, "modality MR is not CT"),
        ({"NumberOfFrames": 2}, "with 2 frames: of such files only enhanced CT is read"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "a colour picture"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour picture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"RescaleIntercept": None}, "Hounsfield units are unknown"),
        ({"RescaleSlope": 0}, "Hounsfield units are unknown"),
        ({"RescaleType": "Z_EFF"}, "pixels are in Z_EFF"),
        ({"BitsStored": 20}, "20 bits stored in 16"),
        ({"BitsAllocated": None, "BitsStored": None}, "the header ends before it describes the pixels"),
        ({"Rows": 0, "Columns": 0}, "without a picture"),
        ({"Rows": 0}, "the picture is empty"),
        ({"Rows": 20000, "Columns": 20000}, "too many for one slice"),
        ({"Rows": 64}, "the file is cut short: 2048 of 4096 bytes"),
    ],
)
def test_what_is_no_ct_slice_is_refused_by_name_from_the_header(tags, reason):
    data = saved(dicom_dataset(ct_values(0), **tags))
    with pytest.raises(UnreadableSlice, match=reason):
        decode_dicom(data)
    with pytest.raises(UnreadableSlice, match=reason):
        read_dicom_header(BytesIO(data))


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan.dcm", "test-SR.dcm", "liver_1frame.dcm"])
def test_other_dicom_files_are_refused(name):
    with pytest.raises(UnreadableSlice):
        read_slice(Path(get_testdata_file(name)))
    with pytest.raises(UnreadableSlice):
        read_header(Path(get_testdata_file(name)))


@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 0.9999))
def test_a_file_cut_anywhere_is_refused(fraction):
    data = Path(CT).read_bytes()
    end = pydicom.dcmread(CT)["PixelData"].file_tell + 128 * 128 * 2
    with pytest.raises(UnreadableSlice):
        decode_dicom(data[: int(end * fraction)])


def test_a_file_without_pixels_is_refused():
    dataset = dicom_dataset(ct_values(0))
    del dataset.PixelData
    with pytest.raises(UnreadableSlice, match="holds no pixel data"):
        decode_dicom(saved(dataset))
    with pytest.raises(UnreadableSlice, match="holds no pixel data"):
        read_dicom_header(BytesIO(saved(dataset)))


def test_a_file_from_before_part_10_is_read(tmp_path):
    dataset = dicom_dataset(ct_values(5))
    path = tmp_path / "old.dcm"
    plain = decode_dicom(saved(dataset))
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert content_hash(read_slice(path)) == content_hash(plain)


def test_tags_say_whose_and_where():
    tags = read_header(Path(CT)).tags
    assert (tags.patient, tags.instance_number) == ("1CT1", 1)
    assert tags.sop_instance_uid == pydicom.dcmread(CT).SOPInstanceUID
    assert tags.z_mm == pytest.approx(-75.7)


def test_position_runs_along_the_tilted_normal():
    angle = np.deg2rad(18.5)
    axes = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
    heads = []
    for z in (0.0, 10.0):
        dataset = dicom_dataset(ct_values(0), ImagePositionPatient=[0, 0, z], ImageOrientationPatient=axes)
        heads.append(read_dicom_header(BytesIO(saved(dataset))).tags.z_mm)
    assert heads[1] - heads[0] == pytest.approx(10 * np.cos(angle), abs=1e-3)


def test_improper_identifiers_are_read_without_a_warning():
    dataset = dicom_dataset(
        ct_values(0), SOPInstanceUID="ID_0123abcd", PatientID="Ä 1", StudyInstanceUID="ID_9"
    )
    dataset.SpecificCharacterSet = "ISO_IR 192"
    tags = read_dicom_header(BytesIO(saved(dataset))).tags
    assert (tags.sop_instance_uid, tags.patient, tags.study) == ("ID_0123abcd", "Ä 1", "ID_9")


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        (b"1.2.840.10008.1.2.1\x00", b"1.2\\840.10008.1.2.1\x00"),
        (b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O\xb8"),
    ],
    ids=["a syntax in two parts", "a type that is none"],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_damaged_elements_are_refused(sound, damaged):
    data = saved(dicom_dataset(ct_values(0)))
    assert sound in data
    with pytest.raises(UnreadableSlice):
        decode_dicom(data.replace(sound, damaged))


# ---- files read in one pass, and by pydicom ----------------------------------------------------------------


def outcome(data: bytes) -> tuple:
    """What becomes of a file, to the last bit or word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of what was done to the file
            found = decode_dicom(data)
    except UnreadableSlice as error:
        return type(error), str(error)
    facts = [getattr(found, name, None) for name in ("is_hu", "spacing_mm", "mode", "is_colour")]
    return type(found), found.pixels.tobytes(), found.pixels.shape, *facts


def by_pydicom(data: bytes) -> tuple:
    with mock.patch.object(haemo.features.reading.dicom_header, "plain_dataset", return_value=None):
        return outcome(data)


def common_file(**tags) -> pydicom.Dataset:
    """A slice with what scanners write beside it: private elements and sequences of stated lengths."""
    dataset = dicom_dataset(ct_values(3), **tags)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.add_new(0x00091010, "UN", b"private" * 9)
    dataset.add_new(0x00091011, "OB", bytes(300))
    item = pydicom.Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedStudySequence = [item, item]
    dataset.add_new(0xFFFCFFFC, "OB", bytes(30))  # padding behind the pixels
    return dataset


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"RescaleSlope": "0.75", "RescaleIntercept": "-1023.5", "PixelSpacing": ["0.4", "0.5"]},
        {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0},
        {"RescaleSlope": None, "Modality": "OT"},
        {"ImageOrientationPatient": ["-1", "0", "0", "0", "1", "0"], "WindowCenter": ["40", "80"]},
        {"PixelData": b""},
        {"SpecificCharacterSet": ["ISO 2022 IR 6", "ISO 2022 IR 87"]},
    ],
    ids=str,
)
def test_a_common_file_is_as_pydicom_reads_it(syntax, tags):
    dataset = common_file()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = syntax
    data = saved(dataset)
    assert (plain_dataset(data, ()) is not None) == ("SpecificCharacterSet" not in tags)
    assert outcome(data) == by_pydicom(data)


@settings(max_examples=120, deadline=None)
@given(
    implicit=st.booleans(),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1), st.one_of(st.sampled_from(b"\x00\x01\x02\x28\xfe\xffAUZ"), st.integers(0, 255))
        ),
        max_size=3,
    ),
    end=st.one_of(st.just(1.0), st.floats(0, 1)),
    more=st.binary(max_size=12),
)
def test_a_damaged_file_is_as_pydicom_reads_it(implicit, changes, end, more):
    dataset = common_file()
    if implicit:
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    data = bytearray(saved(dataset))
    head = data.index(b"\xe0\x7f\x10\x00") + 12
    for place, value in changes:
        data[128 + int(place * (head - 129))] = value
    data = bytes(data[: int(len(data) * end)]) + more
    assert outcome(data) == by_pydicom(data)


@pytest.mark.parametrize(
    "unsure",
    [
        lambda data: data[132:],
        lambda data: data + b"\0\0",
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
        lambda data: data.replace(b"\x28\0\x10\0US", b"\x28\0\x10\0QQ"),
        lambda data: data.replace(b"\x08\0\x60\0CS", b"\x08\0\x05\0CS"),
        lambda data: data[:-1],
    ],
    ids=["no preamble", "bytes at the end", "another syntax", "no type", "order", "cut short"],
)
def test_what_is_not_beyond_doubt_is_left_to_pydicom(unsure):
    data = saved(dicom_dataset(ct_values(0)))
    assert plain_dataset(data, ()) is not None
    assert plain_dataset(unsure(data), ()) is None
    assert outcome(unsure(data)) == by_pydicom(unsure(data))
