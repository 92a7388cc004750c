"""Class names: which of two is the positive one, and what a 0 or 1 under a telling heading means."""

import re
from collections.abc import Iterable

from haemo.errors import BadSettings, TooFewData

__all__ = [
    "BLEED_TYPES",
    "HAEMORRHAGE",
    "NORMAL",
    "bleed_type_in",
    "class_name",
    "is_class_word",
    "meaning_of_flag",
    "names_bleed_type",
    "order_classes",
    "says_bleed",
    "says_normal",
    "speaks_of_bleed",
]

HAEMORRHAGE = "haemorrhage"
NORMAL = "normal"
BLEED_TYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")

# As radiologists shorten or otherwise call the types, beside their names.
_OTHER_NAMES = {
    **dict.fromkeys(("extradural", "edh"), "epidural"),
    "iph": "intraparenchymal",
    "ivh": "intraventricular",
    "sah": "subarachnoid",
    "sdh": "subdural",
}
# Where blood is meant, these say where it is; alone they are anatomy.
_PLACES = {
    **dict.fromkeys(("intracerebral", "cerebral", "parenchymal"), "intraparenchymal"),
    "ventricular": "intraventricular",
}
_BLOOD_WORDS = {
    *("haemorrhage", "haemorrhagic", "hemorrhage", "hemorrhagic", "haemorrage", "hemorrage"),
    *("haematoma", "hematoma", "bleed", "bleeding", "blood", "ich"),
    *("blutung", "hämatom", "hématome", "hémorragie", "hemorragia"),
}
# What else has blood or a place of bleeds in its name: a blood vessel, a subdural hygroma.
_NO_BLEED_WORDS = {
    *("vessel", "vessels", "pool", "space", "hygroma", "effusion", "empyema", "abscess"),
    *("catheter", "drain", "drainage", "electrode", "electrodes"),
}
_POSITIVE = {
    *("haemorrhage", "haemorrhagic", "hemorrhage", "hemorrhagic", "haemorrage", "hemorrage"),
    *(
        "bleed",
        "bleeding",
        "blood",
        "ich",
        "any",
        "abnormal",
        "positive",
        "pos",
        "true",
        "yes",
        "y",
        "t",
        "1",
    ),
    *BLEED_TYPES,
}
_NEGATIVE = {
    *("normal", "healthy", "control", "none", "negative", "neg", "false", "no", "n", "f", "0"),
    *("nonhaemorrhage", "nonhaemorrhagic", "nonhemorrhage", "nonhemorrhagic"),
}
_NEGATIONS = ("no", "non", "not", "without")
# Headings of label columns under which 1 means a bleed.
_FLAG_HEADINGS = {"hemorrhage", "haemorrhage", "bleed", "ich"}


def order_classes(classes: Iterable[str], positive: str | None = None) -> tuple[str, ...]:
    """Put class names in the order of score columns.

    Parameters
    ----------
    classes : iterable of str
        At least two different names.
    positive : str, optional
        Name of the positive class; with more than two classes it must be one of them and changes nothing.

    Returns
    -------
    tuple of str
        Two classes as (negative, positive), the positive one being `positive` where given, else the one that
        is recognised (haemorrhage, bleed, positive, true, yes, 1 ...), else the second alphabetically. More
        classes in alphabetical order.

    Raises
    ------
    BadSettings
        If `positive` is none of the classes.
    TooFewData
        If there are fewer than two classes.
    """
    names = sorted(set(classes))
    if len(names) < 2:
        found = f"only one class, {names[0]!r}" if names else "no labels"
        raise TooFewData(f"there is {found}: two classes are needed to tell one from another")
    if positive is not None and positive not in names:
        raise BadSettings(f"the positive class {positive!r} is none of the classes {', '.join(names)}")
    if len(names) > 2:
        return tuple(names)
    if positive is None:
        positive = _recognised_positive(names)
    return (names[1], names[0]) if positive == names[0] else (names[0], names[1])


def class_name(kind: str, has_it: bool) -> str:
    """Name the class of what has a kind of bleed, or has not; ``any`` stands for all kinds."""
    if kind == "any":
        return HAEMORRHAGE if has_it else NORMAL
    return kind if has_it else f"no {kind}"


def meaning_of_flag(heading: str, value: str) -> str:
    """Name the class that 0 or 1 stands for under a heading that says so; other values stay as they are."""
    if heading.strip().casefold() not in _FLAG_HEADINGS:
        return value
    return {"0": NORMAL, "0.0": NORMAL, "1": HAEMORRHAGE, "1.0": HAEMORRHAGE}.get(value, value)


def is_class_word(name: str) -> bool:
    """Whether a folder of this name is surely a class: it says bleed, normal, or a type of bleed."""
    return _means_bleed(name) is not None


def says_bleed(name: str) -> bool:
    """Whether a class of this name is surely one with a bleed."""
    return _means_bleed(name) is True or names_bleed_type(name)


def says_normal(name: str, *, in_words: bool = False) -> bool:
    """Whether a class of this name is the one without a bleed.

    Parameters
    ----------
    name : str
    in_words : bool
        Count a word only, as ``normal``, ``none`` or ``no bleed``: no single letter or digit, which say so
        beside one other class (``f`` and ``t``, ``0`` and ``1``) and are plain names among several (``F``,
        ``G`` and ``H``, or ``0``, ``1`` and ``2``).
    """
    return _means_bleed(name) is False and not (in_words and len(_word(name)[0]) == 1)


def names_bleed_type(text: str) -> bool:
    """Whether a type of bleed is among the words of a text, as in ``subdural`` or ``epidural+subdural``."""
    return not set(_words(text)).isdisjoint(BLEED_TYPES)


def bleed_type_in(text: str) -> str | None:
    """The only type of bleed that a text speaks of, also as ``SDH`` or ``extradural hematoma``; else None."""
    words = _words(text)
    if not _NO_BLEED_WORDS.isdisjoint(words):
        return None
    names = {**_OTHER_NAMES, **(_PLACES if set(words) & _BLOOD_WORDS else {})}
    types = {names.get(word, word) for word in words} & set(BLEED_TYPES)
    return types.pop() if len(types) == 1 else None


def speaks_of_bleed(text: str) -> bool:
    """Whether a text names blood or a type of bleed among other words: ``acute hematoma, left``."""
    words = _words(text)
    if not words or words[0] in _NEGATIONS or not _NO_BLEED_WORDS.isdisjoint(words):
        return False
    return bleed_type_in(text) is not None or not _BLOOD_WORDS.isdisjoint(words)


def _recognised_positive(names: list[str]) -> str:
    """The positive one of two names: the one known as such, or the one beside a known negative."""
    meanings = [_means_bleed(name) for name in names]
    if meanings.count(True) == 1:
        return names[meanings.index(True)]
    if meanings.count(False) == 1:
        return names[1 - meanings.index(False)]
    return names[1]


def _means_bleed(name: str) -> bool | None:
    """Whether a name says that there is a bleed; None where it says neither."""
    word, is_negated = _word(name)
    if word in _POSITIVE:
        return not is_negated
    return is_negated if word in _NEGATIVE else None


def _word(name: str) -> tuple[str, bool]:
    """The word that a name comes down to, without a negation before it; and whether there is one."""
    words = _words(name)
    is_negated = len(words) > 1 and words[0] in _NEGATIONS
    return "".join(words[1:] if is_negated else words), is_negated


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
