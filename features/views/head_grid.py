"""A slice on a grid of 1 mm: HU, the inside of the skull, and the midline."""

from dataclasses import dataclass

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import Slice
from haemo.features.views.disk import narrowed, widened
from haemo.features.views.head_box import Box, head_box
from haemo.features.views.holes import filled
from haemo.features.views.midline import Midline, find_midline
from haemo.features.views.resize import resized

__all__ = ["GRID_SCHEMA", "HeadGrid", "largest_piece"]

GRID_SCHEMA = 2
"""Part of what a pixel classifier is bound to: another grid gives other numbers."""

BLACK_HU, WHITE_HU = 0.0, 80.0
"""The brain window that levels are held to; pictures are mapped back through it."""

_FIELD_MM = 230.0  # of a head CT along the longer side, where a slice does not say its spacing
_HEAD_MM = 160.0  # root of breadth times length of an adult skull with its muscle, at its widest
_BONE_HU = 100.0
# Of the way from the black to the white of a picture: 74 HU in a brain window; less where the skull would not
# be closed, as on film that was lit unevenly.
_BONE_OF_WHITE = (0.93, 0.86, 0.8)
_MIDDLE = 0.25  # of the box of the head, about its centre: nearly all of it is inside
_LEAST_OF_MIDDLE = 0.5
_ENDS_PERCENT = (2, 99)  # where black and white lie: scanned film has neither 0 nor 255
_BLACK_AT_MOST, _WHITE_AT_LEAST = 40.0, 200.0
_CLOSING_MM = 4
_MARGIN = 8
_OPENING_MM = 3
_LEAST_INSIDE_MM2 = 400.0
_LEAST_TISSUE_HU = -20.0
_MEDIAN_HU = (12.0, 60.0)


@dataclass(frozen=True, eq=False)
class HeadGrid:
    """What is known of a head on one slice.

    Attributes
    ----------
    hu : ndarray of shape (height, width), float32
        On pixels of 1 mm, held to `BLACK_HU` .. `WHITE_HU`.
    inside : ndarray of the same shape, bool
        Within the skull, without bone. May be empty.
    bone : ndarray of the same shape, bool
    median_hu : float
        Of the tissue inside, that is of the brain; NaN where nothing is inside.
    midline : Midline or None
        None where nothing is inside.
    pixel_mm : tuple of float
        Row and column spacing that the slice has, or was taken to have.
    shape : tuple of int
        Of the slice.
    """

    hu: np.ndarray
    inside: np.ndarray
    bone: np.ndarray
    median_hu: float
    midline: Midline | None
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, image: Slice) -> "HeadGrid":
        """Bring a slice to 1 mm and find what is inside the skull.

        Pictures are taken for a window of 80 HU about 40, and for adult heads: the box of the head is 160 mm
        (root of breadth times length), unless the whole picture would then be more than 230 mm wide.

        Raises
        ------
        UnreadableSlice
            If the slice would have fewer than 16 mm either way.
        """
        shape = image.pixels.shape
        pixel_mm, box = image.spacing_mm, None
        if pixel_mm is None or not image.is_hu:
            box = head_box(image)
            pixel_mm = pixel_mm or _usual_spacing(box, shape)
        size = tuple(round(count * mm) for count, mm in zip(shape, pixel_mm, strict=True))
        if min(size) < 16:
            raise UnreadableSlice(f"the slice is {size[0]} x {size[1]} mm, too small for a head")
        hu = image.pixels if image.is_hu else _from_picture(image.pixels)
        wide = resized(np.clip(hu, -200, 200), size)
        if image.is_hu or box is None:
            bone = wide > _BONE_HU
            inside = _inside(wide, bone)
        else:
            bone, inside = _of_picture(wide, box, shape)
            # In a brain window dense blood is as white as bone; what lies free inside the skull is not bone.
            bone &= ~inside
        level = np.clip(wide, BLACK_HU, WHITE_HU)
        if not inside.any():
            return cls(level, inside, bone, float("nan"), None, pixel_mm, shape)
        tissue = level[inside]
        brain = tissue[(tissue > _MEDIAN_HU[0]) & (tissue < _MEDIAN_HU[1])]
        median = float(np.median(brain if brain.size else tissue))
        return cls(level, inside, bone, median, find_midline(level - median, inside), pixel_mm, shape)

    def on_slice(self, values: np.ndarray) -> np.ndarray:
        """Interpolate a map of the grid for the pixels of the slice: float32, of the slice's shape."""
        return resized(values.astype(np.float32), self.shape)

    def from_slice(self, values: np.ndarray) -> np.ndarray:
        """Average a map of the slice, such as a mask, for the pixels of the grid: float32.

        A map of more or fewer pixels is taken to be of the same field.
        """
        return resized(values.astype(np.float32), self.hu.shape)


def _of_picture(wide: np.ndarray, box: Box, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Bone, and the inside: of the first share of white at which the middle of the head is inside."""
    rows, columns = (
        slice(
            int(size / side * (first + (1 - _MIDDLE) / 2 * (last - first))),
            int(size / side * (last - (1 - _MIDDLE) / 2 * (last - first))) + 1,
        )
        for size, side, first, last in zip(
            wide.shape, shape, (box.top, box.left), (box.bottom, box.right), strict=True
        )
    )
    found = []
    for share in _BONE_OF_WHITE:
        bone = wide > BLACK_HU + share * (WHITE_HU - BLACK_HU)
        inside = _inside(wide, bone)
        covered = float(inside[rows, columns].mean())
        if covered >= _LEAST_OF_MIDDLE:
            return bone, inside
        found.append((covered, bone, inside))
    _, bone, inside = max(found, key=lambda one: one[0])
    return bone, inside


def _usual_spacing(box: Box, shape: tuple[int, int]) -> tuple[float, float]:
    pixel = min(_HEAD_MM / (box.height * box.width) ** 0.5, _FIELD_MM / max(shape))
    return pixel, pixel


def _from_picture(gray: np.ndarray) -> np.ndarray:
    """Gray levels as HU: the picture's black and white are the ends of the brain window."""
    dark, bright = np.percentile(gray, _ENDS_PERCENT)
    black, white = min(float(dark), _BLACK_AT_MOST), max(float(bright), _WHITE_AT_LEAST)
    return BLACK_HU + (gray - np.float32(black)) * np.float32((WHITE_HU - BLACK_HU) / (white - black))


def _inside(hu: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """The largest piece of soft tissue that bone encloses; where the skull is open, the largest of all."""
    soft = (hu > _LEAST_TISSUE_HU) & ~bone
    # A picture may be cut closely, through the skull: tissue at its rim is taken for bounded there.
    wall = np.pad(bone, _MARGIN)
    rim = np.pad(hu > 5, 1, mode="edge") & np.pad(np.zeros_like(bone), 1, constant_values=True)
    wall[_MARGIN - 1 : 1 - _MARGIN, _MARGIN - 1 : 1 - _MARGIN] |= rim
    closed = narrowed(widened(wall, _CLOSING_MM), _CLOSING_MM)
    enclosed = filled(closed | wall)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] & ~bone
    found = largest_piece(enclosed & soft)
    return found if found.sum() >= _LEAST_INSIDE_MM2 else largest_piece(soft & (hu > 5))


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask after an opening, its holes filled; False everywhere if none is left."""
    from scipy import ndimage

    # What is empty on all sides of the mask takes no part, but for one pixel that tells where it ends.
    box = Box.around(mask).wider(1, mask.shape)
    own = box.cut(mask)
    core, count = ndimage.label(narrowed(own, _OPENING_MM)) if own.size else (own, 0)
    if not count:
        return np.zeros_like(mask)
    largest = core == 1 + np.argmax(np.bincount(core.ravel())[1:])
    grown = widened(largest, _OPENING_MM + 1) & own
    if grown.sum() < _LEAST_INSIDE_MM2:
        return np.zeros_like(mask)
    return box.paste(filled(grown), mask.shape)
