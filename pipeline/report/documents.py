"""MODEL_CARD.md, CLAIM.md and TRIPOD.md: what a run can say of itself, in the forms that readers ask for."""

from collections.abc import Mapping, Sequence
from typing import Any

from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.report.background import INTENDED_USE, limits_of
from haemo.pipeline.report.checklists import CLAIM_2024, TRIPOD_AI, checklist
from haemo.pipeline.report.evidence import Evidence
from haemo.pipeline.report.sections import claim

__all__ = ["claim_checklist", "model_card", "tripod_checklist"]

_PREFACE = "Filled from what the run knows of itself."


def model_card(evidence: Evidence) -> str:
    """A model card of the chosen model, as Markdown (Mitchell et al. 2019, FAT* '19, p. 220)."""
    figures = evidence.figures
    settings = evidence.settings.get(evidence.chosen, {})
    made_with = evidence.made_with
    details = [
        ("model", evidence.chosen),
        ("settings", _joined(settings.get("parameters", {})) or "see settings.json"),
        ("class weight", settings.get("class_weight", "")),
        ("calibration", settings.get("calibration", "")),
        ("threshold", str(settings.get("threshold", ""))),
        (
            "features",
            _joined({k: made_with[k] for k in ("network", "layer", "precision") if k in made_with}),
        ),
        *_beside(settings),
        ("weights, sha256", str(made_with.get("weights", ""))),
        ("software", _joined(evidence.record.get("haemo", {}))),
    ]
    split = evidence.split
    data = [
        f"- {len(evidence.manifest.labelled)} labelled slices of "
        f"{len({row.patient for row in evidence.manifest.labelled})} patients; classes "
        f"{', '.join(figures['classes'])}"
        + (f" (positive: {figures['positive']})" if figures["positive"] else ""),
        "- Patients: "
        + ("known" if evidence.manifest.patients_known else "not known; each slice stands for one"),
    ]
    if split:
        data.append(
            f"- Split by {split.unit}, protocol {split.protocol.value}{' (LEAKY)' if split.leaky else ''}, "
            f"seed {split.seed}; tested on {figures['slices']} {evidence.comparison.things} of "
            f"{figures['patients']} patients"
        )
    rows = [[metric_title(name), *_value(figures, name)] for name in METRICS if name in figures]
    against = evidence.comparison.shortfalls.get(evidence.chosen, ())
    spoken = ["", "As it decides now:", *[f"- **{sentence}**" for sentence in against]] if against else []
    undefined = [f"- {name}: undefined, {reason}" for name, reason in figures["undefined"].items()]
    return "\n".join(
        [
            f"# Model card: {evidence.chosen}",
            "",
            claim(evidence),
            *spoken,
            "",
            "## Model",
            *[f"- {name}: {value}" for name, value in details if value],
            "",
            "## Intended use",
            INTENDED_USE,
            "",
            "## Data",
            *data,
            "",
            "## Results on the test slices",
            *_markdown(["figure", "value", f"{figures['resampling']['level']:.0%} interval", "method"], rows),
            *undefined,
            *_always_the_same(evidence),
            "",
            "## Limits",
            *[f"- {text}" for text in limits_of(evidence)],
            "",
        ]
    )


def _beside(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """What a head looks at beside the features of the slice by itself, where it does."""
    found = []
    if sets := settings.get("features"):
        found.append(("sets of features", " + ".join(sets)))
    if context := settings.get("context"):
        found.append(("features joined with", f"those of {context} slices on either side"))
    if settings.get("smooth"):
        found.append(("scores", "smoothed over neighbouring slices"))
    return found


def _ensembling(evidence: Evidence) -> str:
    heads = evidence.settings.get(evidence.chosen, {}).get("blend", ())
    return f"{evidence.chosen} joins {', '.join(heads)}" if heads else "none"


def _always_the_same(evidence: Evidence) -> list[str]:
    """What is had for nothing, in a line."""
    same = evidence.comparison.baseline
    shown = [
        f"{metric_title(name)} {same[name]:.3f}"
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc")
        if name in same
    ]
    return ["", f"{same['name'].capitalize()} would have {', '.join(shown)}."]


def claim_checklist(evidence: Evidence) -> str:
    """CLAIM 2024 as Markdown, filled from what a run knows of itself."""
    known = _known(evidence)
    claim_known = {
        "5": "an existing data set; the rest is for the authors",
        "7": known["sources"],
        "9": known["preprocessing"],
        "10": known["selection"],
        "12": known["missing"],
        "19": known["partition"],
        "20": known["disjoint"],
        "21": known["sample size"],
        "22": known["model"],
        "23": known["software"],
        "24": known["weights"],
        "25": "settings.json; grid.csv of heads, history.csv of networks",
        "26": evidence.why_chosen,
        "27": _ensembling(evidence),
        "28": known["metrics"],
        "29": known["uncertainty"],
        "30": known["robustness"],
        "31": "explain/score.json" if evidence.explanation else "not measured",
        "32": known["performance"],
        "33": "none in this run; haemo evaluate judges a model elsewhere",
        "35": f"{known['selection']}; {known['partition']}",
        "36": known["subgroups"],
        "37": known["performance"],
        "38": "compare.json and report.html",
        "39": "report.html, most confident errors",
        "40": "report.html, intended use and limits",
    }
    return checklist("CLAIM 2024 checklist", CLAIM_2024, claim_known, _PREFACE)


def tripod_checklist(evidence: Evidence) -> str:
    """TRIPOD+AI as Markdown, filled from what a run knows of itself."""
    known, figures = _known(evidence), evidence.figures
    settings = evidence.settings.get(evidence.chosen, {})
    counts = figures.get("confusion", [])
    events = ", ".join(
        f"{sum(row)} {name}" for name, row in zip(figures["classes"], counts, strict=bool(counts))
    )
    answers = {
        "4": "development, and evaluation on patients held out",
        "5a": known["sources"],
        "7": known["preprocessing"],
        "8a": f"classes {', '.join(figures['classes'])}, one label a slice",
        "9a": "all features of the network; none was chosen by hand",
        "9b": known["model"],
        "10": known["sample size"],
        "11": known["missing"],
        "12a": f"{known['partition']}; disjoint by {known['disjoint']}",
        "12b": "standardised with a floor under deviations, where the head is classical",
        "12c": f"{known['model']}; {evidence.why_chosen}",
        "12d": f"patients kept whole; {known['robustness']}",
        "12e": f"{known['metrics']}; {known['uncertainty']}",
        "12f": "none",
        "12g": "haemo predict; settings.json",
        "13": f"class weight {settings['class_weight']}" if settings.get("class_weight") else "not recorded",
        "14": known["subgroups"],
        "15": f"score, probability and class at a threshold of {settings.get('threshold', 0.5)}",
        "16": "one data set, split",
        "18f": "haemo is free software, Apache-2.0",
        "20a": f"{known['selection']}; {known['partition']}",
        "20b": known["subgroups"],
        "21": f"tested: {figures['slices']} slices of {figures['patients']} patients; {events}",
        "22": f"model files of {evidence.chosen}; {known['weights']}",
        "23a": known["performance"],
        "23b": known["subgroups"],
        "24": "none",
        "26": "report.html, intended use and limits",
        "27a": "files that cannot be read are named and not scored; slices unlike training are marked",
    }
    return checklist("TRIPOD+AI checklist", TRIPOD_AI, answers, _PREFACE)


def _windows(preprocessing: Mapping[str, Any]) -> str:
    """What became of HU, and of gray levels."""
    first = (preprocessing["window_width_hu"], preprocessing["window_centre_hu"])
    named = [f"{width:g}/{centre:g}" for width, centre in (first, *preprocessing.get("other_windows_hu", ()))]
    if len(named) > 1:
        return f"windows {', '.join(named)} HU, a channel each"
    return f"DICOM: window {named[0]} HU; pictures: gray levels as they are"


def _known(evidence: Evidence) -> dict[str, str]:
    """What a run can say of itself, by subject."""
    figures = evidence.figures
    split = evidence.split
    steps = evidence.record.get("steps", {})
    index, fingerprint, made_with = steps.get("index", {}), evidence.fingerprint, evidence.made_with
    preprocessing = made_with.get("preprocessing", {})
    window = (
        f"{_windows(preprocessing)}; "
        f"{'turned upright, ' if preprocessing.get('upright') else ''}"
        f"{'cropped to the head, ' if preprocessing.get('crop') == 'head' else ''}"
        f"resized to {preprocessing['size']} x {preprocessing['size']}"
        f"{', seen as they are and mirrored' if 'mirror' in made_with else ''}"
        if preprocessing
        else "not recorded"
    )
    sides = split.parts(evidence.dealt).tolist() if split else []
    partition = (
        f"{sides.count('train')} training and {sides.count('test')} test {split.things}, by {split.unit}, "
        f"stratified, seed {split.seed}, sha256 {split.hash[:12]}"
        if split
        else "no split is kept with the run"
    )
    models = ", ".join(evidence.comparison.models)
    groups = evidence.comparison.subgroups.get("models", {})
    kept = dict.fromkeys(group["attribute"] for own in groups.values() for group in own["groups"])
    return {
        "sources": f"layout {index.get('layout', 'unknown')}, indexed {index.get('finished', '')}",
        "preprocessing": window,
        "selection": _unusable(evidence),
        "missing": "slices without a label are left out; unreadable ones are named in failures.csv",
        "partition": partition,
        "disjoint": _disjoint(evidence),
        "sample size": _sample_size(evidence),
        "model": f"{models}; features {_joined(fingerprint, ('network', 'layer', 'precision')) or 'none'}",
        "software": _joined(evidence.record.get("haemo", {})),
        "weights": f"weights sha256 {str(made_with.get('weights', 'not recorded'))[:60]}",
        "metrics": ", ".join(metric_title(name) for name in METRICS),
        "uncertainty": _uncertainty(figures),
        "robustness": "leakage.json: protocols, shuffled labels, shortcuts"
        if evidence.leakage
        else "protocols and shortcuts not measured",
        "performance": claim(evidence),
        "subgroups": f"figures by {', '.join(kept)}: compare.json and report.html"
        if kept
        else "not in the data set as indexed (haemo index --keep)",
    }


def _value(figures: dict[str, Any], name: str) -> list[str]:
    interval = figures["intervals"].get(name)
    if interval is None:
        return [f"{figures[name]:.3f}", "–", figures["no_interval"].get(name, "")]
    method = interval["method"] + (", rough: a class has few patients" if interval.get("rough") else "")
    return [f"{figures[name]:.3f}", f"{interval['low']:.3f} to {interval['high']:.3f}", method]


def _unusable(evidence: Evidence) -> str:
    unlabelled = len(evidence.manifest) - len(evidence.manifest.labelled)
    failed = evidence.record.get("steps", {}).get("index", {}).get("failed", 0)
    return f"all labelled slices; {unlabelled} without a label, {failed} files that could not be indexed"


def _sample_size(evidence: Evidence) -> str:
    curve = evidence.learning_curve
    if curve is None:
        return "no calculation; haemo learning-curve gives one"
    fit = curve["fits"]["roc_auc"]
    if fit["patients"] is None:
        return "the learning curve does not reach the wanted score"
    doubt = " (not earned: " + "; ".join(fit["warnings"]) + ")" if fit["warnings"] else ""
    return f"a ROC AUC of {fit['wanted']:g} % needs about {fit['patients']:,.0f} training patients{doubt}"


def _disjoint(evidence: Evidence) -> str:
    if evidence.split is None:
        return "not known"
    if evidence.split.leaky:
        return f"LEAKY: {evidence.patients_seen} tested patients also train"
    if not evidence.manifest.patients_known:
        return "slice: no patient ids are known"
    return "patient"


def _uncertainty(figures: dict[str, Any]) -> str:
    drawn = figures["resampling"]
    return (
        f"{drawn['level']:.0%} intervals, {drawn['method']} over patients in at most {drawn['resamples']} "
        f"groups, seed {drawn['seed']}; Wilson intervals for proportions where each patient has one slice"
    )


def _joined(facts: dict[str, Any], keys: Sequence[str] | None = None) -> str:
    chosen = facts if keys is None else {key: facts[key] for key in keys if key in facts}
    return ", ".join(f"{key} {value}" for key, value in chosen.items())


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), line(["---"] * len(columns)), *(line(row) for row in rows)]
