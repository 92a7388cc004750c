"""The sections of a page about use and subgroups, of a run's report and of a judgement alike."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from haemo.pipeline.evaluation.decision_curve import SHOWN_THRESHOLDS, THRESHOLDS
from haemo.pipeline.evaluation.jackknife import rough_mark
from haemo.pipeline.evaluation.subgroups import COMPARED, sentences_on
from haemo.pipeline.evaluation.tallies import metric_title
from haemo.pipeline.report.page import Section, draw, paragraph, table
from haemo.pipeline.report.use_figures import decision_curve_figure, forest_figure

__all__ = ["entry", "groups_section", "use_section"]

_WITHOUT_NAMES = ("sex", "age", "scanner", "kernel", "thickness", "bleed", "size")


def entry(found: Mapping[str, Any] | None, signed: bool = False, places: int = 3) -> str:
    """A figure of `pipeline.evaluation.jackknife.with_interval`, as HTML."""
    if found is None:
        return "–"
    form = f"{'+' if signed else ''}.{places}f"
    if "low" not in found:
        return f'<span title="{escape(found.get("no_interval", ""))}">{found["value"]:{form}}</span>'
    ends = f"{rough_mark(found)}{found['low']:{form}} to {found['high']:{form}}"
    return f"{found['value']:{form}} <small>{ends}</small>"


def use_section(clinical: Mapping[str, Mapping[str, Any]], things: str, folder: Path) -> Section | None:
    """Calibration, decision curves, fixed points and predictive values of every model."""
    if not clinical:
        return None
    models = list(clinical.values())
    rows = []
    for name, words in (
        ("in_the_large", "calibration in the large (0 is right)"),
        ("slope", "calibration slope (1 is right)"),
        ("observed_to_expected", "observed / expected (1 is right)"),
    ):
        rows.append([words, *(entry(own["calibration"].get(name)) for own in models)])
    for name, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        shares = next((own["at_fixed"][name] for own in models if name in own["at_fixed"]), [])
        for place, one in enumerate(shares):
            cells = [entry(own["at_fixed"][name][place]) for own in models if name in own["at_fixed"]]
            rows.append([f"{name} at {one['at']:.0%} {other}", *cells])
    elsewhere = []
    for place, first in enumerate(models[0]["at_prevalences"]):
        for name in ("ppv", "npv"):
            cells = [entry(own["at_prevalences"][place].get(name)) for own in models]
            elsewhere.append([f"{name.upper()} at {first['prevalence']:.0%}", *cells])
    benefit = []
    curves = [own["decision_curve"] for own in models]
    for threshold in SHOWN_THRESHOLDS:
        place = THRESHOLDS.index(threshold)
        for key, words in (("model", f"at {threshold:g}"), ("gain", "over the better of all and none")):
            cells = [entry(c[key][place], signed=key == "gain") if key in c else "–" for c in curves]
            benefit.append([words, *cells])
    reasons = [
        paragraph(f"{name}: no {part.replace('_', ' ')}: {own[part]['why_not']}", "sub")
        for name, own in clinical.items()
        for part in ("calibration", "decision_curve", "at_fixed")
        if "why_not" in own[part]
    ]
    return Section(
        "use",
        "In use",
        [
            table(["", *clinical], rows, f"calibration, and points of the ROC curve of these {things}"),
            draw(decision_curve_figure(clinical, folder)),
            table(["net benefit", *clinical], benefit),
            table(["elsewhere", *clinical], elsewhere, "predictive values at other shares of positives"),
            *reasons,
            paragraph(
                "Net benefit weighs a false alarm as p / (1 - p) of a hit at a threshold of p; a model is "
                "called of use where it lies above calling all and calling none, by a band that holds at all "
                "thresholds. Sensitivity at a specificity, and the reverse, are what the best threshold "
                "would have given here: none was set before. Predictive values follow from sensitivity and "
                "specificity at each model's own threshold.",
                "sub",
            ),
        ],
    )


def groups_section(
    subgroups: Mapping[str, Any],
    overall: Mapping[str, Mapping[str, Any]],
    folder: Path,
    anonymous: bool = False,
) -> Section | None:
    """Every figure by subgroup, and what may be said.

    Where the page is `anonymous`, sites and attributes whose values nobody knows the kind of are left out:
    they may name a place or a person.
    """
    models = {name: own["groups"] for name, own in subgroups.get("models", {}).items() if own["groups"]}
    named: dict[str, None] = {}
    if anonymous:
        attributes = {group["attribute"] for groups in models.values() for group in groups}
        named = dict.fromkeys(sorted(attributes - set(_WITHOUT_NAMES)))
        models = {
            name: [group for group in groups if group["attribute"] not in named]
            for name, groups in models.items()
        }
    if not models:
        return None
    parts: list[str] = []
    for name, groups in models.items():
        parts += [paragraph(sentence) for sentence in sentences_on(name, groups, subgroups["tests"])]
        parts.append(draw(forest_figure(name, groups, overall[name], folder)))
        rows = []
        for group in groups:
            cells = [cell for one in COMPARED for cell in _cells(group, one)]
            counts = f"{group['patients_positive']} / {group['patients_negative']}"
            title = escape(f"{group['attribute']} {group['group']}")
            brier = _figure(group, "brier")
            rows.append([title, str(group["slices"]), counts, *cells, brier])
        columns = ["", "slices", "patients +/-"]
        columns += [text for one in COMPARED for text in (metric_title(one), "less the rest")]
        parts.append(table([*columns, metric_title("brier")], rows, f"{name}, by subgroup"))
    if named:
        parts.append(paragraph(f"Left out here, for their values may be names: {', '.join(named)}.", "sub"))
    parts.append(
        paragraph(
            "Each group is set against all other slices; groups by type and size of bleed are these bleeds "
            "beside all slices without one. Differences marked * last through Holm's correction for "
            f"{subgroups['tests']} tests; no other is spoken of, and none lasting is no proof of equality. "
            "Too small: under 8 patients of a class in the group or in the rest.",
            "sub",
        )
    )
    return Section("groups", "For whom it holds", parts)


def _cells(group: Mapping[str, Any], one: str) -> tuple[str, str]:
    if one not in group["compared"]:
        return "", ""
    difference = group["differences"].get(one)
    if one in group["too_small"]:
        text = "too small"
    elif difference is None:
        text = ""
    else:
        mark = "*" if difference.get("p_holm", 1.0) < 0.05 else ""
        text = entry({"value": difference["difference"], **difference}, signed=True) + mark
    return _figure(group, one), text


def _figure(group: Mapping[str, Any], one: str) -> str:
    figures = group["figures"]
    if one not in figures:
        return f'<span title="{escape(figures["undefined"].get(one, ""))}">undefined</span>'
    return entry({"value": figures[one], **figures["intervals"].get(one, {})})
