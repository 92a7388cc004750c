"""The folder of one trained model, head or network: files under fixed names, written to be trusted."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from features.atomic import sync_directory, write_text
from models.errors import BadDataset, MissingStep
from pipeline.predictions import Predictions

__all__ = ["ModelFolder", "facts_key"]


def facts_key(facts: Mapping[str, Any]) -> str:
    """sha256 of facts that JSON can hold, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class ModelFolder(ABC):
    """What every model leaves in its folder.

    Parameters
    ----------
    path : Path
        ``RUN/svm`` or ``RUN/cnn`` for instance. It is made when something is written.
    """

    kind: ClassVar[str] = "model"

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def name(self) -> str:
        """Name of the head or network."""
        return self.path.name

    @property
    @abstractmethod
    def model_path(self) -> Path:
        """The fitted model."""

    @property
    def settings_path(self) -> Path:
        """settings.json: everything that decided what the model became."""
        return self.path / "settings.json"

    @property
    def metrics_path(self) -> Path:
        """metrics.json."""
        return self.path / "metrics.json"

    @property
    def predictions_path(self) -> Path:
        """predictions.csv: scores of training slices not trained on, and those of the test slices."""
        return self.path / "predictions.csv"

    def is_complete(self, key: str) -> bool:
        """Whether everything is there, and was made from the facts with this key."""
        paths = (self.model_path, self.metrics_path, self.settings_path, self.predictions_path)
        return all(path.exists() for path in paths) and self.facts().get("key") == key

    def facts(self) -> dict[str, Any]:
        """What settings.json holds.

        Raises
        ------
        MissingStep
            If the model has not been trained.
        BadDataset
            If the file is damaged.
        """
        return self._read_json(self.settings_path)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; errors as `facts`."""
        return self._read_json(self.metrics_path)

    def predictions(self) -> Predictions:
        """The predictions; errors as `Predictions.read`."""
        return Predictions.read(self.predictions_path)

    @contextmanager
    def _replacing(
        self, facts: Mapping[str, Any], metrics: Mapping[str, Any], predictions: Predictions
    ) -> Iterator[None]:
        """Write what all models have around a block that writes the model itself, each file atomically.

        The predictions vanish first and are written last; the settings vanish before the model changes and
        are written after it. So predictions always stand beside the settings that they were made with, and
        settings beside their model; a folder that a crash left between two trainings is not complete.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for path in (self.predictions_path, self.settings_path):
            path.unlink(missing_ok=True)
            sync_directory(self.path)
        yield
        for path, values in ((self.metrics_path, metrics), (self.settings_path, facts)):
            write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
        predictions.write(self.predictions_path)

    def _require(self, path: Path) -> None:
        if not path.exists():
            raise MissingStep(
                f"{path} is not there; train that {self.kind} first: "
                f"haemo {self.name} --run {self.path.parent}"
            )

    def _read_json(self, path: Path) -> dict[str, Any]:
        self._require(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadDataset(f"{path} is not JSON ({error}); train the {self.kind} again") from error
        if not isinstance(values, dict):
            raise BadDataset(f"{path} holds no JSON object; train the {self.kind} again")
        return values
