"""One series, as its slices make it: what it shows, how sharp and thick it is, how much it covers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from haemo.features.reading.slice import DicomTags
from haemo.features.series.kinds import Kind, Sharpness, holds_head, kind_of, sharpness_of
from haemo.features.series.places import extent_mm, findings, most_at_one_place, usual

__all__ = ["Series"]

# As many pictures of one place are a film of contrast that passes through.
_PERFUSED_FROM = 4


@dataclass(frozen=True)
class Series:
    """The slices of one series that can be read.

    Attributes
    ----------
    study, uid : str
        As the tags say.
    paths : tuple of Path
    slices : tuple of DicomTags
        In the order of `paths`.
    """

    study: str
    uid: str
    paths: tuple[Path, ...]
    slices: tuple[DicomTags, ...]

    @property
    def description(self) -> str:
        """Series Description."""
        return self.slices[0].of_series.description

    @property
    def number(self) -> str:
        """Series Number."""
        return self.slices[0].of_series.number

    @property
    def kernel(self) -> str:
        """Convolution kernel."""
        return self.slices[0].of_series.kernel.replace("\\", " ")

    @cached_property
    def kind(self) -> Kind:
        """What it shows."""
        kind = max(kind_of(tags) for tags in {one.of_series for one in self.slices})
        often = most_at_one_place(self.slices) >= _PERFUSED_FROM
        return Kind.PERFUSION if often and kind < Kind.PERFUSION else kind

    @cached_property
    def elsewhere(self) -> str:
        """The part of the body that it shows, where its tag says that this is not the head; else empty."""
        parts = {tags.body_part for tags in self.slices if tags.body_part}
        return "" if any(map(holds_head, parts)) else ", ".join(sorted(parts))

    @cached_property
    def sharpness(self) -> Sharpness:
        """Whether its kernel is soft or sharp."""
        return sharpness_of(self.slices[0].of_series)

    @property
    def is_derived(self) -> bool:
        """Whether it was computed from another series."""
        return self.slices[0].of_series.image_type.upper().startswith("DERIVED")

    @cached_property
    def thickness_mm(self) -> float | None:
        """Thickness that most of its slices have; None where none says it."""
        values = [tags.thickness_mm for tags in self.slices if tags.thickness_mm]
        return usual(values) if values else None

    @cached_property
    def extent_mm(self) -> float:
        """How much it covers along its normal."""
        return extent_mm(self.slices, self.thickness_mm)

    @cached_property
    def findings(self) -> list[str]:
        """What is amiss with where its slices lie, in words."""
        return findings(self.slices)

    @property
    def name(self) -> str:
        """As it is called in messages: number and description, or else the UID."""
        called = " ".join(filter(None, (self.number, self.description)))
        return f"series {called or self.uid}"

    @property
    def searched(self) -> str:
        """What a pattern of the user is looked for in: number, description, kernel and UID."""
        return " ".join(filter(None, (self.number, self.description, self.kernel, self.uid)))
