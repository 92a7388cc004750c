"""One file, one slice: which reader takes a file, told by its content and not by its name."""

from pathlib import Path

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import Slice, SliceHeader

__all__ = ["read_header", "read_slice"]

_MAX_BYTES = 1 << 30
_SNIFFED = 132


def read_slice(path: Path) -> Slice:
    """Decode one file: PNG, JPEG, TIFF, BMP or DICOM, told apart by content and not by name.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Slice

    Raises
    ------
    UnreadableSlice
        If the file is missing, empty, damaged, too large, or not one gray or colour picture or CT slice.
        The message is the reason, without the path.
    """
    # The readers are imported late: Pillow and pydicom take longer to load than `haemo --help` may last.
    data = _bytes_of(path)
    if _is_dicom(data[:_SNIFFED], path):
        from haemo.features.reading.dicom import decode_dicom

        return decode_dicom(data)
    from haemo.features.reading.raster import decode_raster

    return decode_raster(data)


def read_header(path: Path) -> SliceHeader:
    """Read size, mode and identifiers of one file, decoding no pixels.

    A file that passes may still fail in `read_slice`: damage past the header shows only there.

    Raises
    ------
    UnreadableSlice
        As in `read_slice`.
    """
    _size_of(path)
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(_SNIFFED)
            stream.seek(0)
            if _is_dicom(start, path):
                from haemo.features.reading.dicom import read_dicom_header

                return read_dicom_header(stream)
            from haemo.features.reading.raster import read_raster_header

            return read_raster_header(stream)
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _size_of(path: Path) -> int:
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise UnreadableSlice("the file is empty")
    if size > _MAX_BYTES:
        raise UnreadableSlice(f"{size / 1e9:.1f} GB is too large for one slice")
    return size


def _bytes_of(path: Path) -> bytes:
    _size_of(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _is_dicom(start: bytes, path: Path) -> bool:
    """Tell DICOM by its magic word, or by the first tag where a file begins without a preamble."""
    if start[128:132] == b"DICM":
        return True
    # Files from before part 10 of the standard begin with group 0002 or 0008, in either byte order.
    bare = start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02")
    return bare and Path(path).suffix.lower() in ("", ".dcm", ".dicom", ".ima")
