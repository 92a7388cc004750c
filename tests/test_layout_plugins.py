"""Layouts of plug-ins: recognised before the general ones, chosen by name, and harmless when they fail."""

import pytest
from cohorts import class_folders, write_csv
from plugins import lay_down, looked_up_anew

from haemo.errors import BadDataset
from haemo.features.layouts import index_dataset, indexing

BY_NAME = '''
from haemo.errors import BadDataset
from haemo.features.layouts.claims import Claim, Claims

def recognise(folder, request):
    return (folder.root / "MARKER.txt").exists()

def claim(folder, request, headers):
    """The label is the first word of a file's name."""
    if not recognise(folder, request):
        raise BadDataset(f"{folder.root} holds no MARKER.txt")
    return Claims([Claim(path, folder.name_of(path), path.parent.parent.name) for path in folder.slices])
'''
FAILING = """
def recognise(folder, request):
    raise KeyError("nothing")

def claim(folder, request, headers):
    raise KeyError("nothing")
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    points = {"by-name": "layout_by_name", "failing": "layout_failing"}
    lay_down(site, "more", {"layout_by_name": BY_NAME, "layout_failing": FAILING}, points, "haemo.layouts")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(indexing, "LAYOUTS", looked_up_anew(indexing.LAYOUTS))
    root = class_folders(tmp_path / "data", patients=2, slices=1)
    write_csv(root / "labels.csv", [("path", "label"), ("normal/p001/000.png", "calm")])
    return root


def test_a_layout_of_a_plugin_is_recognised_before_those_that_take_anything(data, caplog):
    assert index_dataset(data).layout == "labels-csv"
    assert "left out: the layout 'failing' failed (KeyError: 'nothing')" in caplog.text
    (data / "MARKER.txt").touch()
    index = index_dataset(data)
    assert index.layout == "by-name"
    assert index.manifest.classes == ("haemorrhage", "normal")


def test_a_layout_of_a_plugin_can_be_asked_for_by_name(data):
    with pytest.raises(BadDataset, match=r"holds no MARKER\.txt"):
        index_dataset(data, "by-name")
    (data / "MARKER.txt").touch()
    assert len(index_dataset(data, "by-name").manifest) == 2
