"""Figures of a model as the commands print them: a name that people use, three places, and the interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from haemo.pipeline.cli.console import table

__all__ = ["cell", "mean_cell", "show_shortfalls", "show_trained"]

_SHOWN = (
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "mse",
)


def cell(figures: Mapping[str, Any], metric: str) -> str:
    """One figure with its interval, where it has one (~: rough, of few patients); a dash where undefined."""
    from haemo.pipeline.evaluation.jackknife import rough_mark

    if metric not in figures:
        return "-"
    interval = figures["intervals"].get(metric)
    if interval is None:
        return f"{figures[metric]:.3f}"
    return f"{figures[metric]:.3f} ({rough_mark(interval)}{interval['low']:.3f}-{interval['high']:.3f})"


def mean_cell(figure: Mapping[str, Any] | None) -> str:
    """A mean of `pipeline.evaluation.patient_means` with its interval, as far as there are any."""
    from haemo.pipeline.evaluation.jackknife import rough_mark

    if figure is None:
        return ""
    if "low" not in figure:
        return f"{figure['mean']:.2f}"
    return f"{figure['mean']:.2f} [{rough_mark(figure)}{figure['low']:.2f}, {figure['high']:.2f}]"


def show_trained(name: str, facts: Mapping[str, Any], metrics: Mapping[str, Any], held_out: str) -> None:
    """Print what a model is worth that has just been trained.

    Parameters
    ----------
    name : str
        Of the model.
    facts : mapping
        What settings.json holds.
    metrics : mapping
        ``test``, and ``cv`` where training slices were held out, each from
        `pipeline.evaluation.intervals.assess`.
    held_out : str
        What the slices of ``cv`` are called: ``out of fold`` or ``validation``.
    """
    from haemo.pipeline.evaluation.baseline import shortfalls
    from haemo.pipeline.evaluation.tallies import metric_title

    test = metrics["test"]
    leaky = "  LEAKY split: too good" if facts["leaky"] else ""
    level = f"{test['resampling']['level']:.0%}"
    rows = [(what, str(test[what])) for what in ("slices", "patients")]
    rows += [(metric_title(metric), cell(test, metric)) for metric in _SHOWN]
    columns = ["", f"test ({level} interval)"]
    if "cv" in metrics:
        cv = metrics["cv"]
        first = [str(cv[what]) for what in ("slices", "patients")]
        first += [f"{cv[metric]:.3f}" if metric in cv else "-" for metric in _SHOWN]
        rows = [(name, left, right) for (name, right), left in zip(rows, first, strict=True)]
        columns.insert(1, held_out)
    rule = str(facts.get("threshold_rule", ""))
    chosen = f" ({rule}, out of fold)" if rule.startswith(("youden", "sensitivity", "specificity")) else ""
    table(columns, rows, title=f"{name} at threshold {facts.get('threshold', 0.5):g}{chosen}{leaky}")
    for reason in sorted(set(test["undefined"].values())):
        click.echo(f"undefined on the test slices: {reason}")
    show_shortfalls({name: shortfalls(test, "test slices")})


def show_shortfalls(found: Mapping[str, Sequence[str]]) -> None:
    """Print what speaks against models, by name."""
    for name, sentences in found.items():
        for sentence in sentences:
            click.echo(f"warning: {name}: {sentence}")
