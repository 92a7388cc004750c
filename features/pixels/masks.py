"""True masks of bleeds: found beside the slices or in a folder, read, and described."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.address import SliceAddress, file_of
from haemo.features.reading.format import suffix_of
from haemo.features.reading.formats import open_volume
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice, check_size
from haemo.tables import read_rows

__all__ = [
    "LARGE_MM2",
    "TrueMasks",
    "decode_mask",
    "find_mask",
    "is_mask_beside",
    "mask_png",
    "mask_values",
    "read_mask",
    "subtypes",
]

LARGE_MM2 = 100.0
"""Area above which figures of bleeds are given by themselves."""

_FOLDER = "masks"
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# What published sets, and nnU-Net, call the folders of masks that are volumes.
_FOLDERS_OF_VOLUMES = (_FOLDER, "mask", "label", "labels", "labelsTr", "ground truths", "ground_truths")
# 001_mask.nii.gz beside 001.nii.gz, or mask.nii.gz beside the only other one.
_CALLED_MASK = re.compile(
    r"(?i)(?:(.+)[_\-. ])?(?:masks?|seg|segmentation|label|labelmap|lesion|roi|gt|ground_?truth|annotation)"
)
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class TrueMasks:
    """Where the masks of slices are.

    Attributes
    ----------
    folder : Path or None
        Where to look for them; None looks beside the slices.
    own : mapping of str to Path
        Those that a run keeps, by slice id. They go before what lies beside the slices.
    """

    folder: Path | None = None
    own: Mapping[str, Path] = field(default_factory=dict)

    def of(self, slice_id: str, path: Path) -> Path | None:
        """Give the mask of a slice; None where there is none."""
        if self.folder is None and slice_id in self.own:
            return self.own[slice_id]
        return find_mask(path, self.folder)


def find_mask(path: Path, folder: Path | None = None) -> Path | None:
    """The mask of a slice: a PNG of the same name, in the same place below the mask folder.

    The mask of a slice of a volume is the slice of the same number of a volume of the same name; that may
    also lie in a folder ``masks``, ``labels``, ``ground truths`` or the like beside the folder of the scans,
    or beside the scan under a name that says so (`is_mask_beside`).

    Parameters
    ----------
    path : Path
        The slice, for instance ``DATA/P0001/003.dcm``.
    folder : Path, optional
        Where the masks are: ``folder/P0001/003.png`` or ``folder/003.png``. None looks for a folder ``masks``
        beside the slice and beside each folder above it.

    Returns
    -------
    Path or None
        None where there is no such file.
    """
    if folder is None:
        places = [above / _FOLDER / path.relative_to(above) for above in path.parents]
        places += [path.parents[1] / _FOLDER / path.name] if len(path.parents) > 1 else []
    else:
        parts = path.parts[1:]
        places = [folder / Path(*parts[start:]) for start in range(len(parts))]
    address = SliceAddress.of(path)
    if address.number is not None and folder is None:
        near = path.parents[:3]
        places += [above / name / path.name for above in near for name in _FOLDERS_OF_VOLUMES]
    for place in places:
        if address.number is None:
            masks = [place.with_suffix(".png")]
        else:
            stem = address.file.name.removesuffix(suffix_of(address.file))
            # nnU-Net numbers the channels of a scan, and not its mask.
            stems = dict.fromkeys((stem, stem.removesuffix("_0000")))
            masks = [
                SliceAddress(place.with_name(f"{name}{suffix}"), address.number).path
                for name in stems
                for suffix in _VOLUMES
            ]
        for mask in masks:
            if mask != path and file_of(mask).is_file():
                return mask
    beside = _mask_beside(address.file) if address.number and folder is None else None
    return SliceAddress(beside, address.number).path if beside else None


def is_mask_beside(path: Path) -> bool:
    """Whether a volume is, by its name, a mask of another one in its folder.

    ``001_mask.nii.gz`` is one of ``001.nii.gz``, and ``mask.nii.gz`` of the only scan there is beside it; so
    are ``seg``, ``label``, ``lesion``, ``roi``, ``gt`` and the like.
    """
    try:
        return path in _are_beside(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return False


def _mask_beside(scan: Path) -> Path | None:
    """The mask that lies beside a scan."""
    try:
        return _beside(scan.parent, scan.parent.stat().st_mtime_ns).get(scan)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _are_beside(folder: Path, changed_ns: int) -> frozenset[Path]:
    return frozenset(_beside(folder, changed_ns).values())


@lru_cache(maxsize=64)
def _beside(folder: Path, changed_ns: int) -> Mapping[Path, Path]:
    del changed_ns  # another list of files is another question
    volumes = {
        path: path.name[: -len(suffix)]
        for path in sorted(folder.iterdir())
        if (suffix := suffix_of(path)) in _VOLUMES and not path.name.startswith(".")
    }
    called = {path: match for path, stem in volumes.items() if (match := _CALLED_MASK.fullmatch(stem))}
    scans = [path for path in volumes if path not in called]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for scan in scans:
        by_name[volumes[scan]].append(scan)
    found: dict[Path, Path] = {}
    for mask, match in called.items():
        own = by_name.get(match[1], []) if match[1] else scans
        if len(own) == 1:
            found.setdefault(own[0], mask)
    return found


def read_mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask: True where any channel but alpha is not 0, or a voxel is not.

    Raises
    ------
    UnreadableSlice
        If it cannot be read, or has another shape than its slice.
    """
    address = SliceAddress.of(path)
    mask = _of_picture(path) if address.number is None else mask_values(path) != 0
    if mask.shape != tuple(shape):
        raise UnreadableSlice(
            f"the mask {path} has {mask.shape[0]} x {mask.shape[1]} pixels, its slice {shape[0]} x {shape[1]}"
        )
    return mask


def _of_picture(path: Path) -> np.ndarray:
    try:
        return read_guarded(path, decode_mask).pixels != 0
    except UnreadableSlice as error:
        raise UnreadableSlice(f"the mask {path} cannot be read ({error})") from error


def decode_mask(path: Path) -> Slice:
    """Read a mask in a picture as a slice that is 255 where any channel but alpha is not 0.

    Raises
    ------
    UnreadableSlice
        If it cannot be read, or is too large.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            check_size(image.height, image.width)
            is_blood = np.asarray(image.convert("RGB")).any(axis=2)
    except UnreadableSlice:
        raise
    # Pillow's parsers raise whatever a broken byte leads to.
    except Exception as error:
        raise UnreadableSlice(str(error)) from error
    return Slice(np.where(is_blood, np.float32(255), np.float32(0)), is_hu=False)


def mask_png(mask: np.ndarray) -> bytes:
    """Give a mask as the bytes of a PNG file, white where it is set."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def mask_values(path: Path) -> np.ndarray:
    """Read one slice of a mask in a volume, turned as its scan is.

    Returns
    -------
    ndarray of shape (height, width)
        Values as they are stored; 0 is no bleed.

    Raises
    ------
    UnreadableSlice
        If it cannot be read.
    """
    try:
        return read_guarded(path, decode_values).pixels
    except UnreadableSlice as error:
        raise UnreadableSlice(f"the mask {path} cannot be read ({error})") from error


def decode_values(path: Path) -> Slice:
    """Read one slice of a mask in a volume, its values as they are stored.

    Raises
    ------
    UnreadableSlice
        If it cannot be read.
    """
    address = SliceAddress.of(path)
    volume = open_volume(address.file)
    values = volume.values(volume.checked(address.number or 0)).pixels
    return Slice(np.nan_to_num(values), is_hu=False)


def subtypes(paths: Iterable[Path]) -> dict[Path, str]:
    """Subtypes of bleeds by slice: the column ``subtype`` of each ``labels.csv`` in a folder above."""
    known: dict[Path, str] = {}
    seen: set[Path] = set()
    for path in paths:
        for above in path.parents:
            table = above / "labels.csv"
            if above in seen or not table.is_file():
                continue
            seen.add(above)
            rows = read_rows(table)
            _, headings = next(rows, (0, []))
            for _, fields in rows:
                entry = dict(zip(headings, fields, strict=False))
                if entry.get("path") and entry.get("subtype"):
                    known[above / entry["path"]] = entry["subtype"]
    return known
