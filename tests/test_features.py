"""The command ``haemo features``: what it says, what it leaves, and how it is refused."""

import errno
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_ins import SIZE, NamedNetwork, embed, folder_manifest, put_in_place, write_slices

from haemo.errors import BadDataset, FingerprintMismatch, MissingStep, TooFewData
from haemo.features.failures import Failure, read_failures
from haemo.features.reading.formats import read_slice
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.features.views.augment import rotate_planes
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.engine import Engine
from haemo.pipeline.cli import main
from haemo.pipeline.preparing.extraction import (
    ExtractionSettings,
    command_anew,
    load_stage_one,
    make_features,
    stage_one_of,
)
from haemo.pipeline.preparing.imports import import_features
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create()
    folder_manifest(write_slices(tmp_path / "slices", 20)).write(run.manifest_path)
    return run


@pytest.fixture
def network(monkeypatch):
    """Puts a stand-in in the network's place; its seed is the seed of the settings."""
    put_in_place(monkeypatch)


@pytest.mark.usefixtures("network")
class TestCommand:
    def test_the_last_line_counts(self, run, capsys):
        assert main(["features", "--run", str(run)]) == 0
        assert capsys.readouterr().out == "0 cached, 20 new, 0 failed\n"
        assert main(["features", "--run", str(run)]) == 0
        assert capsys.readouterr().out == "20 cached, 0 new, 0 failed\n"

    def test_unusable_slices_are_counted_and_listed(self, run, capsys, tmp_path):
        (tmp_path / "slices" / "004.png").write_bytes(b"spoilt")
        assert main(["features", "--run", str(run)]) == 3
        assert capsys.readouterr().out == f"0 cached, 19 new, 1 failed (see {run}/failures.csv)\n"
        (failure,) = read_failures(run.failures_path)
        assert (Path(failure.path).name, failure.stage) == ("004.png", "features")

        write_slices(tmp_path / "slices", 20)
        assert main(["features", "--run", str(run)]) == 0
        assert read_failures(run.failures_path) == []

    def test_slices_with_equal_pixels_are_pointed_out(self, run, capsys, tmp_path):
        picture = tmp_path / "slices" / "000.png"
        (tmp_path / "slices" / "001.png").write_bytes(picture.read_bytes())
        assert main(["features", "--run", str(run)]) == 0
        said = capsys.readouterr()
        assert said.out == "0 cached, 20 new, 0 failed\n"
        assert "1 of the slices has the pixels of another one and shares its embedding" in said.err

    def test_colour_pictures_are_counted(self, run, capsys, tmp_path):
        pixels = np.random.default_rng(1).integers(0, 256, (30, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "slices" / "003.png")
        assert main(["features", "--run", str(run)]) == 0
        assert "1 of the slices was a colour picture and was converted to gray" in capsys.readouterr().err

    def test_options_left_out_are_as_the_features_were_made(self, run, capsys, tmp_path):
        assert main(["features", "--run", str(run), "--seed", "3", "--rotations", "paper"]) == 0
        write_slices(tmp_path / "slices", 22)
        folder_manifest(tmp_path / "slices").write(run.manifest_path)
        capsys.readouterr()
        assert main(["features", "--run", str(run)]) == 0
        said = capsys.readouterr()
        assert "as in this run so far: seed 3, rotations paper" in said.err
        assert said.out == "20 cached, 2 new, 0 failed\n"
        with FeatureStore(run.store_path) as store:
            assert len(store) == 22 * 7

    def test_a_crop_is_kept_and_another_one_refused_by_name(self, run, capsys):
        assert main(["features", "--run", str(run), "--crop", "head"]) == 0
        capsys.readouterr()
        assert main(["features", "--run", str(run)]) == 0
        said = capsys.readouterr()
        assert "as in this run so far: crop head" in said.err
        assert said.out == "20 cached, 0 new, 0 failed\n"
        assert stage_one_of(run)[1] == Preprocessing(size=SIZE, crop="head")
        assert main(["features", "--run", str(run), "--crop", "none"]) == 1
        assert "preprocessing.crop is 'head', asked for none" in capsys.readouterr().err

    def test_a_recipe_is_a_name_for_options(self, run, capsys, tmp_path):
        other = RunDirectory(tmp_path / "other")
        other.create()
        run.manifest().write(other.manifest_path)
        assert main(["features", "--run", str(run), "--recipe", "best"]) == 0
        assert "recipe: best (crop head, upright, mirror, layer " in capsys.readouterr().err
        layer = run.read_record()["steps"]["features"]["settings"]["layer"]
        typed = ["--crop", "head", "--upright", "--mirror", "--layer", layer]
        assert main(["features", "--run", str(other), *typed]) == 0
        assert "recipe: best (" in capsys.readouterr().err
        assert run.store_path.read_bytes() == other.store_path.read_bytes()
        assert sorted(shlex.split(command_anew(run))[5:]) == sorted(typed)

        assert main(["features", "--run", str(run)]) == 0
        said = capsys.readouterr()
        assert f"as in this run so far: crop head, layer {layer}, mirror, upright" in said.err
        assert said.out == "20 cached, 0 new, 0 failed\n"
        extractor, preprocessing = stage_one_of(run)
        assert (extractor.dimension, preprocessing.upright) == (32, True)

    def test_the_published_recipe_is_the_default_and_its_stores_are_as_they_were(self, run, capsys, tmp_path):
        assert main(["features", "--run", str(run)]) == 0
        before = run.store_path.read_bytes()
        assert (
            "recipe: paper (crop none, no upright, no mirror, layer fc7, one window)"
            in capsys.readouterr().err
        )
        assert main(["features", "--run", str(run), "--recipe", "paper", "--new"]) == 0
        assert run.store_path.read_bytes() == before
        with FeatureStore(run.store_path) as store:
            # What the first stores of this network have.
            assert store.fingerprint.hash.startswith("beec051ddfed509e")

    def test_a_store_of_one_recipe_refuses_the_other(self, run, capsys):
        assert main(["features", "--run", str(run), "--recipe", "best"]) == 0
        capsys.readouterr()
        assert main(["features", "--run", str(run), "--recipe", "paper"]) == 1
        said = capsys.readouterr().err
        for difference in ("mirror is 'a + b, |a - b|'", "preprocessing.upright is True", "crop is 'head'"):
            assert f"{difference}, asked for none" in said
        assert main(["features", "--run", str(run), "--no-mirror"]) == 1
        assert "mirror is 'a + b, |a - b|', asked for none" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["best", "--no-mirror"], "recipe best has mirror, and no mirror was given"),
            (["best", "--crop", "none"], "recipe best has crop head, and crop none was given"),
            (["best", "--layer", "fc6"], "and layer fc6 was given"),
            (["paper", "--upright"], "recipe paper has no upright, and upright was given"),
            (["builtin", "--weights", "auto"], "recipe builtin has weights builtin, and weights auto was"),
            (["best", "--weights", "builtin"], "recipe best has weights imagenet, and weights builtin was"),
            (["builtin", "--network", "torchvision:resnet18"], "recipe builtin has weights of AlexNet"),
        ],
    )
    def test_an_option_that_contradicts_a_recipe_is_refused(self, run, capsys, options, message):
        assert main(["features", "--run", str(run), "--recipe", *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert not run.store_path.exists()

    def test_a_recipe_brings_its_weights_and_no_others(self, run, capsys):
        assert main(["features", "--run", str(run), "--recipe", "builtin"]) == 0
        said = "recipe: builtin (crop head, upright, mirror, layer pool4, one window, weights builtin)"
        assert said in capsys.readouterr().err
        assert run.read_record()["steps"]["features"]["settings"]["weights"] == "builtin"
        assert "--weights builtin" in command_anew(run)
        assert main(["features", "--run", str(run)]) == 0
        assert said in capsys.readouterr().err
        assert main(["features", "--run", str(run), "--recipe", "best"]) == 0
        assert "recipe: best (crop head, upright, mirror, layer pool3, one window)" in capsys.readouterr().err
        assert run.read_record()["steps"]["features"]["settings"]["weights"] == "auto"

    def test_options_that_agree_with_a_recipe_may_stand_beside_it(self, run):
        assert main(["features", "--run", str(run), "--recipe", "best", "--mirror", "--crop", "head"]) == 0

    def test_the_layer_of_a_recipe_is_that_of_alexnet(self, run):
        network = ["--network", "torchvision:resnet18"]
        assert main(["features", "--run", str(run), "--recipe", "best", *network, "--layer", "layer4"]) == 0
        step = run.read_record()["steps"]["features"]
        assert (step["settings"]["layer"], step["recipe"]) == ("layer4", "best")

    def test_slices_without_a_midline_are_counted(self, run, capsys, tmp_path):
        Image.fromarray(np.zeros((30, 28), dtype=np.uint8)).save(tmp_path / "slices" / "003.png")
        assert main(["features", "--run", str(run), "--upright"]) == 0
        count = run.read_record()["steps"]["features"]["slices"]["askew"]
        assert count >= 1
        assert f"no clear midline was found on {count} of the slices" in capsys.readouterr().err

    def test_rotated_copies_have_mirror_images_too(self, run):
        assert main(["features", "--run", str(run), "--mirror", "--rotations", "paper"]) == 0
        rows = run.manifest().rows
        with FeatureStore(run.store_path) as store:
            assert len(store) == 140
            turned = store.embeddings([rows[4].slice_id], variant=3)[0]
        plane = Preprocessing(size=SIZE).plane(read_slice(rows[4].path))
        copy = rotate_planes(plane[None])[0, 3]
        one, other = embed(NamedNetwork(), np.stack([copy, copy[:, ::-1]]))
        np.testing.assert_array_equal(turned, np.concatenate([one + other, np.abs(one - other)]))

    def test_features_from_before_there_was_a_crop_are_carried_on(self, run, capsys):
        main(["features", "--run", str(run)])
        record = run.read_record()
        for name in ("crop", "upright", "mirror"):
            del record["steps"]["features"]["settings"][name]
        run.record_path.write_text(json.dumps(record))
        capsys.readouterr()
        assert main(["features", "--run", str(run)]) == 0
        assert capsys.readouterr().out == "20 cached, 0 new, 0 failed\n"

    def test_new_features_start_from_the_defaults(self, run, capsys):
        assert main(["features", "--run", str(run), "--seed", "3"]) == 0
        assert main(["features", "--run", str(run), "--new"]) == 0
        assert "as in this run so far" not in capsys.readouterr().err
        assert run.read_record()["steps"]["features"]["settings"]["seed"] == 0

    def test_what_was_done_is_recorded(self, run):
        assert main(["features", "--run", str(run), "--rotations", "paper", "--window", "subdural"]) == 0
        step = run.read_record()["steps"]["features"]
        assert step["slices"] == {
            "cached": 0,
            "shared": 0,
            "computed": 20,
            "colour": 0,
            "failed": 0,
        }
        assert step["embeddings"] == 140
        assert step["settings"]["window"] == "subdural"
        assert (step["weights"], step["engine"]) == ("made up", "cpu float32 contiguous")
        with FeatureStore(run.store_path) as store:
            assert store.fingerprint.facts == step["fingerprint"]
            assert store.notes == {"engine": "cpu float32 contiguous", "batch": "8"}

    def test_other_settings_are_refused(self, run, capsys):
        main(["features", "--run", str(run)])
        assert main(["features", "--run", str(run), "--seed", "1"]) == 1
        assert "weights is '0', asked for '1'" in capsys.readouterr().err
        assert main(["features", "--run", str(run), "--seed", "1", "--new"]) == 0

    def test_a_run_in_use_is_refused(self, run, capsys):
        with claim(run.path):
            assert main(["features", "--run", str(run)]) == 1
        assert f"in use by process {os.getpid()}" in capsys.readouterr().err

    def test_a_run_without_a_manifest_is_refused(self, tmp_path, capsys):
        assert main(["features", "--run", str(tmp_path / "x")]) == 1
        assert "haemo index DATA" in capsys.readouterr().err

    def test_a_disk_that_cannot_be_written_is_named(self, run, capsys, monkeypatch):
        def refuse(path, *arguments, **options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr("haemo.pipeline.run.claim.os.open", refuse)
        assert main(["features", "--run", str(run)]) == 1
        assert capsys.readouterr().err == f"error: {run}/.features.claim: Read-only file system\n"

    def test_a_full_disk_is_named_with_what_to_do(self, run, capsys, monkeypatch):
        def refuse(path, *arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr("haemo.features.store.shards.write_store_file", refuse)
        assert main(["features", "--run", str(run)]) == 1
        assert capsys.readouterr().err == (
            "warning: the disk is full; make room, and the same command goes on from what was finished\n"
            f"error: {run}/features.parts/part-000001.h5: No space left on device\n"
        )

    def test_without_a_usable_slice_it_fails_and_says_why(self, run, tmp_path):
        for path in (tmp_path / "slices").iterdir():
            path.write_bytes(b"")
        with pytest.raises(TooFewData, match=r"none of the 20 slices .*000\.png: the file is empty"):
            make_features(run, ExtractionSettings())
        assert len(read_failures(run.failures_path)) == 20

    def test_data_that_has_moved_is_told_from_data_that_is_spoilt(self, run, capsys, tmp_path):
        assert main(["features", "--run", str(run.path)]) == 0
        gone = tmp_path / "slices" / "004.png"
        gone.rename(tmp_path / "004.png")
        assert main(["features", "--run", str(run.path)]) == 3
        remedy = f"not there any more; if the data has moved: haemo index NEWPLACE --run {run.path}"
        assert f"warning: 1 of the files is {remedy}" in capsys.readouterr().err
        (tmp_path / "slices").rename(tmp_path / "moved")
        assert main(["features", "--run", str(run.path)]) == 1
        assert capsys.readouterr().err.endswith(f"\n20 of the files are {remedy}\n")
        with FeatureStore(run.store_path) as store:
            assert store.covers(run.manifest().rows).all()

    @pytest.mark.parametrize("keep", [0, 700])
    def test_the_way_out_of_a_damaged_store_knows_how_it_was_made(self, run, capsys, keep):
        options = ["--layer", "pool5", "--weights", "a b.pth", "--seed", "3", "--rotations", "paper"]
        assert main(["features", "--run", str(run.path), *options]) == 0
        whole = run.store_path.read_bytes()
        run.store_path.write_bytes(whole[:keep])
        for command in ("features", "verify", "verify --repair") if keep else ("features", "verify"):
            capsys.readouterr()
            assert main([*command.split(), "--run", str(run.path)]) == 1
            said = capsys.readouterr().err
            assert ("features.h5 is empty" in said) == (keep == 0)
            if keep and command == "features":
                assert f"haemo verify --run {run} --repair" in said
                continue
            typed = shlex.split(said.rpartition("make the features anew: ")[2])
            assert typed[:5] == ["haemo", "features", "--run", str(run.path), "--new"]
            assert sorted(typed[5:]) == sorted(options)
        assert main(typed[1:]) == 0
        assert run.store_path.read_bytes() == whole

    def test_an_empty_manifest_is_said_to_be_empty(self, tmp_path, run):
        run.manifest_path.write_text(run.manifest_path.read_text().splitlines()[0] + "\n")
        with pytest.raises(TooFewData, match="lists no slices"):
            make_features(run, ExtractionSettings())

    def test_new_slices_meet_the_same_network(self, run):
        main(["features", "--run", str(run), "--seed", "3"])
        extractor, preprocessing = stage_one_of(run)
        assert extractor.seed == 3
        assert preprocessing == Preprocessing(size=SIZE)

    def test_new_slices_do_not_meet_other_weights(self, run, monkeypatch):
        main(["features", "--run", str(run)])
        monkeypatch.setattr(NamedNetwork, "describe", lambda self: {"weights": "changed"})
        with pytest.raises(FingerprintMismatch, match=r"asked for 'changed'.* bring back the weights"):
            stage_one_of(run)


@pytest.mark.usefixtures("network")
class TestImport:
    def test_embeddings_come_with_a_fingerprint_of_their_own(self, run, capsys, tmp_path):
        names = [row.slice_id for row in run.manifest()]
        embeddings = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
        create_store(tmp_path / "made.h5", names[::-1], embeddings, Fingerprint({}))
        assert main(["features", "--run", str(run), "--import", str(tmp_path / "made.h5")]) == 0
        assert capsys.readouterr().out == "20 embeddings of 5 numbers imported\n"
        with FeatureStore(run.store_path) as store:
            np.testing.assert_array_equal(store.embeddings(names), embeddings[::-1])
            assert store.fingerprint.facts["imported"] == "made.h5"
        with pytest.raises(MissingStep, match="imported"):
            stage_one_of(run)
        with pytest.raises(FingerprintMismatch, match="--new"):
            make_features(run, ExtractionSettings())

    def test_the_way_out_of_a_damaged_import_is_to_import_again(self, run, tmp_path):
        create_store(tmp_path / "made.h5", ["000.png"], np.ones((1, 4), np.float32), Fingerprint({}))
        import_features(run, tmp_path / "made.h5")
        assert command_anew(run) == f"haemo features --run {run} --new --import {tmp_path}/made.h5"

    def test_an_array_comes_with_its_ids_beside_it(self, run, capsys, tmp_path):
        names = [row.slice_id for row in run.manifest()][:15]
        np.save(tmp_path / "made.npy", np.ones((16, 4), np.float32))
        (tmp_path / "made.txt").write_text("\n".join([*names, "stranger"]))
        assert main(["features", "--run", str(run), "--import", str(tmp_path / "made.npy")]) == 3
        said = capsys.readouterr()
        assert said.out == "15 embeddings of 4 numbers imported, 5 slices of the manifest have none\n"
        assert "1 of 16 embeddings are of no slice of the run" in said.err
        assert read_failures(run.failures_path)[0] == Failure(
            str(tmp_path / "slices" / "015.png"), "features", "not in made.npy"
        )

    def test_it_replaces_other_features_only_when_told_to(self, run, tmp_path):
        make_features(run, ExtractionSettings())
        np.save(tmp_path / "made.npy", np.ones((1, 4), np.float32))
        (tmp_path / "made.txt").write_text("000.png\n")
        with pytest.raises(FingerprintMismatch, match="--new"):
            import_features(run, tmp_path / "made.npy")
        assert import_features(run, tmp_path / "made.npy", new=True).rows == 1

    @pytest.mark.parametrize(
        ("ids", "array", "reason"),
        [
            ("x\ny\n", np.ones((2, 4)), "not one of its slice ids"),
            ("000.png\n", np.ones((2, 4)), "1 slice ids do not fit"),
            ("000.png\n", np.ones(1), "do not fit"),
            ("000.png\n", np.full((1, 4), np.nan), "not finite"),
            ("", np.ones((0, 4)), "do not fit"),
            (None, np.ones((1, 4)), "cannot be imported"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, run, tmp_path, ids, array, reason):
        np.save(tmp_path / "made.npy", array)
        if ids is not None:
            (tmp_path / "made.txt").write_text(ids)
        with pytest.raises(BadDataset, match=reason):
            import_features(run, tmp_path / "made.npy")
        assert not run.store_path.exists()

    @pytest.mark.parametrize("name", ["made.h5", "made.npy", "made.csv"])
    def test_a_file_of_another_kind_is_refused(self, run, tmp_path, name):
        (tmp_path / name).write_text("something else")
        with pytest.raises(BadDataset, match="import"):
            import_features(run, tmp_path / name)


class TestEngine:
    @pytest.fixture
    def asked(self, monkeypatch):
        """What `load_extractor` is asked for."""
        asked = {}

        def load(weights, layer, precision, device, *, engine, batch):
            asked.update(precision=precision, device=device, engine=engine, batch=batch)
            return NamedNetwork()

        monkeypatch.setattr("haemo.models.networks.alexnet.load_extractor", load)
        monkeypatch.setattr("haemo.models.weights.imagenet.resolve_weights", lambda *arguments: None)
        return asked

    def test_a_store_is_carried_on_with_its_own_engine(self, asked):
        notes = {"engine": "cpu float32 contiguous", "batch": "16"}
        load_stage_one(ExtractionSettings(precision="float32", device="cpu"), notes)
        assert asked["engine"] == Engine("cpu", "float32", "contiguous")
        assert asked["batch"] == 16

    def test_not_where_another_precision_or_device_is_asked_for(self, asked):
        for engine in ("cpu bfloat16 contiguous", "cuda float32 channels_last"):
            notes = {"engine": engine, "batch": "16"}
            load_stage_one(ExtractionSettings(precision="float32", device="cpu"), notes)
            assert (asked["engine"], asked["batch"]) == (None, None)

    def test_a_batch_that_is_asked_for_is_used(self, asked):
        notes = {"engine": "cpu float32 contiguous", "batch": "16"}
        load_stage_one(ExtractionSettings(precision="float32", device="cpu"), notes, batch=4)
        assert asked["batch"] == 4


def test_run_json_is_readable_json(run, network):
    make_features(run, ExtractionSettings())
    assert json.loads(run.record_path.read_text())["steps"]["features"]["batch"] == 8
