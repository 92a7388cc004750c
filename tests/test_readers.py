"""File formats of plug-ins: found in folders, read by content or suffix, and held to what a slice must be."""

import logging

import numpy as np
import pytest
from cohorts import gray_picture
from PIL import Image
from plugins import lay_down, looked_up_anew

from haemo.errors import UnreadableSlice
from haemo.features.layouts import index_dataset
from haemo.features.reading import formats
from haemo.features.reading.formats import format_names, read_header, read_slice

PLAIN = """
import numpy as np
from haemo.errors import UnreadableSlice
from haemo.features.reading.format import Format
from haemo.features.reading.slice import Slice

def decode(data):
    magic, width, height, highest, levels = data.split(maxsplit=4)
    if len(levels) < int(width) * int(height):
        raise UnreadableSlice("the file is cut short")
    levels = np.frombuffer(levels, np.uint8).reshape(int(height), int(width))
    return Slice(levels.astype(np.float32), is_hu=False, mode="PGM")

def decode_raw(data):
    side = int(len(data) ** 0.5)
    values = np.frombuffer(data, np.int8)
    return Slice(values.reshape(side, side).astype(np.float32), is_hu=False, mode="RAW")

PGM = Format(names=("PGM",), suffixes=(".pgm",), starts=(b"P5",), decode=decode)
RAW = Format(names=("RAW",), suffixes=(".raw",), decode=decode_raw)
"""
LEVELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def pgm(path, levels=LEVELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P5 %d %d 255\n" % levels.shape[::-1] + levels.tobytes())
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray_picture(1)).save(path)
    return path


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    def installed(module, text, points):
        site = tmp_path_factory.mktemp("site")
        lay_down(site, module.replace("_", "-"), {module: text}, points, "haemo.readers")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setattr(formats, "FORMATS", looked_up_anew(formats.FORMATS))

    return installed


@pytest.fixture
def plain(install):
    install("plain_formats", PLAIN, {"pgm": "plain_formats:PGM", "raw": "plain_formats:RAW"})


@pytest.mark.usefixtures("plain")
def test_a_format_of_a_plugin_is_indexed_and_read(tmp_path):
    pgm(tmp_path / "bleed" / "a.pgm")
    picture(tmp_path / "normal" / "b.png")
    index = index_dataset(tmp_path)
    assert index.layout == "class-folders"
    assert [(row.slice_id, row.label) for row in index.manifest] == [
        ("bleed/a.pgm", "bleed"),
        ("normal/b.png", "normal"),
    ]
    assert index.modes["PGM"] == 1
    np.testing.assert_array_equal(read_slice(tmp_path / "bleed" / "a.pgm").pixels, LEVELS)
    assert read_header(tmp_path / "bleed" / "a.pgm").size == (3, 4)


@pytest.mark.usefixtures("plain")
def test_content_goes_before_suffix_and_what_is_built_in_before_plugins(tmp_path):
    square = pgm(tmp_path / "a.pgm").rename(tmp_path / "a.png")
    assert read_slice(square).mode == "PGM"
    assert read_slice(picture(tmp_path / "b.png").rename(tmp_path / "b.raw")).mode.startswith("PNG")
    (tmp_path / "c.raw").write_bytes(bytes(range(9)))
    assert read_slice(tmp_path / "c.raw").pixels.shape == (3, 3)
    (tmp_path / "c.raw").rename(tmp_path / "c.other")
    assert format_names() == [
        "PNG",
        "JPEG",
        "TIFF",
        "BMP",
        "PGM",
        "RAW",
        "DICOM",
        "NIfTI",
        "NRRD",
        "MetaImage",
    ]
    with pytest.raises(UnreadableSlice, match="the content is neither PNG, JPEG, TIFF, BMP, PGM, RAW, DI"):
        read_slice(tmp_path / "c.other")


@pytest.mark.usefixtures("plain")
def test_a_plugin_is_held_to_what_a_slice_must_be(tmp_path):
    pgm(tmp_path / "short.pgm").write_bytes(b"P5 4 3 255\n123")
    (tmp_path / "odd.raw").write_bytes(bytes(5))
    (tmp_path / "negative.raw").write_bytes(b"\xf0" * 9)
    for name, reason in (
        ("short.pgm", "^the file is cut short$"),
        ("odd.raw", r"^the reader 'raw' failed \(ValueError: cannot reshape"),
        ("negative.raw", r"^the reader 'raw' failed \(ValueError: gray levels from -16 to -16, not within"),
    ):
        with pytest.raises(UnreadableSlice, match=reason):
            read_slice(tmp_path / name)


def test_a_broken_plugin_leaves_the_other_formats_alone(tmp_path, install, caplog):
    install("broken_formats", "import nowhere_to_be_found", {"pgm": "broken_formats:PGM"})
    with caplog.at_level(logging.WARNING, "haemo"):
        assert read_slice(picture(tmp_path / "b.png")).mode.startswith("PNG")
    assert "left out: the file format 'pgm' of broken-formats 1.2 cannot be loaded" in caplog.text
