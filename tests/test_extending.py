"""The packages that docs/extending.md shows, installed and run as they stand there."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from cohorts import gray_picture
from PIL import Image
from plugins import lay_down, looked_up_anew
from stand_ins import folder_manifest, write_slices
from torchvision.models import resnet18

from haemo.features.layouts import index_dataset, indexing
from haemo.features.reading import formats
from haemo.features.reading.formats import read_slice
from haemo.features.store.store import FeatureStore
from haemo.models.networks import table
from haemo.pipeline.cli import main
from haemo.pipeline.doctor import Status, examine
from haemo.pipeline.run.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Lays a section's package down, and has the tables look for plug-ins again."""

    def install(section):
        text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)[1]
        project = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.S)[1])["project"]
        ((group, points),) = project["entry-points"].items()
        module = re.search(r"^`(\w+)\.py`:$", text, re.M)[1]
        site = tmp_path / "site"
        site.mkdir()
        source = re.search(r"```python\n(.*?)```", text, re.S)[1]
        lay_down(site, project["name"], {module: source}, points, group)
        monkeypatch.syspath_prepend(site)
        for place, name in ((formats, "FORMATS"), (indexing, "LAYOUTS"), (table, "FROZEN_NETWORKS")):
            monkeypatch.setattr(place, name, looked_up_anew(getattr(place, name)))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return points

    return install


def test_the_file_format(installed, tmp_path):
    installed("A file format")
    levels = gray_picture(1)
    height, width = levels.shape
    for number, label in enumerate(("bleed", "normal")):
        path = tmp_path / "data" / label / f"{number}.pgm"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"P5 %d %d 255\n" % (width, height) + levels.tobytes())
    (tmp_path / "data" / "normal" / "cut.pgm").write_bytes(b"P5 9 9 255\n123")
    np.testing.assert_array_equal(read_slice(path).pixels, levels)
    index = index_dataset(tmp_path / "data")
    assert [row.slice_id for row in index.manifest] == ["bleed/0.pgm", "normal/1.pgm"]
    assert [failure.reason for failure in index.failures] == ["the file is cut short"]


def test_the_layout(installed, tmp_path):
    installed("A layout of a data set")
    data = tmp_path / "data"
    data.mkdir()
    for number, (patient, label) in enumerate([("p001", "bleed"), ("p001", "bleed"), ("p002", "normal")]):
        Image.fromarray(gray_picture(number)).save(data / f"{patient}_{label}_{number}.png")
    index = index_dataset(data)
    assert (index.layout, index.positive, index.patients_from) == ("ward", "bleed", "file names")
    assert [(row.patient, row.label, row.position) for row in index.manifest] == [
        ("p001", "bleed", 0.0),
        ("p001", "bleed", 1.0),
        ("p002", "normal", 2.0),
    ]
    Image.fromarray(gray_picture(7)).save(data / "scout.png")
    assert [failure.reason for failure in index_dataset(data, "ward").failures] == [
        "not called PATIENT_LABEL_SLICE"
    ]


def test_the_network(installed, tmp_path, capsys):
    installed("A network")
    torch.manual_seed(0)
    state = {f"backbone.{name}": tensor for name, tensor in resnet18(num_classes=14).state_dict().items()}
    torch.save(state, tmp_path / "ct_resnet.pth")
    run = RunDirectory(tmp_path / "run")
    run.create()
    folder_manifest(write_slices(tmp_path / "slices", 3)).write(run.manifest_path)
    features = ["features", "--run", str(run.path), "--network", "ct-resnet"]
    assert main(features) == 1
    assert (
        "ct-resnet comes without weights; give its state dict with --weights FILE" in capsys.readouterr().err
    )
    assert main([*features, "--weights", str(tmp_path / "ct_resnet.pth")]) == 0
    with FeatureStore(run.store_path) as store:
        facts = store.fingerprint.facts
        assert store.dimension == 512
    assert facts["network"] == "ct-resnet"
    assert (facts["preprocessing"]["size"], facts["mean"], facts["std"]) == (256, [0.5] * 3, [0.25] * 3)


def test_doctor_lists_plugins_and_what_is_wrong_with_them(installed, tmp_path):
    installed("A network")
    lay_down(
        tmp_path / "site", "bad", {"bad_net": "import nowhere"}, {"worse": "bad_net:X"}, "haemo.networks"
    )
    found = {check.name: check for check in examine(tmp_path) if check.name.startswith("plug-in")}
    assert found["plug-in: network ct-resnet"].status is Status.PASS
    bad = found["plug-in: network worse"]
    assert bad.status is Status.WARN
    assert "'worse' of bad 1.2 cannot be loaded (ModuleNotFoundError" in bad.detail
    assert bad.remedy == "mend it or uninstall it"


def test_the_files_that_one_touches_are_there():
    section = DOCUMENT.partition("## Files one touches")[2]
    rows = re.findall(r"^\| (a .+?) \| (.+) \|$", section, re.M)
    assert len(rows) == 5
    for thing, files in rows:
        named = re.findall(r"`([a-z_]+/[\w/.]+)`", files)
        assert named, thing
        assert all((ROOT / name).exists() for name in named), thing
        assert len(files.split(", ")) <= 2, thing
