"""The page of a judgement: one HTML file that needs no other, with its figures beside it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from haemo.atomic import write_text
from haemo.pipeline.evaluation.intervals import BY_CHANCE, Resampling
from haemo.pipeline.evaluation.operating import SHOWN, heading_of_points, point_title, rows_of_points
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.judging.judged_model import told_place
from haemo.pipeline.judging.judgement import Judgement
from haemo.pipeline.judging.recalibration import MARK, WAYS
from haemo.pipeline.report.answer_figures import (
    calibration_figure,
    confusion_figure,
    precision_recall_figure,
    roc_figure,
    score_figure,
)
from haemo.pipeline.report.page import Section, draw, figures, page, paragraph, table
from haemo.pipeline.report.sections import cell
from haemo.pipeline.report.use_sections import entry, groups_section, use_section

__all__ = ["claim_of", "write_page"]

_NOT_JUDGED_SHOWN = 20
_NO_DEVICE = (
    "Research software: no medical device, and not validated for any clinical use. A model that holds on "
    "these slices holds on slices like these."
)


def write_page(judgement: Judgement, resampling: Resampling | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into the folder of a judgement."""
    resampling = resampling or Resampling()
    folder = judgement.folder / "figures"
    folder.mkdir(exist_ok=True)
    comparison = judgement.comparison
    warnings = [note for note in comparison.notes if note.startswith("SEEN IN TRAINING")]
    warnings += [f"{name}: {text}." for name, own in comparison.shortfalls.items() for text in own]
    lead = [paragraph(claim_of(judgement), "claim"), *(paragraph(text, "warn") for text in warnings)]
    sections = [
        _results(judgement),
        _curves(judgement, folder, resampling),
        use_section(comparison.clinical, comparison.things, folder),
        _shift_section(judgement.shift),
        _recalibration_section(judgement.recalibration),
        groups_section(comparison.subgroups, comparison.models, folder),
        _not_judged(judgement),
        Section("limits", "Limits", [paragraph(_NO_DEVICE)]),
    ]
    path = judgement.folder / "report.html"
    title = f"Judged elsewhere: {', '.join(judgement.models)}"
    write_text(path, page(title, f"On {judgement.data}.", lead, [one for one in sections if one]))
    return path


def claim_of(judgement: Judgement) -> str:
    """What was found, in one sentence a model, as plain text."""
    sentences = []
    for name, own in judgement.comparison.models.items():
        shown = [one for one in ("roc_auc", "sensitivity", "specificity") if one in own]
        shown = shown if own["positive"] else ["accuracy"]
        parts = []
        for one in shown:
            ends = own["intervals"].get(one)
            level = f"{own['resampling']['level']:.0%} interval"
            interval = f" ({level} {ends['low']:.3f} to {ends['high']:.3f})" if ends else ""
            parts.append(f"{metric_title(one)} {own[one]:.3f}{interval}")
        things = judgement.comparison.things
        figures_ = ", ".join(parts) or "no figure that is defined"
        sentences.append(f"{name}, on {own['slices']} {things} of {own['patients']} patients: {figures_}.")
    return " ".join(sentences)


def _results(judgement: Judgement) -> Section:
    comparison = judgement.comparison
    same = comparison.baseline
    columns = {**comparison.models, same["name"]: same}
    rows = [[escape(metric_title(m)), *(cell(f, m) for f in columns.values())] for m in (*METRICS, BY_CHANCE)]
    parts = [table(["", *columns], rows, "Each model as it decides by itself, untouched.")]
    if comparison.points:
        points = [
            [
                f"{escape(model)} {point_title(point)}",
                f"{own['threshold']:.3f}" if "threshold" in own else "–",
                *(cell({"undefined": dict.fromkeys(SHOWN, own.get("why_not", "")), **own}, m) for m in SHOWN),
            ]
            for model, point, own in rows_of_points(comparison.points)
        ]
        head = ["", "threshold", *(metric_title(name) for name in SHOWN)]
        parts.append(table(head, points, heading_of_points(comparison.points)))
    if comparison.pairs:
        items = "".join(f"<li>{escape(pair['sentence'])}</li>" for pair in comparison.pairs)
        parts += ["<h3>Can they be told apart?</h3>", f"<ul>{items}</ul>"]
    parts += [paragraph(note, "sub") for note in comparison.notes]
    rows = [
        [escape(name), f"<code>{escape(own['origin'])}</code>", escape(", ".join(own["classes"]))]
        for name, own in judgement.models.items()
    ]
    parts.append(table(["model", "from", "classes, the positive one last"], rows))
    taken = [f"{label} for {one}" for label, one in judgement.labels.items() if label != one]
    if taken:
        parts.append(paragraph(f"Labels here were taken so: {', '.join(taken)}.", "sub"))
    return Section("results", "Results", parts)


def _curves(judgement: Judgement, folder: Path, resampling: Resampling) -> Section | None:
    models = judgement.comparison.models
    first = next(iter(models.values()))
    if first["positive"] is None:
        return None
    if "roc_auc" not in first:
        return Section(
            "curves", "Curves", [paragraph("Curves are drawn where both classes are there.", "sub")]
        )
    answers = judgement.answers
    chances = {name: own for name, own in answers.items() if not own.uncalibrated}  # type: ignore[union-attr]
    parts = [
        figures(
            roc_figure(answers, models, folder, resampling),
            precision_recall_figure(answers, models, folder, resampling),
        )
    ]  # type: ignore[arg-type]
    if chances:
        parts.append(draw(calibration_figure(chances, models, folder)))  # type: ignore[arg-type]
        parts.append(draw(score_figure(chances, folder)))  # type: ignore[arg-type]
    if all("confusion" in own for own in models.values()):
        parts.append(draw(confusion_figure(models, folder)))
    return Section("curves", "Curves", parts)


def _shift_section(shifts: Mapping[str, Mapping[str, Any]]) -> Section | None:
    if not shifts:
        return None
    rows = []

    def row(words: str, take: Any) -> None:
        rows.append([words, *(take(shift) for shift in shifts.values())])

    row("outside what it knows (0.01 expected)", lambda s: entry(s["outside"].get("share")))
    row("slices that it was trained on", lambda s: "–" if s["seen"] is None else str(s["seen"]))
    for name in ("all", "negative", "positive"):
        row(
            f"mean score, {name}: here less training, in SD",
            lambda s, name=name: entry(s["scores"].get(name, {}).get("distance"), True, 2),
        )
    for place in ("there", "here"):
        words = "held out of training" if place == "there" else "here"
        row(f"share of positives, {words}", lambda s, place=place: _plain(s.get("positives", {}).get(place)))
        row(f"ROC AUC, {words}", lambda s, place=place: entry(s.get("roc_auc", {}).get(place)))
    row("ROC AUC, here less training", lambda s: entry(s.get("roc_auc", {}).get("difference"), True))
    reasons = [
        paragraph(f"{name}: {part} cannot be told: {shift[part]['why_not']}", "sub")
        for name, shift in shifts.items()
        for part in ("outside", "scores")
        if "why_not" in shift[part]
    ]
    note = (
        "Outside: farther from the nearest training slice than 99 of 100 training slices are from those of "
        "other patients. Scores are set against those of slices held out of training."
    )
    return Section(
        "shift", "Shift against training", [table(["", *shifts], rows), *reasons, paragraph(note, "sub")]
    )


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _recalibration_section(offers: Mapping[str, Mapping[str, Any]]) -> Section | None:
    if not offers:
        return None
    rows, reasons = [], []
    for name, offer in offers.items():
        if "why_not" in offer:
            reasons.append(paragraph(f"{name}: none is offered: {offer['why_not']}", "sub"))
            continue
        for way in ("before", *WAYS):
            own = offer[way]
            how = (
                "as it is" if way == "before" else f"{own['intercept']:+.3f} + {own['slope']:.3f} x log odds"
            )
            shown = [cell(own["figures"], one) for one in ("brier", "log_loss", "calibration_error")]
            line = [entry(own["calibration"].get(one)) for one in ("in_the_large", "slope")]
            rows.append([f"{escape(name)}, {way}", how, *shown, *line])
    parts = [paragraph(f"{MARK}.", "warn")] if rows else []
    if rows:
        head = ["", "new log odds", "Brier score", "log loss", "calibration error", "in the large", "slope"]
        parts.append(table(head, rows, "each patient put right by the others"))
    note = "Ranks, and with them ROC AUC, stay; a threshold on the probability has to move with it."
    return Section("recalibration", "Recalibration, an offer", [*parts, *reasons, paragraph(note, "sub")])


def _not_judged(judgement: Judgement) -> Section | None:
    if not judgement.failures:
        return None
    shown = judgement.failures[:_NOT_JUDGED_SHOWN]
    rows = [[f"<code>{escape(told_place(one.path))}</code>", escape(one.reason)] for one in shown]
    more = len(judgement.failures) - len(shown)
    parts = [table(["file", "reason"], rows, f"{len(judgement.failures)} could not be judged")]
    if more:
        parts.append(paragraph(f"{more} more stand in failures.csv.", "sub"))
    return Section("failures", "Not judged", parts)
