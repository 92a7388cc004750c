"""What a slice is called: its file, its number where that is a volume, and its unit where that was told.

``scans/049.nii.gz#12`` is the twelfth slice of a volume, in the order in which they are stored;
``scans/049.nii.gz#12&unit=hu+1024`` and ``001.dcm#unit=hu`` say besides what the numbers are, where the user
did so. Such a name is a path like any other, so that manifests, stores and predictions keep it.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from haemo.features.reading.unit import UNITS, Unit

__all__ = ["SliceAddress", "file_of", "place_in_order", "without_suffix"]

_UNITS = "|".join(map(re.escape, UNITS))
_END = re.compile(rf"(?s)(.+)#(?:([1-9]\d*)(?:&unit=({_UNITS}))?|unit=({_UNITS}))")


@dataclass(frozen=True, slots=True)
class SliceAddress:
    """The parts of what a slice is called.

    Attributes
    ----------
    file : Path
    number : int or None
        Which slice of a volume, from 1, as they are stored.
    unit : {'hu', 'hu+1024', 'gray'} or None
        What the numbers are, where the user said so. It counts where the file itself does not say it.
    """

    file: Path
    number: int | None = None
    unit: Unit | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "SliceAddress":
        """Take a path apart; a file that is really called so is a file."""
        path = path if isinstance(path, Path) else Path(path)
        match = _END.fullmatch(str(path)) if "#" in str(path) and "#" in path.name else None
        if match is None or path.exists():
            return cls(path)
        file, number, unit, alone = match.groups()
        return cls(Path(file), int(number) if number else None, unit or alone)

    @property
    def path(self) -> Path:
        """The whole as one path."""
        said = [str(self.number)] if self.number is not None else []
        said += [f"unit={self.unit}"] if self.unit is not None else []
        return Path(f"{self.file}#{'&'.join(said)}") if said else self.file

    @property
    def stem(self) -> str:
        """The name of the file without its suffix, and the number of the slice: for the names of pictures."""
        return (
            self.file.stem if self.number is None else f"{without_suffix(self.file).name}-{self.number:03d}"
        )

    def with_unit(self, unit: Unit | None) -> "SliceAddress":
        """Give the same slice, whose numbers are of this unit."""
        return replace(self, unit=unit)


def without_suffix(volume: Path) -> Path:
    """Give the name of a volume without its suffix, which may have two parts: ``scans/049``."""
    return volume.with_name(volume.stem.removesuffix(".nii"))


def place_in_order(path: Path) -> tuple[str, int]:
    """Sort slices by file, folder by folder as paths are, those of a volume by number: a key for `sorted`."""
    address = SliceAddress.of(path)
    # Paths compare their parts, one call of Python each time; no name has what stands for the separator here.
    return str(address.file).replace(os.sep, "\0"), address.number or 0


def file_of(path: str | os.PathLike[str]) -> Path:
    """Give the file in which a slice lies."""
    return SliceAddress.of(path).file
