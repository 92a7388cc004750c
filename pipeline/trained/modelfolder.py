"""The folder of one trained model, head or network: files under fixed names, written to be trusted."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from haemo.atomic import json_of, sync_directory, write_text
from haemo.errors import BadDataset, HaemoError, MissingStep
from haemo.pipeline.run.directory import train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.shown import shown

__all__ = ["ModelFolder", "facts_key"]

log = logging.getLogger("haemo")


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

    @property
    def command(self) -> str:
        """What to type to train the model, and to train it again."""
        return train_command(self.path)

    def is_complete(self, key: str) -> bool:
        """Whether everything is there and can be read, and was made from the facts with this key."""
        paths = (self.model_path, self.metrics_path, self.settings_path, self.predictions_path)
        if not all(path.exists() for path in paths):
            return False
        for path, read in self._readers().items():
            try:
                read()
            except (ValueError, KeyError, TypeError, HaemoError):
                log.warning("%s cannot be read; the %s is trained again", path, self.kind)
                return False
        return self.facts().get("key") == key

    def _readers(self) -> dict[Path, Callable[[], object]]:
        """The files that others will read, and what raises an error where one of them is damaged."""
        return {
            self.settings_path: self.facts,
            self.metrics_path: self.metrics,
            self.predictions_path: self._all_predictions,
        }

    def _all_predictions(self) -> None:
        """Read the predictions, and count them: a file that was cut between two lines can be read."""
        found = len(self.predictions())
        expected = sum(figures["slices"] for figures in self.metrics().values())
        if found != expected:
            raise BadDataset(f"{self.predictions_path} has {found} of {expected} rows")

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
        told, _ = shown(facts)  # weights come from a file somewhere on this machine
        for path, values in ((self.metrics_path, metrics), (self.settings_path, told)):
            write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
        predictions.write(self.predictions_path)

    def _require(self, path: Path) -> None:
        if not path.exists():
            raise MissingStep(f"{path} is not there; train that {self.kind} first: {self.command}")

    def _read_json(self, path: Path) -> dict[str, Any]:
        self._require(path)
        try:
            values = json_of(path)
        except ValueError as error:
            raise BadDataset(f"{path} is not JSON ({error}); train it again: {self.command}") from error
        if not isinstance(values, dict):
            raise BadDataset(f"{path} holds no JSON object; train it again: {self.command}")
        return values
