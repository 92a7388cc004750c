"""DICOM outlines (SEG, RTSTRUCT) beside slices: their masks, and labels where nothing else gives any."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from haemo.features.labels import BLEED_TYPES, HAEMORRHAGE, NORMAL, class_name
from haemo.features.layouts.claims import Claims, Headers, Request
from haemo.features.outlines.truth import Drawings, Truth

__all__ = ["labelled_by_outlines", "truth_of"]

_SUBTYPE = "subtype"


def truth_of(paths: Iterable[Path], headers: Headers) -> Truth:
    """Masks of those slices that the outlines among the files are of."""
    drawings = Drawings(headers.outlines, headers.progress)
    return drawings.truth(_of_interest(paths, headers, drawings))


def labelled_by_outlines(claims: Claims, request: Request, headers: Headers) -> Claims:
    """Label the slices of each series that outlines are of: with blood where they have a pixel of it.

    Raises
    ------
    BadSettings
        If the label asked for is no type that segments tell, and no segment is called so.
    """
    drawings = Drawings(headers.outlines, headers.progress)
    names = {segment.shown.casefold() for drawing in drawings.known for segment in drawing.segments.values()}
    types = (_SUBTYPE, *BLEED_TYPES) if drawings.tell_types else ()
    kind = request.kind(("any", *types, *sorted(names)), "the outlines here have")
    truth = drawings.truth(
        _of_interest([one.path for one in claims.slices], headers, drawings),
        None if kind in ("any", *types) else kind,
        remedy="; --label NAME takes one",
    )
    slices = [
        replace(one, label=_label(kind, truth, one.path)) if one.path in truth.masks else one
        for one in claims.slices
    ]
    return replace(
        claims,
        slices=slices,
        notes=[*claims.notes, f"labels: {kind}, by outlines; on series that have them"],
        positive=HAEMORRHAGE if kind in ("any", _SUBTYPE) else kind,
        are_listed=True,
        truth=truth,
    )


def _label(kind: str, truth: Truth, path: Path) -> str:
    if kind == _SUBTYPE:
        return "+".join(truth.types[path]) or NORMAL
    if kind in BLEED_TYPES:
        return class_name(kind, kind in truth.types[path])
    return class_name(kind, bool(truth.masks[path].unpack().any()))


def _of_interest(paths: Iterable[Path], headers: Headers, drawings: Drawings) -> list[Path]:
    """Slices that outlines may be of: to find out where slices lie, each is opened once more."""
    found = [(path, header.tags) for path in paths if (header := headers.get(path)) and header.tags]
    if not all(drawing.instances for drawing in drawings.known):
        return [path for path, _ in found]
    named = frozenset().union(*(drawing.instances for drawing in drawings.known))
    series = {tags.series for _, tags in found if tags.sop_instance_uid in named}
    # Frames of an enhanced CT have no identifier of their own.
    return [path for path, tags in found if tags.series in series or not tags.sop_instance_uid]
