"""Slices to the gray planes that the network sees: crop, window, antialiased resize, gray levels.

Everything that a plane depends on stands in `Preprocessing`; normalisation and replication to three channels
belong to the network's weights and are done with them (`models.networks.gray`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from haemo.errors import BadSettings
from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import HEAD_BOX_SCHEMA, Box, head_box
from haemo.features.views.resize import resize_matrix

__all__ = ["CROPS", "WINDOWS", "Preprocessing"]

# Name -> width and centre in HU.
WINDOWS = {"brain": (80.0, 40.0), "subdural": (200.0, 80.0), "bone": (2800.0, 600.0)}

CROPS = ("none", "head")
"""What of a slice is used: all of it, or the box of the head (`features.views.head_box`)."""

_WHITE = 255.0
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a slice becomes a plane of 8-bit gray levels.

    HU are windowed by the function LINEAR_EXACT of DICOM PS3.3 C.11.2.1.3.2: black up to
    ``centre - width/2``, white from ``centre + width/2``, linear between. (LINEAR, C.11.2.1.2.1, takes half
    a unit from the centre and one from the width; that suits stored integers, not HU, and would move the
    levels of a brain window by up to 3.) Slices that are gray levels already are taken as they are.

    The whole slice, or the box of the head in it, is then resized to a square, as in Dawud et al. 2019, also
    where it is not square itself: linear interpolation after a Gaussian filter, as
    ``skimage.transform.resize(anti_aliasing=True)`` computes it. Levels are rounded.

    Attributes
    ----------
    window_width_hu, window_centre_hu : float
    size : int
        Height and width of a plane, in pixels.
    crop : {'none', 'head'}
        Of `CROPS`.
    """

    window_width_hu: float = 80.0
    window_centre_hu: float = 40.0
    size: int = 227
    crop: str = "none"

    def __post_init__(self):
        if not (math.isfinite(self.window_centre_hu) and 0 < self.window_width_hu < math.inf):
            raise BadSettings(
                f"window {self.window_width_hu:g}/{self.window_centre_hu:g}: width and centre must be finite "
                f"numbers of HU, the width above 0"
            )
        if self.size < 1:
            raise BadSettings(f"size {self.size}: a plane has at least one pixel")
        if self.crop not in CROPS:
            raise BadSettings(f"crop {self.crop!r} is none of {', '.join(CROPS)}")

    @classmethod
    def for_window(cls, window: str, crop: str = "none") -> "Preprocessing":
        """Take a window by name (``brain``, ``subdural``, ``bone``) or as ``WIDTH/CENTRE`` in HU: ``80/40``.

        Raises
        ------
        BadSettings
            If it is neither, or `crop` is not of `CROPS`.
        """
        if window in WINDOWS:
            width, centre = WINDOWS[window]
        else:
            try:
                width, centre = (float(number) for number in window.split("/"))
            except ValueError:
                raise BadSettings(
                    f"window {window!r} is none of {', '.join(WINDOWS)}, nor WIDTH/CENTRE in HU such as 80/40"
                ) from None
        return cls(window_width_hu=width, window_centre_hu=centre, crop=crop)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """Make it again from what `describe` gave; what is not there is as by default."""
        names = [field.name for field in fields(cls) if field.name in description]
        return cls(**{name: description[name] for name in names})

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint.

        Without a crop they are those of the first stores, which knew none, so that these can be carried on.
        """
        facts = {
            "schema": _SCHEMA,
            "size": self.size,
            "window_width_hu": self.window_width_hu,
            "window_centre_hu": self.window_centre_hu,
            "window_function": "LINEAR_EXACT",
            "resize": "whole slice, Gaussian of sigma (factor - 1) / 2, linear interpolation",
            "levels": "rounded to 0..255",
        }
        if self.crop == "head":
            facts["crop"] = self.crop
            facts["head_box"] = HEAD_BOX_SCHEMA
            facts["resize"] = facts["resize"].replace("whole slice", "box of the head")
        return facts

    def box(self, image: Slice) -> Box:
        """The part of a slice that becomes its plane."""
        if self.crop == "head":
            return head_box(image)
        height, width = image.pixels.shape
        return Box(0, height, 0, width)

    def plane(self, image: Slice) -> np.ndarray:
        """Make the plane of one slice.

        Returns
        -------
        ndarray of shape (size, size), uint8

        Notes
        -----
        Filter and interpolation are linear and act on rows and columns apart. They are written as one sparse
        matrix for each direction, with about eight numbers a row when 512 becomes 227. Before rounding this
        differs from scikit-image in float64 by less than 0.001 gray levels.
        """
        low, high = self._range(image)
        pixels = self.box(image).cut(image.pixels)
        if image.is_hu:
            pixels = np.clip(pixels, low, high)
        height, width = pixels.shape
        rows = resize_matrix(height, self.size) @ pixels
        levels = (resize_matrix(width, self.size) @ np.ascontiguousarray(rows.T)).T
        levels = (levels - np.float32(low)) * np.float32(_WHITE / (high - low))
        return np.rint(levels, order="C").astype(np.uint8)

    def reference(self, image: Slice) -> np.ndarray:
        """Make the plane the slow way: scikit-image, float64, not rounded; the oracle of `plane`.

        Returns
        -------
        ndarray of shape (size, size), float64
        """
        from skimage.transform import resize

        low, high = self._range(image)
        pixels = np.clip(self.box(image).cut(image.pixels).astype(np.float64), low, high)
        levels = (pixels - low) / (high - low) * _WHITE
        return resize(levels, (self.size, self.size), order=1, mode="reflect", anti_aliasing=True)

    def _range(self, image: Slice) -> tuple[float, float]:
        """What becomes black and what becomes white."""
        if not image.is_hu:
            return 0.0, _WHITE
        return (
            self.window_centre_hu - self.window_width_hu / 2,
            self.window_centre_hu + self.window_width_hu / 2,
        )
