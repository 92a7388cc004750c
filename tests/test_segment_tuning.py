"""What is outlined: thin regions must be surer, pictures have limits of their own, --from chooses anew."""

import json
from dataclasses import replace

import numpy as np
import pytest
from drawn_heads import SPACING_MM, as_picture, cohort, head
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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
            region = (float(bulk), 100, 80 if bleeds else 0)
            found.append(Look(100 if bleeds else 0, is_hu, float(score), (region,)))
    return found


def test_dice_of_a_look_counts_all_that_is_outlined():
    bleeding = Look(90, True, 0.5, ((1.0, 50, 10), (2.0, 60, 40)))
    assert bleeding.dice(np.array([0.5, 1.5, 2.5])) == pytest.approx([2 * 50 / 200, 2 * 40 / 150, 0])
    assert list(Look(0, True, 0.5, ((1.0, 5, 0),)).dice(np.array([0.5, 1.5]))) == [0, 1]
    assert list(Look(7, True, 0.5).dice(np.array([0.5]))) == [0], "missed"


some_looks = st.lists(
    st.builds(
        lambda blood, regions: Look(blood, True, 0.5, tuple((bulk, n, min(n, blood)) for bulk, n in regions)),
        st.sampled_from([0, 0, 20, 60]),
        st.lists(st.tuples(st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.integers(1, 60)), max_size=1),
    ),
    min_size=1,
    max_size=12,
)


@given(some_looks)
@settings(max_examples=60, deadline=None)
def test_no_other_limit_has_a_higher_mean_dice(seen):
    def gain(limit):
        kinds = []
        for bleeds in (False, True):
            of_kind = []
            for one in (one for one in seen if (one.blood > 0) == bleeds):
                shown = [region for region in one.regions if region[0] >= limit]
                total = sum(region[1] for region in shown) + one.blood
                of_kind.append(2 * sum(region[2] for region in shown) / total if total else 1.0)
            if of_kind:
                kinds.append(np.mean(of_kind))
        return np.mean(kinds)

    assume(any(not one.blood for one in seen))
    limit = tuned(segmenter(), seen).facts["bulk_thresholds"]["hu"]
    assert gain(limit) == pytest.approx(max(map(gain, (0, 0.75, 1.25, 1.75, 2.5))))


def test_what_is_drawn_where_there_is_no_blood_costs_no_outline_of_blood():
    seen = looks(200, 200)
    limits = tuned(segmenter(), seen).facts["bulk_thresholds"]
    for name, is_hu in (("hu", True), ("picture", False)):
        below = [one.regions[0][0] for one in seen if one.is_hu == is_hu and not one.blood]
        above = [one.regions[0][0] for one in seen if one.is_hu == is_hu and one.blood]
        assert max(below) < limits[name] <= min(above)


def test_with_few_pictures_all_slices_decide():
    seen = looks(200, 4)
    of_all = tuned(segmenter(), [replace(one, is_hu=False) for one in seen]).facts["bulk_thresholds"]
    own = tuned(segmenter(), seen).facts
    assert own["bulk_thresholds"]["picture"] == of_all["picture"]
    assert "picture_slope" not in own


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
