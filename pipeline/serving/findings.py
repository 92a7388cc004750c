"""What is known of a study, as the page takes it: a probability a slice, outlines, measures, doubts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haemo.features.reading.address import file_of
from haemo.pipeline.evaluation.units import background_of
from haemo.pipeline.serving.queue import Job
from haemo.pipeline.serving.scored import Scored
from haemo.pipeline.serving.studies import Study

__all__ = ["KnownAnswers", "findings", "suspicion"]


@dataclass(frozen=True)
class KnownAnswers:
    """What a model of a run said of the slices of one study when it was trained.

    Attributes
    ----------
    model : str
    slices : dict of str to dict
        By slice id: ``probability`` of a bleed, ``predicted``, ``threshold``.
    suspicion : float or None
        Probability that the study bleeds.
    predicted : str
        What the study is called.
    threshold : float or None
        From which probability a study is called so.
    """

    model: str
    slices: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    suspicion: float | None = None
    predicted: str = ""
    threshold: float | None = None


def suspicion(row: Mapping[str, Any], classes: tuple[str, ...]) -> float | None:
    """Probability of a bleed in a row of `SliceScores`: of all classes that are not the background.

    None where more than two classes are told apart and none of them says that there is no bleed.
    """
    background = background_of(classes)
    if len(classes) == 2:
        probability = row["probability"]
        return 1 - probability if background == classes[1] else probability
    return None if background is None else 1 - row[f"probability_{background}"]


def findings(study: Study, job: Job | None, known: KnownAnswers | None, model: str) -> dict[str, Any]:
    """Everything the page shows of a study, as JSON can hold it.

    Parameters
    ----------
    study : Study
    job : Job, optional
        Scores and outlines of the study as it lies here.
    known : KnownAnswers, optional
        For a study of a run: they stand in place of the scores of `job`, which would flatter training slices.
    model : str
        What scores, as the reader sees it.
    """
    scored = job.result if job else None
    slices = [_slice(study, number, scored, known) for number in range(len(study.slices))]
    return {
        "name": study.name,
        "model": known.model if known else model,
        "stage": job.state if job else "scored",
        "done": job.done if job else 0,
        "total": job.total if job else 0,
        "step": job.step if job else "",
        "reason": job.reason if job else "",
        "slices": slices,
        "answer": _answer(slices, scored, known),
        "measures": scored.measures if scored else None,
        "outlined_by": scored.outlined_by if scored else "",
        "dicom": bool(scored and scored.dicom),
        "no_dicom": scored.no_dicom if scored else "",
        "caveat": _caveat(scored, known),
        "notes": _notes(scored, known),
        "failures": [{"name": one.path, "reason": one.reason} for one in study.failures],
    }


def _slice(study: Study, number: int, scored: Scored | None, known: KnownAnswers | None) -> dict[str, Any]:
    own = study.slices[number]
    row = scored.slices.get(own.path, {}) if scored else {}
    found: dict[str, Any] = {
        "name": own.name,
        "z_mm": own.z_mm,
        "label": own.label,
        "part": own.part,
        "probability": None,
        "threshold": None,
        "called": "",
        "outside": row.get("outside", ""),
        "failure": _failure(own.path, scored),
        "outlines": scored.outlines.get(own.path, []) if scored else [],
    }
    if known:
        answer = known.slices.get(own.slice_id, {})
        found["probability"], found["called"] = answer.get("probability"), answer.get("predicted", "")
        found["threshold"] = answer.get("threshold")
    elif scored and row:
        found["probability"], found["called"] = suspicion(row, scored.classes), row["predicted"]
        found["threshold"] = _of_bleed(scored.threshold, scored.classes)
    return found


def _failure(path: Path, scored: Scored | None) -> str:
    """Why a slice cannot be scored; a volume of which no slice can be is named as a whole."""
    return scored.failures.get(path) or scored.failures.get(file_of(path), "") if scored else ""


def _answer(
    slices: list[dict[str, Any]], scored: Scored | None, known: KnownAnswers | None
) -> dict[str, Any] | None:
    """The study in one number; where no rule joins its slices, the most suspicious of them."""
    chances = [one["probability"] for one in slices if one["probability"] is not None]
    if known:
        value, called, threshold = known.suspicion, known.predicted, known.threshold
    elif scored and scored.study:
        several = len(scored.classes) > 2
        value = None if several else suspicion(scored.study, scored.classes)
        called = scored.study["predicted"]
        threshold = None if several else _of_bleed(scored.study["threshold"], scored.classes)
    else:
        value, called, threshold = None, "", None
    if value is None:
        value = max(chances, default=None)
    return None if value is None else {"suspicion": value, "called": called, "threshold": threshold}


def _of_bleed(threshold: float | None, classes: tuple[str, ...]) -> float | None:
    """A threshold on the probability of the positive class, as one on that of a bleed."""
    if threshold is not None and background_of(classes) == classes[-1]:
        return 1 - threshold
    return threshold


def _caveat(scored: Scored | None, known: KnownAnswers | None) -> str:
    """What must not be made of the answer or, where that is of another model, of the outlines."""
    if not scored or not scored.caveat:
        return ""
    return f"outlines: {scored.caveat}" if known or scored.outlines_apart else scored.caveat


def _notes(scored: Scored | None, known: KnownAnswers | None) -> list[str]:
    if scored and not known and not scored.distance_checked:
        return ["not checked: how far slices are from those that the model was trained on"]
    return []
