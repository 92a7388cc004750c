"""What a DICOM file says of patient and scan beyond what a slice needs: read only when it is asked for."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.errors import UnreadableSlice
from haemo.features.reading.dicom_stream import read_elements
from haemo.features.reading.slice import damaged

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["TAGS", "dicom_attributes"]

TAGS = {
    "sex": (0x00100040,),
    "age": (0x00101010,),
    "scanner": (0x00080070, 0x00081090),
    "kernel": (0x00181210,),
    "thickness": (0x00180050,),
    "site": (0x00080080,),
}
"""Name of an attribute -> the tags that make its value, joined by a space."""

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def dicom_attributes(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Read attributes from the tags of one file, and no other tag.

    Parameters
    ----------
    path : Path
    names : iterable of str
        Keys of `TAGS`.

    Returns
    -------
    dict of str to str
        Sex as it stands there; age in whole years; thickness in mm; scanner as manufacturer and model. An
        empty text where the file does not say.

    Raises
    ------
    UnreadableSlice
        If the file cannot be parsed.
    """
    names = list(names)
    wanted = [tag for name in names for tag in TAGS[name]]
    try:
        with Path(path).open("rb") as stream:
            data = read_elements(stream, [*wanted, 0x00080005], stop_before_pixels=True)
            found = {tag: _text(data, tag) for tag in wanted}
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
    except UnreadableSlice:
        raise
    # Like every parser of hostile bytes, pydicom raises whatever they lead to; each means the same here.
    except Exception as error:
        raise damaged(error) from error
    return {name: _value(name, [found[tag] for tag in TAGS[name]]) for name in names}


def _text(data: "Dataset", tag: int) -> str:
    """The first value of one element from its raw bytes: nothing is validated, and nothing warns."""
    if tag not in data:
        return ""
    raw = data.get_item(tag).value
    raw = raw if isinstance(raw, bytes) else b""
    text = raw.strip(b" \x00").decode("utf-8", errors="replace").split("\\")[0]
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _value(name: str, texts: list[str]) -> str:
    text = " ".join(filter(None, texts))
    if name == "age":
        match = _AGE.fullmatch(text)
        return str(int(int(match[1]) / _PER_YEAR[match[2]])) if match else ""
    if name == "thickness":
        try:
            thickness = float(text)
        except ValueError:
            return ""
        return f"{thickness:g}" if 0 < thickness < 1000 else ""
    return text
