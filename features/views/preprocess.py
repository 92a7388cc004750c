"""Slices to the planes that the network sees: crop, window or windows, antialiased resize, gray levels.

Everything that a plane depends on stands in `Preprocessing`; normalisation and replication to three channels
belong to the network's weights and are done with them (`models.networks.gray`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from haemo.errors import BadSettings, UnreadableSlice
from haemo.extensions import did_you_mean
from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import HEAD_BOX_SCHEMA, Box, head_box
from haemo.features.views.head_grid import GRID_SCHEMA
from haemo.features.views.resize import resized_across
from haemo.features.views.upright import TURN_SCHEMA, Turn, upright_turn

__all__ = ["CROPS", "WINDOWS", "Preprocessing", "View"]

# Name -> width and centre in HU, as public solutions of the RSNA 2019 challenge mostly have them where they
# make three channels of the three (docs/networks.md).
WINDOWS = {"brain": (80.0, 40.0), "subdural": (200.0, 80.0), "bone": (2800.0, 600.0)}

CROPS = ("none", "head")
"""What of a slice is used: all of it, or the box of the head (`features.views.head_box`)."""

_CHANNELS = 3  # of networks that were trained on colour pictures
_WHITE = 255.0
_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class View:
    """What of a slice becomes its plane, and where that lies.

    Attributes
    ----------
    image : Slice
        Turned, where it is to be upright.
    box : Box
        The part of `image` that is seen.
    turn : Turn or None
        None where the slice is as it was.
    """

    image: Slice
    box: Box
    turn: Turn | None = None

    @property
    def pixels(self) -> np.ndarray:
        """What is seen, before window and resizing: (box.height, box.width), float32."""
        return self.box.cut(self.image.pixels)

    def paste(self, values: np.ndarray) -> np.ndarray:
        """Put values of the box back where they lie on the slice as it was; 0 on what was not seen."""
        pasted = self.box.paste(values, self.image.pixels.shape)
        return pasted if self.turn is None else self.turn.back(pasted)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a slice becomes a plane of 8-bit gray levels.

    HU are windowed by the function LINEAR_EXACT of DICOM PS3.3 C.11.2.1.3.2: black up to
    ``centre - width/2``, white from ``centre + width/2``, linear between. (LINEAR, C.11.2.1.2.1, takes half
    a unit from the centre and one from the width; that suits stored integers, not HU, and would move the
    levels of a brain window by up to 3.) Slices that are gray levels already are taken as they are.

    With three windows a plane has three channels, one a window: slices in gray levels, of which nobody can
    make these, are refused then.

    A slice may first be turned so that the midline of the head is its middle column
    (`features.views.upright`); one without a head, or a clear midline, stays as it is. The box of the head is
    then made as wide to the left of that column as to the right.

    The whole slice, or the box of the head in it, is then resized to a square, as in Dawud et al. 2019, also
    where it is not square itself: linear interpolation after a Gaussian filter, as
    ``skimage.transform.resize(anti_aliasing=True)`` computes it. Levels are rounded.

    Attributes
    ----------
    window_width_hu, window_centre_hu : float
        Of the only channel, or of the first of three.
    other_windows_hu : tuple of (float, float)
        Width and centre of the second and of the third channel; empty where there is one channel.
    size : int
        Height and width of a plane, in pixels.
    crop : {'none', 'head'}
        Of `CROPS`.
    upright : bool
        Whether slices are turned.
    """

    window_width_hu: float = 80.0
    window_centre_hu: float = 40.0
    other_windows_hu: tuple[tuple[float, float], ...] = ()
    size: int = 227
    crop: str = "none"
    upright: bool = False

    def __post_init__(self):
        for width, centre in self.windows_hu:
            if not (math.isfinite(centre) and 0 < width < math.inf):
                raise BadSettings(
                    f"window {width:g}/{centre:g}: width and centre must be finite numbers of HU, the width "
                    "above 0"
                )
        if len(self.windows_hu) not in (1, _CHANNELS):
            raise BadSettings(f"{len(self.windows_hu)} windows: a plane has 1 or {_CHANNELS} channels")
        if self.size < 1:
            raise BadSettings(f"size {self.size}: a plane has at least one pixel")
        if self.crop not in CROPS:
            raise BadSettings(f"crop {self.crop!r} is none of {', '.join(CROPS)}")

    @classmethod
    def for_window(cls, window: str, crop: str = "none", upright: bool = False) -> "Preprocessing":
        """Take a window by name (``brain``, ``subdural``, ``bone``) or as ``WIDTH/CENTRE`` in HU: ``80/40``.

        Raises
        ------
        BadSettings
            If it is neither, or `crop` is not of `CROPS`.
        """
        width, centre = _window_of(window)
        return cls(window_width_hu=width, window_centre_hu=centre, crop=crop, upright=upright)

    @classmethod
    def for_windows(cls, windows: str, crop: str = "none", upright: bool = False) -> "Preprocessing":
        """Take three windows, one a channel, as for `for_window`, with commas: ``brain,subdural,bone``.

        Raises
        ------
        BadSettings
            If they are not three, or one is no window.
        """
        named = [name.strip() for name in windows.split(",")]
        if len(named) != _CHANNELS:
            raise BadSettings(
                f"windows {windows!r} are {len(named)}: name {_CHANNELS}, one for each channel of the "
                "network, such as brain,subdural,bone; for one alone there is --window"
            )
        first, *others = map(_window_of, named)
        one = cls(window_width_hu=first[0], window_centre_hu=first[1], crop=crop, upright=upright)
        return replace(one, other_windows_hu=tuple(others))

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """Make it again from what `describe` gave; what is not there is as by default."""
        given = {field.name: description[field.name] for field in fields(cls) if field.name in description}
        if "other_windows_hu" in given:
            given["other_windows_hu"] = tuple(
                (float(width), float(centre)) for width, centre in given["other_windows_hu"]
            )
        return cls(**given)

    @property
    def windows_hu(self) -> tuple[tuple[float, float], ...]:
        """Width and centre of the window of each channel."""
        return ((self.window_width_hu, self.window_centre_hu), *self.other_windows_hu)

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of a plane: (size, size), or (3, size, size) of three windows."""
        square = (self.size, self.size)
        return (len(self.windows_hu), *square) if self.other_windows_hu else square

    @property
    def one_window(self) -> "Preprocessing":
        """The same with the first window alone: how a plane is shown as a picture."""
        return replace(self, other_windows_hu=())

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint.

        With one window, without a crop and a turn they are those of the first stores, which knew nothing
        else, so that these can be carried on.
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
        if self.other_windows_hu:
            facts["other_windows_hu"] = [list(window) for window in self.other_windows_hu]
        if self.crop == "head":
            facts["crop"] = self.crop
            facts["head_box"] = HEAD_BOX_SCHEMA
            facts["resize"] = facts["resize"].replace("whole slice", "box of the head")
        if self.upright:
            facts["upright"] = True
            facts["turn"], facts["head_grid"] = TURN_SCHEMA, GRID_SCHEMA
        return facts

    def view(self, image: Slice) -> View:
        """What of a slice becomes its plane.

        Raises
        ------
        UnreadableSlice
            If the slice is in gray levels, and three windows are wanted.
        """
        self.refuse_gray(image)
        turn = upright_turn(image) if self.upright else None
        if turn is not None:
            image = replace(image, pixels=turn.there(image))
        height, width = image.shape
        if self.crop != "head":
            return View(image, Box(0, height, 0, width), turn)
        box = head_box(image)
        if turn is not None:
            left = min(box.left, width - box.right)
            box = box._replace(left=left, right=width - left)
        return View(image, box, turn)

    def refuse_gray(self, image: Slice) -> None:
        """Refuse a slice in gray levels where there are three windows; errors as `view`."""
        if self.other_windows_hu and not image.is_hu:
            raise UnreadableSlice(
                "it is in gray levels, of one window, and three windows (--windows) are made of HU; give the "
                "slice as DICOM or in another format in HU, or make features with one window (--window)"
            )

    def plane(self, image: Slice) -> np.ndarray:
        """Make the plane of one slice: `level` of its `view`."""
        return self.level(self.view(image))

    def level(self, view: View) -> np.ndarray:
        """Make the plane of what is seen of a slice.

        Returns
        -------
        ndarray of shape `plane_shape`, uint8

        Notes
        -----
        Filter and interpolation are linear and act on rows and columns apart. They are written as one sparse
        matrix for each direction, with about eight numbers a row when 512 becomes 227. Before rounding this
        differs from scikit-image in float64 by less than 0.001 gray levels.
        """
        channels = [self._channel(view, low, high) for low, high in self._ranges(view.image)]
        return np.stack(channels) if self.other_windows_hu else channels[0]

    def reference(self, image: Slice) -> np.ndarray:
        """Make the plane the slow way: scikit-image, float64, not rounded; the oracle of `plane`.

        Returns
        -------
        ndarray of shape `plane_shape`, float64
        """
        from skimage.transform import resize

        seen, channels = self.view(image).pixels.astype(np.float64), []
        for low, high in self._ranges(image):
            levels = (np.clip(seen, low, high) - low) / (high - low) * _WHITE
            square = (self.size, self.size)
            channels.append(resize(levels, square, order=1, mode="reflect", anti_aliasing=True))
        return np.stack(channels) if self.other_windows_hu else channels[0]

    def _channel(self, view: View, low: float, high: float) -> np.ndarray:
        """One window of what is seen, as levels (size, size)."""
        levels = resized_across(self._windowed(view, low, high), (self.size, self.size))
        if low:
            levels -= np.float32(low)
        if high - low != _WHITE:
            levels *= np.float32(_WHITE / (high - low))
        np.rint(levels, out=levels)
        return np.ascontiguousarray(levels.astype(np.uint8).T)

    def _windowed(self, view: View, low: float, high: float) -> np.ndarray:
        """What is seen, HU cut off at the ends of the window; in integers where these say the same sooner."""
        integers = view.image.integers
        if not view.image.is_hu:
            return view.pixels if integers is None else view.box.cut(integers)
        is_whole = low.is_integer() and high.is_integer() and low >= -32768 and high <= 32767
        if integers is None or not is_whole:
            return np.clip(view.pixels, low, high)
        return np.clip(view.box.cut(integers), int(low), int(high))

    def _ranges(self, image: Slice) -> list[tuple[float, float]]:
        """What becomes black and what becomes white in each channel."""
        if not image.is_hu:
            return [(0.0, _WHITE)]
        return [(centre - width / 2, centre + width / 2) for width, centre in self.windows_hu]


def _window_of(name: str) -> tuple[float, float]:
    """Width and centre of a window by its name, or as ``WIDTH/CENTRE``."""
    if name in WINDOWS:
        return WINDOWS[name]
    try:
        width, centre = (float(number) for number in name.split("/"))
    except ValueError:
        raise BadSettings(
            f"window {name!r} is none of {', '.join(WINDOWS)}, nor WIDTH/CENTRE in HU such as 80/40."
            f"{did_you_mean(name, WINDOWS)}"
        ) from None
    return width, centre
