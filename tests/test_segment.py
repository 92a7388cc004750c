"""`haemo segment`: learned from masks, drawn on new slices, measured; and what can go wrong."""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_heads import SPACING_MM, STEP_MM, as_picture, cohort, head, write_slice
from PIL import Image
from threadpoolctl import threadpool_info

from haemo.errors import BadDataset, FingerprintMismatch
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing
from haemo.models.pixels import pixel_classifier
from haemo.pipeline.cli import main
from haemo.pipeline.cli.segment import show_volumes
from haemo.pipeline.explaining import explanation
from haemo.pipeline.explaining.explanation import explain_slices
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.segmenting import drawing
from haemo.pipeline.segmenting import segmenter as segmenter_module
from haemo.pipeline.segmenting.agreement import volume_agreement, volumes_by_subtype
from haemo.pipeline.segmenting.outlining import outline_slices
from haemo.pipeline.segmenting.segmenter import Segmenter

ONE_JOB = ("--jobs", "1")


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    run = tmp_path_factory.mktemp("segment") / "run"
    assert main(["index", str(data), "--run", str(run)]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_classifier, "_ROUNDS", 25)
        assert main(["segment", "train", "--run", str(run), *ONE_JOB]) == 0
    return run


@pytest.fixture(scope="module")
def drawn(run) -> Segmenter:
    return Segmenter.read(run / "segment" / "model.safetensors")


def test_training_again_changes_nothing_and_says_so(run, capsys, monkeypatch):
    monkeypatch.setattr(pixel_classifier, "fit_pixels", None)  # would fail if it were called
    before = (run / "segment" / "model.safetensors").read_bytes()
    assert main(["segment", "train", "--run", str(run), *ONE_JOB]) == 0
    assert "kept in" in capsys.readouterr().out
    assert (run / "segment" / "model.safetensors").read_bytes() == before


def test_test_patients_were_not_learned_from(run):
    run = RunDirectory(run)
    predictions = run.predictions("segment")
    split = json.loads(run.split_path.read_text())
    test = set(predictions.of_part("test").patient)
    assert set(predictions.of_part("cv").patient).isdisjoint(test)
    assert len(test) + len(set(predictions.of_part("cv").patient)) < 16  # the rest was fitted on
    assert run.settings("segment")["learned_from"]["patients"] == 16 - len(test)
    assert run.settings("segment")["split"]
    assert split


def test_slices_are_outlined_where_the_blood_is(drawn):
    for seed in range(6):
        hu, mask = head(900 + seed, blood_mm=12)
        found = drawn.draw(Slice(hu, True, (SPACING_MM, SPACING_MM)))
        assert mask[found.peak]
        outlines = drawn.regions(found)
        joined = np.any([region.mask for region in outlines], axis=0)
        assert 2 * (joined & mask).sum() / (joined.sum() + mask.sum()) > 0.75
        quiet, _ = head(900 + seed)
        assert drawn.draw(Slice(quiet, True, (SPACING_MM, SPACING_MM))).score < found.score / 2


def test_a_picture_and_a_turned_head_are_outlined_alike(drawn):
    for turn in (0, 15, -20):
        hu, mask = head(77, blood_mm=12, turn_deg=turn)
        in_hu = drawn.draw(Slice(hu, True, (SPACING_MM, SPACING_MM)))
        picture = drawn.draw(Slice(as_picture(hu).astype(np.float32), False, None))
        assert mask[in_hu.peak]
        assert mask[picture.peak]
        assert picture.spacing_mm is None
        # The disc of 12 mm was drawn on one side of the turned midline, and all of it lies there.
        share = in_hu.left_share[mask].mean()
        assert share > 0.95 or share < 0.05


def test_an_outline_must_have_bulk(drawn):
    hu, _ = head(900, blood_mm=12)
    found = drawn.draw(Slice(hu, True, (SPACING_MM, SPACING_MM)))
    most = max(found.bulk(region) for region in drawn.regions(found))
    for least, some in ((most, True), (most + 1e-6, False)):
        facts = {**drawn.facts, "bulk_thresholds": {"hu": least, "picture": 0}}
        assert bool(Segmenter(drawn.classifier, facts).regions(found)) == some


def test_many_files_are_drawn_in_processes_as_few_are_here(drawn, data, tmp_path, monkeypatch):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [*sorted(data.rglob("0*.dcm"))[:5], tmp_path / "broken.png"]
    few = outline_slices(drawn, files)
    monkeypatch.setattr(drawing, "_FEW", 1)
    monkeypatch.setattr(drawing, "_BLOCK", 4)
    many = outline_slices(drawn, files)
    np.testing.assert_array_equal(many.scores.scores, few.scores.scores)
    assert many.studies == few.studies
    assert [one.path for one in many.scores.failures] == [str(tmp_path / "broken.png")]


class EvenModel:
    """A model whose evidence is the same everywhere."""

    name, preprocessing = "even", Preprocessing()

    def explained(self, method):
        return self, method

    def maps(self, planes, method, target):
        return np.ones((len(planes), 13, 13), dtype=np.float32)

    def on_slice(self, network, evidence, view):
        return np.full(view.image.shape, evidence.mean())


def test_explained_slices_are_outlined_in_processes_as_few_are_here(drawn, data, tmp_path, monkeypatch):
    outlines = outline_slices(drawn, sorted(data.rglob("0*.dcm"))[:20])
    result, chosen = outlines.scores, [outlines.scores.paths.index(path) for path in outlines.masks]
    monkeypatch.setattr(explanation, "_BATCH", 2)
    few, many = tmp_path / "few", tmp_path / "many"
    explain_slices(EvenModel(), result, few, chosen=chosen, segmenter=drawn)
    monkeypatch.setattr(drawing, "_FEW", 1)
    explain_slices(EvenModel(), result, many, chosen=chosen, segmenter=drawn)
    names = sorted(path.name for path in few.iterdir())
    assert len(names) == len(chosen) + 1 > 3
    assert [(many / name).read_bytes() for name in names] == [(few / name).read_bytes() for name in names]
    assert len(json.loads((few / "regions.geojson").read_text())["features"]) >= len(chosen)


@pytest.mark.parametrize(("method", "most"), [("contrast", 1), ("occlusion", 2)])
def test_one_thread_multiplies_while_others_outline_and_draw(
    drawn, data, tmp_path, monkeypatch, method, most
):
    result, seen = outline_slices(drawn, sorted(data.rglob("0*.dcm"))[:3]).scores, []

    class Watched(EvenModel):
        def on_slice(self, network, evidence, view):
            of_blas = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
            seen.append((torch.get_num_threads(), max(of_blas)))
            return super().on_slice(network, evidence, view)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    explain_slices(Watched(), result, tmp_path / "out", chosen=range(3), method=method, segmenter=drawn)
    assert seen == [(most, 1)] * 3
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_segmenter_goes_to_another_process_whole(drawn):
    again = pickle.loads(pickle.dumps(drawn))  # noqa: S301 - of our own bytes
    assert again.facts == drawn.facts
    image = Slice(head(5, blood_mm=9)[0], True, (SPACING_MM, SPACING_MM))
    np.testing.assert_array_equal(again.draw(image).probability, drawn.draw(image).probability)
    same = pickle.loads(pickle.dumps(drawn))  # noqa: S301
    assert same is again, "its tables are made once"


def test_a_slice_without_a_head_is_outside_and_has_no_blood(drawn, tmp_path):
    empty = write_slice(tmp_path / "P99" / "00.dcm", np.full((144, 144), -1000, np.float32), "P99", 0)
    found = outline_slices(drawn, [empty])
    assert found.scores.outside[0]
    assert found.studies["1.2.99.1"].slices_with_blood == 0


class TestPredict:
    def test_masks_pictures_tables_and_volume(self, run, data, tmp_path, capsys):
        out = tmp_path / "out"
        arguments = ["segment", "predict", "--run", str(run), "--out", str(out), "--probabilities"]
        assert main([*arguments, str(data / "P01"), str(data / "P02")]) == 0
        studies = {row["study"]: row for row in table(out / "studies.csv")}
        bleeding, quiet = studies["1.2.01.1"], studies["1.2.02.1"]
        true_ml = 0.0
        for number in range(4):
            truth = levels(data / "masks" / "P01" / f"{number:02}.png") > 0
            mask = levels(out / "masks" / "1.2.01.1" / f"{number:02}.png")
            chance = levels(out / "probabilities" / "1.2.01.1" / f"{number:02}.png")
            assert set(np.unique(mask)) <= {0, 255}
            assert mask.shape == chance.shape == truth.shape
            assert chance.max() <= 65535
            assert not truth.any() or chance[truth].mean() > 30000
            true_ml += truth.sum() * SPACING_MM**2 * STEP_MM / 1000
        assert float(bleeding["volume_ml"]) == pytest.approx(true_ml, rel=0.3)
        assert (bleeding["first"], bleeding["last"], bleeding["slices"]) == ("2", "4", "4")
        assert float(quiet["volume_ml"]) < 0.2
        regions = json.loads((out / "regions.geojson").read_text())["features"]
        assert {Path(one["properties"]["slice"]).name for one in regions} >= {"01.dcm", "02.dcm", "03.dcm"}
        slices = table(out / "slices.csv")
        assert [row["predicted"] for row in slices[:4]] == ["normal"] + 3 * ["haemorrhage"]
        assert len(list((out / "overlays").rglob("*.png"))) == sum(int(row["regions"]) > 0 for row in slices)
        said = capsys.readouterr().out
        assert "8 slices outlined, 0 failed" in said

    def test_broken_files_are_named_and_the_rest_is_done(self, run, data, tmp_path, capsys):
        good = data / "P01" / "01.dcm"
        (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:900])
        (tmp_path / "text.png").write_text("no picture")
        arguments = ["segment", "predict", "--run", str(run), "--out", str(tmp_path / "out")]
        assert main([*arguments, str(good), str(tmp_path / "cut.dcm"), str(tmp_path / "text.png")]) == 3
        assert "cut.dcm" in capsys.readouterr().err
        failed = (tmp_path / "out" / "failures.csv").read_text()
        assert "cut.dcm" in failed
        assert "text.png" in failed
        assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 1

    def test_pictures_of_one_name_do_not_overwrite_each_other(self, drawn, tmp_path):
        from haemo.pipeline.segmenting.outlining import Outputs

        hu, _ = head(5, blood_mm=10)
        for name in ("a.png", "a.bmp"):
            Image.fromarray(as_picture(hu)).save(tmp_path / name)
        outline_slices(drawn, [tmp_path / "a.png", tmp_path / "a.bmp"], Outputs(tmp_path / "out"))
        assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 2

    def test_a_folder_with_something_in_it_is_left_alone(self, run, data, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("keep")
        arguments = ["segment", "predict", "--run", str(run), "--out", str(tmp_path / "out"), str(data)]
        assert main(arguments) == 2
        assert "not empty" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]

    def test_earlier_outlines_give_way_only_where_that_is_asked_for(self, run, data, tmp_path, capsys):
        arguments = ["segment", "predict", "--run", str(run), "--out", str(tmp_path / "out")]
        assert main([*arguments, str(data / "P01")]) == 0
        (tmp_path / "out" / "notes.txt").write_text("keep")
        corrected = tmp_path / "out" / "masks" / "1.2.01.1" / "01.png"
        corrected.write_bytes(b"by hand")
        assert main([*arguments, str(data / "P02")]) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert corrected.read_bytes() == b"by hand"
        assert main([*arguments, "--overwrite", str(data / "P02")]) == 0
        assert not corrected.exists()
        assert (tmp_path / "out" / "notes.txt").read_text() == "keep"

    def test_run_and_model_are_one_too_many(self, run, data, tmp_path):
        arguments = ["segment", "predict", "--run", str(run), "--model", "builtin", "--out", str(tmp_path)]
        assert main([*arguments, str(data)]) == 2


class TestBuiltin:
    def test_it_needs_no_run_and_says_what_it_is(self, data, tmp_path, capsys):
        assert main(["segment", "predict", "--out", str(tmp_path / "out"), str(data / "P01")]) == 0
        assert "synthetic heads only, not validated" in capsys.readouterr().out

    def test_another_precision_is_said(self, data, tmp_path, capsys):
        arguments = ["segment", "predict", str(data / "P01" / "01.dcm"), "--out"]
        assert main([*arguments, str(tmp_path / "usual")]) == 0
        assert "bfloat16" not in capsys.readouterr().out
        assert main([*arguments, str(tmp_path / "half"), "--precision", "bfloat16"]) == 0
        assert "outlined with the trunk in bfloat16" in capsys.readouterr().out

    def test_it_finds_plain_bleeds_on_heads_it_never_saw(self):
        model = segmenter_module.builtin_segmenter()
        hits = []
        for seed in range(10):
            hu, mask = head(300 + seed, blood_mm=12)
            hits.append(mask[model.draw(Slice(hu, True, (SPACING_MM, SPACING_MM))).peak])
        assert sum(hits) >= 9


class TestScore:
    def test_figures_of_the_test_side(self, run, capsys):
        assert main(["segment", "score", "--run", str(run), *ONE_JOB]) == 0
        result = json.loads((run / "explain" / "segment.json").read_text())
        assert result["groups"]["all"]["pointing"]["mean"] > 0.9
        assert result["groups"]["all"]["dice"]["mean"] > 0.7
        assert result["groups"]["intraparenchymal"]["slices"] == result["groups"]["all"]["slices"]
        assert result["false_regions"]["mean"] < 0.5
        assert result["classified"]["roc_auc"] > 0.95
        said = capsys.readouterr().out
        assert "over 1 cm2" in said
        assert "false outlines a slice" in said
        assert result["volume_by_subtype"] == {"intraparenchymal": {"studies": 2}}
        assert "volumes: too few studies" in said

    def test_all_figures_of_a_segmenter_that_says_what_masks_say_are_one(self, run, monkeypatch):
        """An oracle in place of the classifier: outlines are the masks, but for one false piece a slice."""
        from haemo.features.pixels.blood_map import BloodMap
        from haemo.features.views.head_grid import HeadGrid
        from haemo.pipeline.segmenting import agreement

        asked = []

        def read(path, shape, own=agreement.read_mask):
            asked.append(own(path, shape))
            return asked[-1]

        def draw(self, image):
            mask = asked[-1].astype(np.float32)
            mask[:6, :6] = 0.9
            peak = tuple(int(place[0]) for place in np.nonzero(mask == mask.max()))
            return BloodMap(mask, peak, 1.0, image.spacing_mm, HeadGrid.of(image))

        monkeypatch.setattr(agreement, "read_mask", read)
        monkeypatch.setattr(Segmenter, "draw", draw)
        result = agreement.measure_outlines(
            RunDirectory(run), Segmenter.read(run / "segment" / "model.safetensors"), name="oracle", jobs=1
        )
        figures = result["groups"]["all"]
        for name in ("pointing", "pixel_sensitivity", "bleed_sensitivity"):
            assert figures[name]["mean"] == 1, name
        assert result["false_regions"]["mean"] == 1
        extra = 36 * SPACING_MM**2 * STEP_MM * 4 / 1000
        assert result["volume"]["bias_ml"] == pytest.approx(extra)
        assert result["volume"]["high_ml"] == pytest.approx(extra)

    def test_volumes_are_compared_as_bland_and_altman_do(self):
        found = volume_agreement([(10, 11), (20, 19), (30, 33), (5, 5)])
        differences = np.array([1, -1, 3, 0])
        assert found["bias_ml"] == pytest.approx(0.75)
        assert found["high_ml"] - found["low_ml"] == pytest.approx(2 * 1.96 * differences.std(ddof=1))
        assert volume_agreement([(1, 1), (2, 2)]) is None

    def test_volumes_are_compared_by_subtype_and_a_study_with_two_counts_for_both(self, capsys):
        def study(true_ml, outlined_ml, *names):
            return {"subtypes": list(names), "true_ml": true_ml, "outlined_ml": outlined_ml}

        deep, over = "intraparenchymal", "subdural"
        some = [study(10, 12, deep), study(20, 22, deep), study(30, 31, deep, over), study(8, 2, over)]
        found = volumes_by_subtype([*some, *(study(0, volume) for volume in (1, 2, 6))])
        assert found[deep] == volume_agreement([(10, 12), (20, 22), (30, 31)])
        assert found[over] == {"studies": 2}
        assert found["none"]["bias_ml"] == pytest.approx(3)
        show_volumes(found[deep], found)
        said = capsys.readouterr().out
        (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == [deep]]
        assert row == [deep, "3", "20.0", "+1.7", "+0.5", "to", "+2.8", "1.7"]
        assert "no bleed, but an outline" in said
        assert "too few" in next(line for line in said.splitlines() if over in line)


class TestWrong:
    def test_no_masks(self, data, tmp_path, capsys):
        (tmp_path / "none").mkdir()
        assert main(["index", str(data), "--run", str(tmp_path / "run")]) == 0
        arguments = ["segment", "train", "--run", str(tmp_path / "run"), "--masks", str(tmp_path / "none")]
        assert main(arguments) == 1
        assert "masks are PNG files named like the slices" in capsys.readouterr().err

    def test_not_trained(self, data, tmp_path, capsys):
        assert main(["index", str(data), "--run", str(tmp_path / "run")]) == 0
        for command in (["predict", "--out", str(tmp_path / "out"), str(data)], ["score"]):
            assert main(["segment", command[0], "--run", str(tmp_path / "run"), *command[1:]]) == 1
            assert "haemo segment train --run" in capsys.readouterr().err

    def test_files_that_are_no_segmenter(self, drawn, tmp_path):
        path = tmp_path / "model.safetensors"
        drawn.write(path)
        whole = path.read_bytes()
        assert Segmenter.read(path).facts == drawn.facts
        path.write_bytes(whole[:-100])
        with pytest.raises(BadDataset, match="damaged"):
            Segmenter.read(path)
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(BadDataset, match="no segmenter"):
            Segmenter.read(path)
        other = {**drawn.facts, "pixels": {**drawn.facts["pixels"], "schema": 0}}
        Segmenter(drawn.classifier, other).write(path)
        with pytest.raises(FingerprintMismatch, match="another version"):
            Segmenter.read(path)
