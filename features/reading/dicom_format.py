"""DICOM as a format: how its files are known. What reads them is imported when the first one is met."""

from typing import BinaryIO

from haemo.features.reading.format import Format
from haemo.features.reading.slice import Slice, SliceHeader

__all__ = ["DICOM"]

_SUFFIXES = (".dcm", ".dicom", ".ima")


# pydicom takes longer to load than all of a folder of pictures takes to be indexed.
def _decode(data: bytes) -> Slice:
    from haemo.features.reading.dicom import decode_dicom

    return decode_dicom(data)


def _read_header(stream: BinaryIO) -> SliceHeader:
    from haemo.features.reading.dicom import read_dicom_header

    return read_dicom_header(stream)


def _sniff(start: bytes, suffix: str) -> bool:
    """Tell DICOM by its magic word, or by the first tag where a file begins without a preamble."""
    if start[128:132] == b"DICM":
        return True
    # Files from before part 10 of the standard begin with group 0002 or 0008, in either byte order.
    bare = start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02")
    return bare and suffix in ("", *_SUFFIXES)


DICOM = Format(
    names=("DICOM",),
    suffixes=_SUFFIXES,
    decode=_decode,
    read_header=_read_header,
    sniff=_sniff,
    has_tags=True,
)
