"""An ONNX file that `export_model` wrote, as a model that scores slices, without PyTorch or scikit-learn."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadDataset, FingerprintMismatch, MissingExtra, MissingStep
from haemo.features.reading.unit import UNITS
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule
from haemo.pipeline.predicting.trained_model import Planes, StageOne, TrainedModel
from haemo.pipeline.trained.scope import Scope

__all__ = ["SCHEMA", "OnnxHead", "OnnxModel", "planes_name"]

SCHEMA = 1

_RULE = ("growth", "slope", "intercept", "threshold")
_BATCH = 32
_MOST_BYTES = 2 * 2**30  # of a protocol buffer


@dataclass
class OnnxHead:
    """What turns probabilities into classes.

    Attributes
    ----------
    classes_ : ndarray of str
        Of two the second is the positive one.
    threshold : float
        Probability from which it is predicted; with more classes the most probable one is.
    """

    classes_: np.ndarray
    threshold: float
    _known: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

    def learn(self, scores: np.ndarray, chances: np.ndarray) -> None:
        """Remember which probabilities the file gives with which scores."""
        self._known |= {score.tobytes(): own for score, own in zip(scores, chances, strict=True)}

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of scores that the file gave."""
        rows = [self._known[score.tobytes()] for score in scores]
        return np.array(rows).reshape(len(rows), len(self.classes_))

    def choose(self, chances: np.ndarray) -> np.ndarray:
        """Class numbers for probabilities of shape (n, classes)."""
        if len(self.classes_) == 2:
            return (chances[:, 1] >= self.threshold).astype(int)
        return chances.argmax(axis=1)


@dataclass(frozen=True)
class _Session:
    """ONNX Runtime with a file, and how many slices it is given at once."""

    onnx: Any
    batch: int = _BATCH


@dataclass(frozen=True, eq=False)
class OnnxModel(TrainedModel):
    """A model in a file. It scores slices as any other; it cannot be explained."""

    def score(self, batches: Iterable[Planes]) -> Iterator[tuple[np.ndarray, list[str]]]:
        """As `TrainedModel.score`, by ONNX Runtime."""
        for scores, chances, reasons in self.answers(batches):
            self.head.learn(scores, chances)
            yield scores, reasons

    def answers(self, batches: Iterable[Planes]) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        """Scores, probabilities (n, classes) and why each slice is outside, of batches of planes."""
        names = ["score", "probability", *(["distance"] if self.scope else [])]
        for planes in batches:
            given = {planes_name(number): own for number, own in enumerate(planes)}
            scores, chances, *distances = self.extractor.onnx.run(names, given)
            if chances.ndim == 1:
                chances = np.column_stack([1 - chances, chances])
            reasons = [""] * len(scores)
            if self.scope:
                reasons = [self.scope.reason(float(one)) for one in distances[0]]
            yield scores, chances, reasons

    @classmethod
    def load(cls, path: Path) -> "OnnxModel":
        """Read a file; nothing beside it is read, whatever it says.

        Raises
        ------
        MissingStep
            If there is no such file.
        MissingExtra
            If onnxruntime is not installed.
        BadDataset
            If it is no ONNX file that haemo exported, or is damaged.
        FingerprintMismatch
            If this version of haemo makes planes in another way.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingStep(f"{path} is not there; make it with: haemo export --run RUN --head NAME {path}")
        if path.stat().st_size > _MOST_BYTES:
            raise BadDataset(f"{path} is larger than an ONNX file can be; ask where it comes from")
        return cls.of_bytes(path.read_bytes(), str(path))

    @classmethod
    def of_bytes(cls, data: bytes, name: str) -> "OnnxModel":
        """Read the bytes of a file called `name`; errors as `load`."""
        from haemo.features.views.preprocess import Preprocessing

        session = _session(data, name)
        text = session.get_modelmeta().custom_metadata_map.get("haemo")
        if text is None:
            raise BadDataset(
                f"{name} is an ONNX file, and none that haemo export wrote; it says nothing of slices"
            )
        try:
            facts = json.loads(text)
            described, limit = [facts["preprocessing"], *facts["others"]], facts["limit"]
            ways = [Preprocessing.from_description(one) for one in described]
            if facts["schema"] != SCHEMA or [how.describe() for how in ways] != described:
                raise FingerprintMismatch(
                    f"{name} was exported by {facts['made_by']}, and this version of haemo makes planes in "
                    "another way; use that version, or have the model exported again"
                )
            rules = {
                Aggregation(how): UnitRule(
                    "study", Aggregation(how), **{key: float(own[key]) for key in _RULE}
                )
                for how, own in facts["study_rules"].items()
            }
            if not isinstance(facts["classes"], list) or len(facts["classes"]) < 2:
                raise ValueError(f"its classes are {facts['classes']!r}")
            shapes = [list(how.plane_shape) for how in ways]
            _refuse_other_ends(session, shapes, len(facts["classes"]), limit is not None)
            points = {str(point): float(value) for point, value in facts["points"].items()}
            if facts["told_unit"] not in (None, *UNITS):
                raise ValueError(f"its numbers are {facts['told_unit']!r}")
            first, *others = (StageOne(_Session(session), how, "float32") for how in ways)
            return cls(
                str(facts["name"]),
                OnnxHead(np.array([str(one) for one in facts["classes"]]), float(facts["threshold"])),
                first.extractor,
                first.preprocessing,
                others=tuple(others),
                told_unit=facts["told_unit"],
                points=lambda: points,
                scope=None if limit is None else Scope(np.empty((0, 0), dtype=np.float32), float(limit)),
                study_rule=rules.get,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, FingerprintMismatch):
                raise
            raise BadDataset(
                f"{name} is no ONNX file that haemo export wrote, or it is damaged ({error}); ask for another"
            ) from error


def planes_name(number: int) -> str:
    """What a file calls its input for a set of features, counted from 0."""
    return f"planes_{number + 1}" if number else "planes"


def _session(data: bytes, name: str) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as raised
    except ImportError as error:
        raise MissingExtra(
            f"{name} needs onnxruntime, which is not installed ({error}): pip install 'haemo[runtime]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with a file is raised, too
    refusals = (raised.Fail, raised.InvalidGraph, raised.InvalidProtobuf, raised.InvalidArgument)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except (*refusals, raised.NotImplemented, raised.RuntimeException, RuntimeError, ValueError) as error:
        raise BadDataset(f"{name} cannot be read as ONNX ({error}); ask for another copy") from error


def _refuse_other_ends(session: Any, shapes: Sequence[list[int]], classes: int, has_distance: bool) -> None:
    taken = {one.name: (one.type, one.shape[1:]) for one in session.get_inputs()}
    if taken != {planes_name(n): ("tensor(uint8)", shape) for n, shape in enumerate(shapes)}:
        raise ValueError(f"it takes {taken}")
    shape = [] if classes == 2 else [classes]
    wanted = dict.fromkeys(("score", "probability"), ("tensor(double)", shape))
    if has_distance:
        wanted["distance"] = ("tensor(float)", [])
    given = {one.name: (one.type, one.shape[1:]) for one in session.get_outputs()}
    if given != wanted:
        raise ValueError(f"it gives {given}")
