"""DICOM as a format: how its files are known. What reads them is imported when the first one is met."""

from typing import BinaryIO

from haemo.features.reading.format import Format
from haemo.features.reading.slice import Slice, SliceHeader, Unitless

__all__ = ["DICOM", "SUFFIXES", "starts_like_dicom"]

SUFFIXES = (".dcm", ".dicom", ".ima")
_FIRST_TYPES = (b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"OB")


# pydicom takes longer to load than all of a folder of pictures takes to be indexed.
def _decode(data: bytes) -> Slice | Unitless:
    from haemo.features.reading.dicom import decode_dicom

    return decode_dicom(data)


def _read_header(stream: BinaryIO) -> SliceHeader:
    from haemo.features.reading.dicom import read_dicom_header

    return read_dicom_header(stream)


def starts_like_dicom(start: bytes) -> bool:
    """Tell DICOM where the name says nothing, by the first 132 bytes, with or without preamble."""
    if start[128:132] == b"DICM":
        return True
    # Without it, the first element is of group 0002 or 0008: with its type, or with a small length.
    is_short = start[4:6] in _FIRST_TYPES or start[6:8] == b"\0\0"
    return start[:2] in (b"\x08\x00", b"\x02\x00") and start[2:4] <= b"\x20\x00" and is_short


def _sniff(start: bytes, suffix: str) -> bool:
    """Tell DICOM by its magic word, or by the first tag where a file begins without a preamble."""
    if start[128:132] == b"DICM":
        return True
    # Files from before part 10 of the standard begin with group 0002 or 0008, in either byte order.
    bare = start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02")
    return bare and (suffix in SUFFIXES or starts_like_dicom(start) or not suffix)


DICOM = Format(
    names=("DICOM",),
    suffixes=SUFFIXES,
    decode=_decode,
    read_header=_read_header,
    sniff=_sniff,
    has_tags=True,
)
