"""The phantom: anatomy, bleeds and scans of single patients, as a reader of slices would judge them."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from haemo.errors import BadSettings, MissingExtra
from haemo.features.phantom import generate_patient
from haemo.features.phantom.atlas import load_atlas
from haemo.features.phantom.bleeds import SUBTYPES, Bleed, draw_bleeds
from haemo.features.phantom.blood import Region, place
from haemo.features.phantom.protocol import scanner_of
from haemo.features.phantom.study import LEAST_AREA_MM2, Study

SIZE = 128


@pytest.fixture(scope="module")
def bleeding():
    """A patient who bleeds, and the same one without a bleed."""
    return (
        generate_patient(0, 23, slices=(10, 10), size=SIZE, bleeding=True),
        generate_patient(0, 23, slices=(10, 10), size=SIZE, bleeding=False),
    )


def test_the_same_seed_gives_the_same_patient(bleeding):
    again = generate_patient(0, 23, slices=(10, 10), size=SIZE, bleeding=True)
    np.testing.assert_array_equal(again.hu, bleeding[0].hu)
    np.testing.assert_array_equal(again.mask, bleeding[0].mask)
    assert again.parameters == bleeding[0].parameters
    other = generate_patient(1, 23, slices=(10, 10), size=SIZE, bleeding=True)
    assert (other.hu != again.hu).mean() > 0.2


def test_labels_subtypes_and_masks_agree(bleeding):
    patient, twin = bleeding
    area = patient.mask.sum(axis=(1, 2)) * patient.spacing_mm**2
    assert set(patient.labels) == {"haemorrhage", "normal"}, "a bleeding patient has normal slices too"
    for label, subtype, blood in zip(patient.labels, patient.subtypes, area, strict=True):
        assert (label == "haemorrhage") == bool(subtype) == (blood > 0)
        assert blood == 0 or blood >= LEAST_AREA_MM2
        assert set(subtype.split("+")) <= {"", *SUBTYPES}
    assert set(twin.labels) == {"normal"}
    assert not twin.mask.any()


def test_blood_is_the_only_difference_that_a_bleed_makes(bleeding):
    patient, twin = bleeding
    for key in ("anatomy", "scan", "confounders"):
        assert patient.parameters[key] == twin.parameters[key]
    changed = abs(patient.hu.astype(int) - twin.hu) > 1
    # Fainter blood, the rim, and brain that was pushed aside also change; bone, scalp and table do not.
    bone_or_air = (twin.hu > 300) | (twin.hu < -200)
    assert changed[patient.mask].mean() > 0.9
    assert not changed[bone_or_air & ~patient.mask].any()
    blood, before = patient.hu[patient.mask], twin.hu[patient.mask]
    assert 45 < np.median(blood) < 85
    assert np.median(blood) > np.median(before) + 12


def test_tissues_have_the_density_of_tissues(bleeding):
    hu = bleeding[1].hu[5]
    assert np.median(hu[:8, :8]) == pytest.approx(-1000, abs=15)
    middle = hu[44:84, 44:84]
    assert 20 < np.median(middle) < 45
    assert hu.max() > 900
    assert 0.03 < (hu > 300).mean() < 0.35


def test_a_bleed_runs_over_neighbouring_slices():
    ball = Bleed("intraparenchymal", (28.0, -10.0, 20.0), radius_mm=18.0, hu=65.0)
    study = Study(0, 1, (16, 16), size=SIZE, bleeding=(ball,))
    seen = [made.label == "haemorrhage" for made in study]
    first, last = seen.index(True), len(seen) - seen[::-1].index(True)
    assert all(seen[first:last])
    spacing = study.scan.spacing_mm
    assert (last - first) * spacing == pytest.approx(36, abs=2.2 * spacing)


def _region(points, skull, ventricle, fluid):
    size = len(points)
    points = np.asarray(points, dtype=np.float32)
    flat = [np.broadcast_to(np.float32(value), size) for value in (skull, ventricle, 0.5, fluid)]
    return Region(points, points, *flat, pixel_mm=1.0)


def test_a_parenchymal_bleed_has_the_volume_that_was_drawn():
    bleed = Bleed("intraparenchymal", (30.0, -10.0, 20.0), radius_mm=12.0, axes=(1.25, 0.8, 1.0), turn_deg=30)
    axes = [np.arange(c - 20, c + 20.5) for c in bleed.centre_mm]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    share = place(bleed, np.random.default_rng(0)).share(_region(points, -40, 20, 0))
    assert share.sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)


def test_an_epidural_bleed_is_a_lens_within_its_sutures():
    atlas = load_atlas()
    rng = np.random.default_rng(5)
    lens = Bleed("epidural", (70.0, -20.0, 20.0), radius_mm=40.0, thickness_mm=14.0)
    grid = np.stack(np.meshgrid(np.arange(-80, 81), np.arange(-110, 80), indexing="ij"), axis=-1)
    points = np.concatenate([grid.reshape(-1, 2), np.full((grid[..., 0].size, 1), 20)], axis=1)
    points = points.astype(np.float32)
    distance = atlas.distance_at(points)
    region = Region(points, points, distance[:, 0], distance[:, 1], distance[:, 5], distance[:, 0] * 0, 1.0)
    share = place(lens, rng).share(region)
    blood = points[share > 0.5]
    assert len(blood) > 200
    assert (distance[share > 0, 0] < 1.1).all(), "no blood outside the skull"
    assert blood[:, 1].max() < 10, "it stops at the coronal suture"
    assert (blood[:, 0] > 0).all()
    depth = -distance[share > 0.5, 0]
    at_centre = depth[abs(blood[:, 1] + 20) < 4].max()
    at_rim = depth[abs(blood[:, 1] + 20) > 22].max()
    assert at_centre > at_rim + 3, "thick in the middle"


def test_blood_in_the_ventricles_lies_below_its_level():
    bleed = Bleed("intraventricular", (10.0, -15.0, 10.0), "layered", radius_mm=30.0, level_mm=-35.0)
    points = [(20, y, 10) for y in range(-60, 20)]
    inside = place(bleed, np.random.default_rng(0)).share(_region(points, -40, -4, 1))
    y = np.array(points)[:, 1]
    assert (inside[y < -37] > 0.9).all()
    assert (inside[y > -33] == 0).all()
    assert not place(bleed, np.random.default_rng(0)).share(_region(points, -40, 4, 1)).any()


def test_blood_between_the_arachnoid_stays_in_fluid():
    bleed = Bleed("subarachnoid", (40.0, 6.0, -6.0), radius_mm=30.0)
    placed = place(bleed, np.random.default_rng(0))
    assert placed.share(_region([bleed.centre_mm], -10, 20, 0.9)) > 0.9
    assert placed.share(_region([bleed.centre_mm], -10, 20, 0.0)) == 0
    assert placed.share(_region([bleed.centre_mm], -10, -5, 0.9)) == 0, "not in the ventricles"


def test_a_mass_pushes_the_brain_away_and_leaves_the_skull():
    bleed = Bleed("intraparenchymal", (30.0, 0.0, 20.0), radius_mm=20.0)
    placed = place(bleed, np.random.default_rng(0))
    points = np.float32([[10, 0, 20], [50, 0, 20], [30, 25, 20]])
    deep, at_bone = np.zeros((3, 9), np.float32), np.zeros((3, 9), np.float32)
    deep[:, 0] = -30
    shift = placed.shift(points, deep)
    # What is seen at a point comes from nearer to the bleed.
    towards = np.float32(bleed.centre_mm) - points
    assert (np.einsum("ij,ij->i", shift, towards) > 0).all()
    assert (np.linalg.norm(shift, axis=1) < np.linalg.norm(towards, axis=1)).all()
    assert not placed.shift(points, at_bone).any()


def test_every_subtype_is_drawn_and_every_size():
    atlas = load_atlas()
    drawn = [b for n in range(300) for b in draw_bleeds(np.random.default_rng(n), atlas, -45, 62)]
    assert {bleed.subtype for bleed in drawn} == set(SUBTYPES)
    radii = [b.radius_mm for b in drawn if b.subtype == "intraparenchymal"]
    assert min(radii) < 5
    assert max(radii) > 20
    assert all(48 <= bleed.hu <= 82 for bleed in drawn)


def test_any_run_of_patients_has_nearly_the_prevalence():
    # Drawing decides who bleeds; it needs no slice.
    for first in (1, 40):
        count = sum(bool(Study(3, p, (1, 1), 0.4, SIZE).bleeds) for p in range(first, first + 30))
        assert abs(count - 12) <= 2


def test_a_cohort_has_three_scanners_and_those_who_bleed_are_spread_over_them():
    studies = [Study(3, patient, (1, 1), 0.4, SIZE) for patient in range(1, 91)]
    for scanner in range(3):
        patients = [study for study in studies if study.scan.scanner == scanner]
        assert abs(len(patients) - 30) <= 2
        assert abs(sum(bool(study.bleeds) for study in patients) - 12) <= 3
        # What the machine decides is the same for all of its patients.
        assert len({(s.scan.kernel, s.scan.window, s.scan.blur_mm, s.scan.gantry_deg) for s in patients}) == 1
        assert len({study.scan.noise_hu for study in patients}) > 20


def test_another_cohort_has_other_scanners():
    one, other = ({scanner_of(seed, patient) for patient in range(1, 10)} for seed in (0, 1))
    assert len(one) == len(other) == 3
    assert not one & other


def test_parameters_are_plain_json(bleeding):
    assert json.loads(json.dumps(bleeding[0].parameters))["bleeds"]


def test_streaks_and_confounders_change_slices():
    study = Study(0, 4, (6, 6), size=SIZE, bleeding=False)
    plain = study.slice(3).hu
    level = study.scan.level_mm(3)
    study.scan = replace(study.scan, streak_hu=150.0, streak_at_mm=(80.0, 0.0, level))
    assert abs(study.slice(3).hu.astype(int) - plain).max() > 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slices": (9, 8)}, "9..8"),
        ({"prevalence": 1.5}, "prevalence"),
        ({"size": 130}, "multiple of 4"),
        ({"seed": -1}, "negative"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(BadSettings, match=message):
        generate_patient(**{"seed": 0, "patient": 1, **settings})


def test_without_nilearn_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    load_atlas.cache_clear()
    with pytest.raises(MissingExtra, match=r"haemo\[demo\]"):
        generate_patient(0, 1)
