"""Weights for stage one that learn from masks: the planes, their looks, and ``haemo segment trunk``."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from cohorts import class_folders
from drawn_heads import SPACING_MM, cohort, head

from haemo.features.pixels.masks import TrueMasks
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.blood_cells import BloodCells, cells_of, slice_scores
from haemo.models.training.checkpoint import read_network
from haemo.models.training.plane_looks import brain_window, looks
from haemo.models.weights import imagenet
from haemo.models.weights.imagenet import random_weights, resolve_weights
from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.segmenting import trunk_training
from haemo.pipeline.segmenting.sampling import masked_rows
from haemo.pipeline.segmenting.trunk_planes import VIEW, masked_planes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    made = folder / "run"
    assert main(["index", str(cohort(folder / "data", 8, 2)), "--run", str(made)]) == 0
    return RunDirectory(made)


def test_a_wide_plane_in_the_brain_window_is_what_stage_one_sees():
    image = Slice(head(5, blood_mm=12, turn_deg=9)[0], True, (SPACING_MM, SPACING_MM))
    wide = VIEW.plane(image)[None]
    expected = Preprocessing.for_window("brain", "head", True).plane(image)
    found = brain_window(wide, np.array([True]))[0]
    # HU are cut off before a slice is resized, at other ends: edges of bone differ, and nothing within.
    levels = np.abs(found.astype(int) - expected)[expected < 200]
    assert np.median(levels) <= 1
    assert np.mean(levels > 4) < 0.05
    np.testing.assert_array_equal(brain_window(wide, np.array([False])), wide)


def test_masks_lie_on_the_blood_of_planes_cropped_and_upright(run):
    rows = masked_rows(run.manifest().labelled, TrueMasks(), "any")
    found = masked_planes(rows, looks=1, jobs=1)
    assert len(found.planes) == 2 * len(rows)
    assert not found.failures
    bleeding = [number for number, row in enumerate(found.rows) if row.label == "haemorrhage"]
    assert np.flatnonzero(found.masks.any(axis=(1, 2))).tolist() == bleeding
    first = bleeding[0]
    gray, mask = found.planes[first].astype(float), found.masks[first]
    tissue = (gray > 70) & (gray < 200) & ~mask
    assert np.median(gray[mask]) > np.median(gray[tissue]) + 30
    assert found.areas_mm2[first] > 100
    assert found.wide[: len(rows)].all(), "slices as they are come first, in HU"
    again = masked_planes(rows, looks=1, jobs=1)
    np.testing.assert_array_equal(found.planes, again.planes)


def test_a_slice_that_cannot_be_read_is_named_once(run, tmp_path):
    rows = masked_rows(run.manifest().labelled, TrueMasks(), "any")[:2]
    (tmp_path / "spoilt.png").write_bytes(b"no mask")
    found = masked_planes([rows[0], (rows[1][0], tmp_path / "spoilt.png")], looks=1, jobs=1)
    assert [one.path for one in found.failures] == [str(rows[1][0].path)]
    assert {row.slice_id for row in found.rows} == {rows[0][0].slice_id}


def test_looks_make_blood_no_paler_than_the_palest(run):
    row = next(row for row in run.manifest().labelled if row.label == "haemorrhage")
    one = masked_rows([row], TrueMasks(), "any")
    free, held = (
        masked_planes(one, looks=24, palest_hu=palest, jobs=1) for palest in (None, 200.0)
    )  # blood of 66 HU is then left as it is
    in_hu = np.flatnonzero(free.wide)[1:]  # looks that are no pictures
    gray = [np.array([own.planes[n][own.masks[n]].mean() for n in in_hu]) for own in (free, held)]
    assert len(in_hu) > 3
    assert (gray[1] >= gray[0]).all()
    assert (gray[1] - gray[0]).max() > 10
    np.testing.assert_array_equal(free.planes[0], held.planes[0])


def test_looks_move_the_mask_with_the_plane_and_follow_the_seed():
    planes = np.full((6, 227, 227), 90, dtype=np.uint8)
    masks = np.zeros(planes.shape, dtype=bool)
    masks[:, 60:110, 130:180] = True
    planes[masks] = 150
    wide = np.arange(6) < 3
    gray, blood = looks(planes, masks, wide, np.random.default_rng(2))
    for one, own in zip(gray.float(), blood, strict=True):
        assert one[own > 0.99].mean() > one[(own < 0.01) & (one > 20)].mean() + 15
        assert 1200 < own.sum() < 4000
    assert 0 <= gray.min() < gray.max() <= 255
    again, _ = looks(planes, masks, wide, np.random.default_rng(2))
    assert torch.equal(gray, again)
    other, _ = looks(planes, masks, wide, np.random.default_rng(3))
    assert not torch.equal(gray, other)


def test_the_score_of_a_slice_is_the_log_sum_exp_of_its_cells():
    state = {**random_weights(0, "pool5").state_dict}
    network = BloodCells.of({**state, "head.weight": torch.zeros(1, 256, 1, 1), "head.bias": torch.ones(1)})
    cells = cells_of(network, np.zeros((2, 227, 227), dtype=np.uint8))
    np.testing.assert_allclose(cells, np.ones((2, 13, 13)))
    np.testing.assert_allclose(slice_scores(cells), 1 + np.log(169), rtol=1e-6)


def test_a_trunk_is_trained_judged_and_taken_for_features(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(imagenet, "resolve_weights", lambda *_, **__: random_weights(0, "pool5"))
    out = tmp_path / "own.safetensors"
    command = ["segment", "trunk", "--run", str(run), "--out", str(out), "--looks", "0", "--jobs", "1"]
    command += ["--steps", "1", "--batch-size", "2", "--precision", "float32", "--note", "of drawn heads"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "test patients, 4 slices: ROC AUC of slices" in said
    assert "hottest cell on the bleed, over 1 cm2:" in said
    assert f"trunk learned from 12 slices of 6 patients; written to {out}" in said
    assert f"haemo features --run OTHER --weights {out}" in said
    before = out.read_bytes()
    assert main(command) == 0
    assert f"kept in {out}" in capsys.readouterr().out
    assert out.read_bytes() == before
    out.write_bytes(b"something else")
    assert main(command) == 2
    assert f"{out} is there, and no trunk that haemo trained; name another file" in capsys.readouterr().err
    out.write_bytes(before)
    monkeypatch.undo()
    found = resolve_weights(out, need="pool4")
    assert found.is_trunk
    assert found.sha256 != random_weights(0, "pool4").sha256


def test_weights_that_no_patient_is_left_to_judge_are_written_and_that_is_said(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(imagenet, "resolve_weights", lambda *_, **__: random_weights(0, "pool5"))
    as_it_is = trunk_training.masked_planes

    def none_of_test_patients_bleeds(rows, **options):
        found = as_it_is(rows, **options)
        return found if "looks" in options else replace(found, masks=np.zeros_like(found.masks))

    monkeypatch.setattr(trunk_training, "masked_planes", none_of_test_patients_bleeds)
    out = tmp_path / "own.safetensors"
    command = ["segment", "trunk", "--run", str(run), "--out", str(out), "--looks", "0", "--jobs", "1"]
    command += ["--steps", "1", "--batch-size", "2", "--precision", "float32"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "not judged: a trunk is judged on test slices with blood and without" in said.err
    assert "test patients" not in said.out
    assert f"written to {out}" in said.out


def test_a_new_split_is_drawn_where_it_is_asked_for_and_its_palest_blood_is_recorded(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(imagenet, "resolve_weights", lambda *_, **__: random_weights(0, "pool5"))
    own = shutil.copytree(run.path, tmp_path / "run")
    out = tmp_path / "own.safetensors"
    command = ["segment", "trunk", "--run", str(own), "--out", str(out), "--looks", "0", "--jobs", "1"]
    command += ["--steps", "1", "--batch-size", "2", "--precision", "float32"]
    assert main([*command, "--new-split"]) == 0
    assert "learned from 12 slices" in capsys.readouterr().out
    before, kept = out.read_bytes(), (own / "split.json").read_bytes()
    assert main([*command, "--train-fraction", "0.5"]) == 2
    assert "draw another split with --new-split" in " ".join(capsys.readouterr().err.split())
    assert (own / "split.json").read_bytes() == kept
    # A run without masks beside it: nothing is drawn anew for a training that cannot be.
    assert main(["index", str(class_folders(tmp_path / "bare")), "--run", str(tmp_path / "other")]) == 0
    again = [*command, "--train-fraction", "0.5", "--new-split"]
    assert main([*again, "--run", str(tmp_path / "other")]) == 1
    assert (own / "split.json").read_bytes() == kept
    assert out.read_bytes() == before
    capsys.readouterr()
    assert main([*again, "--palest", "46"]) == 0
    assert "learned from 8 slices" in capsys.readouterr().out
    assert read_network(out)[1]["palest_hu"] == 46


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "trunk.pth"], 2, "is no .safetensors file; name one, as trunk.safetensors"),
        (["--out", "trunk.safetensors", "--run", "nowhere"], 1, "haemo index"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments, code, message, monkeypatch, capsys):
    monkeypatch.setattr(imagenet, "resolve_weights", lambda *_, **__: random_weights(0, "pool5"))
    assert main(["segment", "trunk", "--run", str(run), *arguments]) == code
    assert message in " ".join(capsys.readouterr().err.split())
