"""A trained classifier of pixels with all that drawing takes, in one file."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import parse_json, replacing
from haemo.errors import BadDataset, BadSettings, FingerprintMismatch, MissingStep
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.blood_map import BloodMap
from haemo.features.pixels.region import Region
from haemo.features.reading.slice import Slice
from haemo.features.reading.unit import Unit
from haemo.features.views.head_grid import HeadGrid
from haemo.models.heads.thresholds import ThresholdRule
from haemo.models.pixels.pixel_classifier import PixelClassifier
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.operating import chosen_points
from haemo.pipeline.evaluation.unit_rule import UnitRule, rule_of
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.segmenting.pixel_features import ANATOMY, PixelFeatures, pixels_described

__all__ = ["BUILTIN_PATH", "CAVEAT", "Segmenter", "builtin_segmenter"]

_KEY = "haemo-segment"
_TRUNK = "trunk."  # before the names of its arrays
_BLOCK = 4096  # pixels whose hypercolumns are read at a time
CAVEAT = "built-in model: trained on synthetic heads only, not validated on patients"
BUILTIN_PATH = Path(__file__).with_name("builtin.safetensors")


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Draws blood on slices.

    Attributes
    ----------
    classifier : PixelClassifier
    facts : dict
        ``pixels`` (`pixels_described`), ``pixel_threshold`` (from which probability a pixel is outlined),
        ``bulk_thresholds`` (from which `BloodMap.bulk` a region is outlined, in ``hu`` and on a ``picture``;
        models of before have ``peak_threshold``, the probability that it must reach somewhere),
        ``slice_slope`` and ``slice_intercept`` (a slice's score to its log odds of a bleed), and those of
        pictures, ``picture_slope`` and ``picture_intercept``, where they were chosen,
        ``threshold`` (from which probability a slice is called positive), ``study_rules`` (by way of joining
        slices, the numbers of a `UnitRule`), ``classes`` (normal first), and
        ``points`` (thresholds of other operating points, as `evaluation.operating.chosen_points` gives them),
        how it was trained; ``caveat`` where it must not be taken for more than it is.
    features : PixelFeatures
        What the classifier reads.
    told_unit, held_out
        As of `pipeline.predicting.trained_model.TrainedModel`.
    """

    classifier: PixelClassifier
    facts: dict[str, Any]
    features: PixelFeatures = field(default_factory=PixelFeatures)
    told_unit: Unit | None = None
    held_out: Callable[[], Predictions | None] = lambda: None

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the two classes, the bleed second."""
        normal, bleed = self.facts["classes"]
        return normal, bleed

    def draw(self, image: Slice) -> BloodMap:
        """Find the probability of blood on a slice.

        Raises
        ------
        UnreadableSlice
            If the slice is too small for a head.
        """
        grid = HeadGrid.of(image)
        found = BloodMap.of(image, grid, self._probability(grid))
        return replace(found, score=self.score(found.score, image.is_hu))

    def _probability(self, grid: HeadGrid) -> np.ndarray:
        """Of each pixel inside."""
        pixels, count = self.features.of(grid), int(grid.inside.sum())
        if not self.features.trunk or not count:
            return self.classifier.probability_over(grid.inside, pixels.rows)
        blocks = (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))
        return np.concatenate([self.classifier.probability(pixels.rows(block)) for block in blocks])

    def with_precision(self, precision: str) -> "Segmenter":
        """The same segmenter, with the trunk that comes with haemo in another precision.

        What it says is then not what it was measured by: log odds of cells are a few hundredths off.

        Parameters
        ----------
        precision : {'float32', 'bfloat16'}

        Raises
        ------
        BadSettings
            If there is no such precision, or the segmenter does not read that trunk.
        """
        return replace(self, features=replace(self.features, precision=precision))

    def score(self, score: float, is_hu: bool) -> float:
        """A map's score as it stands for a slice in HU: of a picture, the one with the same log odds."""
        from scipy.special import expit

        if is_hu or "picture_slope" not in self.facts:
            return score
        log_odds = self.facts["picture_slope"] * log_ratio(score) + self.facts["picture_intercept"]
        return float(expit((log_odds - self.facts["slice_intercept"]) / self.facts["slice_slope"]))

    def study_rule(self, how: Aggregation) -> UnitRule | None:
        """How studies are judged where slices are joined so; None where too few studies were held out."""
        rule = self.facts.get("study_rules", {}).get(str(how))
        return None if rule is None else UnitRule("study", how, **rule)

    def with_study_rules(self, held_out: Predictions) -> "Segmenter":
        """The segmenter with rules for studies and operating points from what it said of held-out slices."""
        rules = {}
        for how in Aggregation:
            found = rule_of(held_out, "study", how, ThresholdRule("youden"))
            if found is not None:
                names = ("growth", "slope", "intercept", "threshold")
                rules[str(how)] = {name: float(getattr(found, name)) for name in names}
        return replace(self, facts={**self.facts, "study_rules": rules, "points": chosen_points(held_out)})

    def candidates(self, found: BloodMap) -> list[Region]:
        """What may be outlined: pixels from the segmenter's threshold on."""
        return found.regions(self.facts["pixel_threshold"])

    def regions(self, found: BloodMap) -> list[Region]:
        """What is outlined, at the segmenter's own thresholds."""
        some = self.candidates(found)
        if "bulk_thresholds" not in self.facts:
            return [region for region in some if region.evidence >= self.facts["peak_threshold"]]
        least = self.facts["bulk_thresholds"]["hu" if found.is_hu else "picture"]
        return [region for region in some if found.bulk(region) >= least]

    def log_odds(self, score: float | np.ndarray) -> Any:
        """Log odds of a bleed of slices by their maps' `score`."""
        return self.facts["slice_slope"] * log_ratio(score) + self.facts["slice_intercept"]

    def predictions(
        self, rows: Sequence[ManifestRow], scores: Sequence[float], part: np.ndarray, fold: np.ndarray
    ) -> Predictions:
        """What the segmenter says of slices of a run, by their maps' `score`."""
        from scipy.special import expit

        log_odds = np.asarray(self.log_odds(np.array(scores)), dtype=float)
        chances = expit(log_odds)
        return Predictions.of_rows(
            rows,
            part=part,
            fold=fold,
            scores=log_odds,
            probabilities=chances,
            predicted=np.array(self.classes)[(chances >= self.facts["threshold"]).astype(int)],
            classes=self.classes,
            thresholds=np.full(len(rows), float(self.facts["threshold"])),
        )

    def write(self, path: Path) -> None:
        """Write one safetensors file, atomically; the same segmenter gives the same bytes."""
        with replacing(path) as temporary:
            temporary.write_bytes(self._bytes)

    @cached_property
    def _bytes(self) -> bytes:
        from safetensors.numpy import save

        own = {"kind": self.classifier.kind, "pixels": pixels_described(self.features.name)}
        header = {_KEY: json.dumps({**own, **self.facts}, sort_keys=True)}
        trunk = {_TRUNK + name: np.ascontiguousarray(array) for name, array in self.features.trunk.items()}
        return save({**self.classifier.model.arrays, **trunk}, metadata=header)

    @property
    def hash(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256(self._bytes).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that gets it again and again keeps it, with the tables of its trees.
        return _from_bytes, (self._bytes, self.features.precision)

    @classmethod
    def read(cls, path: Path) -> "Segmenter":
        """Read what `write` wrote; nothing in the file is executed.

        Raises
        ------
        MissingStep
            If there is no such file.
        BadDataset
            If it is damaged, or no segmenter.
        FingerprintMismatch
            If this version of haemo describes pixels in another way.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise MissingStep(f"{path} is not there; train it first: haemo segment train --run RUN")
        try:
            with safe_open(path, framework="numpy") as file:
                facts = parse_json((file.metadata() or {})[_KEY])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            found = cls._of(facts, arrays)
        except (SafetensorError, KeyError, ValueError, TypeError, BadSettings) as error:
            raise BadDataset(f"{path} is no segmenter, or it is damaged ({error}); train it again") from error
        if facts.get("pixels") != pixels_described(found.features.name):
            raise FingerprintMismatch(
                f"{path} was trained on pixels that another version of haemo described; train it again: "
                f"haemo segment train"
            )
        return found

    @classmethod
    def _of(cls, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Segmenter":
        trunk = {name.removeprefix(_TRUNK): arrays.pop(name) for name in [*arrays] if name.startswith(_TRUNK)}
        features = PixelFeatures(facts.get("pixels", {}).get("features", ANATOMY), trunk)
        return cls(PixelClassifier.of_arrays(facts.pop("kind"), arrays), facts, features)


@lru_cache(maxsize=2)
def _from_bytes(data: bytes, precision: str) -> Segmenter:
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
    found = Segmenter._of(facts, load(data))
    return replace(found, features=replace(found.features, precision=precision))


def log_ratio(score: float | np.ndarray) -> Any:
    """Log odds of a score in 0..1, held within -7 .. 7, where a mean of probabilities says nothing more."""
    held = np.clip(np.asarray(score, dtype=np.float64), 1e-3, 1 - 1e-3)
    return np.log(held / (1 - held))


def builtin_segmenter() -> Segmenter:
    """The segmenter that comes with haemo; it needs no data, and says what it must not be taken for."""
    found = Segmenter.read(BUILTIN_PATH)
    return replace(found, facts={**found.facts, "caveat": CAVEAT})
