"""One HTML page that needs nothing else: no network, no script, no other file."""

from collections.abc import Iterable, Sequence
from html import escape

from haemo.pipeline.report.drawing import Drawing

__all__ = ["Section", "draw", "figures", "page", "paragraph", "table"]

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d0d7de;--shade:#f6f8fa;
--accent:#0072b2;--leak:#a33f00}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b1;--paper:#0d1117;--line:#30363d;
--shade:#161b22;--accent:#58b4e8;--leak:#ff9a57}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.25rem 1rem 3rem;max-width:62rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
-webkit-text-size-adjust:100%}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.5rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.5rem 0}
a{color:var(--accent)}
nav{font-size:.9rem;margin:.8rem 0}
nav a{margin-right:.9rem;white-space:nowrap}
.sub{color:var(--soft);font-size:.9rem}
.claim{font-size:1.12rem;background:var(--shade);border-left:4px solid var(--accent);padding:.8rem 1rem;
margin:1rem 0}
.warn{background:var(--shade);border-left:4px solid var(--leak);padding:.6rem 1rem;margin:.7rem 0}
.leaky{color:var(--leak);font-weight:700;white-space:nowrap}
.scroll{overflow-x:auto;margin:.6rem 0;container-type:inline-size}
table{border-collapse:collapse;font-size:.88rem;min-width:50%}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem;position:sticky;left:0;
min-width:min(100cqi,34rem);max-width:100cqi}
th,td{padding:.32rem .7rem .32rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);
font-variant-numeric:tabular-nums}
thead th{border-bottom:2px solid var(--line);font-weight:600}
tbody th{min-width:6.5rem}
td small{color:var(--soft);white-space:nowrap}
figure{margin:1rem 0;break-inside:avoid}
figcaption{color:var(--soft);font-size:.85rem;margin-top:.3rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:.5rem 1.5rem}
svg{max-width:100%;height:auto;display:block;color:var(--ink)}
.montage{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem}
.panel{margin:0;min-width:0}
.panel img{width:100%;height:auto;background:#000;display:block}
.panel figcaption{overflow-wrap:anywhere;line-height:1.3}
code{font:.85em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--shade);padding:.6rem .8rem;font-size:.85rem}
details summary{cursor:pointer;color:var(--accent);font-size:.9rem}
.alt{color:var(--soft);font-size:.85rem;margin:.2rem 0}
@media screen and (prefers-color-scheme:dark){svg{filter:brightness(1.25)}}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--line:#bbb;--shade:#f4f4f4;--accent:#003f7f;
--leak:#803000}body{max-width:none;font-size:10pt;padding:0}nav{display:none}h2{break-after:avoid}
tr{break-inside:avoid}.scroll{overflow:visible}a{color:inherit}}
"""


class Section:
    """One section of the page.

    Parameters
    ----------
    anchor : str
        Name of its place in the page.
    title : str
    parts : iterable of str
        HTML.
    """

    def __init__(self, anchor: str, title: str, parts: Iterable[str]):
        self.anchor = anchor
        self.title = title
        self.parts = [part for part in parts if part]


def page(title: str, subtitle: str, lead: Iterable[str], sections: Sequence[Section]) -> str:
    """The whole page.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    lead : iterable of str
        HTML above the first section.
    sections : sequence of Section
    """
    links = " ".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    body = "\n".join(
        f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>\n'
        + "\n".join(section.parts)
        + "</section>"
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1>"
        f'<p class="sub">{escape(subtitle)}</p></header>\n'
        + "\n".join(lead)
        + f"\n<nav>{links}</nav>\n<main>{body}"
        "</main></body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table; cells are HTML already, column names and the caption are plain text."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def draw(drawing: Drawing | None) -> str:
    """A figure with its caption and its text alternative."""
    if drawing is None:
        return ""
    alternative = (
        f"<details><summary>In words</summary><p class=alt>{escape(drawing.alternative)}</p></details>"
        if drawing.alternative
        else ""
    )
    label = f' role="group" aria-label="{escape(drawing.alternative)}"' if drawing.alternative else ""
    caption = f"<figcaption>{escape(drawing.caption)}{alternative}</figcaption>"
    return f"<figure{label}>{drawing.markup}{caption}</figure>"


def figures(*drawings: Drawing | None) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(draw(drawing) for drawing in drawings)}</div>'
