"""CLAIM 2024 and TRIPOD+AI of a judgement: what an evaluation elsewhere can say of itself."""

from haemo.atomic import write_text
from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.judging.judgement import Judgement
from haemo.pipeline.judging.judgement_page import claim_of
from haemo.pipeline.report.checklists import CLAIM_2024, TRIPOD_AI, checklist

__all__ = ["write_checklists"]

_PREFACE = "Filled from what haemo evaluate knows. How the models were developed stands where they were made."


def write_checklists(judgement: Judgement) -> None:
    """Write ``CLAIM.md`` and ``TRIPOD.md`` into the folder of a judgement."""
    comparison = judgement.comparison
    first = next(iter(comparison.models.values()))
    claim = claim_of(judgement)
    groups = comparison.subgroups.get("models", {})
    kept = dict.fromkeys(group["attribute"] for own in groups.values() for group in own["groups"])
    subgroups = f"figures by {', '.join(kept)}: report.html, judgement.json" if kept else "not known (--keep)"
    judged = f"{first['slices']} {comparison.things} of {first['patients']} patients"
    left_out = f"{judged} judged; {len(judgement.failures)} files not, each with its reason in failures.csv"
    drawn = first["resampling"]
    uncertainty = (
        f"{drawn['level']:.0%} intervals by the {drawn['method']} over patients; pairs of models tested with "
        "patients kept whole, corrected by Holm"
    )
    metrics = ", ".join(metric_title(name) for name in METRICS) + ", net benefit, calibration line"
    thresholds = "; ".join(
        f"{name} at {own['threshold']:.3g}" for name, own in judgement.models.items() if "threshold" in own
    )
    shift = "shift of scores and embeddings: report.html" if judgement.shift else "training data not known"
    claims = {
        "6": "evaluation of existing models, untouched",
        "10": left_out,
        "12": "slices without a label are not judged, and named",
        "22": ", ".join(judgement.models),
        "28": metrics,
        "29": uncertainty,
        "33": claim,
        "35": left_out,
        "36": subgroups,
        "37": claim,
        "38": "judgement.json and report.html",
    }
    tripod = {
        "4": "evaluation",
        "7": "as each model prepares slices by itself; nothing was fitted here",
        "8a": f"classes {', '.join(first['classes'])}",
        "11": "slices without a label are not judged, and named",
        "12a": "all labelled slices, for evaluation alone",
        "12e": f"{metrics}; {uncertainty}",
        "12f": "recalibration as an offer, cross-fitted by patient and marked as such",
        "12g": f"haemo evaluate; thresholds as the models have them{': ' if thresholds else ''}{thresholds}",
        "14": subgroups,
        "15": f"score, probability and class{'; ' if thresholds else ''}{thresholds}",
        "16": shift,
        "18f": "haemo is free software, Apache-2.0",
        "20a": left_out,
        "20b": subgroups,
        "20c": shift,
        "21": judged,
        "23a": claim,
        "23b": subgroups,
        "24": "report.html, recalibration",
        "27a": "files that cannot be read are named and not judged; slices unlike training are counted",
    }
    for name, title, items, answers in (
        ("CLAIM.md", "CLAIM 2024 checklist", CLAIM_2024, claims),
        ("TRIPOD.md", "TRIPOD+AI checklist", TRIPOD_AI, tripod),
    ):
        write_text(judgement.folder / name, checklist(title, items, answers, _PREFACE))
