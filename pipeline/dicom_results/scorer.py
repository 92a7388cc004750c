"""A model that is ready to score one study after another, with what it is called and what outlines for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from haemo.pipeline.dicom_results.finding import ModelIdentity, model_version
from haemo.pipeline.dicom_results.outlines import outline_positive, require_bleed
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.predicting.blended_model import BlendedModel, load_model
from haemo.pipeline.predicting.prediction import score_slices
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.run.directory import SEGMENTER, RunDirectory
from haemo.pipeline.segmenting.outlining import Outlined, outline_slices
from haemo.pipeline.segmenting.segmenter import BUILTIN_PATH, CAVEAT, Segmenter, builtin_segmenter
from haemo.pipeline.segmenting.segmenterfolder import SegmenterFolder, outliner
from haemo.progress import Progress, silent

__all__ = ["Scorer", "file_identity", "file_scorer", "run_identity", "run_scorer"]

_BUILTIN_NAME = "haemo segment (built-in)"


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores slices and outlines the studies called positive.

    Attributes
    ----------
    identity : ModelIdentity
    how : Aggregation
        How the slices of a study make one answer.
    score : callable
        Takes paths, gives `SliceScores` and `Outlined` or None; errors as `score_slices`.
    """

    identity: ModelIdentity
    how: Aggregation
    score: Callable[[Sequence[Path]], tuple[SliceScores, Outlined | None]]


def run_identity(run: RunDirectory, head: str) -> ModelIdentity:
    """What a model of a run is called in DICOM results."""
    folder = run.model_path(head)
    files = [path for path in (folder / "model.skops", folder / "model.safetensors") if path.is_file()]
    own = SegmenterFolder(run.model_path(SEGMENTER))
    trained = own.settings_path.exists()
    return ModelIdentity(
        name=f"haemo {head}",
        version=model_version(files[0]),
        outliner=f"haemo {SEGMENTER}" if trained else _BUILTIN_NAME,
        outliner_version=model_version(own.model_path if trained else BUILTIN_PATH),
        caveat="" if trained else f"Outlines: {CAVEAT}",
    )


def file_identity(model: TrainedModel | BlendedModel | Segmenter, path: Path | None) -> ModelIdentity:
    """What the model of a file, None for the built-in one, is called in DICOM results, and its outliner."""
    version = model_version(path or BUILTIN_PATH)
    if isinstance(model, Segmenter):
        name = _BUILTIN_NAME if path is None else f"haemo {SEGMENTER}"
        return ModelIdentity(name, version, name, version, CAVEAT if path is None else "")
    outliner_version = model_version(BUILTIN_PATH)
    return ModelIdentity(
        f"haemo {model.name}", version, _BUILTIN_NAME, outliner_version, f"Outlines: {CAVEAT}"
    )


def run_scorer(
    run: RunDirectory,
    head: str,
    *,
    how: Aggregation = Aggregation.MAX,
    threshold: float | None = None,
    series: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Scorer:
    """Load a head or network of a run, and what outlines for it.

    Raises
    ------
    BadSettings
        If there is no such model, or it does not tell bleeds.
    MissingStep, FingerprintMismatch
        As `pipeline.predicting.trained_model.load_model`.
    """
    segmenter = outliner(run)
    if head == SEGMENTER:
        return _of_segmenter(segmenter, run_identity(run, head), how, threshold, series)
    model = load_model(run, head, device, progress)
    return _of_trained(model, run_identity(run, head), segmenter, how, threshold, series)


def file_scorer(
    model: TrainedModel | BlendedModel | Segmenter,
    path: Path | None,
    *,
    how: Aggregation = Aggregation.MAX,
    threshold: float | None = None,
    series: str | None = None,
) -> Scorer:
    """Score with a model that stands in a file, which is loaded; None is the built-in segmenter's.

    Raises
    ------
    BadSettings
        If it does not tell bleeds.
    """
    identity = file_identity(model, path)
    if isinstance(model, Segmenter):
        return _of_segmenter(model, identity, how, threshold, series)
    return _of_trained(model, identity, builtin_segmenter(), how, threshold, series)


def _of_trained(
    model: TrainedModel | BlendedModel,
    identity: ModelIdentity,
    segmenter: Segmenter,
    how: Aggregation,
    threshold: float | None,
    series: str | None,
) -> Scorer:
    require_bleed(model.classes)

    def score(paths: Sequence[Path]) -> tuple[SliceScores, Outlined | None]:
        scores = score_slices(model, paths, threshold, series=series)
        return scores, outline_positive(scores, how, segmenter)

    return Scorer(identity, how, score)


def _of_segmenter(
    segmenter: Segmenter,
    identity: ModelIdentity,
    how: Aggregation,
    threshold: float | None,
    series: str | None,
) -> Scorer:
    require_bleed(segmenter.classes)

    def score(paths: Sequence[Path]) -> tuple[SliceScores, Outlined | None]:
        found = outline_slices(segmenter, paths, threshold=threshold, series=series)
        return found.scores, found

    return Scorer(identity, how, score)
