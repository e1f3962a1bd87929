"""An SVG file of matplotlib's as a part of the page: smaller, in the page's colors, with ids of its own."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape

from dse.report.figures.point_marks import with_points

_SPACE = re.compile(r">\s+<")
_ID, _REFERENCE = re.compile(r'\s+id="([^"]*)"'), re.compile(r'(?:url\(|href=")#([^")]*)')
_STYLE = re.compile(r' style="([^"]{40,})"')
_GROUP = re.compile(r"<g(?: [^>]*)?>\n?|</g>\n?")
_LINE = r'<path d="M [-.\d]+ [-.\d]+ \nL [-.\d]+ [-.\d]+ \n" {}/>\n'
_LINES = re.compile(_LINE.format("([^>]*)") + "(?:" + _LINE.format(r"\1") + ")+")
_ENDS = re.compile(r"M [-.\d]+ [-.\d]+ \nL [-.\d]+ [-.\d]+ \n")
_OFTEN = 3
_VARIABLES = {
    "#1c2430": "var(--ink)",
    "#667085": "var(--muted)",
    "#d9dee5": "var(--rule)",
    "#e8ebef": "var(--grid)",
    "#ffffff": "var(--page)",
    "#3d4654": "var(--ink)",
}


def inline_svg(
    text: str, name: str, alt: str, title: Callable[[int], str] | None = None, texts: Sequence[str] = ()
) -> str:
    """HTML for the page. Ids are unique by ``name``; shown on hovering: ``title`` of a configuration's number, and
    ``texts`` of marks that are none."""
    prefix = f"{zlib.crc32(name.encode()):x}"[:4]
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", _root(alt), text, count=1)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    text = with_points(text, title, texts)
    return _merged(_ungrouped(_own_ids(_classed(_SPACE.sub(">\n<", text), prefix), prefix)))


def _root(alt: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f'<svg role="img" aria-label="{escape(alt)}" viewBox="{found[1]}">'


def _classed(text: str, prefix: str) -> str:
    """Long styles that many elements share, as classes: a third of a scatter plot's size."""
    counts = Counter(_STYLE.findall(text))
    names = {style: f"s{prefix}{i}" for i, style in enumerate(s for s, n in counts.items() if n > _OFTEN)}
    if not names:
        return text
    text = _STYLE.sub(lambda found: f' class="{names[found[1]]}"' if found[1] in names else found[0], text)
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    begin = text.index(">") + 1
    return f"{text[:begin]}<style>{rules}</style>{text[begin:]}"


def _own_ids(text: str, prefix: str) -> str:
    """The ids that something refers to, short and unique in the page; the others are left out."""
    used = {name: f"{prefix}-{i}" for i, name in enumerate(dict.fromkeys(_REFERENCE.findall(text)))}
    text = _ID.sub(lambda found: f' id="{used[found[1]]}"' if found[1] in used else "", text)
    return _REFERENCE.sub(lambda found: found[0].replace(f"#{found[1]}", f"#{used[found[1]]}"), text)


def _ungrouped(text: str) -> str:
    """Without groups that have no attributes, which change nothing: a tenth of the size."""
    plain: list[bool] = []

    def kept(found: re.Match[str]) -> str:
        tag = found[0].rstrip()
        if tag == "</g>":
            return "" if plain.pop() else found[0]
        if tag.endswith("/>"):
            return ""  # empty
        plain.append(tag == "<g>")
        return "" if plain[-1] else found[0]

    return _GROUP.sub(kept, text)


def _merged(text: str) -> str:
    """Lines that follow each other and look the same as one path: bars of intervals are a third of the size."""
    return _LINES.sub(lambda run: f'<path d="{"".join(_ENDS.findall(run[0]))}" {run[1]}/>\n', text)


__all__ = ["inline_svg"]
