"""What was found on one series, and by which model: all that a report and a segmentation say."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from haemo.features.pixels.packed import PackedMask
from haemo.pipeline.dicom_results.sources import SourceSeries

__all__ = ["ModelIdentity", "SeriesFinding", "model_version"]

_KEY_IMAGES = 3
_HASH_DIGITS = 12


@dataclass(frozen=True)
class ModelIdentity:
    """Which model said it.

    Attributes
    ----------
    name : str
        As ``haemo svm``.
    version : str
        Of the software and of the trained model, as of `model_version`.
    outliner, outliner_version : str
        What drew the outlines.
    caveat : str
        What it must not be taken for, where more is to be said than of every model here.
    """

    name: str
    version: str
    outliner: str
    outliner_version: str
    caveat: str = ""


def model_version(path: Path) -> str:
    """Version of the software with the first digits of the sha256 of a model's file: ``0.1.0+1f0c...``."""
    from importlib.metadata import version

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{version('haemo')}+{digest[:_HASH_DIGITS]}"


@dataclass(frozen=True, eq=False)
class SeriesFinding:
    """What a model said of one series.

    Attributes
    ----------
    series : SourceSeries
    positive : bool
        Whether the series as a whole is called positive.
    probability, threshold : float in 0..1
        Of the series; it is positive from the threshold on.
    joined_by : str
        How the slices make one answer.
    slice_probabilities : tuple of float
    slices_positive, slices_outside : int
        How many slices are called positive, and how many are outside what the model knows.
    masks : mapping of int to PackedMask
        What is outlined, by the number of the slice in `series`; empty unless the series is positive.
    volume_ml : float or None
        Of the outlines; None where it cannot be known.
    """

    series: SourceSeries
    positive: bool
    probability: float
    threshold: float
    joined_by: str
    slice_probabilities: tuple[float, ...]
    slices_positive: int
    slices_outside: int
    masks: Mapping[int, PackedMask] = field(default_factory=dict)
    volume_ml: float | None = None

    @property
    def has_outlines(self) -> bool:
        """Whether there is something to lay in space, and it can be."""
        return bool(self.masks) and not self.series.no_outline

    def key_images(self) -> list[int]:
        """Numbers of the slices of highest probability: up to three of those called positive, else one."""
        chances = self.slice_probabilities
        order = sorted(range(len(chances)), key=lambda number: -chances[number])
        return order[: max(1, min(_KEY_IMAGES, self.slices_positive))]

    def summary(self) -> str:
        """The finding in sentences, as a person reads them."""
        called = "called positive" if self.positive else "called negative: no haemorrhage found"
        slices = len(self.slice_probabilities)
        sentences = [
            f"{called}; probability {self.probability:.3f}, positive from {self.threshold:.3f} on "
            f"({slices} slices joined by {self.joined_by}, {self.slices_positive} of them positive)."
        ]
        if self.slices_outside:
            sentences.append(
                f"{self.slices_outside} slices are outside what the model knows: do not rely on it."
            )
        if self.positive:
            sentences.append(self._outlines())
        return " ".join(sentences)

    def _outlines(self) -> str:
        if not self.masks:
            return "Nothing reached the threshold of an outline."
        drawn = f"Outlined on {len(self.masks)} slices"
        if self.series.no_outline:
            return f"{drawn}, but not kept as a segmentation: {self.series.no_outline}."
        if self.volume_ml is None:
            return f"{drawn}; no volume, as the slices do not give their distances."
        return f"{drawn}, {self.volume_ml:.1f} ml."
