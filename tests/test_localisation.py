"""Maps against masks: each figure by hand, the baselines, and the command on a small run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictured import trained_run
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from haemo.errors import BadSettings, MissingStep, TooFewData, UnreadableSlice
from haemo.features.pixels.masks import find_mask, mask_png, read_mask, subtypes
from haemo.models.evidence.explain import ExplainedModel
from haemo.pipeline.cli import main
from haemo.pipeline.explaining.localisation import BASELINES, FIGURES, localise, measure_map
from haemo.pipeline.explaining.perturbation import perturbation, rank_correlation
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.report.background import explanation_section
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.truemasks import write_true_masks
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.training.head import HeadSettings, train_head


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haemo.pipeline.explaining.localisation._MOST_PERTURBED", 1)
        yield trained_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scored(run):
    return localise(run, ["svm"], device="cpu")


def test_figures_of_a_map_that_was_drawn_by_hand():
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:4, 2:6] = True  # 8 pixels
    evidence = np.full((10, 10), -1.0)
    evidence[3, 4:8] = (4.0, 3.0, 2.0, 1.0)  # hot are the first three, two of them in the mask
    found = measure_map(evidence, mask, None, None)
    assert found["hit"] == found["region_hit"] == 1
    assert found["iou"] == pytest.approx(2 / 9)
    assert found["dice"] == pytest.approx(4 / 11)
    assert found["energy"] == pytest.approx(7 / 10)
    assert found["mask_share"] == pytest.approx(0.08)
    nothing = measure_map(np.full((10, 10), -1.0), mask, None, None)
    assert {name: nothing[name] for name in ("region_hit", "iou", "dice", "energy")} == dict.fromkeys(
        ("region_hit", "iou", "dice", "energy"), 0
    )


def test_near_is_within_fifteen_pixels():
    mask = np.zeros((60, 60), dtype=bool)
    mask[10:20, 10:20] = True
    for column, near in ((19, 1.0), (34, 1.0), (35, 0.0)):
        evidence = np.zeros((60, 60))
        evidence[15, column] = 1.0
        found = measure_map(evidence, mask, None, None)
        assert (found["hit"], found["near"]) == (float(column < 20), near)


def test_blood_moves_the_region_and_not_the_map():
    mask = np.zeros((60, 60), dtype=bool)
    mask[10:30, 10:30] = True
    blood = mask.astype(np.float32)
    evidence = np.zeros((60, 60))
    evidence[15:50, 15:50] = np.linspace(1, 2, 35)  # highest outside the mask
    found = measure_map(evidence, mask, blood, (1.0, 1.0))
    assert found["hit"] == 0
    assert found["region_hit"] == 1
    assert found["dice"] == 1


def test_masks_are_found_beside_the_slices_or_in_a_folder(tmp_path):
    for place in (
        "data/masks/P1/003.png",
        "data/P1/003.dcm",
        "other/003.png",
        "other/P1/003.png",
        "data/P1/004.png",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    slice_ = tmp_path / "data/P1/003.dcm"
    assert find_mask(slice_) == tmp_path / "data/masks/P1/003.png"
    assert find_mask(slice_, tmp_path / "other") == tmp_path / "other/P1/003.png"
    (tmp_path / "other/P1/003.png").unlink()
    assert find_mask(slice_, tmp_path / "other") == tmp_path / "other/003.png"
    assert find_mask(tmp_path / "data/P1/004.png") is None
    assert find_mask(tmp_path / "data/P1/004.png", tmp_path / "data") is None


def test_masks_are_read_from_any_mode_and_checked(tmp_path):
    path = tmp_path / "mask.png"
    colour = np.zeros((4, 5, 4), dtype=np.uint8)
    colour[..., 3] = 255
    colour[1, 2, 1] = 1
    for image in (Image.fromarray(colour), Image.fromarray(colour[..., 1] * np.uint8(255)).convert("1")):
        image.save(path)
        assert np.argwhere(read_mask(path, (4, 5))).tolist() == [[1, 2]]
    with pytest.raises(UnreadableSlice, match="has 4 x 5 pixels, its slice 5 x 4"):
        read_mask(path, (5, 4))
    path.write_bytes(b"no picture")
    with pytest.raises(UnreadableSlice, match="cannot be read"):
        read_mask(path, (4, 5))


def test_subtypes_come_from_the_table_above(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,subtype\nP1/1.dcm,bleed,epidural\nP1/2.dcm,normal,\n")
    (tmp_path / "P1").mkdir()
    paths = [tmp_path / "P1" / "1.dcm", tmp_path / "P1" / "2.dcm"]
    assert subtypes(paths) == {paths[0]: "epidural"}


@pytest.mark.numerical
def test_rank_correlation_is_spearmans():
    one, other = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).round(1)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(rank_correlation(one, other), expected)
    assert rank_correlation(np.zeros((1, 3, 3)), one[:1, :3, :3]).tolist() == [0]


class Brightness(nn.Module):
    def forward(self, maps):
        return maps.sum(dim=(1, 2, 3))


@pytest.mark.numerical
def test_deleting_what_a_perfect_map_points_at_takes_the_score_first():
    identity = nn.Conv2d(1, 1, 1)
    nn.init.ones_(identity.weight)
    nn.init.zeros_(identity.bias)
    model = ExplainedModel([identity, nn.ReLU()], Brightness(), 64, (0.0,), (1.0,), ("no", "yes"))
    planes = np.zeros((2, 64, 64), dtype=np.uint8)
    planes[0, 10:20, 10:20] = planes[1, 40:50, 30:40] = 250
    found = perturbation(model, planes, ["yes", "yes"], "hirescam", seed=0)
    area = found["area"]
    assert area["deletion"] < area["random_deletion"]
    assert area["insertion"] > area["random_insertion"]
    assert found["deletion"][0] == pytest.approx(model.scores(planes).mean(), rel=1e-6)
    assert found["insertion"][-1] == pytest.approx(found["deletion"][0])
    assert found == perturbation(model, planes, ["yes", "yes"], "hirescam", seed=0)
    against = perturbation(model, planes, ["no", "no"], "hirescam", seed=0)
    assert against["deletion"][0] == -found["deletion"][0]


def test_a_run_is_scored_beside_baselines_and_written(run, scored):
    assert scored == json.loads((run.path / "explain" / "score.json").read_text())
    tested = {name for name, part in Split.read(run.split_path).part.items() if part == "test"}
    bleeding = {row.patient for row in run.manifest() if row.label == "haemorrhage"}
    assert scored["slices"]["with_mask"] == 2 * len(bleeding & tested)
    # The pictures are not HU: nothing looks like blood.
    assert set(scored["baselines"]) == set(BASELINES) - {"blood alone"}
    figures = scored["models"]["svm"]["pointing"]["all"]
    assert set(figures) == {"slices", "patients", *FIGURES}
    assert figures["energy"]["mean"] > figures["mask_share"]["mean"]
    assert figures["mask_share"]["mean"] == pytest.approx(12 * 15 / (80 * 70))
    assert abs(scored["models"]["svm"]["sanity"]["rank_correlation_with_randomised_head"]) < 0.6


def test_a_neural_head_is_scored_like_the_others(run):
    train_head(run, "mlp", HeadSettings(grid={"hidden": [4], "alpha": [0.01]}))
    result = localise(run, ["svm", "mlp"], device="cpu")
    figures = result["models"]["mlp"]["pointing"]["all"]
    assert figures["slices"] == result["models"]["svm"]["pointing"]["all"]["slices"]
    assert 0 < figures["energy"]["mean"] < 1
    assert np.isfinite(list(result["models"]["mlp"]["perturbation"]["area"].values())).all()


def test_of_several_classes_each_slice_with_a_mask_is_explained_for_its_own(tmp_path, monkeypatch):
    run = trained_run(tmp_path, kinds=3)
    other = next(path for path in sorted(tmp_path.glob("slices/*.png")) if _is_tested(run, path, "other"))
    mask = np.zeros((80, 70), dtype=np.uint8)
    mask[50:60, 30:50] = 255
    Image.fromarray(mask).save(other.parent / "masks" / other.name)
    asked = []
    maps = ExplainedModel.maps

    def noted(self, planes, method, target):
        asked.append(target)
        return maps(self, planes, method, target)

    monkeypatch.setattr(ExplainedModel, "maps", noted)
    result = localise(run, ["svm"], device="cpu")
    bleeds = sum(_is_tested(run, row.path, "haemorrhage") for row in run.manifest())
    assert result["slices"] == {"with_mask": bleeds + 1, "without_mask": 0}
    assert sorted(asked[0]) == ["haemorrhage"] * bleeds + ["other"]
    assert result["models"]["svm"]["pointing"]["all"]["slices"] == bleeds + 1


def _is_tested(run, path, label):
    (row,) = (row for row in run.manifest() if row.path == path)
    return row.label == label and Split.read(run.split_path).parts([row])[0] == "test"


@pytest.mark.numerical
def test_maps_of_planes_of_several_classes_are_those_of_each(run):
    network, _ = load_model(run, "svm", "cpu").explained()
    planes = np.random.default_rng(0).integers(0, 256, (3, 227, 227), dtype=np.uint8)
    mixed = network.maps(planes, "hirescam", ["haemorrhage", "normal", "haemorrhage"])
    for plane, own, name in zip(planes, mixed, ("haemorrhage", "normal", "haemorrhage"), strict=True):
        np.testing.assert_allclose(own, network.maps(plane[None], "hirescam", name)[0], rtol=1e-3, atol=1e-6)


def test_maps_are_set_against_training_slices_where_these_can_be_read(run, caplog):
    model = load_model(run, "svm", "cpu")
    parts = Split.read(run.split_path).parts(list(run.manifest()))
    train = {row.path for row, part in zip(run.manifest(), parts, strict=True) if part == "train"}
    assert set(model.training_paths()) <= train
    network, method = model.explained()
    assert method == "contrast"
    assert len(network.references) == len(model.training_paths())
    moved = replace(model, training_paths=lambda: [Path("gone.png"), *model.training_paths()[:3]])
    assert moved.explained()[1] == "hirescam"
    (said,) = (one.message for one in caplog.records if one.levelname == "WARNING")
    assert said.startswith("only 3 of the training slices of svm can be read")
    with pytest.raises(MissingStep, match="--method hirescam"):
        moved.explained("contrast")


def test_the_report_shows_the_scores(scored):
    section = explanation_section(SimpleNamespace(explanation=scored))
    html = "".join(section.parts)
    assert "all bleeds" in html
    assert html.count("<th") >= 6
    assert all(name in html for name in ("svm", "centre", "random network"))
    assert explanation_section(SimpleNamespace(explanation=None)) is None


def test_masks_that_a_run_keeps_go_before_those_beside_its_slices(run, tmp_path):
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    empty = mask_png(np.zeros((80, 70), bool))
    write_true_masks(other, {row.slice_id: empty for row in other.manifest()})
    assert localise(other, ["svm"])["slices"]["with_mask"] == 0
    write_true_masks(other, {})
    assert not (other.path / "masks").exists()


def test_without_masks_the_maps_are_perturbed_alone(run, tmp_path):
    result = localise(run, ["svm"], masks=tmp_path, device="cpu")
    assert result["slices"]["with_mask"] == 0
    assert "pointing" not in result["models"]["svm"]
    assert result["models"]["svm"]["perturbation"]["slices"] > 0


def test_what_cannot_be_scored_is_said(run):
    with pytest.raises(BadSettings, match=r"no model 'forest'\. There are: svm"):
        localise(run, ["forest"], device="cpu")
    manifest = run.manifest_path.read_text()
    try:
        run.manifest_path.write_text(manifest.replace(",haemorrhage,", ",,"))
        with pytest.raises(TooFewData, match=r"no test slice of .* is labelled haemorrhage"):
            localise(run, ["svm"], device="cpu")
    finally:
        run.manifest_path.write_text(manifest)


class TestCommand:
    def test_scores_are_printed(self, run, capsys):
        assert main(["explain", "--run", str(run), "--score", "--device", "cpu"]) == 0
        printed = capsys.readouterr().out
        assert "random network" in printed
        assert printed.splitlines()[-1].endswith("score.json")

    def test_the_likeliest_test_slices_are_drawn(self, run, capsys, tmp_path):
        arguments = ["--run", str(run), "--slices", "3", "--overlays", str(tmp_path / "o"), "--device", "cpu"]
        assert main(["explain", *arguments]) == 0
        pictures = sorted((tmp_path / "o").glob("*.png"))
        assert len(pictures) == 3
        collection = json.loads((tmp_path / "o" / "regions.geojson").read_text())
        assert collection["type"] == "FeatureCollection"
        assert (
            capsys.readouterr().out.splitlines()[-1] == f"3 overlays and regions.geojson -> {tmp_path / 'o'}"
        )

    def test_overlays_of_an_earlier_call_give_way_and_nothing_else(self, run, tmp_path):
        for count in ("3", "2"):
            arguments = ["--slices", count, "--overlays", str(tmp_path), "--device", "cpu"]
            assert main(["explain", "--run", str(run), *arguments]) == 0
            (tmp_path / "mine.png").touch()
        assert len(list(tmp_path.glob("0*.png"))) == 2
        assert (tmp_path / "mine.png").exists()

    @pytest.mark.parametrize(
        "arguments", [["--score", "."], ["--masks", "."], ["--head", "svm", "--head", "mlp"]]
    )
    def test_wrong_usage(self, run, arguments):
        assert main(["explain", "--run", str(run), *arguments]) == 2
