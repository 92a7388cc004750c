"""The reading room: every study that can be opened, who may open it, and what is known of it."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haemo.features.failures import Failure
from haemo.pipeline.run.directory import SEGMENTER
from haemo.pipeline.serving.findings import KnownAnswers, findings
from haemo.pipeline.serving.pixels import PixelCache
from haemo.pipeline.serving.queue import Job, ScoringQueue
from haemo.pipeline.serving.runs import RunView
from haemo.pipeline.serving.scored import Model, Task
from haemo.pipeline.serving.sessions import Session, Sessions
from haemo.pipeline.serving.studies import Study

__all__ = ["ReadingRoom"]


class ReadingRoom:
    """Studies of runs and of the command line are for all sessions, dropped ones for their own.

    Parameters
    ----------
    sessions : Sessions
    queue : ScoringQueue
    pixels : PixelCache
    model : Model
        Scores what is dropped, and what was named on the command line.
    views : sequence of RunView
    opened : sequence of Study
        Named on the command line.
    failures : sequence of Failure
        What was named there and cannot be used.
    """

    def __init__(
        self,
        sessions: Sessions,
        queue: ScoringQueue,
        pixels: PixelCache,
        model: Model,
        views: Sequence[RunView] = (),
        opened: Sequence[Study] = (),
        failures: Sequence[Failure] = (),
    ):
        self.sessions = sessions
        sessions.ended = self._forget
        self.pixels = pixels
        self.model = model
        self.views = tuple(views)
        self.failures = tuple(failures)
        self._queue = queue
        self._opened = {study.key: study for study in opened}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()  # answers are given by several threads
        for study in opened:
            self.job(study, urgent=False)

    def study(self, session: Session, key: str) -> Study | None:
        """A study that this session may open; None for any other key."""
        for some in (session.studies, self._opened, *(view.studies for view in self.views)):
            if key in some:
                return some[key]
        return None

    def admit(self, session: Session, studies: Sequence[Study]) -> None:
        """Let a session have what it dropped, and have that scored at once."""
        for study in studies:
            session.studies[study.key] = study
            self.job(study, folder=session.folder)

    def _forget(self, session: Session) -> None:
        self._queue.forget(session.folder)
        for key in session.studies:
            self._jobs.pop(key, None)
        self.pixels.forget(session.folder)

    def job(self, study: Study, urgent: bool = True, folder: Path | None = None) -> Job:
        """The scoring of a study, begun if it has not been; of a run's study its outlines alone.

        DICOM results are written below `folder`, and are deleted with it.
        """
        with self._lock:
            job = self._jobs.get(study.key)
            if job is None:
                job = self._jobs[study.key] = self._begun(study, urgent, folder)
        if urgent:
            self._queue.hurry(job)
        return job

    def _begun(self, study: Study, urgent: bool, folder: Path | None) -> Job:
        paths = tuple(study.paths)
        if study.run is not None:
            view = self.views[study.run]
            task = Task(paths, Model(SEGMENTER, view.run.path, view.run.trusted))
        else:
            results = (folder or self.sessions.folder) / f"dicom-{study.key}"
            task = Task(paths, self.model, results=results)
        return self._queue.add(task, urgent=urgent)

    def findings(self, study: Study, model: str = "") -> dict[str, Any]:
        """What is known of a study, as `findings` gives it; of a run's study as a model of the run has it."""
        return findings(study, self.job(study), self.known(study, model), str(self.model))

    def known(self, study: Study, model: str = "") -> KnownAnswers | None:
        """What a model of its run said of a study; None for studies of no run."""
        if study.run is None:
            return None
        view = self.views[study.run]
        name = self.model_of(view, model)
        return view.answers(name, study) if name else KnownAnswers(f"no model of {view.name}")

    def model_of(self, view: RunView, asked: str = "") -> str:
        """A model of a run: the one that is asked for, the one that scores here, or the first; or none."""
        for name in (asked, self.model.name):
            if name in view.models:
                return name
        return view.models[0] if view.models else ""

    def worklist(self, session: Session, model: str = "") -> list[dict[str, Any]]:
        """A row a study, the most suspicious first; those that are still being scored before them."""
        rows = [self._row(study, "dropped") for study in list(session.studies.values())]
        rows += [self._row(study, "command line") for study in self._opened.values()]
        for view in self.views:
            rows += [self._known_row(view, study, model) for study in view.studies.values()]
        return sorted(rows, key=_order)

    def _row(self, study: Study, origin: str) -> dict[str, Any]:
        job = self._jobs[study.key]
        found = findings(study, job, None, str(self.model))
        answer = found["answer"] or {}
        measures = found["measures"] or {}
        return {
            "key": study.key,
            "name": study.name,
            "origin": origin,
            "slices": len(study.slices),
            "stage": job.state,
            "done": job.done,
            "total": job.total,
            "reason": job.reason,
            "suspicion": answer.get("suspicion"),
            "called": answer.get("called", ""),
            "positive": _is_positive(answer),
            "volume_ml": measures.get("volume_ml"),
            "outside": sum(bool(one["outside"]) for one in found["slices"]),
            "failures": len(study.failures) + sum(bool(one["failure"]) for one in found["slices"]),
            "label": "",
            "part": "",
        }

    def _known_row(self, view: RunView, study: Study, model: str) -> dict[str, Any]:
        known = self.known(study, model)
        job = self._jobs.get(study.key)
        measures = (job.result.measures if job and job.result else None) or {}
        answer = {} if known is None else {"suspicion": known.suspicion, "threshold": known.threshold}
        if known and known.suspicion is None:
            chances = [one["probability"] for one in known.slices.values()]
            answer["suspicion"] = max(chances, default=None)
        labels = {one.label for one in study.slices if one.label}
        return {
            "key": study.key,
            "name": study.name,
            "origin": view.name,
            "slices": len(study.slices),
            "stage": "scored",
            "done": 0,
            "total": 0,
            "reason": "",
            "suspicion": answer.get("suspicion"),
            "called": known.predicted if known else "",
            "positive": _is_positive(answer),
            "volume_ml": measures.get("volume_ml"),
            "outside": 0,
            "failures": 0,
            "label": " + ".join(sorted(labels)),
            "part": " + ".join(sorted({one.part for one in study.slices if one.part})),
        }


def _is_positive(answer: dict[str, Any]) -> bool:
    threshold = answer.get("threshold")
    return threshold is not None and answer["suspicion"] is not None and answer["suspicion"] >= threshold


def _order(row: dict[str, Any]) -> tuple[int, float]:
    if row["suspicion"] is not None:
        return 1, -row["suspicion"]
    return (2, 0.0) if row["stage"] in ("scored", "failed") else (0, 0.0)
