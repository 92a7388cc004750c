"""Models as ONNX: the same answers, without PyTorch and scikit-learn."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cohorts import class_folders
from sklearn.isotonic import IsotonicRegression

from haemo.errors import BadDataset, BadSettings, ExportDiffers, MissingStep
from haemo.models.heads.calibration import (
    CalibratedHead,
    PriorShift,
    SigmoidCalibrator,
    fit_calibrators,
    probabilities,
)
from haemo.models.heads.spec import HeadSpec
from haemo.pipeline.cli import main
from haemo.pipeline.exporting import export
from haemo.pipeline.exporting.runtime import OnnxModel
from haemo.pipeline.run.directory import RunDirectory

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from haemo.pipeline.exporting.decisions import write_probabilities, write_scores  # noqa: E402 - needs onnx
from haemo.pipeline.exporting.graph import Graph  # noqa: E402 - needs onnx

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "sklearn", "skops", "joblib", "onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from haemo.pipeline.cli import main
code = main(sys.argv[1:])
assert not {"torch", "sklearn"} & set(sys.modules)
sys.exit(code)
"""


def answers(graph, outputs, rows):
    given = {name: ("float64", ["n", "m"]) for name in outputs}
    model = graph.model({"rows": ("float32", ["n", rows.shape[1]])}, given, {}, "test")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs), {"rows": rows})


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    X = random.normal(size=(120, 12)).astype(np.float32)
    return (
        X,
        np.where(X[:, :3].sum(axis=1) > 0, "bleed", "normal"),
        np.array(["a", "b", "c"])[X[:, :3].argmax(1)],
    )


HEADS = [
    (HeadSpec("svm"), {"C": 0.1}),
    (HeadSpec("svm", kernel="rbf"), {"C": 10.0, "gamma": 0.05}),
    (HeadSpec("svm", kernel="poly"), {"C": 1.0, "gamma": 0.05}),
    (HeadSpec("svm", kernel="rbf", nystroem=20), {"C": 1.0, "gamma": 0.05}),
    (HeadSpec("svm", normalise=True, pca=5), {"C": 1.0}),
    (HeadSpec("softmax"), {"C": 1.0}),
    (HeadSpec("mlp"), {}),
]


@pytest.mark.parametrize(("spec", "parameters"), HEADS, ids=lambda one: str(getattr(one, "kernel", "")))
@pytest.mark.parametrize("several", [False, True], ids=["two", "three"])
def test_a_head_in_onnx_is_the_head(data, spec, parameters, several):
    X, two, three = data
    classes = ("a", "b", "c") if several else ("normal", "bleed")
    method = "none" if spec.gives_log_odds else "sigmoid"
    head = CalibratedHead(spec.build(**parameters), classes, method, cv=3).fit(X, three if several else two)
    graph = Graph()
    if several and spec.kernel and not spec.nystroem:
        with pytest.raises(BadSettings, match="more than two classes cannot be exported"):
            write_scores(graph, "rows", head)
        return
    scores = write_scores(graph, "rows", head)
    chances = write_probabilities(graph, scores, len(classes), head.calibrators_)
    rows = np.random.default_rng(4).normal(size=(31, 12)).astype(np.float32)
    found, told = answers(graph, (scores, chances), rows)
    wanted = head.decision_function(rows)
    np.testing.assert_allclose(found.squeeze(), wanted, atol=1e-5, rtol=1e-5)  # scikit-learn keeps float32
    own = head.predict_proba(rows)
    np.testing.assert_allclose(told if several else told[:, 0], own if several else own[:, 1], atol=1e-5)


@pytest.mark.parametrize("several", [False, True], ids=["two", "three"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "prior", "none"])
def test_calibration_in_onnx_is_the_calibration(method, several):
    random = np.random.default_rng(5)
    y = random.integers(0, 3 if several else 2, 200)
    scores = random.normal(size=(200, 3) if several else 200) + (np.eye(3)[y] if several else y)
    calibrators = fit_calibrators(scores, y, method)
    kinds = {"sigmoid": SigmoidCalibrator, "isotonic": IsotonicRegression, "prior": PriorShift}
    assert all(isinstance(one, kinds[method]) for one in calibrators)
    # Some lie beyond what was calibrated on; float32 scores are exact in float64.
    asked = np.concatenate([scores[:50], scores[:5] * 9, -scores[:5] * 9]).astype(np.float32)
    graph = Graph()
    rows = asked if several else asked[:, None]
    told = write_probabilities(graph, graph.cast("rows", "float64"), 3 if several else 2, calibrators)
    (found,) = answers(graph, (told,), rows)
    wanted = probabilities(asked.astype(np.float64), calibrators)
    np.testing.assert_allclose(
        found if several else found[:, 0], wanted if several else wanted[:, 1], atol=1e-9
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run with a head, on mirrored features, and a network."""
    home = tmp_path_factory.mktemp("export")
    class_folders(home / "data", patients=10, slices=2)
    run = ["--run", str(home / "run")]
    features = ["--weights", "random", "--layer", "pool3", "--precision", "float32", "--mirror"]
    assert main(["-q", "index", str(home / "data"), *run]) == 0
    assert main(["-q", "features", *run, *features]) == 0
    assert main(["-q", "svm", *run, "--kernel", "rbf", "--grid", "C=10", "--grid", "gamma=1e-4"]) == 0
    assert main(["-q", "tinyvgg", *run, "--epochs", "1"]) == 0
    for name in ("svm", "tinyvgg"):
        assert main(["-q", "export", *run, "--head", name, str(home / f"{name}.onnx")]) == 0
    return home


def scored(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("name", ["svm", "tinyvgg"])
def test_a_file_says_what_its_model_says_without_torch_and_scikit_learn(home, name):
    slices, out = str(home / "data"), home / f"{name}.csv"
    model = str(home / f"{name}.onnx")
    words = ["-q", "predict", "--runtime", "onnx", model, slices, "--out", str(out), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = ["--run", str(home / "run"), "--head", name]
    assert main(["-q", "predict", *run, slices, "--out", str(home / "own.csv")]) == 0
    own, found = scored(home / "own.csv"), scored(out)
    assert list(own) == list(found)
    assert len(found) == 20
    for path, row in own.items():
        assert abs(float(row["probability"]) - float(found[path]["probability"])) < 1e-4
        assert {key: row[key] for key in ("predicted", "study", "position", "threshold")} == {
            key: found[path][key] for key in ("predicted", "study", "position", "threshold")
        }
        assert bool(row["outside"]) == bool(found[path]["outside"])
    said = json.loads(done.stdout)
    assert said["distance_checked"]
    assert len(said["studies"]) == 10


def test_what_an_export_prints(home, capsys):
    words = ["export", "--run", str(home / "run"), "--head", "svm", str(home / "again.onnx")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "largest difference of a probability on" in said
    assert "(allowed 0.0001)" in said
    assert (home / "again.onnx").read_bytes() == (home / "svm.onnx").read_bytes()


def test_any_batch_is_taken_and_the_file_names_nobody(home):
    session = onnxruntime.InferenceSession(str(home / "svm.onnx"), providers=["CPUExecutionProvider"])
    planes = np.random.default_rng(0).integers(0, 256, (7, 227, 227), dtype=np.uint8)
    score, chance, distance = session.run(["score", "probability", "distance"], {"planes": planes})
    assert score.shape == chance.shape == distance.shape == (7,)
    np.testing.assert_allclose(
        session.run(["probability"], {"planes": planes[2:3]})[0], chance[2:3], atol=1e-6
    )
    data = (home / "svm.onnx").read_bytes()
    rows = RunDirectory(home / "run").manifest().rows
    names = {name for row in rows for name in (row.slice_id, row.patient, str(row.path))}
    assert [name for name in names if name.encode() in data] == []
    assert str(home).encode() not in data


def test_an_export_that_differs_is_not_written(home, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ExportDiffers, match=r"was not written"):
        export.export_model(RunDirectory(home / "run"), "svm", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_what_is_no_exported_model_is_refused(home, tmp_path, capsys):
    path = tmp_path / "x.onnx"
    with pytest.raises(MissingStep, match="haemo export --run RUN"):
        OnnxModel.load(path)
    whole = (home / "tinyvgg.onnx").read_bytes()
    for data in (b"", b"no", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(BadDataset, match=r"x\.onnx"):
            OnnxModel.load(path)
    model = onnx.load_model_from_string(whole)
    facts = json.loads(model.metadata_props[0].value)
    for changed in ({"limit": None}, {"classes": "ab"}, {"study_rules": {"max": {}}}, {"preprocessing": 3}):
        model.metadata_props[0].value = json.dumps({**facts, **changed})
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BadDataset, match=r"x\.onnx"):
            OnnxModel.load(path)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    assert main(["predict", "--model", str(path), str(home / "data")]) == 1
    assert "none that haemo export wrote" in capsys.readouterr().err
    outside = model.graph.initializer[0]
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadDataset, match="cannot be read as ONNX"):
        OnnxModel.load(path)


@pytest.mark.parametrize(
    "words",
    [
        ["--runtime", "onnx", "svm.onnx"],
        ["--runtime", "torch", "--model", "svm.onnx", "data"],
        ["--runtime", "onnx", "data", "data"],
        ["--model", "svm.onnx", "--explain", "--overlays", "x", "data"],
    ],
)
def test_requests_that_cannot_be_met_are_wrong_usage(home, words, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["predict", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
