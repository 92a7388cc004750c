"""Pictures of evidence: the slice as a reader sees it, beside it the map and the outlines."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.atomic import replacing
from haemo.features.pixels.region import Region
from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import Box
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.segmenting.png import png_of

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["draw_overlay", "write_picture"]

# Of Okabe and Ito, told apart by every eye: for, against, outline.
_FOR, _AGAINST, _OUTLINE = (230, 159, 0), (0, 114, 178), (240, 228, 66)
_STRONGEST = 0.55
_CAPTION_PIXELS = 18
_LEAST_SIDE = 256
_ROWS = 64  # that are coloured at a time: what is computed of their pixels stays in the second cache


def draw_overlay(
    image: Slice,
    evidence: np.ndarray,
    regions: Sequence[Region],
    preprocessing: Preprocessing,
    caption: Sequence[str] = (),
) -> np.ndarray:
    """Draw a slice, and beside it the same slice with evidence and outlines.

    Orange speaks for the class, blue against it; both are scaled to the strongest evidence on the slice.

    Parameters
    ----------
    image : Slice
    evidence : ndarray of shape (height, width)
        Signed, on the slice's pixels.
    regions : sequence of Region
    preprocessing : Preprocessing
        Its window is shown.
    caption : sequence of str
        Lines below.

    Returns
    -------
    ndarray of shape (rows, columns, 3), uint8
    """
    gray = _display(image, preprocessing)
    factor = max(1, -(-_LEAST_SIDE // min(gray.shape)))
    strip = _text(caption, 2 * factor * gray.shape[1])
    picture = np.concatenate([np.empty((factor * gray.shape[0], strip.shape[1], 3), dtype=np.uint8), strip])
    plain, shown = np.split(picture[: len(picture) - len(strip)], 2, axis=1)
    for channel in range(3):
        plain[..., channel] = _enlarged(gray, factor)
    shown[:] = plain
    _colour(shown, gray, evidence, factor)
    for region in regions:
        top, left, bottom, right = region.box
        edge = _enlarged(region.mask[top : bottom + 1, left : right + 1], factor)
        shown[factor * top : factor * (bottom + 1), factor * left : factor * (right + 1)][_edge(edge)] = (
            _OUTLINE
        )
    return picture


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, colour or gray of 8 or 16 bits, as PNG, atomically; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(png_of(picture))


def _colour(shown: np.ndarray, gray: np.ndarray, evidence: np.ndarray, factor: int) -> None:
    """Lay colours over the gray of `shown`, where there is any evidence."""
    limit = np.float32(max(evidence.max(), -evidence.min()))
    if not limit > 0:
        return
    box = Box.around(evidence != 0)
    enlarged = tuple(slice(factor * own.start, factor * own.stop) for own in (box.rows, box.columns))
    for start in range(0, box.height, _ROWS):
        rows = slice(start, start + _ROWS)
        strength = np.float32(_STRONGEST) * (box.cut(evidence)[rows].astype(np.float32) / limit)
        pro = np.maximum(strength, 0)
        contra = pro - strength
        left = (1 - (pro + contra)) * box.cut(gray)[rows]
        coloured = shown[enlarged][factor * start : factor * (start + _ROWS)]
        for channel in range(3):
            mixed = pro * np.float32(_FOR[channel])
            mixed += contra * np.float32(_AGAINST[channel])
            mixed += left
            np.rint(mixed, out=mixed)
            coloured[..., channel] = _enlarged(mixed, factor)


def _display(image: Slice, preprocessing: Preprocessing) -> np.ndarray:
    if not image.is_hu:
        return np.rint(image.pixels).astype(np.uint8)
    low = preprocessing.window_centre_hu - preprocessing.window_width_hu / 2
    share = np.clip((image.pixels - low) / preprocessing.window_width_hu, 0, 1)
    return np.rint(255 * share).astype(np.uint8)


def _enlarged(values: np.ndarray, factor: int) -> np.ndarray:
    return values if factor == 1 else values.repeat(factor, axis=0).repeat(factor, axis=1)


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _text(lines: Sequence[str], width: int) -> np.ndarray:
    """White on black: of `width` pixels, and no rows where there is nothing to say."""
    from PIL import Image, ImageDraw

    if not lines:
        return np.empty((0, width, 3), dtype=np.uint8)
    strip = Image.new("L", (width, _CAPTION_PIXELS * len(lines) + 4))
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((4, 2 + _CAPTION_PIXELS * number), line, fill=255, font=_font())
    return np.repeat(np.asarray(strip)[..., None], 3, axis=2)


@cache
def _font() -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size=13)
