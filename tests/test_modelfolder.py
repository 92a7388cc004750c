"""The folder of a trained model at every moment of a training that replaces it."""

import os
from pathlib import Path

from runs import make_run

from haemo.pipeline.training.head import HeadSettings, train_head

FILES = ("predictions.csv", "settings.json", "model.skops")


def test_predictions_never_stand_beside_settings_or_a_model_of_another_training(tmp_path, monkeypatch):
    """At every moment each file of this list is there only with those after it, all of one training."""
    run = make_run(tmp_path)
    folder = run.model_path("svm")
    train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}))
    before, states, steps = _bytes(folder), [], []

    def watched(name, call):
        def watch(*arguments, **options):
            states.append(_bytes(folder))
            steps.append((name, arguments[-1]))
            return call(*arguments, **options)

        return watch

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "unlink"), (Path, "replace"), (os, "fsync")):
            patch.setattr(owner, name, watched(name, getattr(owner, name)))
        train_head(run, "svm", HeadSettings(grid={"C": [1.0]}))
    after = _bytes(folder)
    assert all(before[name] != after[name] for name in FILES)
    whole = ({name: found[name] for name in FILES} for found in (before, after))
    allowed = [{name: found[name] for name in FILES[first:]} for found in whole for first in range(3)]
    shown = [{name: found[name] for name in FILES if name in found} for found in states]
    assert [found for found in shown if found not in allowed] == []
    gone = [place for place, step in enumerate(steps) if step[0] == "unlink" and step[1].name in FILES]
    assert [steps[place][1].name for place in gone] == list(FILES[:2])
    # What has vanished stays so through a power cut.
    assert [steps[place + 1][0] for place in gone] == ["fsync"] * 2


def _bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
