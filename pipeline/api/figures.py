"""What scores are worth, with intervals by whole patients: from arrays, wherever they come from."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.features.labels import order_classes
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import rough_mark
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.report.page import table
from haemo.pipeline.run.predictions import Predictions

__all__ = ["Figure", "Figures", "evaluate"]

log = logging.getLogger("haemo")

_OF_PROBABILITIES = ("mse", "brier", "log_loss", "calibration_error")
_OF_SCORES = ("roc_auc", "average_precision")
_ABOUT = ("undefined", "intervals", "no_interval")  # what is said of each figure beside its value


@dataclass(frozen=True)
class Figure:
    """One figure and how sure it is.

    Attributes
    ----------
    value : float
    low, high : float or None
        Ends of its interval; None where it has none, for the reason `why_no_interval`.
    method : str
        How the interval was made; empty where there is none.
    why_no_interval : str
    rough : bool
        Whether a class has too few patients for the interval to hold what it says; ``~`` in print.
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""
    why_no_interval: str = ""
    rough: bool = False

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        mark = rough_mark({"rough": self.rough})
        ends = "" if self.low is None else f" ({mark}{self.low:.3f}-{self.high:.3f})"
        return f"{self.value:.3f}{ends}"


@dataclass(frozen=True, repr=False)
class Figures(Mapping[str, Figure]):
    """Figures by name: ``figures["roc_auc"].low``. A figure that is undefined is absent.

    Attributes
    ----------
    slices, patients : int
        How many were judged; `slices` counts what `things` says.
    classes : tuple of str
    positive : str or None
        The class that sensitivity and scores speak of; None for more than two.
    level : float
        Coverage that the intervals aim at.
    undefined : mapping of str to str
        Figures that could not be computed, and why.
    things : str
        What is counted: slices, studies or patients.
    """

    figures: Mapping[str, Figure]
    slices: int
    patients: int
    classes: tuple[str, ...]
    positive: str | None
    level: float
    undefined: Mapping[str, str]
    things: str = "slices"

    @classmethod
    def of_assessment(cls, found: Mapping[str, Any], things: str = "slices") -> "Figures":
        """Take over what `pipeline.evaluation.intervals.assess` gives."""
        return cls(
            figures={name: _figure(found, name) for name in METRICS if name in found},
            slices=found["slices"],
            patients=found["patients"],
            classes=tuple(found["classes"]),
            positive=found["positive"],
            level=found["resampling"]["level"],
            undefined=dict(found["undefined"]),
            things=things,
        )

    def __getitem__(self, name: str) -> Figure:
        if name not in self.figures:
            reason = self.undefined.get(name, f"there is no such figure, only {', '.join(self.figures)}")
            raise KeyError(f"{name}: {reason}")
        return self.figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def __len__(self) -> int:
        return len(self.figures)

    @property
    def heading(self) -> str:
        """What was judged, in one line."""
        of = f"positive: {self.positive}" if self.positive else f"{len(self.classes)} classes, averaged"
        units = "" if self.things == "patients" else f"{self.slices} {self.things} of "
        return f"{units}{self.patients} patients, {of}, {self.level:.0%} intervals"

    def __repr__(self) -> str:
        lines = [f"{metric_title(name):18} {figure}" for name, figure in self.items()]
        return "\n".join([self.heading, *lines])

    def _repr_html_(self) -> str:
        rows = [(metric_title(name), str(figure)) for name, figure in self.items()]
        return table(("figure", f"value ({self.level:.0%} interval)"), rows, self.heading)


def evaluate(
    y: Any,
    score: Any = None,
    groups: Any = None,
    *,
    probability: Any = None,
    threshold: float | None = None,
    positive: Any = None,
    prevalence: float | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Figures:
    """Figures of a two-class model, with intervals that keep patients whole.

    Parameters
    ----------
    y : array-like of shape (n,)
        True classes, of exactly two kinds: 0 and 1, False and True, or names.
    score : array-like of shape (n,), optional
        Any number that is higher the more it speaks for the positive class. Default: `probability`.
    groups : array-like of shape (n,), optional
        Patient of each row. Without it each row counts as its own patient, which a warning says.
    probability : array-like of shape (n,), optional
        Of the positive class, in 0..1. Adds MSE, Brier score, log loss and calibration error.
    threshold : float, optional
        The positive class is predicted from here on: a score, or a probability where these are given, 0.5 by
        default. With scores alone there is no default, and figures that need a decision are absent.
    positive : optional
        Which value of `y` is the positive class; by default 1, True, or the name that says there is a bleed.
    prevalence : float in 0..1, optional
        Give PPV and NPV for this share of positive rows instead of that in `y`.
    resamples, level, seed
        Of the intervals, which come from patients left out in turn, in at most so many groups.

    Returns
    -------
    Figures
        By name: ``roc_auc``, ``average_precision``, ``sensitivity``, ``specificity``, ``brier`` and so on,
        each with ``value``, ``low`` and ``high``. docs/evaluation.md defines them.

    Raises
    ------
    BadDataset
        If shapes or lengths do not fit, or a value is not finite or out of range.
    TooFewData
        If `y` has one class, or no row.
    BadSettings
        If there are more than two classes, or an option is not allowed.
    """
    y = _column("y", y)
    classes, labels = _classes(y, positive)
    chances = None if probability is None else _numbers("probability", probability, y)
    if chances is not None and (chances.min() < 0 or chances.max() > 1):
        raise BadDataset("probability has values outside 0..1; give them as score")
    scores = chances if score is None else _numbers("score", score, y)
    if scores is None:
        raise BadSettings("there is nothing to judge: give score or probability")
    patients = _patients(groups, y)
    decisive = scores if chances is None else chances
    if threshold is None and chances is not None:
        threshold = 0.5
    called = decisive >= (np.inf if threshold is None else threshold)
    predictions = Predictions(
        slice_id=np.arange(len(y)).astype(str),
        patient=patients,
        study=patients,
        label=labels,
        part=np.full(len(y), "test"),
        fold=np.full(len(y), -1),
        scores=scores,
        probabilities=np.full(len(y), 0.5) if chances is None else chances,
        predicted=np.array(classes)[called.astype(int)],
        classes=classes,
    )
    found = assess(predictions, prevalence=prevalence, resampling=Resampling(resamples, seed, level))
    if prevalence is not None:
        _at_prevalence(found)
    if chances is None:
        _leave_out(found, _OF_PROBABILITIES, "needs probability")
    if threshold is None:
        _leave_out(
            found, set(METRICS) - {*_OF_SCORES, *_OF_PROBABILITIES}, "needs a threshold, or probability"
        )
    return Figures.of_assessment(found)


def _column(name: str, values: Any) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim != 1:
        raise BadDataset(f"{name} has the shape {column.shape}; give one value a row, shape (n,)")
    return column


def _classes(y: np.ndarray, positive: Any) -> tuple[tuple[str, str], np.ndarray]:
    """The two classes, the positive one last, and the class of each row."""
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise BadDataset("y has values that are not finite (NaN or infinite); leave out rows without a label")
    if y.dtype.kind == "f" and (y == np.rint(y)).all():
        y = y.astype(int)
    labels = np.array([str(value) for value in y.tolist()])
    names = sorted(set(labels))
    if len(names) < 2:
        found = f"one class only, {names[0]}" if names else "no rows"
        raise TooFewData(f"y has {found}; figures need rows of two classes")
    if len(names) > 2:
        raise BadSettings(
            f"y has {len(names)} classes ({', '.join(names[:5])}); judge one against the rest: y == name"
        )
    ordered = order_classes(names, None if positive is None else str(positive))
    return (ordered[0], ordered[1]), labels


def _numbers(name: str, values: Any, y: np.ndarray) -> np.ndarray:
    column = _column(name, values)
    if len(column) != len(y):
        raise BadDataset(f"{name} has {len(column)} rows, and y has {len(y)}")
    if column.dtype.kind not in "biuf":
        raise BadDataset(f"{name} holds {column.dtype}; it must hold numbers")
    column = column.astype(np.float64)
    if not np.isfinite(column).all():
        place = int(np.argmin(np.isfinite(column)))
        raise BadDataset(
            f"{name} is not finite in row {place} (NaN or infinite); leave such rows out, or mend"
        )
    return column


def _patients(groups: Any, y: np.ndarray) -> np.ndarray:
    if groups is None:
        log.warning(
            "no groups: each row stands as its own patient. If slices of one patient are among them, "
            "intervals are too narrow; give groups"
        )
        return np.arange(len(y)).astype(str)
    patients = _column("groups", groups)
    if len(patients) != len(y):
        raise BadDataset(f"groups has {len(patients)} rows, and y has {len(y)}")
    names = patients.tolist()
    if any(name is None or name != name for name in names):
        raise BadDataset("groups has rows without a patient (None or NaN); name the patient of each row")
    return np.array([str(name) for name in names])


def _at_prevalence(found: dict[str, Any]) -> None:
    """Put PPV and NPV at the prevalence in place of those in the data."""
    there = found["at_prevalence"]
    for name in ("ppv", "npv"):
        for entry in (found, *(found[kind] for kind in _ABOUT)):
            entry.pop(name, None)
        if name in there:
            found[name] = there[name]
    for kind in _ABOUT:
        found[kind] |= there[kind]


def _leave_out(found: dict[str, Any], names: Iterable[str], reason: str) -> None:
    for name in names:
        found.pop(name, None)
        found["undefined"][name] = reason


def _figure(found: Mapping[str, Any], name: str) -> Figure:
    interval = found["intervals"].get(name)
    if interval is None:
        return Figure(found[name], why_no_interval=found["no_interval"].get(name, ""))
    ends, rough = (interval["low"], interval["high"]), interval.get("rough", False)
    return Figure(found[name], *ends, interval["method"], rough=rough)
