"""What a series shows, by its tags and by how it is called: plain CT, contrast, perfusion, a rendering ...

Tags are those of PS3.3 C.7.6.1 and C.8.2.1 (Image Type), C.7.6.4 (contrast agent) and C.7.3.1 (Series
Description). Kernels are named by each manufacturer in a way of its own.
"""

import re
from enum import IntEnum

from haemo.features.reading.series_tags import SeriesTags

__all__ = ["Kind", "Sharpness", "holds_head", "kind_of", "sharpness_of"]


class Kind(IntEnum):
    """What a series shows, the likeliest to be read for blood first."""

    PLAIN = 0
    CONTRAST = 1
    PERFUSION = 2
    RENDERING = 3
    SECONDARY = 4

    @property
    def words(self) -> str:
        """As it is said in a table."""
        return _WORDS[self]


_WORDS = {
    Kind.PLAIN: "plain",
    Kind.CONTRAST: "with contrast",
    Kind.PERFUSION: "perfusion",
    Kind.RENDERING: "a projection or rendering",
    Kind.SECONDARY: "a secondary capture",
}


class Sharpness(IntEnum):
    """How a series was reconstructed: soft kernels show blood, sharp ones bone."""

    SOFT = 0
    UNKNOWN = 1
    SHARP = 2


# What scanners call the head; body parts as HEADNECK hold it too.
_HEAD_WORDS = ("HEAD", "BRAIN", "SKULL", "CRANI", "CEREBR", "KOPF", "SCHAEDEL", "TETE", "CABEZA", "NEURO")
_SECONDARY_CLASS = "1.2.840.10008.5.1.4.1.1.7"
_SCREEN = {"SCREEN SAVE", "SCREENSHOT", "CAPTURE"}
_RENDERED = {"PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "VRT", "VOLUME RENDERING", "VOLREN", "3D", "SSD"}
_PERFUSED = {"PERFUSION", "CBF", "CBV", "CBF_MAP", "CBV_MAP", "MTT", "TTP", "TMAX", "DYNAMIC"}
# Said of a series without contrast, though the agent of the whole examination may stand in its tags.
_NOT_CONTRAST = re.compile(
    r"\b(pre|non|no|ohne|sans|sin|without|w\s?/\s?o|before|native?|nativ|plain|ncct|nect)\b"
    r"|\bnon?[- ]?(con|ce)",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"contrast|kontrast|contraste|\bpost\b(?!\W*(fossa|op|traum|surg))|(?<!\w)c\+|\+\s?(c|km|iv)\b|\bkm\b|\bcta\b"
    r"|\bctv\b|angio|venogra|\bcect\b|enhanced|arterial|venous|\bdelay|bolus|smart\s?prep|monitoring",
    re.IGNORECASE,
)
_PERFUSION = re.compile(r"perfusion|\bctp\b|\b(cbf|cbv|mtt|ttp|tmax)\b", re.IGNORECASE)
_RENDERING = re.compile(r"\b(mip|minip|vrt|3d|volume rendering)\b", re.IGNORECASE)
_NO_AGENT = ("", "no", "n", "none", "0", "nil", "without")

# Siemens H31s, Hr38, J40s, Br64, B30f, Qr40: the number grows with sharpness, heads are read up to 45.
_SIEMENS = re.compile(r"(?:h|hr|hc|j|b|br|bv|q|qr|u|d)(\d\d)[a-z]?", re.IGNORECASE)
_SIEMENS_SHARP_FROM = 50
# Canon and Toshiba FC21, FC67, FL04: 30s, 50s and 80s are of bone and lung.
_CANON = re.compile(r"f[cl](\d\d)", re.IGNORECASE)
_CANON_SHARP = (3, 5, 8)
_GE_SOFT = ("STANDARD", "STND", "STD", "STD+", "SOFT", "SMOOTH", "BRAIN")
_SHARP = ("BONE", "BONEPLUS", "BONE+", "LUNG", "EDGE", "DETAIL", "SHARP", "ULTRA", "HD BONE")
# Philips: A and B are smooth, C and D sharp, E edges, L lung; with U and Y as series of their own.
_PHILIPS_SOFT, _PHILIPS_SHARP = (
    ("A", "B", "UA", "UB", "UC", "YA", "YB"),
    ("C", "D", "E", "L", "YC", "YD", "YE"),
)
_BONE_WORDS = re.compile(
    r"bone|knochen|\bos(?:eux|so)?\b|hueso|sharp|lung|temporal|petrous|mastoid|inner ear|sinus"
    r"|\bhr(ct)?\b|hires",
    re.IGNORECASE,
)
_SOFT_WORDS = re.compile(r"brain|soft|\bstd\b|stnd|standard|parenchym|hirn|weichteil|cerebr", re.IGNORECASE)


def holds_head(body_part: str) -> bool:
    """Whether a body part, as it stands in Body Part Examined in capitals, is the head or holds it."""
    return any(word in body_part for word in _HEAD_WORDS)


def kind_of(tags: SeriesTags) -> Kind:
    """Tell what a series shows."""
    types = {value.strip().upper() for value in tags.image_type.split("\\")}
    name = tags.description.replace("_", " ")
    if tags.sop_class.startswith(_SECONDARY_CLASS) or types & _SCREEN:
        return Kind.SECONDARY
    if types & _PERFUSED or _PERFUSION.search(name):
        return Kind.PERFUSION
    if types & _RENDERED or _RENDERING.search(name):
        return Kind.RENDERING
    if _NOT_CONTRAST.search(name):
        return Kind.PLAIN
    has_agent = tags.contrast_agent.strip().casefold() not in _NO_AGENT
    return Kind.CONTRAST if has_agent or _CONTRAST.search(name) else Kind.PLAIN


def sharpness_of(tags: SeriesTags) -> Sharpness:
    """Tell whether a series is soft or sharp, by its kernel; where that is not known, by its description."""
    kernel = tags.kernel.split("\\")[0].strip().upper()
    siemens, canon = _SIEMENS.fullmatch(kernel), _CANON.fullmatch(kernel)
    if siemens:
        return Sharpness.SHARP if int(siemens[1]) >= _SIEMENS_SHARP_FROM else Sharpness.SOFT
    if canon:
        return Sharpness.SHARP if int(canon[1]) // 10 in _CANON_SHARP else Sharpness.SOFT
    if kernel in _GE_SOFT or kernel in _PHILIPS_SOFT:
        return Sharpness.SOFT
    if kernel in _SHARP or kernel in _PHILIPS_SHARP:
        return Sharpness.SHARP
    for text in (kernel, tags.description.replace("_", " ")):
        if _BONE_WORDS.search(text):
            return Sharpness.SHARP
        if _SOFT_WORDS.search(text):
            return Sharpness.SOFT
    return Sharpness.UNKNOWN
