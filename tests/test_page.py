"""The reader's page: what is dropped, what is shown of it, and what becomes of it."""

import csv
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
import urllib.request
import zipfile

import numpy as np
import pytest
from dicom_studies import write_study
from drawn_heads import cohort
from PIL import Image
from pydicom import dcmread
from readers import Desk, archive, served
from runs import add_model, make_run

from haemo.features.reading.formats import read_slice
from haemo.pipeline.cli import main
from haemo.pipeline.segmenting.outlining import outline_slices
from haemo.pipeline.segmenting.segmenter import builtin_segmenter
from haemo.pipeline.serving.pixels import PixelCache
from haemo.pipeline.serving.sessions import working_folder
from haemo.pipeline.serving.studies import shown
from haemo.pipeline.serving.uploads import Limits


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Patients P00, normal, and P01, who bleeds, four slices each."""
    return cohort(tmp_path_factory.mktemp("heads"), patients=2)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


@pytest.fixture
def reader(desk):
    return desk.read()


@pytest.fixture
def scored_study(reader, tmp_path):
    """Key of a study that bleeds, with proper identifiers, once it is scored."""
    folder = write_study(tmp_path / "bleeds", 1, bleeds=True)
    (study,) = reader.drop(files_of(folder)).json()["studies"]
    assert reader.scored(study["key"])["stage"] == "scored"
    return study["key"]


def small_desk(folder, **limits):
    return Desk(folder, limits=Limits(**limits))


def files_of(folder):
    """As a browser sends them; not in the order of the scan."""
    return {f"CT/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.dcm"), reverse=True)}


def gray(seed):
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(values).save(stream, format="PNG")
    return stream.getvalue()


class TestDrop:
    def test_slices_come_in_the_order_of_the_scan_and_with_their_own_pixels(self, reader, heads):
        (study,) = reader.drop(files_of(heads / "P01")).json()["studies"]
        assert study["slices"] == 4
        assert study["name"].startswith("P01, series ")
        for number, path in enumerate(sorted((heads / "P01").glob("*.dcm")), start=1):
            answer = reader.get(f"/studies/{study['key']}/slices/{number}")
            facts = json.loads(answer.headers["x-slice"])
            pixels = np.frombuffer(answer.content, "<i2").reshape(facts["height"], facts["width"])
            image = read_slice(path)
            assert np.array_equal(pixels, np.rint(image.pixels))
            assert (facts["unit"], facts["step"]) == ("HU", 1)
            assert tuple(facts["spacing"]) == image.spacing_mm
            assert facts["sides"] is True

    def test_a_study_is_scored_and_outlined_as_the_command_does_it(self, reader, heads):
        paths = sorted((heads / "P01").glob("*.dcm"))
        expected = outline_slices(builtin_segmenter(), paths)
        (study,) = reader.drop(files_of(heads / "P01")).json()["studies"]
        found = reader.scored(study["key"])
        assert [one["probability"] for one in found["slices"]] == expected.scores.probabilities.tolist()
        (row,) = expected.scores.study_rows()
        assert found["answer"]["suspicion"] == row["probability"]
        assert found["answer"]["threshold"] == row["threshold"]
        (measures,) = expected.study_rows()
        assert found["measures"] == {name: measures[name] for name in found["measures"]}
        assert measures["volume_ml"] > 0
        assert "synthetic heads only" in found["caveat"]
        table = csv.DictReader(io.StringIO(reader.get(f"/studies/{study['key']}/slices.csv").text))
        rows = list(table)
        assert [float(row["probability"]) for row in rows] == expected.scores.probabilities.tolist()
        assert "proper" in found["no_dicom"], "its identifiers are none that a result could refer to"
        outlines = reader.get(f"/studies/{study['key']}/outlines.geojson").json()["features"]
        assert len(outlines) == sum(int(row["outlines"]) for row in rows) > 0

    def test_it_can_be_kept_as_a_report_and_as_dicom(self, reader, scored_study):
        key = scored_study
        answer = reader.get(f"/studies/{key}/report")
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "sandbox" in answer.headers["content-security-policy"]
        found = reader.get(f"/studies/{key}/findings").json()
        assert f"{found['measures']['volume_ml']:.1f} ml" in answer.text
        assert "Research use only" in answer.text
        assert answer.text.count("data:image/png;base64,") == 3
        assert 'stroke="#f0e442"' in answer.text
        packed = zipfile.ZipFile(io.BytesIO(reader.get(f"/studies/{key}/dicom").content))
        kinds = {dcmread(io.BytesIO(packed.read(name))).Modality for name in packed.namelist()}
        assert kinds == {"SR", "SEG"}

    def test_a_nifti_scan_is_read_slice_by_slice(self, reader, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        values = np.random.default_rng(0).integers(-1000, 200, (30, 40, 5)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 5, 1])), tmp_path / "scan.nii.gz")
        content = (tmp_path / "scan.nii.gz").read_bytes()
        (study,) = reader.drop({"case 7/scan.nii.gz": content}).json()["studies"]
        assert (study["name"], study["slices"]) == ("case 7/scan.nii.gz", 5)
        found = reader.get(f"/studies/{study['key']}/findings").json()
        for number, one in enumerate(found["slices"], start=1):
            answer = reader.get(f"/studies/{study['key']}/slices/{number}")
            own = re.fullmatch(r"case 7/scan.nii.gz, slice (\d)", one["name"]).group(1)
            expected = read_slice(tmp_path / f"scan.nii.gz#{own}").pixels
            assert np.array_equal(np.frombuffer(answer.content, "<i2").reshape(expected.shape), expected)

    def test_an_archive_is_one_study_too(self, reader, heads):
        packed = archive({**files_of(heads / "P00"), "__MACOSX/._00.dcm": b"x", "DICOMDIR": b"x"})
        found = reader.drop({"scan.zip": packed}).json()
        assert [study["slices"] for study in found["studies"]] == [4]
        assert found["failures"] == []

    def test_folders_of_pictures_are_studies_and_slice_10_comes_after_slice_2(self, reader):
        files = {f"{folder}/{n}.png": gray(n) for folder in ("one", "two") for n in (10, 2, 1)}
        studies = reader.drop(files).json()["studies"]
        assert sorted(study["name"] for study in studies) == ["one", "two"]
        found = reader.get(f"/studies/{studies[0]['key']}/findings").json()
        assert [one["name"].split("/")[-1] for one in found["slices"]] == ["1.png", "2.png", "10.png"]

    def test_what_cannot_be_used_is_named_with_the_reason(self, reader, heads):
        files = files_of(heads / "P00")
        files["CT/00.dcm"] = files["CT/00.dcm"][:3000]
        files["CT/notes.txt"] = b"nothing to see"
        found = reader.drop(files).json()
        assert {one["name"]: one["reason"].split(":")[0] for one in found["failures"]} == {
            "CT/00.dcm": "the file is cut short",
            "CT/notes.txt": "not a picture",
        }
        (study,) = found["studies"]
        assert [one["name"] for one in reader.scored(study["key"])["failures"]] == [
            "CT/00.dcm",
            "CT/notes.txt",
        ]

    def test_nothing_usable_is_refused_with_the_reason_of_the_first(self, reader):
        answer = reader.drop({"a.txt": b"hello"})
        assert (answer.status_code, answer.text) == (
            422,
            "none of the files can be used; a.txt: not a picture: the content is text\n",
        )
        assert reader.drop({}).status_code == 422
        assert reader.drop({"a.zip": b"PK\x03\x04 and no more"}).text.count("damaged or cut short") == 1

    def test_a_slice_that_is_no_head_is_marked(self, reader, heads):
        (study,) = reader.drop({"even.png": even_gray()}).json()["studies"]
        found = reader.scored(study["key"])
        assert found["slices"][0]["outside"] == "the picture is one even gray"

    def test_a_giant_picture_is_thinned_for_the_screen(self, reader):
        stream = io.BytesIO()
        values = (np.arange(4100 * 10) % 251).astype(np.uint8).reshape(10, 4100)
        Image.fromarray(values).save(stream, format="PNG")
        (study,) = reader.drop({"wide.png": stream.getvalue()}).json()["studies"]
        answer = reader.get(f"/studies/{study['key']}/slices/1")
        facts = json.loads(answer.headers["x-slice"])
        assert (facts["width"], facts["step"], facts["unit"]) == (1367, 3, "gray")
        assert np.array_equal(np.frombuffer(answer.content, "<i2").reshape(4, 1367), values[::3, ::3])


def even_gray():
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64), 90, dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def test_a_process_that_scores_and_dies_costs_its_study_and_not_the_next(tmp_path, heads):
    desk = Desk(tmp_path)
    reader = desk.read()
    (first,) = reader.drop(files_of(heads / "P00")).json()["studies"]
    for _ in range(600):
        if desk.queue._process is not None and desk.queue._process.pid is not None:
            break
        time.sleep(0.1)
    os.kill(desk.queue._process.pid, signal.SIGKILL)
    assert "the process that scores has ended" in reader.scored(first["key"])["reason"]
    assert reader.get(f"/studies/{first['key']}/slices/1").status_code == 200
    (second,) = reader.drop({"even.png": even_gray()}).json()["studies"]
    assert reader.scored(second["key"])["stage"] == "scored"
    desk.close()


def test_sides_are_marked_only_where_a_file_says_how_it_lies(heads):
    (path, *_) = sorted((heads / "P01").glob("*.dcm"))
    dataset = dcmread(path)
    del dataset.ImageOrientationPatient
    silent = path.with_name("silent.bin")
    dataset.save_as(silent)
    picture = path.with_name("picture.png")
    picture.write_bytes(gray(1))
    with PixelCache() as pixels:
        assert [pixels(one).facts["sides"] for one in (path, silent, picture)] == [True, False, False]
    silent.unlink()
    picture.unlink()


class TestLimits:
    def test_a_file_that_is_too_large_is_refused_before_and_while_it_comes(self, tmp_path):
        desk = small_desk(tmp_path, file_bytes=1 << 20)
        reader = desk.read()
        upload = reader.begin()
        large = bytes((1 << 20) + 1)
        assert "more than the 1 MB of a file" in reader.send(upload, "big.png", large).text
        streamed = reader.client.post(f"{upload}/files", content=iter([large]), headers=reader.origin)
        assert streamed.status_code == 422
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        desk.close()

    def test_a_session_has_a_limit_over_all_its_drops_and_archives_count_unpacked(self, tmp_path):
        desk = small_desk(tmp_path, session_bytes=1 << 20)
        reader = desk.read()
        bomb = archive({"a.png": bytes(2 << 20)})
        assert len(bomb) < 10_000
        assert "more than the 1 MB of a session" in reader.drop({"bomb.zip": bomb}).text
        assert reader.drop({"1.png": gray(1)}).status_code == 200
        other = desk.read()
        assert other.drop({"1.png": gray(1)}).status_code == 200
        desk.close()

    def test_the_number_of_files_has_a_limit(self, tmp_path):
        desk = small_desk(tmp_path, files=2)
        many = archive({f"{n}.png": gray(n) for n in range(3)})
        assert "more than 2 files" in desk.read().drop({"many.zip": many}).text
        desk.close()


class TestSessions:
    def test_what_one_dropped_no_other_can_open(self, desk, reader):
        (study,) = reader.drop({"1.png": gray(1)}).json()["studies"]
        other = desk.read()
        for address in ("", "/findings", "/slices/1", "/slices.csv", "/outlines.geojson"):
            assert reader.get(f"/studies/{study['key']}{address}").status_code == 200
            assert other.get(f"/studies/{study['key']}{address}").status_code == 404
        assert study["key"] not in other.get("/worklist").text

    def test_the_end_of_a_session_deletes_what_it_dropped(self, desk, reader):
        reader.drop({"1.png": gray(1)})
        folder = reader.session.folder
        assert any(folder.rglob("*.png"))
        assert reader.post("/session/end").status_code == 200
        assert not folder.exists()
        assert reader.get("/").status_code == 403

    def test_a_folder_is_deleted_at_the_end_and_one_left_by_a_killed_server_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        left = tmp_path / "haemo-serve-left"
        left.mkdir()
        (left / "lock").touch()
        with working_folder() as folder:
            assert not left.exists()
            assert folder.stat().st_mode & 0o077 == 0
            with working_folder():
                assert folder.exists(), "of a server that is at work"
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run") / "first", patients=9, slices=2)
    add_model(made, "svm")
    return made


@pytest.fixture(scope="module")
def run_desk(run, tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"), run)
    yield made
    made.close()


class TestRun:
    def test_the_worklist_begins_with_the_most_suspicious_study(self, run, run_desk):
        rows = run_desk.read().get("/worklist").json()
        chances = [row["suspicion"] for row in rows]
        assert chances == sorted(chances, reverse=True)
        predictions = run.predictions("svm")
        highest = {
            patient: predictions.probabilities[predictions.patient == patient].max()
            for patient in np.unique(predictions.patient)
        }
        for row in rows:
            assert row["suspicion"] == pytest.approx(highest[row["name"].split(",")[0]])

    def test_a_study_shows_what_the_model_said_of_its_slices_held_out(self, run, run_desk):
        reader = run_desk.read()
        row = reader.get("/worklist").json()[0]
        found = reader.get(f"/studies/{row['key']}/findings").json()
        predictions = run.predictions("svm")
        said = dict(zip(predictions.slice_id.tolist(), predictions.probabilities.tolist(), strict=True))
        assert [one["probability"] for one in found["slices"]] == [
            said[one["name"]] for one in found["slices"]
        ]
        assert {one["label"] for one in found["slices"]} <= {"normal", "bleed"}
        assert found["model"] == "svm of first"

    def test_its_page_has_the_figures_the_errors_and_every_slice(self, run, run_desk):
        reader = run_desk.read()
        assert main(["compare", "--run", str(run)]) == 0
        (run.path / "figures").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(run.path / "figures" / "roc.png")
        assert 'href="/runs/0"' in reader.get("/runs").text
        page = reader.get("/runs/0").text
        figures = json.loads((run.path / "compare.json").read_text())["models"]["svm"]
        assert f"{figures['roc_auc']:.3f} (" in page
        tested = run.predictions("svm").of_part("test")
        wrong = set(tested.slice_id[tested.predicted != tested.label].tolist())
        links = dict(re.findall(r'<a href="(/studies/[^"]+)"><bdi>([^<]+)</bdi>', page))
        assert set(links.values()) == wrong
        listed = reader.get("/runs/0/slices?model=svm").text
        every = dict(re.findall(r'<a href="(/studies/[^"]+)"><bdi>([^<]+)</bdi>', listed))
        assert set(every.values()) == set(tested.slice_id.tolist())
        for link, name in every.items():
            address, number = re.fullmatch(r"(/studies/[^?]+)\?slice=(\d+)&amp;model=svm", link).groups()
            assert reader.get(f"{address}/findings").json()["slices"][int(number) - 1]["name"] == name
        assert reader.get("/runs/0/figures/roc.png").headers["content-type"] == "image/png"
        for address in ("figures/..%2frun.json", "figures/run.json", "report"):
            assert reader.get(f"/runs/0/{address}").status_code == 404
        assert reader.get("/runs/1").status_code == 404


class TestCommand:
    def test_it_says_its_address_and_deletes_what_was_dropped_on_ctrl_c(self, tmp_path):
        for ended_by in (signal.SIGINT, signal.SIGTERM):
            process, address = served(tmp_path, "--model", "builtin")
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            assert b"Drop a study here" in opener.open(address).read()
            assert [path.name.startswith("haemo-serve-") for path in tmp_path.iterdir()] == [True]
            process.send_signal(ended_by)
            _, said = process.communicate(timeout=60)
            assert (process.returncode, said) == (0, "ended; what was dropped is deleted\n")
            assert list(tmp_path.iterdir()) == []

    def test_what_is_wrong_is_said(self, tmp_path, capsys, monkeypatch):
        assert main(["serve"]) == 2
        assert "--run RUN, or --model FILE or builtin" in capsys.readouterr().err
        untrained = make_run(tmp_path / "untrained", patients=2, slices=1)
        assert main(["serve", "--run", str(untrained)]) == 2
        assert "has no model 'svm': train one first" in capsys.readouterr().err
        assert main(["serve", "--run", str(tmp_path)]) == 1
        assert "haemo index DATA" in capsys.readouterr().err
        assert main(["serve", "--model", str(tmp_path / "none")]) == 1
        assert "is not there" in capsys.readouterr().err
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        assert main(["serve", "--model", "builtin"]) == 1
        assert "pip install 'haemo[serve]'" in capsys.readouterr().err

    def test_a_port_that_is_taken_is_named(self, desk, capsys):
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert main(["serve", "--model", "builtin", "--port", str(port)]) == 2
        assert f"port {port} cannot be had" in capsys.readouterr().err


def test_names_are_shown_without_what_would_hide_or_turn_them():
    assert shown("a‮gpj.exe\x00\n b\udcff") == "a�gpj.exe�� b?"
    assert len(shown("x" * 500)) == 120
