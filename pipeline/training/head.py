"""Stage two: search, fit, calibrate and test one head on cached embeddings."""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from haemo.errors import BadSettings, MemoryBudgetExceeded
from haemo.features.neighbours import refuse_unplaced
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import SETS
from haemo.features.store.table import FeatureTable
from haemo.models.heads.kinds import HEAD_KINDS
from haemo.models.heads.spec import HeadSpec
from haemo.models.heads.thresholds import ThresholdRule
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import (
    DEFAULT_SET,
    NETWORKS,
    PLAIN_NAME,
    SEGMENTER,
    RunDirectory,
    software_versions,
)
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.trained.modelfolder import facts_key
from haemo.pipeline.training.calibration import (
    calibrated_head,
    calibration_examples,
    predicted,
    smoothed_scores,
)
from haemo.pipeline.training.examples import Examples, load_examples
from haemo.pipeline.training.resources import Resources
from haemo.pipeline.training.selection import Search
from haemo.pipeline.training.settings import HeadSettings
from haemo.progress import Progress, silent

__all__ = ["HeadResult", "HeadSettings", "fold_thresholds", "refuse_taken_name", "train_head"]

log = logging.getLogger("haemo")

_VERSIONS_THAT_MATTER = ("haemo", "scikit-learn", "numpy")
_FOLDERS = ("explain", "leakage", "masks", SETS)  # what else a run directory has, or may have, under a name


@dataclass(frozen=True, eq=False)
class HeadResult:
    """What training a head came to.

    Attributes
    ----------
    name : str
    facts : dict
        What settings.json holds: settings, best parameters, the search's metric, split, fingerprint.
    metrics : dict
        ``cv`` and ``test``, each from `pipeline.evaluation.intervals.assess`.
    predictions : Predictions
    up_to_date : bool
        Whether all of it was there already, made with the same settings from the same data.
    """

    name: str
    facts: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions
    up_to_date: bool


def train_head(
    run: RunDirectory,
    name: str,
    settings: HeadSettings | None = None,
    *,
    called: str | None = None,
    split: SplitRequest | None = None,
    resources: Resources | None = None,
    progress: Progress = silent,
) -> HeadResult:
    """Train one head on the run's features, predict its test slices once, and keep all of it in the run.

    Parameters are chosen by cross-validation over whole patients. The head is then fitted on all training
    slices, and its probabilities on the scores that training slices got out of fold. Under the protocol
    ``lenet`` parameters are chosen on the test slices, as they were where it comes from. If the same was done
    before, with the same settings on the same data, nothing is done again.

    Parameters
    ----------
    run : RunDirectory
    name : str
        One of `models.heads.kinds.HEAD_KINDS`; if the settings have an estimator, any other name.
    settings : HeadSettings, optional
    called : str, optional
        Its name in the run, and that of its folder; by default `HeadSettings.name_of`.
    split : SplitRequest, optional
        The head's own randomness takes the split's seed.
    resources : Resources, optional
        Linear heads read features that take more than its memory in blocks from the store.
    progress : Progress

    Raises
    ------
    MissingStep
        If the run has no manifest or no features.
    MemoryBudgetExceeded
        If features or kernel matrices take more than the budget and the head needs them in memory.
    RunLocked
        If another process is training this head in this run.
    TooFewData, BadSettings, BadDataset
        If the data or the settings do not allow it; the message says what to do.
    """
    began = time.monotonic()
    settings, resources = _of_sets(settings or HeadSettings()), resources or Resources()
    kind, name = name, called or settings.name_of(name)
    _refuse_name(name, kind, settings)
    _refuse_uncalibrated(settings.spec(kind), settings)
    run.require_manifest()
    with claim(run.path, name):
        cohort = Cohort.of(run, split)
        settings = settings.settled(cohort)
        _refuse_to_look_beside(settings, cohort)
        with open_features(run, settings.features, settings.context) as table:
            examples = _examples_of(table, cohort, settings, resources)
            cohort.keep()
            spec = settings.spec(kind, cohort.split.seed)
            calibrating = calibration_examples(cohort, examples)
            method = spec.calibration(settings.calibration)
            facts = _facts(spec, settings, cohort, table.fingerprint, examples, calibrating)
            folder = HeadFolder(run.model_path(name))
            if folder.is_complete(facts["key"]):
                log.info("%s is up to date: same settings, same data", folder.path)
                run.record_lost(name, **_recorded(folder.facts()))
                return HeadResult(
                    name, folder.facts(), folder.metrics(), folder.predictions(), up_to_date=True
                )
            _refuse_more_than_memory(spec, examples, resources.budget)
            _refuse_more_components_than_rows(spec, examples)
            _log_sides(spec, cohort, examples)
            search = Search(spec, settings.grid or spec.default_grid, settings.metric, resources)
            run_search = search.on_test if cohort.protocol.chosen_on_test else search.over_folds
            found = run_search(examples, folder.journal_path, progress=progress)
            own, scores = found.scores, found.scores
            if calibrating is not examples:
                scores = search.again(found, calibrating, progress)
            if settings.smooth:
                own, scores = (smoothed_scores(some, examples.train_rows) for some in (own, scores))
            head = calibrated_head(found.estimator, scores, calibrating, settings.rule, method)
            predictions = predicted(head, own, examples, settings.rule, smooth=settings.smooth)
            metrics = {part: assess(predictions.of_part(part)) for part in ("cv", "test")}
            facts |= {
                "parameters": found.parameters,
                "search": {key: found.best[key] for key in ("mean", "sd")},
                "chosen_on_test": cohort.protocol.chosen_on_test,
                "threshold": head.threshold,
                "threshold_rule": str(settings.rule),
                **fold_thresholds(predictions, settings.rule),
                "test_judgements": run.count_judgement(name, cohort.split.hash, facts["key"]),
                "seconds": round(time.monotonic() - began, 2),
            }
            folder.write(head, facts, found.table, metrics, predictions)
            run.record(name, **_recorded(facts))
            return HeadResult(name, facts, metrics, predictions, up_to_date=False)


def _recorded(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != "fingerprint"}


def _of_sets(settings: HeadSettings) -> HeadSettings:
    """The same; the default set by itself is what a head stands on that names none."""
    if len(set(settings.features)) < len(settings.features):
        raise BadSettings(f"--features {','.join(settings.features)} names a set twice; name each once")
    return replace(settings, features=()) if settings.features == (DEFAULT_SET,) else settings


def _refuse_name(name: str, kind: str, settings: HeadSettings) -> None:
    """Refuse a name that is no plain folder, or says another model than it is."""
    if settings.estimator is None and name == kind:
        return
    refuse_taken_name(name, settings.estimator or kind)


def refuse_taken_name(name: str, kind: str) -> None:
    """Refuse a name for a model that is no plain folder, or is that of another kind of model.

    Raises
    ------
    BadSettings
    """
    taken = (*HEAD_KINDS.names(), *NETWORKS, SEGMENTER, *_FOLDERS)
    if name in taken or not PLAIN_NAME.fullmatch(name):
        raise BadSettings(
            f"a head of {kind} cannot be called {name!r}: give --name letters, digits, "
            f"- and _, and none of {', '.join(taken)}"
        )


def _refuse_uncalibrated(spec: HeadSpec, settings: HeadSettings) -> None:
    if settings.calibration == "none" and not spec.gives_log_odds:
        raise BadSettings(
            f"scores of the head {spec.name} are no log odds; calibrate them with 'sigmoid' or 'isotonic'"
        )


def _refuse_to_look_beside(settings: HeadSettings, cohort: Cohort) -> None:
    """Refuse neighbours where nobody knows them, and to mix scores over sides or folds."""
    if settings.context < 0:
        raise BadSettings(f"--context {settings.context}: neighbours are counted from 0")
    if settings.smooth and cohort.split.unit != "patient":
        raise BadSettings(
            f"--smooth needs whole patients on each side, and this split deals {cohort.split.things} of one "
            "patient to both; leave it out, or draw another split with --new-split --protocol patient"
        )
    if settings.smooth or settings.context:
        refuse_unplaced(cohort.manifest.labelled)


def _examples_of(
    store: FeatureTable, cohort: Cohort, settings: HeadSettings, resources: Resources
) -> Examples:
    in_memory = cohort.protocol.chosen_on_test
    examples = load_examples(
        store, cohort, rotations=settings.rotations, memory=None if in_memory else resources.budget
    )
    if settings.rule.name != "fixed" and len(cohort.classes) > 2:
        raise BadSettings(
            f"a threshold is for two classes, and there are {len(cohort.classes)}; leave it at 0.5"
        )
    return examples


def _log_sides(spec: HeadSpec, cohort: Cohort, examples: Examples) -> None:
    if spec.class_weight == "balanced" and not spec.kind.takes_class_weight:
        log.warning("%s takes no class weight: slices of every class weigh alike", spec.kind.estimator)
    log.info(
        "%s: %d training %s of %d patients (%s), %d test %s of %d patients",
        spec.name,
        examples.n_train,
        cohort.split.things,
        len({row.patient for row in examples.train_rows}),
        ", ".join(f"{count} {one}" for one, count in _counts(examples).items()),
        len(examples.test_rows),
        cohort.split.things,
        len({row.patient for row in examples.test_rows}),
    )


def _refuse_more_than_memory(spec: HeadSpec, examples: Examples, budget: int) -> None:
    """Say that features are read in blocks, and which head can do without that they lie in memory."""
    if not examples.streamed:
        return
    found = f"{examples.size}, more than the {budget / 2**30:.3g} GiB of --memory"
    if not spec.reads_blocks:
        raise MemoryBudgetExceeded(
            f"{found}, and this head needs them in memory; raise --memory, or train the linear SVM (haemo "
            "svm) or the softmax regression (haemo softmax) without --kernel, --nystroem and --pca, which "
            "read the features in blocks"
        )
    log.info("%s: read in blocks", found)


def _refuse_more_components_than_rows(spec: HeadSpec, examples: Examples) -> None:
    most = min(examples.X.shape[1], *(len(fit) for fit, _ in examples.fold_pairs))
    if spec.pca is not None and spec.pca > most:
        raise BadSettings(
            f"--pca {spec.pca} is too many: the training slices of the smallest fold and the features allow "
            f"{most} components"
        )


def fold_thresholds(predictions: Predictions, rule: ThresholdRule) -> dict[str, list[float]]:
    """At which threshold slices of each fold were judged out of fold, where a rule chose it."""
    if rule.name == "fixed" or predictions.thresholds is None:
        return {}
    own = dict(zip(predictions.fold.tolist(), predictions.thresholds.tolist(), strict=True))
    return {"fold_thresholds": [own.get(fold, own[-1]) for fold in range(max(own) + 1)]}


def _facts(
    spec: HeadSpec,
    settings: HeadSettings,
    cohort: Cohort,
    fingerprint: Fingerprint,
    examples: Examples,
    calibrating: Examples,
) -> dict[str, Any]:
    """All that decides what the head becomes, and a key that stands for it."""
    versions, split = software_versions(), cohort.split
    facts = {
        **settings.as_facts(),
        "threshold": str(settings.rule),
        "head": spec.name,
        "seed": spec.seed,
        "grid": settings.grid or spec.default_grid,
        "classes": list(examples.classes),
        "split": split.hash,
        "protocol": split.protocol,
        "leaky": split.leaky,
        "fingerprint": fingerprint.facts,
        "dimension": examples.X.shape[1],
        "data": examples.hash,
        "slices": {
            "train": examples.n_train,
            "test": len(examples.test_rows),
            "missing": len(examples.missing),
        },
        "versions": {name: versions[name] for name in _VERSIONS_THAT_MATTER if name in versions},
    }
    if settings.rule.name != "fixed":
        facts["threshold_out_of_fold"] = "chosen on the other folds"
    if spec.calibration(settings.calibration) != settings.calibration:
        facts["prior"] = "as in the training slices"
    if calibrating is not examples:
        facts["calibration_folds"] = len(np.unique(calibrating.fold))
    return {**facts, "key": facts_key(facts)}


def _counts(examples: Examples) -> dict[str, int]:
    counts = np.bincount(examples.y[: examples.n_train], minlength=len(examples.classes))
    return dict(zip(examples.classes, counts.tolist(), strict=True))
