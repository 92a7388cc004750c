"""A name that does not exist is answered with the nearest ones that do, and exit code 2."""

import pytest
from stand_ins import folder_manifest, write_slices

from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["fetaures"], "No such command 'fetaures'. Did you mean features?"),
        (["Report", "--run", "r"], "No such command 'Report'. Did you mean report?"),
        (["index", "data", "--labls", "x"], "Did you mean one of: '--label', '--labels'?"),
        (["features", "--run", "r", "--precision", "floot32"], "Did you mean float32?"),
        (["svm", "--run", "r", "--protocol", "patients"], "Did you mean patient?"),
        (["svm", "--run", "r", "--kernel", "rfb"], "Did you mean rbf?"),
        (["svm", "--run", "r", "--metric", "ROC_AUC"], "Did you mean roc_auc?"),
        (["plot", "curve"], "Did you mean curves?"),
        (["explain", "--run", "r", "--method", "oclusion"], "Did you mean occlusion?"),
        (["predict", "--run", "r", "--head", "smv", "."], "there is no model 'smv'. Did you mean svm?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_slip_is_answered_with_the_nearest_name(typed, answer, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 2
    assert answer in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["--network", "alexnte"], "there is no network 'alexnte'. Did you mean alexnet"),
        (["--network", "resnet18"], "there is no network 'resnet18'. Did you mean torchvision:resnet18"),
        (["--layer", "fc77"], "there is no layer of AlexNet 'fc77'. Did you mean fc7"),
        (
            ["--network", "torchvision:resnet18", "--layer", "layr4"],
            "torchvision:resnet18. Did you mean layer4",
        ),
    ],
)
def test_a_slip_in_a_network_or_layer_is_answered_with_the_nearest_name(typed, answer, capsys, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create()
    folder_manifest(write_slices(tmp_path / "slices", 1)).write(run.manifest_path)
    assert main(["features", "--run", str(run.path), "--weights", "random", *typed]) == 2
    assert answer in " ".join(capsys.readouterr().err.split())


def test_what_is_near_nothing_is_answered_plainly(capsys):
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err.endswith("Error: No such command 'xyzzy'.\n")
    assert main(["--xyzzy"]) == 2
    assert "No such option" in capsys.readouterr().err
