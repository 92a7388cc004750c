"""Networks trained on a run from the command line: what they leave behind, and what is refused."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cohorts import class_folders, gray_picture
from PIL import Image

from haemo.errors import BadSettings, MissingStep, TooFewData, WeightsUnavailable
from haemo.features.manifest import Manifest
from haemo.features.reading.formats import read_slice
from haemo.features.views.preprocess import Preprocessing
from haemo.models.training import loop as training_module
from haemo.models.training.cnn_extractor import load_extractor
from haemo.models.training.recipes import recipe_for
from haemo.pipeline.cli import main
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.copies import copies_of
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.trained.networkfolder import NetworkFolder
from haemo.pipeline.training.network import NetworkRequest, train_network
from haemo.pipeline.training.planes import decode_planes


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    data = class_folders(tmp_path / "data", patients=16, slices=2)
    assert main(["index", str(data), "--run", str(tmp_path / "run")]) == 0
    return RunDirectory(tmp_path / "run")


def test_tinyvgg_learns_and_leaves_everything_behind(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run")
    main(["index", str(class_folders(tmp_path / "data", patients=40, slices=3)), "--run", str(run)])
    options = ["--batch-size", "8", "--augment", "flip", "--seed", "1"]
    assert main(["tinyvgg", "--run", str(run), *options]) == 0
    said = capsys.readouterr()
    assert "written to" in said.out
    assert f"next: haemo compare --run {run}" in said.out
    folder = run.model_path("tinyvgg")
    assert {path.name for path in folder.iterdir()} == {
        "history.csv",
        "metrics.json",
        "model.safetensors",
        "predictions.csv",
        "scope.safetensors",
        "settings.json",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["roc_auc"] > 0.9
    history = NetworkFolder(folder).history()
    assert [epoch.epoch for epoch in history] == list(range(1, len(history) + 1))
    assert history[-1].train_loss < history[0].train_loss
    assert run.read_record()["steps"]["tinyvgg"]["split"] == Split.read(run.split_path).hash


def test_training_validation_and_test_are_other_patients_and_each_is_predicted_once(run):
    result = train_network(run, "tinyvgg", epochs=1)
    predictions, split = result.predictions, Split.read(run.split_path)
    rows = {row.slice_id: row for row in run.manifest()}
    sides = dict(zip(rows, split.parts(rows.values()), strict=True))
    folds = dict(zip(rows, split.fold_numbers(rows.values()), strict=True))
    validation = predictions.of_part("cv")
    assert {sides[name] for name in validation.slice_id} == {"train"}
    assert {folds[name] for name in validation.slice_id} == set(validation.fold) == {0}
    tested = predictions.of_part("test")
    assert sorted(tested.slice_id) == sorted(name for name in rows if sides[name] == "test")
    assert not set(tested.patient) & {rows[name].patient for name in rows if sides[name] == "train"}
    assert len(set(predictions.slice_id)) == len(predictions)
    assert result.facts["slices"]["fit"] == sum(folds[name] > 0 for name in rows)
    # The loss was balanced, and probabilities are for as many bleeds as there were.
    bleeds = sum(folds[name] > 0 for name in rows if rows[name].label == predictions.positive)
    share = bleeds / result.facts["slices"]["fit"]
    log_odds = np.log(predictions.probabilities / (1 - predictions.probabilities))
    np.testing.assert_allclose(log_odds - predictions.scores, np.log(share / (1 - share)), atol=1e-6)
    assert ((predictions.scores >= 0) == (predictions.predicted == predictions.positive)).all()
    known = run.predictions("tinyvgg")
    assert ((known.probabilities >= known.thresholds) == (known.predicted == known.positive)).all()


def test_the_test_slices_do_not_touch_the_weights(run):
    first = train_network(run, "tinyvgg", epochs=2)
    weights = NetworkFolder(run.model_path("tinyvgg")).network().network.state_dict()
    manifest = run.manifest()
    sides = Split.read(run.split_path).parts(manifest)
    for row, side in zip(manifest, sides, strict=True):
        if side == "test":
            Image.fromarray(gray_picture(1)).save(row.path)
    second = train_network(run, "tinyvgg", epochs=2)
    assert not second.up_to_date
    assert [replace(epoch, seconds=0) for epoch in second.history] == [
        replace(epoch, seconds=0) for epoch in first.history
    ]
    again = NetworkFolder(run.model_path("tinyvgg")).network().network.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_the_same_command_again_trains_nothing(run, capsys):
    first = train_network(run, "tinyvgg", epochs=2)
    second = train_network(run, "tinyvgg", epochs=2)
    third = train_network(run, "tinyvgg", epochs=2, seed=1)
    assert (first.up_to_date, second.up_to_date, third.up_to_date) == (False, True, False)
    assert second.facts == first.facts
    assert second.history == first.history
    np.testing.assert_array_equal(second.predictions.scores, first.predictions.scores)
    assert (third.predictions.scores != first.predictions.scores).any()


def test_how_often_the_test_slices_were_judged_is_kept(run, caplog):
    caplog.set_level("INFO", "haemo")
    for seed, expected in ((0, 1), (0, 1), (1, 2), (2, 3)):
        facts = train_network(run, "tinyvgg", epochs=1, seed=seed).facts
        assert facts["test_judgements"] == expected
    assert "tinyvgg: these test slices now judge setting number 3" in caplog.text
    assert run.read_record()["steps"]["tinyvgg"]["test_judgements"] == 3
    assert (
        train_network(run, "tinyvgg", epochs=1, seed=7, split=SplitRequest(new=True)).facts["test_judgements"]
        == 1
    )


def test_one_network_is_trained_by_one_process_at_a_time(run, capsys):
    with claim(run.path, "tinyvgg"):
        assert main(["tinyvgg", "--run", str(run), "--epochs", "1"]) == 1
        assert f"tinyvgg in {run} is in use by process {os.getpid()} on " in capsys.readouterr().err
        assert not run.model_path("tinyvgg").exists()
    assert main(["tinyvgg", "--run", str(run), "--epochs", "1"]) == 0


def test_a_stopped_command_goes_on_to_the_same_files(run, monkeypatch):
    monkeypatch.setattr(training_module, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    folder = run.model_path("tinyvgg")
    options = {"epochs": 6, "batch_size": 4, "augment": ("rotate", "flip", "crop")}
    train_network(run, "tinyvgg", **options)
    names = ("model.safetensors", "predictions.csv", "metrics.json")
    undisturbed = {name: (folder / name).read_bytes() for name in names}
    for path in folder.iterdir():
        path.unlink()

    def stop(items, *, total=None, label=""):
        for done, item in enumerate(items):
            if label == "tinyvgg" and done == 17:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        train_network(run, "tinyvgg", progress=stop, **options)
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    resumed = train_network(run, "tinyvgg", **options)
    assert len(resumed.history) == 6
    assert {name: (folder / name).read_bytes() for name in names} == undisturbed
    assert not (folder / "checkpoint.pt").exists()


def test_a_network_loads_in_a_fresh_process_to_the_same_scores(run):
    train_network(run, "tinyvgg", epochs=2)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "from haemo.features.manifest import Manifest\n"
        "from haemo.pipeline.trained.networkfolder import NetworkFolder\n"
        "from haemo.pipeline.training.planes import decode_planes\n"
        "from haemo.pipeline.run.predictions import Predictions\n"
        "run = Path(sys.argv[1])\n"
        "folder = NetworkFolder(run / 'tinyvgg')\n"
        "kept = Predictions.read(run / 'tinyvgg' / 'predictions.csv')\n"
        "rows = {row.slice_id: row for row in Manifest.read(run / 'manifest.csv')}\n"
        "chosen = [rows[name] for name in kept.slice_id]\n"
        "planes, _, _ = decode_planes(chosen, folder.preprocessing(), stage='test', scratch=run)\n"
        "network = folder.network()\n"
        "assert network.classes == kept.classes == ('normal', 'haemorrhage')\n"
        "assert (network.head().decision_function(network.logits(planes)) == kept.scores).all()\n"
        "print('equal')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout == "equal\n"


def test_an_unreadable_slice_is_named_and_the_rest_is_used(run, capsys):
    broken = sorted(row.path for row in run.manifest())[3]
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["tinyvgg", "--run", str(run), "--epochs", "1"]) == 3
    assert "1 slice could not be read" in capsys.readouterr().out
    assert f"{broken},tinyvgg," in run.failures_path.read_text()
    facts = NetworkFolder(run.model_path("tinyvgg")).facts()
    assert sum(facts["slices"].values()) == len(run.manifest()) - 1


def test_too_little_to_learn_from_is_said_plainly(tmp_path):
    data = class_folders(tmp_path / "data", patients=8, slices=1)
    run = RunDirectory(tmp_path / "run")
    main(["index", str(data), "--run", str(run)])
    train_network(run, "tinyvgg", epochs=1)
    split = Split.read(run.split_path)
    for row in run.manifest():
        if split.part[row.patient] == "train" and split.fold[row.patient] and row.label == "haemorrhage":
            row.path.write_bytes(b"")
    with pytest.raises(TooFewData, match="no haemorrhage slice to learn from"):
        train_network(run, "tinyvgg", epochs=1)


def test_a_run_that_is_not_indexed_names_the_command(tmp_path):
    with pytest.raises(MissingStep, match="haemo index DATA"):
        train_network(RunDirectory(tmp_path), "lenet")


def test_pretrained_weights_are_for_finetune_only(run):
    with pytest.raises(BadSettings, match="cnn starts from random weights"):
        train_network(run, "cnn", NetworkRequest(weights="trunk"))


def test_lenet_trains_on_crops_of_larger_planes(run):
    result = train_network(run, "lenet", epochs=1, augment=("crop",))
    assert result.facts["preprocessing"]["size"] == 139
    assert NetworkFolder(run.model_path("lenet")).network().plane_size == 139


def test_finetune_starts_from_the_file_it_is_given_and_keeps_what_is_frozen(run, tmp_path, caplog):
    from safetensors.torch import save_file

    from haemo.models.weights.imagenet import random_weights

    state = random_weights(3, "pool5").state_dict
    save_file(state, tmp_path / "trunk.safetensors")
    with caplog.at_level("WARNING", "haemo"):
        request = NetworkRequest(weights=str(tmp_path / "trunk.safetensors"), freeze_below="conv5")
        train_network(run, "finetune", request, epochs=1)
    assert "only the convolutional trunk" in caplog.text
    network = NetworkFolder(run.model_path("finetune")).network().network
    assert torch.equal(network.features.conv4.weight, state["features.8.weight"])
    assert not torch.equal(network.features.conv5.weight, state["features.10.weight"])


def test_the_cnn_gives_features_that_carry_its_split(run):
    train_network(run, "cnn", epochs=1)
    folder = NetworkFolder(run.model_path("cnn"))
    extractor = load_extractor(folder.path, "cpu")
    planes, _, _ = decode_planes(
        run.manifest().rows[:5], folder.preprocessing(), stage="test", scratch=run.path
    )
    embeddings = extractor(planes)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (5, extractor.dimension) == (5, 512)
    np.testing.assert_array_equal(extractor(planes[2:3])[0], embeddings[2])
    np.testing.assert_array_equal(
        np.concatenate(list(extractor.stream([planes[:3], planes[3:]]))), embeddings
    )
    assert extractor(planes[:0]).shape == (0, 512)
    assert extractor.describe()["split"] == Split.read(run.split_path).hash
    network = folder.network()
    last = network.network.classifier.fc6
    with torch.no_grad():
        logits = last(torch.from_numpy(embeddings)).numpy()
    np.testing.assert_allclose(logits, network.logits(planes), atol=1e-4)
    both = network.logits_and_activations(planes)
    np.testing.assert_array_equal(both[0], network.logits(planes))
    np.testing.assert_array_equal(both[1], embeddings)


def test_features_of_another_network_are_refused(run):
    train_network(run, "tinyvgg", epochs=1)
    with pytest.raises(WeightsUnavailable, match="only the scratch cnn"):
        load_extractor(run.model_path("tinyvgg"))


def test_planes_past_the_memory_limit_are_the_same_in_a_file(run, monkeypatch):
    rows = run.manifest().rows
    options = {"stage": "test", "scratch": run.path}
    small = Preprocessing(size=32)
    inside, _, _ = decode_planes(rows, small, **options)
    monkeypatch.setattr("haemo.pipeline.training.planes._BYTES_IN_MEMORY", 0)
    outside, usable, failures = decode_planes(rows, small, **options)
    assert isinstance(outside, np.memmap)
    np.testing.assert_array_equal(inside, outside)
    assert usable.all()
    assert not failures
    assert not [path for path in run.path.iterdir() if "tmp" in path.name], "the file has no name"


def test_planes_of_rotated_copies_stand_in_the_order_of_the_copies(run):
    rows, small = run.manifest().rows[:3], Preprocessing(size=33)
    options = {"stage": "test", "scratch": run.path}
    rows[1].path.write_bytes(b"no picture")
    planes, usable, failures = decode_planes(rows, small, rotations=True, **options)
    plain, _, _ = decode_planes(rows, small, **options)
    copies = copies_of(rows)
    assert planes.shape == (21, 33, 33)
    assert usable.tolist() == [copy.original != rows[1].slice_id for copy in copies]
    assert len(failures) == 1
    for place, copy in enumerate(copies):
        assert (planes[place] == copy.turned(plain[place % 3])).all()
    assert len({plane.tobytes() for plane in planes[usable]}) == 14


def test_a_network_under_the_paper_protocol_takes_every_copy_as_a_slice(run, capsys):
    assert main(["tinyvgg", "--run", str(run), "--protocol", "paper", "--epochs", "1"]) == 0
    said = capsys.readouterr()
    assert "slices and rotated copies to learn from" in said.err
    assert "on validation slices, LEAKY)" in said.out
    folder, split = NetworkFolder(run.model_path("tinyvgg")), Split.read(run.split_path)
    facts, found = folder.facts(), folder.predictions()
    copies = split.dealt(run.manifest())
    side = dict(zip((copy.slice_id for copy in copies), split.parts(copies), strict=True))
    fold = dict(zip((copy.slice_id for copy in copies), split.fold_numbers(copies), strict=True))
    assert facts["leaky"]
    assert "rotate" not in facts["settings"]["augment"], "copies are turned already"
    assert sorted(found.of_part("test").slice_id) == sorted(name for name in side if side[name] == "test")
    assert sorted(found.of_part("cv").slice_id) == sorted(name for name in fold if fold[name] == 0)
    # The score of a copy is that of its turned plane.
    originals = {row.slice_id: row for row in run.manifest()}
    planes = np.stack(
        [
            copy.turned(folder.preprocessing().plane(read_slice(originals[copy.original].path)))
            for copy in copies
        ]
    )
    network = folder.network()
    scores = dict(zip(side, network.head().decision_function(network.logits(planes)), strict=True))
    np.testing.assert_allclose(found.scores, [scores[name] for name in found.slice_id], atol=1e-6)
    assert main(["explain", "--run", str(run), "--head", "tinyvgg", "--slices", "2"]) == 0


@pytest.mark.parametrize("name", ["cnn", "finetune"])
def test_what_a_network_trains_on_under_the_paper_protocol_is_not_turned_again(run, monkeypatch, name):
    """These two turn their slices at random by default; `Batches.training` is what reaches the network."""

    class Enough(Exception):
        pass

    def stand_in(network, data, settings, **options):
        chosen, batches = data.fit[:16], data.batches
        plain = {
            row: inputs[place].numpy()
            for inputs, rows in batches.evaluation(chosen)
            for place, row in enumerate(rows)
        }
        inputs, rows = next(batches.training(chosen, len(chosen), np.random.default_rng(0)))
        assert sorted(rows) == sorted(chosen)
        for found, row in zip(inputs.numpy(), rows, strict=True):
            assert (found == plain[row]).all() or (found == plain[row][..., ::-1]).all(), "but mirrored"
        raise Enough

    monkeypatch.setattr(training_module, "train", stand_in)
    assert "rotate" in recipe_for(name).settings.augment
    arguments = [name, "--run", str(run), "--protocol", "paper"]
    with pytest.raises(Enough):
        main([*arguments, "--weights", "random"] if name == "finetune" else arguments)


def test_a_network_under_the_lenet_protocol_is_stopped_by_the_test_slices(run, capsys):
    assert main(["tinyvgg", "--run", str(run), "--protocol", "lenet", "--epochs", "2"]) == 0
    result = train_network(run, "tinyvgg", epochs=2)
    assert result.up_to_date
    split, rows = Split.read(run.split_path), run.manifest().rows
    sides = split.parts(rows)
    tested = [row.slice_id for row, side in zip(rows, sides, strict=True) if side == "test"]
    assert sorted(result.predictions.slice_id) == sorted(tested)
    assert set(result.predictions.part) == {"test"} == set(result.metrics), "none was held out besides"
    assert result.facts["slices"] == {
        "fit": int((sides == "train").sum()),
        "validation": len(tested),
        "test": len(tested),
    }
    said = capsys.readouterr().out
    assert "test (95% interval)" in said
    assert "validation  " not in said
    assert main(["report", "--run", str(run), "--resamples", "100"]) == 0
    assert "out of fold" not in (run.path / "report.html").read_text()


def test_several_classes_are_predicted_with_a_probability_each(run):
    manifest = run.manifest()
    third = {row.patient for row in manifest if int(row.patient[1:]) % 3 == 0}
    Manifest(replace(row, label="infarct") if row.patient in third else row for row in manifest).write(
        run.manifest_path
    )
    predictions = train_network(run, "tinyvgg", epochs=1).predictions
    assert predictions.classes == ("haemorrhage", "infarct", "normal")
    assert predictions.probabilities.shape == (len(predictions), 3)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)


@pytest.mark.numerical
@pytest.mark.parametrize("crop", ["none", "head"])
def test_predict_gives_every_slice_the_score_that_it_had_after_training(run, tmp_path, capsys, crop):
    assert main(["tinyvgg", "--run", str(run), "--epochs", "2", "--crop", crop]) == 0
    assert NetworkFolder(run.model_path("tinyvgg")).preprocessing().crop == crop
    kept = NetworkFolder(run.model_path("tinyvgg")).predictions()
    capsys.readouterr()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    data = run.manifest().rows[0].path.parents[2]
    out = tmp_path / "scores.csv"
    command = ["predict", "--run", str(run), "--head", "tinyvgg", str(data), str(broken), "--out", str(out)]
    assert main(command) == 3
    assert str(broken) in capsys.readouterr().err
    with out.open(newline="") as stream:
        scored = {row["path"]: row for row in csv.DictReader(stream)}
    paths = {row.slice_id: str(row.path) for row in run.manifest()}
    assert len(scored) == len(paths)
    for slice_id, score, chance, predicted in zip(
        kept.slice_id, kept.scores, kept.probabilities, kept.predicted, strict=True
    ):
        row = scored[paths[slice_id]]
        assert (float(row["score"]), float(row["probability"]), row["predicted"]) == (
            score,
            chance,
            predicted,
        )


def test_what_the_network_was_given_is_known_when_it_predicts_and_what_is_unlike_it_flagged(
    run, tmp_path, capsys
):
    train_network(run, "tinyvgg", epochs=2)
    odd = tmp_path / "odd.png"
    Image.fromarray(np.tile(np.uint8([[5], [250]]), (32, 64))).save(odd)
    predictions = NetworkFolder(run.model_path("tinyvgg")).predictions()
    paths = {row.slice_id: row.path for row in run.manifest()}
    known = [str(path) for name, path in paths.items() if name not in predictions.slice_id]
    command = ["predict", "--run", str(run), "--head", "tinyvgg", "--json", *known, str(odd)]
    capsys.readouterr()
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["distance_checked"]
    outside = {row["path"]: row["outside"] for row in answer["slices"]}
    assert "unlike the training slices (distance " in outside.pop(str(odd))
    assert set(outside.values()) == {""}


def test_a_network_without_a_record_of_its_training_slices_predicts_and_says_so(run, capsys):
    train_network(run, "tinyvgg", epochs=1)
    path = run.model_path("tinyvgg") / "scope.safetensors"
    command = ["predict", "--run", str(run), "--head", "tinyvgg", str(run.manifest().rows[0].path)]
    capsys.readouterr()
    assert main(command) == 0
    assert "not checked" not in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:50])
    assert main(command) == 1
    assert "scope.safetensors is damaged" in capsys.readouterr().err
    path.unlink()
    assert main(command) == 0
    assert "not checked: how far slices are from the training slices" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["distance_checked"] is False


def test_the_threshold_of_a_prediction_may_be_another(run, capsys):
    train_network(run, "tinyvgg", epochs=1)
    path = str(run.manifest().rows[0].path)
    capsys.readouterr()
    found = {}
    for threshold in ("0.001", "0.999"):
        command = [
            "predict",
            "--run",
            str(run),
            "--head",
            "tinyvgg",
            "--json",
            "--threshold",
            threshold,
            path,
        ]
        assert main(command) == 0
        found[threshold] = json.loads(capsys.readouterr().out)["slices"][0]["predicted"]
    assert found == {"0.001": "haemorrhage", "0.999": "normal"}


def test_a_network_needs_nothing_of_its_run_but_its_folder(run, tmp_path, caplog):
    train_network(run, "tinyvgg", epochs=1)
    moved = RunDirectory(tmp_path / "moved")
    shutil.copytree(run.model_path("tinyvgg"), moved.model_path("tinyvgg"))
    paths = [row.path for row in run.manifest()][:3]
    here, there = (predict(one, "tinyvgg", paths, device="cpu") for one in (run, moved))
    np.testing.assert_array_equal(there.scores, here.scores)
    assert load_model(moved, "tinyvgg", "cpu").explained()[1] == "hirescam"
    assert "tinyvgg comes without its training slices" in caplog.text


def test_predicting_with_a_network_that_is_not_there_names_the_command(run, capsys):
    assert main(["predict", "--run", str(run), "--head", "cnn", str(run.manifest().rows[0].path)]) == 1
    assert f"train that network first: haemo cnn --run {run}" in capsys.readouterr().err


def test_heads_train_on_the_features_of_the_scratch_cnn_and_predict_with_it(run, capsys):
    train_network(run, "cnn", epochs=1)
    command = ["features", "--run", str(run), "--network", "cnn", "--weights", str(run.model_path("cnn"))]
    assert main(command) == 0
    assert "32 new" in capsys.readouterr().out
    assert main([*command]) == 0
    assert "32 cached" in capsys.readouterr().out
    assert main(["softmax", "--run", str(run), "--C", "1e-3"]) == 0
    assert "has learned from the training patients" in capsys.readouterr().err
    kept = Predictions.read(run.model_path("softmax") / "predictions.csv").of_part("test")
    paths = {row.slice_id: str(row.path) for row in run.manifest()}
    capsys.readouterr()
    assert main(["predict", "--run", str(run), "--head", "softmax", "--json", paths[kept.slice_id[0]]]) == 0
    assert json.loads(capsys.readouterr().out)["slices"][0]["score"] == kept.scores[0]


def test_features_of_a_cnn_that_saw_another_split_are_refused(run, capsys):
    train_network(run, "cnn", epochs=1)
    command = ["features", "--run", str(run), "--network", "cnn", "--weights", str(run.model_path("cnn"))]
    assert main(command) == 0
    train_network(run, "tinyvgg", epochs=1, seed=7, split=SplitRequest(new=True))
    capsys.readouterr()
    assert main(["svm", "--run", str(run)]) == 1
    assert "has seen the training patients of one split" in capsys.readouterr().err
    assert main(command) == 1
    assert "cannot be used with another split" in capsys.readouterr().err
    assert main(["leakage", "--run", str(run)]) == 1
    assert "cannot be used with splits drawn anew" in capsys.readouterr().err
    run.split_path.unlink()
    assert main(command) == 1
    assert "haemo cnn --run" in capsys.readouterr().err


def test_options_of_alexnet_do_not_go_with_the_scratch_cnn(run, capsys):
    command = ["features", "--run", str(run), "--network", "cnn"]
    assert main(command) == 2
    assert "needs --weights FOLDER" in capsys.readouterr().err
    assert main([*command, "--weights", "x", "--layer", "fc6"]) == 2
    assert "--layer is for AlexNet" in capsys.readouterr().err
    assert main([*command, "--weights", "x", "--crop", "head"]) == 2
    assert "--crop is for AlexNet" in capsys.readouterr().err
