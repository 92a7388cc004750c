"""Studies and patients with several classes at once: against plain loops, scikit-learn and two classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import make_predictions, make_several
from sklearn import metrics as sk

from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.aggregation import TOP_SLICES, Aggregation, aggregate, aggregate_sets
from haemo.pipeline.evaluation.comparison import compare, compare_predictions
from haemo.pipeline.evaluation.intervals import Resampling, assess, figures_left_out, wilson
from haemo.pipeline.evaluation.jackknife import Estimate, difference
from haemo.pipeline.evaluation.metrics import METRICS, classification_report, evaluate
from haemo.pipeline.evaluation.paired import exact_mcnemar, patient_sign_test
from haemo.pipeline.evaluation.set_tallies import SetTally, tally_of
from haemo.pipeline.evaluation.tallies import CLASS_METRICS
from haemo.pipeline.evaluation.units import UnitAnswers, background_of
from haemo.pipeline.run.directory import RunDirectory

ABSENT = {"mcc", "log_loss", "calibration_error", "confusion"}
QUICK = Resampling(resamples=100)


def plain_units(p, by, how):
    """Every unit by a plain loop: (patient, name) -> classes it has, classes named, probability by class."""
    units = {}
    names = zip(p.patient.tolist(), (p.study if by == "study" else p.patient).tolist(), strict=True)
    for row, key in enumerate(names):
        units.setdefault(key, []).append(row)
    found = {}
    for key, rows in sorted(units.items()):

        def join(values, how=how):
            values = sorted(values, reverse=True)
            match how:
                case "max":
                    return values[0]
                case "mean-top":
                    return sum(values[:TOP_SLICES]) / len(values[:TOP_SLICES])
            missed = 1.0
            for value in values:
                missed *= 1 - value
            return 1 - missed

        chances = {}
        for column, name in enumerate(p.classes):
            own = [p.probabilities[row, column] for row in rows]
            chances[name] = 1 - join([1 - x for x in own]) if name == "normal" else join(own)
        has = {p.label[row] for row in rows} - {"normal"} or {"normal"}
        if how == "max":
            named = {p.predicted[row] for row in rows} - {"normal"}
        else:
            named = {name for name in p.classes if name != "normal" and chances[name] >= 0.5}
        if "normal" in p.classes:
            named = named or {"normal"}
        found[key] = has, named, chances
    return found


def sets_of(flags, classes):
    return [{name for name, flag in zip(classes, row, strict=True) if flag} for row in flags]


@pytest.mark.numerical
@pytest.mark.parametrize("how", list(Aggregation))
@pytest.mark.parametrize("by", ["study", "patient"])
@pytest.mark.parametrize("classes", [("epidural", "normal", "subdural"), ("epidural", "ivh", "subdural")])
def test_units_are_those_of_a_plain_loop(how, by, classes):
    p = make_several(classes=classes, seed=3)
    p = p.select(np.random.default_rng(0).permutation(len(p)))
    expected = plain_units(p, by, how.value)
    found = aggregate(p, by, how)
    assert isinstance(found, UnitAnswers)
    assert found.background == ("normal" if "normal" in classes else None)
    assert list(zip(found.patient.tolist(), found.unit.tolist(), strict=True)) == list(expected)
    assert sets_of(found.has, classes) == [has for has, _, _ in expected.values()]
    assert sets_of(found.named, classes) == [named for _, named, _ in expected.values()]
    chances = [[chance[name] for name in classes] for _, _, chance in expected.values()]
    np.testing.assert_allclose(found.probabilities, chances, rtol=0, atol=1e-12)
    assert max(len(has) for has, _, _ in expected.values()) >= 2


@pytest.mark.numerical
def test_scores_rank_units_as_slices_rank():
    p = make_several(seed=1)
    by_max, by_mean = (aggregate(p, "patient", how) for how in ("max", "mean-top"))
    odds = aggregate(p, "patient", "noisy-or")
    for row, name in enumerate(by_max.unit):
        own = p.scores[p.patient == name]
        assert by_max.scores[row].tolist() == [own[:, 0].max(), own[:, 1].min(), own[:, 2].max()]
        lowest = np.sort(own[:, 1])[:TOP_SLICES].mean()
        assert by_mean.scores[row, 1] == pytest.approx(lowest)
        chances = p.probabilities[p.patient == name]
        assert odds.scores[row, 1] == pytest.approx(np.log(chances[:, 1]).sum())
        assert odds.scores[row, 0] == pytest.approx(-np.log1p(-chances[:, 0]).sum())


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(list(Aggregation)),
    coarse=st.booleans(),
    classes=st.sampled_from([("normal", "bleed"), ("bleed", "normal")]),
)
def test_with_two_classes_nothing_changes(seed, how, coarse, classes):
    p = make_predictions(n=40, patients=9, seed=seed, coarse=coarse, classes=classes)
    # So that no unit comes to exactly 0.5, where the two name different classes.
    p = replace(p, probabilities=p.probabilities**1.1)
    plain, sets = aggregate(p, "patient", how), aggregate_sets(p, "patient", how)
    assert np.array_equal(sets.scores[:, 1], plain.scores)
    assert np.array_equal(sets.probabilities[:, 1], plain.probabilities)
    np.testing.assert_allclose(sets.scores[:, 0], -plain.scores, atol=1e-12)
    np.testing.assert_allclose(sets.probabilities[:, 0], 1 - plain.probabilities, atol=1e-15)
    for flags, column in ((sets.has, plain.label), (sets.named, plain.predicted)):
        assert np.array_equal(flags, column[:, None] == np.array(p.classes))
    one, other = evaluate(plain), evaluate(sets)
    for metric in {"accuracy", "balanced_accuracy", "mse"} - set(one["undefined"]):
        assert other[metric] == pytest.approx(one[metric], abs=1e-12)
    for name in p.classes:
        for metric in CLASS_METRICS:
            mine, theirs = other["per_class"][name].get(metric), one["per_class"][name].get(metric)
            assert mine == (None if theirs is None else pytest.approx(theirs, abs=1e-12)), metric


def sklearn_figures(answers, weight=None):
    """Each class against the rest by scikit-learn, their means, and what speaks of whole sets."""
    per_class = {}
    for i, name in enumerate(answers.classes):
        y, named, score = answers.has[:, i], answers.named[:, i], answers.scores[:, i]
        options = {"sample_weight": weight}
        per_class[name] = {
            "accuracy": sk.accuracy_score(y, named, **options),
            "sensitivity": sk.recall_score(y, named, zero_division=np.nan, **options),
            "specificity": sk.recall_score(~y, ~named, zero_division=np.nan, **options),
            "ppv": sk.precision_score(y, named, zero_division=np.nan, **options),
            "npv": sk.precision_score(~y, ~named, zero_division=np.nan, **options),
            "f1": sk.f1_score(y, named, **options),
            "mcc": sk.matthews_corrcoef(y, named, **options),
            "threat_score": sk.jaccard_score(y, named, **options),
            "roc_auc": sk.roc_auc_score(y, score, **options),
            "average_precision": sk.average_precision_score(y, score, **options),
        }
    overall = {
        metric: np.mean([entry[metric] for entry in per_class.values()])
        for metric in CLASS_METRICS
        if metric not in ("accuracy", "mcc")
    }
    squared = (answers.probabilities - answers.has) ** 2
    overall |= {
        "accuracy": sk.accuracy_score(answers.has, answers.named, sample_weight=weight),
        "balanced_accuracy": overall["sensitivity"],
        "mse": np.average(squared.mean(axis=1), weights=weight),
        "brier": np.average(squared.sum(axis=1), weights=weight),
    }
    return overall, per_class


@pytest.mark.numerical
@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(list(Aggregation)),
    by=st.sampled_from(["study", "patient"]),
)
def test_figures_are_those_of_scikit_learn(seed, how, by):
    answers = aggregate(make_several(seed=seed, patients=40, noise=1.5), by, how)
    found = evaluate(answers)
    overall, per_class = sklearn_figures(answers)
    assert set(overall) | ABSENT == {*METRICS, "confusion"}
    for expected, entry in (
        (overall, found),
        *((per_class[name], found["per_class"][name]) for name in per_class),
    ):
        for metric, value in expected.items():
            if metric in entry:
                assert entry[metric] == pytest.approx(value, abs=1e-12), metric
            else:
                # scikit-learn gives MCC 0 where it is 0 / 0.
                assert np.isnan(value) or metric == "mcc"
                assert entry["undefined"][metric]
    for i, name in enumerate(answers.classes):
        assert found["per_class"][name]["slices"] == answers.has[:, i].sum()


def test_every_draw_of_patients_is_that_of_a_loop():
    answers = aggregate(make_several(patients=15, noise=1.5), "study", "mean-top")
    tally = SetTally(answers)
    drawn = np.concatenate(list(QUICK.weights(len(tally.patients))))
    fast, per_class = tally.all_figures(drawn)
    compared = 0
    for row, counts in enumerate(drawn):
        weight = np.array([counts[tally.patients.tolist().index(name)] for name in answers.patient])
        if min(np.min(weight @ answers.has), np.min(weight @ ~answers.has)) == 0:
            continue
        compared += 1
        overall, each = sklearn_figures(answers, weight)
        for metric, value in overall.items():
            assert fast[metric][row] == pytest.approx(value, abs=1e-12, nan_ok=True), metric
        for name, figures in each.items():
            for metric in set(CLASS_METRICS) - {"mcc"}:
                assert per_class[name][metric][row] == pytest.approx(figures[metric], abs=1e-12, nan_ok=True)
    assert compared > 50
    for metric in ABSENT - {"confusion"}:
        assert np.isnan(fast[metric]).all()


def test_what_sets_do_not_have_is_absent_with_the_reason():
    found = assess(aggregate(make_several(), "study", "max"), resampling=QUICK)
    assert not ABSENT & set(found)
    assert set(found["undefined"]) == ABSENT
    assert found["undefined"]["mcc"] == "R_K needs one class a study, and a study can have several"
    assert "calibration_bins" not in found
    assert (found["positive"], found["average"], found["slices"], found["patients"]) == (
        None,
        "macro",
        48,
        24,
    )
    for entry in (found, *found["per_class"].values()):
        assert entry["intervals"]
        for name, interval in entry["intervals"].items():
            assert interval["low"] <= entry[name] <= interval["high"]
    json.dumps(found, allow_nan=False)
    assert len(classification_report(found).splitlines()) == 4


def test_a_class_that_no_patient_has_is_named_as_the_reason():
    p = make_several()
    p = replace(p, label=np.where(p.label == "subdural", "epidural", p.label))
    found = evaluate(aggregate(p, "patient", "max"))
    for metric in ("sensitivity", "balanced_accuracy", "roc_auc"):
        assert found["undefined"][metric] == "there is no patient of class subdural"
    assert found["per_class"]["subdural"]["undefined"]["roc_auc"] == "there is no patient of class subdural"
    assert "mse" in found


def test_one_patient_and_one_class_a_patient_are_no_trouble():
    p = make_several()
    one = assess(aggregate(p.select(p.patient == "p00"), "patient", "noisy-or"), resampling=QUICK)
    assert one["patients"] == 1
    assert one["intervals"] == {}
    single = replace(p, label=np.array([p.classes[int(name[1:]) % 3] for name in p.patient]))
    answers = aggregate(single, "patient", "max")
    assert (answers.has.sum(axis=1) == 1).all()
    assert assess(answers, resampling=QUICK)["per_class"]["normal"]["slices"] == 8


def test_no_errors_have_wilsons_interval_by_patient():
    p = make_several()
    p = replace(p, predicted=p.label)
    for by, method in (("patient", "wilson"), ("study", "wilson, patients")):
        found = assess(aggregate(p, by, "max"), resampling=QUICK)
        assert found["accuracy"] == 1
        assert found["intervals"]["accuracy"]["method"] == method
        assert 0.8 < found["intervals"]["accuracy"]["low"] < 1


def test_one_study_a_patient_has_wilsons_interval():
    answers = aggregate(make_several(noise=2), "patient", "noisy-or")
    right = int((answers.has == answers.named).all(axis=1).sum())
    assert 0 < right < len(answers)
    low, high = wilson(right, len(answers))
    found = assess(answers, resampling=QUICK)
    assert found["intervals"]["accuracy"] == {"low": low, "high": high, "method": "wilson"}
    subdural = answers.has[:, 2]
    low, high = wilson(int(answers.named[subdural, 2].sum()), int(subdural.sum()))
    own = found["per_class"]["subdural"]["intervals"]["sensitivity"]
    assert own == {"low": low, "high": high, "method": "wilson"}


def test_without_a_background_a_unit_may_have_no_class_named():
    p = make_several(classes=("epidural", "ivh", "subdural"))
    p = replace(p, probabilities=np.full_like(p.probabilities, 1 / 3))
    answers = aggregate(p, "study", "mean-top")
    assert not answers.named.any()
    assert answers.has.any(axis=1).all()
    assert evaluate(answers)["accuracy"] == 0
    assert answers.meaning == (
        "a study can have several classes at once: accuracy is how often exactly these are named"
    )


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("epidural", "normal", "subdural"), "normal"),
        (("epidural", "no_haemorrhage", "subdural"), "no_haemorrhage"),
        (("none", "normal", "subdural"), None),
        (("a", "b", "c"), None),
        (("F", "G", "H"), None),
        (("0", "1", "2"), None),
        (("0", "normal", "subdural"), "normal"),
        (("0", "1"), "0"),
        (("f", "t"), "f"),
        (("haemorrhage", "normal"), "normal"),
    ],
)
def test_the_background_is_the_one_class_that_says_so(classes, expected):
    assert background_of(classes) == expected


def test_labels_that_are_no_class_and_nothing_at_all_are_refused():
    p = make_several()
    strange = replace(p, label=np.where(np.arange(len(p)) == 7, "tumour", p.label))
    with pytest.raises(BadDataset, match="'tumour' is none of the classes"):
        aggregate(strange, "study", "max")
    answers = aggregate(p, "study", "max")
    nothing = {name: getattr(answers, name)[:0] for name in ("unit", "patient", "study", "has", "named")}
    with pytest.raises(BadDataset, match="no predictions"):
        evaluate(
            replace(answers, **nothing, scores=answers.scores[:0], probabilities=answers.probabilities[:0])
        )
    for option in ({"threshold": 0.5}, {"prevalence": 0.1}):
        with pytest.raises(BadSettings, match="needs two classes; here there are 3"):
            evaluate(answers, **option)


@pytest.mark.numerical
def test_pairs_are_tested_on_sets_that_are_exactly_right():
    slices = {"x": make_several(noise=1.2, noise_seed=1), "y": make_several(noise=2.5, noise_seed=2)}
    answers = {name: aggregate(p, "study", "max") for name, p in slices.items()}
    found = compare_predictions(answers, unit="study (max)", resampling=QUICK)
    (pair,) = found.pairs
    right, named = {}, {}
    for name, p in slices.items():
        units = plain_units(p, "study", "max")
        right[name] = np.array([has == said for has, said, _ in units.values()])
        named[name] = [said for _, said, _ in units.values()]
    b, c = np.sum(right["x"] & ~right["y"]), np.sum(right["y"] & ~right["x"])
    assert (pair["only_first_right"], pair["only_second_right"]) == (b, c)
    assert b != c
    assert pair["agreement"] == np.mean([a == b for a, b in zip(named["x"], named["y"], strict=True)])
    assert pair["tests"]["mcnemar"]["p"] == exact_mcnemar(b, c)
    sign = patient_sign_test(right["x"].astype(int) - right["y"], answers["x"].patient)
    assert pair["tests"]["patient_sign"] == {"p": sign, "p_holm": sign}
    assert (
        pair["untested"]["delong"]
        == pair["untested"]["delong_patients"]
        == "DeLong's test is for two classes"
    )
    groups = QUICK.groups(found.models["x"]["patients"])
    estimates = [
        Estimate.of(
            found.models[name]["accuracy"],
            figures_left_out(tally_of(one), groups)[0]["accuracy"],
            groups.sizes,
        )
        for name, one in answers.items()
    ]
    low, high, _ = difference(*estimates, 0.95)
    entry = pair["differences"]["accuracy"]
    assert entry == {
        "difference": found.models["x"]["accuracy"] - found.models["y"]["accuracy"],
        "low": pytest.approx(low),
        "high": pytest.approx(high),
        "rough": True,  # a class has seven patients or fewer
    }
    assert not ABSENT & set(pair["differences"])
    assert found.notes[0] == (
        "a study can have several classes at once: accuracy is how often exactly these are named; "
        "normal is what has no other class"
    )
    fewest = min(
        len({key[0] for key, (has, _, _) in plain_units(slices["x"], "study", "max").items() if name in has})
        for name in slices["x"].classes
    )
    assert found.notes[1].startswith(f"a class has {fewest} patients only")


@pytest.fixture
def run(tmp_path):
    for name, noise in (("svm", 0.7), ("mlp", 3.0)):
        (tmp_path / name).mkdir()
        p = make_several(patients=60, noise=noise, noise_seed=len(name))
        p.write(tmp_path / name / "predictions.csv")
    return RunDirectory(tmp_path)


def test_the_command_compares_by_study(run, capsys):
    assert main(["compare", "--run", str(run.path), "--by", "study", "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert " ".join(out.split()).startswith(
        "test, by study (max): 120 studies of 60 patients, averages over classes; 95% intervals"
    )
    own = evaluate(aggregate(make_several(patients=60, noise=0.7, noise_seed=3), "study", "max"))
    (accuracy,) = [line for line in lines if line[:1] == ["accuracy"]]
    assert accuracy[1] == f"{own['accuracy']:.3f}"
    assert ["MCC", "-", "-", "-"] in lines
    assert "undefined: MCC of svm, mlp: R_K needs one class a study, and a study can have several" in out
    assert "svm is right more often than mlp (accuracy 0." in out
    assert "note: a study can have several classes at once" in out
    written = json.loads((run.path / "compare.json").read_text())
    assert written["unit"] == "study (max)"
    assert written["models"]["svm"]["per_class"]["subdural"]["intervals"]["sensitivity"]["low"] > 0
    assert written["models"]["svm"]["accuracy"] == own["accuracy"]


def test_a_threshold_by_unit_is_refused_for_several_classes(run, capsys):
    for by in ("slice", "patient"):
        assert main(["compare", "--run", str(run.path), "--by", by, "--threshold", "0.4"]) == 2
        assert "a threshold needs two classes; here there are 3" in capsys.readouterr().err


@pytest.mark.parametrize("how", list(Aggregation))
def test_patients_can_be_counted_however_slices_are_joined(run, how):
    found = compare(run, by="patient", how=how, resampling=QUICK)
    assert found.unit == f"patient ({how.value})"
    own = found.models["svm"]
    assert own["slices"] == own["patients"] == 60
    p = make_several(patients=60, noise=0.7, noise_seed=3)
    assert own["brier"] == evaluate(aggregate(p, "patient", how))["brier"]
