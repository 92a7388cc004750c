"""The rooms of the project: imports go one way, modules stay small, the help page answers at once."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "features", "models")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAY_IMPORT = {
    "pipeline": {"pipeline", "features", "models"},
    "features": {"features", "models"},
    "models": {"models"},
}
# The rooms inside pipeline/, and what each may import of the others; "" are the modules of pipeline/ itself.
MAY_IMPORT_OF_PIPELINE = {
    "cli": {"report", "explaining", "evaluation", ""},
    "report": {"evaluation", ""},
    "explaining": {"evaluation", ""},
    "evaluation": {""},
    "": {"evaluation"},
}
SLOW = {
    "torch",
    "torchvision",
    "sklearn",
    "matplotlib",
    "skimage",
    "scipy",
    "h5py",
    "pydicom",
    "PIL",
    "numpy",
}


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_downwards_only(path):
    room = path.relative_to(ROOT).parts[0]
    assert imported(path) & set(PACKAGES) <= MAY_IMPORT[room]


def imported_of_pipeline(path: Path) -> set[tuple[str, str]]:
    """Room and module of everything in pipeline/ that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        package, *parts = name.split(".")
        if package == "pipeline" and parts:
            room = parts.pop(0) if (ROOT / "pipeline" / parts[0]).is_dir() else ""
            found.add((room, parts[0] if parts else "__init__"))
    return found


def room_in_pipeline(path: Path) -> str:
    return "/".join(path.relative_to(ROOT / "pipeline").parts[:-1])


IN_PIPELINE = [path for path in MODULES if path.is_relative_to(ROOT / "pipeline")]


@pytest.mark.parametrize("path", IN_PIPELINE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_of_the_pipeline_imports_downwards_only(path):
    room = room_in_pipeline(path)
    assert {other for other, _ in imported_of_pipeline(path)} <= MAY_IMPORT_OF_PIPELINE[room] | {room}


def test_no_import_in_the_pipeline_leads_back_to_where_it_started():
    # A folder counts as one, so that what evaluation/ stands on cannot stand on evaluation/.
    graph = {}
    for path in IN_PIPELINE:
        node = room_in_pipeline(path) or path.stem
        others = {room or module for room, module in imported_of_pipeline(path)}
        graph[node] = graph.get(node, set()) | (others - {node})
    TopologicalSorter(graph).prepare()


def test_what_evaluation_stands_on_is_as_the_architecture_says():
    stands_on = {
        f"{module}.py"
        for path in IN_PIPELINE
        if room_in_pipeline(path) == "evaluation"
        for room, module in imported_of_pipeline(path)
        if not room
    }
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert stands_on == set(re.search(r"evaluation/ .+\n +\|\n +(.+)", page).group(1).split(", "))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_knows_click_and_rich(path):
    if path.is_relative_to(ROOT / "pipeline" / "cli"):
        return
    assert not imported(path) & {"click", "rich"}
    assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_named_in_the_architecture(path):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folder = page.split(f"**{path.relative_to(ROOT).parent.as_posix()}/**")[1].split("\n**")[0]
    assert path.name == "__init__.py" or f"- `{path.name}`" in folder


def test_the_package_list_of_setup_cfg_is_complete():
    listed = re.search(r"packages =\n((?:    .+\n)+)", (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    found = {".".join(path.relative_to(ROOT).parent.parts) for path in MODULES if path.name == "__init__.py"}
    assert set(listed.group(1).split()) == found


def loaded_after(code: str) -> set[str]:
    """Names of the slow packages that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint(*{SLOW!r} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def test_the_help_page_loads_nothing_slow():
    assert loaded_after("import pipeline.cli\npipeline.cli.main(['--help'])") == set()


def test_the_help_of_every_command_loads_nothing_slow():
    code = "from pipeline.cli import *\nassert not any(main([name, '--help']) for name in COMMANDS)"
    assert loaded_after(code) <= {"numpy"}
