"""Class names: which is the positive one."""

import pytest

from haemo.errors import BadSettings, TooFewData
from haemo.features.labels import BLEED_TYPES, is_class_word, meaning_of_flag, order_classes, says_normal


@pytest.mark.parametrize(
    ("classes", "ordered"),
    [
        (["haemorrhage", "normal"], ("normal", "haemorrhage")),
        (["NORMAL", "Hemorrhagic"], ("NORMAL", "Hemorrhagic")),
        (["Hemorrhage", "No_Hemorrhage"], ("No_Hemorrhage", "Hemorrhage")),
        (["bleed", "no bleed"], ("no bleed", "bleed")),
        (["0", "1"], ("0", "1")),
        (["True", "False"], ("False", "True")),
        (["yes", "no"], ("no", "yes")),
        (["any", "none"], ("none", "any")),
        (["abnormal", "normal"], ("normal", "abnormal")),
        (["lesion", "normal"], ("normal", "lesion")),
        (["healthy", "ICH"], ("healthy", "ICH")),
        (["non-hemorrhagic", "stroke"], ("non-hemorrhagic", "stroke")),
        (["a", "b"], ("a", "b")),
        (["subdural", "epidural"], ("epidural", "subdural")),
        (["c", "b", "a"], ("a", "b", "c")),
        (["normal", "normal", "epidural"], ("normal", "epidural")),
    ],
)
def test_the_positive_class_comes_last(classes, ordered):
    assert order_classes(classes) == order_classes(reversed(classes)) == ordered


@pytest.mark.parametrize("kind", BLEED_TYPES)
def test_a_type_of_bleed_is_positive_beside_its_absence(kind):
    assert order_classes([kind, f"no {kind}"]) == (f"no {kind}", kind)


def test_the_positive_class_can_be_named():
    assert order_classes(["haemorrhage", "normal"], positive="normal") == ("haemorrhage", "normal")
    assert order_classes(["a", "b", "c"], positive="b") == ("a", "b", "c")
    with pytest.raises(BadSettings, match="'bleed' is none of the classes haemorrhage, normal"):
        order_classes(["haemorrhage", "normal"], positive="bleed")


@pytest.mark.parametrize(("classes", "found"), [([], "no labels"), (["normal"], "only one class, 'normal'")])
def test_one_class_is_not_enough(classes, found):
    with pytest.raises(TooFewData, match=found):
        order_classes(classes)


def test_zero_and_one_mean_something_under_a_telling_heading_only():
    assert meaning_of_flag("Hemorrhage", "1") == "haemorrhage"
    assert meaning_of_flag(" haemorrhage ", "0") == "normal"
    assert meaning_of_flag("hemorrhage", "epidural") == "epidural"
    assert meaning_of_flag("label", "1") == "1"


def test_folder_names_that_are_surely_classes():
    assert all(map(is_class_word, ("Haemorrhage", "NORMAL", "no hemorrhage", "Epidural", "0", "1")))
    assert not any(map(is_class_word, ("patient01", "049", "scans", "")))


@pytest.mark.parametrize(
    "name", ["normal", "Healthy", "control", "none", "negative", "non-hemorrhagic", "no bleed", "NO", "False"]
)
def test_a_word_says_normal_beside_one_class_and_beside_several(name):
    assert says_normal(name)
    assert says_normal(name, in_words=True)


@pytest.mark.parametrize("name", ["F", "n", "0", "no 1"])
def test_a_letter_or_digit_says_normal_beside_one_class_only(name):
    assert says_normal(name)
    assert not says_normal(name, in_words=True)


@pytest.mark.parametrize("name", ["haemorrhage", "1", "subdural", "other", "g", ""])
def test_other_names_do_not_say_normal(name):
    assert not says_normal(name)
    assert not says_normal(name, in_words=True)
