"""Everything that a report is written from: read from a run once, and named as the reader may see it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.evaluation.comparison import Comparison, align, compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.run.codes import Codes
from haemo.pipeline.run.directory import RunDirectory, read_json
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.shown import shown
from haemo.pipeline.splitting.copies import SliceCopy, copies_of
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import made_for
from haemo.progress import Progress, silent

__all__ = ["Evidence", "Names", "gather"]

log = logging.getLogger("haemo")


class Names:
    """How slices, patients and places are called in a report.

    Parameters
    ----------
    codes : Codes
        Of the run.
    anonymous : bool
        Call slices and patients by their codes, and leave paths out.
    copies : iterable of SliceCopy
        Rotated copies of its slices, where the split deals them.
    numbered : bool
        Where they are anonymous, call them by numbers in place of codes.
    """

    def __init__(
        self, codes: Codes, anonymous: bool, copies: Iterable[SliceCopy] = (), numbered: bool = False
    ):
        self.anonymous = anonymous
        self.numbers = codes.numbers if numbered else {}
        self._codes = codes
        self._copies = {
            copy.slice_id: (copy.original, f" turned by {copy.angle_deg} degrees")
            for copy in copies
            if copy.variant
        }

    def _shown(self, kind: str, name: str) -> str:
        """A name, or a code as measurements keep it, as the reader may see it."""
        if not self.anonymous:
            return self._codes.name(name)
        code = self._codes.code(kind, name)
        return self.numbers.get(code, kind) if self.numbers else code

    def slice(self, slice_id: str) -> str:
        """Name of a slice."""
        if not self.anonymous:
            return self._shown("slice", slice_id)
        original, turned = self._copies.get(slice_id, (slice_id, ""))
        own, at, angle = original.rpartition("@")
        if at and own in self._codes.names:  # a copy, as measurements keep it
            original, turned = own, f" turned by {angle} degrees"
        return self._shown("slice", original) + turned

    def patient(self, patient: str) -> str:
        """Name of a patient."""
        return self._shown("patient", patient)

    def study(self, study: str) -> str:
        """Name of a study."""
        return self._shown("study", study)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run has to show.

    Attributes
    ----------
    run : RunDirectory
    manifest : Manifest
    names : Names
    record : dict
        run.json; with the paths that it leaves out where names may be seen.
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
        leakage.json, learning_curve.json and explain/score.json, where they are there and hold for the
        split and the labels of now.
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
    def patients_seen(self) -> int:
        """How many of the patients that the chosen model is tested on have slices on the training side."""
        if self.split is None:
            return 0
        rows = self.dealt
        parts = self.split.parts(rows)
        trained = {row.patient for row, part in zip(rows, parts, strict=True) if part == "train"}
        return len(trained & set(self.answers[self.chosen].patient))

    @property
    def figures(self) -> dict[str, Any]:
        """Figures of the chosen model."""
        return self.comparison.models[self.chosen]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """How the embeddings were made, as the first head that says so has it; empty if none does."""
        heads = [own for own in self.settings.values() if "fingerprint" in own]
        # A head on the set without a name goes before those on others.
        first = min(heads, key=lambda own: len(own.get("features", ())), default={})
        return _of_first_set(first)

    @property
    def made_with(self) -> dict[str, Any]:
        """Network, layer, precision, weights and preprocessing that the chosen model stands on."""
        settings = self.settings[self.chosen]
        if "network" not in settings:
            return _of_first_set(settings)
        weights = settings["weights"]
        return {
            "network": settings["network"],
            "layer": "trained end to end",
            "precision": settings["settings"]["precision"],
            "weights": " ".join(filter(None, (weights["sha256"][:12], weights["origin"]))),
            "preprocessing": settings["preprocessing"],
        }


def _of_first_set(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint that a head stands on, or of several sets side by side that of the first."""
    found, sets = settings.get("fingerprint", {}), settings.get("features", ())
    return found[sets[0]] if len(sets) > 1 else found


def gather(
    run: RunDirectory,
    anonymous: bool,
    prevalence: float | None,
    resampling: Resampling,
    progress: Progress = silent,
    numbered: bool = False,
) -> Evidence:
    """Read a run and compare its models.

    Raises
    ------
    MissingStep
        If the run has no manifest or no trained model.
    """
    manifest = run.manifest()
    comparison = compare(run, prevalence=prevalence, clinical=True, resampling=resampling, progress=progress)
    everything = {name: run.predictions(name) for name in comparison.models}
    answers, _ = align({name: p.of_part("test") for name, p in everything.items()})
    out_of_fold = {name: p.of_part("cv") for name, p in everything.items() if (p.part == "cv").any()}
    flattered = [name for name in out_of_fold if run.chose_on_part_cv(name)]
    chosen, why = _choose(out_of_fold, list(answers), comparison.leaky, flattered)
    settings = {name: run.settings(name) for name in answers}
    if anonymous:
        settings = {name: shown(own)[0] for name, own in settings.items()}
    present = made_for(run)
    split = Split.read(run.split_path) if run.split_path.exists() else None
    copies = copies_of(manifest.labelled) if split and split.unit == "copy" else ()
    return Evidence(
        run=run,
        manifest=manifest,
        names=Names(Codes(manifest), anonymous, copies, numbered),
        record=run.shown_record() if anonymous else run.read_record(),
        split=split,
        comparison=comparison,
        answers=answers,
        out_of_fold=out_of_fold,
        chosen=chosen,
        why_chosen=why,
        settings=settings,
        leakage=_measured(run.path / "leakage.json", present, f"haemo leakage --run {run}"),
        learning_curve=_measured(
            run.path / "learning_curve.json", present, f"haemo learning-curve --run {run}"
        ),
        explanation=_measured(
            run.path / "explain" / "score.json", present, f"haemo explain --run {run} --score"
        ),
    )


def _choose(
    out_of_fold: Mapping[str, Predictions], names: list[str], leaky: bool, flattered: Sequence[str] = ()
) -> tuple[str, str]:
    """The best by ROC AUC (accuracy, where that is undefined) on slices that no model has learned from.

    Models that are `flattered` by these slices, which settled what they became, are looked at only where
    there are no others.
    """
    honest = {name: own for name, own in out_of_fold.items() if name not in flattered}
    left_out = f"; {', '.join(flattered)} left out, which these slices settled" if flattered else ""
    if not honest:
        honest, left_out = out_of_fold, "; these slices settled it too" if flattered else ""
    if not honest:
        return names[0], "the first that was trained; no model has out-of-fold predictions to choose by"
    if len(honest) == 1:
        return next(iter(honest)), f"the only one with out-of-fold predictions{left_out}"
    shared = set.intersection(*(set(p.slice_id) for p in honest.values()))
    scores = {}
    for name, predictions in honest.items():
        held_out = predictions.select(np.isin(predictions.slice_id, list(shared))) if shared else predictions
        found = evaluate(held_out)
        scores[name] = (found.get("roc_auc", -1.0), found["accuracy"])
    chosen = max(scores, key=lambda name: scores[name])
    things = "training slices" if leaky else "slices of training patients"
    where = f"{len(shared) or 'the'} {things} held out ({scores[chosen][0]:.3f})"
    return chosen, f"chosen by its ROC AUC on {where}{left_out}"


def _measured(path: Path, present: Mapping[str, str], again: str) -> dict[str, Any] | None:
    """What a step has measured, unless it did so for another split or other labels than there are now."""
    if not path.exists():
        return None
    found = read_json(path)
    known = found.get("made_for", {})
    if any(value != present.get(name) for name, value in known.items()):
        log.warning("%s was made for another split or other labels, and is left out; again: %s", path, again)
        return None
    return found
