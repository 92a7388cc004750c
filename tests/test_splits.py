import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.splitting.dealing import deal
from haemo.pipeline.splitting.protocols import load_or_make_split
from haemo.pipeline.splitting.split import Split, make_split, manifest_hash

CLASSES = ("normal", "haemorrhage")


def rows_of(patients, part=""):
    """Manifest rows from {patient: {label: number of slices}}."""
    return [
        ManifestRow(
            f"{patient}/{label}{number}", Path(f"/d/{patient}.png"), label, patient, patient, part=part
        )
        for patient, labels in patients.items()
        for label, count in labels.items()
        for number in range(count)
    ]


def cohort(bleeding=10, normal=20, slices=4):
    with_bleed = {f"b{i}": {"haemorrhage": 2, "normal": slices - 2} for i in range(bleeding)}
    return Manifest(rows_of(with_bleed | {f"n{i}": {"normal": slices} for i in range(normal)}))


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    cohort().write(run.manifest_path)
    return run


def shares(split, manifest, label=None):
    rows = [row for row in manifest if label in (None, row.label)]
    return (split.parts(rows) == "train").mean()


def test_patients_stay_whole_and_the_shares_are_kept():
    manifest = cohort()
    split = make_split(manifest, CLASSES)
    assert set(split.part) == {row.patient for row in manifest}
    assert shares(split, manifest) == pytest.approx(0.7, abs=0.02)
    assert shares(split, manifest, "haemorrhage") == pytest.approx(0.7, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)).filter(any), min_size=12, max_size=40),
    st.integers(0, 3),
)
def test_any_cohort_gets_every_class_on_both_sides_and_in_every_fold(sizes, seed):
    sizes = [*sizes, (3, 5), (1, 0), (4, 9), (0, 4), (0, 8), (0, 2)]
    patients = {f"p{i}": {"haemorrhage": bleeds, "normal": rest} for i, (bleeds, rest) in enumerate(sizes)}
    manifest = Manifest(rows_of(patients))
    split = make_split(manifest, CLASSES, seed=seed)
    rows = manifest.rows
    parts, folds = split.parts(rows), split.fold_numbers(rows)
    labels = np.array([row.label for row in rows])
    assert set(folds[parts == "train"]) == set(range(split.n_folds))
    assert (folds[parts == "test"] == -1).all()
    assert split.n_folds >= 2
    for name in CLASSES:
        assert {"train", "test"} == set(parts[labels == name])
        assert len(set(folds[(labels == name) & (parts == "train")])) >= 2


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    manifest = cohort()
    backwards = Manifest(reversed(manifest.rows))
    assert make_split(manifest, CLASSES) == make_split(backwards, CLASSES)
    assert manifest_hash(manifest) == manifest_hash(backwards)
    assert make_split(manifest, CLASSES, seed=1).part != make_split(manifest, CLASSES).part


def test_uneven_patients_are_dealt_nearer_to_the_shares_than_one_blind_draw():
    random = np.random.default_rng(0)
    counts = np.column_stack([random.integers(5, 60, 30), random.integers(0, 2, 30) * 10])
    strata = (counts[:, 1] > 0).astype(int)
    share = np.array([0.7, 0.3])
    parts = deal(counts, strata, share, np.array([2, 1]), seed=0)
    blind = [abs(counts[random.permutation(30)[:21]].sum() / counts.sum() - 0.7) for _ in range(200)]
    assert abs(counts[parts == 0].sum() / counts.sum() - 0.7) < np.median(blind) / 2
    assert [np.bincount(parts[strata == s]).tolist() for s in (0, 1)] == [
        pytest.approx([0.7 * n, 0.3 * n], abs=1) for n in np.bincount(strata)
    ]


def test_the_dealt_sides_of_a_tiny_cohort_are_the_best_there_are():
    counts = np.array([[4, 0], [3, 0], [9, 0], [1, 3], [2, 1], [0, 8], [5, 5]])
    share = np.array([0.7, 0.3])

    def distance(is_train):
        part = np.array([counts[is_train].sum(axis=0), counts[~is_train].sum(axis=0)])
        return (
            np.abs(part / counts.sum(axis=0) - share[:, None]).sum()
            + np.abs(part.sum(axis=1) / counts.sum() - share).sum()
        )

    dealt = deal(counts, (counts[:, 1] > 0).astype(int), share, np.array([2, 1]), seed=0)
    every = [
        distance(np.array(sides))
        for sides in itertools.product([True, False], repeat=7)
        # What stratification allows: two of three normal patients, three of four with a bleed, or so.
        if sum(sides[:3]) in (2, 3) and sum(sides[3:]) in (2, 3) and sum(sides) == 5
    ]
    assert distance(dealt == 0) == pytest.approx(min(every))


def test_the_split_is_kept_and_read_back(run, caplog):
    caplog.set_level(logging.INFO, "haemo")
    made = load_or_make_split(run, run.manifest(), seed=3, folds=4)
    assert "split drawn with seed 3" in caplog.text
    assert load_or_make_split(run, run.manifest()) == made
    assert Split.read(run.split_path).hash == made.hash
    written = run.split_path.read_bytes()
    load_or_make_split(run, run.manifest(), seed=3, folds=4, new=True)
    assert run.split_path.read_bytes() == written


@pytest.mark.parametrize("option", [{"seed": 1}, {"folds": 3}, {"train_fraction": 0.8}])
def test_other_settings_are_refused_until_a_new_split_is_asked_for(run, option):
    load_or_make_split(run, run.manifest())
    name = next(iter(option)).replace("_", " ")
    with pytest.raises(BadSettings, match=rf"{name} .*--new-split"):
        load_or_make_split(run, run.manifest(), **option)
    load_or_make_split(run, run.manifest(), **option, new=True)


def test_asking_again_for_more_folds_than_there_can_be_is_no_change(run, caplog):
    cohort(bleeding=4).write(run.manifest_path)
    first = load_or_make_split(run, run.manifest(), folds=5)
    assert first.n_folds == 3
    assert "3 folds in place of 5: class 'haemorrhage' has 3 training patients" in caplog.text
    assert load_or_make_split(run, run.manifest(), folds=5) == first


def test_a_changed_manifest_is_refused_with_what_changed(run):
    load_or_make_split(run, run.manifest())
    with pytest.raises(BadDataset, match=r"1 patient ids are new and 2 are gone.*--new-split"):
        load_or_make_split(run, Manifest([*run.manifest().rows[:-8], *rows_of({"x": {"normal": 1}})]))
    relabelled = [
        ManifestRow(row.slice_id, row.path, "normal", row.patient, row.study) if row.patient == "b0" else row
        for row in run.manifest()
    ]
    with pytest.raises(BadDataset, match="slices, labels or patients have changed"):
        load_or_make_split(run, Manifest(relabelled))


def test_moved_files_and_slices_without_a_label_change_nothing(run):
    split = load_or_make_split(run, run.manifest())
    moved = [
        ManifestRow(row.slice_id, Path("/elsewhere"), row.label, row.patient, row.study)
        for row in run.manifest()
    ]
    unlabelled = rows_of({"new": {"": 2}})
    assert load_or_make_split(run, Manifest([*moved, *unlabelled])) == split
    assert split.parts(unlabelled).tolist() == ["", ""]


def test_published_sides_are_honoured(caplog):
    train = rows_of({f"{label}{i}": {label: 2} for label in CLASSES for i in range(4)}, part="train")
    test = rows_of({"x": {"normal": 3}, "y": {"haemorrhage": 1}}, part="test")
    split = make_split(Manifest([*train, *test]), CLASSES)
    assert split.published
    assert not split.leaky
    assert {patient for patient, part in split.part.items() if part == "test"} == {"x", "y"}
    assert split.n_folds == 4


def test_a_patient_on_both_published_sides_is_said_loudly(run, caplog):
    patients = {f"{label}{i}": {label: 2} for label in CLASSES for i in range(4)}
    rows = rows_of(patients, part="train")
    rows[0] = ManifestRow(rows[0].slice_id, rows[0].path, rows[0].label, rows[0].patient, "s", part="test")
    rows += rows_of({"y": {"haemorrhage": 1}}, part="test")
    split = load_or_make_split(run, Manifest(rows))
    assert split.leaky
    assert "LEAKY split: 1 patients (normal0 ...) stand on both sides" in caplog.text
    assert split.parts(rows[:2]).tolist() == ["test", "train"]


def test_a_half_published_split_is_refused():
    rows = rows_of({"a": {"normal": 1}}, part="train") + rows_of({"b": {"normal": 1}}, part="test")
    with pytest.raises(BadDataset, match=r"1 labelled slices .* have no part"):
        make_split(Manifest([*rows, *rows_of({"c": {"normal": 1}})]), CLASSES)


def test_slices_without_patients_are_warned_about(run, caplog):
    rows = [ManifestRow(f"s{i}", Path("/d"), CLASSES[i % 2], f"s{i}", f"s{i}") for i in range(20)]
    load_or_make_split(run, Manifest(rows))
    assert "no patient ids" in caplog.text


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        ({}, "has no labels"),
        ({"a": {"normal": 9}}, "has only the class 'normal'"),
        ({"a": {"normal": 1}, "b": {"haemorrhage": 1}}, r"class 'normal' has too few patients \(1\)"),
        ({"a": {"normal": 4, "haemorrhage": 4}}, r"class 'normal' has too few patients \(1\)"),
        (
            {f"n{i}": {"normal": 1} for i in range(9)} | {"b": {"haemorrhage": 5}},
            r"'haemorrhage' has too few patients \(1\)",
        ),
    ],
)
def test_too_few_slices_patients_or_classes_are_named(run, patients, message):
    with pytest.raises(TooFewData, match=message):
        load_or_make_split(run, Manifest(rows_of(patients)))


def test_too_few_patients_come_with_a_remedy():
    two = {f"n{i}": {"normal": 1} for i in range(9)} | {"b": {"haemorrhage": 5}}
    with pytest.raises(TooFewData, match=r"of each class: add patients and index again$"):
        make_split(Manifest(rows_of(two)), CLASSES)
    three = {f"{name}{i}": {name: 1} for name in ("normal", "subdural") for i in range(5)}
    three |= {f"e{i}": {"epidural": 1} for i in range(2)}
    with pytest.raises(TooFewData, match=r"too few patients \(2\).*: add patients, or leave the"):
        make_split(Manifest(rows_of(three)), ("epidural", "normal", "subdural"))


def test_three_patients_of_each_class_are_enough(run):
    split = load_or_make_split(run, cohort(bleeding=3, normal=3))
    assert split.n_folds == 2


@pytest.mark.parametrize("options", [{"train_fraction": 1.0}, {"folds": 1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(BadSettings):
        make_split(cohort(), CLASSES, **options)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 99}'])
def test_a_damaged_split_is_named(run, text):
    run.split_path.write_text(text)
    with pytest.raises(BadDataset, match=r"split\.json is no split .*--new-split"):
        load_or_make_split(run, run.manifest())


def test_three_classes_are_stratified_by_the_rarest():
    classes = ("epidural", "none", "subdural")
    patients = {f"p{i}": {"none": 5, "subdural": i % 2} for i in range(30)} | {
        f"e{i}": {"none": 2, "subdural": 1, "epidural": 1} for i in range(6)
    }
    manifest = Manifest(rows_of(patients))
    split = make_split(manifest, classes)
    sides = [split.part[f"e{i}"] for i in range(6)]
    assert sides.count("train") in (4, 5)
    assert shares(split, manifest, "subdural") == pytest.approx(0.7, abs=0.06)
