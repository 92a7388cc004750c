"""Files of a run that were lost or damaged: each is named, and the command that is named mends it."""

import pytest
from cohorts import class_folders
from runs import make_run

from haemo.errors import BadDataset, MissingStep, TooFewData
from haemo.features.failures import read_failures
from haemo.pipeline.cli import main
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.trained.modelfolder import ModelFolder
from haemo.pipeline.trained.persistence import load_head
from haemo.pipeline.training.network import train_network

DAMAGES = {
    "empty": lambda data: b"",
    "halved": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(range(256)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("damaged"))
    assert main(["-q", "svm", "--run", str(run.path), "--C", "1e-3"]) == 0
    return run


def restored(path, train, capsys):
    """Damage a file in every way; each time training again must give back its like."""
    whole = path.read_bytes()
    for damage in DAMAGES.values():
        path.write_bytes(damage(whole))
        capsys.readouterr()
        train()
        assert f"{path} cannot be read" in capsys.readouterr().err
        assert len(path.read_bytes()) > len(whole) // 2


@pytest.mark.parametrize("name", ["settings.json", "metrics.json", "predictions.csv", "model.skops"])
def test_training_again_mends_a_head(run, capsys, name):
    def train():
        assert main(["svm", "--run", str(run.path), "--C", "1e-3"]) == 0

    restored(run.model_path("svm") / name, train, capsys)
    train()
    assert "svm is up to date" in capsys.readouterr().err


def test_training_again_mends_a_network(run, capsys):
    def train():
        assert main(["tinyvgg", "--run", str(run.path), "--epochs", "1"]) in (0, 3)

    train_network(run, "tinyvgg", epochs=1)
    folder = run.model_path("tinyvgg")
    for name in ("settings.json", "history.csv", "scope.safetensors", "model.safetensors"):
        restored(folder / name, train, capsys)
    train()
    assert "tinyvgg is up to date" in capsys.readouterr().err


def test_features_mends_a_damaged_list_of_files_in_one_pass(tmp_path, capsys):
    run = str(tmp_path / "run")
    picture = str(next(class_folders(tmp_path / "data", patients=16, slices=2).rglob("*.png")))
    main(["-q", "index", str(tmp_path / "data"), "--run", run])
    main(["-q", "features", "--run", run, "--layer", "pool5", "--weights", "random", "--device", "cpu"])
    assert main(["-q", "svm", "--run", run, "--C", "1e-3"]) == 0
    list_of_files = tmp_path / "run" / "contents.csv"
    whole = list_of_files.read_bytes()
    for damage in (DAMAGES["empty"], DAMAGES["garbage"], lambda data: data.replace(b".png", b".bmp", 5)):
        list_of_files.write_bytes(damage(whole))
        capsys.readouterr()
        for command in (["svm", "--run", run], ["predict", "--run", run, "--device", "cpu", picture]):
            assert main(command) == 1
            said = capsys.readouterr().err
            assert f"{list_of_files} " in said
            assert f"mend it: haemo features --run {run} (" in said
        assert main(["features", "--run", run]) == 0
        assert capsys.readouterr().out == "32 cached, 0 new, 0 failed\n"
        assert list_of_files.read_bytes() == whole
    assert main(["predict", "--run", run, "--device", "cpu", picture]) == 0
    assert "too few" not in capsys.readouterr().err


def test_a_network_says_that_its_slices_are_gone(tmp_path):
    run = make_run(tmp_path / "a run")
    (run.path / "slices").rename(tmp_path / "moved")
    with pytest.raises(
        TooFewData, match=r"none of the 96 slices could be read; .*\n96 of the files are not"
    ) as told:
        train_network(run, "tinyvgg", epochs=1)
    assert str(told.value).endswith(f"haemo index NEWPLACE --run '{run.path}'")
    assert len(read_failures(run.failures_path)) == 96


def test_a_damaged_file_names_the_command_that_mends_it(tmp_path):
    class Folder(ModelFolder):
        model_path = None

    folder = Folder(tmp_path / "a run" / "svm")
    folder.path.mkdir(parents=True)
    folder.settings_path.write_text("{")
    with pytest.raises(BadDataset, match=f"train it again: haemo svm --run '{tmp_path}/a run'"):
        folder.facts()


def test_a_lost_split_names_the_command_that_draws_it(tmp_path):
    with pytest.raises(MissingStep, match=rf"split\.json is not there, .*: haemo svm --run {tmp_path}$"):
        Split.read(tmp_path / "split.json")


def test_a_lost_head_names_its_run(tmp_path):
    with pytest.raises(MissingStep, match=f"train that head first: haemo mlp --run {tmp_path}$"):
        load_head(tmp_path / "mlp" / "model.skops")
