"""Rows a slice and rows a study of what a model said, without any model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from haemo.pipeline.predicting.slice_scores import SliceScores

CLASSES = ("epidural", "normal", "subdural")
STUDIES = ("b", "b", "a", "a", "a", "c")
CHANCES = np.array(
    [
        [0.1, 0.8, 0.1],
        [0.2, 0.7, 0.1],
        [0.9, 0.1, 0.0],
        [0.2, 0.2, 0.6],
        [0.1, 0.9, 0.0],
        [0.3, 0.3, 0.4],
    ]
)


def scores(classes=CLASSES) -> SliceScores:
    return SliceScores(
        paths=tuple(Path(f"{number}.png") for number in range(6)),
        studies=STUDIES,
        positions=(None,) * 6,
        outside=("", "", "", "no bone", "", ""),
        classes=classes,
        threshold=0.5,
        scores=np.log(np.maximum(CHANCES, 1e-9)),
        probabilities=CHANCES,
        predicted=np.array(classes)[CHANCES.argmax(axis=1)],
        failures=(),
    )


def test_a_study_of_several_classes_has_all_that_are_named():
    first, second, third = scores().study_rows()
    assert second == {
        "study": "a",
        "slices": 3,
        "slices_predicted_epidural": 1,
        "slices_predicted_normal": 1,
        "slices_predicted_subdural": 1,
        "slices_outside": 1,
        "predicted": "epidural+subdural",
        "probability_epidural": 0.9,
        "probability_normal": pytest.approx(0.1),
        "probability_subdural": 0.6,
        "aggregation": "max",
    }
    assert (first["study"], first["predicted"], first["slices_predicted_normal"]) == ("b", "normal", 2)
    assert (third["study"], third["predicted"]) == ("c", "subdural")
    assert [row["slices_outside"] for row in (first, second, third)] == [0, 1, 0]


def two(classes, threshold) -> SliceScores:
    """Of studies b, a and c, with the chance of a bleed that the first column has."""
    bleed = CHANCES[:, 0]
    chances = bleed if classes[1] == "bleed" else 1 - bleed
    return replace(
        scores(),
        classes=classes,
        threshold=threshold,
        scores=np.log(chances / (1 - chances)),
        probabilities=chances,
        predicted=np.array(classes)[(chances >= threshold).astype(int)],
    )


@pytest.mark.parametrize("threshold", [0.17, 0.35, 0.7, 0.95])
@pytest.mark.parametrize("how", ["max", "mean-top", "noisy-or"])
def test_a_study_bleeds_if_any_slice_does_whichever_class_is_positive(how, threshold):
    bleed = two(("normal", "bleed"), threshold).study_rows(how)
    normal = two(("bleed", "normal"), 1 - threshold).study_rows(how)
    assert [row["predicted"] for row in normal] == [row["predicted"] for row in bleed]
    for one, other in zip(normal, bleed, strict=True):
        assert one["probability"] == pytest.approx(1 - other["probability"])
        assert one["score"] == pytest.approx(-other["score"])
        assert one["slices_positive"] == one["slices"] - other["slices_positive"]
        assert one["slices_outside"] == other["slices_outside"]


@pytest.mark.parametrize(
    ("how", "named", "epidural", "normal"),
    [
        ("mean-top", ["normal", "normal", "normal"], (0.9 + 0.2 + 0.1) / 3, (0.1 + 0.2 + 0.9) / 3),
        (
            "noisy-or",
            ["normal", "epidural+subdural", "normal"],
            1 - 0.1 * 0.8 * 0.9,
            0.1 * 0.2 * 0.9,
        ),
    ],
)
def test_slices_are_joined_as_asked(how, named, epidural, normal):
    rows = scores().study_rows(how)
    assert [row["predicted"] for row in rows] == named
    assert rows[1]["probability_epidural"] == pytest.approx(epidural)
    assert rows[1]["probability_normal"] == pytest.approx(normal)
    assert {row["aggregation"] for row in rows} == {how}


def test_where_no_class_is_the_background_none_may_be_named():
    rows = scores(("epidural", "ivh", "subdural")).study_rows("mean-top")
    assert [row["predicted"] for row in rows] == ["ivh", "", ""]


def test_studies_of_several_classes_are_in_the_json_whatever_a_class_is_called():
    for classes in (CLASSES, ("outside", "normal", "positive")):
        answer = json.loads(json.dumps(scores(classes).as_json()))
        assert answer["positive"] is None
        assert [row["study"] for row in answer["studies"]] == ["b", "a", "c"]
        assert answer["studies"][1]["slices_outside"] == 1
        assert answer["studies"][1]["predicted"] == f"{classes[0]}+{classes[2]}"
