"""The report: one page that needs nothing else, says what is leaky, and names nobody when asked not to."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from runs import add_model, make_run
from scored import make_predictions, make_several

from haemo.errors import MissingStep
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.leakage import measure_leakage
from haemo.pipeline.evaluation.learning_curve import measure_learning_curve
from haemo.pipeline.report import write_report
from haemo.pipeline.report.answer_figures import curve_band
from haemo.pipeline.report.evidence import gather
from haemo.pipeline.report.published import PUBLISHED
from haemo.pipeline.run.directory import NETWORKS, RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.protocols import load_or_make_split
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.training.head import HeadSettings, train_head
from haemo.pipeline.training.network import NetworkRequest, train_network

QUICK = Resampling(resamples=100)


class Page(HTMLParser):
    """Tags that are open, and everything that a page would fetch or run."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.outside, self.anchors, self.links, self.images = [], [], [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name in ("src", "href", "xlink:href"):
            value = values.get(name, "")
            if value and not value.startswith(("#", "data:")):
                self.outside.append(value)
            if name == "href" and value.startswith("#"):
                self.links.append(value[1:])
        if "id" in values:
            assert values["id"] not in self.anchors, f"id {values['id']} twice"
            self.anchors.add(values["id"])
        if tag == "img":
            self.images.append(values.get("alt", ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("reported"), patients=30)
    load_or_make_split(made, made.manifest())
    for name, noise in (("svm", 0.5), ("softmax", 0.6), ("tinyvgg", 2.0)):
        add_model(made, name, noise)
    (made.path / "svm" / "settings.json").write_text(
        json.dumps({"metric": "roc_auc", "parameters": {"C": 0.1}, "search": {"mean": 0.9, "sd": 0.01}})
    )
    with (made.path / "svm" / "grid.csv").open("w") as stream:
        rows = [
            {"C": c, "gamma": g, "mean": 0.8 + c * g, "sd": 0.1, "rank": 1}
            for c in (0.1, 1)
            for g in (0.1, 0.2)
        ]
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with (made.path / "tinyvgg" / "history.csv").open("w") as stream:
        stream.write(
            "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,learning_rate,seconds\n"
        )
        stream.write("1,0.7,0.5,0.69,0.55,0.001,1\n2,0.5,0.8,0.6,0.7,0.001,1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)
        measure_leakage(made, repeats=2, resampling=QUICK)
    measure_learning_curve(made, repeats=3)
    return made


@pytest.fixture(scope="module")
def report(run):
    return write_report(run, resampling=QUICK)


@pytest.fixture(scope="module")
def text(report):
    return report.page.read_text()


def test_the_page_is_whole_and_needs_no_network_and_no_script(text):
    page = Page(text)
    assert page.open == []
    assert page.outside == []
    assert "script" not in page.tags
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(page.links) <= page.anchors
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_captions_of_wide_tables_stay_on_a_narrow_page(text):
    """A caption that scrolled with its table would be cut; as wide as the page it stays where it is."""
    caption = re.search(r"^caption\{([^}]*)\}", text, re.MULTILINE).group(1)
    assert {"position:sticky", "left:0", "max-width:100cqi"} <= set(re.split(r";\s*", caption))
    assert "container-type:inline-size" in re.search(r"^\.scroll\{([^}]*)\}", text, re.MULTILINE).group(1)


def test_every_figure_has_words_and_lies_beside_the_page(report, text):
    page = Page(text)
    assert page.images
    assert all(page.images)
    assert text.count("<svg") == text.count('role="group" aria-label="')
    names = {path.stem for path in report.figures.glob("*.png")}
    assert names >= {"roc", "precision_recall", "calibration", "confusion", "scores", "errors"}
    assert names >= {"leakage", "learning_curve", "grid_svm", "history_tinyvgg"}
    for name in names - {"errors"}:
        ElementTree.parse(report.figures / f"{name}.svg")


def test_figures_follow_the_colours_of_the_page(text, report):
    assert "currentColor" in text
    assert "#1b1f24" not in text.split("</style>")[1]
    assert "currentColor" not in (report.figures / "roc.svg").read_text()


def test_the_claim_comes_first_and_speaks_of_the_model_chosen_out_of_fold(report, text):
    assert report.claim.startswith(
        "On 40 slices of 10 patients it was not trained on, svm tells bleed from normal"
    )
    assert re.search(r"chosen by its ROC AUC on \d+ slices of training patients held out", report.claim)
    assert "accuracy 0." in report.claim
    assert "95% interval" in report.claim
    assert text.index('class="claim"') < text.index("<h2>")


def test_leaky_figures_are_marked_wherever_they_stand(text):
    published = text[text.index('id="published"') : text.index('id="curves"')]
    assert published.count("LEAKY</span>") == 2 * len(PUBLISHED), "as published, and that protocol here"
    leakage = text[text.index('id="leakage"') : text.index('id="patients"')]
    for name in ("slice", "paper", "lenet", "thesis"):
        assert f'<th scope="row">{name} <span class="leaky">LEAKY</span>' in leakage


def test_all_five_published_systems_have_a_row(text):
    for result in PUBLISHED:
        assert f"haemo {result.model}" in text
    assert {result.model for result in PUBLISHED} == {"svm", *NETWORKS}
    assert "not trained in this run" in text


def test_without_names_no_slice_patient_or_path_is_found(run, report):
    for path in (report.page, report.card, report.checklist):
        text = path.read_text()
        assert not re.search(r"\bp\d\d-\d\b|\bpatient\d\d\b|\bstudy\d\d\b", text)
        assert str(run.path) not in text
        assert run.path.name not in text
    assert re.search(r"slice-[0-9a-f]{10}", report.page.read_text())


def test_names_are_seen_only_where_they_are_asked_for_and_the_same_run_gives_the_same_page(run, text):
    named = write_report(run, anonymous=False, resampling=QUICK).page.read_text()
    assert re.search(r"\bp\d\d-\d\b", named)
    assert not re.search(r"slice-[0-9a-f]{10}", named)
    assert write_report(run, resampling=QUICK).page.read_text() == text


def test_the_card_and_the_checklist_are_filled_in_from_the_run(report):
    card, claim = report.card.read_text(), report.checklist.read_text()
    assert card.startswith("# Model card: svm\n\nOn 40 slices of 10 patients")
    assert "- settings: C 0.1" in card
    assert "Not a medical device" in card
    assert re.search(
        r"\| 19 \| Assignment of data to partitions \| \d+ training and \d+ test slices, by patient", claim
    )
    assert "| 20 | Level at which partitions are disjoint | patient |" in claim
    rows = [line for line in claim.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows} == {2}
    tripod = report.tripod.read_text()
    for text, items in ((claim, 44), (tripod, 52)):
        left = sum(line.endswith("| for the authors |") for line in text.splitlines())
        assert f"{items - left} of {items} items are answered from what is known, {left} are" in text
    assert "| 17 | Ethical approval | for the authors |" in tripod
    assert "| 14 | Fairness | not in the data set as indexed (haemo index --keep) |" in tripod


def test_text_of_the_data_set_cannot_become_markup(tmp_path):
    made = make_run(tmp_path, patients=12, copies=1)
    add_model(made, "svm", noise=2)
    path = tmp_path / "svm" / "predictions.csv"
    path.write_text(path.read_text().replace("bleed", "<b>bleed&</b>"))
    made.manifest_path.write_text(made.manifest_path.read_text().replace("bleed", "<b>bleed&</b>"))
    text = write_report(made, resampling=QUICK).page.read_text()
    assert Page(text).open == []
    assert "<b>bleed" not in text
    assert "&lt;b&gt;bleed&amp;&lt;/b&gt;" in text


def test_missing_parts_name_their_command_and_a_leaky_split_is_said_first(tmp_path):
    made = make_run(tmp_path, patients=12, copies=1)
    add_model(made, "mlp")
    split = load_or_make_split(made, made.manifest())
    Split(**{**split.__dict__, "leaky": True}).write(made.split_path)
    written = write_report(made, resampling=QUICK)
    text = written.page.read_text()
    assert "haemo leakage --run RUN<" in text
    assert "haemo learning-curve --run RUN<" in text
    assert written.claim.startswith("LEAKY: On ")
    assert "LEAKY: patients stand on both sides" in text[: text.index("<h2>")]
    assert "LEAKY" in written.checklist.read_text()


def test_several_classes_are_reported_without_curves(tmp_path):
    made = make_run(tmp_path, patients=12, copies=1)
    (tmp_path / "svm").mkdir()
    made_up = make_predictions(n=60, classes=("epidural", "none", "subdural"))
    made_up.write(tmp_path / "svm" / "predictions.csv")
    text = write_report(made, resampling=QUICK).page.read_text()
    assert Page(text).open == []
    assert "tells epidural, none, subdural apart" in text
    assert "are drawn for two classes" in text


def test_several_classes_have_their_table_by_study_and_by_patient(tmp_path):
    made = make_run(tmp_path, patients=12, copies=1)
    (tmp_path / "svm").mkdir()
    made_up = make_several(classes=("epidural", "normal", "subdural"))
    made_up.write(tmp_path / "svm" / "predictions.csv")
    text = write_report(made, resampling=QUICK).page.read_text()
    assert Page(text).open == []
    part = text[text.index("svm by study and patient") : text.index('id="published"')]
    for by, units in (("study", 48), ("patient", 24)):
        for how in Aggregation:
            own = assess(aggregate(made_up, by, how), resampling=QUICK)
            interval = own["intervals"]["accuracy"]
            few = "~" if interval.get("rough") else ""  # patients of a class
            ends = f"{few}{interval['low']:.3f}–{interval['high']:.3f}"
            cells = f"<td>{units}</td><td>{own['accuracy']:.3f} <small>{ends}</small></td>"
            assert f'<th scope="row">{by}, {how.value}</th>{cells}<td>{own["roc_auc"]:.3f}' in part
    assert "and normal if it has no other" in part
    assert "how often exactly its classes are named" in part


def test_the_band_is_made_of_curves_of_drawn_patients():
    p: Predictions = make_predictions(n=50, patients=8, coarse=True)
    curve, found = curve_band(p, "roc", QUICK)
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(p.label == "bleed", p.scores, drop_intermediate=False)
    assert curve == pytest.approx(np.interp(np.linspace(0, 1, 101), false, true))
    weights = np.concatenate(list(QUICK.weights(8)))[0]
    drawn = np.concatenate(
        [
            np.flatnonzero(p.patient == name)
            for name, w in zip(np.unique(p.patient), weights, strict=True)
            for _ in range(int(w))
        ]
    )
    false, true, _ = roc_curve(p.label[drawn] == "bleed", p.scores[drawn], drop_intermediate=False)
    assert found[0] == pytest.approx(np.interp(np.linspace(0, 1, 101), false, true))


def test_the_command_says_the_claim_and_where_things_are(run, capsys):
    assert main(["report", "--run", str(run.path), "--resamples", "100"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("On 40 slices of 10 patients")
    assert out[-1] == f"written: {run.path / 'report.html'}, MODEL_CARD.md, CLAIM.md, TRIPOD.md, figures/"


def test_a_run_without_models_names_the_next_command(tmp_path):
    made = make_run(tmp_path, patients=12, copies=1)
    with pytest.raises(MissingStep, match="train one first: haemo svm"):
        write_report(made)
    with pytest.raises(MissingStep, match="haemo index"):
        write_report(RunDirectory(tmp_path / "none"))


def test_a_model_that_may_be_guessing_is_not_said_to_tell_classes_apart(tmp_path):
    made = make_run(tmp_path, patients=36, copies=1)
    add_model(made, "lenet", noise=20)
    claim = write_report(made, resampling=QUICK).claim
    assert "lenet is not shown to tell bleed from normal better than chance: ROC AUC" in claim


@pytest.mark.parametrize("heads", [("svm",), ("svm", "softmax"), ()])
def test_a_network_is_not_chosen_by_the_slices_that_chose_its_epoch(tmp_path, heads):
    run = make_run(tmp_path, copies=1)
    for name in (*heads, "finetune", "cnn"):
        add_model(run, name, noise=0.1 if name in ("finetune", "cnn") else 2.0)
        if name not in heads:
            (run.model_path(name) / "settings.json").write_text(json.dumps({"network": name}))
    found = gather(run, anonymous=False, prevalence=None, resampling=QUICK)
    if heads:
        assert found.chosen in heads
        assert found.why_chosen.endswith("; cnn, finetune left out, which these slices settled")
    else:
        assert found.why_chosen.endswith("; these slices settled it too")


def test_the_card_of_a_network_says_what_the_network_was_made_with(tmp_path):
    """Not what a head beside it was: its features, window and weights are others."""
    run = make_run(tmp_path, patients=30, copies=1, signal=0.0)
    train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}))
    # Without answers out of fold the head is not chosen before the network.
    of_svm = run.path / "svm" / "predictions.csv"
    Predictions.read(of_svm).of_part("test").write(of_svm)
    train_network(run, "tinyvgg", NetworkRequest(device="cpu"), epochs=1)
    chance = Predictions.read(run.path / "tinyvgg" / "predictions.csv")
    right = np.where(chance.label == "bleed", 0.9, 0.1)
    replace(chance, scores=right, probabilities=right).write(run.path / "tinyvgg" / "predictions.csv")
    write_report(run, resampling=QUICK)
    card, checklist = ((run.path / name).read_text() for name in ("MODEL_CARD.md", "CLAIM.md"))
    assert card.startswith("# Model card: tinyvgg")
    assert "network tinyvgg, layer trained end to end" in card
    assert "random, seed 0" in card
    assert "made up" not in card
    assert "random, seed 0" in checklist
    assert "resized to 64 x 64" in checklist
