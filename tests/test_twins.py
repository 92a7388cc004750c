"""Twins of data sets go through the commands, from index to report; masks of whatever kind teach outlines."""

import json
from functools import partial
from pathlib import Path

import pytest
from published import (
    bhsd,
    cq500,
    ct_ich_131,
    instance_2022,
    outlined,
    outlined_volumes,
    rsna_2019,
    scans_in_class_folders,
)
from stand_ins import put_in_place

from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory


@pytest.fixture
def haemo(tmp_path, monkeypatch, capsys):
    """Types a command on the run, with a stand-in for the network; gives what it said."""
    put_in_place(monkeypatch)

    def command(*words: str, run: Path = tmp_path / "run") -> str:
        code = main([*words, "--run", str(run)])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    return command


# Layout, slices, slices with a bleed, patients; None where labels are of studies.
TWINS = {
    "RSNA 2019": (rsna_2019, "rsna", 36, 12, 12),
    "CT-ICH 1.3.1": (ct_ich_131, "ct-ich", 48, 12, 12),
    "CQ500": (cq500, "cq500", 24, None, 12),
    "INSTANCE 2022": (instance_2022, "masked-volumes", 48, 6, 12),
    "BHSD": (bhsd, "masked-volumes", 48, 12, 12),
    "SEG": (partial(outlined, kind="SEG"), "dicom-tree", 48, 18, 12),
    "RTSTRUCT": (partial(outlined, kind="RTSTRUCT"), "dicom-tree", 48, 18, 12),
    "volumes in class folders": (scans_in_class_folders, "class-folders", 48, None, 12),
}
# One with labels of slices, one with those of studies: to a report it is all one in which files they came.
REPORTED = ("RSNA 2019", "CQ500")


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_goes_from_index_to_a_model(name, tmp_path, haemo):
    make, layout, slices, bleeding, patients = TWINS[name]
    said = haemo("index", str(make(tmp_path / "data")))
    assert f"layout: {layout}\n" in said
    assert f"{slices} slices indexed, 0 unusable" in said
    rows = list(RunDirectory(tmp_path / "run").manifest())
    assert len({row.patient for row in rows}) == len({row.study for row in rows}) == patients
    assert sum(row.label == "haemorrhage" for row in rows) == (bleeding or 0)
    assert "0 failed" in haemo("features")
    run = tmp_path / "run"
    if bleeding is None:
        assert "labels are of studies and of no slice" in said
        assert not any(row.label for row in rows)
        haemo("pool")
        run = run / "studies"
    # Few patients: any figure will do, as long as all steps are made.
    haemo("svm", "--grid", "C=1e-3", run=run)
    if name in REPORTED:
        haemo("report", run=run)
        assert (run / "report.html").stat().st_size > 10_000
    predictions = RunDirectory(run).predictions("svm")
    train, test = (set(predictions.of_part(part).patient) for part in ("cv", "test"))
    assert not train & test
    assert len(train | test) == patients


@pytest.mark.parametrize("make", [outlined_volumes, partial(outlined, kind="SEG")], ids=["volumes", "SEG"])
def test_masks_teach_and_measure_outlines(make, tmp_path, haemo):
    haemo("index", str(make(tmp_path / "data")))
    train = ("segment", "train", "--kind", "logistic", "--jobs", "1")
    haemo(*train)
    assert "16 test slices measured" in haemo("segment", "score", "--jobs", "1")
    measured = json.loads((tmp_path / "run" / "explain" / "segment.json").read_text())
    assert measured["groups"]["all"]["dice"]["mean"] > 0.9
    assert "up to date" in haemo(*train)
