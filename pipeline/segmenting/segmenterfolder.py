"""The folder of a run's segmenter: model, settings, metrics and predictions."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from haemo.pipeline.run.directory import SEGMENTER, RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.segmenting.segmenter import Segmenter, builtin_segmenter
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.modelfolder import ModelFolder

__all__ = ["SegmenterFolder", "outliner"]


class SegmenterFolder(ModelFolder):
    """What training a segmenter leaves in ``RUN/segment``, under fixed names."""

    kind = "segmenter"

    @property
    def model_path(self) -> Path:
        """model.safetensors: the classifier of pixels, and what drawing takes."""
        return self.path / "model.safetensors"

    def write(
        self,
        segmenter: Segmenter,
        facts: Mapping[str, Any],
        metrics: Mapping[str, Any],
        predictions: Predictions,
    ) -> None:
        """Write all files, each atomically, so that a crash leaves none that is taken for whole."""
        with self._replacing(facts, metrics, predictions):
            segmenter.write(self.model_path)

    def segmenter(self) -> Segmenter:
        """The segmenter; errors as `Segmenter.read`."""
        unit = RunDirectory(self.path.parent).told_unit()
        return replace(Segmenter.read(self.model_path), told_unit=unit)

    def _readers(self) -> dict[Path, Callable[[], object]]:
        return {**super()._readers(), self.model_path: partial(Segmenter.read, self.model_path)}


def outliner(run: RunDirectory) -> Segmenter:
    """What outlines blood for the models of a run: its own segmenter, or the built-in one if it has none.

    Raises
    ------
    FingerprintMismatch
        If the run's segmenter was trained on another split than the run has now.
    """
    folder = SegmenterFolder(run.model_path(SEGMENTER))
    if not folder.settings_path.exists():
        return builtin_segmenter()
    refuse_model_of_other_split(folder.facts(), run, SEGMENTER)
    return folder.segmenter()
