"""The folder of one trained network: weights, settings, history, metrics and predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.atomic import replacing
from haemo.errors import BadDataset, FingerprintMismatch
from haemo.models.training.history import Epoch
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.trained.modelfolder import ModelFolder
from haemo.pipeline.trained.scope import Scope
from haemo.tables import Records, write_table

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.training.trained import TrainedNetwork

__all__ = ["NetworkFolder"]


class NetworkFolder(ModelFolder):
    """What a network leaves in its folder, under fixed names."""

    kind = "network"

    @property
    def model_path(self) -> Path:
        """model.safetensors: weights, classes and preprocessing in one file."""
        return self.path / "model.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """checkpoint.pt: what an interrupted training goes on from; gone once it has ended."""
        return self.path / "checkpoint.pt"

    @property
    def scope_path(self) -> Path:
        """scope.safetensors: what the training slices were like; a network of earlier versions has none."""
        return self.path / "scope.safetensors"

    @property
    def _history_path(self) -> Path:
        return self.path / "history.csv"

    def write(
        self,
        network: "TrainedNetwork",
        facts: Mapping[str, Any],
        history: Sequence[Epoch],
        metrics: Mapping[str, Any],
        predictions: Predictions,
        scope: Scope,
    ) -> None:
        """Write all files, each atomically, so that a crash leaves none that is taken for whole.

        The checkpoint is deleted at the end.
        """
        with self._replacing(facts, metrics, predictions):
            network.write(self.model_path)
            self._write_scope(scope)
            write_table(self._history_path, [asdict(epoch) for epoch in history])
        self.checkpoint_path.unlink(missing_ok=True)

    def is_complete(self, key: str) -> bool:
        """Whether everything is there, the history too, and was made from the facts with this key."""
        return self._history_path.exists() and super().is_complete(key)

    def _readers(self) -> dict[Path, Callable[[], object]]:
        from haemo.models.training.checkpoint import read_network

        return {
            **super()._readers(),
            self._history_path: self.history,
            self.scope_path: self.scope,
            self.model_path: partial(read_network, self.model_path),
        }

    def network(self, device: str = "cpu") -> "TrainedNetwork":
        """The trained network; errors as `models.training.checkpoint.read_network`."""
        from haemo.models.training.trained import TrainedNetwork

        return TrainedNetwork.load(self.model_path, device)

    def preprocessing(self) -> "Preprocessing":
        """How slices become the planes that the network was trained on.

        Raises
        ------
        FingerprintMismatch
            If this version of haemo makes planes in another way.
        """
        from haemo.features.views.preprocess import Preprocessing

        described = self.facts()["preprocessing"]
        preprocessing = Preprocessing.from_description(described)
        if preprocessing.describe() != described:
            raise FingerprintMismatch(
                f"{self.settings_path}: the network was trained on planes that this version of haemo makes "
                f"in another way; train it again: {self.command}"
            )
        return preprocessing

    def scope(self) -> Scope | None:
        """What the training slices were like; None where an earlier version of haemo trained the network.

        Raises
        ------
        BadDataset
            If the file is damaged.
        """
        if not self.scope_path.exists():
            return None
        try:
            return Scope.of_bytes(self.scope_path.read_bytes())
        except ValueError as error:
            raise BadDataset(
                f"{self.scope_path} is damaged ({error}); train it again: {self.command}"
            ) from error

    def _write_scope(self, scope: Scope) -> None:
        with replacing(self.scope_path) as temporary:
            temporary.write_bytes(scope.as_bytes())

    def history(self) -> list[Epoch]:
        """How the training went; errors as `facts`."""
        path = self._history_path
        self._require(path)
        try:
            epochs = [
                Epoch(**{name: int(text) if name == "epoch" else float(text) for name, text in row.items()})
                for row in Records(path)
            ]
            expected = self.facts().get("epochs", 1)
            if len(epochs) != expected:
                raise ValueError(f"it has {len(epochs)} epochs, {expected} were trained")
            return epochs
        except (TypeError, ValueError) as error:
            raise BadDataset(
                f"{path} is no training history ({error}); train it again: {self.command}"
            ) from error
