"""The folder of one trained head: model, settings, grid, metrics and predictions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.trained.modelfolder import ModelFolder
from haemo.tables import write_table

if TYPE_CHECKING:
    from haemo.models.heads.calibration import CalibratedHead

__all__ = ["HeadFolder"]


class HeadFolder(ModelFolder):
    """What a head leaves in its folder, under fixed names."""

    kind = "head"

    @property
    def model_path(self) -> Path:
        """model.skops: the fitted head."""
        return self.path / "model.skops"

    @property
    def journal_path(self) -> Path:
        """cells.csv: what a search has found so far, while it runs or after it was killed."""
        return self.path / "cells.csv"

    def write(
        self,
        head: "CalibratedHead",
        facts: Mapping[str, Any],
        table: list[dict[str, Any]],
        metrics: Mapping[str, Any],
        predictions: Predictions,
    ) -> None:
        """Write all files, each atomically, so that a crash leaves none that is taken for whole."""
        from haemo.pipeline.trained.persistence import save_head

        with self._replacing(facts, metrics, predictions):
            save_head(head, self.model_path)
            if table:  # a blend searches nothing
                write_table(self.path / "grid.csv", table)

    def _readers(self) -> dict[Path, Callable[[], object]]:
        from haemo.pipeline.trained.persistence import check_head

        return {**super()._readers(), self.model_path: partial(check_head, self.model_path)}

    def head(self, trusted: Sequence[str] = ()) -> "CalibratedHead":
        """The fitted head; `trusted` and errors as for `pipeline.trained.persistence.load_head`."""
        from haemo.pipeline.trained.persistence import load_head

        return load_head(self.model_path, trusted)
