"""What a header says of the picture in its compressed stream, and the refusal of a stream that differs."""

from dataclasses import dataclass

from haemo.errors import UnreadableSlice

__all__ = ["Described", "unsound"]


@dataclass(frozen=True, slots=True)
class Described:
    """One gray picture as its DICOM header describes it.

    Attributes
    ----------
    rows, columns : int
        At least 1, and not too many for one slice (`check_size`).
    bits_allocated : int
        8 or 16.
    bits_stored : int
        1 to `bits_allocated`.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int

    def hold(self, kind: str, rows: int, columns: int, samples: int, bits: int) -> None:
        """Refuse a stream that declares another picture.

        Its bits may differ from Bits Stored, as many encoders write all that are allocated or only those in
        use; but they must fit into what is allocated, and 8 cannot hold what is said to have more.

        Parameters
        ----------
        kind : str
            Of stream, for the message.
        rows, columns : int
        samples : int
            Per pixel.
        bits : int
            Per sample.

        Raises
        ------
        UnreadableSlice
            With what the stream declares and what the header says.
        """
        if (rows, columns, samples) == (self.rows, self.columns, 1):
            least = 9 if self.bits_stored > 8 else 1
            if least <= bits <= self.bits_allocated:
                return
        raise UnreadableSlice(
            f"its {kind} stream declares {rows} x {columns} pixels with {samples} "
            f"sample{'s' * (samples != 1)} of {bits} bits, but the DICOM header says {self.rows} x "
            f"{self.columns} with 1 sample of {self.bits_stored} bits in {self.bits_allocated}"
        )


def unsound(kind: str, why: str = "") -> UnreadableSlice:
    """The refusal of a stream whose head is malformed."""
    return UnreadableSlice(
        f"the file is damaged: the head of its {kind} stream is not sound{why and f' ({why})'}"
    )
