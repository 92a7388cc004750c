"""Models that stand in one file: the built-in segmenter, a packed model, a segmenter, an ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING

from haemo.pipeline.cli.console import progress

if TYPE_CHECKING:
    from haemo.pipeline.predicting.trained_model import TrainedModel
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["BUILTIN", "model_of_file", "named_segmenter", "outliner_of"]

BUILTIN = "builtin"


def model_of_file(
    model: str, device: str = "auto", trusted: tuple[str, ...] = ()
) -> "TrainedModel | Segmenter":
    """What ``--model`` names."""
    from haemo.pipeline.packing.bundlefile import is_bundle
    from haemo.pipeline.segmenting.segmenter import Segmenter, builtin_segmenter

    if model == BUILTIN:
        return builtin_segmenter()
    path = Path(model)
    if path.suffix == ".onnx":
        from haemo.pipeline.exporting.runtime import OnnxModel

        return OnnxModel.load(path)
    if not is_bundle(path):
        return Segmenter.read(path)
    from haemo.pipeline.packing.unpacking import open_bundle

    return open_bundle(path, device, trusted, progress)


def named_segmenter(model: str) -> "Segmenter":
    """The built-in segmenter, or that of a file.

    Raises
    ------
    BadSettings
        If the file holds another model.
    """
    from haemo.errors import BadSettings
    from haemo.pipeline.segmenting.segmenter import Segmenter

    found = model_of_file(model)
    if not isinstance(found, Segmenter):
        raise BadSettings(
            f"{model} holds {found.name}, which outlines nothing; it scores slices: haemo predict --model "
            f"{model} PATH"
        )
    return found


def outliner_of(run_path: Path | None) -> "Segmenter":
    """What outlines blood for the models of a run, or for one that has no run."""
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.segmenter import builtin_segmenter
    from haemo.pipeline.segmenting.segmenterfolder import outliner

    return outliner(RunDirectory(run_path)) if run_path else builtin_segmenter()
