"""DICOM results of scored studies, as files: OUT/STUDY/report.dcm, and outlines-N.dcm beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.atomic import replacing
from haemo.errors import BadSettings, MissingExtra, UnreadableSlice
from haemo.features.failures import Failure
from haemo.pipeline.dicom_results.finding import ModelIdentity, SeriesFinding
from haemo.pipeline.dicom_results.sources import SourceSeries
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.segmenting.outlining import Outlined
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["StudyResult", "findings_of", "prepare", "write_results", "write_study"]

_STAGE = "dicom"
_FIRST_NUMBER = 9001  # of the series that results are: after those of any scanner


@dataclass(frozen=True)
class StudyResult:
    """The files written for one study.

    Attributes
    ----------
    study_uid : str
    positive : bool
        Whether any of its series is called positive.
    report : Path
    outlines : tuple of Path
        A segmentation for each series that has outlines.
    """

    study_uid: str
    positive: bool
    report: Path
    outlines: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, segmentations first: a report refers to what is there already."""
        return (*self.outlines, self.report)


def prepare(folder: Path) -> None:
    """See that results can be written, before anything is scored.

    Raises
    ------
    MissingExtra
        If highdicom is not installed.
    BadSettings
        If the folder holds something already.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "DICOM results need highdicom, which is not installed: pip install 'haemo[pacs]'"
        ) from error
    if folder.exists() and any(folder.iterdir()):
        raise BadSettings(f"{folder} is not empty; name another folder for DICOM results, or empty it first")
    folder.mkdir(parents=True, exist_ok=True)


def write_results(
    folder: Path,
    scores: SliceScores,
    outlined: Outlined | None,
    model: ModelIdentity,
    how: Aggregation | str = Aggregation.MAX,
    progress: Progress = silent,
) -> tuple[list[StudyResult], list[Failure]]:
    """Write a report for every study, and a segmentation for every series called positive that is outlined.

    Returns
    -------
    results : list of StudyResult
    failures : list of Failure
        Studies that get no result, named by one of their files: those that are no DICOM.
    """
    findings, failures = findings_of(scores, outlined, how)
    results = []
    for uid, own in progress(list(findings.items()), total=len(findings), label=_STAGE):
        try:
            results.append(write_study(folder / uid, own, model))
        except UnreadableSlice as error:
            failures.append(Failure(str(own[0].series.sources[0].path), _STAGE, str(error)))
    return results, failures


def findings_of(
    scores: SliceScores, outlined: Outlined | None, how: Aggregation | str = Aggregation.MAX
) -> tuple[dict[str, list[SeriesFinding]], list[Failure]]:
    """What was found on each series, by the UID of its study, and what can have no result."""
    findings: dict[str, list[SeriesFinding]] = {}
    failures = []
    for row in scores.study_rows(how):
        places = [number for number, study in enumerate(scores.studies) if study == row["study"]]
        paths = [scores.paths[place] for place in places]
        try:
            series = SourceSeries.read(paths)
        except UnreadableSlice as error:
            more = f" (and {len(paths) - 1} more of the same)" if len(paths) > 1 else ""
            failures.append(Failure(str(paths[0]), _STAGE, f"{error}{more}"))
            continue
        findings.setdefault(series.study_uid, []).append(_finding(series, scores, places, row, outlined))
    return findings, failures


def _finding(
    series: SourceSeries,
    scores: SliceScores,
    places: Sequence[int],
    row: Mapping[str, Any],
    outlined: Outlined | None,
) -> SeriesFinding:
    positive = row["predicted"] == scores.positive
    masks, volume_ml = {}, None
    if outlined and positive:
        drawn = ((number, outlined.masks.get(scores.paths[place])) for number, place in enumerate(places))
        masks = {number: mask for number, mask in drawn if mask}
        if row["study"] in outlined.studies:
            volume_ml = outlined.studies[row["study"]].volume_ml
    return SeriesFinding(
        series=series,
        positive=positive,
        probability=row["probability"],
        threshold=row["threshold"],
        joined_by=row["aggregation"],
        slice_probabilities=tuple(float(scores.probabilities[place]) for place in places),
        slices_positive=row["slices_positive"],
        slices_outside=row["slices_outside"],
        masks=masks,
        volume_ml=volume_ml,
    )


def write_study(
    folder: Path,
    findings: Sequence[SeriesFinding],
    model: ModelIdentity,
    previous: "Dataset | None" = None,
) -> StudyResult:
    """Write the results of one study, each file whole or not at all; the report comes last.

    Parameters
    ----------
    folder : Path
        Is made if it is not there.
    findings : sequence of SeriesFinding
        Of all its series.
    model : ModelIdentity
    previous : Dataset, optional
        An earlier report, which this one takes the place of.

    Raises
    ------
    UnreadableSlice
        If the images contradict each other so that no result can refer to them.
    """
    from haemo.pipeline.dicom_results.codes import new_uid
    from haemo.pipeline.dicom_results.report import report
    from haemo.pipeline.dicom_results.segmentation import segmentation

    folder.mkdir(parents=True, exist_ok=True)
    made: list[Dataset | None] = []
    paths = []
    trackings = [(new_uid(), f"haemorrhage {number}") for number in range(1, len(findings) + 1)]
    try:
        for number, (finding, tracking) in enumerate(zip(findings, trackings, strict=True), start=1):
            made.append(
                segmentation(finding, model, _FIRST_NUMBER + number, tracking)
                if finding.has_outlines
                else None
            )
        document = report(findings, made, trackings, model, _FIRST_NUMBER, previous)
    # highdicom refuses with these what it cannot make a valid file of. What is known to lead there is looked
    # at before; the rest is a study without a result, and is named.
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnreadableSlice(
            f"its headers cannot be made a DICOM result ({type(error).__name__})"
        ) from error
    for number, each in enumerate(made, start=1):
        if each is not None:
            paths.append(_write(folder / f"outlines-{number}.dcm", each))
    written = _write(folder / "report.dcm", document)
    return StudyResult(
        findings[0].series.study_uid, any(one.positive for one in findings), written, tuple(paths)
    )


def _write(path: Path, dataset: "Dataset") -> Path:
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return path
