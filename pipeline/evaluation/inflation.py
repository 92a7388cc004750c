"""What a leaky protocol is worth: the same features and head, split in each of the published ways."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from haemo.errors import MissingStep, TooFewData
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.table import FeatureTable
from haemo.pipeline.evaluation.drawn_figures import figures_of_draws
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.refits import DEFAULT_C, answers, choose_c, fit_splits, store_rows
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.protocols import FACTS, draw_training
from haemo.pipeline.splitting.split import Protocol, Split
from haemo.pipeline.splitting.splitfile import refuse_features_of_other_patients
from haemo.progress import Progress, silent

__all__ = [
    "Cohort",
    "choose_head",
    "donors_by_patient",
    "load_cohort",
    "measure_protocols",
    "shuffle_by_patient",
]

_FIGURES = ("roc_auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "mcc")
_DRAWS = 20  # of a shuffle or a split, until both sides have every class


@dataclass(frozen=True, eq=False)
class Cohort:
    """The labelled slices of a run that have features.

    Attributes
    ----------
    rows : tuple of ManifestRow
    classes : tuple of str
        Of two classes the second is the positive one.
    store : FeatureTable
    without_features : int
        Labelled slices that are left out because the store lacks them.
    """

    rows: tuple[ManifestRow, ...]
    classes: tuple[str, ...]
    store: FeatureTable
    without_features: int

    @property
    def slice_ids(self) -> list[str]:
        """Their ids."""
        return [row.slice_id for row in self.rows]

    @property
    def copies(self) -> tuple[int, ...]:
        """The variants that every slice has, or the original alone."""
        variants = self.store.variants
        whole = len(variants) > 1 and all(
            self.store.has(self.slice_ids, variant).all() for variant in variants
        )
        return variants if whole else (0,)


def load_cohort(manifest: Manifest, classes: tuple[str, ...], store: FeatureTable) -> Cohort:
    """The labelled slices that have features.

    Raises
    ------
    MissingStep
        If none has.
    FingerprintMismatch
        If the features come from a network that was trained on some of the patients.
    """
    for path, facts in store.facts_of_each.items():
        refuse_features_of_other_patients(facts, None, path)
    rows = manifest.labelled.rows
    there = store.covers(rows)
    if not there.any():
        raise MissingStep(f"{store.where} has no labelled slice of the manifest; run haemo features first")
    kept = tuple(row for row, known in zip(rows, there, strict=True) if known)
    return Cohort(kept, classes, store, int((~there).sum()))


def choose_head(cohort: Cohort, split: Split) -> float:
    """C of the linear SVM, chosen once by cross-validation over the training patients of the run's split."""
    folds = split.fold_numbers(cohort.rows)
    features = store_rows(cohort.store, cohort.slice_ids)
    return choose_c(features, _numbers(cohort.rows, cohort.classes), folds, len(cohort.classes))


def measure_protocols(
    cohort: Cohort,
    c: float,
    *,
    repeats: int = 10,
    shuffled: bool = False,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Test figures of one linear SVM under every protocol, each drawn `repeats` times.

    Parameters
    ----------
    cohort : Cohort
    c : float
        Penalty parameter, the same for all (``lenet`` chooses its own, on the test slices, as it did).
    repeats : int
        Draws of each protocol.
    shuffled : bool
        Permute labels between patients first and roll them, anew for each draw (`shuffle_by_patient`):
        neither the disease nor the level of a slice goes with its label, and what remains above chance is
        leakage.
    resampling : Resampling, optional
        Its seed also draws the splits.
    progress : Progress

    Returns
    -------
    list of dict
        For each protocol: ``protocol``, ``meaning``, ``source``, ``leaky``, ``draws``, ``absent`` (reason)
        or ``figures`` and ``inflation`` over ``patient`` (metric -> ``mean``, ``low``, ``high``, or
        ``no_interval``). With true labels the interval comes from patients left out, the same ones for
        all protocols and draws, of the mean over draws. With shuffled labels it is Student's interval of
        the mean over draws, each of which has another permutation.
    """
    resampling = resampling or Resampling()
    by_protocol: dict[Protocol, list[Predictions]] = {}
    absent: dict[Protocol, str] = {}
    relabelled = [
        shuffle_by_patient(cohort.rows, cohort.classes, resampling.seed + draw) if shuffled else cohort.rows
        for draw in range(repeats)
    ]
    for protocol in Protocol:
        copies = cohort.copies if FACTS[protocol].unit == "copy" else (0,)
        if FACTS[protocol].unit == "copy" and len(copies) == 1:
            absent[protocol] = "the store has no rotated copies; make them: haemo features --rotations paper"
            continue
        try:
            by_protocol[protocol] = _test_answers(
                cohort, relabelled, protocol, c, copies, resampling.seed, _named(progress, protocol, shuffled)
            )
        except TooFewData as error:
            absent[protocol] = str(error)
    patients = np.unique([row.patient for row in cohort.rows])
    values = {
        protocol: figures_of_draws(found, patients, None if shuffled else resampling, _FIGURES, progress)
        for protocol, found in by_protocol.items()
    }
    honest = values.get(Protocol.PATIENT)
    results = []
    for protocol in Protocol:
        facts = FACTS[protocol]
        entry: dict[str, Any] = {
            "protocol": protocol.value,
            "meaning": facts.meaning,
            "source": facts.source,
            "leaky": facts.leaky,
            "draws": len(by_protocol.get(protocol, ())),
        }
        if protocol in absent:
            entry["absent"] = absent[protocol]
        else:
            entry["figures"] = {name: own.summary(resampling.level) for name, own in values[protocol].items()}
            if facts.leaky and honest is not None:
                entry["inflation"] = {
                    name: own.less(honest[name], resampling.level) for name, own in values[protocol].items()
                }
        results.append(entry)
    return results


def shuffle_by_patient(
    rows: Sequence[ManifestRow], classes: tuple[str, ...], seed: int
) -> tuple[ManifestRow, ...]:
    """Give every patient the labels of another one, rolled and stretched to its own number of slices.

    The sequence of the other one starts at a random place and goes on from its end to its beginning, so
    labels that stood together still do (around the end), and every slice gets each label of the other one
    with the same chance. What slices of one patient have in common stays so; neither the disease nor the
    level of a slice goes with its label any more.

    Raises
    ------
    TooFewData
        If no shuffle leaves every class with three patients, which splits need.
    """
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        donors = donors_by_patient(rows, rng)
        shuffled = tuple(
            replace(row, label=rows[donor].label) for row, donor in zip(rows, donors.tolist(), strict=True)
        )
        if all(len({row.patient for row in shuffled if row.label == name}) >= 3 for name in classes):
            return shuffled
    raise TooFewData("no shuffle of the labels leaves every class with three patients")


def donors_by_patient(rows: Sequence[ManifestRow], rng: np.random.Generator) -> np.ndarray:
    """The slice whose label each slice is given by one draw of `shuffle_by_patient`, shape (n,), int."""
    slices: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        slices.setdefault(row.patient, []).append(place)
    patients = sorted(slices)
    for places in slices.values():
        places.sort(
            key=lambda place: (rows[place].position is None, rows[place].position, rows[place].slice_id)
        )
    donors = np.empty(len(rows), dtype=int)
    for patient, donor in zip(patients, rng.permutation(patients).tolist(), strict=True):
        own, theirs = slices[patient], np.array(slices[donor])
        # Both sequences lie around the same circle of so many steps; one of them is turned.
        circle = 2 * len(own) * len(theirs)
        turn = int(rng.integers(circle))
        middle = ((2 * np.arange(len(own)) + 1) * len(theirs) + turn) % circle
        donors[own] = theirs[middle // (2 * len(own))]
    return donors


def _numbers(rows: Sequence[ManifestRow], classes: tuple[str, ...]) -> np.ndarray:
    return np.array([classes.index(row.label) for row in rows])


def _named(progress: Progress, protocol: Protocol, shuffled: bool) -> Progress:
    """`progress`, with labels that say which protocol is at work."""
    name = f"{protocol.value}, labels shuffled" if shuffled else protocol.value

    def named(items: Iterable[Any], *, total: int | None = None, label: str = "") -> Iterator[Any]:
        return progress(items, total=total, label=f"{name}: {label}")

    return named


def _test_answers(
    cohort: Cohort,
    relabelled: Sequence[Sequence[ManifestRow]],
    protocol: Protocol,
    c: float,
    copies: tuple[int, ...],
    seed: int,
    progress: Progress = silent,
) -> list[Predictions]:
    """What the head says of the test rows of each draw."""
    classes, n_copies = cohort.classes, len(copies)
    features = store_rows(cohort.store, cohort.slice_ids, copies)
    training = np.stack(
        [draw_training(own, classes, protocol, seed + draw, n_copies) for draw, own in enumerate(relabelled)],
        axis=1,
    )
    labels = np.stack([np.tile(_numbers(own, classes), n_copies) for own in relabelled], axis=1)
    grid = DEFAULT_C if FACTS[protocol].chosen_on_test else (c,)
    scores = fit_splits(
        features,
        np.repeat(labels, len(grid), axis=1),
        np.repeat(training, len(grid), axis=1),
        np.tile(grid, len(relabelled)),
        len(classes),
        progress,
    )
    ids = np.array([f"{name}#{copy}" for copy in copies for name in cohort.slice_ids])
    patient = np.tile([row.patient for row in cohort.rows], n_copies)
    found = []
    for draw in range(len(relabelled)):
        tested = ~training[:, draw]
        options = [
            answers(ids[tested], patient[tested], labels[tested, draw], scores[tested, column], classes)
            for column in range(draw * len(grid), (draw + 1) * len(grid))
        ]
        found.append(max(options, key=lambda option: float(np.mean(option.predicted == option.label))))
    return found
