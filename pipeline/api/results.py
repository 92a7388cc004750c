"""What training and comparing give back: a trained model, models side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from haemo.pipeline.api.figures import Figures
from haemo.pipeline.evaluation.comparison import Comparison
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.report.page import paragraph, table

__all__ = ["ComparedModels", "Trained"]


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A head or network of a run, trained.

    Attributes
    ----------
    name : str
    test : Figures
        On the test slices.
    out_of_fold : Figures or None
        On training slices that were held out; None where the test slices themselves chose the settings.
    parameters : dict
        What the search chose, for a head; the best epoch, for a network.
    threshold : float
        Probability from which the positive class is predicted.
    leaky : bool
        Whether patients stand on both sides of the split: then every figure is too good.
    up_to_date : bool
        Whether it was there already, made from the same settings and data.
    shortfalls : tuple of str
        What speaks against it as it decides: no better than always saying normal, or more than half missed.
    """

    name: str
    test: Figures
    out_of_fold: Figures | None
    parameters: dict[str, Any]
    threshold: float
    leaky: bool
    up_to_date: bool
    shortfalls: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """Name, chosen parameters and threshold, in one line."""
        chosen = ", ".join(f"{name} = {value:g}" for name, value in self.parameters.items())
        leaky = "; LEAKY split: too good" if self.leaky else ""
        return f"{self.name}: {chosen}; threshold {self.threshold:.3g}{leaky}"

    def __repr__(self) -> str:
        against = [f"warning: {sentence}" for sentence in self.shortfalls]
        return "\n".join([self.heading, f"test: {self.test!r}", *against])

    def _repr_html_(self) -> str:
        parts = {"test": self.test}
        if self.out_of_fold is not None:
            parts = {"out of fold": self.out_of_fold, **parts}
        shown = table(["", *parts], _side_by_side(parts), f"{self.heading}; {self.test.heading}")
        return shown + "".join(paragraph(f"warning: {sentence}") for sentence in self.shortfalls)


@dataclass(frozen=True, eq=False, repr=False)
class ComparedModels:
    """Every model of a run on the same slices.

    Attributes
    ----------
    models : mapping of str to Figures
    pairs : tuple of dict
        Every two models: ``first``, ``second``, ``differences``, ``tests``, ``sentence`` and so on.
    notes : tuple of str
        What a reader has to know beside the figures.
    leaky : bool
    baseline : mapping of str to Figures
        One entry, ``always normal``: the figures of always saying so, but for what needs a probability.
    points : mapping of str to dict
        Model to its figures at other operating points, as in compare.json.
    shortfalls : mapping of str to list of str
        What speaks against a model as it decides, in sentences; models without any are left out.
    """

    models: Mapping[str, Figures]
    pairs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    leaky: bool
    baseline: Mapping[str, Figures]
    points: Mapping[str, dict[str, Any]]
    shortfalls: Mapping[str, list[str]]

    @classmethod
    def of_comparison(cls, found: Comparison) -> "ComparedModels":
        """Take over what `pipeline.evaluation.comparison.compare` gives."""
        models = {name: Figures.of_assessment(own, found.things) for name, own in found.models.items()}
        same = {found.baseline["name"]: Figures.of_assessment(found.baseline, found.things)}
        return cls(models, found.pairs, found.notes, found.leaky, same, found.points, found.shortfalls)

    @property
    def heading(self) -> str:
        """What was judged, in one line."""
        return next(iter(self.models.values())).heading + ("; LEAKY: too good" if self.leaky else "")

    def _remarks(self) -> list[str]:
        against = [f"warning: {name}: {one}" for name, own in self.shortfalls.items() for one in own]
        said = [pair["sentence"] for pair in self.pairs]
        return [*against, *said, *(f"note: {note}" for note in self.notes)]

    def __repr__(self) -> str:
        columns = {**self.models, **self.baseline}
        rows = [["", *columns], *_side_by_side(columns)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([self.heading, *lines, *self._remarks()])

    def _repr_html_(self) -> str:
        columns = {**self.models, **self.baseline}
        models = table(["", *columns], _side_by_side(columns), self.heading)
        return models + "".join(map(paragraph, self._remarks()))


def _side_by_side(models: Mapping[str, Figures]) -> list[list[str]]:
    """A row a figure that any of them has, a cell a model."""
    return [
        [metric_title(metric), *(str(own[metric]) if metric in own else "-" for own in models.values())]
        for metric in METRICS
        if any(metric in own for own in models.values())
    ]
