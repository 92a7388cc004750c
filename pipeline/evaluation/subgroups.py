"""For whom a model holds: its figures by sex, age, scanner and the like, and what the differences may say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.bands import UNKNOWN, groups_of
from haemo.pipeline.evaluation.intervals import Resampling, assess, bounds_of
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS, Estimate, difference
from haemo.pipeline.evaluation.paired import holm
from haemo.pipeline.evaluation.set_tallies import tally_of
from haemo.pipeline.evaluation.tallies import metric_title
from haemo.pipeline.evaluation.units import background_of
from haemo.pipeline.run.attributes import OF_BLEEDS
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent

__all__ = ["COMPARED", "attributes_of_units", "by_subgroup", "sentences_on"]

COMPARED = ("roc_auc", "sensitivity", "specificity")
"""Figures whose differences between a group and all others are given and tested."""

_ALPHA = 0.05
_SEVERAL = "several"


def attributes_of_units(
    columns: Mapping[str, np.ndarray], unit: np.ndarray, units: int
) -> dict[str, np.ndarray]:
    """Attributes of studies or patients from those of their slices.

    Types of bleed are joined, the size is that of the largest; of another attribute a unit has the one value
    that its slices have, or is called `several`.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,), str
    unit : ndarray of shape (n,), int
        Unit of each slice, 0..units-1.
    units : int
    """
    found = {}
    for name, values in columns.items():
        own: list[set[str]] = [set() for _ in range(units)]
        for place, value in zip(unit, values, strict=True):
            own[place].update(str(value).split("+") if name == OF_BLEEDS[0] else [str(value)])
        found[name] = np.array([_joined(name, some - {""}) for some in own], dtype=object)
    return found


def _joined(name: str, values: set[str]) -> str:
    if name == OF_BLEEDS[0]:
        return "+".join(sorted(values))
    if name == OF_BLEEDS[1] and values:
        return max(values, key=float)
    return next(iter(values)) if len(values) == 1 else _SEVERAL if values else ""


def by_subgroup(
    answers: Mapping[str, Predictions],
    columns: Mapping[str, np.ndarray],
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Figures of models by subgroup, with differences to all other slices.

    Parameters
    ----------
    answers : mapping of str to Predictions
        Of two classes, aligned.
    columns : mapping of str to ndarray of shape (n,), str
        Attributes of the rows, by name.
    resampling : Resampling, optional
    progress : Progress

    Returns
    -------
    dict
        ``models`` (name -> ``groups``, ``sentences``), ``tests`` (how many differences were tested, in all
        models together). A group has ``attribute``, ``group``,
        ``slices``, ``patients``, ``patients_positive``, ``patients_negative``, ``figures`` (of `assess`),
        ``differences`` (figure -> ``difference`` to the rest with ``low``, ``high``, ``p`` and ``p_holm``)
        and ``too_small``: the figures of `COMPARED` for which a class has fewer than `LEAST_PATIENTS`
        patients in the group or in the rest, which are not tested.

    Notes
    -----
    Groups of `OF_BLEEDS` are of slices with a bleed: beside them stand all slices without one, in the group
    and in the rest, and specificity has no meaning. Differences are those of patients left out in turn from
    both at once, so that a patient with slices on both sides is counted as one. All p-values together are
    corrected by Holm: with twenty groups one in twenty uncorrected ones says something about nobody.
    """
    resampling = resampling or Resampling()
    first = next(iter(answers.values()))
    # Where normal is the positive class, a type of bleed is of the negative ones: nothing to set against it.
    told = [one for one in columns if one not in OF_BLEEDS or background_of(first.classes) != first.positive]
    wanted = [(name, attribute) for name in answers for attribute in told]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in answers}
    for name, attribute in progress(wanted, total=len(wanted), label="subgroups"):
        found[name] += _groups(answers[name], attribute, columns[attribute], resampling)
    tested = [
        entry
        for groups in found.values()
        for group in groups
        for entry in group["differences"].values()
        if "p" in entry
    ]
    for entry, p in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = p
    return {
        "tests": len(tested),
        "models": {
            name: {"groups": groups, "sentences": sentences_on(name, groups, len(tested))}
            for name, groups in found.items()
        },
    }


def _groups(
    answers: Predictions, attribute: str, values: Sequence[str], resampling: Resampling
) -> list[dict[str, Any]]:
    positive = answers.label == answers.positive
    of_bleeds = attribute in OF_BLEEDS
    groups = groups_of(attribute, values)
    if of_bleeds:
        groups = {name: inside & positive for name, inside in groups.items()}
        groups = {name: inside for name, inside in groups.items() if inside.any()}
    if set(groups) == {UNKNOWN}:
        return []
    entries = []
    for number, (name, inside) in enumerate(groups.items()):
        others = ~inside
        if of_bleeds:
            inside, others = inside | ~positive, (others & positive) | ~positive
        # Of two groups the second differs from the first by the same, with the other sign.
        mirrored = number == 1 and len(groups) == 2 and not of_bleeds
        entries.append(_entry(answers, attribute, name, inside, others, resampling, mirrored))
    return entries


def _entry(
    answers: Predictions,
    attribute: str,
    name: str,
    inside: np.ndarray,
    others: np.ndarray,
    resampling: Resampling,
    mirrored: bool,
) -> dict[str, Any]:
    own, rest = answers.select(inside), answers.select(others)
    positive = own.label == own.positive
    counts = {
        "sensitivity": len(np.unique(own.patient[positive])),
        "specificity": len(np.unique(own.patient[~positive])),
    }
    rest_positive = rest.label == rest.positive
    fewest = {
        "sensitivity": min(counts["sensitivity"], len(np.unique(rest.patient[rest_positive]))),
        "specificity": min(counts["specificity"], len(np.unique(rest.patient[~rest_positive]))),
    }
    fewest["roc_auc"] = min(fewest.values())
    compared = [one for one in COMPARED if not (attribute in OF_BLEEDS and one == "specificity")]
    entry: dict[str, Any] = {
        "attribute": attribute,
        "group": name,
        "slices": int(positive.sum()) if attribute in OF_BLEEDS else len(own),
        "patients": counts["sensitivity"] if attribute in OF_BLEEDS else len(np.unique(own.patient)),
        "patients_positive": counts["sensitivity"],
        "patients_negative": counts["specificity"],
        "figures": _assessed(own, resampling),
        "compared": compared,
        "too_small": [one for one in compared if len(rest) and fewest[one] < LEAST_PATIENTS],
        "differences": {},
    }
    if name == UNKNOWN or mirrored or not len(rest):
        return entry
    wanted = [one for one in compared if one not in entry["too_small"]]
    if wanted:
        entry["differences"] = _differences(answers, own, rest, wanted, resampling)
    return entry


def _assessed(own: Predictions, resampling: Resampling) -> dict[str, Any]:
    found = assess(own, resampling=resampling)
    return {
        name: value for name, value in found.items() if name not in ("per_class", "confusion", "resampling")
    }


def _differences(
    answers: Predictions, own: Predictions, rest: Predictions, wanted: Sequence[str], resampling: Resampling
) -> dict[str, Any]:
    """Figures of a group less those of the rest, patients of both left out together."""
    patients = np.unique(answers.patient)
    groups = resampling.groups(len(patients))
    figures = []
    for part in (own, rest):
        tally = tally_of(part, None)
        columns = np.searchsorted(patients, tally.patients)
        blocks = [tally.figures(weights[:, columns]) for weights in groups.weights()]
        whole = tally.figures()
        figures.append(
            {one: (float(whole[one][0]), np.concatenate([block[one] for block in blocks])) for one in wanted}
        )
    found: dict[str, Any] = {}
    for one in wanted:
        (first, without_first), (second, without_second) = figures[0][one], figures[1][one]
        if np.isnan(first) or np.isnan(second):
            continue
        entry = {"difference": first - second, "rest": second}
        estimates = [
            Estimate.of(value, without, groups.sizes, bounds_of(one, 2))
            for value, without in ((first, without_first), (second, without_second))
        ]
        reason = next((own for own in estimates if isinstance(own, str)), None)
        interval = reason or difference(estimates[0], estimates[1], resampling.level)
        if isinstance(interval, str):
            entry["no_interval"] = interval
        else:
            entry["low"], entry["high"], entry["p"] = interval
        found[one] = entry
    return found


def sentences_on(model: str, groups: Sequence[Mapping[str, Any]], tests: int) -> list[str]:
    """What may be said of a model's groups: differences that last, and what is too small."""
    sentences = []
    for group in groups:
        for one, entry in group["differences"].items():
            if entry.get("p_holm", 1.0) >= _ALPHA:
                continue
            word = "higher" if entry["difference"] > 0 else "lower"
            value = entry["rest"] + entry["difference"]
            sentences.append(
                f"{model}: {metric_title(one)} is {word} in {group['attribute']} {group['group']} than in "
                f"the rest: {value:.3f} against {entry['rest']:.3f} (corrected p = {entry['p_holm']:.2g})."
            )
    if not sentences and tests:
        sentences.append(
            f"{model}: no difference between groups lasts through the correction for {tests} tests. That is "
            "no proof that there is none: the intervals say how large one may be."
        )
    small = [
        f"{group['attribute']} {group['group']} ({group['patients_positive']} with, "
        f"{group['patients_negative']} without a bleed)"
        for group in groups
        if group["too_small"] and group["group"] != UNKNOWN
    ]
    if small:
        sentences.append(
            f"{model}: too small to say, under {LEAST_PATIENTS} patients of a class here or in the rest: "
            f"{', '.join(small)}."
        )
    return sentences
