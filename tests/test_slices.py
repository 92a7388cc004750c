"""Pictures as slices: every colour mode becomes the gray it shows, and every broken file is named."""

import copy
import hashlib
import pickle
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from cohorts import ct_values, dicom_dataset, gray_picture, save_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps
from volume_files import head_hu

import haemo
from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import read_header, read_slice
from haemo.features.reading.raster import decode_raster, read_raster_header
from haemo.features.reading.slice import Slice, content_hash
from haemo.features.reading.unit import settled

GRAY = gray_picture(7, (40, 48))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_pictures_are_turned_as_their_exif_orientation_says(kind, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    data = encoded(Image.fromarray(GRAY), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    read = decode_raster(data)
    np.testing.assert_array_equal(read.pixels, np.asarray(expected))
    assert read_raster_header(BytesIO(data)).size == read.pixels.shape


def flat(value: float, is_hu: bool = False) -> Slice:
    return Slice(np.full((4, 4), value, np.float32), is_hu)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_gray_comes_back_exactly_also_from_three_channels(kind, mode):
    slice_ = decode_raster(encoded(Image.fromarray(GRAY).convert(mode), kind))
    np.testing.assert_array_equal(slice_.pixels, GRAY)
    assert slice_.pixels.dtype == np.float32
    assert (slice_.is_hu, slice_.is_colour, slice_.mode) == (False, False, f"{kind} {mode}")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_alpha_changes_nothing(mode):
    np.testing.assert_array_equal(decode_raster(encoded(Image.fromarray(GRAY).convert(mode))).pixels, GRAY)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(mode):
    image = Image.fromarray(GRAY).convert(mode)
    alpha = gray_picture(8, GRAY.shape)
    image.putalpha(Image.fromarray(alpha))
    expected = GRAY * (alpha / 255.0)
    np.testing.assert_allclose(decode_raster(encoded(image)).pixels, expected, atol=0.51)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind):
    bits = GRAY > 127
    np.testing.assert_array_equal(decode_raster(encoded(Image.fromarray(bits), kind)).pixels, 255 * bits)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_fill_the_same_range_as_eight(kind):
    sixteen = np.array([[0, 257, 1000], [32768, 65278, 65535]], np.uint16)
    slice_ = settled(decode_raster(encoded(Image.fromarray(sixteen), kind)))
    np.testing.assert_allclose(slice_.pixels, sixteen / 257, rtol=1e-6)
    stretched = encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), kind)
    np.testing.assert_array_equal(settled(decode_raster(stretched)).pixels, GRAY)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_hu_and_1024_are_hu(tmp_path, kind):
    hu = head_hu(slices=1)[0]
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(Image.fromarray((hu + 1024).astype(np.uint16)), kind))
    slice_ = read_slice(path)
    assert slice_.is_hu
    assert slice_.mode == read_header(path).mode == f"{kind} I;16, HU + 1024"
    np.testing.assert_array_equal(slice_.pixels, hu)
    gray = read_slice(tmp_path / f"{path.name}#unit=gray")
    np.testing.assert_allclose(gray.pixels, (hu + 1024) / 257, rtol=1e-6)


def test_sixteen_bits_that_would_be_nearly_black_are_refused(tmp_path):
    Image.fromarray(GRAY.astype(np.uint16) * 16).save(tmp_path / "a.png")
    with pytest.raises(UnreadableSlice, match=r"from 0 to 4080: they look neither.*--unit gray"):
        read_slice(tmp_path / "a.png")


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand: bit depth, colour type (0 gray, 2 RGB, 4 LA, 6 RGBA) and filtered rows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = size[1].to_bytes(4, "big") + size[0].to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def unfiltered(values: np.ndarray) -> bytes:
    return b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)


def test_sixteen_bit_colour_and_alpha_keep_their_upper_bits():
    gray = np.random.default_rng(1).integers(0, 65536, (3, 5))
    opaque = np.full_like(gray, 65535)
    for colour, channels in ((2, [gray] * 3), (4, [gray, opaque]), (6, [gray, gray, gray, opaque])):
        slice_ = decode_raster(png(gray.shape, 16, colour, unfiltered(np.stack(channels, axis=-1))))
        np.testing.assert_allclose(slice_.pixels, gray / 257, atol=1)
        assert not slice_.is_colour


@pytest.mark.parametrize(("depth", "rows"), [(1, b"\x00\x60"), (2, b"\x00\x1b"), (4, b"\x00\x05\xaf")])
def test_few_bits_of_gray_fill_the_range(depth, rows):
    count = 3 if depth == 1 else 4
    levels = {1: [0, 255, 255], 2: [0, 85, 170, 255], 4: [0, 85, 170, 255]}[depth]
    np.testing.assert_array_equal(decode_raster(png((1, count), depth, 0, rows)).pixels, [levels])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_palette_shows_its_colours(kind):
    image = Image.fromarray(GRAY // 64)
    image.putpalette([0, 0, 0, 90, 90, 90, 180, 180, 180, 255, 255, 255])
    slice_ = decode_raster(encoded(image, kind))
    np.testing.assert_array_equal(slice_.pixels, np.array([0, 90, 180, 255])[GRAY // 64])
    assert slice_.mode == f"{kind} P"


def test_a_transparent_palette_entry_is_black():
    image = Image.fromarray(GRAY // 64)
    image.putpalette([200, 200, 200, 90, 90, 90, 180, 180, 180, 255, 255, 255])
    slice_ = decode_raster(encoded(image, transparency=0))
    np.testing.assert_array_equal(slice_.pixels, np.array([0, 90, 180, 255])[GRAY // 64])


def test_a_transparent_gray_level_is_black():
    slice_ = decode_raster(encoded(Image.fromarray(GRAY // 64 * 60 + 10), transparency=70))
    np.testing.assert_array_equal(slice_.pixels, np.array([10, 0, 130, 190])[GRAY // 64])


def test_colour_becomes_luma_and_is_counted():
    colour = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    slice_ = decode_raster(encoded(Image.fromarray(colour)))
    assert slice_.is_colour
    np.testing.assert_allclose(slice_.pixels, colour @ [0.299, 0.587, 0.114], atol=0.51)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_any_mode_is_near_the_gray_that_went_in(mode):
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    slice_ = decode_raster(encoded(Image.fromarray(smooth).convert("RGB").convert(mode), "JPEG", quality=95))
    np.testing.assert_allclose(slice_.pixels, smooth, atol=6)
    assert slice_.mode == f"JPEG {mode}"


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".png", ".dcm", ""])
def test_content_and_not_the_name_says_what_a_file_is(tmp_path, suffix):
    path = tmp_path / f"slice{suffix}"
    path.write_bytes(encoded(Image.fromarray(GRAY), "BMP"))
    np.testing.assert_array_equal(read_slice(path).pixels, GRAY)


def test_header_and_slice_agree(tmp_path):
    path = tmp_path / "slice.png"
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        Image.fromarray(GRAY).convert(mode).save(path)
        header = read_header(path)
        assert header.size == read_slice(path).pixels.shape == (40, 48)
        assert header.mode == read_slice(path).mode
        assert header.tags is None


def test_equal_pixels_have_equal_hashes_whatever_holds_them():
    hashes = {
        content_hash(decode_raster(encoded(Image.fromarray(GRAY).convert(mode), kind)))
        for kind, mode in (("PNG", "L"), ("PNG", "RGBA"), ("TIFF", "RGB"), ("BMP", "L"))
    }
    assert len(hashes) == 1


def test_the_hash_sees_every_pixel_the_shape_and_the_unit():
    slices = [flat(0), flat(1), flat(-1), flat(255), flat(0.5), flat(40000), flat(0, is_hu=True)]
    slices += [Slice(np.zeros(shape, np.float32), False) for shape in ((2, 8), (8, 2))]
    other = flat(0)
    other.pixels[3, 3] = 1
    assert len({content_hash(slice_) for slice_ in [*slices, other]}) == 10
    assert all(len(content_hash(slice_)) == 64 for slice_ in slices)


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        elements=st.one_of(st.integers(-70000, 70000).map(float), st.floats(-3000, 3000, width=32)),
    ),
    st.booleans(),
)
def test_two_slices_share_a_hash_only_if_they_share_pixels(pixels, is_hu):
    one = Slice(pixels, is_hu)
    assert content_hash(one) == content_hash(Slice(np.asfortranarray(pixels.copy()), is_hu))
    changed = pixels.copy()
    changed[-1, -1] = changed[-1, -1] + 1 if changed[-1, -1] != 0 else 0.25
    assert content_hash(one) != content_hash(Slice(changed, is_hu))


def slow_hash(slice_):
    """The hash as the first stores have it: of the smallest type that holds every pixel."""
    pixels = np.asarray(slice_.pixels, np.float64)
    types = (
        kind
        for kind in (np.uint8, np.int16)
        if pixels.min() >= np.iinfo(kind).min
        and pixels.max() <= np.iinfo(kind).max
        and (pixels == np.trunc(pixels)).all()
    )
    kind = np.dtype(next(types, np.float32))
    head = f"{pixels.shape[0]}x{pixels.shape[1]} {'HU' if slice_.is_hu else 'gray'} {kind.name}\n"
    return hashlib.sha256(head.encode() + pixels.astype(kind).tobytes()).hexdigest()


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(st.sampled_from([np.uint8, np.int16]), st.tuples(st.integers(1, 4), st.integers(1, 4)))
    | arrays.arrays(np.float32, (2, 3), elements=st.floats(-1e6, 1e6, width=32))
    | arrays.arrays(
        np.float32, (2, 1), elements=st.sampled_from([-32769, -32768, -0.0, 255, 256, 32767, 32768])
    ),
    st.booleans(),
)
def test_hashes_are_those_of_the_first_stores(values, is_hu):
    plain = Slice(values.astype(np.float32), is_hu)
    assert content_hash(plain) == slow_hash(plain)
    if values.dtype != np.float32:
        made = Slice.of_integers(values, is_hu)
        np.testing.assert_array_equal(made.pixels, plain.pixels)
        assert content_hash(made) == slow_hash(plain)
        turned = Slice.of_integers(values.T, is_hu)
        assert content_hash(turned) == slow_hash(turned)


def test_pixels_are_made_of_integers_once_and_go_wherever_the_slice_goes():
    made = Slice.of_integers(GRAY, False, mode="PNG L")
    assert made.shape == GRAY.shape
    assert made.pixels is made.pixels
    passed_on = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own, as other processes get it
    for other in (passed_on, copy.deepcopy(made), replace(made, mode="other")):
        np.testing.assert_array_equal(other.pixels, GRAY.astype(np.float32))
        assert other.pixels.dtype == np.float32
        assert content_hash(other) == content_hash(made)
    with pytest.raises(AttributeError, match="levels"):
        _ = made.levels


def test_pixels_put_in_the_place_of_others_are_hashed_and_not_those_before():
    decoded = decode_raster(encoded(Image.fromarray(GRAY), "PNG"))
    assert decoded.integers is not None
    other = replace(decoded, pixels=decoded.pixels + 1)
    assert content_hash(other) == content_hash(Slice(GRAY + np.float32(1), False))


def test_a_slice_that_a_notebook_changes_is_hashed_as_changed(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "slice.png")
    slice_ = haemo.read_slice(tmp_path / "slice.png")
    slice_.pixels[0, 0] += 1
    assert content_hash(slice_) == content_hash(Slice(slice_.pixels.copy(), False))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@settings(max_examples=25, deadline=None)
@given(fraction=st.floats(0, 0.97))
def test_a_picture_cut_short_is_refused_and_never_filled_up(kind, fraction):
    data = encoded(Image.fromarray(GRAY), kind)
    with pytest.raises(UnreadableSlice):
        decode_raster(data[: int(len(data) * fraction)])


@settings(max_examples=60, deadline=None)
@given(place=st.integers(8, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_png_is_found(place, bit):
    data = bytearray(encoded(Image.fromarray(GRAY)))
    data[8 + place % (len(data) - 8)] ^= 1 << bit
    with pytest.raises(UnreadableSlice):
        decode_raster(bytes(data))


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM", b"\x08\x00"]
    ),
    rest=st.binary(max_size=400),
)
def test_random_bytes_are_refused_and_nothing_worse(tmp_path_factory, start, rest):
    path = tmp_path_factory.getbasetemp() / "random.dcm"
    path.write_bytes(start + rest)
    for read in (read_slice, read_header):
        with pytest.raises(UnreadableSlice):
            read(path)


@settings(max_examples=80, deadline=None)
@given(kind=st.sampled_from(["JPEG", "TIFF", "BMP", "DICOM"]), seed=st.integers(0, 10**6))
def test_damaged_files_decode_or_are_refused(kind, seed):
    stream = BytesIO()
    if kind == "DICOM":
        save_dicom(dicom_dataset(ct_values(1)), stream)
    else:
        Image.fromarray(GRAY).save(stream, kind)
    data = np.frombuffer(stream.getvalue(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    places = rng.integers(0, min(len(data), 600), 5)
    data[places] = rng.integers(0, 256, 5)
    path = Path("damaged.dcm")
    try:
        slice_ = _decode(data.tobytes(), path)
    except UnreadableSlice:
        return
    assert slice_.pixels.ndim == 2
    assert np.isfinite(slice_.pixels).all()


def _decode(data: bytes, path: Path) -> Slice:
    from haemo.features.reading.dicom import decode_dicom
    from haemo.features.reading.dicom_format import DICOM

    return decode_dicom(data) if DICOM.knows(data[:132], path.suffix) else decode_raster(data)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""
    return png((60000, 60000), 8, 0, bytes(10**5))


def pages(kind: str) -> bytes:
    page = Image.fromarray(GRAY)
    return encoded(page, kind, save_all=True, append_images=[Image.fromarray(255 - GRAY)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"path,label\n1.png,1\n", "the content is text"),
        (bytes(range(128, 200)), "neither PNG, JPEG, TIFF, BMP, DICOM, NIfTI, NRRD nor MetaImage"),
        (bomb(), "60000 x 60000 pixels are too many"),
        (pages("TIFF"), "holds 2 pictures"),
        (pages("PNG"), "holds 2 pictures"),
        (encoded(Image.fromarray(GRAY.astype(np.int32)), "TIFF"), "mode I have no defined gray level"),
        (encoded(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "mode F have no defined gray level"),
        (
            encoded(Image.fromarray(GRAY), "GIF"),
            "neither PNG, JPEG, TIFF, BMP, DICOM, NIfTI, NRRD nor MetaImage",
        ),
    ],
    ids=["empty", "text", "bytes", "bomb", "tiff pages", "animation", "int32", "float", "gif"],
)
def test_what_is_no_slice_is_refused_with_the_reason(tmp_path, data, reason):
    path = tmp_path / "slice.png"
    path.write_bytes(data)
    for read in (read_slice, read_header):
        with pytest.raises(UnreadableSlice, match=reason):
            read(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    for read in (read_slice, read_header):
        with pytest.raises(UnreadableSlice, match="No such file"):
            read(tmp_path / "none.png")
        with pytest.raises(UnreadableSlice, match="cannot be read"):
            read(tmp_path)


def test_a_header_is_read_without_its_pixels(tmp_path):
    path = tmp_path / "slice.png"
    path.write_bytes(encoded(Image.fromarray(GRAY))[:60])
    assert read_header(path).size == (40, 48)
    with pytest.raises(UnreadableSlice, match="cut short"):
        read_slice(path)
    stream = BytesIO(encoded(Image.fromarray(GRAY), "JPEG"))
    assert read_raster_header(stream).mode == "JPEG L"
