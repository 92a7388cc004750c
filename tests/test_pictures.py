"""`haemo summary` and `haemo plot`: tables and pictures that show what they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cohorts import class_folders
from PIL import Image

from haemo.models.training.history import Epoch
from haemo.models.training.recipes import build, recipe_for
from haemo.models.training.trained import TrainedNetwork
from haemo.pipeline.cli import main
from haemo.pipeline.report.pictures import learning_curves, save_figure
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.training.network import train_network


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    root = tmp_path_factory.mktemp("pictures")
    data = class_folders(root / "data", patients=16, slices=2)
    main(["-q", "index", str(data), "--run", str(root / "run")])
    run = RunDirectory(root / "run")
    train_network(run, "tinyvgg", epochs=3)
    return run


def test_the_summary_prints_the_published_totals(capsys):
    assert main(["summary", "tinyvgg"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["conv2", "Conv2d", "10x64x64", "910", "3,727,360"] in lines
    assert ["total", "8,132", "6,743,042"] in lines


def test_the_trunk_is_a_summary_of_finetune_only(capsys):
    assert main(["summary", "finetune", "--trunk"]) == 0
    assert "fc7" not in capsys.readouterr().out
    assert main(["summary", "lenet", "--trunk"]) == 2


@pytest.mark.parametrize("kind", ["curves", "kernels", "maps", "samples", "transforms"])
def test_every_picture_is_a_png_and_the_same_each_time(run, tmp_path, capsys, kind):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for path in (first, second):
        assert main(["plot", kind, "--run", str(run), "--out", str(path)]) == 0
    assert f"written to {second}" in capsys.readouterr().out
    picture = np.asarray(Image.open(first).convert("L"))
    assert picture.std() > 10, "something is drawn"
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_that_is_not_there_is_named_before_the_run_is_read(tmp_path, capsys):
    command = ["plot", "samples", "--run", str(tmp_path / "no run"), "--out", str(tmp_path / "x" / "a.png")]
    assert main(command) == 2
    assert f"there is no folder {tmp_path / 'x'}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pictures_go_to_the_run_by_default(run):
    assert main(["plot", "maps", "--run", str(run)]) == 0
    assert (run.path / "pictures" / "maps-tinyvgg.png").exists()


def test_what_is_not_there_is_named(run, capsys):
    assert main(["plot", "curves", "--run", str(run), "--network", "cnn"]) == 1
    assert "haemo cnn --run" in capsys.readouterr().err
    assert main(["plot", "maps", "--run", str(run), "--slice", "nobody.png"]) == 2
    assert "no such slice_id" in capsys.readouterr().err
    main(["-q", "index", str(Path(run.manifest().rows[0].path).parents[2]), "--run", str(run.path / "new")])
    assert main(["plot", "curves", "--run", str(run.path / "new")]) == 1
    assert "has no trained network" in capsys.readouterr().err


def test_learning_curves_hold_the_numbers_of_the_history():
    history = [Epoch(1, 0.9, 0.5, 0.8, 0.6, 1e-3, 1.0), Epoch(2, 0.4, 0.9, 0.7, 0.7, 1e-3, 1.0)]
    figure = learning_curves({"cnn": history, "lenet": history})
    loss, accuracy = figure.axes[0], figure.axes[2]
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [[0.9, 0.4], [0.8, 0.7]]
    assert [list(line.get_ydata()) for line in accuracy.lines[:2]] == [[0.5, 0.9], [0.6, 0.7]]
    assert loss.get_title().endswith("kept: epoch 2")


def test_one_epoch_still_shows(tmp_path):
    figure = learning_curves({"cnn": [Epoch(1, 0.9, 0.5, 0.8, 0.6, 1e-3, 1.0)]})
    save_figure(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 0


def as_trained(name: str) -> TrainedNetwork:
    recipe = recipe_for(name)
    facts = {"settings": recipe.settings.describe()}
    return TrainedNetwork(build(name, 2, trunk=True), recipe, ("normal", "bleed"), facts)


def test_feature_maps_are_those_that_the_network_computes():
    trained = as_trained("cnn")
    plane = np.random.default_rng(0).integers(0, 256, (227, 227), dtype=np.uint8)
    maps = trained.feature_maps(plane)
    assert {name: found.shape for name, found in maps.items()} == {
        "conv1": (48, 55, 55),
        "conv2": (96, 27, 27),
        "conv3": (128, 13, 13),
        "conv4": (128, 13, 13),
    }
    inputs = torch.from_numpy((plane / 255 - 0.5) / 0.5).float().expand(1, 3, 227, 227)
    with torch.no_grad():
        expected = trained.network.features.conv1(inputs).relu()[0].numpy()
    np.testing.assert_allclose(maps["conv1"], expected, atol=1e-4)
    assert all((found >= 0).all() for found in maps.values())


@pytest.mark.parametrize("name", ["finetune", "lenet"])
def test_kernels_are_what_acts_on_gray_levels(name):
    """A step of gray, far from the border, is answered by the kernel's own sums."""
    trained = as_trained(name)
    conv1 = trained.network.features.conv1
    kernels = trained.kernels()
    std = torch.tensor(trained.recipe.std).view(1, -1, 1, 1)
    gray = torch.rand(1, 1, *kernels.shape[1:])
    with torch.no_grad():
        answer = torch.nn.functional.conv2d(gray / std, conv1.weight)[0, :, 0, 0].numpy()
    np.testing.assert_allclose((kernels * gray[0].numpy()).sum(axis=(1, 2)), answer, atol=1e-3)
