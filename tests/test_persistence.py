import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.svm import LinearSVC

from haemo.errors import BadDataset, MissingStep
from haemo.models.heads.blending import LogitBlend
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.spec import KERNELS, HeadSpec
from haemo.pipeline.run.directory import HEADS
from haemo.pipeline.trained.persistence import TRUSTED, check_head, load_head, save_head

SPECS = [*map(HeadSpec, HEADS), *(HeadSpec("svm", kernel) for kernel in KERNELS)]
CLASSES = ("normal", "haemorrhage", "unsure")


def trained(spec, method="sigmoid", classes=2):
    random = np.random.default_rng(0)
    y = np.arange(60) % classes
    X = (random.normal(size=(60, 70)) + y[:, None]).astype(np.float32)
    parameters = {"max_epochs": 5} if spec.name == "mlp" else {}
    head = CalibratedHead(
        spec.build(**parameters), classes=CLASSES[:classes], method=method, threshold=0.3, cv=3
    )
    return head.fit(X, np.array(CLASSES)[y]), X


@pytest.mark.numerical
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("method", "classes"), [("sigmoid", 2), ("isotonic", 3)])
def test_every_head_comes_back_as_it_was(tmp_path, spec, method, classes):
    head, X = trained(spec, method, classes)
    save_head(head, tmp_path / "model.skops")
    again = load_head(tmp_path / "model.skops")
    np.testing.assert_array_equal(again.decision_function(X), head.decision_function(X))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), head.predict(X))
    assert again.classes_.tolist() == list(CLASSES[:classes])
    assert again.threshold == 0.3


@pytest.mark.numerical
def test_a_fresh_process_gives_the_same_bits(tmp_path):
    head, X = trained(HeadSpec("svm"))
    save_head(head, tmp_path / "model.skops")
    np.save(tmp_path / "X.npy", X)
    script = (
        "import json, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from haemo.pipeline.trained.persistence import load_head\n"
        "head, X = load_head(Path('model.skops')), np.load('X.npy')\n"
        "values = [*head.decision_function(X), *head.predict_proba(X)[:, 1]]\n"
        "print(json.dumps([float(value).hex() for value in values]))\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    here = [*head.decision_function(X), *head.predict_proba(X)[:, 1]]
    assert json.loads(fresh.stdout) == [float(value).hex() for value in here]


def test_only_types_that_are_ours_are_trusted_beyond_skops_own():
    assert all(name.startswith("haemo.models.") for name in TRUSTED)
    found = set()
    for spec in (*SPECS, HeadSpec("bayes", estimator="sklearn.naive_bayes.GaussianNB")):
        for method in ("sigmoid", "isotonic", "prior"):
            found |= set(skops.io.get_untrusted_types(data=skops.io.dumps(trained(spec, method)[0])))
    blend = LogitBlend().fit(np.array([[-1.0, 0], [1, 2], [-2, -1], [2, 0]]), np.array([0, 1, 0, 1]))
    found |= set(skops.io.get_untrusted_types(data=skops.io.dumps(blend)))
    assert found == set(TRUSTED)


class Stranger(LinearSVC):
    """A type that a foreign file may hold."""


def test_a_foreign_type_is_named_and_not_loaded(tmp_path):
    skops.io.dump(Stranger(), tmp_path / "model.skops")
    with pytest.raises(BadDataset, match=r"holds types that no head of haemo has: .*Stranger"):
        load_head(tmp_path / "model.skops")


def test_a_bare_estimator_is_no_head(tmp_path):
    skops.io.dump(LinearSVC(), tmp_path / "model.skops")
    with pytest.raises(BadDataset, match="holds a LinearSVC, not a head"):
        load_head(tmp_path / "model.skops")


@pytest.mark.parametrize("keep", [0, 10, 3000, -40])
def test_a_damaged_file_is_named(tmp_path, keep):
    head, _ = trained(HeadSpec("svm"))
    path = tmp_path / "model.skops"
    save_head(head, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadDataset, match=r"model\.skops is damaged"):
        load_head(path)


def test_a_head_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(MissingStep, match="haemo svm --run"):
        load_head(tmp_path / "svm" / "model.skops")


def test_a_head_of_before_the_package_haemo_is_read(tmp_path):
    head, X = trained(HeadSpec("mlp"))
    save_head(head, tmp_path / "now.skops")
    names = {"haemo.models.heads.calibration": "models.calibration", "haemo.models.heads.mlp": "models.mlp"}
    names["haemo.models.heads.scaling"] = "models.scaling"
    with zipfile.ZipFile(tmp_path / "now.skops") as now, zipfile.ZipFile(tmp_path / "old.skops", "w") as old:
        for name in now.namelist():
            content = now.read(name)
            if name == "schema.json":
                for today, then in names.items():
                    assert f'"{today}"'.encode() in content
                    content = content.replace(f'"{today}"'.encode(), f'"{then}"'.encode())
            old.writestr(name, content)
    again = load_head(tmp_path / "old.skops")
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize("name", ["svm", "mlp"])
def test_equal_heads_give_equal_bytes(tmp_path, name):
    paths = [tmp_path / "one.skops", tmp_path / "two.skops"]
    for path in paths:
        save_head(trained(HeadSpec(name))[0], path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_head_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "svm" / "model.skops"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("schema.json", b" " * (80 << 20))
    for read in (check_head, load_head):
        with pytest.raises(BadDataset, match="would unpack to 83,886,080"):
            read(path)


def test_a_head_whose_parts_lie_outside_it_is_damaged(tmp_path):
    path = tmp_path / "svm" / "model.skops"
    path.parent.mkdir()
    save_head(trained(HeadSpec("svm"))[0], path)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x05\x06")
    data[start + 16 : start + 20] = (2**31).to_bytes(4, "little")  # where the directory begins
    path.write_bytes(data)
    for read in (check_head, load_head):
        with pytest.raises(BadDataset, match="is damaged"):
            read(path)


def test_a_head_whose_numbers_have_a_damaged_heading_is_damaged(tmp_path):
    path = tmp_path / "svm" / "model.skops"
    path.parent.mkdir()
    save_head(trained(HeadSpec("svm"))[0], path)
    whole = tmp_path / "whole.skops"
    path.rename(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"'shape': (", b"'shape' ((("))
    with pytest.raises(BadDataset, match="is damaged"):
        load_head(path)
