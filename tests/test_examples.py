"""The guide and the notebooks run as they stand, in little: few patients, weights that need no network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import haemo
from haemo.models.weights import imagenet
from haemo.pipeline.api import embedding as embedding_module

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "api.md"
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LITTLE = 'patients = 14\nweights = "random"'


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder to work in, and the settings of Jupyter and haemo out of the way."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HAEMO_CACHE", str(folder / "cache"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(folder / "jupyter"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_guide_runs_from_top_to_bottom(workplace, monkeypatch, capsys):
    monkeypatch.setattr(imagenet, "_first_reachable", lambda need, progress: imagenet.random_weights(0, need))
    embedding_module._last.clear()
    names = {}
    for block in blocks(GUIDE):
        exec(compile(block, str(GUIDE), "exec"), names)
    assert set(names["run"].models) == {"svm", "softmax", "forest"}
    assert "phantom patients: 14 done" in capsys.readouterr().out
    embedding_module._last.clear()
    (block,) = blocks(ROOT / "README.md")
    exec(compile(block, "README.md", "exec"), names)


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_top_to_bottom(path, workplace):
    notebook = read(path)
    (place,) = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(LITTLE))
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(workplace))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = {kind for output in outputs for kind in output.get("data", ())}
    assert "text/html" in shown
    if path.name == "first_result.ipynb":
        assert "image/png" in shown
    else:
        assert "forest" in haemo.Run(workplace / "runs" / "notebook").models


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_small_and_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 14
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_both_notebooks_are_named_in_the_guide():
    assert {path.name for path in NOTEBOOKS} == set(re.findall(r"examples/(\w+\.ipynb)", GUIDE.read_text()))
