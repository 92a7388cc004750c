"""Pictures of evidence: the slice as a reader sees it, beside it the map and the outlines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from haemo.atomic import replacing
from haemo.features.pixels.region import Region
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing

__all__ = ["draw_overlay", "write_picture"]

# Of Okabe and Ito, told apart by every eye: for, against, outline.
_FOR, _AGAINST, _OUTLINE = (230, 159, 0), (0, 114, 178), (240, 228, 66)
_STRONGEST = 0.55
_CAPTION_PIXELS = 18
_LEAST_SIDE = 256


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
    plain = np.repeat(gray[..., None], 3, axis=2).astype(np.float32)
    shown = plain.copy()
    limit = float(np.abs(evidence).max())
    if limit > 0:
        for colour, part in ((_FOR, evidence), (_AGAINST, -evidence)):
            alpha = (_STRONGEST * np.clip(part / limit, 0, 1))[..., None]
            shown = (1 - alpha) * shown + alpha * np.array(colour, dtype=np.float32)
    both = [_enlarged(np.rint(half).astype(np.uint8), factor) for half in (plain, shown)]
    for region in regions:
        both[1][_edge(_enlarged(region.mask, factor))] = _OUTLINE
    picture = np.concatenate(both, axis=1)
    return np.concatenate([picture, _text(caption, picture.shape[1])]) if caption else picture


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, colour or gray of 8 or 16 bits, as PNG, atomically; folders are made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", compress_level=1)


def _display(image: Slice, preprocessing: Preprocessing) -> np.ndarray:
    if not image.is_hu:
        return np.rint(image.pixels).astype(np.uint8)
    low = preprocessing.window_centre_hu - preprocessing.window_width_hu / 2
    share = np.clip((image.pixels - low) / preprocessing.window_width_hu, 0, 1)
    return np.rint(255 * share).astype(np.uint8)


def _enlarged(values: np.ndarray, factor: int) -> np.ndarray:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _text(lines: Sequence[str], width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, _CAPTION_PIXELS * len(lines) + 4))
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(size=13)
    for number, line in enumerate(lines):
        draw.text((4, 2 + _CAPTION_PIXELS * number), line, fill=(255, 255, 255), font=font)
    return np.asarray(strip)
