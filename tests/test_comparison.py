"""Models side by side: what the table, the tests and the sentences say."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scored import make_predictions, make_several
from sklearn.metrics import roc_auc_score

from haemo.errors import BadDataset, MissingStep
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.aggregation import aggregate
from haemo.pipeline.evaluation.comparison import align, compare, compare_predictions
from haemo.pipeline.evaluation.intervals import Resampling, figures_left_out
from haemo.pipeline.evaluation.jackknife import Estimate, difference
from haemo.pipeline.evaluation.metrics import METRICS, evaluate
from haemo.pipeline.evaluation.paired import delong, exact_mcnemar
from haemo.pipeline.evaluation.pairs import sentence
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions


def with_noise(p: Predictions, noise: float, seed: int) -> Predictions:
    scores = p.scores + np.random.default_rng(seed).normal(size=len(p)) * noise
    probabilities = 1 / (1 + np.exp(-scores))
    return replace(
        p,
        scores=scores,
        probabilities=probabilities,
        predicted=np.where(probabilities >= 0.5, "bleed", "normal"),
    )


@pytest.fixture
def base():
    return make_predictions(n=300, patients=40)


@pytest.fixture
def run(tmp_path, base):
    for name, noise in (("svm", 0.3), ("softmax", 0.3), ("mlp", 3.0)):
        (tmp_path / name).mkdir()
        with_noise(base, noise, len(name)).write(tmp_path / name / "predictions.csv")
    return RunDirectory(tmp_path)


def test_every_trained_model_is_in_one_table_with_the_figures_of_evaluate(run, base):
    comparison = compare(run)
    assert list(comparison.models) == ["svm", "softmax", "mlp"]
    own = evaluate(with_noise(base, 0.3, 3))
    for metric in METRICS:
        assert comparison.models["svm"][metric] == own[metric]
    assert json.loads((run.path / "compare.json").read_text()) == comparison.as_dict()


@pytest.mark.parametrize("by", ["slice", "patient"])
def test_what_a_model_said_is_read_once(run, monkeypatch, by):
    reads: Counter[str] = Counter()
    read = Predictions.read
    monkeypatch.setattr(Predictions, "read", lambda path: reads.update([path.parent.name]) or read(path))
    compare(run, by=by, resampling=Resampling(100))
    assert reads == {"svm": 1, "softmax": 1, "mlp": 1}


@pytest.mark.numerical
def test_pairs_are_tested_on_the_same_slices(run, base):
    pair = compare(run).pairs[1]
    first, second = with_noise(base, 0.3, 3), with_noise(base, 3.0, 3)
    assert (pair["first"], pair["second"]) == ("svm", "mlp")
    right = [p.predicted == p.label for p in (first, second)]
    b, c = np.sum(right[0] & ~right[1]), np.sum(right[1] & ~right[0])
    assert (pair["only_first_right"], pair["only_second_right"]) == (b, c)
    assert pair["tests"]["mcnemar"]["p"] == exact_mcnemar(b, c)
    expected = delong(base.label == "bleed", first.scores, second.scores).p
    assert pair["tests"]["delong"]["p"] == pytest.approx(expected)
    assert pair["agreement"] == np.mean(first.predicted == second.predicted)
    groups = Resampling().groups(40)
    areas = [roc_auc_score(base.label == "bleed", p.scores) for p in (first, second)]
    without = [figures_left_out(Tally(p), groups)[0]["roc_auc"] for p in (first, second)]
    estimates = [Estimate.of(*own, groups.sizes) for own in zip(areas, without, strict=True)]
    low, high, p = difference(*estimates, 0.95)
    assert pair["differences"]["roc_auc"]["low"] == pytest.approx(low)
    assert pair["differences"]["roc_auc"]["high"] == pytest.approx(high)
    assert pair["tests"]["delong_patients"]["p"] == pytest.approx(p)
    assert pair["tests"]["delong_patients"]["p_holm"] >= p


def test_sentences_claim_what_the_tests_allow_and_no_more(run):
    alike, unlike = compare(run).pairs[0]["sentence"], compare(run).pairs[1]["sentence"]
    assert alike.startswith("svm and softmax cannot be told apart on these 40 patients: ROC AUC differs by ")
    assert unlike.startswith("svm ranks slices better than mlp (ROC AUC 0.")
    assert "svm is right more often than mlp" in unlike


def test_nothing_is_said_of_a_network_on_the_slices_that_chose_its_epoch(tmp_path, base):
    # Of equal worth: the network is the best of 20 epochs on these very slices.
    truth, patient = base.label == "bleed", np.unique(base.patient, return_inverse=True)[1]

    def drawn(seed):
        rng = np.random.default_rng(seed)
        scores = 0.7 * truth + rng.normal(size=40)[patient] + rng.normal(size=300)
        return with_noise(replace(base, scores=scores, part=np.full(300, "cv")), 0, 0)

    epochs = [drawn(seed) for seed in range(1, 21)]
    best = max(epochs, key=lambda one: evaluate(one)["roc_auc"])
    for name, own in (("svm", drawn(0)), ("mlp", drawn(21)), ("finetune", best)):
        (tmp_path / name).mkdir()
        own.write(tmp_path / name / "predictions.csv")
    (tmp_path / "finetune" / "settings.json").write_text('{"network": "finetune"}')
    found = compare(RunDirectory(tmp_path), part="cv", resampling=Resampling(100))
    assert "finetune was settled by these slices: its figures here are too good" in found.notes
    for pair in found.pairs[1:]:
        said = f"Nothing is said of {pair['first']} against finetune: finetune was settled by these slices."
        assert (pair["sentence"], pair["tests"]) == (said, {})
    assert found.pairs[0]["sentence"].startswith("svm and mlp cannot be told apart")
    assert compare_predictions({"svm": drawn(0), "finetune": best}).pairs[0]["tests"]


@pytest.mark.numerical
def test_the_same_scores_under_two_thresholds_are_not_said_to_be_right_more_often(base):
    # Few bleed: 0.9 is right far more often, with a p of 1e-8 by patients.
    base = replace(base, label=np.where(np.arange(300) % 8 == 0, "bleed", "normal"))
    base = with_noise(replace(base, scores=2.0 * (base.label == "bleed")), 1.0, 0)
    strict = replace(base, predicted=np.where(base.probabilities >= 0.9, "bleed", "normal"))
    pair = compare_predictions({"a": strict, "b": base}).pairs[0]
    assert pair["tests"]["patient_sign"]["p_holm"] < 1e-3
    assert "right more often" not in pair["sentence"]
    assert pair["sentence"] == (
        "a and b cannot be told apart on these 40 patients. How often they are right is not set against each "
        "other: they decide at different operating points, b is the more sensitive and a the more specific."
    )


def test_a_model_does_not_differ_from_itself(base):
    comparison = compare_predictions({"a": base, "b": base})
    pair = comparison.pairs[0]
    assert {entry["p"] for entry in pair["tests"].values()} == {1.0}
    assert pair["agreement"] == 1
    assert pair["sentence"].startswith("a and b cannot be told apart on these 40 patients")


def test_only_shared_slices_count_and_the_others_are_named(base):
    shuffled = base.select(np.random.default_rng(0).permutation(len(base))[:250])
    aligned, notes = align({"a": base, "b": shuffled})
    assert aligned["a"].slice_id.tolist() == aligned["b"].slice_id.tolist() == sorted(shuffled.slice_id)
    assert notes == ["50 slices that only a and not every model has are left out"]


def test_models_that_disagree_about_the_data_are_not_compared(base):
    other = replace(base, label=np.where(base.slice_id == "s007", "bleed", base.label))
    other = replace(other, label=np.where(base.slice_id == "s008", "normal", other.label))
    with pytest.raises(BadDataset, match=r"disagree about the label of slice s00[78]"):
        align({"a": base, "b": other})
    moved = replace(base, patient=np.where(base.slice_id == "s007", "someone else", base.patient))
    with pytest.raises(BadDataset, match=r"b and a disagree about the patient of slice s007"):
        align({"a": base, "b": moved})
    with pytest.raises(BadDataset, match="no slice in common"):
        align({"a": base, "b": replace(base, slice_id=np.char.add(base.slice_id, "x"))})
    with pytest.raises(BadDataset, match="train both on one manifest"):
        align({"a": base, "b": replace(base, classes=("normal", "tumour"))})


@pytest.mark.numerical
def test_several_classes_are_compared_without_delong():
    p = make_predictions(n=120, classes=("a", "b", "c"))
    pair = compare_predictions({"x": p, "y": p}).pairs[0]
    assert pair["untested"]["delong"] == "DeLong's test is for two classes"
    assert "accuracy" in pair["differences"]


def test_few_patients_and_unknown_patients_are_noted(base):
    notes = compare_predictions({"a": replace(base, patient=base.slice_id)}).notes
    assert "each slice is its own patient" in notes[0]
    few = compare_predictions({"a": make_predictions(n=60, patients=6)}).notes
    assert few == (
        "a class has 6 patients only, and no method holds with fewer than 8: intervals (~) and the p-value "
        "of ROC AUC are rough, rather too sure",
    )


def test_the_command_prints_one_table_and_the_sentences(run, capsys):
    assert main(["compare", "--run", str(run.path), "--prevalence", "0.1"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("test, by slice: 300 slices of 40 patients; 95% intervals")
    assert ["svm", "softmax", "mlp", "always", "normal"] in lines
    assert any(line[:2] == ["ROC", "AUC"] and len(line) == 9 and line[-1] == "0.500" for line in lines)
    assert any(line[:3] == ["PPV", "at", "0.1"] for line in lines)
    assert "svm and softmax cannot be told apart on these 40 patients" in out


def class_lines(out, name):
    """The lines of one model's table of classes."""
    lines = out.splitlines()
    start = lines.index(f"{name}, each class against the rest") + 1
    return [line.split() for line in lines[start : lines.index("", start)]]


@pytest.mark.parametrize(
    ("by", "things"), [("slice", "slices"), ("study", "studies"), ("patient", "patients")]
)
@pytest.mark.parametrize("make", [make_predictions, make_several])
def test_every_model_has_a_table_of_its_classes_by_what_is_counted(tmp_path, capsys, make, by, things):
    answers = {"svm": make(seed=1), "mlp": make(seed=1)}
    answers["mlp"] = replace(answers["mlp"], predicted=np.roll(answers["mlp"].predicted, 1))
    for name, p in answers.items():
        (tmp_path / name).mkdir()
        p.write(tmp_path / name / "predictions.csv")
    command = ["compare", "--run", str(tmp_path), "--by", by, "--resamples", "100"]
    assert main(command) == 0
    assert "each class against the rest" not in capsys.readouterr().out
    assert main([*command, "--per-class"]) == 0
    out = capsys.readouterr().out
    for name, p in answers.items():
        own = evaluate(p if by == "slice" else aggregate(p, by, "max"))["per_class"]
        heading, *rows = class_lines(out, name)
        assert heading == ["class", "PPV", "sensitivity", "specificity", "F1", things]
        assert [(row[0], row[-1]) for row in rows] == [(one, str(own[one]["slices"])) for one in p.classes]
        for one, *figures, _ in rows:
            for figure, metric in zip(figures, ("ppv", "sensitivity", "specificity", "f1"), strict=True):
                assert figure == (f"{own[one][metric]:.3f}" if metric in own[one] else "undefined")
    assert out.index("accuracy") < out.index("svm, each class") < out.index("mlp, each class")


def test_classes_of_a_repeated_cross_validation_are_not_asked_for(run, capsys):
    assert main(["compare", "--run", str(run.path), "--cv", "5x2", "--per-class"]) == 2
    assert "--per-class is not for --cv" in capsys.readouterr().err


def test_patients_can_be_counted_instead_of_slices(run, capsys):
    assert main(["compare", "--run", str(run.path), "--by", "patient", "--aggregate", "noisy-or"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("test, by patient (noisy-or): 40 patients")
    assert "undefined: specificity, ROC AUC of svm, softmax, mlp: all slices are of class bleed" in out


def reasons(run, capsys, *options):
    assert main(["compare", "--run", str(run), "--resamples", "100", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith(("undefined: ", "no interval: "))]


def test_what_is_undefined_or_has_no_interval_is_said_once_with_the_model_and_the_reason(
    tmp_path, base, capsys
):
    never = replace(base, predicted=np.full(len(base), "normal"), probabilities=base.probabilities / 9)
    always = replace(base, predicted=base.label)
    for name, p in {"svm": base, "softmax": always, "mlp": never}.items():
        (tmp_path / name).mkdir()
        p.write(tmp_path / name / "predictions.csv")
    same = (
        "it is the same whichever patient is left out: too few patients, or no errors, to tell how sure it is"
    )
    assert reasons(tmp_path, capsys) == [
        "undefined: PPV of mlp: no slice is predicted as bleed",
        "undefined: MCC of mlp: all slices are of one class, or all are predicted as one class",
        f"no interval: balanced accuracy, F1, threat score of softmax, mlp; MCC of softmax: {same}",
    ]
    *_, never_said, last = reasons(tmp_path, capsys, "--prevalence", "0.1")
    assert never_said == "undefined: PPV at 0.1 of mlp: the model never says so"
    assert "threat score, NPV at 0.1 of softmax, mlp; MCC, PPV at 0.1 of softmax: it is the same" in last


def test_the_only_model_is_not_named_beside_a_reason(tmp_path, base, capsys):
    (tmp_path / "svm").mkdir()
    replace(base, predicted=base.label).write(tmp_path / "svm" / "predictions.csv")
    (line,) = reasons(tmp_path, capsys)
    assert line.startswith("no interval: balanced accuracy, F1, MCC, threat score: it is the same")


def test_without_a_trained_model_the_next_command_is_named(tmp_path, capsys):
    with pytest.raises(MissingStep, match="train one first: haemo svm"):
        compare(RunDirectory(tmp_path))
    assert main(["compare", "--run", str(tmp_path)]) == 1
    assert "haemo svm --run" in capsys.readouterr().err


@pytest.mark.parametrize(("low", "said"), [(-0.01, False), (0.01, True)])
def test_an_interval_off_zero_that_the_correction_undoes_is_explained(low, said):
    pair = {
        "first": "svm",
        "second": "mlp",
        "differences": {"roc_auc": {"difference": 0.05, "low": low, "high": 0.09}},
        "tests": {"delong_patients": {"p": 0.02, "p_holm": 0.2}},
    }
    words = sentence(pair, patients=40, things="slices", level=0.95)
    assert words.startswith("svm and mlp cannot be told apart on these 40 patients")
    assert ("once corrected for the number of tests" in words) == said
