"""The sections of the report about results: claim, table, published figures, curves, operating points."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.intervals import BY_CHANCE, Resampling, assess
from haemo.pipeline.evaluation.jackknife import rough_mark
from haemo.pipeline.evaluation.metrics import METRICS, at_prevalence
from haemo.pipeline.evaluation.operating import SHOWN, heading_of_points, point_title, rows_of_points
from haemo.pipeline.evaluation.tallies import metric_title
from haemo.pipeline.evaluation.unit_rule import judged_units, told_by_count
from haemo.pipeline.evaluation.units import background_of
from haemo.pipeline.report.answer_figures import (
    calibration_figure,
    confusion_figure,
    precision_recall_figure,
    roc_figure,
    score_figure,
)
from haemo.pipeline.report.evidence import Evidence
from haemo.pipeline.report.page import Section, draw, figures, paragraph, table
from haemo.pipeline.report.published import PUBLISHED
from haemo.pipeline.run.directory import HEADS

__all__ = [
    "cell",
    "claim",
    "curves_section",
    "operating_section",
    "published_section",
    "results_section",
    "warnings_of",
]

LEAKY = '<span class="leaky">LEAKY</span>'

_PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.4)
_SENSITIVITIES = (0.9, 0.95, 0.99)
_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def cell(figures_: Mapping[str, Any], metric: str) -> str:
    """One figure with its interval, as HTML."""
    if metric not in figures_:
        reason = figures_.get("undefined", {}).get(metric, "")
        return f'<span title="{escape(reason)}">undefined</span>'
    interval = figures_.get("intervals", {}).get(metric)
    text = f"{figures_[metric]:.3f}"
    if interval is None:
        return text
    return f"{text} <small>{rough_mark(interval)}{interval['low']:.3f}–{interval['high']:.3f}</small>"


def claim(evidence: Evidence) -> str:
    """The claim in one sentence, as plain text."""
    f = evidence.figures
    negative, *others = (f"class {name}" if name.isdigit() else name for name in f["classes"])
    what = f"{others[0]} from {negative}" if f["positive"] else f"{negative}, {', '.join(others)} apart"
    shown = "roc_auc" if "roc_auc" in f else "accuracy"
    parts = [_with_interval(f, name) for name in dict.fromkeys((shown, "accuracy"))]
    if f["positive"]:
        parts += [_with_interval(f, name) for name in ("sensitivity", "specificity") if name in f]
    leaky = "LEAKY: " if evidence.comparison.leaky else ""
    whole = (
        f"patients, {evidence.patients_seen} of them also seen in training"
        if evidence.comparison.leaky
        else "patients it was not trained on"
    )
    chance = f["intervals"].get("roc_auc", {}).get("low", 1.0) <= 0.5
    verb = f"is not shown to tell {what} better than chance:" if chance else f"tells {what} with"
    return (
        f"{leaky}On {f['slices']} {evidence.comparison.things} of {f['patients']} {whole}, "
        f"{evidence.chosen} {verb} {', '.join(parts)} ({evidence.why_chosen})."
    )


def _with_interval(f: Mapping[str, Any], name: str) -> str:
    words = metric_title(name)
    if words == "ROC AUC" and not f["positive"]:
        words = "a mean ROC AUC"
    interval = f["intervals"].get(name)
    level = f"{f['resampling']['level']:.0%}"
    if interval is not None and interval.get("rough"):
        level = f"rough {level}"
    if interval is None:
        return f"{words} {f[name]:.3f} (no interval: {f['no_interval'][name]})"
    return f"{words} {f[name]:.3f} ({level} interval {interval['low']:.3f} to {interval['high']:.3f})"


def warnings_of(evidence: Evidence) -> list[str]:
    """What must be read before any figure, as HTML."""
    found = [note for note in evidence.comparison.notes if "LEAKY" in note]
    if not evidence.manifest.patients_known:
        found.append(
            "No patient ids are known: each slice stands as its own patient. Slices of one person may be on "
            "both sides of the split, and every figure here may be too good."
        )
    if evidence.leakage:
        found += [
            f"{finding['name']}: {finding['found']}. {finding['meaning']}"
            for finding in evidence.leakage["findings"]
            if finding["verdict"] == "LEAK" and finding["name"] != "patients"
        ]
    found += [
        f"{evidence.chosen}: {sentence}."
        for sentence in evidence.comparison.shortfalls.get(evidence.chosen, ())
    ]
    return [paragraph(text, "warn") for text in found]


def results_section(evidence: Evidence, resampling: Resampling) -> Section:
    """Every model's figures, by slice and by patient, and what may be said of differences."""
    models = evidence.comparison.models
    first = evidence.figures
    average = (
        "" if first["positive"] else " Figures are plain means over classes where they are of one class."
    )
    same = evidence.comparison.baseline
    columns = {**models, same["name"]: same}
    rows = [[escape(metric_title(m)), *(cell(f, m) for f in columns.values())] for m in (*METRICS, BY_CHANCE)]
    parts = [
        table(
            ["", *columns],
            rows,
            f"Tested: {first['slices']} {evidence.comparison.things} of {first['patients']} patients"
            f"{' (LEAKY)' if evidence.comparison.leaky else ''}; small print: "
            f"{resampling.level:.0%} intervals from patients left out in turn (~: rough, too few patients).",
        ),
        paragraph(
            "MSE is the mean squared error of the probability; for two classes it is the Brier score. "
            f"Calibration error: {first['calibration_bins']} bins of equal width; by chance: that of a model "
            f"whose probabilities are right.{average}",
            "sub",
        ),
    ]
    parts += [
        paragraph(f"{name}: {sentence}.", "warn")
        for name, sentences in evidence.comparison.shortfalls.items()
        for sentence in sentences
    ]
    if evidence.comparison.pairs:
        items = "".join(f"<li>{escape(pair['sentence'])}</li>" for pair in evidence.comparison.pairs)
        parts += ["<h3>Can they be told apart?</h3>", f"<ul>{items}</ul>", _pair_table(evidence)]
    parts += [paragraph(note, "sub") for note in evidence.comparison.notes]
    parts += _per_class(evidence)
    parts += _by_unit(evidence, resampling)
    return Section("results", "Results", parts)


def _pair_table(evidence: Evidence) -> str:
    rows = []
    for pair in evidence.comparison.pairs:
        tests = pair["tests"]

        def p(test: str, kind: str, tests: Mapping[str, Any] = tests) -> str:
            return f"{tests[test][kind]:.3g}" if test in tests else "–"

        difference = pair["differences"].get("roc_auc", {})
        text = "–"
        if "low" in difference:
            ends = f"{rough_mark(difference)}{difference['low']:+.3f} to {difference['high']:+.3f}"
            text = f"{difference['difference']:+.3f} <small>{ends}</small>"
        rows.append(
            [
                f"{escape(pair['first'])} – {escape(pair['second'])}",
                f"{pair['agreement']:.1%}",
                f"{pair['only_first_right']} / {pair['only_second_right']}",
                p("mcnemar", "p"),
                p("patient_sign", "p_holm"),
                text,
                p("delong", "p"),
                p("delong_patients", "p_holm"),
            ]
        )
    columns = ["pair", "same answer", "only one right", "McNemar p", "by patient*"]
    columns += ["ROC AUC difference", "DeLong p", "by patient*"]
    return table(columns, rows, "* patients kept whole, corrected for the number of tests (Holm)")


def _per_class(evidence: Evidence) -> list[str]:
    columns = ("ppv", "sensitivity", "specificity", "npv", "f1")
    rows = [
        [escape(name), *(cell(entry, metric) for metric in columns), str(entry["slices"])]
        for name, entry in evidence.figures["per_class"].items()
    ]
    head = ["class", *(metric_title(name) for name in columns), "slices"]
    return [f"<h3>Classification report of {escape(evidence.chosen)}</h3>", table(head, rows)]


def _by_unit(evidence: Evidence, resampling: Resampling) -> list[str]:
    p = evidence.answers[evidence.chosen]
    columns = ("roc_auc", "sensitivity", "specificity", "ppv", "npv", "mse")
    meaning = "A unit has a bleed if any of its slices has one."
    if background_of(p.classes) is None:
        meaning = "A unit is positive if any of its slices is."
    if p.positive is None:
        columns = ("accuracy", *columns)
        background = background_of(p.classes)
        meaning = "A unit can have several classes at once: each that any of its slices has" + (
            f", and {background} if it has no other. " if background else ". "
        )
        meaning += (
            "Accuracy is how often exactly its classes are named; the other figures are plain means over "
            "classes, each against the rest."
        )
    rows = []
    for by in ("study", "patient"):
        if by == "patient" and len(set(zip(p.patient, p.study, strict=True))) == len(set(p.patient)):
            continue  # one study each: the same rows again
        for how in Aggregation:
            units = judged_units(evidence.run, evidence.chosen, p, by, how)
            found = assess(units, resampling=resampling)
            name = f"{by}, {how.value}"
            rows.append([name, str(found["slices"]), *(cell(found, metric) for metric in columns)])
        alone = told_by_count(p, by, resampling)
        if alone:
            row = [cell(alone, metric) if metric == "roc_auc" else "–" for metric in columns]
            rows.append([f"{by}, number of slices alone", str(alone["slices"]), *row])
    head = ["unit", "units", *(metric_title(name) for name in columns)]
    return [
        f"<h3>{escape(evidence.chosen)} by study and patient</h3>",
        table(head, rows),
        paragraph(
            f"{meaning} max: its highest slice decides; mean-top: the mean of its three highest; noisy-or: "
            "slices as independent witnesses. Scores are set back by what many slices give a healthy unit; "
            "probabilities and threshold are those of units held out of training, where there were enough.",
            "sub",
        ),
    ]


def published_section(evidence: Evidence) -> Section:
    """The published figures, the same models here, and the published protocol repeated here."""
    protocols = {}
    if evidence.leakage:
        protocols = {
            entry["protocol"]: entry for entry in evidence.leakage["protocols"] if "figures" in entry
        }
    rows = []
    mark = f" {LEAKY}" if evidence.comparison.leaky else ""
    network = evidence.fingerprint.get("network", "alexnet")
    for result in PUBLISHED:
        own = evidence.comparison.models.get(result.model)
        on = f", here on {network}" if own and result.model in HEADS and network != "alexnet" else ""
        repeated = "–"
        if result.protocol in protocols:
            value = protocols[result.protocol]["figures"]["accuracy"]
            repeated = f"{value['mean']:.3f} {LEAKY}"
            if "low" in value:
                repeated += f" <small>{rough_mark(value)}{value['low']:.3f}–{value['high']:.3f}</small>"
        rows.append(
            [
                f"{escape(result.system)}<br><small>haemo {escape(result.model)}{escape(on)}</small>",
                f"{escape(result.accuracy)} {LEAKY}",
                escape(result.mse) or "–",
                f"{escape(result.setting)}<br><small>{escape(result.source)}</small>",
                f"{cell(own, 'accuracy')}{mark}" if own else "not trained in this run",
                f"{cell(own, 'mse')}{mark}" if own else "–",
                repeated,
            ]
        )
    same = evidence.comparison.baseline
    rows.append([escape(same["name"]), "–", "–", "–", f"{cell(same, 'accuracy')}{mark}", "–", "–"])
    columns = ["system", "published accuracy", "MSE", "published on", "accuracy here", "MSE here"]
    columns.append("SVM under its protocol, here")
    side = "with patients on both sides" if evidence.comparison.leaky else "patients kept whole"
    return Section(
        "published",
        "Beside the published figures",
        [
            table(columns, rows),
            paragraph(
                f"The figures here are from other slices, {side}. The last column is the linear SVM on these "
                "slices under the published protocol (haemo leakage; the paper's needs haemo features "
                "--rotations paper): what is gained there against the honest split is the protocol's doing.",
                "sub",
            ),
        ],
    )


def curves_section(evidence: Evidence, folder: Path, resampling: Resampling) -> Section:
    """ROC, precision-recall, calibration, confusion matrices and score histograms."""
    models = evidence.comparison.models
    parts = []
    if evidence.figures["positive"] and "roc_auc" in evidence.figures:
        answers = evidence.answers
        parts.append(
            figures(
                roc_figure(answers, models, folder, resampling),
                precision_recall_figure(answers, models, folder, resampling),
                calibration_figure(answers, models, folder),
            )
        )
        parts += [draw(confusion_figure(models, folder)), draw(score_figure(answers, folder))]
    else:
        parts += [
            draw(confusion_figure(models, folder)),
            paragraph(
                "ROC, precision-recall and calibration curves are drawn for two classes, both tested.", "sub"
            ),
        ]
    return Section("curves", "Curves", parts)


def _points_table(evidence: Evidence) -> str:
    """Every model at its own threshold, and at others."""
    rows = [
        [
            f"{escape(model)} {point_title(point)}",
            f"{own['threshold']:.3f}" if "threshold" in own else "–",
            *(
                cell({"undefined": dict.fromkeys(SHOWN, own.get("why_not", "")), **own}, metric)
                for metric in SHOWN
            ),
        ]
        for model, point, own in rows_of_points(evidence.comparison.points)
    ]
    head = ["", "threshold", *(metric_title(name) for name in SHOWN)]
    return table(head, rows, f"every model, test slices: {heading_of_points(evidence.comparison.points)}")


def operating_section(evidence: Evidence, resampling: Resampling) -> Section | None:
    """What the chosen model does at several thresholds, and what a positive means at several prevalences."""
    if evidence.figures["positive"] is None:
        return None
    p = evidence.answers[evidence.chosen]
    thresholds = [(f"{value:.2f}", value) for value in _THRESHOLDS]
    if evidence.chosen in evidence.out_of_fold:
        cv = evidence.out_of_fold[evidence.chosen]
        found = np.sort(cv.probabilities[cv.label == cv.positive])[::-1]
        for target in _SENSITIVITIES if len(found) else ():
            value = float(found[int(np.ceil(target * len(found))) - 1])
            thresholds.append((f"{value:.3f}, out of fold {target:.0%} sensitive", value))
    columns = ("sensitivity", "specificity", "ppv", "npv", "f1", "mcc")
    rows = []
    for words, value in sorted(thresholds, key=lambda entry: entry[1]):
        at = assess(p, value, resampling=resampling)
        flagged = float(np.mean(p.probabilities >= value))
        rows.append([escape(words), f"{flagged:.1%}", *(cell(at, metric) for metric in columns)])
    head = ["threshold", "flagged", *(metric_title(name) for name in columns)]
    own = []
    for share in _PREVALENCES:
        there = at_prevalence(evidence.figures, share)
        texts = [f"{there[name]:.3f}" if name in there else "undefined" for name in ("ppv", "npv")]
        own.append([f"{share:.0%}", *texts])
    return Section(
        "operating",
        "Operating points",
        [
            _points_table(evidence),
            table(head, rows, f"{evidence.chosen}, test slices, by threshold on the probability"),
            table(["prevalence", "PPV", "NPV"], own, f"{evidence.chosen} at its own threshold, elsewhere"),
            paragraph(
                "Thresholds for a sensitivity or specificity were set on training slices that were held out; "
                "the test slices show what they give. PPV and NPV at a prevalence follow from sensitivity "
                "and specificity by Bayes' rule, and hold only if those do where the model is used.",
                "sub",
            ),
        ],
    )
