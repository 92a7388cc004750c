"""Two models on the same slices: differences with intervals, tests, and the sentence they allow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from haemo.errors import BadDataset
from haemo.pipeline.evaluation.intervals import LeftOut, Resampling, bounds_of
from haemo.pipeline.evaluation.jackknife import Estimate, difference
from haemo.pipeline.evaluation.paired import delong, exact_mcnemar, holm, patient_sign_test
from haemo.pipeline.evaluation.set_tallies import AnyTally
from haemo.pipeline.evaluation.tallies import METRICS
from haemo.pipeline.evaluation.units import Answers

__all__ = ["correct", "pair_of_models", "sentence"]

_ALPHA = 0.05


def pair_of_models(
    first: str,
    second: str,
    answers: Mapping[str, Answers],
    tallies: Mapping[str, AnyTally],
    models: Mapping[str, dict[str, Any]],
    left_out: Mapping[str, LeftOut],
    resampling: Resampling,
) -> dict[str, Any]:
    """Compare two models of aligned predictions.

    Parameters
    ----------
    first, second : str
    answers : mapping of str to Predictions, or to UnitAnswers
    tallies : mapping of str to Tally, or to SetTally
        Of the answers.
    models : mapping of str to dict
        What `pipeline.evaluation.intervals.assess` gave for each.
    left_out : mapping of str to tuple
        What `pipeline.evaluation.intervals.figures_left_out` gave for each, with the same groups of patients.
    resampling : Resampling
        Deals the groups, and has the level of the intervals of differences.

    Returns
    -------
    dict
        As `pipeline.evaluation.comparison.Comparison.pairs` describes it, without the correction and the
        sentence.
    """
    a, b = answers[first], answers[second]
    right_a, right_b = tallies[first].right, tallies[second].right
    same = (tallies[first].named == tallies[second].named).reshape(len(a), -1).all(axis=1)
    only_first, only_second = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    sizes = resampling.groups(len(tallies[first].patients)).sizes
    differences, p_values = {}, {}
    for metric in METRICS:
        if metric not in models[first] or metric not in models[second]:
            continue
        differences[metric] = {"difference": models[first][metric] - models[second][metric]}
        if metric == "calibration_error":
            continue  # each keeps what chance adds to it
        one, other = (
            Estimate.of(
                models[name][metric], left_out[name][0][metric], sizes, bounds_of(metric, len(a.classes))
            )
            for name in (first, second)
        )
        reason = next((own for own in (one, other) if isinstance(own, str)), None)
        found = reason or difference(one, other, resampling.level)
        if isinstance(found, str):
            p_values[metric] = found if reason or differences[metric]["difference"] else 1.0
        else:
            low, high, p_values[metric] = found
            differences[metric] |= {"low": low, "high": high}
    tests: dict[str, dict[str, float]] = {
        "mcnemar": {"p": exact_mcnemar(only_first, only_second)},
        "patient_sign": {"p": patient_sign_test(right_a.astype(int) - right_b.astype(int), a.patient)},
    }
    untested: dict[str, str] = {}
    if a.positive is None:
        untested = dict.fromkeys(("delong", "delong_patients"), "DeLong's test is for two classes")
    else:
        try:
            plain: float | str = delong(a.label == a.positive, a.scores, b.scores).p
        except BadDataset as error:
            plain = str(error)
        for test, p in (("delong", plain), ("delong_patients", p_values.get("roc_auc", plain))):
            if isinstance(p, str):
                untested[test] = p
            elif np.isnan(p):
                untested[test] = "the variance of the difference is 0"
            else:
                tests[test] = {"p": p}
    return {
        "first": first,
        "second": second,
        "agreement": float(np.mean(same)),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "differences": differences,
        "tests": tests,
        "untested": untested,
    }


def correct(pairs: list[dict[str, Any]]) -> None:
    """Holm's correction over all tests that keep patients whole: two for every pair of models."""
    entries = [
        pair["tests"][test]
        for pair in pairs
        for test in ("patient_sign", "delong_patients")
        if test in pair["tests"]
    ]
    for entry, p in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
        entry["p_holm"] = p


def sentence(pair: dict[str, Any], patients: int, things: str, level: float) -> str:
    """What may be said of two models, in plain words.

    Parameters
    ----------
    pair : dict
        From `pair_of_models`, after `correct`.
    patients : int
    things : str
        What is ranked: ``slices``, ``studies``, ``patients``.
    level : float
        Coverage of the intervals.
    """
    first, second = pair["first"], pair["second"]
    if not pair["tests"]:
        return f"Nothing is said of {first} against {second}: {next(iter(pair['untested'].values()))}."
    claims, other_point = [], ""
    for test, metric, words in (
        ("delong_patients", "roc_auc", f"ranks {things} better than {{}} (ROC AUC"),
        ("patient_sign", "accuracy", "is right more often than {} (accuracy"),
    ):
        entry = pair["tests"].get(test)
        if entry is None or entry["p_holm"] >= _ALPHA or metric not in pair["differences"]:
            continue
        difference = pair["differences"][metric]["difference"]
        if metric == "accuracy" and (other_point := _other_point(pair)):
            continue
        better, worse = (first, second) if difference > 0 else (second, first)
        claim = f"{better} {words.format(worse)} {abs(difference):.3f} higher"
        claims.append(f"{claim}, corrected p = {entry['p_holm']:.2g})")
    where = f"on these {patients} patients"
    if claims:
        return f"{' and '.join(claims)} {where}.{other_point}"
    detail = corrected = ""
    for metric, name in (("roc_auc", "ROC AUC"), ("accuracy", "accuracy")):
        entry = pair["differences"].get(metric, {})
        if "low" in entry and not (metric == "accuracy" and other_point):
            interval = f"{entry['low']:+.3f} to {entry['high']:+.3f}"
            kind = "rough " if entry.get("rough") else ""
            detail = f": {name} differs by {entry['difference']:+.3f}, {kind}{level:.0%} interval {interval}"
            if entry["low"] > 0 or entry["high"] < 0:
                corrected = " once corrected for the number of tests"
            break
    return f"{first} and {second} cannot be told apart {where}{corrected}{detail}.{other_point}"


def _other_point(pair: Mapping[str, Any]) -> str:
    """That one model is the more sensitive and the other the more specific; empty if not.

    Who of them is right more often is then a matter of where they decide, and of how many bleed: the same
    scores do so under two thresholds.
    """
    more = [pair["differences"].get(name, {}).get("difference", 0) for name in ("sensitivity", "specificity")]
    if more[0] * more[1] >= 0:
        return ""
    first, second = (pair["first"], pair["second"]) if more[0] > 0 else (pair["second"], pair["first"])
    return (
        f" How often they are right is not set against each other: they decide at different operating "
        f"points, {first} is the more sensitive and {second} the more specific."
    )
