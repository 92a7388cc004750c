"""What a DICOM file says of the series it is of: how the pictures were made, and how they are called."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

__all__ = ["SERIES_ELEMENTS", "SeriesTags", "read_series_tags"]

_IMAGE_TYPE = 0x00080008
_SOP_CLASS_UID = 0x00080016
_DESCRIPTION = 0x0008103E
_CONTRAST_AGENT = 0x00180010
_KERNEL = 0x00181210
_NUMBER = 0x00200011
SERIES_ELEMENTS = (_IMAGE_TYPE, _SOP_CLASS_UID, _DESCRIPTION, _CONTRAST_AGENT, _KERNEL, _NUMBER)


@dataclass(frozen=True, slots=True)
class SeriesTags:
    """Tags of a series; empty text where the file does not say.

    Attributes
    ----------
    description : str
        Series Description: free text of the scanner or the site.
    number, kernel, contrast_agent, sop_class : str
    image_type : str
        Values of Image Type, with backslashes between them: ``ORIGINAL\\PRIMARY\\AXIAL``.
    """

    description: str = ""
    number: str = ""
    kernel: str = ""
    contrast_agent: str = ""
    sop_class: str = ""
    image_type: str = ""


class _Header(Protocol):
    def text(self, tag: int) -> str: ...


def read_series_tags(header: _Header) -> SeriesTags:
    """Read them; files of one series share one object."""
    return _shared(
        *(
            header.text(tag)
            for tag in (_DESCRIPTION, _NUMBER, _KERNEL, _CONTRAST_AGENT, _SOP_CLASS_UID, _IMAGE_TYPE)
        )
    )


@lru_cache(maxsize=4096)
def _shared(*values: str) -> SeriesTags:
    return SeriesTags(*values)
