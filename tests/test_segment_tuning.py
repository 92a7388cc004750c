"""What is outlined: thin regions must be surer, pictures have limits of their own, --from chooses anew."""

import json
from dataclasses import replace

import numpy as np
import pytest
from drawn_heads import SPACING_MM, as_picture, cohort, head

from haemo.features.pixels.blood_map import BloodMap
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.models.pixels.pixel_classifier import LinearScores, PixelClassifier
from haemo.pipeline.cli import main
from haemo.pipeline.segmenting import training
from haemo.pipeline.segmenting.operating import Look, tuned
from haemo.pipeline.segmenting.segmenter import Segmenter, builtin_segmenter

SPACING = (SPACING_MM, SPACING_MM)
ONE_JOB = ("--jobs", "1")


def segmenter(**facts) -> Segmenter:
    own = PixelClassifier("logistic", LinearScores(np.zeros(23), 0.0))
    known = {"pixel_threshold": 0.3, "slice_slope": 1.5, "slice_intercept": 0.2, "classes": ["normal", "b"]}
    return Segmenter(own, {**known, **facts})


def disc_and_rim() -> BloodMap:
    """A disc of 20 mm and a rim of 2 mm, of the same probability."""
    hu, _ = head(3)
    rows, columns = (np.indices(hu.shape) - hu.shape[0] / 2) * SPACING_MM
    disc = np.hypot(rows - 30, columns - 20) < 10
    rim = (np.abs(columns + 40) <= 1) & (np.abs(rows) < 40)
    probability = np.where(disc | rim, 0.8, 0.0).astype(np.float32)
    return BloodMap(probability, (0, 0), 0.5, SPACING, HeadGrid.of(Slice(hu, True, SPACING)))


def test_of_two_regions_the_thicker_has_more_bulk_as_its_root():
    found = disc_and_rim()
    regions = sorted(found.regions(0.5), key=lambda region: region.mask.sum() / region.diameter_mm)
    thin, thick = (found.bulk(region) for region in regions)
    assert thick == pytest.approx(0.8 * np.sqrt(20), rel=0.08)
    assert thin == pytest.approx(0.8 * np.sqrt(2.5), rel=0.2)


def test_what_is_thin_is_outlined_only_where_that_is_enough():
    found = disc_and_rim()
    limits = {"hu": 1.0, "picture": 2.0}
    own = segmenter(bulk_thresholds=limits)
    assert len(own.regions(found)) == 2
    assert len(own.regions(replace(found, is_hu=False))) == 1
    assert len(segmenter(peak_threshold=0.7).regions(found)) == 2, "a model of before"


def looks(hu: int = 40, pictures: int = 40) -> list[Look]:
    """Half of them bleed; pictures without blood have more bulk, and scores that say less."""
    rng = np.random.default_rng(0)
    found = []
    for is_hu, count in ((True, hu), (False, pictures)):
        for number in range(count):
            bleeds = number % 2 == 0
            score = np.clip(rng.normal(0.7 if bleeds else 0.2 if is_hu else 0.5, 0.1), 0.01, 0.99)
            bulk = rng.uniform(2, 4) if bleeds else number / count * (1 if is_hu else 2)
            found.append(Look(bleeds, is_hu, float(score), float(bulk)))
    return found


def test_one_in_twenty_normal_looks_of_each_kind_is_outlined():
    seen = looks(200, 200)
    limits = tuned(segmenter(), seen).facts["bulk_thresholds"]
    for name, is_hu in (("hu", True), ("picture", False)):
        bulks = np.array([one.bulk for one in seen if one.is_hu == is_hu and not one.bleeds])
        assert (bulks >= limits[name]).mean() == pytest.approx(0.05, abs=0.01)
    assert limits["picture"] > limits["hu"]


def test_with_few_pictures_all_slices_decide():
    limits = tuned(segmenter(), looks(200, 4)).facts["bulk_thresholds"]
    assert limits["picture"] < 2
    assert "picture_slope" not in tuned(segmenter(), looks(200, 4)).facts


def test_a_picture_and_a_slice_in_hu_that_are_called_as_probable_have_one_score():
    own = tuned(segmenter(), looks())
    facts = own.facts
    assert own.score(0.4, True) == 0.4
    shown = own.score(0.4, False)
    assert own.log_odds(shown) == pytest.approx(
        facts["picture_slope"] * np.log(0.4 / 0.6) + facts["picture_intercept"]
    )
    assert own.log_odds(shown) < own.log_odds(0.4), "pictures score higher without blood"
    untold = replace(own, facts=segmenter(bulk_thresholds={}).facts)
    picture = Slice(as_picture(head(4)[0]).astype(np.float32), False, None)
    assert own.draw(picture).score == pytest.approx(own.score(untold.draw(picture).score, False))


class TestFrom:
    def test_the_classifier_of_pixels_stays_and_the_rest_is_chosen_anew(self, tmp_path, monkeypatch, capsys):
        run = tmp_path / "run"
        assert main(["index", str(cohort(tmp_path / "data", 10, 3)), "--run", str(run)]) == 0
        monkeypatch.setattr(training, "sample", None)  # nothing is learned from
        assert main(["segment", "train", "--run", str(run), "--from", "builtin", *ONE_JOB]) == 0
        assert "segment (trees) tuned on 21 slices" in capsys.readouterr().out
        found, builtin = Segmenter.read(run / "segment" / "model.safetensors"), builtin_segmenter()
        assert found.classifier.model.arrays.keys() == builtin.classifier.model.arrays.keys()
        for name, array in builtin.classifier.model.arrays.items():
            np.testing.assert_array_equal(found.classifier.model.arrays[name], array)
        assert found.facts["tuned_on"] == {"patients": 7, "slices": 21}
        assert found.facts["learned_from"] == builtin.facts["learned_from"]
        assert found.facts["slice_slope"] != builtin.facts["slice_slope"]
        assert "caveat" not in found.facts
        settings = json.loads((run / "segment" / "settings.json").read_text())
        assert settings["start"] == builtin.hash

    def test_a_kind_beside_it_is_refused(self, tmp_path, capsys):
        arguments = ["segment", "train", "--run", str(tmp_path), "--from", "builtin", "--kind", "svm"]
        assert main(arguments) == 2
        assert "--kind is that of the segmenter which --from names" in capsys.readouterr().err

    def test_a_file_that_is_no_segmenter_is_named(self, tmp_path, capsys):
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
        run = tmp_path / "run"
        arguments = ["--run", str(run), "--from", str(tmp_path / "model.safetensors")]
        assert main(["segment", "train", *arguments]) == 1
        assert "model.safetensors" in capsys.readouterr().err
