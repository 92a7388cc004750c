"""Enhanced CT as a format: how its files are known. What reads them is imported when the first one is met."""

from pathlib import Path

from haemo.features.reading.dicom_format import SUFFIXES
from haemo.features.reading.format import Format, only_by_number
from haemo.features.reading.volume import Volume

__all__ = ["ENHANCED"]

# Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage, in the first bytes of a file.
_CLASSES = (b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.2.2")


def _open(path: Path) -> Volume:
    from haemo.features.reading.volumes.enhanced import EnhancedVolume

    return EnhancedVolume(path)


def _sniff(start: bytes, suffix: str) -> bool:
    del suffix
    return start[128:132] == b"DICM" and any(one in start for one in _CLASSES)


ENHANCED = Format(
    names=(),
    suffixes=SUFFIXES,
    decode=only_by_number,
    sniff=_sniff,
    has_tags=True,
    open_volume=_open,
)
