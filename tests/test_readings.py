"""Readers beside models: what a person answers on the page is judged as models are, on the same slices."""

import json
import subprocess
import sys

import pytest
from readers import Desk
from runs import add_model, make_run

from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.run import readings
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.readings import LEVELS, Reading

CASES = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run") / "first", patients=30, slices=4)
    add_model(made, "svm")
    return made


@pytest.fixture(scope="module")
def desk(run, tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"), run)
    yield made
    made.close()


@pytest.fixture
def reader(desk):
    return desk.read()


def begin(reader, name, cases=CASES, seed=0):
    asked = json.dumps({"reader": name, "cases": cases, "seed": seed}).encode()
    return reader.post("/reading/0", asked)


def answer(reader, name, case, level, seconds=2.5):
    asked = json.dumps({"case": case, "level": level, "seconds": seconds}).encode()
    return reader.post(f"/reading/0/{name}/answers", asked)


def sample(run, name):
    return json.loads((run.path / "readings" / name / "reading.json").read_text())["slices"]


def labels_of(run):
    return {row.slice_id: row.label for row in run.manifest()}


def read_all(reader, run, name, wrong=2):
    """Answer all cases rightly and surely but for the first ones."""
    begin(reader, name)
    labels = labels_of(run)
    for case, slice_id in enumerate(sample(run, name), start=1):
        bleeds = (labels[slice_id] == "bleed") != (case <= wrong)
        assert answer(reader, name, case, 6 if bleeds else 1).json() == {"done": case, "total": CASES}


def test_a_reading_is_a_row_beside_the_models_with_the_figures_of_its_answers(run, reader, capsys):
    read_all(reader, run, "anna")
    said = Predictions.read(run.path / "readings" / "anna" / "predictions.csv")
    assert evaluate(said)["accuracy"] == pytest.approx((CASES - 2) / CASES)
    assert main(["compare", "--run", str(run), "--reader", "anna"]) == 0
    printed = capsys.readouterr().out
    assert "reader anna" in printed
    figures = json.loads((run.path / "compare_readers.json").read_text())["models"]
    assert set(figures) == {"svm", "reader anna"}
    assert figures["reader anna"]["accuracy"] == pytest.approx((CASES - 2) / CASES)
    assert figures["svm"]["slices"] == CASES
    interval = figures["reader anna"]["intervals"]["accuracy"]
    assert interval["low"] < (CASES - 2) / CASES < interval["high"]
    page = reader.get("/reading/0/anna/result").text
    assert f"{figures['reader anna']['accuracy']:.3f} (" in page
    assert "2.5 seconds a slice" in page
    assert all(f"<bdi>{slice_id}</bdi>" in page for slice_id in sample(run, "anna")[:2])
    assert main(["compare", "--run", str(run)]) == 0
    assert "reader" not in capsys.readouterr().out, (
        "who has read a sample does not cut the table of the models"
    )


def test_readers_of_one_seed_see_the_same_test_slices_in_orders_of_their_own(run, reader):
    for name in ("ben", "cleo"):
        begin(reader, name)
    begin(reader, "dora", seed=1)
    ben, cleo, dora = (sample(run, name) for name in ("ben", "cleo", "dora"))
    assert sorted(ben) == sorted(cleo) != sorted(dora)
    assert ben != cleo
    tested = run.predictions("svm").of_part("test").slice_id.tolist()
    assert set(ben) <= set(tested)
    assert len(set(ben)) == CASES


def test_the_reader_is_blind(run, reader):
    begin(reader, "eva")
    page = reader.get("/reading/0/eva").text
    pixels = reader.get("/reading/0/eva/cases/1")
    for slice_id in sample(run, "eva"):
        assert slice_id not in page
        assert slice_id not in str(pixels.headers)
    assert not any(word in page for word in ("normal", "bleed</", "patient0", "svm"))
    assert all(level in page for level in LEVELS)
    assert reader.get("/reading/0/eva/result").status_code == 403


def test_an_answer_stands_and_cases_are_answered_in_turn(run, reader):
    begin(reader, "finn")
    assert answer(reader, "finn", 2, 1).status_code == 422
    assert answer(reader, "finn", 1, 7).status_code == 422
    assert answer(reader, "finn", 1, 4, seconds=3.25).status_code == 200
    assert "case 2 is to be answered, not case 1" in answer(reader, "finn", 1, 6).text
    (kept,) = (run.path / "readings" / "finn" / "answers.csv").read_text().splitlines()[1:]
    assert kept.startswith(f"{sample(run, 'finn')[0]},4,3.25,20")
    assert "Case 2 of 20" in reader.get("/reading/0/finn").text


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "x" * 41, "<b>", "a b"])
def test_no_name_of_a_reader_leads_out_of_the_run(run, reader, name):
    before = sorted(run.path.rglob("*"))
    assert begin(reader, name).status_code == 422
    assert sorted(run.path.rglob("*")) == before


def test_what_is_wrong_is_said(run, reader, capsys):
    assert "cases cannot be drawn" in begin(reader, "gus", cases=1000).text
    assert begin(reader, "gus").status_code == 200
    assert "has begun a reading" in begin(reader, "gus").text
    assert reader.post("/reading/0/gus/answers", b"not json").text == "the request is not JSON\n"
    assert main(["compare", "--run", str(run), "--reader", "gus"]) == 1
    assert "gus has answered nothing yet" in capsys.readouterr().err
    assert main(["compare", "--run", str(run), "--reader", "nobody"]) == 1
    assert "'nobody' has read nothing" in capsys.readouterr().err
    assert main(["compare", "--run", str(run), "--reader", "gus", "--by", "patient"]) == 2


ANSWERING = """
import sys
from pathlib import Path
from haemo.errors import BadSettings
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.readings import Reading

run, name, begin = RunDirectory(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
reading, rows = Reading.open(run, name), run.manifest().labelled.rows
print("ready", flush=True)
while not begin.exists():
    pass
given = 0
while (case := len(reading.answers())) < len(reading.slices):
    try:
        reading.answer(case, 1 + case % 6, 1.0, rows)
        given += 1
    except BadSettings:
        continue
print(given)
"""


def test_two_servers_that_write_one_reading_lose_no_answer(run, reader, tmp_path):
    begin(reader, "shared")
    words = [sys.executable, "-c", ANSWERING, str(run), "shared", str(tmp_path / "begin")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    (tmp_path / "begin").touch()
    given = [int(one.communicate(timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum(given) == CASES, "an answer was taken of both"
    kept = Reading.open(run, "shared")
    assert [one["slice_id"] for one in kept.answers()] == list(kept.slices)
    assert len(Predictions.read(kept.folder / "predictions.csv")) == CASES


def test_who_cannot_have_a_turn_is_told(run, reader, monkeypatch):
    begin(reader, "held")
    monkeypatch.setattr(readings, "_LONGEST_WAIT_SECONDS", 0.0)
    with claim(run.path / "readings" / "held", "answer"):
        refused = answer(reader, "held", 1, 6)
    assert refused.status_code >= 400
    assert "is in use by process" in refused.text
    assert answer(reader, "held", 1, 6).json()["done"] == 1
