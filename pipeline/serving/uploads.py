"""What a reader drops: files and archives, received within limits into the folder of a session."""

import re
import secrets
import zipfile
import zlib
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from haemo.errors import BadDataset, TooFewData
from haemo.features.failures import Failure
from haemo.features.reading.formats import by_suffix
from haemo.pipeline.serving.studies import Study, shown, sorted_into_studies

__all__ = ["Limits", "Meter", "Upload"]

_STAGE = "serve"
_CHUNK = 1 << 20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What a CD of a hospital or a Mac puts beside the slices, and nobody wants to hear of.
_ASIDE = ("dicomdir", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Limits:
    """How much one session may drop; archives count as what they unpack to."""

    file_bytes: int = 1 << 29
    session_bytes: int = 4 << 30
    files: int = 5000


@dataclass
class Meter:
    """What a session has dropped so far, held against its limits."""

    limits: Limits
    bytes: int = 0
    files: int = 0

    def count_file(self, name: str) -> None:
        """Count one more file; `BadDataset` if there are too many."""
        if self.files >= self.limits.files:
            raise BadDataset(
                f"{shown(name)}: more than {self.limits.files:,} files; drop fewer in one session"
            )
        self.files += 1

    def count_bytes(self, name: str, more: int, size: int) -> None:
        """Count `more` bytes of a file that has `size` by now; errors as `refuse`."""
        self.bytes += more
        self.refuse(name, size, self.bytes)

    def refuse(self, name: str, size: int, together: int) -> None:
        """Refuse a file by its size, and by that of all that its session dropped, with `BadDataset`."""
        if size > self.limits.file_bytes:
            raise BadDataset(f"{shown(name)}: more than the {self.limits.file_bytes >> 20:,} MB of a file")
        if together > self.limits.session_bytes:
            most = self.limits.session_bytes >> 20
            raise BadDataset(f"{shown(name)}: more than the {most:,} MB of a session; drop fewer, or end it")


@dataclass(eq=False)
class Upload:
    """One drop: its files are stored under numbers, and what they were called is kept beside.

    Parameters
    ----------
    folder : Path
        A folder of this upload alone.
    meter : Meter
        Of its session.
    """

    folder: Path
    meter: Meter
    key: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    files: list[tuple[Path, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    _folders: dict[str, Path] = field(default_factory=dict)

    def refuse_size(self, name: str, size: int) -> None:
        """Refuse a file by the size that it declares, before a byte of it is read; errors as `receive`."""
        self.meter.refuse(name, size, self.meter.bytes + size)

    async def receive(self, name: str, body: AsyncIterable[bytes]) -> None:
        """Store one file.

        Raises
        ------
        BadDataset
            If a limit is passed; the file is not kept.
        """
        with self._stored(name) as (stream, count):
            async for chunk in body:
                count(chunk)
                stream.write(chunk)

    def unpack(self) -> None:
        """Put the files of archives in their place; what an archive holds is told by content, as of files."""
        for path, name in list(self.files):
            with path.open("rb") as stream:
                start = stream.read(4)
            if start in _ZIP:
                self.files.remove((path, name))
                self._unzip(path, name)
                self.meter.bytes -= path.stat().st_size
                path.unlink()

    def studies(self) -> tuple[list[Study], list[Failure]]:
        """What was dropped, sorted into studies, and what of it cannot be used.

        Raises
        ------
        TooFewData
            If there is nothing that can be used; the message says of the first file why.
        """
        self.unpack()
        names = {path: name for name, path in self._folders.items()}
        files = sorted(self.files, key=lambda file: _natural(file[1]))
        studies, failures = sorted_into_studies(files, names | dict(files))
        failures = [*self.failures, *failures]
        if not studies:
            if not failures:
                raise TooFewData("nothing was dropped; drop DICOM files, pictures, or a zip archive of them")
            raise TooFewData(f"none of the files can be used; {failures[0].path}: {failures[0].reason}")
        return studies, failures

    def _unzip(self, path: Path, name: str) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and not _is_aside(entry.filename):
                        self._unzip_one(archive, entry, name)
        except zipfile.BadZipFile as error:
            self.failures.append(Failure(name, _STAGE, f"the archive is damaged or cut short ({error})"))

    def _unzip_one(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, archive_name: str) -> None:
        # A name in an archive may lead anywhere ("../../x"); it is shown, and never used as a path.
        inside = f"{archive_name}/{entry.filename}"
        if entry.flag_bits & 1:
            self.failures.append(Failure(shown(inside), _STAGE, "locked with a password; unpack it first"))
            return
        try:
            with archive.open(entry) as source, self._stored(inside) as (stream, count):
                for chunk in iter(lambda: source.read(_CHUNK), b""):
                    count(chunk)
                    stream.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            self.failures.append(Failure(shown(inside), _STAGE, f"cannot be unpacked ({error})"))

    @contextmanager
    def _stored(self, name: str) -> "Iterator[tuple[BinaryIO, Callable[[bytes], None]]]":
        """A new file, and what counts the bytes for it; it is kept if the block ends well."""
        self.meter.count_file(name)
        path = self._place(name)
        size = 0

        def count(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            self.meter.count_bytes(name, len(chunk), size)

        try:
            with path.open("xb") as stream:
                yield stream, count
        except BaseException:
            self.meter.bytes -= size
            path.unlink(missing_ok=True)
            raise
        self.files.append((path, shown(name)))

    def _place(self, name: str) -> Path:
        """Where a file is stored: a numbered folder for each of its folders, and a number for itself."""
        pure = PurePosixPath(name.replace("\\", "/"))
        parent = "/".join(pure.parts[:-1])
        folder = self._folders.get(parent)
        if folder is None:
            folder = self._folders[parent] = self.folder / f"{len(self._folders):05}"
            folder.mkdir()
        # The suffix helps where content alone does not tell a format; one of those that are known, or none.
        known = max((one for one in by_suffix() if pure.name.lower().endswith(one)), key=len, default="")
        return folder / f"{self.meter.files:06}{known}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """For sorting: slice 2 before slice 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdecimal(), int(part[:18]) if part.isdecimal() else 0, part) for part in parts]


def _is_aside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(one.startswith((".", "__")) and one not in (".", "..") for one in parts)
    return not parts or hidden or parts[-1].lower() in _ASIDE
