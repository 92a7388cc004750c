import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from haemo.errors import BadDataset, MissingStep
from haemo.pipeline.run.predictions import Predictions

COLUMNS = ("slice_id", "patient", "study", "label", "part", "fold", "scores", "probabilities", "predicted")


def predictions(scores, probabilities, classes):
    n = len(scores)
    return Predictions(
        slice_id=np.array([f"s{i}" for i in range(n)]),
        patient=np.array([f"p, {i // 2}" for i in range(n)]),
        study=np.array(["st"] * n),
        label=np.array([classes[i % len(classes)] for i in range(n)]),
        part=np.array(["cv" if i % 2 else "test" for i in range(n)]),
        fold=np.array([0 if i % 2 else -1 for i in range(n)]),
        scores=scores,
        probabilities=probabilities,
        predicted=np.array([classes[0]] * n),
        classes=classes,
    )


def same(first, second):
    return first.classes == second.classes and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in COLUMNS
    )


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(hnp.arrays(float, st.integers(1, 6), elements=finite), st.integers(2, 4), st.integers(0, 9))
def test_predictions_read_back_bit_for_bit(tmp_path_factory, values, n_classes, seed):
    path = tmp_path_factory.mktemp("predictions") / "predictions.csv"
    chances = np.random.default_rng(seed).dirichlet(np.ones(n_classes), len(values))
    if n_classes > 2:
        values = np.stack([values] * n_classes, axis=1)
    else:
        chances = chances[:, 1]
    written = predictions(values, chances, tuple("abcd"[:n_classes]))
    written.write(path)
    assert same(Predictions.read(path), written)


def test_two_classes_have_one_column_each_and_name_the_positive(tmp_path):
    path = tmp_path / "predictions.csv"
    predictions(np.array([0.5]), np.array([0.25]), ("normal", "haemorrhage")).write(path)
    assert path.read_text() == (
        "slice_id,patient,study,label,part,fold,score,probability,predicted,negative,positive\n"
        's0,"p, 0",st,normal,test,,0.5,0.25,normal,normal,haemorrhage\n'
    )


def test_a_part_is_selected_by_name():
    both = predictions(np.arange(4.0), np.zeros(4), ("a", "b"))
    assert both.of_part("cv").slice_id.tolist() == ["s1", "s3"]
    assert both.positive == "b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("0.25", "nan"), "not finite"),
        (("0.25", "a quarter"), "must hold numbers"),
        (("0.25", "-0.25"), r"slice s0 has the probability -0.25; probabilities lie between 0 and 1"),
        (("0.25", "25"), r"predictions.csv: slice s0 has the probability 25; .*divide percents by 100"),
        (("patient,", "person,"), "no column 'patient'"),
        (('s0,"p, 0",st,normal,test,,0.5,0.25,normal,normal,haemorrhage\n', ""), "has no rows"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "predictions.csv"
    predictions(np.array([0.5]), np.array([0.25]), ("normal", "haemorrhage")).write(path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(BadDataset, match=message):
        Predictions.read(path)


def test_probabilities_of_several_classes_add_up_to_1(tmp_path):
    path = tmp_path / "predictions.csv"
    chances = np.array([[0.2, 0.3, 0.5], [0.9, 0.3, 0.5]])
    predictions(chances, chances, ("a", "b", "c")).write(path)
    with pytest.raises(BadDataset, match=r"the probabilities of slice s1 add up to 1\.7"):
        Predictions.read(path)
    rounded = np.array([[0.33, 0.33, 0.33], [0.2, 0.3, 0.5]])
    predictions(chances, rounded, ("a", "b", "c")).write(path)
    assert Predictions.read(path).probabilities.tolist() == rounded.tolist()


def test_a_missing_file_says_to_train_first(tmp_path):
    with pytest.raises(MissingStep, match="train that model first"):
        Predictions.read(tmp_path / "predictions.csv")


def test_a_file_of_many_rows_reads_back_whichever_block_has_the_longest_names(tmp_path):
    count = 25_000
    names = np.array([f"slice{'s' * (number // 10_000)}-{number}" for number in range(count)])
    numbers = np.random.default_rng(0).random(count)
    written = Predictions(
        slice_id=names,
        patient=names,
        study=names,
        label=np.where(numbers < 0.5, "normal", "bleed"),
        part=np.where(numbers < 0.3, "test", "cv"),
        fold=np.where(numbers < 0.3, -1, 2),
        scores=numbers - 0.5,
        probabilities=numbers,
        predicted=np.repeat("normal", count),
        classes=("normal", "bleed"),
    )
    written.write(tmp_path / "predictions.csv")
    found = Predictions.read(tmp_path / "predictions.csv")
    for name in COLUMNS:
        assert np.array_equal(getattr(found, name), getattr(written, name)), name
