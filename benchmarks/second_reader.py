"""Another reader's pixels of the files that haemo reads, for `fuzz`: ITK's, which shares no code with it.

ITK reads DICOM by GDCM, PNG by libpng, TIFF by libtiff, JPEG by libjpeg, and BMP and NIfTI by code of its
own; haemo reads them by pydicom and its plug-ins, by Pillow and by its own. Of compressed streams the last
step is the same library in both for JPEG, JPEG-LS, JPEG 2000 and most of TIFF; lossless JPEG in DICOM is read
by GDCM in both.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

__all__ = ["KINDS", "compare_all", "compared", "keep"]

# First word of a kind of file -> ITK's reader.
_READERS = {
    "PNG": "PNGImageIO",
    "JPEG": "JPEGImageIO",
    "TIFF": "TIFFImageIO",
    "BigTIFF": "TIFFImageIO",
    "BMP": "BMPImageIO",
    "DICOM": "GDCMImageIO",
    "NIfTI": "NiftiImageIO",
    "NIfTI.gz": "NiftiImageIO",
    "NRRD": "NrrdImageIO",
    "MetaImage": "MetaImageIO",
}
KINDS = tuple(_READERS)
_MOST_VALUES = 1 << 24
_KEPT = "read.npz"
_BLOCK = 16


def keep(path: Path, slices: Sequence) -> None:
    """Keep beside a file what haemo has read of it, to be compared; what is very large is not."""
    if sum(one.pixels.size for one in slices) <= _MOST_VALUES:
        same = len({one.pixels.shape for one in slices}) == 1
        pixels = [one.pixels for one in slices] if same else []
        np.savez(path.parent / _KEPT, pixels=np.array(pixels), mode=slices[0].mode)


def compare_all(files: list[str]) -> None:
    """Read files by ITK, and print of each whether it agrees; the part that runs in a process of its own."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    warnings.simplefilter("ignore")
    print("ready", flush=True)
    for file in files:
        kind, _, name = file.partition("\t")
        print(compared(kind, Path(name)).replace("\n", " "), flush=True)


def compared(kind: str, path: Path) -> str:
    """Whether ITK reads what haemo has read: ``agrees``, ``wrong: ...``, ``alone: ...`` if it refuses."""
    if not (path.parent / _KEPT).exists():
        return "uncompared: very large"
    kept = np.load(path.parent / _KEPT)
    own = _as_stored(kept["pixels"], str(kept["mode"]))
    try:
        image = _read(kind, path)
    except RuntimeError as error:
        return f"alone: {str(error).strip().splitlines()[-1]}"
    values, is_exact = image.astype(np.float64), image.ndim == 3
    shown = values if is_exact else _gray(image)
    # ITK leaves a slope away that is nearly 1.
    rescaled = 0.0 if (own == np.round(own)).all() else float(np.abs(own).max()) * 2e-4
    most = max(0.0 if is_exact else 1.0, rescaled)
    if any(own.shape == turned.shape and (np.abs(own - turned) <= most).all() for turned in _turns(shown)):
        return "agrees"
    if "TIFF" in kind and own.shape == shown.shape and (own + shown == 255).all():
        return "agrees but for what is white: ITK passes over that 0 is said to be"
    if own.shape != shown.shape:
        return f"wrong: {own.shape} where ITK has {shown.shape}"
    off = np.abs(own - shown)
    if "JPEG" in kind.split():
        ends = np.isin(own, (own.min(), own.max()))
        clipped = np.isin(values, (values.min(), values.max())).reshape(*own.shape, -1).any(axis=-1) | ends
        # Where scans are missing, libraries smooth over blocks each in their way.
        near = 3 if "progressive" in kind else 1
        if not (_blocks(off[0] > near) & ~_blocks(clipped[0])).any():
            return "agrees but for what is clipped"
    return f"wrong: {(off > most).sum()} of {off.size} pixels differ, by up to {off.max():g}"


def _read(kind: str, path: Path) -> np.ndarray:
    """Values as ITK reads them, of shape (slices, rows, columns), or with channels behind."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_READERS[kind.partition(" ")[0]])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if np.prod(reader.GetSize()) > _MOST_VALUES:
        raise RuntimeError(f"{reader.GetSize()} pixels")
    image = reader.Execute()
    values = SimpleITK.GetArrayFromImage(image)
    return values if image.GetDimension() == 3 else values[None]


def _gray(values: np.ndarray) -> np.ndarray:
    """Colour as haemo takes it: with its upper 8 bits, laid over black, as luma of ITU-R BT.601."""
    values = (values >> 8 if values.dtype == np.uint16 else values).astype(np.float64)
    channels = values.shape[-1]
    shown = values[..., 0] if channels <= 2 else values[..., :3] @ (0.299, 0.587, 0.114)
    return np.round(shown * values[..., -1] / 255) if channels in (2, 4) else np.round(shown)


def _as_stored(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Pixels as they were before haemo told their unit by their looks."""
    if mode.endswith(", HU + 1024"):
        return pixels + 1024.0
    if mode.endswith(", gray") and "I;16" in mode:
        return pixels * 257.0
    return pixels.astype(np.float64)


def _turns(values: np.ndarray) -> Iterator[np.ndarray]:
    """Values with each axis as that of the slices, and each slice turned in all eight ways."""
    for axis in range(3) if len(values) > 1 else (0,):
        planes = np.moveaxis(values, axis, 0)
        for turned in (planes, planes.swapaxes(1, 2)):
            for rows, columns in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                yield turned[:, ::rows, ::columns]


def _blocks(pixels: np.ndarray) -> np.ndarray:
    """Whether any pixel of each block of 16 x 16 is set."""
    rows, columns = (-side % _BLOCK for side in pixels.shape)
    whole = np.pad(pixels, ((0, rows), (0, columns)))
    return whole.reshape(whole.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK).any(axis=(1, 3))
