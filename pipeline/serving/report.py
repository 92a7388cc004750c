"""What was found on a study, as one page to print or keep: it needs no other file and runs nothing."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.pipeline.serving.pixels import PixelCache, SlicePixels
from haemo.pipeline.serving.studies import Study

__all__ = ["reading_report"]

_KEY_IMAGES = 4
_LEVEL_HU, _WIDTH_HU = 40.0, 80.0


def reading_report(study: Study, found: Mapping[str, Any], pixels: PixelCache) -> dict[str, Any]:
    """What the template of a report takes.

    Parameters
    ----------
    study : Study
    found : mapping
        As `findings` gives it.
    pixels : PixelCache
    """
    slices = found["slices"]
    known = [number for number, one in enumerate(slices) if one["probability"] is not None]
    first = sorted(known, key=lambda number: -slices[number]["probability"])[:_KEY_IMAGES]
    images = []
    for number in sorted(first):
        try:
            own = pixels(study.slices[number].path)
        except UnreadableSlice:
            continue  # it is among the failures that are listed
        images.append({"number": number + 1, **slices[number], **_picture(own, slices[number]["outlines"])})
    outside = [one["outside"] for one in slices if one["outside"]]
    failures = [
        *found["failures"],
        *({"name": s["name"], "reason": s["failure"]} for s in slices if s["failure"]),
    ]
    return {
        "found": found,
        "images": images,
        "outside": len(outside),
        "reasons": sorted({one.split(" (")[0].split(":")[0] for one in outside}),
        "failures": failures,
        "version": version("haemo"),
        "written": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
    }


def _picture(own: SlicePixels, outlines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The slice in the window of a brain as PNG, and its outlines as the path of an SVG."""
    from PIL import Image

    facts = own.facts
    values = np.frombuffer(own.data, "<i2").reshape(facts["height"], facts["width"]).astype(np.float32)
    if facts["unit"] == "HU":
        values = (values - (_LEVEL_HU - _WIDTH_HU / 2)) * (255 / _WIDTH_HU)
    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).save(stream, format="PNG")
    rings = [ring for one in outlines for ring in one["rings"]]
    return {
        "png": base64.b64encode(stream.getvalue()).decode(),
        "columns": facts["width"] * facts["step"],
        "rows": facts["height"] * facts["step"],
        "outline": "".join(f"M{'L'.join(f'{x:g} {y:g}' for x, y in ring)}Z" for ring in rings),
    }
