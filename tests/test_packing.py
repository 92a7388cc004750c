"""Packed models from strangers: refused before anything of them is used."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadDataset, BadSettings, HaemoError, MissingStep
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.spec import HeadSpec
from haemo.pipeline.cli import main
from haemo.pipeline.packing.bundlefile import FACTS, is_bundle, read_bundle, write_bundle
from haemo.pipeline.packing.hubcard import hub_card, refuse_odd_metadata
from haemo.pipeline.packing.plain import plain_skops, refuse_swollen
from haemo.pipeline.packing.unpacking import open_bundle
from haemo.pipeline.segmenting import segmenter
from haemo.pipeline.trained.persistence import head_of, save_head

BUILTIN = Path(segmenter.__file__).with_name("builtin.safetensors")


@pytest.fixture
def bundle(tmp_path):
    """A segmenter, packed."""
    path = tmp_path / "blood.haemo"
    write_bundle(path, _FACTS, {"segmenter.safetensors": BUILTIN.read_bytes()})
    return path


_FACTS = {
    "kind": "segmenter",
    "name": "segment",
    "made_by": "haemo",
    "classes": ["normal", "haemorrhage"],
    "told_unit": "hu",
    "points": {"sensitivity=0.9": 0.25},
    "study_rules": {},
}


def rewritten(path: Path, change) -> Path:
    """The archive with its members, by name, as `change` leaves them, and with a list that fits."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def facts_with(**changed):
    def change(members):
        members[FACTS] = json.dumps({**json.loads(members[FACTS]), **changed}).encode()

    return change


def test_a_segmenter_is_read_back(bundle):
    assert is_bundle(bundle)
    found = open_bundle(bundle)
    assert found.classifier.kind == segmenter.builtin_segmenter().classifier.kind
    assert (found.told_unit, found.facts["points"]) == ("hu", {"sensitivity=0.9": 0.25})


def test_the_same_members_give_the_same_bytes(bundle, tmp_path):
    again = tmp_path / "again.haemo"
    digest = write_bundle(
        again, dict(reversed(_FACTS.items())), {"segmenter.safetensors": BUILTIN.read_bytes()}
    )
    assert again.read_bytes() == bundle.read_bytes()
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.update({"../../evil": b""}), r"it holds '\.\./\.\./evil'"),
        (lambda m: m.update({"/etc/passwd": b""}), "it holds '/etc/passwd'"),
        (lambda m: m.update({"figures/../x.png": b""}), "it holds"),
        (lambda m: m.update({"run.py": b"import os"}), "it holds 'run.py'"),
        (lambda m: m.update({"head.skops": b"more"}), "what it holds and what it lists differ"),
        (lambda m: m.pop("segmenter.safetensors"), "what it holds and what it lists differ"),
        (lambda m: m.pop(FACTS), "it has no haemo.json"),
        (lambda m: m.update({FACTS: b"[" * 100_000}), "damaged"),
        (lambda m: m.update({FACTS: b"[]"}), "does not say what the file holds"),
        (lambda m: m.update({FACTS: b" " * 2**23}), "too long"),
        (lambda m: m.update({"segmenter.safetensors": b"changed"}), "is not what was packed"),
        (facts_with(schema=9), "bring haemo up to date"),
        (facts_with(kind="pickle"), "it is a 'pickle'"),
        (facts_with(kind="head"), "has no head.skops"),
        (facts_with(kind="network"), "has no network.safetensors"),
        (facts_with(kind=None), "is a None"),
    ],
)
def test_a_bundle_that_is_not_as_it_should_be_is_refused(bundle, change, told, capsys):
    rewritten(bundle, change)
    with pytest.raises(BadDataset, match=told):
        open_bundle(bundle)
    assert main(["predict", "--model", str(bundle), str(bundle.parent)]) == 1
    said = capsys.readouterr().err
    assert str(bundle) in said
    assert "Traceback" not in said


def test_compressed_encrypted_doubled_and_swollen_members_are_refused(bundle):
    whole = bundle.read_bytes()
    with zipfile.ZipFile(bundle, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("figures/roc.png", bytes(10**6))
    with pytest.raises(BadDataset, match="compressed"):
        read_bundle(bundle)
    bundle.write_bytes(whole)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr("segmenter.safetensors", b"")
    with pytest.raises(BadDataset, match="more than once"):
        read_bundle(bundle)
    place = whole.rindex(b"PK\x01\x02")  # the directory's last entry: its sizes are at 20 and 24
    declared = struct.pack("<II", 2**31, 2**31)
    bundle.write_bytes(whole[: place + 20] + declared + whole[place + 28 :])
    with pytest.raises(BadDataset, match="declare more bytes"):
        read_bundle(bundle)
    with pytest.raises(MissingStep, match="haemo pack --run RUN"):
        read_bundle(bundle.with_name("none.haemo"))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_bundle_is_refused_or_says_the_same(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "x.haemo"
    write_bundle(path, _FACTS, {"segmenter.safetensors": BUILTIN.read_bytes()})
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    path.write_bytes(whole)
    try:
        found = open_bundle(path)
    except HaemoError:
        return
    expected = segmenter.Segmenter.read(BUILTIN).facts
    assert found.facts == {**expected, "points": _FACTS["points"]}


@pytest.fixture(scope="module")
def head():
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 5))
    y = np.where(X[:, 0] > 0, "bleed", "normal")
    return CalibratedHead(HeadSpec("svm").build(C=1.0), ("normal", "bleed"), cv=4).fit(X, y)


def saved(head, path: Path) -> bytes:
    save_head(head, path)
    return path.read_bytes()


def test_a_head_without_addresses_is_the_same_head(head, tmp_path):
    plain = plain_skops(saved(head, tmp_path / "a"))
    copied = head_of(saved(head, tmp_path / "b"), "b", "")
    assert plain == plain_skops(saved(copied, tmp_path / "c"))
    rows = np.random.default_rng(1).normal(size=(9, 5))
    found = head_of(plain, "plain", "")
    np.testing.assert_array_equal(found.predict_proba(rows), head.predict_proba(rows))


def test_a_head_of_foreign_types_is_not_loaded(head, tmp_path):
    data = saved(head, tmp_path / "a")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = members["schema.json"].decode()
    members["schema.json"] = schema.replace('"FlooredScaler"', '"Popen"').encode()
    members["schema.json"] = members["schema.json"].replace(b"haemo.models.heads.scaling", b"subprocess")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    facts = {**_FACTS, "kind": "head"}
    path = tmp_path / "evil.haemo"
    write_bundle(path, facts, {"head.skops": stream.getvalue()})
    with pytest.raises(BadDataset, match=r"holds types that no head of haemo has: subprocess\.Popen"):
        open_bundle(path)


def test_a_head_that_swells_is_refused(head, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 10**6)
    with pytest.raises(BadDataset, match="unpacks to more"):
        refuse_swollen(stream.getvalue(), "head.skops")
    with pytest.raises(BadDataset, match="is no skops file"):
        refuse_swollen(b"no", "head.skops")
    refuse_swollen(saved(head, tmp_path / "a"), "head.skops")


_FIGURES = {"slices": 40, "patients": 10, "roc_auc": 0.87654321, "accuracy": 0.8, "sensitivity": 0.7}


def metadata_of(card: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(card.split("---\n")[1])


def test_a_hub_card_has_metadata_that_yaml_reads():
    card = hub_card("# Model card: svm\n", _FIGURES, "svm", "svm.haemo", "ab" * 32, "cc-by-nc-4.0")
    found = metadata_of(card)
    assert found["license"] == "cc-by-nc-4.0"
    assert found["pipeline_tag"] == "image-classification"
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"]["name"] == "40 test slices of 10 patients"
    assert {one["type"]: one["value"] for one in result["metrics"]} == {
        "roc_auc": 0.8765,
        "accuracy": 0.8,
        "recall": 0.7,
    }
    assert card.endswith("# Model card: svm\n")
    assert "haemo predict --model svm.haemo" in card
    refuse_odd_metadata(found)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"license": "apache"}, "Did you mean apache-2.0"),
        ({"tags": "medical"}, "tags of the hub card"),
        ({"pipeline_tag": "diagnosis"}, "is no task"),
        ({"model-index": [{"name": "x", "results": []}]}, "a name and results"),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "t"}}]}]}, "a task, a dataset"),
    ],
)
def test_metadata_that_the_hub_would_not_take_is_refused(change, told):
    found = metadata_of(hub_card("", _FIGURES, "svm", "svm.haemo", "ab" * 32))
    with pytest.raises(BadSettings, match=told):
        refuse_odd_metadata({**found, **change})


def test_a_figure_that_is_no_number_is_refused():
    with pytest.raises(BadSettings, match="a type and a value"):
        hub_card("", {**_FIGURES, "roc_auc": float("nan")}, "svm", "svm.haemo", "ab" * 32)
