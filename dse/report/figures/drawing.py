"""A finished figure: SVG for the page, whose points know their configurations, and SVG and PDF files of its own."""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = "points-"
"""Begins the id of a collection of points; behind it, the numbers of their configurations."""
_LARGEST = 300_000
_LARGEST_WITH_POINTS = 500_000
_PATH, _DIGITS = re.compile(rb' d="[^"]*"'), re.compile(rb"(\.\d\d)\d+")  # a hundredth of a point is enough
_COLLECTION = re.compile(rf'<g id="{POINTS}([\d-]+)">(.*?)</g>', re.DOTALL)
_USE = re.compile(r"<use [^>]*/>")
_SPACE = re.compile(r">\s+<")
_ID, _REFERENCE = re.compile(r'\s+id="([^"]*)"'), re.compile(r'(?:url\(|href=")#([^")]*)')
_STYLE = re.compile(r' style="([^"]{40,})"')
_OFTEN = 3
_VARIABLES = {
    "#1c2430": "var(--ink)",
    "#667085": "var(--muted)",
    "#d9dee5": "var(--rule)",
    "#e8ebef": "var(--grid)",
    "#ffffff": "var(--page)",
    "#3d4654": "var(--ink)",
}


@dataclass(frozen=True)
class Drawing:
    """``svg``: the file's content; ``pdf`` likewise; ``png``: at twice the resolution, where the SVG is too large for
    the page."""

    svg: bytes
    pdf: bytes
    png: bytes | None = None

    def inline(self, name: str, alt: str, title: Callable[[int], str] | None = None) -> str:
        """HTML for the page. Ids are unique by ``name``; ``title``: of a configuration's number, shown on hovering."""
        if self.png is not None:
            uri = base64.b64encode(self.png).decode()
            return f'<img src="data:image/png;base64,{uri}" alt="{escape(alt)}">'
        text, prefix = self.svg.decode(), f"{zlib.crc32(name.encode()):x}"[:4]
        text = text[text.index("<svg ") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
        text = re.sub(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", _root(alt), text, count=1)
        for color, variable in _VARIABLES.items():
            text = text.replace(color, variable)
        text = _COLLECTION.sub(_marked(title), text)
        return _own_ids(_classed(_SPACE.sub(">\n<", text), prefix), prefix)


def _own_ids(text: str, prefix: str) -> str:
    """The ids that something refers to, made unique in the page; the others are left out."""
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    return _REFERENCE.sub(lambda found: found[0].replace("#", f"#{prefix}-"), text)


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


def drawing(figure: Figure) -> Drawing:
    """Saves a figure whose layout is final."""
    svg = _saved(figure, "svg", {"Date": None, "Creator": None})
    svg = _PATH.sub(lambda m: _DIGITS.sub(rb"\1", m[0]), svg)
    pdf = _saved(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    limit = _LARGEST_WITH_POINTS if POINTS.encode() in svg else _LARGEST
    return Drawing(svg, pdf, _saved(figure, "png", {"Software": None}) if len(svg) > limit else None)


def _saved(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=192 if kind == "png" else "figure")
    return _palette(buffer) if kind == "png" else buffer.getvalue()


def _palette(png: io.BytesIO) -> bytes:
    """The picture in 256 colors, a third of the size."""
    from PIL import Image

    found = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256).save(found, format="png", optimize=True)
    return found.getvalue()


def _root(alt: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f'<svg role="img" aria-label="{escape(alt)}" viewBox="{found[1]}">'


def _marked(title: Callable[[int], str] | None) -> Callable[[re.Match[str]], str]:
    """Each point of a collection as an element with its configuration's number, which the keyboard reaches."""

    def mark(found: re.Match[str]) -> str:
        numbers = iter(int(number) for number in found[1].split("-"))

        def point(use: re.Match[str]) -> str:
            number = next(numbers, None)
            if number is None:
                return use[0]
            said = f"<title>{escape(title(number))}</title>" if title else ""
            return f'<g class="pt" data-c="{number}" tabindex="0">{said}{use[0]}</g>'

        return f"<g>{_USE.sub(point, found[2])}</g>"

    return mark


__all__ = ["POINTS", "Drawing", "drawing"]
