"""What the header of a CT picture in DICOM says, of one picture or of one frame of several."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pydicom
from pydicom import uid

from haemo.errors import NotASlice, Outlines, UnreadableSlice
from haemo.features.reading.dicom_stream import read_elements
from haemo.features.reading.orientation import View, seen_as
from haemo.features.reading.plain_dataset import PlainDataset, plain_dataset
from haemo.features.reading.series_tags import SERIES_ELEMENTS, read_series_tags
from haemo.features.reading.slice import DicomTags, check_size, damaged

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "NATIVE",
    "PADDING",
    "PADDING_LIMIT",
    "PIXELS",
    "Elements",
    "Header",
    "items",
    "parsed",
    "parsed_bytes",
    "parsed_file",
]

NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_OUTLINES = ("SEG", "RTSTRUCT")
_IMAGE_TYPE = 0x00080008
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_MODALITY = 0x00080060
_PATIENT_ID = 0x00100020
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_FRAME_OF_REFERENCE = 0x00200052
_BODY_PART = 0x00180015
_THICKNESS = 0x00180050
_INSTANCE_NUMBER = 0x00200013
_POSITION = 0x00200032
_ORIENTATION = 0x00200037
_SLICE_LOCATION = 0x00201041
_SAMPLES = 0x00280002
_PHOTOMETRIC = 0x00280004
_FRAMES = 0x00280008
_ROWS = 0x00280010
_COLUMNS = 0x00280011
_SPACING = 0x00280030
_ALLOCATED = 0x00280100
_STORED = 0x00280101
_HIGH_BIT = 0x00280102
_SIGNED = 0x00280103
PADDING = 0x00280120
PADDING_LIMIT = 0x00280121
_INTERCEPT = 0x00281052
_SLOPE = 0x00281053
_RESCALE_TYPE = 0x00281054
PIXELS = 0x7FE00010
# Nothing else is read from a file, but for what is said of its series: free text, private tags and names of
# people stay where they are.
_WANTED = [
    value for name, value in list(globals().items()) if name.startswith("_") and isinstance(value, int)
]
_WANTED += SERIES_ELEMENTS
_WANTED += [PADDING, PADDING_LIMIT, PIXELS]
_WANTED += [0x00280006, 0x00280034]  # planar configuration and pixel aspect: some decoders ask for them


class Elements:
    """The elements that matter, read from their raw bytes.

    pydicom would convert and validate each value on access and warn of every identifier that is not a proper
    one, which de-identified data sets are full of; nothing here depends on that.

    Parameters
    ----------
    *datasets : Dataset or PlainDataset
        An element is taken from the first that has it: of a frame its own, then what all frames share.
    """

    def __init__(self, *datasets: "Dataset | PlainDataset"):
        self._datasets = datasets

    def _holder(self, tag: int) -> "Dataset | PlainDataset | None":
        return next((dataset for dataset in self._datasets if tag in dataset), None)

    def raw(self, tag: int) -> bytes:
        """Bytes of one element; empty where it is absent."""
        dataset = self._holder(tag)
        if dataset is None:
            return b""
        try:
            value = dataset.get_item(tag).value
        # Where pydicom could not take the bytes of an element, it says so only now.
        except Exception as error:
            raise damaged(error) from error
        return value if isinstance(value, bytes) else b""

    def text(self, tag: int) -> str:
        """Text of one element; empty where it is absent."""
        value = self.raw(tag).strip(b" \x00")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")

    def integer(self, tag: int, default: int, is_signed: bool = False) -> int:
        """Value of one element of 16 bits."""
        value = self.raw(tag)
        if len(value) < 2:
            return default
        order = "little" if self._holder(tag).get_item(tag).is_little_endian else "big"
        return int.from_bytes(value[:2], order, signed=is_signed)

    def numbers(self, tag: int) -> list[float]:
        """Values of a decimal or integer string; empty where it is absent or holds no finite numbers."""
        try:
            values = [float(part) for part in self.text(tag).split("\\")]
        except ValueError:
            return []
        return values if all(math.isfinite(value) for value in values) else []

    def first_number(self, tag: int) -> float | None:
        """First value of a decimal or integer string; None where there is none."""
        return next(iter(self.numbers(tag)), None)

    def rescale(self) -> tuple[float, float] | None:
        """Rescale slope and intercept; None where the file has neither, so that its numbers are of no unit.

        Raises
        ------
        UnreadableSlice
            If they cannot be used, or lead to another unit than HU.
        """
        unit = self.text(_RESCALE_TYPE)
        slope, intercept = self.first_number(_SLOPE), self.first_number(_INTERCEPT)
        if unit not in ("", "HU", "HU_MOD", "US"):
            raise UnreadableSlice(f"pixels are in {unit}, not in Hounsfield units")
        if slope is None and intercept is None:
            return None
        if slope is None or intercept is None or slope == 0:
            raise UnreadableSlice("no usable Rescale Slope and Intercept: Hounsfield units are unknown")
        return slope, intercept

    def view(self) -> View:
        """How the picture is turned to be seen; as it is where the file does not say how it lies.

        Raises
        ------
        NotASlice
            If it is not axial.
        """
        if not self.sides_known():
            return View()
        axes = self.numbers(_ORIENTATION)
        return seen_as(right=np.array(axes[:3]), down=np.array(axes[3:]))

    def sides_known(self) -> bool:
        """Whether the file says how the picture lies in the patient."""
        axes = self.numbers(_ORIENTATION)
        return len(axes) == 6 and any(axes[:3]) and any(axes[3:])

    def spacing_mm(self) -> tuple[float, float] | None:
        """Between rows and between columns as they are stored."""
        spacing = self.numbers(_SPACING)
        return (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None

    def tags(self) -> DicomTags:
        """Whose the picture is and where it lies. Errors as `view`."""
        view, position = self.view(), self.numbers(_POSITION)
        return DicomTags(
            sop_instance_uid=self.text(_SOP_INSTANCE_UID),
            patient=self.text(_PATIENT_ID),
            study=self.text(_STUDY_UID),
            series=self.text(_SERIES_UID),
            z_mm=round(float(np.dot(view.normal, position)), 4) if len(position) == 3 else None,
            slice_location_mm=self.first_number(_SLICE_LOCATION),
            instance_number=self.first_number(_INSTANCE_NUMBER),
            body_part=self.text(_BODY_PART).upper(),
            tilt_deg=view.tilt_deg if len(self.numbers(_ORIENTATION)) == 6 else None,
            thickness_mm=self.first_number(_THICKNESS),
            sides_known=self.sides_known(),
            of_series=read_series_tags(self),
        )


class Header(Elements):
    """The header of a file.

    Attributes
    ----------
    dataset : Dataset or PlainDataset
    is_signed : bool
    bits_allocated, bits_stored : int
    size : tuple of int
        Rows and columns as they are stored.
    syntax : UID
        How pixels are packed.
    """

    def __init__(self, dataset: "Dataset | PlainDataset"):
        super().__init__(dataset)
        self.dataset = dataset
        self.is_signed = self.integer(_SIGNED, 0) == 1
        self.bits_allocated = self.integer(_ALLOCATED, 0)
        self.bits_stored = self.integer(_STORED, self.bits_allocated)
        self.size = (self.integer(_ROWS, 0), self.integer(_COLUMNS, 0))
        meta = getattr(dataset, "file_meta", {})
        # A damaged identifier may come as a list of several; as text it is none that is known.
        self.syntax = uid_of(str(meta.get("TransferSyntaxUID") or uid.ImplicitVRLittleEndian))

    def pixels(self) -> bytes:
        """Pixel data as they are stored.

        Raises
        ------
        UnreadableSlice
            If they are of a type that none have, so that nobody knows where they begin.
        """
        data = self.raw(PIXELS)
        kind = self.dataset.get_item(PIXELS).VR if data else None
        if kind not in (None, "OB", "OW", "OB or OW", "UN"):
            raise UnreadableSlice(f"the file is damaged: its pixels are of type {kind!r}")
        return data

    @property
    def is_hu(self) -> bool:
        """Whether a rescale leads to HU: that of an exporter of other files may lead anywhere."""
        return self.text(_MODALITY) != "OT" or self.text(_RESCALE_TYPE) == "HU"

    @property
    def frames(self) -> int:
        """Number of frames; 1 where the file does not say."""
        return int(self.first_number(_FRAMES) or 1)

    def check(self) -> None:
        """Refuse what is not one gray CT picture, naming what it is."""
        self.check_kind()
        sop_class = uid_of(self.text(_SOP_CLASS_UID))
        frames = self.first_number(_FRAMES) or 1
        if frames > 1:
            raise UnreadableSlice(
                f"{sop_class.name} with {frames:g} frames: of such files only enhanced CT is read; "
                "split it into classic CT slices first"
            )
        if "LOCALIZER" in self.text(_IMAGE_TYPE).split("\\"):
            raise NotASlice("a localizer (scout view), not an axial slice")
        self.check_picture()

    def check_kind(self) -> None:
        """Refuse what is no CT, or no picture."""
        modality, sop_class = self.text(_MODALITY), uid_of(self.text(_SOP_CLASS_UID))
        # pydicom gives nothing at all where an element runs past the end of the file.
        if not len(self.dataset):
            raise UnreadableSlice("the file is damaged or cut short: no element of it can be read")
        if modality in _OUTLINES:
            raise Outlines(f"outlines ({sop_class.name or modality}), not CT values")
        if self.size == (0, 0):
            # Without a class it may as well be a picture whose header is damaged.
            kind = (
                NotASlice if sop_class.name and not sop_class.name.startswith("CT Image") else UnreadableSlice
            )
            raise kind(f"a DICOM file without a picture ({sop_class.name or 'of unknown class'})")
        # Exporters that make DICOM of other files write OT; what 8 bits hold then is a picture of a screen.
        is_ct = modality in ("CT", "") or sop_class == uid.CTImageStorage
        if not is_ct and not (modality == "OT" and self.bits_allocated == 16):
            raise UnreadableSlice(f"modality {modality} is not CT")

    def check_picture(self) -> None:
        """Refuse colours, and numbers of bits that no CT has."""
        photometric = self.text(_PHOTOMETRIC)
        if self.integer(_SAMPLES, 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
            raise UnreadableSlice(f"a colour picture ({photometric}), not CT values")
        if not self.bits_allocated:
            raise UnreadableSlice("the header ends before it describes the pixels; the file is cut short")
        if self.integer(_SIGNED, 0) not in (0, 1):
            raise UnreadableSlice("the file is damaged: its Pixel Representation is neither 0 nor 1")
        if self.bits_allocated not in (8, 16) or not 1 <= self.bits_stored <= self.bits_allocated:
            raise UnreadableSlice(
                f"{self.bits_stored} bits stored in {self.bits_allocated} are not supported"
            )
        check_size(*self.size)

    def mode(self) -> str:
        """What the file holds: ``DICOM int16``, and how it is compressed."""
        pixel = f"DICOM {'int' if self.is_signed else 'uint'}{self.bits_allocated}"
        return pixel if self.syntax in NATIVE else f"{pixel} {self.syntax.name}"


def items(dataset: "Dataset", *tags: int) -> list["Dataset"]:
    """Items of a sequence, or of sequences in its items; none where it is not there.

    Raises
    ------
    UnreadableSlice
        If the sequence is damaged.
    """
    found = [dataset]
    for tag in tags:
        try:
            found = [item for one in found if tag in one for item in one[tag].value or ()]
        # pydicom takes a sequence apart when it is asked for, and raises whatever its bytes lead to.
        except Exception as error:
            raise damaged(error) from error
    return found


def uid_of(text: str) -> uid.UID:
    return uid.UID(text, pydicom.config.IGNORE)


def parsed(
    stream: BinaryIO, stop_before_pixels: bool, more: Sequence[int] = (), of_frames: bool = False
) -> "Dataset":
    """Read the elements that matter, and `more`; free text, private tags and names stay where they are.

    Raises
    ------
    UnreadableSlice
        If pydicom cannot make sense of the file, or would read more of it than a slice has.
    """
    return read_elements(stream, [*_WANTED, *more], stop_before_pixels, of_frames)


def parsed_bytes(data: bytes) -> "Dataset | PlainDataset":
    """Do as `parsed` with all bytes of a file, sooner where it is a common one. Errors as `parsed`."""
    plain = plain_dataset(data, _WANTED)
    return parsed(BytesIO(data), stop_before_pixels=False) if plain is None else plain


def parsed_file(
    path: Path, stop_before_pixels: bool, more: Sequence[int] = (), of_frames: bool = False
) -> "Dataset":
    """Do as `parsed` with a file.

    Raises
    ------
    UnreadableSlice
        As `parsed`; also if the file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            return parsed(stream, stop_before_pixels, more, of_frames)
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
