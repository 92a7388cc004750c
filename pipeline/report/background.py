"""The sections of the report about what stands behind the results: search, leakage, errors, limits, run."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS, rough_mark
from haemo.pipeline.evaluation.tallies import metric_title
from haemo.pipeline.report.drawing import Drawing
from haemo.pipeline.report.evidence import Evidence, Names
from haemo.pipeline.report.page import Section, draw, figures, paragraph, table
from haemo.pipeline.report.sections import LEAKY
from haemo.pipeline.report.study_figures import (
    error_montage,
    grid_figure,
    history_figure,
    leakage_figure,
    learning_curve_figure,
)
from haemo.pipeline.splitting.protocols import FACTS
from haemo.pipeline.splitting.split import Protocol

__all__ = [
    "INTENDED_USE",
    "errors_section",
    "explanation_section",
    "leakage_section",
    "learning_section",
    "limits_of",
    "limits_section",
    "preprocessing_of",
    "run_section",
    "training_section",
]

INTENDED_USE = (
    "Research and teaching: to compare features, classifiers and protocols on head-CT slices. Not a medical "
    "device. It must not decide, or help to decide, on the care of a patient."
)
_LIMITS = (
    "One data set: nothing here shows how the model does at another hospital, on another scanner or with "
    "another reconstruction kernel.",
    "Slices are judged one by one and made small: thin subdural and small subarachnoid bleeds may be lost "
    "before the network sees them.",
    "Labels are taken as they are; a model can be no better than they are, and its errors may be theirs.",
    "Intervals are for new patients like these. They know nothing of other populations, and are rough, "
    f"rather too narrow, where a class has fewer than {LEAST_PATIENTS} patients (~).",
)
_NO_GROUPS = "No figure by sex, age or scanner is given, because the data set as indexed does not hold them."
_GROUPS = (
    "Figures by subgroup say nothing of groups that are marked as too small, nor of those that are not there."
)

_ITEMS_SHOWN = 20


def training_section(evidence: Evidence, folder: Path) -> Section | None:
    """What was searched and how the networks learned."""
    drawings: list[Drawing | None] = []
    rows = []
    protocol = FACTS[evidence.split.protocol if evidence.split else Protocol.PATIENT]
    chosen_by = protocol.chosen_by + (" (LEAKY)" if protocol.leaky else "")
    for name, settings in evidence.settings.items():
        home = evidence.run.model_path(name)
        metric = metric_title(settings.get("metric", "score"))
        if (home / "grid.csv").exists():
            drawings.append(grid_figure(name, home / "grid.csv", metric, chosen_by, folder))
        if (home / "history.csv").exists():
            drawings.append(history_figure(name, home / "history.csv", folder))
        if "parameters" in settings:
            chosen = ", ".join(f"{key} = {value:g}" for key, value in settings["parameters"].items())
            search = settings.get("search", {})
            score = f"{search['mean']:.3f} (sd {search['sd']:.3f})" if "mean" in search else "–"
            kind = settings.get("kernel") or ("linear" if name == "svm" else "–")
            rows.append([escape(name), escape(kind), escape(chosen), score, escape(metric)])
    parts = []
    if rows:
        columns = ["head", "kernel", "chosen settings", "score", "metric"]
        parts.append(table(columns, rows, f"Settings, chosen by {chosen_by}"))
    parts.append(figures(*drawings))
    return Section("training", "How the models were made", parts) if rows or any(drawings) else None


def leakage_section(evidence: Evidence, folder: Path) -> Section:
    """Protocols, controls and findings; or how to get them."""
    leakage = evidence.leakage
    if leakage is None:
        return Section(
            "leakage",
            "Leakage",
            [f"<p>Not measured yet: <code>haemo leakage --run {_run(evidence)}</code></p>"],
        )
    rows = []
    shuffled = {entry["protocol"]: entry for entry in leakage["shuffled"]}
    for entry in leakage["protocols"]:
        name = escape(entry["protocol"]) + (f" {LEAKY}" if entry["leaky"] else "")
        if "absent" in entry:
            rows.append([name, escape(entry["meaning"]), f"absent: {escape(entry['absent'])}", *["–"] * 4])
            continue
        control = shuffled.get(entry["protocol"], {}).get("figures", {})
        rows.append(
            [
                name,
                escape(entry["meaning"]),
                _spread(entry["figures"]["roc_auc"]),
                _spread(entry.get("inflation", {}).get("roc_auc"), "+"),
                _spread(entry["figures"]["accuracy"]),
                _spread(entry.get("inflation", {}).get("accuracy"), "+"),
                _spread(control.get("roc_auc")),
            ]
        )
    columns = ["protocol", "what it does", "ROC AUC", "inflation", "accuracy", "inflation"]
    columns.append("ROC AUC, labels shuffled")
    parts = [
        paragraph(
            f"The same features and the same linear SVM (C = {leakage['head']['C']:g}), split in each of the "
            f"published ways, {leakage['repeats']} draws each. Inflation is the difference to whole "
            "patients, with its interval from patients left out in turn. With labels shuffled between "
            "patients nothing can be learned of the disease: what stays above 0.5 is the split's doing."
        ),
        draw(leakage_figure(leakage, folder)),
        table(columns, rows),
        _shortcut_table(leakage),
        "<h3>Findings</h3>",
        _finding_list(leakage, evidence.names),
    ]
    parts += [paragraph(f"Not made: {name} ({reason}).", "sub") for name, reason in leakage["absent"].items()]
    return Section("leakage", "Leakage", parts)


def _shortcut_table(leakage: Mapping[str, Any]) -> str:
    rows = []
    for entry in leakage["shortcuts"]:
        whole, mixed = entry["patient"], entry["slice"]
        rows.append(
            [
                escape(entry["name"]),
                *(f"{whole[m]:.3f}" if m in whole else "undefined" for m in ("roc_auc", "accuracy")),
                f"{entry['p']:.2g}" if "p" in entry else "–",
                f"{mixed['accuracy']:.3f}" if "accuracy" in mixed else "–",
            ]
        )
    if not rows:
        return ""
    return "<h3>What the file alone tells</h3>" + table(
        ["without the brain", "ROC AUC", "accuracy", "corrected p", "accuracy, slices mixed (LEAKY)"],
        rows,
        "A random forest, cross-validated over whole patients. A model of the brain has to beat this.",
    )


def _finding_list(leakage: Mapping[str, Any], names: Names) -> str:
    parts = []
    for finding in leakage["findings"]:
        word = finding["verdict"]
        mark = f'<span class="leaky">{word}</span>' if word != "fine" else word
        text = f"<b>{escape(finding['name'])}</b> ({mark}): {escape(finding['found'])}."
        text += f" {escape(finding['meaning'])}"
        if finding["action"]:
            text += f" <i>{escape(finding['action'])}</i>"
        if finding["items"] and word != "fine":
            rows = [[escape(value) for value in _item(item, names).values()] for item in finding["items"]]
            heads = list(_item(finding["items"][0], names))
            more = len(rows) - _ITEMS_SHOWN
            note = f"<p class=sub>and {more} more in leakage.json</p>" if more > 0 else ""
            text += f"<details><summary>which</summary>{table(heads, rows[:_ITEMS_SHOWN])}{note}</details>"
        parts.append(f"<li>{text}</li>")
    return f"<ul>{''.join(parts)}</ul>"


def _item(item: Mapping[str, Any], names: Names) -> dict[str, str]:
    """One case of a finding, with the names that the reader may see."""
    shown = {}
    for key, value in item.items():
        if key == "content":
            continue
        words = key.replace("_", " ")
        if key in ("train", "test", "slice"):
            shown[words] = names.slice(value)
        elif key == "slices":
            shown[words] = ", ".join(names.slice(name) for name in value)
        elif key in ("patient", "train_patient", "test_patient"):
            shown[words] = names.patient(value)
        elif key == "study":
            shown[words] = names.study(value)
        elif isinstance(value, float):
            shown[words] = f"{value:.3f}"
        else:
            shown[words] = ", ".join(value) if isinstance(value, list) else str(value)
    return shown


def _spread(entry: Mapping[str, Any] | None, sign: str = "") -> str:
    if entry is None or "mean" not in entry:
        return "–"
    text = f"{entry['mean']:{sign}.3f}"
    if "low" not in entry:
        return text
    return f"{text} <small>{rough_mark(entry)}{entry['low']:{sign}.3f} to {entry['high']:{sign}.3f}</small>"


def learning_section(evidence: Evidence, folder: Path) -> Section:
    """How the score grows with patients; or how to get it."""
    curve = evidence.learning_curve
    if curve is None:
        command = f"<code>haemo learning-curve --run {_run(evidence)}</code>"
        return Section("patients", "More patients", [f"<p>Not measured yet: {command}</p>"])
    lines = []
    for name in ("roc_auc", "accuracy"):
        fit = curve["fits"][name]
        words = metric_title(name)
        text = f"{words} in % = 100 {fit['b1']:+.3g} · patients^{fit['b2']:.3f}"
        if fit["patients"] is not None:
            low, high = ("∞" if end is None else f"{end:,.0f}" for end in fit["patients_interval"])
            text += (
                f"; {fit['wanted']:g} % at about {fit['patients']:,.0f} training patients ({low} to {high})"
            )
        doubts = "".join(f'<br><span class="leaky">not earned:</span> {escape(d)}' for d in fit["warnings"])
        lines.append(f"<li>{escape(text)}.{doubts}</li>")
    return Section(
        "patients",
        "More patients",
        [draw(learning_curve_figure(curve, folder)), f"<ul>{''.join(lines)}</ul>"],
    )


def explanation_section(evidence: Evidence) -> Section | None:
    """Whether maps of evidence point at the bleeds, where that was measured."""
    if evidence.explanation is None:
        return None
    scores = evidence.explanation
    maps = {name: one["pointing"] for name, one in scores["models"].items() if "pointing" in one}
    maps |= scores.get("outlines", {}) | scores.get("baselines", {})
    parts = []
    for group, words in (("over_1_cm2", "bleeds over 1 cm2"), ("all", "all bleeds")):
        shown = {escape(name): own[group] for name, own in maps.items() if group in own}
        if shown:
            first = next(iter(shown.values()))
            caption = (
                f"{words}: {first['slices']} test slices with masks of {first['patients']} patients; means "
                "over slices, 95 % intervals from patients left out in turn"
            )
            names = ["hit", "near", "region_hit", "iou", "dice", "energy"]
            rows = [[name, *(_with_interval(own[key]) for key in names)] for name, own in shown.items()]
            parts.append(
                table(
                    ["map", "pointing", "within 15 px", "outline's peak", "IoU", "Dice", "energy"],
                    rows,
                    caption,
                )
            )
    rows = []
    for name, one in scores["models"].items():
        area, same = one["perturbation"]["area"], one["sanity"]["rank_correlation_with_randomised_head"]
        keys = ("deletion", "random_deletion", "insertion", "random_insertion")
        rows.append([escape(name), *(f"{area[key]:.3f}" for key in keys), f"{same:.2f}"])
    columns = [
        "model",
        "deletion",
        "random order",
        "insertion",
        "random order",
        "other head, rank correlation",
    ]
    parts.append(
        table(
            columns,
            rows,
            "Mean score while places are blurred, or kept sharp, hottest first; and how like a map is",
        )
    )
    parts.append(
        paragraph(
            f"Maps of models by {scores['method']}. Pointing: the highest evidence lies in the bleed. "
            "Regions of maps are narrowed to the HU of blood where these are known, for the baselines too: "
            "only what a model gains over them is the map's doing. A map that another head leaves as it is "
            "(correlation near 1) shows the slice and not the model.",
            "sub",
        )
    )
    return Section("explanations", "Where the evidence lies", parts)


def _with_interval(figure: Mapping[str, float]) -> str:
    if "low" not in figure:
        return f"{figure['mean']:.2f}"
    return (
        f"{figure['mean']:.2f} <small>{rough_mark(figure)}{figure['low']:.2f} to {figure['high']:.2f}</small>"
    )


def errors_section(evidence: Evidence, folder: Path) -> Section:
    """The most confident errors of the chosen model, as pictures."""
    names = evidence.names
    drawing = error_montage(
        evidence.answers[evidence.chosen],
        {row.slice_id: row for row in evidence.dealt},
        names,
        preprocessing_of(evidence),
        folder,
    )
    if drawing is None:
        return Section("errors", "Most confident errors", [paragraph("None, or no file of one can be read.")])
    return Section(
        "errors",
        "Most confident errors",
        [
            draw(drawing),
            paragraph(
                f"Test slices that {evidence.chosen} gets wrong, as the network sees them. Text that is "
                "burned into a picture is shown with it.",
                "sub",
            ),
        ],
    )


def preprocessing_of(evidence: Evidence) -> Preprocessing:
    """How the planes of the chosen model were made, of three windows the first, or the default."""
    return Preprocessing.from_description(evidence.made_with.get("preprocessing", {})).one_window


def limits_of(evidence: Evidence) -> list[str]:
    """What the figures of a run do not say, in sentences."""
    return [*_LIMITS, _GROUPS if evidence.comparison.subgroups else _NO_GROUPS]


def limits_section(evidence: Evidence) -> Section:
    """Intended use and limits."""
    items = "".join(f"<li>{escape(text)}</li>" for text in limits_of(evidence))
    return Section("limits", "Intended use and limits", [paragraph(INTENDED_USE), f"<ul>{items}</ul>"])


def run_section(evidence: Evidence) -> Section:
    """Data, split, features, versions and commands."""
    parts = [_data_table(evidence)]
    fingerprint = evidence.fingerprint
    if fingerprint:
        rows = [
            [escape(name), f"<code>{escape(_words(value))}</code>"] for name, value in fingerprint.items()
        ]
        parts.append(table(["features", ""], rows, "How the embeddings were made (fingerprint)"))
    versions = evidence.record.get("haemo", {})
    if versions:
        parts.append(table(["software", "version"], [[escape(k), escape(v)] for k, v in versions.items()]))
    rows = [
        [
            escape(step),
            escape(facts.get("finished", "")),
            f"{facts['seconds']:.1f} s" if "seconds" in facts else "–",
            escape(str(facts.get("seed", "–"))),
            f"<code>{escape(_command(facts.get('command', [])))}</code>",
        ]
        for step, facts in sorted(
            evidence.record.get("steps", {}).items(), key=lambda entry: entry[1].get("finished", "")
        )
    ]
    if rows:
        parts.append(table(["step", "finished (UTC)", "took", "seed", "command"], rows))
    return Section("run", "What was run", parts)


def _command(words: list[str]) -> str:
    return " ".join(["haemo", *words[1:]])


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _data_table(evidence: Evidence) -> str:
    rows, split = evidence.dealt, evidence.split
    sides = split.parts(rows) if split else ["all"] * len(rows)
    classes = evidence.figures["classes"]
    lines = []
    for side in [name for name in ("train", "test", "all") if name in set(sides)]:
        own = [row for row, where in zip(rows, sides, strict=True) if where == side]
        counts = [str(sum(row.label == name for row in own)) for name in classes]
        lines.append([side, str(len(own)), *counts, str(len({row.patient for row in own}))])
    caption = "Labelled slices"
    if split:
        caption = f"Labelled {split.things}"
        drawn = "published with the data" if split.published else f"drawn with seed {split.seed}"
        caption += f"; split {drawn}, protocol {split.protocol.value}{' (LEAKY)' if split.leaky else ''}, "
        caption += f"{split.n_folds} folds, sha256 {split.hash[:12]}"
    return table(["part", "slices", *classes, "patients"], lines, caption)


def _run(evidence: Evidence) -> str:
    return escape("RUN" if evidence.names.anonymous else str(evidence.run))
