"""The terms of reports and segmentations, as code, scheme and meaning; new identifiers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

__all__ = [
    "ABSENT",
    "BRAIN",
    "COMMENT",
    "CT_OF_HEAD",
    "HAEMORRHAGE",
    "MILLILITRE",
    "MORPHOLOGICALLY_ABNORMAL",
    "NO_UNIT",
    "PRESENT",
    "PROBABILITY",
    "THRESHOLD",
    "VOLUME",
    "code",
    "new_uid",
]

HAEMORRHAGE = ("1386000", "SCT", "Intracranial hemorrhage")
MORPHOLOGICALLY_ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN = ("12738006", "SCT", "Brain")
CT_OF_HEAD = ("303653007", "SCT", "CT of head")
VOLUME = ("118565006", "SCT", "Volume")
PRESENT = ("121053", "DCM", "Present")
ABSENT = ("121054", "DCM", "Absent")
PROBABILITY = ("122157", "DCM", "Probability")
THRESHOLD = ("122411", "DCM", "Threshold Value")
COMMENT = ("121106", "DCM", "Comment")
MILLILITRE = ("mL", "UCUM", "mL")
NO_UNIT = ("1", "UCUM", "no units")


def code(term: tuple[str, str, str]) -> "Code":
    """A term as pydicom has it."""
    from pydicom.sr.coding import Code

    return Code(*term)


def new_uid() -> str:
    """An identifier that nothing else has: a random UUID below 2.25."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))
