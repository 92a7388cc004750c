"""Many splits at once against the head ``svm`` fitted one by one."""

import numpy as np
import pytest
from oracles import exact_head
from sklearn.metrics import roc_auc_score

from haemo.models.search.rows import Rows
from haemo.pipeline.evaluation import refits
from haemo.pipeline.evaluation.refits import DEFAULT_C, answers, choose_c, fit_splits

pytestmark = pytest.mark.numerical


def cohort(seed=0, n=120, d=40, n_classes=2):
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(n) % n_classes)
    features = np.maximum(rng.normal(size=(n, d)) + 0.4 * classes[:, None], 0).astype(np.float32)
    training = np.stack([rng.random(n) < 0.6 for _ in range(4)], axis=1)
    return features, classes, training


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("way", ["kernel", "training kernel", "shared passes", "stream"])
def test_scores_are_those_of_the_head(n_classes, way, monkeypatch):
    features, classes, training = cohort(n_classes=n_classes)
    source = features
    if way == "stream":
        source = Rows(lambda: (features[i : i + 50] for i in (0, 50, 100)), features.shape)
    elif way != "kernel":
        monkeypatch.setattr(refits, "_MOST_ROWS_OF_A_KERNEL", 100)
    if way == "shared passes":
        monkeypatch.setattr(refits, "_LARGEST_C_OF_PASSES", 1.0)
    training[:, 2] = training[:, 1]  # neighbours with one training part
    penalties = np.array([1e-4, 1e-3, 1e-2, 1e-2])
    found = fit_splits(source, classes, training, penalties, n_classes)
    for split in range(4):
        one = training[:, split]
        head = exact_head("svm", C=penalties[split])
        head.fit(features[one], classes[one])
        assert found[:, split] == pytest.approx(head.decision_function(features), abs=5e-3)


def test_rare_classes_are_weighed_as_the_head_weighs_them():
    # Against the rest liblinear weighs the class alone; to weigh both sides is another objective, under
    # which one decision in five was another one.
    rng = np.random.default_rng(0)
    classes = rng.choice(5, 300, p=(0.7, 0.1, 0.1, 0.05, 0.05))
    features = rng.normal(size=(300, 40))
    for k in range(1, 5):
        features[classes == k, 2 * k : 2 * k + 2] += 1.0
    training = np.arange(300) < 200
    head = exact_head("svm", C=1e-2).fit(features[training], classes[training])
    expected = head.decision_function(features)
    found = fit_splits(features, classes, training[:, None], 1e-2, 5)[:, 0]
    assert found == pytest.approx(expected, abs=5e-3)
    held_out = (found.argmax(axis=1) != expected.argmax(axis=1))[~training]
    assert held_out.sum() <= 1  # a tie to within the tolerance of the solver


def test_labels_may_differ_between_splits():
    features, classes, training = cohort()
    other = np.random.default_rng(5).permutation(classes)
    together = fit_splits(features, np.stack([classes, other], axis=1), training[:, :2], 1e-3)
    assert together[:, 0] == pytest.approx(fit_splits(features, classes, training[:, :1], 1e-3)[:, 0])
    assert together[:, 1] == pytest.approx(fit_splits(features, other, training[:, 1:2], 1e-3)[:, 0])


def test_the_chosen_c_has_the_best_mean_area_over_folds():
    features, classes, _ = cohort(seed=3, n=90, d=300)
    folds = np.arange(90) % 4 - 1
    areas = []
    for c in DEFAULT_C:
        head = exact_head("svm", C=c)
        found = []
        for k in range(3):
            trained, held_out = (folds >= 0) & (folds != k), folds == k
            head.fit(features[trained], classes[trained])
            found.append(roc_auc_score(classes[held_out], head.decision_function(features[held_out])))
        areas.append(np.mean(found))
    chosen = choose_c(features, classes, folds)
    assert areas[DEFAULT_C.index(chosen)] == pytest.approx(max(areas))


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_slices_that_take_no_part_have_no_say_in_c(seed):
    # Half of the rows take no part. To learn from them with their labels turned over would undo what the
    # others teach, and would make another C the best.
    features, classes, _ = cohort(seed=seed, n=120, d=300)
    folds = np.where(np.arange(120) < 60, np.arange(120) % 3, -1)
    turned_over = np.where(folds < 0, 1 - classes, classes)
    alone = choose_c(features[:60], classes[:60], folds[:60])
    assert choose_c(features, classes, folds) == alone
    assert choose_c(features, turned_over, folds) == alone


def test_answers_are_what_the_scores_say():
    p = answers(
        np.array(["a", "b"]), np.array(["p", "q"]), np.array([0, 1]), np.array([-0.5, 2]), ("no", "yes")
    )
    assert p.predicted.tolist() == ["no", "yes"]
    assert p.probabilities.tolist() == [0, 1]
    assert p.scores.tolist() == [-0.5, 2]
