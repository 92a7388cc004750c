"""Studies as rows: embeddings of a study's slices pooled into one, for labels that are of studies alone.

``RUN/studies/`` is a run like any other, whose rows are studies: heads are trained on it, compared and
reported with figures by study, and no slice gets a label that nobody gave it.
"""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadDataset, TooFewData
from haemo.extensions import unknown
from haemo.features.labels import order_classes
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.studylabels import read_study_labels

__all__ = ["DEFAULT_POOLING", "POOLINGS", "STUDIES", "Pooled", "pool", "pool_studies", "source_of"]

STUDIES = "studies"
POOLINGS = ("mean", "max", "top")
# docs/evaluation.md has the measurement.
DEFAULT_POOLING = "mean"
_TOP_SHARE = 0.25

_log = logging.getLogger("haemo")


@dataclass(frozen=True, slots=True)
class Pooled:
    """What pooling came to.

    Attributes
    ----------
    run : RunDirectory
        ``RUN/studies``.
    studies, slices : int
        Studies with a row, and slices that went into them.
    classes : dict of str to int
        Studies of each class.
    left_out : tuple of str
        Studies with a label and without features.
    """

    run: RunDirectory
    studies: int
    slices: int
    classes: dict[str, int]
    left_out: tuple[str, ...]


def pool(embeddings: np.ndarray, by: str) -> np.ndarray:
    """Make one embedding of those of a study's slices.

    Parameters
    ----------
    embeddings : ndarray of shape (slices, dimension), float32
    by : {'mean', 'max', 'top'}
        Of each number the mean, the largest, or the mean of the largest quarter (one at least).

    Returns
    -------
    ndarray of shape (dimension,), float32
    """
    if by == "mean":
        return embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    if by == "max":
        return embeddings.max(axis=0)
    if by == "top":
        count = max(1, round(_TOP_SHARE * len(embeddings)))
        largest = np.partition(embeddings, len(embeddings) - count, axis=0)[-count:]
        return largest.mean(axis=0, dtype=np.float64).astype(np.float32)
    raise unknown("way of pooling", by, POOLINGS)


def pool_studies(run: RunDirectory, by: str = DEFAULT_POOLING) -> Pooled:
    """Write ``RUN/studies``: a manifest with a row a study, and its features.

    The label of a study is what `index` found said of it; in a run whose slices have labels, a study is
    positive if a slice of it is.

    Raises
    ------
    MissingStep
        If the run has no manifest or no features.
    TooFewData
        If no study has a label, or none has features.
    BadSettings
        If there is no such way of pooling.
    RunLocked
        If another process works on ``RUN/studies``.
    """
    if by not in POOLINGS:
        raise unknown("way of pooling", by, POOLINGS)
    manifest = run.manifest()
    labels, positive = _labels(run, manifest)
    if not labels:
        raise TooFewData(f"no study of {run} has a label, so that nothing can be learned from studies")
    studies: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in manifest:
        studies[row.study].append(row)
    target = RunDirectory(run.path / STUDIES)
    rows, embeddings, left_out, slices = [], [], [], 0
    with FeatureStore(run.store_path) as store:
        for study, members in studies.items():
            known = [row for row, has in zip(members, store.covers(members), strict=True) if has]
            if not known:
                left_out += [study] if study in labels else []
                continue
            slices += len(known)
            embeddings.append(pool(store.embeddings([row.slice_id for row in known]), by))
            rows.append(_row(target, study, members, labels.get(study, "")))
        fingerprint = Fingerprint({**store.fingerprint.facts, "pooled": by})
        notes = store.notes
    if not rows:
        raise TooFewData(f"no study of {run} has features; make them: haemo features --run {run}")
    target.create()
    with claim(target.path):
        Manifest(rows).write(target.manifest_path)
        create_store(
            target.store_path,
            [row.slice_id for row in rows],
            np.stack(embeddings),
            fingerprint,
            notes=notes,
        )
        counts = Counter(row.label for row in rows if row.label)
        _record(target, run, by, counts, positive, fingerprint)
    if left_out:
        _log.warning("studies with a label and no features, left out: %d (%s)", len(left_out), left_out[0])
    return Pooled(target, len(rows), slices, dict(sorted(counts.items())), tuple(left_out))


def source_of(run: RunDirectory, facts: dict[str, Any]) -> RunDirectory:
    """Give the run whose slices were pooled, or the run itself where nothing was."""
    return RunDirectory(run.path.absolute().parent) if "pooled" in facts else run


def _labels(run: RunDirectory, manifest: Manifest) -> tuple[dict[str, str], str | None]:
    """What every labelled study is, and the positive class."""
    record = run.read_record().get("steps", {}).get("index", {})
    positive = record.get("positive")
    said = read_study_labels(run)
    if said:
        return {study: one.label for study, one in said.items()}, positive
    classes = manifest.classes
    if len(classes) != 2:
        return {}, positive
    positive = order_classes(classes, positive)[1]
    found: dict[str, str] = {}
    for row in manifest.labelled:
        if row.label == positive or row.study not in found:
            found[row.study] = row.label
    return found, positive


def _row(target: RunDirectory, study: str, members: list[ManifestRow], label: str) -> ManifestRow:
    patients, parts = {row.patient for row in members}, {row.part for row in members}
    if len(patients) > 1 or len(parts) > 1:
        raise BadDataset(
            f"study {study!r} has slices of {len(patients)} patients and {len(parts)} parts, not of one"
        )
    # A row of studies stands for no file: whoever wants pixels of it is told that there are none.
    return ManifestRow(study, target.path.absolute() / study, label, patients.pop(), study, None, parts.pop())


def _record(
    target: RunDirectory,
    run: RunDirectory,
    by: str,
    counts: Counter[str],
    positive: str | None,
    fingerprint: Fingerprint,
) -> None:
    classes = list(counts)
    ordered = (
        order_classes(classes, positive if positive in classes else None) if len(classes) > 1 else classes
    )
    target.record(
        "index",
        data=str(run.path.absolute()),
        layout="studies",
        classes=list(ordered),
        positive=ordered[1] if len(ordered) == 2 else None,
        slices=sum(counts.values()),
    )
    target.record(
        "features",
        pooled=by,
        of=str(run.path.absolute()),
        fingerprint=fingerprint.facts,
        fingerprint_sha256=fingerprint.hash,
    )
