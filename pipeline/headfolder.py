"""The folder of one trained head: model, settings, grid, metrics and predictions, written to be trusted."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.atomic import write_text
from models.errors import BadDataset, MissingStep
from pipeline.predictions import Predictions

if TYPE_CHECKING:
    from models.calibration import CalibratedHead

__all__ = ["HeadFolder", "facts_key"]


def facts_key(facts: Mapping[str, Any]) -> str:
    """sha256 of facts that JSON can hold, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class HeadFolder:
    """What a head leaves in its folder, under fixed names.

    Parameters
    ----------
    path : Path
        ``RUN/svm`` for instance. It is made when something is written.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def name(self) -> str:
        """Name of the head."""
        return self.path.name

    @property
    def model_path(self) -> Path:
        """model.skops: the fitted head."""
        return self.path / "model.skops"

    @property
    def predictions_path(self) -> Path:
        """predictions.csv: out-of-fold scores of the training slices, and those of the test slices."""
        return self.path / "predictions.csv"

    @property
    def journal_path(self) -> Path:
        """cells.csv: what a search has found so far, while it runs or after it was killed."""
        return self.path / "cells.csv"

    @property
    def _settings_path(self) -> Path:
        return self.path / "settings.json"

    @property
    def _metrics_path(self) -> Path:
        return self.path / "metrics.json"

    def write(
        self,
        head: "CalibratedHead",
        facts: Mapping[str, Any],
        table: list[dict[str, Any]],
        metrics: Mapping[str, Any],
        predictions: Predictions,
    ) -> None:
        """Write all files, each atomically.

        The settings vanish first and the predictions are written last, so a folder that a crash left
        between two trainings is not taken for either.
        """
        from pipeline.persistence import save_head

        self.path.mkdir(parents=True, exist_ok=True)
        for path in (self.predictions_path, self._settings_path):
            path.unlink(missing_ok=True)
        save_head(head, self.model_path)
        write_text(self.path / "grid.csv", _as_csv(table))
        write_text(self._metrics_path, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
        write_text(self._settings_path, json.dumps(facts, indent=2, sort_keys=True) + "\n")
        predictions.write(self.predictions_path)

    def is_complete(self, key: str) -> bool:
        """Whether everything is there, and was made from the facts with this key."""
        paths = (self.model_path, self._metrics_path, self._settings_path, self.predictions_path)
        if not all(path.exists() for path in paths):
            return False
        return self.facts().get("key") == key

    def facts(self) -> dict[str, Any]:
        """What settings.json holds.

        Raises
        ------
        MissingStep
            If the head has not been trained.
        BadDataset
            If the file is damaged.
        """
        return self._read_json(self._settings_path)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; errors as `facts`."""
        return self._read_json(self._metrics_path)

    def predictions(self) -> Predictions:
        """The predictions; errors as `Predictions.read`."""
        return Predictions.read(self.predictions_path)

    def head(self) -> "CalibratedHead":
        """The fitted head; errors as `pipeline.persistence.load_head`."""
        from pipeline.persistence import load_head

        return load_head(self.model_path)

    def _read_json(self, path: Path) -> dict[str, Any]:
        if not path.exists():
            raise MissingStep(
                f"{path} is not there; train that head first: haemo {self.name} --run {self.path.parent}"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadDataset(f"{path} is not JSON ({error}); train the head again") from error
        if not isinstance(values, dict):
            raise BadDataset(f"{path} holds no JSON object; train the head again")
        return values


def _as_csv(table: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()
