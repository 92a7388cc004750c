"""What the file alone tells: found where it is there, and not where it is not."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from runs import CLASSES, make_run

from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.shortcuts import SHORTCUTS, SliceFacts, read_facts, shortcut_control

pytestmark = pytest.mark.numerical

QUICK = Resampling(resamples=100)


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 10)
        yield


@pytest.mark.parametrize("wide", [True, False])
def test_a_shortcut_is_found_only_if_there_is_one(tmp_path, wide):
    run = make_run(tmp_path, copies=1, wide_bleeds=wide)
    results = shortcut_control(read_facts(run.manifest().rows), CLASSES, QUICK)
    assert [entry["name"] for entry in results] == list(SHORTCUTS)
    size = results[0]["patient"]
    assert size["patients"] == 24
    if wide:
        assert size["roc_auc"] == 1
        assert results[0]["slice"]["accuracy"] == 1
    else:
        assert size["roc_auc"] < 0.75


def test_a_fact_that_names_the_patient_tells_nothing_of_new_patients(tmp_path):
    # Half of the patients bleed, in all of their slices; the size of a file is the patient's own.
    run = make_run(tmp_path, patients=40, slices=6, copies=1)
    rng = np.random.default_rng(0)
    bleeds = rng.permutation(40) % 2
    own_size = rng.permutation(40)
    patient = np.array([int(row.patient[-2:]) for row in run.manifest().rows])
    rows = tuple(
        replace(row, label=CLASSES[bleeds[p]]) for row, p in zip(run.manifest().rows, patient, strict=True)
    )
    names = SHORTCUTS["file, gray and border"]
    values = np.tile(own_size[patient, None].astype(float), len(names))
    entry = shortcut_control(SliceFacts(rows, values, names, ()), CLASSES, QUICK)[0]
    assert (
        entry["patient"]["intervals"]["roc_auc"]["low"]
        < 0.5
        < entry["patient"]["intervals"]["roc_auc"]["high"]
    )
    assert entry["patient"]["accuracy"] < 0.7
    assert entry["slice"]["roc_auc"] > 0.95
    assert entry["slice"]["accuracy"] > 0.9


def test_facts_are_those_of_the_file(tmp_path):
    run = make_run(tmp_path, patients=6, slices=2, copies=1)
    row = run.manifest().rows[3]
    pixels = np.full((40, 60), 100, dtype=np.uint8)
    pixels[:2], pixels[:, -2:] = 20, 250
    Image.fromarray(pixels).save(row.path)
    facts = read_facts([row])
    value = dict(zip(facts.names, facts.values[0], strict=True))
    assert (value["width"], value["height"]) == (60, 40)
    assert value["bytes"] == row.path.stat().st_size
    assert value["mean gray"] == pytest.approx(pixels.mean())
    assert value["top mean"] == pytest.approx(pixels[:2].mean())
    assert value["right mean"] == pytest.approx(pixels[:, -2:].mean())
    assert value["bottom sd"] == pytest.approx(pixels[-2:].std())


def test_a_slice_that_cannot_be_read_is_named_and_left_out(tmp_path):
    rows = make_run(tmp_path, patients=6, slices=2, copies=1).manifest().rows
    rows[0].path.unlink()
    facts = read_facts(rows)
    assert len(facts.rows) == len(rows) - 1
    assert [failure.path for failure in facts.failures] == [str(rows[0].path)]
