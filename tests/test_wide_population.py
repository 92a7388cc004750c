"""The wide population of phantoms: what it adds is there, in HU and mask, and tells nothing of the label."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from haemo.errors import BadDataset, BadSettings
from haemo.features.phantom import CohortSettings, generate_patient, write_cohort
from haemo.features.phantom.atlas import load_atlas
from haemo.features.phantom.bleeds import surface_point
from haemo.features.phantom.blood import Region
from haemo.features.phantom.conditions import Conditions
from haemo.features.phantom.stages import STAGES, StagedBleed, draw_staged_bleeds
from haemo.features.phantom.study import Study
from haemo.features.phantom.surgery import Operated, Surgery
from haemo.features.phantom.writing import window_gray
from haemo.pipeline.cli.phantom import phantom

SIZE = 128
WIDE = {"slices": (3, 3), "size": 64, "population": "wide"}


def _studies(count, bleeding=False):
    for patient in range(1, count + 1):
        yield Study(5, patient, (6, 6), size=SIZE, bleeding=bleeding, population="wide")


def _first(fits, bleeding=False):
    return next(study for study in _studies(400, bleeding) if fits(study.conditions))


def _nearest_slice(study, point_mm):
    levels = [study.scan.level_mm(index) for index in range(len(study))]
    return int(np.argmin(abs(np.array(levels) - point_mm[2])))


@pytest.fixture(scope="module")
def drawn():
    atlas = load_atlas()
    return [Conditions.draw(np.random.default_rng(number), atlas) for number in range(250)]


def test_the_usual_population_is_recorded_as_it_was():
    assert "population" not in CohortSettings().record()
    assert CohortSettings(population="wide").record()["population"] == "wide"
    usual = generate_patient(0, 1, (1, 1), size=64).parameters
    assert set(usual) == {"patient", "anatomy", "scan", "confounders", "bleeds"}


def test_every_condition_occurs(drawn):
    assert {each.life for each in drawn} == {"adult", "child", "atrophy"}
    operated = [each.surgery for each in drawn if each.surgery]
    assert {each.kind for each in operated} == {"burr hole", "craniotomy", "craniectomy"}
    assert {each.hardware for each in operated} == {"plates", "clips", ""}
    assert {each.kind for one in operated for each in one.collections} == {"air", "fluid"}
    assert any(each.drain_to_mm for each in operated)
    for name in ("tilted", "off_centre", "hygroma", "haematoma", "jpeg_quality"):
        share = np.mean([bool(getattr(each, name)) for each in drawn])
        assert 0.02 < share < 0.75, name


def test_every_stage_and_thickness_of_blood_occurs():
    atlas = load_atlas()
    bleeds = [b for n in range(150) for b in draw_staged_bleeds(np.random.default_rng(n), atlas, -45, 62)]
    assert {bleed.stage for bleed in bleeds} == set(STAGES)
    beside_bone = [b.thickness_mm for b in bleeds if b.subtype in ("epidural", "subdural")]
    thin = np.array(beside_bone) < 4
    assert 0.3 < thin.mean() < 0.7
    assert min(beside_bone) < 1.9
    assert all(bleed.stage == "acute" for bleed in bleeds if 0 < bleed.thickness_mm < 4)
    acute = [bleed.hu for bleed in bleeds if bleed.stage == "acute"]
    assert np.median(acute) == pytest.approx(63, abs=2)


def test_conditions_do_not_depend_on_the_bleed():
    bleeding = generate_patient(1, 4, bleeding=True, **WIDE).parameters
    twin = generate_patient(1, 4, bleeding=False, **WIDE).parameters
    assert bleeding["bleeds"]
    assert not twin["bleeds"]
    for key in ("anatomy", "scan", "confounders", "conditions"):
        assert bleeding[key] == twin[key]
    assert json.loads(json.dumps(bleeding))


def test_labels_and_masks_agree_and_no_condition_makes_a_mask():
    for patient in range(1, 6):
        made = generate_patient(2, patient, bleeding=True, **WIDE)
        area = made.mask.sum(axis=(1, 2)) * made.spacing_mm**2
        assert [label == "haemorrhage" for label in made.labels] == [blood >= 12 for blood in area]
        assert not generate_patient(2, patient, bleeding=False, **WIDE).mask.any()


@pytest.mark.parametrize("subtype", ["epidural", "subdural"])
def test_thin_blood_beside_bone_is_seen_and_in_the_mask(subtype):
    plain = {"size": 256, "population": "wide"}
    form = "crescent" if subtype == "subdural" else ""
    centre = surface_point(load_atlas(), 5, 25)
    thin = StagedBleed(subtype, centre, form, radius_mm=25.0, thickness_mm=2.5, hu=62.0)
    study = Study(0, 3, (12, 12), bleeding=(thin,), **plain)
    index, made = max(enumerate(study), key=lambda found: found[1].mask.sum())
    before = Study(0, 3, (12, 12), bleeding=False, **plain).slice(index)
    assert made.subtypes == (subtype,)
    pixel = study.scan.field_mm / 256
    rows, columns = np.nonzero(made.mask)
    bone = np.argwhere(made.hu > 300)
    far = max(np.hypot(*(bone - place).T).min() for place in np.stack([rows, columns], axis=1)) * pixel
    assert far < 5
    assert np.median(made.hu[made.mask]) > np.median(before.hu[made.mask]) + 8


def test_layered_blood_is_dense_below_its_level_and_all_of_it_is_in_the_mask():
    layered = StagedBleed(
        "subdural",
        (66.0, -20.0, 30.0),
        "crescent",
        radius_mm=70.0,
        thickness_mm=14.0,
        hu=66.0,
        stage="levelled",
        thin_hu=30.0,
        fluid_level_mm=-20.0,
    )
    study = Study(0, 3, (6, 6), size=SIZE, bleeding=(layered,), population="wide")
    made = study.slice(_nearest_slice(study, layered.centre_mm))
    rows = np.nonzero(made.mask)[0]
    high, low = np.percentile(rows, [20, 80])
    in_mask = np.where(made.mask, made.hu, -3000)
    above, below = (part[part > -3000] for part in (in_mask[: int(high)], in_mask[int(low) :]))
    assert np.median(below) > np.median(above) + 18
    assert 15 < np.median(above) < 45


def test_a_craniectomy_leaves_a_hole_in_the_bone_on_its_side():
    study = _first(lambda found: found.surgery and found.surgery.kind == "craniectomy" and not found.tilted)
    done = study.conditions.surgery
    hu = study.slice(_nearest_slice(study, done.centre_mm)).hu
    bone = hu > 300
    # The image shows the patient's right on its left.
    halves = bone[:, : SIZE // 2].sum(), bone[:, SIZE // 2 :].sum()
    operated, other = halves if done.centre_mm[0] > 0 else halves[::-1]
    assert operated < 0.8 * other


def test_a_drain_is_no_blood():
    atlas = load_atlas()
    done = replace(Surgery.draw(np.random.default_rng(0), atlas, "burr hole"), drain_to_mm=(9.0, 4.0, 13.0))
    points = np.float32([done.centre_mm, done.drain_to_mm, (-30, -40, 10)])
    zeros = np.zeros(3, np.float32)
    share, hu = Operated(done, atlas).device(Region(points, points, *[zeros] * 4, pixel_mm=1.0))
    assert share.tolist() == [1, 1, 0]
    assert hu > 200


def test_a_young_head_is_small_and_thin_boned_and_its_scan_fits_it():
    child = _first(lambda found: found.age_years is not None and found.age_years < 3)
    assert max(child.anatomy.size) < 1
    assert child.anatomy.skull_mm < 3.5
    bone = child.slice(3).hu > 250
    assert 0.01 < bone.mean() < 0.2
    assert child.scan.high_mm - child.scan.low_mm < 110


def test_pictures_of_the_wide_population_were_jpeg_and_have_windows_of_their_own(tmp_path):
    made = write_cohort(
        tmp_path,
        CohortSettings(patients=5, format="png", slices=(1, 1), size=64, population="wide"),
        workers=1,
    )
    record = json.loads((tmp_path / "cohort.json").read_text())
    assert record["settings"]["population"] == "wide"
    widths, off = set(), {}
    for number, (row, patient) in enumerate(zip(made.rows, record["patients"], strict=True), start=1):
        centre, width = patient["scan"]["window"]
        widths.add(width)
        hu = generate_patient(0, number, (1, 1), size=64, population="wide").hu[0]
        gray = np.asarray(Image.open(tmp_path / row.path)).astype(int)
        off[patient["conditions"]["jpeg_quality"]] = abs(gray - window_gray(hu, (centre, width))).mean()
    assert len(widths) > 3
    assert min(widths) >= 75
    assert max(widths) <= 140
    assert len(off) > 2
    assert all((mean > 0) == (quality > 0) for quality, mean in off.items())
    with pytest.raises(BadDataset, match="not empty"):
        write_cohort(tmp_path, CohortSettings(patients=5, format="png", slices=(1, 1), size=64), workers=1)


def test_the_command_takes_a_population(tmp_path):
    options = ["--patients=1", "--slices=1", "--size=64", "--population=wide", "--workers=1"]
    result = CliRunner().invoke(phantom, [str(tmp_path / "x"), *options])
    assert result.exit_code == 0, result.output
    assert "conditions" in json.loads((tmp_path / "x" / "cohort.json").read_text())["patients"][0]
    with pytest.raises(BadSettings, match="usual, wide, mixed"):
        CohortSettings(population="all")
