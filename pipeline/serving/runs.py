"""Runs on the page: their studies with what models said of them, their tables, figures and errors."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import HaemoError
from haemo.features.labels import order_classes
from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import judged_units
from haemo.pipeline.evaluation.units import background_of
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.serving.findings import KnownAnswers
from haemo.pipeline.serving.studies import Study, StudySlice, shown
from haemo.pipeline.splitting.split import Split

__all__ = ["RunView"]


class RunView:
    """One run, read once; what it has was made by commands, which the page does not run.

    Parameters
    ----------
    run : RunDirectory
    number : int
        Its place among the runs of the server.

    Raises
    ------
    MissingStep
        If it has not been indexed.
    """

    def __init__(self, run: RunDirectory, number: int):
        self.run = run
        self.number = number
        self.name = shown(run.path.resolve().name)
        self.manifest = run.manifest()
        self.models = run.models()
        self.unreadable: dict[str, str] = {}
        self._answers: dict[str, dict[tuple[str, str], KnownAnswers]] = {}
        self._units: dict[str, tuple[str, str]] = {}

    @cached_property
    def studies(self) -> dict[str, Study]:
        """Its studies by key, each with its slices by position."""
        rows = sorted(self.manifest, key=lambda row: (row.position is None, row.position or 0.0))
        together: dict[tuple[str, str], list[StudySlice]] = {}
        for row in rows:
            one = StudySlice(
                row.path,
                shown(row.slice_id),
                row.position,
                row.slice_id,
                row.label,
                self.part_of(row.slice_id),
            )
            together.setdefault((row.patient, row.study), []).append(one)
        found = {}
        for (patient, study), slices in sorted(together.items()):
            name = patient if study in ("", patient) else f"{patient}, {study}"
            made = Study(shown(name), tuple(slices), run=self.number)
            found[made.key] = made
            self._units[made.key] = (patient, study)
        return found

    @cached_property
    def place_of(self) -> dict[str, tuple[str, int]]:
        """Key of the study and place in it, by slice id."""
        return {
            one.slice_id: (key, number)
            for key, study in self.studies.items()
            for number, one in enumerate(study.slices)
        }

    def row(self, slice_id: str) -> ManifestRow | None:
        """A slice by its id."""
        return self._rows.get(slice_id)

    def part_of(self, slice_id: str) -> str:
        """``train`` or ``test``, or empty where no split deals it."""
        return self._parts.get(slice_id, "")

    def tested(self) -> list[ManifestRow]:
        """Labelled slices of the test side: of the split, or as its models have it where there is none."""
        if self._parts:
            return [row for row in self.manifest.labelled if self.part_of(row.slice_id) == "test"]
        found = (self.predictions(model) for model in self.models)
        tested = next((set(one.of_part("test").slice_id.tolist()) for one in found if one is not None), set())
        return [row for row in self.manifest.labelled if row.slice_id in tested]

    def link(self, slice_id: str) -> str:
        """Address of a slice in its study; empty for one that is not in the run."""
        place = self.place_of.get(slice_id)
        return f"/studies/{place[0]}?slice={place[1] + 1}" if place else ""

    def classes(self) -> tuple[str, ...]:
        """Classes as its models have them, the positive one of two last."""
        for model in self.models:
            found = self.predictions(model)
            if found is not None:
                return found.classes
        return order_classes(self.manifest.classes)

    def answers(self, model: str, study: Study) -> KnownAnswers:
        """What a model of the run said of a study; empty where it said nothing."""
        if model not in self._answers:
            self._answers[model] = self._read_answers(model)
        unit = self._units[study.key]
        return self._answers[model].get(unit, KnownAnswers(f"{model} of {self.name}"))

    def predictions(self, model: str) -> Predictions | None:
        """What a model said, or None where its file cannot be read: `unreadable` then says why."""
        try:
            return self.run.predictions(model)
        except (HaemoError, OSError) as error:
            self.unreadable[model] = str(error)
            return None

    def errors(self, model: str, most: int = 200) -> list[dict[str, Any]]:
        """Test slices that a model gets wrong, the most confident first."""
        found = self.predictions(model)
        if found is None:
            return []
        tested = found.of_part("test")
        wrong = tested.select(tested.predicted != tested.label)
        sure = _confidence(wrong)
        return [self._row(wrong, number) for number in np.argsort(-sure, kind="stable")[:most].tolist()]

    def slices(self, model: str, part: str, first: int, most: int) -> tuple[list[dict[str, Any]], int]:
        """Some of the slices that a model judged, the most suspicious first, and how many there are."""
        found = self.predictions(model)
        if found is None:
            return [], 0
        chosen = found.of_part(part)
        order = np.argsort(-_bleed(chosen), kind="stable")[first : first + most]
        return [self._row(chosen, number) for number in order.tolist()], len(chosen)

    def figures(self) -> list[Path]:
        """Pictures that `haemo report` and `haemo plot` left."""
        return sorted(self.run.path.glob("figures/*.png"))

    def _row(self, found: Predictions, number: int) -> dict[str, Any]:
        slice_id = str(found.slice_id[number])
        return {
            "name": shown(slice_id),
            "patient": shown(str(found.patient[number])),
            "label": str(found.label[number]),
            "predicted": str(found.predicted[number]),
            "probability": float(_bleed(found)[number]),
            "link": self.link(slice_id),
        }

    @cached_property
    def _rows(self) -> dict[str, ManifestRow]:
        return {row.slice_id: row for row in self.manifest}

    @cached_property
    def _parts(self) -> dict[str, str]:
        if not self.run.split_path.exists():
            return {}
        rows = list(self.manifest.labelled)
        split = Split.read(self.run.split_path)
        if split.unit == "copy":  # a slice may stand on both sides
            return {}
        return dict(zip((row.slice_id for row in rows), split.parts(rows).tolist(), strict=True))

    def _read_answers(self, model: str) -> dict[tuple[str, str], KnownAnswers]:
        found = self.predictions(model)
        if found is None:
            return {}
        chances = _bleed(found)
        mirrored = background_of(found.classes) == found.positive
        slices: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for number, (patient, study) in enumerate(zip(found.patient, found.study, strict=True)):
            limit = 0.5 if found.thresholds is None else float(found.thresholds[number])
            slices.setdefault((str(patient), str(study)), {})[str(found.slice_id[number])] = {
                "probability": float(chances[number]),
                "predicted": str(found.predicted[number]),
                "threshold": None if found.positive is None else 1 - limit if mirrored else limit,
            }
        name = f"{model} of {self.name}"
        answers = {unit: KnownAnswers(name, own) for unit, own in slices.items()}
        if found.positive is not None:
            for part in ("cv", "test"):
                answers |= self._judged(model, found.of_part(part), answers, mirrored)
        return answers

    def _judged(
        self, model: str, found: Predictions, known: dict[tuple[str, str], KnownAnswers], mirrored: bool
    ) -> dict[tuple[str, str], KnownAnswers]:
        """Studies as `haemo compare --by study` judges them."""
        if not len(found):
            return {}
        units = judged_units(self.run, model, found, "study", Aggregation.MAX, None)
        if not isinstance(units, Predictions):
            return {}
        answers = {}
        for number, unit in enumerate(zip(units.patient.tolist(), units.study.tolist(), strict=True)):
            chance = float(units.probabilities[number])
            limit = 0.5 if units.thresholds is None else float(units.thresholds[number])
            answers[unit] = KnownAnswers(
                f"{model} of {self.name}",
                known[unit].slices,
                1 - chance if mirrored else chance,
                str(units.predicted[number]),
                1 - limit if mirrored else limit,
            )
        return answers


def _bleed(found: Predictions) -> np.ndarray:
    """Probability of a bleed of each row; of more than two classes without a background, of the likeliest."""
    background = background_of(found.classes)
    if found.positive is not None:
        return 1 - found.probabilities if background == found.positive else found.probabilities
    if background is None:
        return found.probabilities.max(axis=1)
    return 1 - found.probabilities[:, found.classes.index(background)]


def _confidence(found: Predictions) -> np.ndarray:
    if found.positive is None:
        return found.probabilities.max(axis=1, initial=0)
    limit = 0.5 if found.thresholds is None else found.thresholds
    return np.abs(found.probabilities - limit)
