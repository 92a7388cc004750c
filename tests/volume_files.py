"""Small volumes in every format, as other programs write them."""

from pathlib import Path

import nibabel
import numpy as np

__all__ = ["head_hu", "save_nifti", "save_with_itk"]


def head_hu(slices: int = 3, size: tuple[int, int] = (24, 20), seed: int = 0) -> np.ndarray:
    """Something like a scan, (slices, rows, columns) int16 in HU: air, a skull, brain; no two slices equal.

    Nothing in it is the same from the left and the right, the front and the back, below and above.
    """
    rng = np.random.default_rng(seed)
    hu = np.full((slices, *size), -1000, np.int16)
    hu[:, 2:-3, 3:-2] = 900
    inside = hu[:, 4:-5, 5:-4]
    inside[:] = rng.integers(15, 60, inside.shape)
    return hu


def save_nifti(
    path: Path,
    hu: np.ndarray,
    spacing_mm: tuple[float, float, float] = (5.0, 0.5, 0.5),
    axes: str = "LPS",
    **header: float,
) -> Path:
    """Write slices that are seen as heads are, (slices, rows, columns), lowest first.

    `axes` says where the axes of the file run, the fastest first; `header` goes to fields of the header.
    """
    steps = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), steps)
    image.header.set_xyzt_units("mm")
    now = nibabel.orientations.io_orientation(image.affine)
    wanted = nibabel.orientations.axcodes2ornt(tuple(axes))
    image = image.as_reoriented(nibabel.orientations.ornt_transform(now, wanted))
    for field, value in header.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


def save_with_itk(
    path: Path,
    hu: np.ndarray,
    spacing_mm: tuple[float, float, float] = (5.0, 0.5, 0.5),
    directions: np.ndarray | None = None,
    packed: bool = False,
) -> Path:
    """Write (slices, rows, columns) as SimpleITK does; columns of `directions` are where its axes run."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin((-3.0, 4.0, 7.0))
    image.SetDirection((np.eye(3) if directions is None else directions).ravel().tolist())
    path.parent.mkdir(exist_ok=True)
    SimpleITK.WriteImage(image, str(path), packed)
    return path
