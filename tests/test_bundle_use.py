"""A packed model where a run can stand: on the page, for a PACS and from Python."""

from pathlib import Path

import pydicom
import pytest
from dicom_studies import write_study
from pictured import CLASSES, trained_run
from readers import Desk

import haemo
from haemo.errors import BadSettings, MissingStep
from haemo.pipeline.cli import main
from haemo.pipeline.dicom_results.finding import model_version
from haemo.pipeline.dicom_results.results import findings_of
from haemo.pipeline.dicom_results.scorer import file_scorer
from haemo.pipeline.packing.modelfile import open_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.serving.scored import Model
from haemo.pipeline.serving.server import Serving


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("bundled"))


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "svm.haemo"
    assert main(["-q", "pack", "--run", str(run), "--head", "svm", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study") / "CT", 2, bleeds=True)


def test_the_page_scores_with_a_bundle_and_says_what_it_does_not_hold(run, bundle, study, tmp_path):
    model = Serving(model=str(bundle)).scoring_model()
    desk = Desk(tmp_path, model=model)
    try:
        reader = desk.read()
        (dropped,) = reader.drop({path.name: path.read_bytes() for path in study.iterdir()}).json()["studies"]
        found = reader.scored(dropped["key"])
        own = predict(run, "svm", [study], device="cpu")
        assert [one["probability"] for one in found["slices"]] == own.probabilities.tolist()
        assert found["model"] == "svm.haemo"
        assert found["outlined_by"] == "the built-in model"
        assert found["dicom"], found["no_dicom"]
        page = reader.get("/runs").text
        assert "scored by <bdi>svm.haemo</bdi>" in page
        assert "those stay in the run it was trained in" in " ".join(page.split())
    finally:
        desk.close()


def test_what_is_no_model_is_refused_before_the_page_opens(bundle, tmp_path, capsys):
    torn = tmp_path / "torn.haemo"
    torn.write_bytes(bundle.read_bytes()[:-9])
    assert main(["serve", "--model", str(torn)]) == 1
    assert f"{torn} is no model that haemo packed" in capsys.readouterr().err
    assert (
        Model(str(bundle), trusted=("a.B",)) == Serving(model=str(bundle), trusted=("a.B",)).scoring_model()
    )


def test_results_for_a_pacs_name_the_bundle(run, bundle, study):
    model = open_model(str(bundle), "cpu")
    scorer = file_scorer(model, bundle)
    scores, outlined = scorer.score([study])
    own = predict(run, "svm", [study], device="cpu")
    assert scores.probabilities.tolist() == own.probabilities.tolist()
    assert scorer.identity.name == "haemo svm"
    assert scorer.identity.version == model_version(bundle)
    findings, failures = findings_of(scores, outlined, scorer.how)
    assert failures == []
    uid = str(pydicom.dcmread(next(iter(study.iterdir()))).StudyInstanceUID)
    assert list(findings) == [uid]


def test_the_series_that_are_asked_for_are_scored(tmp_path):
    """Of a thin and a thick series of one study index takes the thick one."""
    folder = write_study(tmp_path / "CT", 2, bleeds=True, SeriesDescription="Head 5 mm")
    write_study(folder, 2, bleeds=True, series=2, SeriesDescription="Head thin", SliceThickness=0.6)
    found = {}
    for series in (None, "all", "thin"):
        scores, _ = file_scorer(open_model("builtin"), None, series=series).score([folder])
        found[series] = len(scores)
    assert found == {None: 3, "all": 6, "thin": 3}


def test_the_listener_takes_a_bundle_and_refuses_what_is_none(bundle, tmp_path, capsys):
    none = str(tmp_path / "none.haemo")
    words = ["pacs", "listen", "--to", "A@127.0.0.1:1", "--state", str(tmp_path / "state")]
    assert main([*words, "--model", none]) == 1
    assert f"{none} is not there" in capsys.readouterr().err
    assert main([*words, "--model", str(bundle), "--run", "r"]) == 2
    assert "--model FILE or builtin" in capsys.readouterr().err
    assert main([*words, "--model", str(bundle), "--series", "["]) == 2
    assert "--series" in capsys.readouterr().err


class TestFromPython:
    def test_it_says_what_the_run_says(self, run, bundle, study, tmp_path):
        packed = haemo.Run(run.path).pack("svm", tmp_path / "again.haemo")
        assert packed.path.read_bytes() == bundle.read_bytes()
        model = haemo.Model(bundle, device="cpu")
        own = predict(run, "svm", [study], device="cpu")
        assert model.classes == CLASSES[:2]
        assert model.predict(study).probabilities.tolist() == own.probabilities.tolist()
        assert model.threshold == own.threshold
        lower = model.predict([study], threshold=0.01)
        assert set(lower.predicted) == {"haemorrhage"}
        assert model.threshold == own.threshold
        pictures = model.explain(study, tmp_path / "drawn", method="hirescam", outline="evidence")
        assert len(pictures) == 3
        assert all(one.picture.is_file() for one in pictures)
        assert repr(model) == f"Model({str(bundle)!r}: normal, haemorrhage)"

    def test_it_is_judged_elsewhere(self, run, bundle, tmp_path):
        labels = tmp_path / "labels.csv"
        rows = [f"{row.path.name},{row.label},{row.patient}" for row in run.manifest()]
        labels.write_text("\n".join(["path,label,patient", *rows]) + "\n")
        data = Path(run.path).parent / "slices"
        found = haemo.Model(bundle).evaluate(data, tmp_path / "out", index={"labels": labels})
        assert found.heading.startswith("36 slices of 18 patients")
        assert (tmp_path / "out" / "report.html").is_file()
        with pytest.raises(BadSettings, match="there is no option labels"):
            haemo.Model(bundle).evaluate(data, tmp_path / "other", labels=labels)

    def test_the_builtin_model_is_one(self, study, tmp_path):
        model = haemo.Model("builtin")
        assert set(model.predict(study).predicted) == {"normal", "haemorrhage"}
        assert 0 < model.threshold < 1
        with pytest.raises(BadSettings, match="has no map of evidence"):
            model.explain(study, tmp_path)

    def test_what_is_no_model_is_refused(self, tmp_path):
        with pytest.raises(MissingStep, match="is not there; make it with: haemo pack"):
            haemo.Model(tmp_path / "none.haemo")
        with pytest.raises(BadSettings, match="is a folder"):
            haemo.Model(tmp_path)
