"""Heads of compressed streams: what declares another picture, or parts without number, meets no decoder."""

import json
import re
import struct
import subprocess
import sys
import warnings
import zlib
from io import BytesIO

import numpy as np
import pydicom
import pytest
from cohorts import ct_values, dicom_dataset, gray_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from small_files import (
    SIZE,
    cod_segment,
    deflated,
    frame_of,
    j2k_stream,
    rle_frame,
    saved,
    segment,
    small_files,
    with_frame,
)

from haemo.errors import UnreadableSlice
from haemo.features.reading.dicom import decode_dicom
from haemo.features.reading.formats import read_header, read_slice
from haemo.features.reading.raster import decode_raster, read_raster_header
from haemo.features.reading.slice import Slice, content_hash
from haemo.features.reading.streams.tiff import count_pictures

STORED = ct_values(1, SIZE)
J2K, HTJ2K = uid.JPEG2000Lossless, uid.HTJ2KLossless
FILES = small_files()


def of_j2k(stream: bytes, **tags) -> bytes:
    return with_frame(dicom_dataset(STORED, **tags), J2K, stream)


def of_jpeg(stream: bytes, syntax: uid.UID = uid.JPEGBaseline8Bit) -> bytes:
    stored = gray_picture(1, SIZE) if syntax == uid.JPEGBaseline8Bit else STORED
    return with_frame(dicom_dataset(stored), syntax, stream)


def of_rle(frame: bytes) -> bytes:
    return with_frame(dicom_dataset(STORED), uid.RLELossless, frame)


def changed(stream: bytes, behind: bytes, offset: int, value: bytes) -> bytes:
    """The stream with bytes replaced `offset` bytes after where `behind` begins."""
    place = stream.index(behind) + offset
    return stream[:place] + value + stream[place + len(value) :]


def jpeg(**options) -> bytes:
    stream = BytesIO()
    Image.fromarray(gray_picture(1, SIZE)).save(stream, "JPEG", **options)
    return stream.getvalue()


def jp2(stream: bytes, inside: bytes = b"", length: int = 0) -> bytes:
    """A JP2 file around a codestream."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    head = box(b"ihdr", struct.pack(">IIHBBBB", *SIZE, 1, 15, 7, 0, 0))
    head += box(b"colr", bytes([1, 0, 0, 0, 0, 0, 17])) + inside
    parts = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", head)
    return parts + struct.pack(">I4s", length, b"jp2c") + stream


def tiff(tags: dict[int, int], directories: int = 1) -> bytes:
    """A TIFF file with tags beside those of a gray picture, and the same directory several times."""
    basic = {256: SIZE[1], 257: SIZE[0], 258: 8, 259: 8, 262: 1, 277: 1}
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted((basic | tags).items())
    )
    head = b"II*\0" + struct.pack("<I", 108) + zlib.compress(bytes(SIZE[0] * SIZE[1])).ljust(100, b"\0")
    chain = [108 + number * (len(entries) + 6) for number in range(1, directories)] + [0]
    return head + b"".join(
        struct.pack("<H", len(entries) // 12) + entries + struct.pack("<I", next_) for next_ in chain
    )


LOSSLESS = FILES["DICOM JPEG lossless"]
JPEG_LS = frame_of(STORED, uid.JPEGLSLossless)
RLE = frame_of(STORED, uid.RLELossless)
J2K_STREAM = frame_of(STORED, J2K)
HUGE = struct.pack(">HH", 65000, 65000)
PALETTE = struct.pack(">I4s", 8 + 3 + 255 + 255, b"pclr") + struct.pack(">HB", 1, 255) + bytes(510)
PROGRESSIVE = jpeg(progressive=True)

# Name of the file -> its bytes, and what is said of it.
BOMBS = {
    "JPEG 2000, giant": (
        of_j2k(changed(J2K_STREAM, b"\xff\x51", 6, struct.pack(">II", 60000, 60000))),
        r"JPEG 2000 stream declares 60000 x 60000 pixels with 1 sample of 16 bits, but the DICOM header says "
        r"40 x 36 with 1 sample of 16 bits in 16",
    ),
    "JPEG 2000, giant from an offset": (
        of_j2k(changed(J2K_STREAM, b"\xff\x51", 6, struct.pack(">4I", 2**31, 2**31, 0, 0))),
        "declares 2147483648 x 2147483648",
    ),
    "JPEG 2000, of its size far from the origin": (
        of_j2k(changed(J2K_STREAM, b"\xff\x51", 6, struct.pack(">4I", 60036, 60040, 60000, 60000))),
        "begins at row 60000 and column 60000",
    ),
    "JPEG 2000, no size": (of_j2k(changed(J2K_STREAM, b"\xff\x51", 14, HUGE * 2)), "not sound"),
    "JPEG 2000, many components": (of_j2k(j2k_stream(SIZE, samples=16384)), "with 16384 samples"),
    "JPEG 2000, 38 bits": (of_j2k(j2k_stream(SIZE, bits=38)), "of 38 bits"),
    "JPEG 2000, 8 bits": (of_j2k(j2k_stream(SIZE, bits=8)), "of 8 bits"),
    "JPEG 2000, subsampled": (of_j2k(j2k_stream(SIZE, step=255)), "255 columns and 255 rows apart"),
    "JPEG 2000, tiles of nothing": (of_j2k(j2k_stream(SIZE, (0, 0))), "tiles of 0 x 0"),
    "JPEG 2000, tiles": (
        with_frame(dicom_dataset(ct_values(1, (255, 255))), J2K, j2k_stream((255, 255), (1, 1))),
        "65025 tiles, limit 4096",
    ),
    "JPEG 2000, code blocks": (
        with_frame(
            dicom_dataset(np.zeros((4096, 4096), np.int8)), J2K, j2k_stream((4096, 4096), bits=8, block=2)
        ),
        "code blocks, limit",
    ),
    "JPEG 2000, precincts": (
        with_frame(
            dicom_dataset(np.zeros((1024, 1024), np.int16)),
            J2K,
            j2k_stream((1024, 1024), levels=0, precincts=(0,)),
        ),
        "1048576 code blocks, limit",
    ),
    "JPEG 2000, precincts of a tile": (
        with_frame(
            dicom_dataset(np.zeros((1024, 1024), np.int16)),
            HTJ2K,
            j2k_stream((1024, 1024), of_tile=cod_segment(1, 2, (0, 0)), is_high_throughput=True),
        ),
        "code blocks, limit",
    ),
    "JPEG 2000, packets": (
        of_j2k(j2k_stream(SIZE, levels=1, precincts=(1, 1), layers=65535)),
        "packets, limit",
    ),
    "JPEG 2000, levels": (of_j2k(j2k_stream(SIZE, levels=200)), "not sound"),
    "JPEG 2000, hidden": (
        of_j2k(changed(J2K_STREAM, b"\xff\x52", 0, b"\xff\x30")),
        "not sound .marker ff30",
    ),
    "JP2, palette": (of_j2k(jp2(J2K_STREAM, PALETTE)), "gray with a palette"),
    "JP2, giant": (
        of_j2k(jp2(changed(J2K_STREAM, b"\xff\x51", 6, struct.pack(">II", 60000, 60000)))),
        "declares 60000 x 60000",
    ),
    "JP2, boxes without end": (of_j2k(jp2(b"")[:32] + bytes(8)), "a JP2 file without a picture"),
    "HTJ2K, giant": (
        with_frame(dicom_dataset(STORED), HTJ2K, j2k_stream((50000, 50000), is_high_throughput=True)),
        "declares 50000 x 50000",
    ),
    "JPEG, giant": (of_jpeg(changed(jpeg(), b"\xff\xc0", 5, HUGE)), "JPEG stream declares 65000 x 65000"),
    "JPEG, 12 bits": (of_jpeg(changed(jpeg(), b"\xff\xc0", 4, b"\x0c")), "1 sample of 12 bits"),
    "JPEG, colour": (
        of_jpeg(FILES["JPEG colour"]),
        "declares 40 x 36 pixels with 3 samples of 8 bits, but",
    ),
    "JPEG, two frames": (
        of_jpeg(changed(jpeg(), b"\xff\xdb", 0, segment(0xC0, b"\x08" + HUGE + b"\1\1\x11\0") + jpeg()[20:])),
        "not sound .2 frames",
    ),
    "JPEG, scans": (
        of_jpeg(PROGRESSIVE + PROGRESSIVE[PROGRESSIVE.index(b"\xff\xda") :] * 99),
        "scans .limit",
    ),
    "JPEG, JPEG 2000 inside": (of_jpeg(j2k_stream((60000, 60000))), "not sound"),
    "JPEG lossless, giant": (changed(LOSSLESS, b"\xff\xc3", 5, HUGE), "declares 65000 x 65000"),
    "JPEG-LS, giant": (
        of_jpeg(changed(JPEG_LS, b"\xff\xf7", 5, HUGE), uid.JPEGLSLossless),
        "JPEG-LS stream declares 65000 x 65000",
    ),
    "JPEG-LS, giant beside its frame": (
        of_jpeg(
            JPEG_LS[:2] + segment(0xF8, struct.pack(">BBII", 4, 4, 2**31, 2**31)) + JPEG_LS[2:],
            uid.JPEGLSLossless,
        ),
        "declares another size beside that of its frame",
    ),
    "JPEG-LS, 8 bits": (of_jpeg(changed(JPEG_LS, b"\xff\xf7", 4, b"\x08"), uid.JPEGLSLossless), "of 8 bits"),
    "RLE, no segment": (of_rle(bytes(len(RLE))), "0 segments"),
    "RLE, many segments": (of_rle(struct.pack("<I", 2**31) + RLE[4:]), "2147483648 segments"),
    "RLE, 32 bits": (
        of_rle(rle_frame(*[b"\x81\0" * 12] * 4)),
        "4 segments, but 16 bits allocated make 2",
    ),
    "RLE, beyond the file": (
        of_rle(RLE[:8] + struct.pack("<I", 10**9) + RLE[12:]),
        "segments at 64, 1000000000 of",
    ),
    "RLE, a segment over another": (of_rle(RLE[:8] + struct.pack("<I", 10) + RLE[12:]), "segments at 64, 10"),
    "RLE, bomb": (of_rle(rle_frame(*[b"\x81\0" * (1 << 23)] * 2)), "unpacks to more than 2880 bytes"),
    "JPEG picture, scans": (
        PROGRESSIVE + PROGRESSIVE[PROGRESSIVE.index(b"\xff\xda") :] * 99,
        "a progressive JPEG of [0-9]+ scans .limit 100",
    ),
    "TIFF, giant tiles": (tiff({322: 1 << 20, 323: 1 << 10, 324: 8, 325: 99}), "tiles of 1024 x 1048576"),
    "TIFF, many pictures": (tiff({273: 8}, directories=5000), "holds 1000 or more pictures"),
    "TIFF, a chain out of the file": (
        tiff({273: 8})[:-4] + struct.pack("<I", 10**6),
        "damaged or cut short",
    ),
    "deflated, bomb": (deflated(dicom_dataset(STORED), behind=1 << 30), "too many for one slice"),
}
WHOLE = {
    "JPEG 2000": J2K_STREAM,
    "JPEG-LS": JPEG_LS,
    "RLE": RLE,
    "JPEG": jpeg(),
    "HTJ2K": j2k_stream(SIZE, is_high_throughput=True),
}
SYNTAXES = {
    "JPEG 2000": J2K,
    "JPEG-LS": uid.JPEGLSLossless,
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGBaseline8Bit,
    "HTJ2K": HTJ2K,
}

# Reads every file of a folder with no more address space than 300 MB beside what it has by then.
READ_WITHIN_300_MB = """
import json, resource, sys
from pathlib import Path
import numpy, PIL.JpegImagePlugin, PIL.TiffImagePlugin
from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import read_slice
folder = Path(sys.argv[1])
read_slice(folder / "sound.dcm")
status = Path("/proc/self/statm")
if status.exists():
    pages = int(status.read_text().split()[0])
    limit = pages * resource.getpagesize() + 300 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = {}
for path in sorted(folder.iterdir()):
    try:
        found[path.name] = f"read {read_slice(path).pixels.shape}"
    except UnreadableSlice as error:
        found[path.name] = f"refused: {error}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said_of_bombs(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "sound.dcm").write_bytes(FILES["DICOM JPEG 2000"])
    for name, (data, _) in BOMBS.items():
        (folder / name).write_bytes(data)
    result = subprocess.run(
        [sys.executable, "-c", READ_WITHIN_300_MB, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_sound_files_are_read_within_the_memory_that_bombs_are_refused_in(said_of_bombs):
    assert said_of_bombs["sound.dcm"] == f"read {SIZE}"


@pytest.mark.parametrize("name", BOMBS)
def test_a_head_that_lies_is_refused_in_little_memory(name, said_of_bombs):
    assert said_of_bombs[name].startswith("refused: ")
    assert re.search(BOMBS[name][1], said_of_bombs[name])


@pytest.mark.parametrize("name", WHOLE)
def test_a_head_that_is_cut_short_is_refused(name):
    stored = gray_picture(1, SIZE) if name == "JPEG" else STORED
    for length in range(1, 24):
        with pytest.raises(UnreadableSlice):
            decode_dicom(with_frame(dicom_dataset(stored), SYNTAXES[name], WHOLE[name][:length]))


@pytest.mark.parametrize("name", WHOLE)
def test_a_stream_in_several_fragments_is_read_as_one(name):
    stored = gray_picture(1, SIZE) if name == "JPEG" else STORED
    one, two = (
        decode_dicom(with_frame(dicom_dataset(stored), SYNTAXES[name], WHOLE[name], fragments))
        for fragments in (1, 3)
    )
    assert content_hash(one) == content_hash(two)


@pytest.mark.parametrize("length", [0, 8 + len(J2K_STREAM)])
def test_the_boxes_around_a_codestream_are_looked_through(length):
    assert content_hash(decode_dicom(of_j2k(jp2(J2K_STREAM, length=length)))) == content_hash(
        decode_dicom(saved(dicom_dataset(STORED)))
    )


def test_a_codestream_may_have_any_bits_that_hold_its_values():
    for bits, stored_bits in ((12, 16), (16, 12), (12, 12)):
        data = of_j2k(j2k_stream(SIZE, bits=bits), BitsStored=stored_bits, HighBit=stored_bits - 1)
        np.testing.assert_array_equal(np.unique(decode_dicom(data).pixels).size, 1)


@pytest.mark.parametrize("no_jp2", [True, False], ids=["bare", "in boxes"])
@pytest.mark.parametrize(
    "options",
    [
        {"tile_size": (64, 48)},
        {"num_resolutions": 1, "codeblock_size": (4, 4)},
        {"num_resolutions": 4, "codeblock_size": (16, 16), "precinct_size": (64, 64)},
        {"quality_mode": "rates", "quality_layers": [20, 10, 5, 2], "irreversible": True},
        {"progression": "RPCL", "precinct_size": (128, 128), "plt": True},
    ],
)
def test_jpeg_2000_is_read_however_it_is_cut_up(options, no_jp2):
    gray, stream = gray_picture(1, (200, 300)), BytesIO()
    Image.fromarray(gray).save(stream, "JPEG2000", no_jp2=no_jp2, **options)
    pixels = decode_dicom(with_frame(dicom_dataset(gray), J2K, stream.getvalue())).pixels
    np.testing.assert_array_equal(pixels + 1024, np.asarray(Image.open(stream)))


def test_tiles_blocks_and_layers_as_encoders_write_them_are_read():
    for options in (
        {"tile": (16, 16)},
        {"levels": 5, "block": 4},
        {"levels": 2, "precincts": (7, 7, 8)},
        {"layers": 50},
        {"of_tile": cod_segment(1, 5) + segment(0x64, b"\0\1a comment")},
    ):
        assert decode_dicom(of_j2k(j2k_stream(SIZE, **options))).pixels.shape == SIZE


# Pillow says so too, as a warning.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_tiff_may_end_with_its_directory():
    whole = tiff({273: 8, 278: SIZE[0], 279: 100})
    for data in (whole, whole[:-2], whole[:-4]):
        assert decode_raster(data).pixels.shape == SIZE == read_raster_header(BytesIO(data)).size


def test_a_tile_may_be_larger_than_its_picture():
    packed = zlib.compress(bytes(64 * 64))
    whole = tiff({322: 64, 323: 64, 324: 8, 325: len(packed)})
    assert decode_raster(whole[:8] + packed + whole[8 + len(packed) :]).pixels.shape == SIZE


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}])
def test_pictures_of_a_tiff_are_counted_as_by_pillow(options):
    for pictures in (1, 2, 5):
        stream = BytesIO()
        image = Image.fromarray(gray_picture(1, SIZE))
        image.save(stream, "TIFF", save_all=True, append_images=[image] * (pictures - 1), **options)
        assert count_pictures(BytesIO(stream.getvalue())) == pictures == Image.open(stream).n_frames


@pytest.mark.parametrize("place", [8, 16])
def test_a_chain_that_leads_past_all_files_is_an_error_of_its_own(place):
    whole = b"MM\0+\0\x08\0\0" + bytes(7) + b"\x10" + bytes(40)
    assert count_pictures(BytesIO(whole)) == 1
    with pytest.raises(ValueError, match="leads out of the file"):
        count_pictures(BytesIO(whole[:place] + b"\xff" * 8 + whole[place + 8 :]))


def test_a_tiff_must_say_whether_0_is_black():
    whole = tiff({273: 8, 278: SIZE[0], 279: 100})
    for read in (decode_raster, lambda data: read_raster_header(BytesIO(data))):
        with pytest.raises(UnreadableSlice, match="does not say whether 0 is black or white"):
            read(whole.replace(struct.pack("<H", 262), struct.pack("<H", 261)))


def test_a_tiff_whose_word_on_that_cannot_be_read_is_refused():
    """Pillow takes it for white, and gives the negative."""
    whole = tiff({273: 8, 278: SIZE[0], 279: 100})
    entry = struct.pack("<HHII", 262, 4, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow tells of the tag
        with pytest.raises(UnreadableSlice, match="does not say whether 0 is black or white"):
            decode_raster(whole.replace(entry, struct.pack("<HHII", 262, 4, 99, 1 << 30)))


@pytest.mark.parametrize("name", ["BMP", "BMP colour"])
def test_a_bmp_whose_pixels_would_begin_in_its_head_is_refused(name):
    whole = FILES[name]
    assert decode_raster(whole).pixels.shape == SIZE
    for place in (0, 53, len(whole) - SIZE[0] * SIZE[1] * (1 if name == "BMP" else 3) - 1):
        with pytest.raises(UnreadableSlice, match=f"would begin at byte {place}, in its head"):
            decode_raster(whole[:10] + struct.pack("<I", place) + whole[14:])
    with pytest.raises(UnreadableSlice, match="cut short"):
        decode_raster(whole[:50])


def test_pixels_of_no_known_type_or_sign_are_refused():
    whole = FILES["DICOM Explicit VR Little Endian"]
    with pytest.raises(UnreadableSlice, match="the file is damaged"):
        decode_dicom(whole.replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0O["))
    with pytest.raises(UnreadableSlice, match="its Pixel Representation is neither 0 nor 1"):
        decode_dicom(saved(dicom_dataset(STORED, PixelRepresentation=5)))


@pytest.mark.parametrize("codes", ["group3", "group4", "tiff_ccitt"])
def test_fax_codes_are_refused(codes):
    stream = BytesIO()
    Image.fromarray(gray_picture(1, SIZE)).convert("1").save(stream, "TIFF", compression=codes)
    with pytest.raises(UnreadableSlice, match="fax codes"):
        decode_raster(stream.getvalue())


def test_a_tiff_over_whose_damage_its_decoder_goes_on_is_refused(capfd):
    whole = FILES["TIFF JPEG"]
    place = whole.index(b"\xff\xda") + 200
    with pytest.raises(UnreadableSlice, match=r"the file is damaged .*Unsupported marker type 0x6b"):
        decode_raster(whole[:place] + b"\xff\x6b" + whole[place + 2 :])
    assert decode_raster(whole).pixels.shape == SIZE
    assert capfd.readouterr().err == ""


def test_padding_behind_a_segment_is_no_bomb():
    padded = rle_frame(*[b"\x81\0" * 12 + b"\0\0"] * 2)
    assert len(padded) > 64
    stored = np.zeros((8, 192), np.int16)
    with pytest.warns(UserWarning, match="non-conformant padding"):
        pixels = decode_dicom(with_frame(dicom_dataset(stored), uid.RLELossless, padded)).pixels
    assert (pixels == -1024).all()


@pytest.mark.parametrize("name", FILES)
def test_the_files_that_are_damaged_here_are_sound(name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILES[name])
    assert read_slice(path).pixels.shape == SIZE == read_header(path).size


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("DICOM")])
def test_what_is_sound_is_decoded_as_by_the_reference_reader(name):
    stored = pydicom.dcmread(BytesIO(FILES[name])).pixel_array
    np.testing.assert_array_equal(decode_dicom(FILES[name]).pixels, stored.astype(np.float32) - 1024)


# GDCM ends the process on some damaged streams, and so is not tried here.
DAMAGED = sorted(set(FILES) - {"DICOM JPEG lossless"})


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(DAMAGED),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    in_head=st.booleans(),
    kept=st.sampled_from([1.0, 1.0, 0.95, 0.5]),
)
def test_a_damaged_file_gives_a_slice_of_its_size_or_a_reason(name, places, in_head, kept, tmp_path_factory):
    data = bytearray(FILES[name])
    for place, value in places:
        data[int(place * (min(len(data), 700) if in_head else len(data)))] = value
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(data[: int(len(data) * kept)])
    with warnings.catch_warnings():
        # Of what is odd in a file, pydicom and Pillow warn, and go on.
        warnings.simplefilter("ignore")
        try:
            slice_ = read_slice(path)
        except UnreadableSlice:
            slice_ = None
        # A header may still be refused where the slice is not: that of DICOM is asked for more.
        try:
            header = read_header(path)
        except UnreadableSlice:
            header = None
    if slice_ is None or header is None:
        return
    assert isinstance(slice_, Slice)
    assert slice_.pixels.shape == header.size
    assert slice_.pixels.dtype == np.float32
    assert np.isfinite(slice_.pixels).all()
