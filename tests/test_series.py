"""Which series of a study is taken, by tags as scanners write them, and what is said of its slices."""

from pathlib import Path

import pytest
from cohorts import ct_values, dicom_dataset, save_dicom, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadDataset, BadSettings
from haemo.features.layouts import index_dataset
from haemo.features.reading.series_tags import SeriesTags
from haemo.features.reading.slice import DicomTags
from haemo.features.series.kinds import Kind, Sharpness, kind_of, sharpness_of
from haemo.features.series.places import findings
from haemo.pipeline.cli import main
from haemo.pipeline.predicting.prediction import find_slices


@pytest.fixture
def haemo(capsys):
    """Run a command line; give exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


AXIAL = "ORIGINAL\\PRIMARY\\AXIAL"
SOFT = {"SeriesDescription": "Head 5.0", "ConvolutionKernel": "H31s", "SliceThickness": 5}
BONE = {"SeriesDescription": "Bone 1.0", "ConvolutionKernel": "H70h", "SliceThickness": 1}
COUNT = 4


def series(root: Path, name: str, count: int = COUNT, study: str = "1.9", gap: float = 5, **tags) -> Path:
    """Write a series NAME_N.dcm of one study into `root`."""
    root.mkdir(exist_ok=True)
    uid = f"{study}.{sum(name.encode())}"
    for number in range(count):
        dataset = dicom_dataset(
            ct_values(number),
            **{
                "SOPInstanceUID": f"{uid}.{number}",
                "StudyInstanceUID": study,
                "SeriesInstanceUID": uid,
                "PatientID": "P1",
                "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
                "InstanceNumber": number + 1,
                "ImagePositionPatient": [0, 0, gap * number],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                **tags,
            },
        )
        save_dicom(dataset, root / f"{name}_{number}.dcm")
    return root


def taken(root: Path, **options) -> list[str]:
    return sorted({row.path.name.partition("_")[0] for row in index_dataset(root, **options).manifest})


@pytest.mark.parametrize(
    ("image_type", "description", "agent", "kind"),
    [
        (AXIAL, "Head 5.0", "", Kind.PLAIN),
        ("", "", "", Kind.PLAIN),
        (AXIAL, "CT POST CONTRAST", "", Kind.CONTRAST),
        (AXIAL, "CT PRE CONTRAST 5MM STD", "ORAL & IV", Kind.PLAIN),
        (AXIAL, "Head w/o", "OMNI 350", Kind.PLAIN),
        (AXIAL, "NON-CON HEAD", "", Kind.PLAIN),
        (AXIAL, "POST FOSSA 2.5", "", Kind.PLAIN),
        (AXIAL, "Schaedel nativ", "", Kind.PLAIN),
        (AXIAL, "CTA 0.75", "", Kind.CONTRAST),
        (AXIAL, "Head", "OMNIPAQUE", Kind.CONTRAST),
        (AXIAL, "Head", "NONE", Kind.PLAIN),
        ("DERIVED\\PRIMARY\\PERFUSION", "", "", Kind.PERFUSION),
        (AXIAL, "VPCT Perfusion 4D", "", Kind.PERFUSION),
        ("DERIVED\\SECONDARY\\MIP", "", "", Kind.RENDERING),
        (AXIAL, "3D head", "", Kind.RENDERING),
        ("DERIVED\\SECONDARY\\SCREEN SAVE", "", "", Kind.SECONDARY),
    ],
)
def test_what_a_series_shows_is_told_by_its_tags(image_type, description, agent, kind):
    assert kind_of(SeriesTags(description, image_type=image_type, contrast_agent=agent)) is kind


@pytest.mark.parametrize(
    ("kernel", "description", "sharpness"),
    [
        *[
            (kernel, "", Sharpness.SOFT)
            for kernel in ("H31s", "Hr38f\\3", "J40s", "STANDARD", "UB", "FC21", "FC67")
        ],
        *[
            (kernel, "", Sharpness.SHARP)
            for kernel in ("H70h", "Hr60", "BONE", "BONEPLUS", "YD", "FC30", "FC81")
        ],
        ("", "Bone 1.0", Sharpness.SHARP),
        ("", "Brain 5 mm", Sharpness.SOFT),
        ("XY9", "head", Sharpness.UNKNOWN),
        ("H31s", "Bone", Sharpness.SOFT),
    ],
)
def test_kernels_of_four_manufacturers(kernel, description, sharpness):
    assert sharpness_of(SeriesTags(description, kernel=kernel)) is sharpness


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"bone": {**SOFT, "ConvolutionKernel": "H70h"}}, "a sharp kernel H70h"),
        ({"thin": {**SOFT, "SliceThickness": 1}}, "1 mm thick, another 5"),
        ({"derived": {**SOFT, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}}, "derived from another"),
        ({"part": {**SOFT, "gap": 1.0}}, "covers 3 mm, another 15"),
        ({"contrast": {**SOFT, "ContrastBolusAgent": "OMNI"}}, "with contrast"),
        ({"mip": {**SOFT, "SeriesDescription": "MIP"}}, "a projection or rendering"),
        ({"perfusion": {**SOFT, "ImagePositionPatient": [0, 0, 0]}}, "perfusion"),
    ],
)
def test_a_soft_complete_plain_series_is_taken_whatever_its_place(tmp_path, others, reason):
    for order in ("a", "z"):
        root = tmp_path / order
        for name, tags in others.items():
            series(root, name, SeriesNumber=1 if order == "a" else 9, **tags)
        series(root, "good", SeriesNumber=5, **SOFT)
        index = index_dataset(root)
        assert {row.path.name.partition("_")[0] for row in index.manifest} == {"good"}
        assert {row.study for row in index.manifest} == {"1.9"}
        (left,) = [one for one in index.series.series if not one.taken]
        assert reason in left.reason


def test_the_head_is_taken_and_not_the_chest_that_covers_more(tmp_path):
    data = series(tmp_path, "head", **SOFT, BodyPartExamined="HEAD")
    series(data, "chest", 12, **SOFT, BodyPartExamined="CHEST")
    assert taken(data) == ["head"]
    assert [one.reason for one in index_dataset(data).series.series if not one.taken] == [
        "not of the head by its tag: CHEST"
    ]


def test_all_or_named_series_can_be_taken(tmp_path):
    series(tmp_path, "bone", **BONE)
    series(tmp_path, "soft", **SOFT)
    assert taken(tmp_path) == ["soft"]
    assert taken(tmp_path, series="all") == ["bone", "soft"]
    assert taken(tmp_path, series="bone") == ["bone"]
    assert taken(tmp_path, series="h[37]") == ["bone", "soft"]
    with pytest.raises(BadDataset, match="of 2 series none is taken, --series all takes all"):
        taken(tmp_path, series="sagittal")
    with pytest.raises(BadSettings, match="neither 'all' nor a regular expression"):
        taken(tmp_path, series="(")


def test_the_series_that_has_the_labels_is_taken(tmp_path):
    series(tmp_path, "bone", **BONE)
    series(tmp_path, "soft", **SOFT)
    rows = [("path", "label"), *[(f"bone_{number}.dcm", number % 2) for number in range(COUNT)]]
    write_csv(tmp_path / "labels.csv", rows)
    assert taken(tmp_path) == ["bone"]
    write_csv(tmp_path / "labels.csv", [("study", "label"), ("1.9", "bleed")])
    assert taken(tmp_path) == ["soft"]


def test_the_only_series_is_taken_and_what_it_is_is_said(tmp_path, haemo):
    series(tmp_path / "data", "contrast", **{**SOFT, "SeriesDescription": "CTA"})
    code, _, said = haemo("index", tmp_path / "data", "--run", tmp_path / "run")
    assert code == 0
    assert "series taken that are no plain CT: 1 (first: series CTA, with contrast)" in said


def test_index_and_predict_choose_alike_and_say_so(tmp_path, haemo, capsys):
    data = series(tmp_path / "data", "soft", **SOFT)
    series(data, "bone", **BONE)
    series(data, "scout", 1, ImageType=["LOCALIZER"])
    save_dicom(
        dicom_dataset(
            ct_values(1), Rows=0, Columns=0, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67", Modality="SR"
        ),
        data / "dose.dcm",
    )
    code, out, said = haemo("index", data, "--run", tmp_path / "run")
    assert code == 0
    assert "4 slices indexed, 0 unusable" in out
    assert "series: 1 taken of 2; why:" in out
    assert "no axial slices, left aside: 2: " in out
    assert "a localizer (scout view), not an axial slice (1)" in out
    assert "a DICOM file without a picture (X-Ray Radiation Dose SR Storage) (1)" in out
    assert "series not taken: 1 with 4 slices (series Bone 1.0: a sharp kernel H70h)" in said
    table = (tmp_path / "run" / "series.csv").read_text()
    assert "Bone 1.0,plain,H70h,1,4,15,no,a sharp kernel H70h," in table
    files, failures = find_slices([data])
    assert [path.name for path in files] == [f"soft_{number}.dcm" for number in range(COUNT)]
    assert not failures
    assert "series Bone 1.0: a sharp kernel H70h" in capsys.readouterr().err
    assert not [line for line in capsys.readouterr().err.splitlines() if "named" in line]
    named = [data / "bone_0.dcm", data / "soft_0.dcm", data / "scout_0.dcm"]
    files, _ = find_slices(named)
    assert files == named
    assert "files of several series of one study were named, and all are scored (studies: 1)" in (
        capsys.readouterr().err
    )
    assert find_slices(named, "soft|5.0") == ([data / "soft_0.dcm", data / "scout_0.dcm"], [])
    assert "series not taken: 1 with 1 slices (series Bone 1.0" in capsys.readouterr().err
    code = main(["index", str(data), "--run", str(tmp_path / "run"), "--series", "all"])
    assert code == 0
    assert not (tmp_path / "run" / "series.csv").exists()


def test_series_has_no_meaning_without_studies(tmp_path):
    save_dicom(dicom_dataset(ct_values(1)), tmp_path / "a.dcm")
    with pytest.raises(BadSettings, match="--series has no meaning here"):
        index_dataset(tmp_path, series="all")


def slices_at(places, **tags):
    return [DicomTags(z_mm=place, instance_number=number, **tags) for number, place in places]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slices_taken_out_of_a_regular_series_are_counted(data):
    gap = data.draw(st.floats(0.5, 10))
    count = data.draw(st.integers(6, 40))
    first = data.draw(st.integers(2, count - 4))
    gone = data.draw(st.integers(0, count - first - 3))
    start = data.draw(st.floats(-500, 500))
    places = [
        (number, round(start + gap * number, 4))
        for number in range(count)
        if not first <= number < first + gone
    ]
    order = data.draw(st.permutations(places))
    assert findings(slices_at(order)) == ([f"missing slices: {gone}"] if gone else [])


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        (slices_at(enumerate((0, 5, 10, 15, 15, 20))), ["slices at a position that another has: 1"]),
        (
            slices_at(enumerate((0, 3, 6, 9, 16, 23, 30))),
            ["spacing changes: 3 mm (3), 7 mm (3)"],
        ),
        (
            slices_at([(1, 0), (2, 3), (3, 6), (9, 24), (10, 31)]),
            ["missing slices: 5", "spacing changes: 3 mm (2), 7 mm (1)"],
        ),
        (slices_at(enumerate((0, 5, 10)), tilt_deg=18.5), ["tilted by 18.5 degrees"]),
        (
            [*slices_at([(1, 0)], thickness_mm=4.0), *slices_at([(2, 4), (3, 8)], thickness_mm=7.0)],
            ["mixed thickness: 4 mm (1), 7 mm (2)"],
        ),
        ([DicomTags(), DicomTags()], []),
        ([], []),
    ],
)
def test_how_slices_lie_is_said(slices, said):
    assert findings(slices) == said
