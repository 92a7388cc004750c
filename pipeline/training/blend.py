"""Several heads of a run as one more model: what they say is joined, calibrated and judged as a head's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import BadSettings, MissingStep
from haemo.extensions import unknown
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.trained.modelfolder import facts_key
from haemo.pipeline.training.calibration import calibrated_head, predicted
from haemo.pipeline.training.examples import Examples
from haemo.pipeline.training.head import HeadResult, fold_thresholds, refuse_taken_name

if TYPE_CHECKING:
    from haemo.features.manifest import ManifestRow

__all__ = ["BlendSettings", "train_blend"]

_CALIBRATION = "sigmoid"


@dataclass(frozen=True)
class BlendSettings:
    """How heads are joined.

    Attributes
    ----------
    heads : tuple of str
        Names of two or more heads of the run; empty takes all that there are.
    weights : {'fitted', 'mean'}
        As for `models.heads.blending.LogitBlend`.
    threshold : str
        As for `pipeline.training.settings.HeadSettings`.
    """

    heads: tuple[str, ...] = ()
    weights: str = "fitted"
    threshold: str | None = None


@dataclass(frozen=True, eq=False)
class _Member:
    """A head, and what it says of the slices that all members know."""

    name: str
    key: str
    method: str
    answers: Predictions


def train_blend(
    run: RunDirectory, settings: BlendSettings | None = None, *, called: str = "blend"
) -> HeadResult:
    """Join calibrated heads of a run, predict its test slices once, and keep the blend in the run.

    The blend's score is a sum of the members' log odds. Weights, calibration and threshold come from
    out-of-fold scores, of other folds than those they are judged on. If the same was done before, with the
    same heads, nothing is done again.

    Parameters
    ----------
    run : RunDirectory
    settings : BlendSettings, optional
    called : str
        The name of the blend, and that of its folder.

    Raises
    ------
    MissingStep
        If there are fewer than two heads, or one is not trained.
    FingerprintMismatch
        If a head was trained on another split than the run has.
    BadSettings
        If a name is no head of the run, there are more than two classes, or there are no such weights.
    RunLocked
        If another process is making this blend.
    """
    from haemo.models.heads.blending import WEIGHTS, LogitBlend, blended_out_of_fold, log_odds_of
    from haemo.models.heads.calibration import cross_calibrated

    began = time.monotonic()
    settings = settings or BlendSettings()
    if settings.weights not in WEIGHTS:
        raise unknown("way of weighing", settings.weights, WEIGHTS)
    refuse_taken_name(called, "blend")
    run.require_manifest()
    names = _names(run, settings, called)
    with claim(run.path, called):
        cohort = Cohort.of(run)
        if len(cohort.classes) != 2:
            raise BadSettings(f"a blend is of heads for two classes, and there are {len(cohort.classes)}")
        usual = "0.5" if cohort.protocol.leaky else "youden"
        rule = parse_threshold(settings.threshold or usual)
        members = _members(run, names)
        facts = {
            "blend": list(names),
            "members": {one.name: one.key for one in members},
            "weights": settings.weights,
            "threshold": str(rule),
            "head": "blend",
            "metric": "roc_auc",
            "classes": list(cohort.classes),
            "calibration": _CALIBRATION,
            "split": cohort.split.hash,
            "protocol": cohort.split.protocol,
            "leaky": cohort.split.leaky,
        }
        facts["key"] = facts_key(facts)
        folder = HeadFolder(run.model_path(called))
        if folder.is_complete(facts["key"]):
            return HeadResult(called, folder.facts(), folder.metrics(), folder.predictions(), up_to_date=True)
        examples, scores = _joined(cohort, members)
        methods = [one.method for one in members]
        y, fold = examples.y, examples.fold
        own = blended_out_of_fold(scores, y, fold, methods, settings.weights)
        learned = np.column_stack(
            [
                cross_calibrated(column, y, fold, method)[:, 1]
                for column, method in zip(scores.T, methods, strict=True)
            ]
        )
        estimator = LogitBlend(settings.weights).fit(log_odds_of(learned), y)
        head = calibrated_head(estimator, own, examples, rule, _CALIBRATION)
        predictions = predicted(head, own, examples, rule)
        metrics = {part: assess(predictions.of_part(part)) for part in ("cv", "test")}
        facts |= {
            "parameters": dict(zip(names, np.round(estimator.coef_, 6).tolist(), strict=True)),
            "slices": {"train": examples.n_train, "test": len(examples.test_rows), "missing": 0},
            "threshold": head.threshold,
            "threshold_rule": str(rule),
            **fold_thresholds(predictions, rule),
            "test_judgements": run.count_judgement(called, cohort.split.hash, facts["key"]),
            "seconds": round(time.monotonic() - began, 2),
        }
        folder.write(head, facts, [], metrics, predictions)
        run.record(called, **facts)
        return HeadResult(called, facts, metrics, predictions, up_to_date=False)


def _names(run: RunDirectory, settings: BlendSettings, called: str) -> tuple[str, ...]:
    """The heads that are asked for, or all that are no blend."""
    there = [name for name in run.heads() if "blend" not in run.settings(name)]
    names = settings.heads or tuple(there)
    for name in names:
        if name not in there:
            if (run.model_path(name) / "predictions.csv").exists():
                raise BadSettings(
                    f"{name} cannot be blended: only heads have scores of all training slices out of fold "
                    f"({', '.join(there) or 'none yet'})"
                )
            raise unknown("head", name, there)
    if len(set(names)) < 2:
        raise MissingStep(
            f"a blend {called!r} needs two heads or more, and {run} has {', '.join(names) or 'none'}; train "
            f"another: haemo softmax --run {run}"
        )
    return tuple(dict.fromkeys(names))


def _members(run: RunDirectory, names: Sequence[str]) -> list[_Member]:
    found = []
    for name in names:
        folder = HeadFolder(run.model_path(name))
        facts = folder.facts()
        refuse_model_of_other_split(facts, run, name)
        method = folder.head(run.trusted).method
        found.append(_Member(name, facts["key"], method, folder.predictions()))
    return found


def _joined(cohort: Cohort, members: Sequence[_Member]) -> tuple[Examples, np.ndarray]:
    """What the members say of the slices that all of them know: log odds to learn from, and raw scores."""
    from haemo.models.heads.blending import log_odds_of

    shared = set.intersection(
        *(set(zip(one.answers.slice_id.tolist(), one.answers.part.tolist(), strict=True)) for one in members)
    )
    rows = {row.slice_id: row for row in cohort.rows}
    parts: dict[str, list[ManifestRow]] = {}
    values: dict[str, np.ndarray] = {}
    for part in ("cv", "test"):
        names = sorted(slice_id for slice_id, own in shared if own == part and slice_id in rows)
        columns = []
        for one in members:
            answers = one.answers.of_part(part)
            place = {slice_id: number for number, slice_id in enumerate(answers.slice_id.tolist())}
            chosen = answers.select(np.array([place[name] for name in names], dtype=int))
            columns.append(chosen.scores if part == "cv" else log_odds_of(chosen.probabilities))
            if part == "cv":
                values["fold"] = chosen.fold
        parts[part], values[part] = [rows[name] for name in names], np.column_stack(columns)
    train = parts["cv"]
    examples = Examples(
        classes=cohort.classes,
        train_rows=tuple(train),
        test_rows=tuple(parts["test"]),
        X=values["cv"],
        y=cohort.targets(train),
        fold=values["fold"],
        X_test=values["test"],
        missing=(),
    )
    return examples, values["cv"]
