"""Content and plane of any slice, by the ways that take little time, are those of the long way."""

import hashlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cohorts import ct_values, dicom_dataset, gray_picture, save_dicom
from PIL import Image, ImageOps
from pydicom import uid

from haemo.features.extraction.decoding import Decoder
from haemo.features.reading.reader import SliceReader
from haemo.features.views.preprocess import Preprocessing
from haemo.features.views.resize import resize_matrix

SIZE = 48


def picture(mode: str, size: tuple[int, int], kind: str = "png", **options) -> bytes:
    """A picture with gray levels, or colours, or a part that is seen through."""
    random = np.random.default_rng(7)
    channels = len(Image.new(mode, (1, 1)).getbands()) if mode != "P" else 3
    drawn = random.integers(0, 256, (*size, channels), dtype=np.uint8)
    made = Image.fromarray(drawn[..., 0] if channels == 1 else drawn)
    made = made.quantize(16) if mode == "P" else made
    stream = BytesIO()
    made.save(stream, kind, **options)
    return stream.getvalue()


def scan(size: tuple[int, int] = (33, 41), syntax: str = uid.ExplicitVRLittleEndian, **tags) -> bytes:
    kind = tags.pop("kind", np.int16)
    dataset = dicom_dataset(ct_values(5, size, kind), **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = BytesIO()
    save_dicom(dataset, stream)
    return stream.getvalue()


FILES = {
    "gray.png": picture("L", (64, 64)),
    "one pixel.png": picture("L", (1, 1)),
    "a row.png": picture("L", (1, 90)),
    "not square.png": picture("L", (301, 57)),
    "wide.png": picture("L", (40, 600)),
    "palette.png": picture("P", (40, 50)),
    "colour.png": picture("RGB", (40, 50)),
    "seen through.png": picture("RGBA", (40, 50)),
    "gray seen through.png": picture("LA", (31, 50)),
    "gray.jpeg": picture("L", (61, 77), "jpeg"),
    "colour.jpeg": picture("RGB", (61, 77), "jpeg", quality=40),
    "whole.dcm": scan(RescaleSlope="1", RescaleIntercept="-1024"),
    "implicit.dcm": scan(syntax=uid.ImplicitVRLittleEndian, RescaleSlope="1", RescaleIntercept="0"),
    "parts.dcm": scan(RescaleSlope="0.731", RescaleIntercept="-1023.5"),
    "inverted.dcm": scan(PhotometricInterpretation="MONOCHROME1", RescaleSlope="1", RescaleIntercept="-7"),
    "unsigned.dcm": scan((70, 20), kind=np.uint16, RescaleSlope="1", RescaleIntercept="-1024"),
    "out of 16 bits.dcm": scan(RescaleSlope="1", RescaleIntercept="31000"),
    "tiny.dcm": scan((2, 3), RescaleSlope="1", RescaleIntercept="-1024"),
}


def pixels_of(data: bytes, name: str) -> np.ndarray:
    """As float32, by Pillow and pydicom alone."""
    if name.endswith(".dcm"):
        dataset = pydicom.dcmread(BytesIO(data))
        stored = dataset.pixel_array.astype(np.float32)
        return stored * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)
    shown = Image.open(BytesIO(data)).convert("RGBA")
    black = Image.new("RGBA", shown.size, "black")
    shown = Image.alpha_composite(black, shown)
    return np.asarray(ImageOps.grayscale(shown.convert("RGB"))).astype(np.float32)


def content_of(pixels: np.ndarray, unit: str) -> str:
    kinds = (np.uint8, np.int16, np.float32)
    fitting = [kind for kind in kinds if kind is np.float32 or _holds(kind, pixels)]
    head = f"{pixels.shape[0]}x{pixels.shape[1]} {unit} {np.dtype(fitting[0]).name}\n".encode()
    return hashlib.sha256(head + pixels.astype(fitting[0]).tobytes()).hexdigest()


def _holds(kind: type, pixels: np.ndarray) -> bool:
    ends = np.iinfo(kind)
    return bool(((pixels >= ends.min) & (pixels <= ends.max) & (pixels % 1 == 0)).all())


def plane_of(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    height, width = pixels.shape
    rows = resize_matrix(height, SIZE) @ np.clip(pixels, low, high)
    levels = (resize_matrix(width, SIZE) @ np.ascontiguousarray(rows.T)).T
    return np.rint((levels - np.float32(low)) * np.float32(255 / (high - low))).astype(np.uint8)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("window", ["brain", "subdural", "80/40.5"])
def test_content_and_plane_are_those_of_the_long_way(tmp_path: Path, name: str, window: str):
    (tmp_path / name).write_bytes(FILES[name])
    pixels = pixels_of(FILES[name], name)
    how = replace(Preprocessing.for_window(window), size=SIZE)
    low, high = 0.0, 255.0
    if name.endswith(".dcm"):
        low, high = (
            how.window_centre_hu - how.window_width_hu / 2,
            how.window_centre_hu + how.window_width_hu / 2,
        )
    with SliceReader(1) as read:
        found = Decoder(how, lambda _: (0,), read)(tmp_path / name)
    assert found.content == content_of(pixels, "HU" if name.endswith(".dcm") else "gray")
    np.testing.assert_array_equal(found.planes[0], plane_of(pixels, low, high))


def test_a_16_bit_picture_too(tmp_path: Path):
    deep = gray_picture(3, (50, 40)).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with SliceReader(1) as read:
        found = Decoder(Preprocessing(size=SIZE), lambda _: (0,), read)(tmp_path / "deep.png#unit=gray")
    pixels = deep.astype(np.float32) / np.float32(65535 / 255)
    assert found.content == content_of(pixels, "gray")
    np.testing.assert_array_equal(found.planes[0], plane_of(pixels, 0, 255))
