"""contents.csv: which decoded pixels stand behind each slice, so that a known file is not decoded again."""

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from haemo.atomic import MOST_IN_LINE, lines_of, read_text, sync_directory, write_text
from haemo.tables import csv_line, fields_of_line

__all__ = ["Contents", "KnownFile", "is_gone"]

_HEADER = "slice_id,path,size,mtime_ns,content,check\n"
# What the CRC-32 of a line with escaped line feeds covers beside its text, which tells it from the others.
_ESCAPED = "\n"
_BLOCK = 1 << 16  # bytes that are read at once from the end


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One file whose pixels have been hashed.

    Attributes
    ----------
    slice_id : str
    path : str
        Absolute path of the file when it was decoded.
    size : int
        In bytes; -1 where there is no file (imported embeddings).
    mtime_ns : int
        Time of last change, in nanoseconds since 1970; -1 where there is no file.
    content : str
        sha256 of the decoded pixels, 64 hexadecimal digits.
    """

    slice_id: str
    path: str
    size: int
    mtime_ns: int
    content: str

    def line(self) -> str:
        """The file as one line of contents.csv, which ends with the CRC-32 of what stands before it.

        Where a name holds a line feed, it is written as ``\\n`` and each backslash as two; the CRC-32 then
        covers the line's own end too, so that a backslash in any other line is just a backslash.
        """
        text = csv_line((self.slice_id, self.path, self.size, self.mtime_ns, self.content))
        if "\n" not in text:
            return f"{text},{_check(text)}\n"
        text = _one_line(text)
        return f"{text},{_check(text + _ESCAPED)}\n"


class Contents:
    """The known files, by path and by slice id.

    The file on disk is only appended to while slices are extracted, and written anew, in whole, at the end.
    It is a memory, not a source: a line that is torn, altered or lost costs one decoding and nothing else,
    because embeddings are found by content.

    Parameters
    ----------
    path : Path
        contents.csv; it need not exist.

    Attributes
    ----------
    path : Path
    unreadable : int
        Lines that were altered: no process of ours leaves such a line when it is killed.
    torn : bool
        Whether the last line is half a line, as a process leaves it that is killed while it writes.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._by_path: dict[str, KnownFile] = {}
        self._by_slice: dict[str, KnownFile] = {}
        self.torn, self.unreadable = False, 0
        for line in lines_of(self.path, "\n") if self.path.exists() else ():
            known = _parsed(line.removesuffix("\n"))
            if known:
                self._add(known)
            elif not line.endswith("\n") and len(line) < MOST_IN_LINE:
                self.torn = True  # by its nature it is the last one
            elif line not in ("\n", _HEADER):
                self.unreadable += 1

    def __iter__(self) -> Iterator[KnownFile]:
        return iter(self._by_slice.values())

    def __len__(self) -> int:
        return len(self._by_slice)

    def content_of(self, slice_id: str) -> str | None:
        """Content hash of a slice by its id, None where it is not known."""
        known = self._by_slice.get(slice_id)
        return known.content if known else None

    def recall(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Content hash of a file that has not changed since it was decoded, None where it has or is new."""
        known = self._by_path.get(path)
        return known.content if known and (known.size, known.mtime_ns) == (size, mtime_ns) else None

    def append(self, files: Iterable[KnownFile]) -> None:
        """Add files to memory and to the end of contents.csv, synced."""
        files = list(files)
        text = "".join(known.line() for known in files)
        new = not self.path.exists()
        if not new:
            _drop_torn_end(self.path)
        with self.path.open("a", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            # The last line may be whole and lack its end; a line of our own must not join it.
            stream.write("\n" if stream.tell() else _HEADER)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            sync_directory(self.path.parent)
        for known in files:
            self._add(known)

    def replace(self, files: Iterable[KnownFile], forget: Iterable[str] = ()) -> None:
        """Write contents.csv anew: `files` first, then what else was known, less the slices to `forget`.

        Nothing is written where the file says exactly that already.
        """
        files = list(files)
        settled = {known.slice_id for known in files} | set(forget)
        paths = {known.path for known in files}
        kept = [known for known in self if known.slice_id not in settled and known.path not in paths]
        self._by_path, self._by_slice = {}, {}
        for known in [*files, *kept]:
            self._add(known)
        text = _HEADER + "".join(known.line() for known in self)
        if not self.path.exists() or read_text(self.path) != text:
            write_text(self.path, text)

    def _add(self, known: KnownFile) -> None:
        self._by_slice[known.slice_id] = known
        if known.path:
            self._by_path[known.path] = known


def is_gone(path: Path) -> bool:
    """Whether there is no such file: not one that cannot be reached or read for another reason."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _parsed(line: str) -> KnownFile | None:
    """What a line says, without its end; None where it is torn, altered, empty or the heading."""
    text, _, check = line.rpartition(",")
    if check == _check(text + _ESCAPED):
        text = _many_lines(text)
    elif check != _check(text):
        return None
    try:
        slice_id, file_path, size, mtime_ns, content = fields_of_line(text)
        return KnownFile(slice_id, file_path, int(size), int(mtime_ns), content)
    except ValueError:
        return None


def _drop_torn_end(path: Path) -> None:
    """Cut off half a line that a process left which was killed: in the midst of others it would be damage."""
    with path.open("r+b") as stream:
        start = size = stream.seek(0, os.SEEK_END)
        end = b""
        while start and b"\n" not in end:
            start, before = max(0, start - _BLOCK), start
            stream.seek(start)
            end = stream.read(before - start) + end
        line = end[end.rfind(b"\n") + 1 :]
        if line and not _parsed(line.decode(errors="surrogateescape")):
            stream.truncate(size - len(line))


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _many_lines(text: str) -> str:
    return re.sub(r"\\([\\n])", lambda escape: {"n": "\n"}.get(escape[1], "\\"), text)


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='surrogateescape')):08x}"
