"""Intervals of too few patients are called rough wherever they are shown."""

import json

import numpy as np
import pytest
from runs import add_model, make_run

from haemo.pipeline.api.figures import evaluate
from haemo.pipeline.cli import main


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)


@pytest.fixture(scope="module", params=[18, 48], ids=["6 bleed", "16 bleed"])
def cohort(request, tmp_path_factory):
    """Every third patient bleeds: of 18 too few, of 48 enough; all of them are tested."""
    run = make_run(tmp_path_factory.mktemp("rough"), patients=request.param, dimension=20, signal=1.0)
    for name, c in (("svm", 1e-3), ("softmax", 1e-2)):
        add_model(run, name, 1.0)
        path = run.model_path(name) / "predictions.csv"
        path.write_text(path.read_text().replace(",cv,0,", ",test,,"))
        settings = {
            "head": name,
            "kernel": None,
            "class_weight": "balanced",
            "seed": 0,
            "parameters": {"C": c},
        }
        settings |= {"calibration": "sigmoid", "threshold_rule": "0.5"}
        (run.model_path(name) / "settings.json").write_text(json.dumps(settings))
    return run, request.param < 24


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (["compare"], "ROC AUC"),
        (["compare", "--cv", "3x2"], "ROC AUC"),
        (["leakage", "--repeats", "4"], "patient"),
        (["learning-curve", "--repeats", "4", "--patients", "6,8,10"], "10"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_command_marks_rough_intervals(cohort, capsys, command, where):
    run, rough = cohort
    assert main([command[0], "--run", str(run), *command[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.split()[:1] == [where] or line.strip().startswith(where))
    assert ("(~" in line) == rough
    if command[0] == "compare":  # the difference, in words
        (sentence,) = [line for line in lines if "svm and softmax" in line or "better than" in line]
        assert ("rough 95% interval" in sentence) == rough


def test_the_learning_curve_says_that_what_it_foretells_is_rough(cohort, capsys):
    run, rough = cohort
    assert main(["learning-curve", "--run", str(run), "--repeats", "4", "--patients", "6,8,10"]) == 0
    assert ("not earned: a class has fewer than 8 patients" in capsys.readouterr().out) == rough


def test_the_report_marks_rough_differences_too(cohort):
    run, rough = cohort
    assert main(["report", "--run", str(run)]) == 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    table = page[page.index("ROC AUC difference") :]
    assert ("<small>~" in table[: table.index("</table>")]) == rough


def test_figures_of_arrays_say_whether_they_are_rough():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 3)
    for bleeding in (7, 8):
        y = patient < bleeding
        figure = evaluate(y, rng.normal(size=120) + y, patient)["roc_auc"]
        assert figure.rough == ("~" in str(figure)) == (bleeding == 7)
