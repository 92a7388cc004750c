"""Where the head lies in a slice: its bounding box, without head rest, table, letters and frames.

The box is that of skull and muscle, not of skin. So it is the same on HU and on a picture in a brain window,
where fat is black, and ears, nose and pads have no part in it.
"""

from typing import NamedTuple

import numpy as np

from haemo.features.reading.slice import Slice

__all__ = ["HEAD_BOX_SCHEMA", "Box", "head_box"]

HEAD_BOX_SCHEMA = 1
"""Part of the fingerprint: another rule gives other embeddings, and must have another number."""

_SAMPLES = 160  # along the longer side: every third pixel of 512, about 1.4 mm
_FIELD_MM = 230.0  # of a head CT along the longer side; for slices that do not say their spacing
_REACH_MM = 5.5  # what is thinner than twice this is a head rest, a letter or a frame
_HOLE_MM2 = 1500.0  # what is dark inside is up to this a sinus or a pocket of fat, not air beside the head

# Water: the black end of a brain window.
_TISSUE_FROM_HU = 0.0
# Of the way from the darkest to the brightest gray levels: 10 HU in a brain window. The background of scanned
# film may have 60 levels.
_TISSUE_FROM_SHARE = 0.12
_ENDS_PERCENT = (2, 98)
_LEAST_CONTRAST = 32.0

_LEAST_SHARE = 0.2


class Box(NamedTuple):
    """A part of a slice: rows `top` to `bottom` and columns `left` to `right`, without the latter of each."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @classmethod
    def around(cls, mask: np.ndarray) -> "Box":
        """The smallest box with all of a mask (height, width); of an empty one it has no pixel."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return cls(0, 0, 0, 0)
        return cls(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)

    @property
    def rows(self) -> slice:
        """Its rows, first to last."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Its columns, first to last."""
        return slice(self.left, self.right)

    def wider(self, margin: int, shape: tuple[int, int]) -> "Box":
        """The box with up to `margin` more pixels on each side, as far as a slice of `shape` goes."""
        height, width = shape
        return Box(
            max(self.top - margin, 0),
            min(self.bottom + margin, height),
            max(self.left - margin, 0),
            min(self.right + margin, width),
        )

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """What lies in the box: a view of `pixels` (height, width)."""
        return pixels[self.rows, self.columns]

    def paste(self, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Put values of the box back where they lie on a slice of `shape`; 0 outside."""
        if values.shape == shape:
            return values
        pasted = np.zeros(shape, dtype=values.dtype)
        self.cut(pasted)[:] = values
        return pasted


def head_box(image: Slice) -> Box:
    """Find the box of the head, to about one part in 160 of the slice's longer side.

    Soft tissue and bone are what lies above 0 HU or, where levels are gray, brighter than 12 % of the way
    from the background to the brightest. Holes of up to 15 cm2 are filled, and what is thinner than about
    11 mm is taken away. The head is the largest piece that is left.

    Parameters
    ----------
    image : Slice
        Without a spacing, its longer side is taken for 230 mm.

    Returns
    -------
    Box
        The whole slice where nothing is left, where the gray levels are all alike, and where the box would
        be less than a fifth of the slice high or wide: no head is as small as that.
    """
    height, width = image.pixels.shape
    whole = Box(0, height, 0, width)
    step = max(1, round(max(height, width) / _SAMPLES))
    top, left = ((side - 1) % step // 2 for side in (height, width))
    samples = image.pixels[top::step, left::step]
    usual_mm = _FIELD_MM / max(height, width)
    sample_mm = [mm * step for mm in image.spacing_mm or (usual_mm, usual_mm)]
    tissue = samples > _tissue_from(image.is_hu, samples)
    filled = _without_small_holes(tissue, _HOLE_MM2 / np.prod(sample_mm))
    found = _largest_piece(_without_thin_parts(filled, [round(_REACH_MM / mm) for mm in sample_mm]))
    if found is None:
        return whole
    rows, columns = (
        (first + part.start * step - step // 2, first + (part.stop - 1) * step + step // 2 + 1)
        for first, part in zip((top, left), found, strict=True)
    )
    box = Box(max(rows[0], 0), min(rows[1], height), max(columns[0], 0), min(columns[1], width))
    if box.height < _LEAST_SHARE * height or box.width < _LEAST_SHARE * width:
        return whole
    return box


def _tissue_from(is_hu: bool, samples: np.ndarray) -> float:
    if is_hu:
        return _TISSUE_FROM_HU
    dark, bright = np.percentile(samples, _ENDS_PERCENT)
    if bright - dark < _LEAST_CONTRAST:
        return np.inf
    return dark + _TISSUE_FROM_SHARE * (bright - dark)


def _without_small_holes(mask: np.ndarray, most: float) -> np.ndarray:
    """Fill what is enclosed and has at most so many pixels. Air between head and head rest is not filled."""
    from scipy import ndimage

    labels, count = ndimage.label(~mask)
    small = np.bincount(labels.ravel(), minlength=count + 1) <= most
    small[0] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[edge] = False
    return mask | small[labels]


def _without_thin_parts(mask: np.ndarray, reach: list[int]) -> np.ndarray:
    """Open a mask by a rectangle that reaches so far up and down, left and right.

    The rectangle takes less than a pixel from the outermost points of anything as round as a head, and,
    unlike a disc, it can be had a line at a time.
    """
    from scipy import ndimage

    opened = mask.view(np.uint8)
    for filtered in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):
        for axis, pixels in enumerate(reach):
            opened = filtered(opened, 2 * min(pixels, mask.shape[axis]) + 1, axis, mode="nearest")
    return opened


def _largest_piece(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of the largest connected piece, the first of several."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if not count:
        return None
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return ndimage.find_objects(labels, largest)[largest - 1]
