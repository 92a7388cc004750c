"""How real slices differ from phantoms, drawn at random: for classifiers that learn from phantoms alone."""

import numpy as np

from haemo.features.reading.slice import Slice
from haemo.features.views.resize import resized

__all__ = ["VARIATION_SCHEMA", "vary"]

VARIATION_SCHEMA = 2

_PALER_HU = 24.0  # blood that is clotting, diluted or days old
_CONTRAST = 0.8  # gray and white matter stand further apart by up to this share
_FIELD_HU = 3.0  # slow change over the head: cupping, hardening
_GRAIN_HU = 4.0
_BLUR_MM = (0.2, 1.6)
_HARDENING_HU, _HARDENING_MM = 14.0, (1.5, 6.0)  # tissue is too bright beside bone, and so far from it
_BONE_HU = 150.0
_SHARPENING = 0.8
_CENTRES_HU, _WIDTHS_HU = (28.0, 46.0), (45.0, 140.0)
_GAMMAS = (0.8, 1.25)
_SHARES_OF_SIZE = (0.35, 1.0)  # pictures are stored with fewer pixels than the scan had
_BLACKS, _WHITES = (0.0, 35.0), (225.0, 255.0)  # gray levels of scanned film
_USUAL_SPACING_MM = 0.45


def vary(image: Slice, mask: np.ndarray, rng: np.random.Generator, palest_hu: float | None = None) -> Slice:
    """Draw another look of a slice in HU: paler blood, other contrast, grain and sharpness, or as a picture.

    Half of what is drawn are pictures: windowed, 8 bits, most of fewer pixels, some blurred again or with the
    black and white of scanned film, and more than half of them without their spacing. Ranges were set from
    published HU of blood (50 to 80, falling by the day) and brain, from what bone does to the tissue beside
    it (beam hardening, partial volumes), and from the windows in which head CT is shown; no label of a real
    slice was used.

    Parameters
    ----------
    image : Slice
        In HU.
    mask : ndarray of the slice's shape, bool
        Its blood.
    rng : numpy.random.Generator
    palest_hu : float, optional
        To no less than this the median of the blood is brought down.

    Returns
    -------
    Slice
        Of the same field; a picture may have fewer pixels.
    """
    from scipy import ndimage

    spacing = float(np.sqrt(np.prod(image.spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM))))
    hu = image.pixels.astype(np.float32)
    soft = (hu > -15) & (hu < 90)
    if mask.any():
        # Blood that is pale already would come to be darker than brain, and be called blood all the same.
        paler = _PALER_HU
        if palest_hu is not None:
            paler = min(paler, max(0.0, float(np.median(hu[mask])) - palest_hu))
        hu = hu - ndimage.gaussian_filter(mask.astype(np.float32), 0.6 / spacing) * rng.uniform(0, paler)
    smooth = ndimage.gaussian_filter(np.clip(hu, 0, 60), 1.0 / spacing)
    matter = np.clip(smooth - np.float32(32), -8, 8) * ~mask
    hu = hu + soft * np.float32(rng.uniform(0, _CONTRAST)) * matter
    hu += soft * _slow_field(hu.shape, rng) * np.float32(rng.uniform(0, _FIELD_HU))
    if rng.random() < 0.6:
        away = ndimage.distance_transform_edt(hu < _BONE_HU) * np.float32(spacing)
        near = np.exp(-away / np.float32(rng.uniform(*_HARDENING_MM)))
        hu += soft * near * np.float32(rng.uniform(0, _HARDENING_HU))
    if rng.random() < 0.5:
        grain = ndimage.gaussian_filter(
            rng.standard_normal(hu.shape, dtype=np.float32), rng.uniform(0.5, 1.2)
        )
        hu += soft * grain * np.float32(rng.uniform(0, _GRAIN_HU))
    if rng.random() < 0.6:
        # Some scanners blur before bone is cut off by the window, and film is blurred after it.
        held = np.clip(hu, -200, 300) if rng.random() < 0.5 else hu
        hu = ndimage.gaussian_filter(held, rng.uniform(*_BLUR_MM) / spacing)
    if rng.random() < 0.3:
        hu = hu + np.float32(rng.uniform(0, _SHARPENING)) * (hu - ndimage.gaussian_filter(hu, 1 / spacing))
    if rng.random() < 0.5:
        return Slice(hu.astype(np.float32), True, image.spacing_mm)
    return _picture(hu, spacing, image, rng)


def _slow_field(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of unit variance."""
    from scipy import ndimage

    coarse = rng.standard_normal((6, 6))
    field = ndimage.zoom(coarse, [side / 6 for side in shape], order=3, mode="nearest")
    return (field / field.std()).astype(np.float32)


def _picture(hu: np.ndarray, spacing: float, image: Slice, rng: np.random.Generator) -> Slice:
    from scipy import ndimage

    centre, width = rng.uniform(*_CENTRES_HU), rng.uniform(*_WIDTHS_HU)
    gray = np.clip((hu - np.float32(centre - width / 2)) * np.float32(255 / width), 0, 255)
    if rng.random() < 0.4:
        gray = ndimage.gaussian_filter(gray, rng.uniform(*_BLUR_MM) / spacing)
    if rng.random() < 0.3:
        gray = 255 * (gray / 255) ** np.float32(rng.uniform(*_GAMMAS))
    shape = gray.shape
    if rng.random() < 0.7:
        share = rng.uniform(*_SHARES_OF_SIZE)
        shape = max(64, round(shape[0] * share)), max(64, round(shape[1] * share))
        gray = resized(gray.astype(np.float32), shape)
    if rng.random() < 0.3:
        black, white = rng.uniform(*_BLACKS), rng.uniform(*_WHITES)
        gray = black + gray * (white - black) / 255
    says_spacing = rng.random() < 0.4
    ratios = (before / after for before, after in zip(hu.shape, shape, strict=True))
    spacing_mm = tuple(mm * ratio for mm, ratio in zip(image.spacing_mm or (), ratios, strict=False)) or None
    return Slice(np.rint(gray).astype(np.float32), False, spacing_mm if says_spacing else None)
