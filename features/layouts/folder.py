"""What lies in a data folder: slices to be, tables, masks, and files that are none of these."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from haemo.cache import cache_directory
from haemo.errors import BadDataset, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.layouts.archive import ARCHIVE_SUFFIXES, is_archive, unpack
from haemo.features.layouts.table import TABLE_SUFFIXES
from haemo.features.pixels.masks import is_mask_beside
from haemo.features.reading.address import file_of, place_in_order
from haemo.features.reading.dicom_format import SUFFIXES, starts_like_dicom
from haemo.features.reading.format import suffix_of
from haemo.features.reading.formats import by_suffix, format_names, may_hold_several, slices_in
from haemo.progress import Progress, silent

__all__ = ["Folder", "any_format"]

_OTHER_IMAGES = (
    *(".gif", ".webp", ".jp2", ".j2k", ".heic", ".avif", ".svs", ".jxl"),
    *(".hdr", ".img", ".npy", ".npz", ".rar", ".7z"),
)
_MASK_FOLDERS = ("mask", "masks")
# Where volumes are masks besides, as published sets and nnU-Net call it; pictures there may be slices.
_MASK_FOLDERS_OF_VOLUMES = (*_MASK_FOLDERS, "label", "labels", "labelstr", "ground truths", "ground_truths")
_NOT_SLICES = ("dicomdir", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Folder:
    """The files below a data folder, by kind, each kind sorted by path; archives in it are folders too.

    Hidden files and folders are passed over. Links are followed, each folder once.

    Attributes
    ----------
    root : Path
        Absolute.
    slices : list of Path
        Files with a suffix of a format that can be read, or DICOM by content where there is no suffix; of a
        volume each of its slices (``scans/049.nii.gz#12``).
    tables : list of Path
        CSV and TSV files and Excel workbooks, those nearest to the root first.
    masks : list of Path
        Pictures and volumes in folders called ``masks``, and volumes beside a scan that are called so.
    unpacked : dict of Path to Path
        Folders that archives were unpacked to -> where these lie in the data folder.
    others : list of Path
        Files that are left aside: notes, licences, scripts.
    failures : list of Failure
        Images of a kind that cannot be read as slices, broken links, and what is no regular file.
    """

    root: Path
    slices: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unpacked: dict[Path, Path] = field(default_factory=dict)

    @classmethod
    def scan(cls, root: Path, unpack_to: Path | None = None, progress: Progress = silent) -> "Folder":
        """List everything below `root`, which may be an archive; archives below it are folders too.

        Parameters
        ----------
        root : Path
        unpack_to : Path, optional
            Where archives are unpacked; by default a folder of haemo's cache.
        progress : Progress

        Raises
        ------
        BadDataset
            If there is no such folder, or it is an archive that cannot be unpacked.
        """
        root = Path(root).absolute()
        into = unpack_to or cache_directory() / "archives"
        failures: list[Failure] = []
        if root.is_file() and is_archive(root):
            root, failures = unpack(root, into, progress=progress)
        if not root.is_dir():
            what = f"is a file, not a folder or {any_archive()}" if root.exists() else "is not there"
            raise BadDataset(f"the data folder {root} {what}")
        folder = cls(root, failures=failures)
        folder._walk(root)
        for archive in folder._take_archives():
            try:
                place, failures = unpack(archive, into, progress=progress)
            except BadDataset as error:
                folder.failures.append(Failure(str(archive), "index", str(error)))
                continue
            folder.failures.extend(failures)
            folder.unpacked[place] = _free_place(archive)
            folder._walk(place)
        folder.slices.sort(key=place_in_order)
        folder.tables.sort(key=lambda path: (len(folder.parts_of(path)), path))
        return folder

    def _walk(self, root: Path) -> None:
        seen = set()
        for place, folders, names in os.walk(root, followlinks=True):
            identity = os.path.realpath(place)
            folders[:] = [] if identity in seen else sorted(n for n in folders if not _is_hidden(n))
            if identity not in seen:
                for name in sorted(names):
                    self._sort_in(Path(place, name))
            seen.add(identity)

    def _take_archives(self) -> list[Path]:
        """The archives that were found, which are then no longer files left aside."""
        archives = [path for path in self.others if is_archive(path)]
        self.others[:] = [path for path in self.others if not is_archive(path)]
        return archives

    def name_of(self, path: Path) -> str:
        """Path below the root with forward slashes; the whole path for a file that lies elsewhere.

        What lies in ``scans/p01.zip`` is called ``scans/p01/...``.
        """
        if self.unpacked:
            place = next((above for above in path.parents if above in self.unpacked), None)
            if place is not None:
                path = self.unpacked[place] / path.relative_to(place)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def parts_of(self, path: Path) -> tuple[str, ...]:
        """Folders below the root that a file lies in, from the top."""
        return PurePosixPath(self.name_of(path)).parts[:-1]

    @cached_property
    def dicom(self) -> list[Path]:
        """Those slices that are not pictures by their suffix."""
        return [path for path in self.slices if not _is_picture(path)]

    @cached_property
    def dicom_masks(self) -> list[Path]:
        """Those masks that are DICOM by their suffix."""
        return [path for path in self.masks if suffix_of(path) in SUFFIXES]

    @cached_property
    def pictures(self) -> list[Path]:
        """Those slices that are pictures by their suffix: of a format without tags."""
        return [path for path in self.slices if _is_picture(path)]

    def _slices_in(self, path: Path) -> list[Path]:
        try:
            return slices_in(path) if may_hold_several(path) else [path]
        except UnreadableSlice as error:
            self.failures.append(Failure(str(path), "index", str(error)))
            return []

    def _sort_in(self, path: Path) -> None:
        suffix = suffix_of(path)
        if _is_hidden(path.name):
            return
        if not path.is_file():
            reason = "a link that leads nowhere" if path.is_symlink() else "not a regular file"
            self.failures.append(Failure(str(path), "index", reason))
        elif suffix in by_suffix():
            is_volume = by_suffix()[suffix].open_volume is not None
            names = _MASK_FOLDERS_OF_VOLUMES if is_volume else _MASK_FOLDERS
            is_mask = any(part.lower() in names for part in self.parts_of(path))
            is_mask = is_mask or (is_volume and is_mask_beside(path))
            (self.masks if is_mask else self.slices).extend([path] if is_mask else self._slices_in(path))
        elif is_archive(path):
            self.others.append(path)
        elif suffix in TABLE_SUFFIXES:
            self.tables.append(path)
        elif suffix in _OTHER_IMAGES or suffix.endswith(".gz"):
            reason = f"files of type {suffix} are not read; save each slice as {any_format()}"
            self.failures.append(Failure(str(path), "index", reason))
        # Scanners name files without a suffix, or after a UID or number: IM000001, 1.2.840.113, scan.0042.
        elif suffix[1:].isdecimal() == bool(suffix) and _starts_like_dicom(path):
            self.slices.extend(self._slices_in(path))
        else:
            self.others.append(path)


def any_format() -> str:
    """Give what a slice may be, in words: ``PNG, JPEG, TIFF, BMP, DICOM, NIfTI, NRRD or MetaImage``."""
    *names, last = format_names()
    return f"{', '.join(names)} or {last}"


def any_archive() -> str:
    """Give what an archive may be, in words."""
    return f"an archive ({', '.join(ARCHIVE_SUFFIXES)})"


def _free_place(archive: Path) -> Path:
    """Where the files of an archive are said to lie: beside it, in a folder called as it is."""
    suffix = max((end for end in ARCHIVE_SUFFIXES if archive.name.lower().endswith(end)), key=len)
    place = archive.with_name(archive.name[: -len(suffix)] or archive.name)
    return archive if place.exists() else place


def _is_picture(path: Path) -> bool:
    format_ = by_suffix().get(suffix_of(file_of(path)))
    return format_ is not None and not format_.has_tags


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__", "~$")) or name.lower() in _NOT_SLICES


def _starts_like_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return starts_like_dicom(stream.read(132))
    except OSError:
        return False
