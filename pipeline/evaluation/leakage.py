"""Everything that can make a figure too good, measured on one run: ``haemo leakage``."""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from haemo.atomic import write_text
from haemo.errors import TooFewData
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest
from haemo.features.store.contents import Contents
from haemo.features.store.store import contents_path
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.evaluation.duplicates import look_alikes, picture_hashes
from haemo.pipeline.evaluation.findings import (
    Finding,
    Verdict,
    both_sides,
    contradicted_labels,
    copies_on_both_sides,
    mixed_patients,
    unknown_patients,
)
from haemo.pipeline.evaluation.inflation import Cohort, choose_head, load_cohort, measure_protocols
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.shortcuts import ALPHA, read_facts, shortcut_control
from haemo.pipeline.run.codes import Codes
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.splitting.protocols import load_or_make_split
from haemo.pipeline.splitting.split import Split, classes_of
from haemo.pipeline.splitting.splitfile import is_of_split, made_for
from haemo.progress import Progress, silent

__all__ = ["Leakage", "measure_leakage", "pairs_found"]

log = logging.getLogger("haemo")

_PAIRS_SHOWN = 50


@dataclass(frozen=True)
class Leakage:
    """What can make the figures of a run too good.

    Attributes
    ----------
    c : float
        C of the linear SVM that all protocols use.
    repeats : int
    patients_known : bool
    protocols, shuffled : tuple of dict
        What `pipeline.evaluation.inflation.measure_protocols` gives with true and with shuffled labels.
    shortcuts : tuple of dict
        What `pipeline.evaluation.shortcuts.shortcut_control` gives.
    absent : dict of str to str
        Controls that could not be made, with the reason.
    findings : tuple of Finding
    failures : tuple of Failure
        Slices whose file could not be read for the controls that need pixels.
    """

    c: float
    repeats: int
    patients_known: bool
    protocols: tuple[dict[str, Any], ...]
    shuffled: tuple[dict[str, Any], ...]
    shortcuts: tuple[dict[str, Any], ...]
    absent: dict[str, str]
    findings: tuple[Finding, ...]
    failures: tuple[Failure, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "schema": 1,
            "head": {"name": "svm", "C": self.c},
            "repeats": self.repeats,
            "patients_known": self.patients_known,
            "protocols": list(self.protocols),
            "shuffled": list(self.shuffled),
            "shortcuts": list(self.shortcuts),
            "absent": self.absent,
            "findings": [finding.as_dict() for finding in self.findings],
            "unread": len(self.failures),
        }


def measure_leakage(
    run: RunDirectory,
    *,
    repeats: int = 10,
    pixels: bool = True,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Leakage:
    """Measure it, and keep the result as leakage.json.

    Parameters
    ----------
    run : RunDirectory
        Indexed, with features; a split is made if there is none.
    repeats : int
        Draws of each protocol.
    pixels : bool
        Whether files may be read, which the shortcut control and picture hashes need.
    resampling : Resampling, optional
        Its seed also draws splits, shuffles and trees.
    progress : Progress

    Raises
    ------
    MissingStep
        If the run has no manifest or no features.
    TooFewData
        If there are too few patients of a class to split.
    """
    resampling = resampling or Resampling()
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    split = load_or_make_split(run, manifest)
    failures: list[Failure] = []
    absent: dict[str, str] = {}
    with open_features(run) as store:
        cohort = load_cohort(manifest, classes, store)
        if cohort.without_features:
            log.warning("%d labelled slices have no features and are left out", cohort.without_features)
        c = choose_head(cohort, split)
        protocols = measure_protocols(cohort, c, repeats=repeats, resampling=resampling, progress=progress)
        shuffled: list[dict[str, Any]] = []
        try:
            shuffled = measure_protocols(
                cohort, c, repeats=repeats, shuffled=True, resampling=resampling, progress=progress
            )
        except TooFewData as error:
            absent["shuffled labels"] = str(error)
        findings = _findings(run, cohort, split, manifest, pixels, failures, progress)
    shortcuts: list[dict[str, Any]] = []
    if not pixels:
        absent["shortcuts"] = "files were not to be read (--no-pixels)"
    else:
        facts = read_facts(cohort.rows, progress)
        failures += facts.failures
        try:
            shortcuts = shortcut_control(facts, classes, resampling, progress)
        except TooFewData as error:
            absent["shortcuts"] = str(error)
    unread = tuple(dict.fromkeys(failures))
    run.replace_failures("leakage", list(unread))
    leakage = Leakage(
        c,
        repeats,
        manifest.patients_known,
        tuple(protocols),
        tuple(shuffled),
        tuple(shortcuts),
        absent,
        (*findings, *_shortcut_findings(shortcuts)),
        unread,
    )
    content = {**leakage.as_dict(), "resampling": resampling.as_dict(), "made_for": made_for(run)}
    codes = Codes(manifest)
    for finding in content["findings"]:
        finding["items"] = codes.hide(finding["items"])
    write_text(run.path / "leakage.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    run.record("leakage", repeats=repeats, c=c, **resampling.as_dict())
    return leakage


def _findings(
    run: RunDirectory,
    cohort: Cohort,
    split: Split,
    manifest: Manifest,
    pixels: bool,
    failures: list[Failure],
    progress: Progress,
) -> list[Finding]:
    rows = cohort.rows
    sides = split.parts(rows)
    known = Contents(contents_path(run.store_path))
    contents = [known.content_of(row.slice_id) for row in rows]
    hashes = {}
    if pixels:
        settings = cohort.store.fingerprint.facts.get("preprocessing", {})
        one_window = Preprocessing.from_description(settings).one_window
        hashes, unread = picture_hashes(rows, one_window, progress)
        failures += unread
    pairs, count = look_alikes(
        rows, sides == "train", cohort.store.embeddings(cohort.slice_ids), contents, hashes
    )
    shown = pairs[:_PAIRS_SHOWN]
    strangers = sum(pair.train_patient != pair.test_patient for pair in shown)
    dealt = split.dealt(rows)
    findings = [
        unknown_patients(manifest),
        # A rotated copy has the pixels of no file.
        *both_sides(dealt, split.parts(dealt), [*contents, *[None] * (len(dealt) - len(rows))]),
        *([copies_on_both_sides(rows, split)] if split.unit == "copy" else []),
        Finding(
            "look-alikes across the split",
            Verdict.LEAK if pairs else Verdict.FINE,
            pairs_found(count, len(shown), strangers),
            "One scan may stand under two patients' names, or a published picture may have been used twice."
            if pairs
            else "No test slice looks like a training slice, by embedding or by picture hash.",
            "Look at the pairs; give both slices one patient in labels.csv, and index again."
            if pairs
            else "",
            tuple(asdict(pair) for pair in shown),
        ),
        mixed_patients(rows),
    ]
    trained = [name for name in run.models() if is_of_split(run.settings(name), split)]
    if trained:
        predictions = run.predictions(trained[0])
        findings.append(contradicted_labels(predictions, trained[0]))
    return findings


def pairs_found(count: int, listed: int, strangers: int) -> str:
    """How many pairs lie across the split, and how many of those that are listed join two patients."""
    if count == 0:
        return "no pair across the split"
    if count == 1:
        return f"1 pair across the split, of {'two patients' if strangers else 'one patient'}"
    of = "" if listed == count else f"of the {listed} listed, "
    joining = {0: "none joins", 1: "1 joins"}.get(strangers, f"{strangers} join")
    return f"{count} pairs across the split; {of}{joining} two patients"


def _shortcut_findings(shortcuts: list[dict[str, Any]]) -> list[Finding]:
    """Whether anything beside the brain tells the label, by p-values that hold for all controls at once."""
    if not shortcuts:
        return []
    telling = [entry for entry in shortcuts if entry["p"] <= ALPHA and "roc_auc" in entry["patient"]]
    if not telling:
        least = min(entry["p"] for entry in shortcuts)
        return [
            Finding(
                "shortcuts",
                Verdict.FINE,
                f"nothing beside the brain is shown to tell the label (corrected p = {least:.2g})",
                "What the model sees is in the head, as far as these controls can tell.",
            )
        ]
    best = max(telling, key=lambda entry: entry["patient"]["roc_auc"])
    return [
        Finding(
            "shortcuts",
            Verdict.LOOK,
            f"'{best['name']}' alone reaches a ROC AUC of {best['patient']['roc_auc']:.3f} and an accuracy "
            f"of {best['patient']['accuracy']:.3f} with patients kept whole (p = {best['p']:.2g}, corrected "
            f"for {len(shortcuts)} controls)",
            "Classes come from different sources or were exported differently; a network can learn that "
            "instead of the disease, and will fail elsewhere.",
            "Compare the model's figures with these, not with chance; get both classes from one source.",
        )
    ]
