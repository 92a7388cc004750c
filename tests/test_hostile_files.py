"""Files made to fill the memory: each is refused, and takes less than 300 MB beside what was there."""

import gzip
import io
import json
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cohorts import dicom_dataset
from pydicom import uid
from pydicom.dataset import Dataset
from small_files import deflated, j2k_stream, saved, with_frame

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import fuzz
import run_files

MOST_MB = 300
SECONDS = 120.0  # tests share a machine
GIANT = 8192
ZLIB = b"\x78\xda"


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(side: int, bits: int, colour: int, pixels: bytes, *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(megabytes: int) -> bytes:
    """A raw deflate stream that unpacks to so many MB, without its end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed * megabytes


def packed(data: bytes) -> bytes:
    """The start of a raw deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """A TIFF of GIANT squared pixels: tag -> type, count and value; `data` lies at byte 8."""
    basic = {256: (4, 1, GIANT), 257: (4, 1, GIANT), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted((basic | tags).items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(entries) // 12) + entries + bytes(4)


def big_tiff() -> bytes:
    tags = {
        256: (4, 1, 40),
        257: (4, 1, 36),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (16, 1 << 40, 16),
    }
    entries = b"".join(struct.pack("<HHQQ", tag, *entry) for tag, entry in tags.items())
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(tags)) + entries + bytes(8)


def bmp(bits: int, packing: int, data: bytes = b"") -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, GIANT, GIANT, 1, bits, packing, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + info + data


def nifti(shape: tuple[int, int, int]) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def later(data: Callable[[], bytes]) -> Callable[[Path], None]:
    """A large file, made when it is needed: this module is read by every process that runs tests."""

    def make(path: Path) -> None:
        path.write_bytes(data())

    return make


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def workbook(rows: int, row: bytes) -> Callable[[Path], None]:
    """A workbook whose sheet goes on with the same row."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(io.BytesIO(run_files.run_files()["labels.xlsx"])) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        sheet = "xl/worksheets/sheet1.xml"
        start, _, end = members[sheet].partition(b"</sheetData>")
        start = re.sub(b"<dimension[^>]*>", b"", start)
        members[sheet] = start + row * rows + b"</sheetData>" + end
        path.write_bytes(zipped(members))

    return make


def store(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (1 << 34, 4096), "f4", chunks=(64, 4096), fillvalue=0)


def sparse(start: bytes, size: int = 1 << 30) -> Callable[[Path], None]:
    """A file of a gigabyte that takes no room on a disk."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        with path.open("r+b") as stream:
            stream.truncate(size)

    return make


def ct(**tags: object) -> Dataset:
    return dicom_dataset(np.zeros((4, 4), np.int16), **tags)


def with_name(length: int) -> bytes:
    """A file that says that the patient's id is so long."""
    return saved(ct())[:-44] + b"\x10\x00\x20\x00UN\0\0" + struct.pack("<I", length)


def giant_ct() -> Dataset:
    return ct(Rows=GIANT, Columns=GIANT)


# What it is called -> its kind for `fuzz`, and its bytes or what writes it.
FILES: dict[str, tuple[str, bytes | Callable[[Path], None]]] = {
    "PNG of 65535 squared": ("PNG", png(65535, 8, 0, ZLIB + zeros(1))),
    "PNG of 8192 squared in RGBA, cut": ("PNG", png(GIANT, 8, 6, ZLIB + zeros(200))),
    "PNG of 8192 squared in 16 bits, cut": ("PNG", png(GIANT, 16, 0, ZLIB + zeros(100))),
    "PNG with text that unpacks": ("PNG", png(40, 8, 0, b"", chunk(b"zTXt", b"a\0\0" + ZLIB + zeros(500)))),
    "PNG with a profile that unpacks": (
        "PNG",
        png(40, 8, 0, b"", chunk(b"iCCP", b"a\0\0" + ZLIB + zeros(500))),
    ),
    "PNG of 190 MB, cut": ("PNG", sparse(png(GIANT, 8, 6, b"")[:33] + b"\x3f\xff\xff\xffIDAT", 190 << 20)),
    "PNG of a gigabyte": ("PNG", sparse(png(40, 8, 0, b"")[:33] + b"\x3f\xff\xff\xffIDAT")),
    "TIFF in one strip that is not there": (
        "TIFF",
        tiff({273: (4, 1, 8), 278: (4, 1, GIANT), 279: (4, 1, 1 << 31)}),
    ),
    "TIFF in one packed strip, cut": (
        "TIFF",
        tiff({259: (3, 1, 8), 273: (4, 1, 8), 278: (4, 1, GIANT), 279: (4, 1, 50_000)}, ZLIB + zeros(40)),
    ),
    "TIFF with a tag of gigabytes": (
        "TIFF",
        tiff({273: (4, 1 << 29, 8), 278: (4, 1, 1), 279: (4, 1 << 29, 8)}),
    ),
    "BigTIFF with a tag of terabytes": ("TIFF", big_tiff()),
    "TIFF of a gigabyte": ("TIFF", sparse(tiff({273: (4, 1, 8)}))),
    "BMP of 8192 squared in 32 bits": ("BMP", bmp(32, 0)),
    "BMP of 8192 squared, packed": ("BMP", bmp(8, 1, b"\xff\0" * 1000)),
    "JPEG 2000 of 8192 squared": (
        "DICOM",
        with_frame(giant_ct(), uid.JPEG2000Lossless, j2k_stream((GIANT, GIANT))[:-40]),
    ),
    "DICOM, deflated, of 190 MB": ("DICOM", later(lambda: deflated(ct(), behind=190 << 20))),
    "DICOM, deflated, of a gigabyte": ("DICOM", later(lambda: deflated(ct(), behind=1 << 30))),
    "DICOM with a name of 140 MB": ("DICOM", sparse(with_name(138 << 20), 140 << 20)),
    "DICOM of 140 MB of elements": ("DICOM", sparse(saved(ct())[:-44], 140 << 20)),
    "DICOM, of another form, of 140 MB": ("DICOM", sparse(saved(giant_ct()), 140 << 20)),
    "DICOM, deflated, of many elements": ("DICOM", later(lambda: deflated(ct(), behind=100 << 20))),
    "DICOM of a gigabyte": ("DICOM", sparse(saved(giant_ct()))),
    "DICOM with a name of a gigabyte": ("DICOM", sparse(with_name((1 << 30) - 2000))),
    "NIfTI.gz that unpacks to a gigabyte": (
        "NIfTI.gz",
        gzip.compress(b"")[:10] + packed(nifti((512, 512, 40))) + zeros(1000),
    ),
    "NIfTI of 32767 cubed": ("NIfTI", nifti((32767, 32767, 32767))),
    "NRRD without end": ("NRRD", sparse(b"NRRD0004\ntype: short\n")),
    "MetaImage without end": ("MetaImage", sparse(b"ObjectType = Image\n")),
    "zip of zeros": ("zip", later(lambda: zipped({"a.png": bytes(310 << 20)}))),
    "workbook of wide rows": ("labels.xlsx", workbook(100_000, b'<row><c r="XFD9"><v>1</v></c></row>')),
    "workbook that unpacks": ("labels.xlsx", workbook(2_700_000, b"<row><c><v>1</v></c></row>")),
    "workbook of a gigabyte": ("labels.xlsx", sparse(b"PK\3\4")),
    "labels.csv in one cell": ("labels.csv", sparse(b"path,label\n0.png,")),
    "labels.csv of quotes": ("labels.csv", later(lambda: b'path,label\n"' + b"x" * (100 << 20))),
    "manifest.csv of a gigabyte": ("manifest.csv", sparse(b"slice_id,path,label,patient,study\n")),
    "JSON of a gigabyte": ("split.json", sparse(b"[")),
    "JSON nested 50 million deep": ("run.json", later(lambda: b"[" * 50_000_000)),
    "JSON of many lists": ("settings.json", later(lambda: b"[" + b"[]," * 10_000_000 + b"[]]")),
    "predictions.csv of a gigabyte": ("predictions.csv", sparse(b"slice_id,patient,label\n")),
    "contents.csv of 400 MB": ("contents.csv", sparse(b"slice_id\n", 400 << 20)),
    "failures.csv of a gigabyte": ("failures.csv", sparse(b"path,stage,reason\n")),
    "features.h5 of 2 PB": ("features.h5", store),
    "skops that unpacks": ("model.skops", later(lambda: zipped({"schema.json": b" " * (310 << 20)}))),
    "skops of a gigabyte": ("model.skops", sparse(b"PK\3\4")),
    "safetensors whose head is endless": ("safetensors", struct.pack("<Q", 1 << 62) + b"{}"),
    "safetensors whose head is a gigabyte": ("safetensors", sparse(struct.pack("<Q", (1 << 30) - 8) + b"{")),
    "safetensors of a tensor that is not there": (
        "safetensors",
        (lambda head: struct.pack("<Q", len(head)) + head)(
            json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
        ),
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("hostile")
    files = []
    for number, (kind, made) in enumerate(FILES.values()):
        suffix = "dcm" if kind == "DICOM" else "img"
        path = folder / str(number) / run_files.NAMES.get(kind, f"file.{suffix}")
        path.parent.mkdir()
        if callable(made):
            made(path)
        else:
            path.write_bytes(made)
        files.append((kind, path))
    return dict(zip(FILES, fuzz.outcomes(files, MOST_MB, SECONDS), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_in_little_memory(name, said):
    # A line of contents.csv that says nothing costs one decoding, and not the file.
    expected = "read" if name.startswith("contents.csv") else "refused: "
    assert said[name].startswith(expected), said[name]
