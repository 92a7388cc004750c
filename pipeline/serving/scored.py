"""What a model says of a study, and outlines on it: as `haemo predict` and `haemo segment predict` say it."""

import json
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import HaemoError
from haemo.pipeline.packing.modelfile import BUILTIN, open_model
from haemo.progress import Progress

if TYPE_CHECKING:
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.predicting.slice_scores import SliceScores
    from haemo.pipeline.segmenting.outlining import Outlined
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["Model", "Scored", "Scorer", "Task"]


@dataclass(frozen=True)
class Model:
    """Which model scores.

    Attributes
    ----------
    name : str
        A head, a network or the segmenter of a run; without a run ``builtin``, or the file of a model.
    run : Path, optional
    trusted : tuple of str
        As of `RunDirectory`.
    """

    name: str
    run: Path | None = None
    trusted: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As the reader sees it."""
        if self.run is None:
            return "the built-in model" if self.name == BUILTIN else Path(self.name).name
        return f"{self.name} of {self.run.name}"


@dataclass(frozen=True)
class Task:
    """One study to be scored.

    Attributes
    ----------
    paths : tuple of Path
    model : Model
    results : Path, optional
        A folder that is not there yet, for DICOM results.
    """

    paths: tuple[Path, ...]
    model: Model
    results: Path | None = None


@dataclass(frozen=True)
class Scored:
    """What a model says of a study, in types of Python alone.

    Attributes
    ----------
    slices : dict of Path to dict
        As `SliceScores.row`.
    study : dict or None
        As `SliceScores.study_rows`, where the slices are of one study.
    classes : tuple of str
    threshold : float or None
    positive : str or None
    outlines : dict of Path to list of dict
        Of each outline ``rings`` and ``area_mm2``.
    measures : dict or None
        As `StudyMeasures`.
    failures : dict of Path to str
    distance_checked : bool
    caveat : str
        What the model must not be taken for.
    outlines_apart : bool
        Whether a head or network gave the scores, so that the caveat is of the outlines alone.
    outlined_by : str
    dicom : tuple of Path
        Report and segmentations for a PACS.
    no_dicom : str
        Why there are none.
    """

    slices: dict[Path, dict[str, Any]]
    study: dict[str, Any] | None
    classes: tuple[str, ...]
    threshold: float | None
    positive: str | None
    outlines: dict[Path, list[dict[str, Any]]] = field(default_factory=dict)
    measures: dict[str, Any] | None = None
    failures: dict[Path, str] = field(default_factory=dict)
    distance_checked: bool = True
    caveat: str = ""
    outlines_apart: bool = False
    outlined_by: str = ""
    dicom: tuple[Path, ...] = ()
    no_dicom: str = ""


class Scorer:
    """Scores one task after another; models stay loaded."""

    def __init__(self) -> None:
        self._loaded: dict[Model, Any] = {}

    def __call__(self, task: Task, progress: Progress) -> Scored:
        """Score and outline a study.

        Raises
        ------
        HaemoError
            If the model cannot be loaded, or no slice can be used.
        """
        from haemo.pipeline.predicting.prediction import score_slices
        from haemo.pipeline.run.directory import SEGMENTER
        from haemo.pipeline.segmenting.segmenter import Segmenter

        model = self._model(task.model)
        if isinstance(model, Segmenter):
            found, outlined = self._outlined(model, task, progress)
            return _with_dicom(found, task, model, outlined.scores, outlined)
        run = task.model.run
        outliner = self._model(Model(BUILTIN) if run is None else Model(SEGMENTER, run))
        found, outlined = self._outlined(outliner, task, progress, model.told_unit)
        scores = score_slices(model, task.paths, progress=progress)
        own = _of_scores(scores)
        joined = replace(
            own,
            outlines=found.outlines,
            measures=found.measures,
            failures={**found.failures, **own.failures},
            caveat=found.caveat,
            outlines_apart=True,
            outlined_by=found.outlined_by,
        )
        return _with_dicom(joined, task, model, scores, outlined)

    def _model(self, model: Model) -> Any:
        """A model, loaded once; the segmenter of a run without one is the built-in one."""
        from haemo.pipeline.predicting.blended_model import load_model
        from haemo.pipeline.run.directory import SEGMENTER, RunDirectory
        from haemo.pipeline.segmenting.segmenterfolder import outliner

        if model not in self._loaded:
            if model.run is None:
                self._loaded[model] = open_model(model.name, trusted=model.trusted)
            elif model.name == SEGMENTER:
                self._loaded[model] = outliner(RunDirectory(model.run))
            else:
                self._loaded[model] = load_model(RunDirectory(model.run, model.trusted), model.name)
        return self._loaded[model]

    def _outlined(
        self, segmenter: "Segmenter", task: Task, progress: Progress, unit: "Unit | None" = None
    ) -> "tuple[Scored, Outlined]":
        from haemo.features.pixels.region import OUTLINES
        from haemo.pipeline.segmenting.outlining import Outputs, outline_slices

        with tempfile.TemporaryDirectory(prefix="haemo-outlines-") as folder:
            outputs = Outputs(Path(folder), masks=False, overlays=False)
            found = outline_slices(segmenter, task.paths, outputs, unit=unit, progress=progress)
            features = json.loads((outputs.folder / OUTLINES).read_text(encoding="utf-8"))["features"]
        outlines: dict[Path, list[dict[str, Any]]] = {}
        for feature in features:
            facts = feature["properties"]
            outlines.setdefault(Path(facts["slice"]), []).append(
                {
                    "rings": feature["geometry"]["coordinates"],
                    "area_mm2": facts["area_mm2"],
                    "probability": facts["evidence"],
                }
            )
        studies = list(found.studies.values())
        caveat = segmenter.facts.get("caveat", "")
        scored = replace(
            _of_scores(found.scores),
            outlines=outlines,
            measures=asdict(studies[0]) if len(studies) == 1 else None,
            caveat=caveat,
            outlined_by="the built-in model" if caveat else f"the segmenter of {_place(task.model)}",
        )
        return scored, found


def _place(model: Model) -> str:
    return Path(model.name).name if model.run is None else "the run"


def _with_dicom(
    found: Scored, task: Task, loaded: Any, scores: "SliceScores", outlined: "Outlined"
) -> Scored:
    """Add reports and segmentations as `haemo predict --dicom` writes them, or why there are none."""
    from haemo.pipeline.dicom_results.outlines import require_bleed
    from haemo.pipeline.dicom_results.results import prepare, write_results
    from haemo.pipeline.dicom_results.scorer import file_identity, run_identity
    from haemo.pipeline.run.directory import RunDirectory

    if task.results is None:
        return found
    model = task.model
    try:
        require_bleed(scores.classes)
        prepare(task.results)
        if model.run is not None:
            identity = run_identity(RunDirectory(model.run), model.name)
        else:
            identity = file_identity(loaded, None if model.name == BUILTIN else Path(model.name))
        results, failures = write_results(task.results, scores, outlined, identity)
    except HaemoError as error:
        return replace(found, no_dicom=str(error))
    files = tuple(file for result in results for file in result.files)
    return replace(found, dicom=files, no_dicom=failures[0].reason if failures else "")


def _of_scores(scores: "SliceScores") -> Scored:
    studies = scores.study_rows()
    return Scored(
        slices={path: scores.row(number) for number, path in enumerate(scores.paths)},
        study=studies[0] if len(studies) == 1 else None,
        classes=scores.classes,
        threshold=scores.threshold if scores.positive is not None else None,
        positive=scores.positive,
        failures={Path(one.path): one.reason for one in scores.failures},
        distance_checked=scores.distance_checked,
    )
