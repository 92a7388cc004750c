"""The rooms of the project: imports go one way, modules stay small, the help page answers at once."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What is imported as haemo.models lies in the folder models/; only haemo/ itself keeps its name.
FOLDERS = ("haemo", "models", "features", "pipeline")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]

# Every room, and the rooms it may import from besides itself and haemo/: errors, progress and files.
MODELS = ["models/weights", "models/networks", "models/heads", "models/search", "models/training"]
MODELS += ["models/evidence", "models/pixels"]
READING, VIEWS, STORE = "features/reading", "features/views", "features/store"
STREAMS, VOLUMES = "features/reading/streams", "features/reading/volumes"
PIXELS = "features/pixels"
SERIES, OUTLINES = "features/series", "features/outlines"
FEATURES = [
    "features",
    READING,
    VOLUMES,
    VIEWS,
    PIXELS,
    STORE,
    SERIES,
    OUTLINES,
    "features/extraction",
    "features/cluster",
    "features/layouts",
    "features/phantom",
]
RUN, SPLITTING, TRAINED = "pipeline/run", "pipeline/splitting", "pipeline/trained"
BELOW = [*MODELS, *FEATURES]
MAY_IMPORT = {
    "haemo": [],
    "models": [],
    "models/weights": [],
    "models/networks": ["models/weights"],
    "models/heads": [],
    "models/search": ["models/heads"],
    "models/training": ["models/weights", "models/networks", "models/heads"],
    "models/evidence": ["models/networks", "models/heads", "models/training"],
    "models/pixels": [],
    "features": [READING],
    STREAMS: [],
    READING: [STREAMS],
    VOLUMES: [READING, STREAMS],
    VIEWS: [READING],
    PIXELS: [READING, VOLUMES, VIEWS],
    STORE: ["features"],
    SERIES: [READING],
    "features/extraction": [*MODELS, "features", READING, VIEWS, STORE],
    OUTLINES: ["features", READING, VOLUMES, PIXELS],
    "features/layouts": ["features", READING, PIXELS, OUTLINES, SERIES],
    "features/cluster": ["models/networks", "features", READING, VIEWS, STORE, "features/extraction"],
    "features/phantom": [VOLUMES],
    "pipeline": [*MODELS, READING, "features/layouts"],
    RUN: ["features", READING, STORE],
    SPLITTING: ["features", VIEWS, RUN],
    "pipeline/evaluation": [
        "models/heads",
        "models/search",
        "features",
        READING,
        VIEWS,
        STORE,
        RUN,
        SPLITTING,
    ],
    TRAINED: [*BELOW, RUN, SPLITTING],
    "pipeline/preparing": [*BELOW, RUN, SPLITTING, TRAINED],
    "pipeline/training": [*BELOW, RUN, SPLITTING, TRAINED, "pipeline/evaluation"],
    "pipeline/predicting": [*BELOW, RUN, SPLITTING, TRAINED, "pipeline/evaluation", "pipeline/preparing"],
    "pipeline/segmenting": [*BELOW, RUN, SPLITTING, TRAINED, "pipeline/evaluation", "pipeline/predicting"],
    "pipeline/dicom_results": [
        "features",
        READING,
        PIXELS,
        RUN,
        "pipeline/evaluation",
        "pipeline/predicting",
        "pipeline/segmenting",
    ],
    "pipeline/pacs": [RUN, "pipeline/dicom_results"],
    "pipeline/explaining": [
        *BELOW,
        RUN,
        SPLITTING,
        "pipeline/evaluation",
        "pipeline/predicting",
        "pipeline/segmenting",
    ],
    "pipeline/tracking": [RUN],
    "pipeline/report": [*BELOW, RUN, SPLITTING, TRAINED, "pipeline/evaluation"],
    "pipeline/serving": [
        *BELOW,
        "pipeline/dicom_results",
        RUN,
        SPLITTING,
        "pipeline/evaluation",
        "pipeline/packing",
        "pipeline/predicting",
        "pipeline/segmenting",
    ],
    "pipeline/exporting": [
        *BELOW,
        RUN,
        SPLITTING,
        TRAINED,
        "pipeline/evaluation",
        "pipeline/preparing",
        "pipeline/predicting",
    ],
    "pipeline/packing": [
        *BELOW,
        RUN,
        SPLITTING,
        TRAINED,
        "pipeline/evaluation",
        "pipeline/preparing",
        "pipeline/predicting",
        "pipeline/segmenting",
        "pipeline/report",
        "pipeline/exporting",
    ],
}
MAY_IMPORT["pipeline/judging"] = [
    *BELOW,
    RUN,
    SPLITTING,
    TRAINED,
    "pipeline/evaluation",
    "pipeline/preparing",
    "pipeline/predicting",
    "pipeline/segmenting",
    "pipeline/report",
    "pipeline/packing",
    "pipeline/exporting",
]
MAY_IMPORT["pipeline/cli"] = MAY_IMPORT["pipeline/api"] = list(MAY_IMPORT)
# The public names: `haemo` gets them from the top room when they are asked for, and imports nothing itself
# (test_api). What stands there for type checkers is no import.
PUBLIC = ROOT / "haemo" / "__init__.py"
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


@cache
def imported(path: Path) -> set[str]:
    """Dotted names of everything that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


def file_of(name: str) -> Path | None:
    """The file of ours that a dotted name is imported from, or None for those of other packages."""
    package, *parts = name.split(".")
    if package != "haemo":
        return None
    base = ROOT if parts and parts[0] in FOLDERS else ROOT / "haemo"
    while True:
        place = base.joinpath(*parts)
        if parts and place.with_suffix(".py").exists():
            return place.with_suffix(".py")
        if (place / "__init__.py").exists():
            return place / "__init__.py"
        parts.pop()


def imported_files(path: Path) -> set[Path]:
    if path == PUBLIC:
        return set()
    return {file for name in imported(path) if (file := file_of(name))} - {path}


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_room_imports_from_the_rooms_below_it_only(path):
    room = room_of(path)
    assert {room_of(file) for file in imported_files(path)} <= {"haemo", room, *MAY_IMPORT[room]}


def test_csv_is_read_and_written_in_one_place():
    assert [path for path in MODULES if "csv" in imported(path)] == [ROOT / "haemo" / "tables.py"]


def test_no_import_leads_back_to_the_file_where_it_started():
    TopologicalSorter({path: imported_files(path) for path in MODULES}).prepare()


def test_no_import_leads_back_to_the_room_where_it_started():
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        graph.setdefault(room_of(path), set()).update(map(room_of, imported_files(path)))
    TopologicalSorter({room: others - {room} for room, others in graph.items()}).prepare()


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_the_command_line_knows_click_and_rich(path):
    if path.is_relative_to(ROOT / "pipeline" / "cli"):
        return
    assert not {name.split(".")[0] for name in imported(path)} & {"click", "rich"}
    assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


ROOMS = sorted({room_of(path) for path in MODULES})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_lives_there(room):
    said = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))
    # What a table of the room lists need not be listed again.
    package = re.escape("haemo." + room.replace("/", "."))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / room).glob("*.py")]
    said += "".join(f"`{name}`" for text in sources for name in re.findall(rf'"{package}\.(\w+)[:"]', text))
    modules = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    rooms = {f"{path.parent.name}/" for path in (ROOT / room).glob("*/__init__.py")}
    assert {name for name in modules | rooms if f"`{name}`" not in said} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_drawn_in_the_architecture(room):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.search(rf"^ +{room.split('/')[-1]}/ ", page, re.MULTILINE)


def test_the_package_list_of_setup_cfg_is_complete():
    listed = re.search(r"packages =\n((?:    .+\n)+)", (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    found = {"haemo" if room == "haemo" else "haemo." + room.replace("/", ".") for room in ROOMS}
    assert set(listed.group(1).split()) == found


def loaded_after(code: str) -> set[str]:
    """Names of the slow packages that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint(*{SLOW!r} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def test_the_help_page_loads_nothing_slow():
    assert loaded_after("import haemo.pipeline.cli\nhaemo.pipeline.cli.main(['--help'])") == set()


def test_the_help_of_every_command_loads_nothing_slow():
    code = "from haemo.pipeline.cli import *\nassert not any(main([name, '--help']) for name in COMMANDS)"
    assert loaded_after(code) <= {"numpy"}
