"""The public names: what is there, what it loads, and that it gives what the commands give."""

import ast
import inspect
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cohorts import class_folders, dicom_tree
from PIL import Image
from scored import make_predictions

import haemo
from haemo.errors import (
    BadDataset,
    BadSettings,
    DamagedStore,
    FingerprintMismatch,
    HaemoError,
    TooFewData,
    UnreadableSlice,
)
from haemo.features.manifest import Manifest
from haemo.features.store.store import FeatureStore
from haemo.models.networks import alexnet
from haemo.pipeline.api import embedding as embedding_module
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.claim import claim

ROOT = Path(__file__).resolve().parent.parent
CONTROL = {"layer": "pool5", "weights": "random", "precision": "float32", "device": "cpu"}


@pytest.fixture(autouse=True, scope="module")
def _small_network(tmp_path_factory):
    """Batches of 4, and an engine that is chosen once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(alexnet._BATCH, "cpu", 4)
        embedding_module._last.clear()
        haemo.extract([], **CONTROL)
        yield
    embedding_module._last.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data"), patients=6, slices=2)


@pytest.fixture
def paths(folder):
    return sorted(folder.rglob("*.png"))


@pytest.fixture
def embedded(monkeypatch):
    """How many planes each pass of the network was given."""
    seen = []
    embed = alexnet.Extractor._embed

    def counting(self, planes):
        seen.append(len(planes))
        return embed(self, planes)

    monkeypatch.setattr(alexnet.Extractor, "_embed", counting)
    return seen


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


class TestNames:
    def test_import_loads_nothing_but_itself(self):
        code = (
            "import sys\nbefore = set(sys.modules)\nimport haemo\n"
            "print(*sorted(set(sys.modules) - before))\n"
            "print(*sorted({'numpy', 'torch', 'sklearn', 'scipy', 'h5py'} & set(sys.modules)))"
        )
        loaded, slow = python(code).splitlines()
        assert {name for name in loaded.split() if name.startswith("haemo")} == {"haemo"}
        assert slow == ""

    def test_reading_a_slice_loads_neither_torch_nor_scikit_learn(self):
        code = "import haemo, sys\nhaemo.read_slice\nprint({'torch', 'sklearn'} & set(sys.modules))"
        assert python(code) == "set()\n"

    def test_every_name_is_there_and_is_listed(self):
        for name in haemo.__all__:
            assert getattr(haemo, name) is getattr(haemo, name)
        assert set(haemo.__all__) <= set(dir(haemo))
        assert haemo.__version__ == re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.M)[1]

    def test_type_checkers_see_every_name_where_it_is(self):
        tree = ast.parse((ROOT / "haemo" / "__init__.py").read_text())
        (guard,) = [node for node in tree.body if isinstance(node, ast.If)]
        assert guard.test.id == "TYPE_CHECKING"
        seen = {
            alias.name: node.module
            for node in guard.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert {*seen, "__version__"} == set(haemo.__all__)
        assert {name: f"haemo.{home}" for name, home in haemo._HOMES.items()} == seen

    def test_a_name_that_is_not_there_is_refused_with_those_that_are(self):
        with pytest.raises(AttributeError, match="no attribute 'predict'; it has AlexNetFeatures"):
            haemo.predict  # noqa: B018

    def test_the_guide_documents_exactly_the_public_names(self):
        guide = (ROOT / "docs" / "api.md").read_text()
        assert set(re.findall(r"^\| `haemo\.(\w+)", guide, re.M)) == set(haemo.__all__)

    @pytest.mark.parametrize("name", sorted({*haemo.__all__} - {"__version__"}))
    def test_every_argument_is_explained(self, name):
        public = getattr(haemo, name)
        said = inspect.getdoc(public)
        assert len(said) > 40
        if name == "HaemoError":
            return
        arguments = set(inspect.signature(public).parameters) - {"self"}
        explained = {
            word.strip(" *")
            for line in re.findall(r"^(\S.*?) : |^(\w[\w, ]+)$", said, re.M)
            for word in "".join(line).split(",")
        }
        assert arguments <= explained


class TestReadSlice:
    def test_pixels_as_they_are(self, paths):
        image = haemo.read_slice(str(paths[0]))
        assert isinstance(image, haemo.Slice)
        np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(paths[0])))
        assert not image.is_hu

    def test_a_file_that_is_none_is_named(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no picture")
        with pytest.raises(UnreadableSlice, match=r"a\.png: "):
            haemo.read_slice(tmp_path / "a.png")


class TestIndex:
    def test_in_memory_and_in_a_run_are_the_same(self, folder, tmp_path):
        found = haemo.index(str(folder))
        kept = haemo.Run(tmp_path / "run").index(folder)
        assert found.manifest == kept.manifest == Manifest.read(tmp_path / "run" / "manifest.csv")
        assert repr(found) == (
            "Index(class-folders, Manifest(12 slices of 6 patients: haemorrhage 6, normal 6), "
            "patients from folders below the class folders, 0 unusable)"
        )
        assert found.classes == ("normal", "haemorrhage")

    def test_nothing_is_written_without_a_run(self, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        haemo.index(folder, positive="normal")
        assert not list(tmp_path.iterdir())

    def test_a_class_that_is_not_there_is_refused(self, folder):
        with pytest.raises(BadSettings, match="'bleed' is none of the classes"):
            haemo.index(folder, positive="bleed")


class TestExtract:
    @pytest.mark.parametrize(
        "view", [{"crop": "none"}, {"crop": "head"}, {"upright": True, "mirror": True}], ids=str
    )
    def test_the_bits_of_the_command(self, folder, tmp_path, view):
        run = str(tmp_path / "run")
        assert main(["-q", "index", str(folder), "--run", run]) == 0
        words = ["--layer", "pool5", "--weights", "random", "--precision", "float32", "--device", "cpu"]
        options = [f"--{name}" if value is True else f"--{name}={value}" for name, value in view.items()]
        assert main(["-q", "features", "--run", run, *options, *words]) == 0
        manifest = haemo.index(folder).manifest
        with FeatureStore(tmp_path / "run" / "features.h5") as store:
            expected = store.embeddings([row.slice_id for row in manifest])
        found = haemo.extract(manifest, **view, **CONTROL)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        features = haemo.AlexNetFeatures(**view, **CONTROL)
        np.testing.assert_array_equal(features.fit_transform([row.path for row in manifest]), expected)

    def test_paths_slices_and_arrays_are_the_same_slices(self, paths):
        images = [haemo.read_slice(path) for path in paths]
        pixels = np.stack([image.pixels for image in images])
        expected = haemo.extract(paths, **CONTROL)
        assert expected.shape == (len(paths), 9216)
        for same in (
            [str(path) for path in paths],
            np.array([str(path) for path in paths]),
            images,
            [path if place % 2 else images[place] for place, path in enumerate(paths)],
            pixels.astype(np.uint8),
            list(pixels.astype(np.uint8)),
        ):
            np.testing.assert_array_equal(haemo.extract(same, **CONTROL), expected)
        np.testing.assert_array_equal(haemo.extract(pixels, units="gray", **CONTROL), expected)

    def test_hounsfield_units_are_windowed(self, tmp_path):
        paths = sorted(dicom_tree(tmp_path / "tree", patients=1, slices=2).rglob("IM_*"))
        expected = haemo.extract(paths, **CONTROL)
        hu = np.stack([haemo.read_slice(path).pixels for path in paths])
        np.testing.assert_array_equal(haemo.extract(hu.astype(np.int16), units="hu", **CONTROL), expected)

    def test_equal_pixels_go_through_the_network_once_and_order_is_kept(self, paths, embedded):
        expected = haemo.extract(paths[:3], **CONTROL)
        embedded.clear()
        picked = [2, 0, 1, 0, 2]
        mixed = [haemo.read_slice(paths[n]) if n == 0 else paths[n] for n in picked]
        np.testing.assert_array_equal(haemo.extract(mixed, **CONTROL), expected[picked])
        assert sum(embedded) == 3

    def test_no_slices_no_embeddings(self):
        assert haemo.extract([], **CONTROL).shape == (0, 9216)

    @pytest.mark.parametrize(
        ("items", "said"),
        [
            ("a.png", "put it in a list"),
            (np.zeros((8, 8)), r"one slice as pixels\[None\]"),
            (np.zeros((64, 64, 3), np.uint8), "looks like one colour picture"),
            ([np.zeros((8, 8))], "units='hu' or units='gray'"),
            ([np.zeros((8, 8), np.uint8), 7], "item 1 is a int"),
            (7, "no sequence of slices"),
        ],
    )
    def test_what_is_no_sequence_of_slices_is_refused_in_words(self, items, said):
        with pytest.raises(BadSettings, match=said):
            haemo.extract(items, **CONTROL)

    @pytest.mark.parametrize(
        ("pixels", "units", "said"),
        [
            (np.full((8, 8), np.nan), "hu", "item 0 has pixels that are not finite"),
            (np.full((8, 8), 300.0), "gray", "gray levels from 300 to 300"),
            (np.zeros((2, 8, 8)), "hu", r"item 0 has the shape \(2, 8, 8\)"),
            (np.zeros((0, 8)), "hu", "item 0: the picture is empty"),
            (np.zeros((8, 8), bool), "gray", "not bool"),
        ],
    )
    def test_pixels_that_are_no_slice_are_refused_in_words(self, pixels, units, said):
        with pytest.raises(UnreadableSlice, match=said):
            haemo.extract([pixels], units=units, **CONTROL)

    def test_files_that_cannot_be_used_are_named_all_of_them(self, paths, tmp_path):
        (tmp_path / "b.png").write_bytes(b"no picture")
        with pytest.raises(UnreadableSlice, match=r"gone\.png: .*b\.png: "):
            haemo.extract([paths[0], tmp_path / "gone.png", tmp_path / "b.png"], **CONTROL)

    def test_an_unknown_setting_is_refused(self, paths):
        with pytest.raises(BadSettings, match="units 'HU'"):
            haemo.extract(paths, units="HU", **CONTROL)
        with pytest.raises(BadSettings, match="crop"):
            haemo.extract(paths, **{**CONTROL, "crop": "brain"})


class TestStore:
    def test_known_pixels_run_no_network(self, paths, tmp_path, embedded):
        store = tmp_path / "new" / "pool5.h5"
        first = haemo.extract(paths, store=store, **CONTROL)
        assert sum(embedded) == len(paths)
        embedded.clear()
        embedding_module._last.clear()
        images = [haemo.read_slice(path) for path in paths]
        copies = [tmp_path / path.parent.name / path.name for path in paths]
        for path, copy in zip(paths, copies, strict=True):
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
        for again in (paths, images, copies, paths[::-1][::-1]):
            np.testing.assert_array_equal(haemo.extract(again, store=store, **CONTROL), first)
        assert embedded == []

    def test_new_slices_are_added_and_a_changed_file_is_seen(self, paths, tmp_path, embedded):
        store, copy = tmp_path / "s.h5", tmp_path / "a.png"
        copy.write_bytes(paths[0].read_bytes())
        haemo.extract([copy, paths[1]], store=store, **CONTROL)
        copy.write_bytes(paths[2].read_bytes())
        embedded.clear()
        found = haemo.extract([copy, paths[3], paths[1]], store=str(store), **CONTROL)
        assert sum(embedded) == 2
        np.testing.assert_array_equal(found, haemo.extract([paths[n] for n in (2, 3, 1)], **CONTROL))
        with FeatureStore(store) as held:
            assert len(held) == 4

    def test_that_of_a_run_serves_and_the_run_stays_as_it_was(self, folder, paths, tmp_path, embedded):
        run = str(tmp_path / "run")
        main(["-q", "index", str(folder), "--run", run])
        words = ["--layer", "pool5", "--weights", "random", "--precision", "float32", "--device", "cpu"]
        main(["-q", "features", "--run", run, *words])
        embedded.clear()
        store = tmp_path / "run" / "features.h5"
        ids = [row.slice_id for row in haemo.index(folder).manifest]
        with FeatureStore(store) as held:
            before = held.embeddings(ids)
        new = np.zeros((1, 64, 64), np.uint8)
        haemo.extract(paths, store=store, **CONTROL)
        assert embedded == []
        haemo.extract(new, store=store, **CONTROL)
        assert sum(embedded) == 1
        with FeatureStore(store) as held:
            np.testing.assert_array_equal(held.embeddings(ids), before)
        assert main(["-q", "verify", "--run", run]) == 0
        assert main(["-q", "features", "--run", run]) == 0
        assert sum(embedded) == 1

    def test_another_kind_is_refused_with_the_key(self, paths, tmp_path):
        store = tmp_path / "s.h5"
        haemo.extract(paths[:1], store=store, **CONTROL)
        with pytest.raises(FingerprintMismatch, match=r"preprocessing\.crop is none.*name another store"):
            haemo.extract(paths[:1], store=store, crop="head", **CONTROL)

    def test_a_damaged_store_is_never_added_to(self, paths, tmp_path):
        store = tmp_path / "s.h5"
        haemo.extract(paths[:1], store=store, **CONTROL)
        data = bytearray(store.read_bytes())
        data[10] ^= 1
        store.write_bytes(data)
        with pytest.raises(DamagedStore, match="name another store"):
            haemo.extract(paths[1:2], store=store, **CONTROL)

    def test_what_was_finished_before_a_failure_is_kept(self, paths, tmp_path, embedded):
        store = tmp_path / "s.h5"
        with pytest.raises(UnreadableSlice, match="gone"):
            haemo.extract([*paths, tmp_path / "gone.png"], store=store, **CONTROL)
        embedded.clear()
        found = haemo.extract(paths, store=store, **CONTROL)
        assert embedded == []
        np.testing.assert_array_equal(found, haemo.extract(paths, **CONTROL))

    def test_one_that_another_process_holds_is_read_and_not_added_to(self, paths, tmp_path, caplog):
        store = tmp_path / "s.h5"
        expected = haemo.extract(paths[:2], store=store, **CONTROL)
        before = store.read_bytes()
        with claim(tmp_path):
            found = haemo.extract(paths[:3], store=store, **CONTROL)
        np.testing.assert_array_equal(found[:2], expected)
        assert store.read_bytes() == before
        assert "not kept" in caplog.text

    def test_a_folder_is_no_store(self, paths, tmp_path):
        with pytest.raises(BadSettings, match=r"no \.h5 file"):
            haemo.extract(paths, store=tmp_path, **CONTROL)


class TestAlexNetFeatures:
    def test_arguments_are_kept_untouched_and_cloned(self):
        from sklearn.base import clone

        given = {**CONTROL, "crop": "head", "store": "a.h5", "workers": 3}
        features = haemo.AlexNetFeatures(**given)
        assert {name: features.get_params()[name] for name in given} == given
        assert clone(features).get_params() == features.get_params()
        assert features.set_params(crop="none").crop == "none"
        assert repr(features).startswith("AlexNetFeatures(")

    def test_arguments_are_those_of_extract(self):
        ours = inspect.signature(haemo.AlexNetFeatures).parameters
        theirs = dict(inspect.signature(haemo.extract).parameters)
        del theirs["slices"]
        assert {name: one.default for name, one in ours.items()} == {
            name: one.default for name, one in theirs.items()
        }

    def test_the_checks_of_scikit_learn_that_apply(self):
        from sklearn.utils import estimator_checks

        features = haemo.AlexNetFeatures()
        with pytest.warns(Warning, match="Can't test estimator AlexNetFeatures"):
            estimator_checks.check_estimator(features)
        # What is not skipped for its kind of input is none; these look at no input.
        for name in (
            "check_estimator_cloneable",
            "check_estimator_repr",
            "check_estimator_tags_renamed",
            "check_valid_tag_types",
            "check_no_attributes_set_in_init",
            "check_do_not_raise_errors_in_init_or_set_params",
            "check_get_params_invariance",
            "check_set_params",
            "check_parameters_default_constructible",
            "check_mixin_order",
            "check_estimators_overwrite_params",
            "check_dont_overwrite_parameters",
            "check_estimators_fit_returns_self",
        ):
            getattr(estimator_checks, name)("AlexNetFeatures", features)

    def test_names_of_the_numbers(self):
        names = haemo.AlexNetFeatures(layer="pool5").get_feature_names_out()
        assert (names[0], names[-1], len(names)) == ("pool5_0", "pool5_9215", 9216)
        names = haemo.AlexNetFeatures(layer="pool4", mirror=True).get_feature_names_out()
        assert names[9216 - 1 : 9216 + 1].tolist() == ["pool4_sum_9215", "pool4_difference_0"]
        with pytest.raises(BadSettings, match="fc8"):
            haemo.AlexNetFeatures(layer="fc8").get_feature_names_out()

    def test_in_a_search_by_patient_each_slice_is_embedded_once(self, folder, tmp_path, embedded):
        from sklearn.model_selection import GridSearchCV, GroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC

        rows = haemo.index(folder).manifest.rows
        paths = [str(row.path) for row in rows]
        y = [row.label for row in rows]
        groups = [row.patient for row in rows]
        features = haemo.AlexNetFeatures(store=tmp_path / "s.h5", **CONTROL)
        model = make_pipeline(features, LinearSVC())
        search = GridSearchCV(model, {"linearsvc__C": [1e-5, 1e-3]}, cv=GroupKFold(3))
        search.fit(paths, y, groups=groups)
        assert sum(embedded) == len(paths)
        alone = GridSearchCV(LinearSVC(), {"C": [1e-5, 1e-3]}, cv=GroupKFold(3))
        alone.fit(haemo.extract(paths, **CONTROL), y, groups=groups)
        np.testing.assert_array_equal(
            search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
        )
        assert list(search.predict(paths)) == list(alone.predict(haemo.extract(paths, **CONTROL)))


class TestEvaluate:
    def made_up(self):
        """Scores that know something of the classes, probabilities, and patients."""
        made = make_predictions(n=90, patients=20, seed=3)
        return made, (made.label == "bleed").astype(int)

    def test_figures_are_those_of_the_commands(self):
        made, y = self.made_up()
        figures = haemo.evaluate(y, made.scores, made.patient, probability=made.probabilities)
        expected = assess(made)
        for name in ("roc_auc", "average_precision", "sensitivity", "specificity", "brier", "mcc"):
            assert figures[name].value == expected[name]
            interval = expected["intervals"][name]
            assert (figures[name].low, figures[name].high) == (interval["low"], interval["high"])
        assert (figures.slices, figures.patients, figures.level) == (90, len(set(made.patient)), 0.95)
        assert float(figures["roc_auc"]) == expected["roc_auc"]
        assert f"ROC AUC            {figures['roc_auc']}" in repr(figures)
        assert ">ROC AUC</th>" in figures._repr_html_()

    @pytest.mark.parametrize("kind", [bool, float, str, lambda y: np.where(y, "bleed", "normal")])
    def test_classes_of_any_kind_are_two(self, kind):
        made, y = self.made_up()
        same = kind(y) if callable(kind) and kind not in (bool, float, str) else y.astype(kind)
        figures = haemo.evaluate(same, made.scores, made.patient, resamples=100)
        assert (
            figures["roc_auc"].value
            == haemo.evaluate(y, made.scores, made.patient, resamples=100)["roc_auc"].value
        )

    def test_the_positive_class_can_be_named(self):
        made, y = self.made_up()
        usual = haemo.evaluate(y, made.scores, made.patient, resamples=100)
        turned = haemo.evaluate(y, -made.scores, made.patient, positive=0, resamples=100)
        assert (usual.positive, turned.positive) == ("1", "0")
        assert turned["roc_auc"].value == pytest.approx(usual["roc_auc"].value)

    def test_what_scores_alone_cannot_give_is_absent_with_the_reason(self):
        made, y = self.made_up()
        figures = haemo.evaluate(y, made.scores, made.patient, resamples=100)
        assert set(figures) == {"roc_auc", "average_precision"}
        assert figures.undefined["brier"] == "needs probability"
        with pytest.raises(KeyError, match="needs a threshold"):
            figures["sensitivity"]
        at_zero = haemo.evaluate(y, made.scores, made.patient, threshold=0.0, resamples=100)
        called = made.scores >= 0
        assert at_zero["sensitivity"].value == called[y == 1].mean()
        assert at_zero["specificity"].value == (~called)[y == 0].mean()
        assert "brier" not in at_zero

    def test_the_threshold_itself_is_positive(self):
        figures = haemo.evaluate([0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0], list("abcd"), threshold=2, resamples=100)
        assert (figures["sensitivity"].value, figures["specificity"].value) == (1, 1)

    def test_a_prevalence_moves_ppv_alone(self):
        made, y = self.made_up()
        given = {"probability": made.probabilities, "groups": made.patient, "resamples": 100}
        usual, rare = haemo.evaluate(y, **given), haemo.evaluate(y, prevalence=0.01, **given)
        assert rare["ppv"].value < rare["ppv"].high < usual["ppv"].value
        assert rare["sensitivity"] == usual["sensitivity"]

    def test_without_patients_it_warns(self, caplog):
        made, y = self.made_up()
        figures = haemo.evaluate(y, made.scores, resamples=100)
        assert figures.patients == 90
        assert "no groups" in caplog.text

    @pytest.mark.parametrize(
        ("change", "error", "said"),
        [
            ({"y": np.zeros(90)}, TooFewData, "one class only, 0"),
            ({"y": []}, TooFewData, "no rows"),
            ({"y": np.arange(90)}, BadSettings, "90 classes"),
            ({"y": np.eye(90)}, BadDataset, r"y has the shape \(90, 90\)"),
            ({"y": np.array([np.nan] * 90)}, BadDataset, "y has values that are not finite"),
            ({"score": np.zeros(7)}, BadDataset, "score has 7 rows, and y has 90"),
            ({"score": np.zeros((90, 2))}, BadDataset, r"score has the shape \(90, 2\)"),
            ({"score": np.full(90, np.nan)}, BadDataset, "score is not finite in row 0"),
            ({"score": ["high"] * 90}, BadDataset, "must hold numbers"),
            ({"groups": ["a"]}, BadDataset, "groups has 1 rows"),
            ({"groups": [None] * 90}, BadDataset, "rows without a patient"),
            ({"probability": np.full(90, 1.5)}, BadDataset, r"outside 0\.\.1"),
            ({"score": None}, BadSettings, "give score or probability"),
            ({"resamples": 3}, BadSettings, "too few"),
            ({"prevalence": 2.0}, BadSettings, "prevalence is 2.0"),
        ],
    )
    def test_wrong_input_is_refused_in_words(self, change, error, said):
        made, y = self.made_up()
        with pytest.raises(error, match=said) as raised:
            haemo.evaluate(**{"y": y, "score": made.scores, "groups": made.patient, **change})
        assert isinstance(raised.value, HaemoError)


class TestMakePhantom:
    def test_the_bytes_of_the_command(self, tmp_path):
        options = ["--patients", "1", "--seed", "3", "--slices", "2", "--size", "64", "--workers", "1"]
        assert main(["phantom", str(tmp_path / "a"), *options]) == 0
        made = haemo.make_phantom(tmp_path / "b", patients=1, seed=3, slices=(2, 2), size=64)
        assert re.fullmatch(r"Cohort\(path=.*, bleeding=[01], subtypes=\{.*\}\)", repr(made))
        files = [sorted((tmp_path / one).rglob("*.dcm")) for one in "ab"]
        assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
        assert len(made.rows) == len(files[1]) == 2


def test_the_library_prints_nothing(folder, tmp_path, capsys):
    logging.getLogger("haemo").setLevel(logging.ERROR)
    haemo.Run(tmp_path / "run").index(folder)
    haemo.extract([row.path for row in haemo.index(folder).manifest], store=tmp_path / "s.h5", **CONTROL)
    assert capsys.readouterr() == ("", "")
