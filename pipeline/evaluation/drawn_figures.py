"""A figure over many draws of a split, each with models fitted anew: its mean, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling, bounds_of, fewest_of_a_class
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS, Estimate, difference, moves_of, student
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent

__all__ = ["DrawnFigure", "figures_of_draws"]

# Found by simulation: of two heads that are equally good by construction one is said to be better in 8 to
# 19 % of data sets with none of it, in 2 to 8 % with this, and in 0 to 5 % with all that Nadeau and Bengio's
# correction adds, 1.25 for five folds.
_LEARNED = 2 / 3


@dataclass(frozen=True, eq=False)
class DrawnFigure:
    """A figure in many draws of a split, each with models that were fitted anew.

    Attributes
    ----------
    name : str
    draws : ndarray of shape (n_draws,)
        NaN where it is undefined.
    left_out : ndarray of shape (n_draws, n_groups), or None
        The same without each group of patients among those that are tested; models are not fitted again.
    sizes : ndarray of shape (n_groups,), or None
        Patients in each group.
    tested : float in 0..1
        Share of the patients that a draw tests, on average.
    classes : int
    rough : bool
        Whether a class has too few patients for intervals from patients left out to hold what they say.
    """

    name: str
    draws: np.ndarray
    left_out: np.ndarray | None = None
    sizes: np.ndarray | None = None
    tested: float = 1.0
    classes: int = 2
    rough: bool = False

    @property
    def mean(self) -> float | None:
        """Over the draws in which it is defined; None if there are none."""
        defined = self.draws[~np.isnan(self.draws)]
        return float(defined.mean()) if len(defined) else None

    @property
    def estimate(self) -> Estimate | str:
        """The mean over draws, and how sure it is as a figure of models that are fitted on such patients.

        Other patients would be tested, and other patients would be learned from. What comes of the first is
        the variance of the mean where patients are left out of the tests. All draws learn from much the same
        patients, so that what comes of the second does not shrink with their number (Nadeau and Bengio, Mach.
        Learn. 52, 2003). It is taken to be `_LEARNED` of the variance of one draw that tests every patient.
        """
        figure, left_out, sizes = self.mean, self.left_out, self.sizes
        if figure is None or left_out is None or sizes is None:
            return "undefined in every draw"
        bounds = bounds_of(self.name, self.classes)
        found = Estimate.of(figure, _mean(left_out), sizes, bounds)
        if isinstance(found, str):
            return found
        each = [
            np.nan_to_num(moves_of(own, without, sizes))
            for own, without in zip(self.draws, left_out, strict=True)
        ]
        learned = np.array(each) * np.sqrt(_LEARNED * self.tested / len(each))
        return Estimate(figure, np.concatenate([found.moves, learned]), bounds)

    def summary(self, level: float) -> dict[str, Any]:
        """Mean over draws with its interval: from patients left out, or Student's over draws where none are.

        Returns
        -------
        dict
            ``mean``, with ``low`` and ``high``, and ``rough`` where it is, or ``no_interval`` (reason).
        """
        if self.mean is None:
            return {"no_interval": "undefined in every draw"}
        if self.left_out is None:
            return {"mean": self.mean} | _ends(_student(self.draws[~np.isnan(self.draws)], level))
        found = self.estimate
        ends = _ends(found if isinstance(found, str) else found.interval(level))
        return {"mean": self.mean} | ends | self._rough_if(ends)

    def _rough_if(self, ends: dict[str, Any]) -> dict[str, bool]:
        return {"rough": True} if self.rough and "low" in ends else {}

    def less(self, other: "DrawnFigure", level: float) -> dict[str, Any]:
        """Less another of the same patients and groups: as `summary`, with ``p`` of no difference."""
        if self.mean is None or other.mean is None:
            return {"no_interval": "undefined in every draw"}
        entry: dict[str, Any] = {"mean": self.mean - other.mean}
        if self.left_out is None or other.left_out is None:
            return entry | _ends(_student(self.draws - other.draws, level))
        own, theirs = self.estimate, other.estimate
        for one in (own, theirs):
            if isinstance(one, str):
                return entry | {"no_interval": one}
        found = difference(own, theirs, level)
        if isinstance(found, str):
            return entry | {"no_interval": found}
        ends = {"low": found[0], "high": found[1], "p": found[2]}
        return entry | ends | self._rough_if(ends)


def figures_of_draws(
    found: Sequence[Predictions],
    patients: np.ndarray,
    resampling: Resampling | None,
    names: Sequence[str],
    progress: Progress = silent,
) -> dict[str, DrawnFigure]:
    """Each figure over draws of a split, with its value in every draw and without each group of patients.

    Parameters
    ----------
    found : sequence of Predictions
        What was predicted in each draw.
    patients : ndarray of shape (n_patients,), str
        All patients, sorted; a draw may lack some.
    resampling : Resampling or None
        None leaves no patients out: the draws alone say how sure a figure is.
    names : sequence of str
        The figures that are wanted, of `pipeline.evaluation.tallies.METRICS`.
    progress : Progress
    """
    tallies = [Tally(predictions) for predictions in found]
    each = [tally.figures() for tally in tallies]
    draws = {name: np.array([figures[name][0] for figures in each]) for name in names}
    if resampling is None:
        return {name: DrawnFigure(name, own) for name, own in draws.items()}
    groups = resampling.groups(len(patients))
    columns = [np.searchsorted(patients, tally.patients) for tally in tallies]
    blocks = []
    for weights in progress(groups.weights(), label="patients left out"):
        left_out = [tally.figures(weights[:, own]) for tally, own in zip(tallies, columns, strict=True)]
        blocks.append({name: np.stack([figures[name] for figures in left_out]) for name in names})
    rough = fewest_of_a_class(tallies, patients) < LEAST_PATIENTS
    tested = float(np.mean([len(own) / len(patients) for own in columns]))
    return {
        name: DrawnFigure(
            name,
            own,
            np.concatenate([block[name] for block in blocks], axis=1),
            groups.sizes,
            tested,
            len(found[0].classes),
            rough,
        )
        for name, own in draws.items()
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over draws of what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    return np.divide(
        np.where(defined, values, 0).sum(axis=0),
        defined.sum(axis=0),
        out=np.full(values.shape[1:], np.nan),
        where=defined.any(axis=0),
    )


def _ends(found: tuple[float, float] | str) -> dict[str, Any]:
    return {"no_interval": found} if isinstance(found, str) else {"low": found[0], "high": found[1]}


def _student(values: np.ndarray, level: float) -> tuple[float, float] | str:
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return "one draw only"
    half = student(len(values) - 1, 1 - level) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
