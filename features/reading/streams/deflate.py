"""The deflated data set of a DICOM file, inflated piece by piece and no further than a slice goes."""

import zlib
from io import BytesIO

from haemo.errors import UnreadableSlice

__all__ = ["inflated"]

_CHUNK_BYTES = 1 << 20


def inflated(data: bytes, most_bytes: int, before: bytes = b"") -> BytesIO:
    """Inflate a raw deflate stream (RFC 1951), and give it behind some other bytes.

    Raises
    ------
    UnreadableSlice
        If it becomes more than `most_bytes`.
    zlib.error
        If it is damaged.
    """
    inflater, plain = zlib.decompressobj(-zlib.MAX_WBITS), BytesIO()
    plain.write(before)
    while data and not inflater.eof:
        plain.write(inflater.decompress(data, _CHUNK_BYTES))
        data = inflater.unconsumed_tail
        if plain.tell() > most_bytes:
            raise UnreadableSlice(
                f"its deflated data set inflates to more than {most_bytes} bytes, too many for one slice"
            )
    if not inflater.eof:
        raise zlib.error("incomplete or truncated stream")
    plain.seek(0)
    return plain
