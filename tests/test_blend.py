"""Several heads as one more model: a fold has no say in the weights and threshold it is judged by."""

import json

import numpy as np
import pytest
from pictured import trained_run
from runs import add_model, make_run
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from haemo.errors import BadSettings, FingerprintMismatch
from haemo.models.heads.blending import LogitBlend, blended_out_of_fold, log_odds_of
from haemo.models.heads.calibration import cross_calibrated
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.repeated_cv import repeat_cv
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.run.directory import train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.training.blend import BlendSettings, train_blend
from haemo.pipeline.training.head import HeadSettings, train_head

QUICK = Resampling(resamples=200)


def said(n=200, seed=0):
    """Scores of three heads, the second of which knows least, truth and folds."""
    random = np.random.default_rng(seed)
    y = (random.random(n) < 0.3).astype(int)
    noise = np.array([1.0, 6.0, 1.5])
    return (2 * y - 1)[:, None] + random.normal(size=(n, 3)) * noise, y, random.integers(0, 5, n)


@pytest.mark.numerical
def test_fitted_weights_are_those_of_the_penalised_likelihood():
    X, y, _ = said()
    blend = LogitBlend().fit(X, y)

    def loss(values):
        scores = X @ values[:3] + values[3]
        return (np.logaddexp(0, scores) - y * scores).sum() + ((values[:3] - 1 / 3) ** 2).sum() / 2

    plain = minimize(loss, np.zeros(4), method="SLSQP", bounds=[(0, None)] * 3 + [(None, None)], tol=1e-12)
    np.testing.assert_allclose([*blend.coef_, blend.intercept_], plain.x, atol=1e-4)
    assert blend.coef_.argmin() == 1
    assert (blend.predict(X) == y).mean() > 0.8


@pytest.mark.numerical
def test_no_head_weighs_less_than_nothing_and_means_are_plain():
    X, y, _ = said()
    X[:, 1] = -3 * X[:, 0]
    assert LogitBlend().fit(X, y).coef_[1] == 0
    blend = LogitBlend("mean").fit(X, y)
    np.testing.assert_allclose(blend.decision_function(X), X.mean(axis=1))


@pytest.mark.numerical
@pytest.mark.parametrize("weights", ["fitted", "mean"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "none"])
def test_the_labels_of_a_fold_have_no_say_in_what_is_said_of_it(weights, method):
    scores, y, folds = said(120)
    found = blended_out_of_fold(scores, y, folds, [method] * 3, weights)
    for fold in range(5):
        turned = np.where(folds == fold, 1 - y, y)
        again = blended_out_of_fold(scores, turned, folds, [method] * 3, weights)
        np.testing.assert_array_equal(again[folds == fold], found[folds == fold])
    assert np.isfinite(found).all()
    assert roc_auc_score(y, found) > 0.6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("blend"), copies=1, signal=0.5)
    train_head(made, "svm", HeadSettings(grid={"C": [1e-3]}))
    train_head(made, "svm", HeadSettings(grid={"C": [1e-3]}, context=1, smooth=True), called="svm-beside")
    train_head(made, "softmax", HeadSettings(grid={"C": [1e-3]}, calibration="none"))
    return made


@pytest.mark.numerical
def test_a_blend_is_the_weighted_log_odds_of_its_heads(run):
    result = train_blend(run)
    names = ["svm", "softmax", "svm-beside"]
    assert result.facts["blend"] == names
    kept = {name: Predictions.read(run.model_path(name) / "predictions.csv") for name in names}
    tests = {name: own.of_part("test") for name, own in kept.items()}
    ids = sorted(tests["svm"].slice_id.tolist())
    odds = np.column_stack(
        [
            log_odds_of(own.probabilities)[[own.slice_id.tolist().index(one) for one in ids]]
            for own in tests.values()
        ]
    )
    own = kept["svm"].of_part("cv")
    order = np.argsort(own.slice_id)
    y, fold = (own.label[order] == "bleed").astype(int), own.fold[order]
    learned = []
    for name, method in zip(names, ("sigmoid", "prior", "sigmoid"), strict=True):
        of_head = kept[name].of_part("cv")
        scores = of_head.scores[np.argsort(of_head.slice_id)]
        learned.append(log_odds_of(cross_calibrated(scores, y, fold, method)[:, 1]))
    blend = LogitBlend().fit(np.column_stack(learned), y)
    wanted = dict(zip(ids, blend.decision_function(odds).tolist(), strict=True))
    found = result.predictions.of_part("test")
    for name, score in zip(found.slice_id.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(wanted[name], abs=1e-9)
    assert train_blend(run).up_to_date
    assert train_command(run.model_path("blend")) == (
        f"haemo blend --heads svm,softmax,svm-beside --name blend --run {run}"
    )


def test_it_stands_beside_its_heads(run, capsys):
    train_blend(run)
    assert "blend" in compare(run, resampling=QUICK).models
    again = repeat_cv(run, 3, 2, resampling=QUICK)
    assert list(again.models) == ["svm", "softmax", "svm-beside", "blend"]
    areas = [again.models[name]["roc_auc"]["mean"] for name in again.models]
    assert abs(areas[3] - np.mean(areas[:3])) < 0.15
    assert main(["report", "--run", str(run), "--resamples", "100"]) == 0
    assert (
        main(["blend", "--run", str(run), "--heads", "svm,softmax", "--weights", "mean", "--name", "two"])
        == 0
    )
    out = capsys.readouterr().out
    assert "two: svm 0.5, softmax 0.5 (mean weights)" in out
    assert json.loads((run.model_path("two") / "settings.json").read_text())["threshold_rule"] == "youden"


def test_what_cannot_be_blended_is_named(run, tmp_path, capsys):
    add_model(run, "other")
    for options, message in (
        (["--heads", "svm,other"], "other cannot be blended: only heads have scores"),
        (["--heads", "svm,sofmax"], "there is no head 'sofmax'. Did you mean softmax?"),
        (["--heads", "svm,blend"], "blend"),
        (["--name", "cnn"], "a head of blend cannot be called 'cnn'"),
    ):
        assert main(["blend", "--run", str(run), *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["blend", "--run", str(run), "--heads", "svm"]) == 1
    assert "needs two heads or more" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(BadSettings, match="no way of weighing"):
        train_blend(run, BlendSettings(weights="best"))


def test_new_slices_get_the_scores_of_the_run_and_a_changed_head_is_noticed(tmp_path, capsys):
    run = trained_run(tmp_path)
    train_head(run, "softmax", HeadSettings(grid={"C": [1e-4]}))
    assert main(["blend", "--run", str(run)]) == 0
    files = sorted((tmp_path / "slices").glob("*.png"))
    found = predict(run, "blend", files)
    kept = Predictions.read(run.model_path("blend") / "predictions.csv").of_part("test")
    scores = {path.name: score for path, score in zip(found.paths, found.scores.tolist(), strict=True)}
    wanted = dict(zip(kept.slice_id.tolist(), kept.scores.tolist(), strict=True))
    assert {name: scores[name] for name in wanted} == wanted
    assert main(["predict", "--run", str(run), "--head", "blend", "--explain", str(files[0])]) == 0
    assert "blend: maps are those of" in capsys.readouterr().err
    train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}))
    with pytest.raises(FingerprintMismatch, match=r"was made of another svm .*: haemo blend"):
        load_model(run, "blend")
