"""How figures of the report look, and how they get into the page and beside it."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "INK", "Drawing", "figure_style", "finish", "model_colours"]

# Okabe and Ito 2008: told apart by every eye, and in print by their lightness. Black and yellow are left
# out: one is the ink and the other too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
"""Colours of models, in order."""

INK = "#1b1f24"
"""Colour of text and axes; it becomes the page's own text colour, so that figures follow dark mode."""

_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_DPI = 150


@dataclass(frozen=True)
class Drawing:
    """One finished figure.

    Attributes
    ----------
    name : str
        Its files are NAME.svg and NAME.png.
    caption : str
    alternative : str
        What the figure shows, in words, for those who do not see it.
    markup : str
        HTML: inline SVG, or an image with its data.
    """

    name: str
    caption: str
    alternative: str
    markup: str


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw inside this block: small sober figures, text as text, the same bytes each time."""
    import matplotlib

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "haemo",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "legend.frameon": False,
        "legend.fontsize": 8,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
        ),
    }
    with matplotlib.rc_context(settings):
        yield


def model_colours(names: list[str]) -> dict[str, str]:
    """A colour for each model, the same in every figure."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def finish(figure: "Figure", folder: Path, name: str, caption: str, alternative: str) -> Drawing:
    """Write a figure as NAME.svg and NAME.png into `folder`, and give its inline form."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    with replacing(folder / f"{name}.svg") as path:
        # On its own the picture needs a paper to lie on.
        path.write_text(_on_white(text), encoding="utf-8")
    with replacing(folder / f"{name}.png") as path:
        figure.savefig(
            path,
            format="png",
            dpi=_DPI,
            bbox_inches="tight",
            facecolor="white",
            # PNG has no place for bytes that are not UTF-8, which names of classes may have.
            metadata={
                "Software": None,
                "Description": alternative.encode(errors="surrogateescape").decode(errors="replace"),
            },
        )
    return Drawing(name, caption, alternative, _inline(text, name))


def _inline(text: str, name: str) -> str:
    """The svg element alone, with the ink in the page's colour and ids that no other figure has."""
    text = text[text.index("<svg") :]
    text = text.replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    width = re.search(r'width="([\d.]+)pt"', text)
    points = width.group(1) if width else "400"
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    # Hidden from assistive technology: the text alternative stands beside it, once and readable.
    return text.replace("<svg", f'<svg aria-hidden="true" style="width:min(100%,{points}pt)"', 1)


def _on_white(text: str) -> str:
    return re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="white"/>', text, count=1)
