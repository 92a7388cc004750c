"""The contact sheet: what a cohort looks like, on one picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.atomic import replacing

__all__ = ["MOST_SAMPLES", "Sample", "write_contact_sheet"]

MOST_SAMPLES = 64
_COLUMNS = 8
_TILE = 256
_RED = (230, 60, 50)


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice for the sheet: gray levels and mask, both small, and its caption."""

    gray: np.ndarray
    mask: np.ndarray
    patient: str
    subtype: str
    area_mm2: float


def write_contact_sheet(path: Path, samples: list[Sample]) -> None:
    """Draw slices in rows of eight, the first 64, with the outline of the blood and a caption each."""
    from PIL import Image, ImageDraw

    shown = samples[:MOST_SAMPLES]
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * _TILE))
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(shown):
        place = (number % _COLUMNS * _TILE, number // _COLUMNS * _TILE)
        sheet.paste(Image.fromarray(_outlined(sample)).resize((_TILE, _TILE)), place)
        caption = f"{sample.patient} {sample.subtype or 'normal'}"
        draw.text(
            (place[0] + 4, place[1] + _TILE - 14), caption, fill=_RED if sample.subtype else (200, 200, 200)
        )
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _outlined(sample: Sample) -> np.ndarray:
    picture = np.repeat(sample.gray[..., None], 3, axis=2)
    mask = np.pad(sample.mask, 1)
    grown = sample.mask | mask[:-2, 1:-1] | mask[2:, 1:-1] | mask[1:-1, :-2] | mask[1:-1, 2:]
    picture[grown & ~sample.mask] = _RED
    return picture
