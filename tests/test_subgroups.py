"""For whom a model holds: groups, differences with intervals, and what is too small to say."""

import json
from dataclasses import replace

import numpy as np
import pytest
from runs import add_model, make_run
from scored import make_predictions

from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.bands import OTHERS, UNKNOWN, groups_of
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import Estimate, difference
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.evaluation.subgroups import attributes_of_units, by_subgroup
from haemo.pipeline.run.attributes import Attributes

QUICK = Resampling(200)


def sizes(name, values):
    return {group: int(inside.sum()) for group, inside in groups_of(name, values).items()}


def test_names_stand_as_they_are_and_what_is_not_known_comes_last():
    assert sizes("sex", ["M", "", "F", "M"]) == {"F": 1, "M": 2, UNKNOWN: 1}
    assert list(sizes("sex", ["M", "", "F"])) == ["F", "M", UNKNOWN]


def test_ages_come_in_bands_and_other_numbers_in_thirds():
    assert sizes("age", ["17", "18", "64.5", "65", "90", ""]) == {
        "under 18": 1,
        "40 to under 65": 1,
        "18 to under 40": 1,
        "65 to under 80": 1,
        "80 and over": 1,
        UNKNOWN: 1,
    }
    assert sum(sizes("dose", [str(n) for n in range(30)]).values()) == 30
    assert len(sizes("dose", [str(n) for n in range(30)])) == 3
    assert sizes("dose", ["1", "2", "1"]) == {"1": 2, "2": 1}


def test_many_names_leave_the_rare_ones_together():
    values = [f"scanner {n}" for n in range(20) for _ in range(21 - n)]
    found = sizes("scanner", values)
    assert len(found) == 12
    assert found[OTHERS] == sum(21 - n for n in range(11, 20))
    assert sum(found.values()) == len(values)


def test_a_slice_with_two_bleeds_is_in_both_groups():
    assert sizes("bleed", ["epidural+subdural", "subdural", ""]) == {"epidural": 1, "subdural": 2, UNKNOWN: 1}


@pytest.fixture(scope="module")
def answers():
    return make_predictions(n=400, patients=80)


@pytest.fixture(scope="module")
def sex(answers):
    """By patient, but for some slices of both, as two scanners of one patient would be."""
    number = np.array([int(name[1:]) for name in answers.patient])
    values = np.where(number % 2 == 0, "F", "M").astype(object)
    values[:20] = "F"
    return values


@pytest.mark.numerical
def test_figures_of_a_group_are_those_of_its_slices(answers, sex):
    (female, male) = by_subgroup({"svm": answers}, {"sex": sex}, QUICK)["models"]["svm"]["groups"]
    own = assess(answers.select(sex == "F"), resampling=QUICK)
    for name in ("roc_auc", "sensitivity", "intervals"):
        assert female["figures"][name] == own[name]
    assert male["differences"] == {}
    assert male["group"] == "M"


@pytest.mark.numerical
def test_differences_are_those_of_patients_left_out_of_both_sides(answers, sex):
    found = by_subgroup({"svm": answers}, {"sex": sex}, QUICK)["models"]["svm"]["groups"][0]
    names = np.unique(answers.patient)

    def figure(rows, side):
        return evaluate(answers.select(rows & (sex == side)))["roc_auc"]

    every, ones = np.ones(len(answers), bool), np.ones(len(names), int)
    first, second = (
        Estimate.of(
            figure(every, side), np.array([figure(answers.patient != name, side) for name in names]), ones
        )
        for side in "FM"
    )
    low, high, p = difference(first, second, 0.95)
    entry = found["differences"]["roc_auc"]
    assert entry["difference"] == pytest.approx(first.figure - second.figure)
    assert (entry["low"], entry["high"], entry["p"]) == pytest.approx((low, high, p))


def test_a_group_in_whom_the_model_fails_is_named_and_one_too_small_is_not_judged(answers, sex):
    rng = np.random.default_rng(0)
    scores = np.where(sex == "F", rng.normal(size=400), answers.scores + 3 * (answers.label == "bleed"))
    blind = replace(answers, scores=scores, predicted=np.where(scores > 1, "bleed", "normal"))
    kernel = np.array(["H30"] * 6 + ["H40"] * 394, dtype=object)
    found = by_subgroup({"svm": blind}, {"sex": sex, "kernel": kernel}, QUICK)
    first, *rest = found["models"]["svm"]["sentences"]
    assert first.startswith("svm: ROC AUC is lower in sex F than in the rest: 0.")
    assert "too small to say" in rest[-1]
    assert "kernel H30" in rest[-1]
    assert found["models"]["svm"]["groups"][2]["differences"] == {}
    assert found["tests"] == 3


def test_many_groups_that_mean_nothing_are_not_talked_of(answers):
    rng = np.random.default_rng(1)
    number = np.array([int(name[1:]) for name in answers.patient])
    columns = {f"made up {n}": rng.choice(["a", "b", "c"], 80)[number].astype(object) for n in range(6)}
    found = by_subgroup({"svm": answers}, columns, QUICK)
    assert found["tests"] == 54
    (said,) = found["models"]["svm"]["sentences"]
    assert said.startswith("svm: no difference between groups lasts through the correction for 54 tests")


def test_types_of_bleed_stand_beside_all_normal_slices(answers):
    types = np.where(answers.label == "bleed", np.arange(400) % 2, 2)
    kinds = np.array(["epidural", "subdural", ""], dtype=object)[types]
    found = by_subgroup({"svm": answers}, {"bleed": kinds}, QUICK)["models"]["svm"]["groups"]
    assert [group["group"] for group in found] == ["epidural", "subdural"]
    inside = (answers.label == "normal") | (kinds == "epidural")
    assert found[0]["figures"]["roc_auc"] == evaluate(answers.select(inside))["roc_auc"]
    assert found[0]["slices"] == int(np.sum(kinds == "epidural"))
    assert set(found[0]["differences"]) == {"roc_auc", "sensitivity"}


def test_units_have_what_their_slices_agree_on():
    columns = {
        "sex": np.array(["F", "", "M", "M"], dtype=object),
        "kernel": np.array(["H30", "H40", "H30", "H30"], dtype=object),
        "bleed": np.array(["epidural", "subdural+epidural", "", ""], dtype=object),
        "size": np.array(["20", "130", "", ""], dtype=object),
    }
    found = attributes_of_units(columns, np.array([0, 0, 1, 1]), 2)
    assert {name: list(values) for name, values in found.items()} == {
        "sex": ["F", "M"],
        "kernel": ["several", "H30"],
        "bleed": ["epidural+subdural", ""],
        "size": ["130", ""],
    }


def test_compare_shows_every_group_and_keeps_all_of_it(tmp_path, capsys):
    run = make_run(tmp_path / "run", patients=60)
    add_model(run, "svm")
    rows = run.manifest()
    Attributes(("sex",), {row.slice_id: {"sex": "FM"[int(row.patient[7:]) % 2]} for row in rows}).write(
        run.attributes_path
    )
    arguments = ["compare", "--run", str(run.path), "--resamples", "100", "--clinical"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for words in ("sex F", "sex M", "less the rest", "calibration slope", "net benefit at 0.2"):
        assert words in said
    written = json.loads((run.path / "compare.json").read_text())
    assert [group["group"] for group in written["subgroups"]["models"]["svm"]["groups"]] == ["F", "M"]
    assert set(written["clinical"]["svm"]) == {"calibration", "decision_curve", "at_fixed", "at_prevalences"}
    assert main([*arguments[:3], "--by", "patient", "--resamples", "100"]) == 0
    assert "sex M" in capsys.readouterr().out


def test_without_attributes_nothing_is_said_of_groups(tmp_path, capsys):
    run = make_run(tmp_path / "run", patients=24)
    add_model(run, "svm")
    assert main(["compare", "--run", str(run.path), "--resamples", "100"]) == 0
    assert "for whom" not in capsys.readouterr().out
    assert not {"subgroups", "clinical"} & set(json.loads((run.path / "compare.json").read_text()))
