"""Everything that a report is written from: read from a run once, and named as the reader may see it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.manifest import Manifest, ManifestRow
from models.errors import BadDataset
from models.progress import Progress, silent
from pipeline.copies import SliceCopy, copies_of
from pipeline.evaluation.comparison import Comparison, align, compare
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.metrics import evaluate
from pipeline.predictions import Predictions
from pipeline.run import RunDirectory
from pipeline.splits import Split

__all__ = ["Evidence", "Names", "gather"]


class Names:
    """How slices, patients and places are called in a report.

    Parameters
    ----------
    manifest : Manifest
    anonymous : bool
        Call slices and patients by their number in the manifest, and leave paths out.
    copies : iterable of SliceCopy
        Rotated copies of its slices, where the split deals them.
    """

    def __init__(self, manifest: Manifest, anonymous: bool, copies: Iterable[SliceCopy] = ()):
        self.anonymous = anonymous
        patients = dict.fromkeys(row.patient for row in manifest)
        self._slices = {row.slice_id: f"slice {place:05d}" for place, row in enumerate(manifest, start=1)}
        self._slices |= {
            copy.slice_id: f"{self._slices[copy.original]} turned by {copy.angle_deg} degrees"
            for copy in copies
            if copy.variant
        }
        self._patients = {name: f"patient {place:04d}" for place, name in enumerate(patients, start=1)}

    def slice(self, slice_id: str) -> str:
        """Name of a slice."""
        return self._slices.get(slice_id, "a slice") if self.anonymous else slice_id

    def patient(self, patient: str) -> str:
        """Name of a patient."""
        return self._patients.get(patient, "a patient") if self.anonymous else patient

    def path(self, path: str) -> str:
        """A path or command, or what stands for it."""
        return "(left out)" if self.anonymous else path


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run has to show.

    Attributes
    ----------
    run : RunDirectory
    manifest : Manifest
    names : Names
    record : dict
        run.json.
    split : Split or None
    comparison : Comparison
        Of all trained models, on the test slices.
    answers : mapping of str to Predictions
        Test predictions, aligned.
    out_of_fold : mapping of str to Predictions
        Predictions of part ``cv``, for models that have them.
    chosen : str
        The model that the claim speaks of: the best by cross-validation, not by its test figures.
    why_chosen : str
    settings : mapping of str to dict
        settings.json of each model.
    leakage, learning_curve, explanation : dict or None
        leakage.json, learning_curve.json and explain/score.json, where they are there.
    """

    run: RunDirectory
    manifest: Manifest
    names: Names
    record: dict[str, Any]
    split: Split | None
    comparison: Comparison
    answers: Mapping[str, Predictions]
    out_of_fold: Mapping[str, Predictions]
    chosen: str
    why_chosen: str
    settings: Mapping[str, dict[str, Any]]
    leakage: dict[str, Any] | None
    learning_curve: dict[str, Any] | None
    explanation: dict[str, Any] | None

    @property
    def dealt(self) -> list[ManifestRow]:
        """The labelled slices, or these and their rotated copies where the split deals them."""
        rows = self.manifest.labelled.rows
        return self.split.dealt(rows) if self.split else list(rows)

    @property
    def figures(self) -> dict[str, Any]:
        """Figures of the chosen model."""
        return self.comparison.models[self.chosen]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """How the embeddings were made, as the first head that says so has it; empty if none does."""
        return next((s["fingerprint"] for s in self.settings.values() if "fingerprint" in s), {})


def gather(
    run: RunDirectory,
    anonymous: bool,
    prevalence: float | None,
    resampling: Resampling,
    progress: Progress = silent,
) -> Evidence:
    """Read a run and compare its models.

    Raises
    ------
    MissingStep
        If the run has no manifest or no trained model.
    """
    manifest = run.manifest()
    comparison = compare(run, prevalence=prevalence, resampling=resampling, progress=progress)
    everything = {
        name: Predictions.read(run.model_path(name) / "predictions.csv") for name in comparison.models
    }
    answers, _ = align({name: p.of_part("test") for name, p in everything.items()})
    out_of_fold = {name: p.of_part("cv") for name, p in everything.items() if (p.part == "cv").any()}
    chosen, why = _choose(out_of_fold, list(answers))
    settings = {name: _read_json(run.model_path(name) / "settings.json") or {} for name in answers}
    split = Split.read(run.split_path) if run.split_path.exists() else None
    copies = copies_of(manifest.labelled) if split and split.unit == "copy" else ()
    return Evidence(
        run=run,
        manifest=manifest,
        names=Names(manifest, anonymous, copies),
        record=run.read_record(),
        split=split,
        comparison=comparison,
        answers=answers,
        out_of_fold=out_of_fold,
        chosen=chosen,
        why_chosen=why,
        settings=settings,
        leakage=_read_json(run.path / "leakage.json"),
        learning_curve=_read_json(run.path / "learning_curve.json"),
        explanation=_read_json(run.path / "explain" / "score.json"),
    )


def _choose(out_of_fold: Mapping[str, Predictions], names: list[str]) -> tuple[str, str]:
    """The best model by out-of-fold ROC AUC (accuracy, where that is undefined)."""
    scores = {}
    for name, predictions in out_of_fold.items():
        found = evaluate(predictions)
        scores[name] = (found.get("roc_auc", -1.0), found["accuracy"])
    if not scores:
        return names[0], "the first that was trained; no model has out-of-fold predictions to choose by"
    chosen = max(scores, key=lambda name: scores[name])
    if len(scores) == 1:
        return chosen, "the only one with out-of-fold predictions"
    return chosen, f"chosen by its out-of-fold ROC AUC on training patients ({scores[chosen][0]:.3f})"


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadDataset(f"{path} is not JSON ({error}); delete it and run that step again") from error
