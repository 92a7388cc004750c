"""A model that stands in one file, and needs no run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.errors import BadSettings
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.pipeline.predicting.blended_model import BlendedModel
    from haemo.pipeline.predicting.trained_model import TrainedModel
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["BUILTIN", "is_exported", "open_model", "refuse_no_model"]

BUILTIN = "builtin"
"""What a person types for the segmenter that comes with haemo."""

_ONNX, _PACKED = ".onnx", ".haemo"


def open_model(
    text: str, device: str = "auto", trusted: Sequence[str] = (), progress: Progress = silent
) -> "TrainedModel | BlendedModel | Segmenter":
    """Read a model by what a person types: ``builtin``, or a file.

    Parameters
    ----------
    text : str
        A file is a packed model, one that was exported (``.onnx``), or a segmenter's model.safetensors.
    device : {'auto', 'cpu', 'cuda'}
    trusted : sequence of str
        Estimators of others that a head may be made of, as for a run.
    progress : Progress

    Raises
    ------
    BadSettings
        If it is a folder.
    MissingStep, BadDataset, FingerprintMismatch
        As `open_bundle`, `OnnxModel.load` and `Segmenter.read`.
    MissingExtra
        If what runs an exported model is not installed.
    """
    from haemo.pipeline.segmenting.segmenter import Segmenter, builtin_segmenter

    if text == BUILTIN:
        return builtin_segmenter()
    path = Path(text)
    if path.is_dir():
        raise BadSettings(f"{path} is a folder, and a model stands in a file; name a run with --run")
    if is_exported(text):
        from haemo.pipeline.exporting.runtime import OnnxModel

        return OnnxModel.load(path)
    if not _is_packed(path):
        return Segmenter.read(path)
    from haemo.pipeline.packing.unpacking import open_bundle

    return open_bundle(path, device, trusted, progress)


def is_exported(text: str) -> bool:
    """Whether what a person types is a file that `haemo export` wrote, which draws no evidence."""
    return Path(text).suffix == _ONNX


def refuse_no_model(text: str) -> None:
    """Refuse what `open_model` cannot read, as far as is seen without loading a network; errors alike."""
    from haemo.pipeline.packing.bundlefile import read_bundle

    if _is_packed(Path(text)):
        read_bundle(Path(text))
    else:
        open_model(text)


def _is_packed(path: Path) -> bool:
    from haemo.pipeline.packing.bundlefile import is_bundle

    return path.suffix == _PACKED or is_bundle(path)
