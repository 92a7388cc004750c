"""What a segmenter outlines on the studies that another model called positive."""

from collections.abc import Sequence

from haemo.errors import BadSettings, TooFewData
from haemo.features.labels import says_bleed
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.segmenting.outlining import Outlined, outline_slices
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.progress import Progress, silent

__all__ = ["outline_positive", "require_bleed"]


def require_bleed(classes: Sequence[str]) -> None:
    """Refuse a model whose answer is no answer to "is there a bleed".

    Raises
    ------
    BadSettings
    """
    if len(classes) != 2 or not says_bleed(classes[1]):
        raise BadSettings(
            f"the classes of this model are {', '.join(classes)}; a DICOM result says whether there is a "
            f"haemorrhage: take a model of two classes whose positive one is a bleed"
        )


def outline_positive(
    scores: SliceScores,
    how: Aggregation | str,
    segmenter: Segmenter,
    progress: Progress = silent,
) -> Outlined | None:
    """Outline the slices of the studies that are called positive; None where there is none.

    Slices that cannot be drawn stay without an outline; they are among the failures of the result.
    """
    called = {row["study"] for row in scores.study_rows(how) if row["predicted"] == scores.positive}
    paths = [path for path, study in zip(scores.paths, scores.studies, strict=True) if study in called]
    if not paths:
        return None
    try:
        return outline_slices(segmenter, paths, progress=progress)
    except TooFewData:
        return None
