"""One small valid file of every format and codec that is read, and streams with heads written by hand."""

import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from cohorts import ct_values, dicom_dataset, gray_picture, save_dicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame

__all__ = [
    "SIZE",
    "cod_segment",
    "deflated",
    "frame_of",
    "j2k_stream",
    "lossless_jpeg",
    "rle_frame",
    "saved",
    "segment",
    "small_files",
    "with_frame",
]

SIZE = (40, 36)


def saved(dataset: Dataset) -> bytes:
    stream = BytesIO()
    save_dicom(dataset, stream)
    return stream.getvalue()


def with_frame(dataset: Dataset, syntax: uid.UID, frame: bytes, fragments: int = 1) -> bytes:
    """The file of a slice with any bytes as its compressed stream."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


def compressed(stored: np.ndarray, syntax: uid.UID) -> Dataset:
    dataset = dicom_dataset(stored)
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def frame_of(stored: np.ndarray, syntax: uid.UID) -> bytes:
    """The compressed stream alone."""
    return get_frame(compressed(stored, syntax).PixelData, 0, number_of_frames=1)


def lossless_jpeg(stored: np.ndarray, folder: Path) -> bytes:
    """The slice as lossless JPEG, process 14 with first-order prediction, made by GDCM."""
    import gdcm

    save_dicom(dicom_dataset(stored), folder / "native.dcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(folder / "native.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(folder / "lossless.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return (folder / "lossless.dcm").read_bytes()


def j2k_stream(
    size: tuple[int, int],
    tile: tuple[int, int] | None = None,
    *,
    samples: int = 1,
    bits: int = 16,
    step: int = 1,
    levels: int = 1,
    block: int = 6,
    precincts: tuple[int, ...] = (),
    layers: int = 1,
    of_tile: bytes = b"",
    is_high_throughput: bool = False,
) -> bytes:
    """A JPEG 2000 codestream whose only tile says it has nothing: every pixel is the middle of the range.

    `block` and `precincts` are exponents of two; `of_tile` are segments of the head of the tile.
    """
    (rows, columns), (high, wide) = size, tile or size
    siz = struct.pack(">H8IH", 0x4000 * is_high_throughput, columns, rows, 0, 0, wide, high, 0, 0, samples)
    siz += bytes([bits - 1, step, step]) * samples
    cap = segment(0x50, struct.pack(">IH", 1 << 17, 0)) if is_high_throughput else b""
    style = 0x40 * is_high_throughput
    cod = cod_segment(levels, block, precincts, layers, style)
    qcd = segment(0x5C, bytes([0x40] + [0x88] * (3 * levels + 1)))
    sod = of_tile + b"\xff\x93" + bytes(levels + 1)
    sot = segment(0x90, struct.pack(">HIBB", 0, 12 + len(sod), 0, 1))
    return b"\xff\x4f" + segment(0x51, siz) + cap + cod + qcd + sot + sod + b"\xff\xd9"


def cod_segment(
    levels: int, block: int = 6, precincts: tuple[int, ...] = (), layers: int = 1, style: int = 0
) -> bytes:
    """The segment of a JPEG 2000 codestream that says how it is cut up."""
    sizes = bytes(exponent << 4 | exponent for exponent in precincts)
    cod = struct.pack(">BBHBBBBBB", bool(sizes), 0, layers, 0, levels, block - 2, block - 2, style, 1)
    return segment(0x52, cod + sizes)


def segment(marker: int, content: bytes) -> bytes:
    """A segment of JPEG or JPEG 2000."""
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def rle_frame(*segments: bytes) -> bytes:
    """An RLE frame of segments that are packed already."""
    starts = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(starts))) + b"".join(segments)


def deflated(dataset: Dataset, behind: int = 0) -> bytes:
    """A deflated file with `behind` zero bytes after its last element."""
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    plain = saved(dataset)
    body = plain[132 + plain[132:].index(b"\x08\x00\x16\x00") :]
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole = saved(dataset)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(body)
    if behind:
        # Each stretch starts anew, so that one is packed and stands for all.
        packed += packer.flush(zlib.Z_FULL_FLUSH)
        stretch = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        packed += stretch * (behind >> 20)
    head = whole[: whole.rindex(uid.DeflatedExplicitVRLittleEndian.encode()) + 22]
    return head + packed + packer.flush()


def small_files() -> dict[str, bytes]:
    """Files by what they are; all of them hold `SIZE` pixels."""
    gray, stored = gray_picture(1, SIZE), ct_values(1, SIZE)
    image, deep = Image.fromarray(gray), Image.fromarray(gray.astype(np.uint16) * 257)
    alpha = image.convert("RGBA")
    alpha.putalpha(image)
    pictures = {
        "PNG": (image, "PNG", {}),
        "PNG 16 bit": (deep, "PNG", {}),
        "PNG with alpha": (alpha, "PNG", {}),
        "PNG palette": (image.convert("P"), "PNG", {"bits": 8}),
        "JPEG": (image, "JPEG", {}),
        "JPEG colour": (image.convert("RGB"), "JPEG", {}),
        "JPEG progressive": (image, "JPEG", {"progressive": True}),
        "TIFF": (image, "TIFF", {}),
        "TIFF LZW": (image, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "TIFF JPEG": (image, "TIFF", {"compression": "jpeg"}),
        "TIFF 1 bit": (image.convert("1"), "TIFF", {"compression": "packbits"}),
        "BigTIFF": (image, "TIFF", {"big_tiff": True}),
        "BMP": (image, "BMP", {}),
        "BMP colour": (image.convert("RGB"), "BMP", {}),
    }
    files = {}
    for name, (picture, kind, options) in pictures.items():
        stream = BytesIO()
        picture.save(stream, kind, **options)
        files[name] = stream.getvalue()
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        dataset = dicom_dataset(stored)
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = stored.astype(">i2").tobytes()
        files[f"DICOM {syntax.name}"] = saved(dataset)
    files["DICOM deflated"] = deflated(dicom_dataset(stored))
    for name, syntax in {
        "RLE": uid.RLELossless,
        "JPEG 2000": uid.JPEG2000Lossless,
        "JPEG-LS": uid.JPEGLSLossless,
    }.items():
        files[f"DICOM {name}"] = saved(compressed(stored, syntax))
    files["DICOM HTJ2K"] = with_frame(
        dicom_dataset(stored), uid.HTJ2KLossless, j2k_stream(SIZE, is_high_throughput=True)
    )
    files["DICOM JPEG"] = with_frame(dicom_dataset(gray), uid.JPEGBaseline8Bit, files["JPEG"])
    with tempfile.TemporaryDirectory() as folder:
        files["DICOM JPEG lossless"] = lossless_jpeg(stored, Path(folder))
    return files
