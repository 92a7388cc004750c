"""True masks of bleeds: found beside the slices or in a folder, read, and described."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.tables import read_rows

__all__ = ["find_mask", "read_mask", "subtypes"]

_FOLDER = "masks"


def find_mask(path: Path, folder: Path | None = None) -> Path | None:
    """The mask of a slice: a PNG of the same name, in the same place below the mask folder.

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
        places = (above / _FOLDER / path.relative_to(above) for above in path.parents)
    else:
        parts = path.parts[1:]
        places = (folder / Path(*parts[start:]) for start in range(len(parts)))
    for place in places:
        mask = place.with_suffix(".png")
        if mask != path and mask.is_file():
            return mask
    return None


def read_mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask: True where any channel but alpha is not 0.

    Raises
    ------
    UnreadableSlice
        If it cannot be read, or has another shape than its slice.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            values = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UnreadableSlice(f"the mask {path} cannot be read ({error})") from error
    mask = values.any(axis=2)
    if mask.shape != tuple(shape):
        raise UnreadableSlice(
            f"the mask {path} has {mask.shape[0]} x {mask.shape[1]} pixels, its slice {shape[0]} x {shape[1]}"
        )
    return mask


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
