"""Models that outline, and stand in one file or in a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from haemo.pipeline.cli.console import progress

if TYPE_CHECKING:
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["named_segmenter", "outliner_of"]


def named_segmenter(model: str) -> "Segmenter":
    """The built-in segmenter, or that of a file.

    Raises
    ------
    BadSettings
        If the file holds another model.
    """
    from haemo.errors import BadSettings
    from haemo.pipeline.packing.modelfile import open_model
    from haemo.pipeline.segmenting.segmenter import Segmenter

    found = open_model(model, progress=progress)
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
