"""What a file format says of itself: how its files are known, and how their bytes become a slice."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import Slice, SliceHeader, Unitless
from haemo.features.reading.volume import Volume

__all__ = ["Format", "only_by_number", "suffix_of"]


def suffix_of(path: Path) -> str:
    """The suffix of a file name in lower case, with the one before where it is that of a packed file."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def only_by_number(data: bytes) -> Slice:
    """Refuse to decode a file that is no slice but holds several: the `decode` of volumes."""
    del data
    raise UnreadableSlice("a volume: name one of its slices, the first as FILE#1")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format, or several that one reader reads.

    Attributes
    ----------
    names : tuple of str
        As people call it, for messages: ``("PNG", "JPEG")``.
    suffixes : tuple of str
        Of file names, in lower case with the dot: files called so are taken for slices when a folder is
        searched. Which format reads a file is told by its content.
    decode : callable
        Takes the whole file as bytes and gives its `Slice`, or `Unitless` pixels where the file does not say
        what its numbers are; raises `UnreadableSlice` with the reason, without the path, where there is none.
    read_header : callable, optional
        Takes the opened file and gives its `SliceHeader`, raising as `decode` does; without it the whole file
        is decoded for that.
    starts : tuple of bytes
        Each may stand at the start of a file of the format.
    sniff : callable, optional
        Takes the first 1,024 bytes and the suffix in lower case, and says whether the file is of the format,
        where `starts` cannot say it. A format with neither has every file with one of its suffixes that no
        other format knows.
    has_tags : bool
        Whether its headers say patient, study and position (`DicomTags`). Folders of such files are taken for
        patients and studies rather than for classes.
    open_volume : callable, optional
        Takes the path of a file that holds several slices and gives its `Volume`, raising as `decode` does.
        Such a file has no slice of its own.
    data_file : callable, optional
        Takes the path of a header whose voxels may lie in another file, and gives the path of that; raises as
        `decode` does.
    """

    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    decode: Callable[[bytes], Slice | Unitless]
    read_header: Callable[[BinaryIO], SliceHeader] | None = None
    starts: tuple[bytes, ...] = ()
    sniff: Callable[[bytes, str], bool] | None = None
    has_tags: bool = False
    open_volume: Callable[[Path], Volume] | None = None
    data_file: Callable[[Path], Path] | None = None

    @property
    def by_content(self) -> bool:
        """Whether its files can be told by their first bytes."""
        return bool(self.starts or self.sniff)

    def knows(self, start: bytes, suffix: str) -> bool:
        """Whether a file with these first bytes and this suffix is of the format."""
        if self.sniff is not None:
            return self.sniff(start, suffix)
        return start.startswith(self.starts) if self.starts else suffix in self.suffixes

    def header(self, stream: BinaryIO) -> SliceHeader:
        """Read the header as `read_header` does, or else from the decoded file."""
        if self.read_header is not None:
            return self.read_header(stream)
        decoded = self.decode(stream.read())
        return SliceHeader(decoded.pixels.shape, decoded.mode, unit_open=isinstance(decoded, Unitless))
