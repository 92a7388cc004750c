"""The folder of one trained network: weights, settings, history, metrics and predictions."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.atomic import write_text
from models.errors import BadDataset, FingerprintMismatch, MissingStep
from models.history import Epoch
from pipeline.predictions import Predictions

if TYPE_CHECKING:
    from features.preprocess import Preprocessing
    from models.trained import TrainedNetwork

__all__ = ["NetworkFolder"]


@dataclass(frozen=True)
class NetworkFolder:
    """What a network leaves in its folder, under fixed names.

    Attributes
    ----------
    path : Path
        ``RUN/cnn`` for instance. It is made when something is written.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.path.name

    @property
    def model_path(self) -> Path:
        """model.safetensors: weights, classes and preprocessing in one file."""
        return self.path / "model.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """checkpoint.pt: what an interrupted training goes on from; gone once it has ended."""
        return self.path / "checkpoint.pt"

    @property
    def _settings_path(self) -> Path:
        return self.path / "settings.json"

    @property
    def _history_path(self) -> Path:
        return self.path / "history.csv"

    @property
    def _metrics_path(self) -> Path:
        return self.path / "metrics.json"

    @property
    def _predictions_path(self) -> Path:
        return self.path / "predictions.csv"

    def write(
        self,
        network: "TrainedNetwork",
        facts: Mapping[str, Any],
        history: Sequence[Epoch],
        metrics: Mapping[str, Any],
        predictions: Predictions,
    ) -> None:
        """Write all files, each atomically, and delete the checkpoint.

        The settings vanish first and the predictions are written last, so a folder that a crash left
        between two trainings is not taken for either.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for path in (self._predictions_path, self._settings_path):
            path.unlink(missing_ok=True)
        network.write(self.model_path)
        write_text(self._history_path, _as_csv(history))
        write_text(self._metrics_path, _as_json(metrics))
        write_text(self._settings_path, _as_json(facts))
        predictions.write(self._predictions_path)
        self.checkpoint_path.unlink(missing_ok=True)

    def is_complete(self, key: str) -> bool:
        """Whether everything is there, and was made from the facts with this key."""
        paths = (self.model_path, self._history_path, self._metrics_path, self._predictions_path)
        if not (self._settings_path.exists() and all(path.exists() for path in paths)):
            return False
        return self.facts().get("key") == key

    def facts(self) -> dict[str, Any]:
        """What settings.json holds.

        Raises
        ------
        MissingStep
            If the network has not been trained.
        BadDataset
            If the file is damaged.
        """
        return self._read_json(self._settings_path)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; errors as `facts`."""
        return self._read_json(self._metrics_path)

    def predictions(self) -> Predictions:
        """The predictions; errors as `Predictions.read`."""
        return Predictions.read(self._predictions_path)

    def network(self, device: str = "cpu") -> "TrainedNetwork":
        """The trained network; errors as `models.checkpoint.read_network`."""
        from models.trained import TrainedNetwork

        return TrainedNetwork.load(self.model_path, device)

    def preprocessing(self) -> "Preprocessing":
        """How slices become the planes that the network was trained on.

        Raises
        ------
        FingerprintMismatch
            If this version of haemo makes planes in another way.
        """
        from features.preprocess import Preprocessing

        described = self.facts()["preprocessing"]
        names = [field.name for field in fields(Preprocessing)]
        preprocessing = Preprocessing(**{name: described[name] for name in names})
        if preprocessing.describe() != described:
            raise FingerprintMismatch(
                f"{self._settings_path}: the network was trained on planes that this version of haemo makes "
                f"in another way; train it again: haemo {self.name} --run {self.path.parent}"
            )
        return preprocessing

    def history(self) -> list[Epoch]:
        """How the training went; errors as `facts`."""
        path = self._history_path
        self._require(path)
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                return [
                    Epoch(
                        **{name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
                    )
                    for row in csv.DictReader(stream)
                ]
        except (TypeError, ValueError) as error:
            raise BadDataset(f"{path} is no training history ({error}); train the network again") from error

    def _require(self, path: Path) -> None:
        if not path.exists():
            raise MissingStep(
                f"{path} is not there; train that network first: haemo {self.name} --run {self.path.parent}"
            )

    def _read_json(self, path: Path) -> dict[str, Any]:
        self._require(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadDataset(f"{path} is not JSON ({error}); train the network again") from error
        if not isinstance(values, dict):
            raise BadDataset(f"{path} holds no JSON object; train the network again")
        return values


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _as_csv(history: Sequence[Epoch]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in fields(Epoch))
    writer.writerows(astuple(epoch) for epoch in history)
    return stream.getvalue()
