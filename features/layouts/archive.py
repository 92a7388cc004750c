"""Archives as they come out of PACS and from Kaggle (.zip, .tar.gz), unpacked to be read as folders.

An archive is a stranger's file: what it unpacks to is counted as it is written and not as it declares, no
name leads out of its folder, and nothing but regular files is made.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from haemo.atomic import write_text
from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.progress import Progress, silent

__all__ = ["ARCHIVE_SUFFIXES", "Limits", "is_archive", "unpack"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_CHUNK = 1 << 20
# tarfile holds what it reads at once in memory: names and comments, which a bomb makes gigabytes long.
_MOST_AT_ONCE = 1 << 24
# The list of files of a zip archive is read at once.
_MOST_LIST_BYTES = 1 << 26
_PASSED_OVER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_RECORD = ".archive"
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


@dataclass(frozen=True)
class Limits:
    """What one archive may unpack to.

    Attributes
    ----------
    files : int
    bytes, bytes_a_file : int
    ratio : int
        Of what is unpacked to the archive, past the first `free` bytes.
    free : int
    """

    files: int = 1_000_000
    bytes: int = 1 << 40
    bytes_a_file: int = 1 << 32
    ratio: int = 200
    free: int = 1 << 28


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(
    archive: Path, into: Path, limits: Limits | None = None, progress: Progress = silent
) -> tuple[Path, list[Failure]]:
    """Unpack an archive into a folder of its own; one that is there already, of the same archive, is used.

    Parameters
    ----------
    archive : Path
    into : Path
        Folder that the new one is made in.
    limits : Limits, optional
    progress : Progress

    Returns
    -------
    folder : Path
        Made whole or not at all.
    failures : list of Failure
        What was left out: links, names that lead elsewhere, damaged or encrypted files.

    Raises
    ------
    BadDataset
        If it is no such archive, passes a limit, holds nothing that can be unpacked, or there is no room.
    """
    archive = Path(archive).absolute()
    try:
        status = archive.stat()
    except OSError as error:
        raise BadDataset(f"{archive} cannot be read: {error.strerror or error}") from error
    record = f"{archive}\n{status.st_size} {status.st_mtime_ns}\n"
    folder = _folder_for(archive, into, record)
    if folder.exists():
        return folder, _failures_of(folder)
    building = into / f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        building.mkdir(parents=True)
        work = _Unpacking(archive, building, status.st_size, limits or Limits())
        for _ in progress(work.run(), label=f"unpacking {archive.name}"):
            pass
        if not work.files:
            first = f": {work.failures[0].path}: {work.failures[0].reason}" if work.failures else ""
            raise BadDataset(f"{archive} holds no file that can be unpacked{first}")
        lines = "".join(f"{failure.path}\t{failure.reason}\n" for failure in work.failures)
        write_text(building / _RECORD, record + lines)
        building.replace(folder)
    except OSError as error:
        raise BadDataset(f"{archive} cannot be unpacked into {into}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder, work.failures


def _folder_for(archive: Path, into: Path, record: str) -> Path:
    """A name in `into` that is free, or of the same archive as it was unpacked before."""
    name = re.sub(r"(?i)\.(zip|tgz|tar(\.\w+)?)$", "", archive.name) or "archive"
    number = 1
    while True:
        folder = into / (name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _record_of(folder).startswith(record):
            return folder
        number += 1


def _record_of(folder: Path) -> str:
    try:
        return (folder / _RECORD).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _failures_of(folder: Path) -> list[Failure]:
    lines = (line.rpartition("\t") for line in _record_of(folder).splitlines()[2:])
    return [Failure(path, "index", reason) for path, _, reason in lines]


class _Unpacking:
    """One archive on its way to the disk, and what it has taken so far."""

    def __init__(self, archive: Path, folder: Path, size: int, limits: Limits):
        self.archive, self.folder, self.size, self.limits = archive, folder, size, limits
        self.files = self.bytes = 0
        self.failures: list[Failure] = []
        room = shutil.disk_usage(folder).free - limits.free
        self.most = min(limits.bytes, max(room, 0))

    def run(self) -> Iterator[None]:
        """Unpack, and give a turn a file."""
        try:
            is_zip = zipfile.is_zipfile(self.archive)
            yield from self._zip() if is_zip else self._tar()
        except BadDataset:
            raise
        # Both parsers raise whatever damaged bytes lead to; each means the same here.
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            said = " ".join(str(error).split()) or type(error).__name__
            if not self.files:
                raise BadDataset(
                    f"{self.archive} is damaged, cut short or no archive ({said}); fetch it again"
                ) from error
            self._fail("", f"is damaged or cut short after {self.files:,} files ({said}); fetch it again")

    def _zip(self) -> Iterator[None]:
        if _list_bytes(self.archive) > _MOST_LIST_BYTES:
            raise BadDataset(f"{self.archive} lists more files than haemo unpacks; unpack it yourself")
        with zipfile.ZipFile(self.archive) as archive:
            for entry in archive.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if entry.is_dir():
                    continue
                if kind not in (0, stat.S_IFREG):
                    self._fail(entry.filename, "a link or device in an archive")
                elif entry.flag_bits & 1:
                    self._fail(entry.filename, "is encrypted; unpack the archive with its password first")
                else:
                    try:
                        with archive.open(entry) as stream:
                            self._write(entry.filename, cast("BinaryIO", stream))
                    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
                        self._fail(entry.filename, f"is damaged or packed in an unknown way ({error})")
                    yield

    def _tar(self) -> Iterator[None]:
        with (
            self.archive.open("rb") as raw,
            _opened(raw) as plain,
            tarfile.open(fileobj=cast("BinaryIO", _Watched(plain, self)), mode="r:") as archive,
        ):
            for entry in archive:
                archive.members = []  # it would keep every one that it gave
                if entry.isdir():
                    continue
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    self._fail(entry.name, "a link or device in an archive")
                    continue
                self._write(entry.name, cast("BinaryIO", stream))
                yield

    def _write(self, name: str, stream: BinaryIO) -> None:
        parts = _safe_parts(name)
        if parts is None:
            self._fail(name, "its name leads out of the archive")
            return
        if any(part in _PASSED_OVER for part in parts) or parts[-1] == _RECORD:
            return
        target = self.folder.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            out = target.open("xb")
        except (FileExistsError, NotADirectoryError):
            self._fail(name, "another file in the archive has its name")
            return
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            self._fail(name, f"cannot be written: {error.strerror}")
            return
        try:
            with out:
                self._copy(name, stream, out)
        except BaseException:
            target.unlink()
            raise
        self.files += 1
        if self.files > self.limits.files:
            raise self.bomb(f"it holds more than {self.limits.files:,} files")

    def _copy(self, name: str, stream: BinaryIO, out: BinaryIO) -> None:
        written = 0
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            if written > self.limits.bytes_a_file:
                raise self.bomb(f"{name} unpacks to more than {self.limits.bytes_a_file:,} bytes")
            self._count(len(chunk))
            out.write(chunk)

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.most:
            raise self.bomb(f"it unpacks to more than {self.most:,} bytes, which is all the room there is")
        self.check_ratio(self.bytes)

    def check_ratio(self, unpacked: int) -> None:
        """Stop where the archive is larger inside than anything that is worth packing.

        Raises
        ------
        BadDataset
        """
        if unpacked > max(self.limits.free, self.limits.ratio * self.size):
            raise self.bomb(f"it unpacks to more than {self.limits.ratio} times its size")

    def bomb(self, what: str) -> BadDataset:
        """The refusal of an archive that passes a limit."""
        return BadDataset(
            f"{self.archive} is refused: {what}. If that is right, unpack it and index the folder"
        )

    def _fail(self, name: str, reason: str) -> None:
        shown = " ".join(name.split("\t")).replace("\n", " ").replace("\r", " ")
        self.failures.append(
            Failure(f"{self.archive}/{shown}" if shown else str(self.archive), "index", reason)
        )


class _Watched:
    """An unpacked tar stream for tarfile, with bounds on what is read at once and passed over."""

    def __init__(self, stream: BinaryIO, work: _Unpacking):
        self._stream, self._work = stream, work

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise self._work.bomb(f"a name or comment in it takes {size:,} bytes")
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        # What is passed over is unpacked as well, if not written.
        self._work.check_ratio(place)
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


def _opened(raw: BinaryIO) -> BinaryIO:
    """The tar stream in a file, by its first bytes."""
    import bz2
    import gzip
    import lzma

    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if start.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(raw))
    if start.startswith(b"\xfd7zXZ"):
        return cast("BinaryIO", lzma.LZMAFile(raw))
    return raw


def _safe_parts(name: str) -> tuple[str, ...] | None:
    """A name in an archive as parts of a path; None where it would lead elsewhere."""
    name = name.replace("\\", "/")
    parts = tuple(part for part in PurePosixPath(name).parts if part != ".")
    is_bad = not parts or name.startswith("/") or ".." in parts or "\0" in name
    return None if is_bad or re.match(r"[A-Za-z]:", parts[0]) else parts


def _list_bytes(path: Path) -> int:
    """How long a zip archive says that its list of files is."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65557))
        tail = stream.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or end + 16 > len(tail):
            return 0
        (length,) = struct.unpack_from("<I", tail, end + 12)
        locator = tail.rfind(b"PK\x06\x07", 0, end)
        if length == 0xFFFFFFFF and locator >= 0:
            stream.seek(struct.unpack_from("<Q", tail, locator + 8)[0])
            record = stream.read(56)
            length = struct.unpack_from("<Q", record, 40)[0] if record.startswith(b"PK\x06\x06") else length
        return length
