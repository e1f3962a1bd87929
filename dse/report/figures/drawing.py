"""A finished figure: SVG for the page, whose points know their configurations, and SVG and PDF files of its own."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from dse.report.figures.inline_svg import inline_svg
from dse.report.figures.point_marks import POINTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST = 300_000
_LARGEST_WITH_POINTS = 500_000
_PNG_DPI = 192
_PLACES = re.compile(rb' (?:d|x|y)="[^"]*"')
_DIGITS = re.compile(rb"(\.\d\d)\d+")  # a hundredth of a point is enough


@dataclass(frozen=True)
class Drawing:
    """``svg``: the file's content; ``pdf`` likewise; ``png``: at twice the resolution, where the SVG is large and this
    is smaller; ``titles``: texts of marks that are no configurations (``MarkTitles``)."""

    svg: bytes
    pdf: bytes
    png: bytes | None = None
    titles: tuple[str, ...] = ()

    def inline(self, name: str, alt: str, title: Callable[[int], str] | None = None) -> str:
        """HTML for the page. Ids are unique by ``name``; ``title``: of a configuration's number, shown on hovering."""
        if self.png is not None:
            uri = base64.b64encode(self.png).decode()
            return f'<img src="data:image/png;base64,{uri}" alt="{escape(alt)}">'
        return inline_svg(self.svg.decode(), name, alt, title, self.titles)


def drawing(figure: Figure, titles: Sequence[str] = ()) -> Drawing:
    """Saves a figure whose layout is final; ``titles`` of its marks."""
    svg = _saved(figure, "svg", {"Date": None, "Creator": None})
    svg = _PLACES.sub(lambda m: _DIGITS.sub(rb"\1", m[0]), svg)
    pdf = _saved(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    if len(svg) <= (_LARGEST_WITH_POINTS if POINTS.encode() in svg else _LARGEST):
        return Drawing(svg, pdf, titles=tuple(titles))
    png = _palette(io.BytesIO(_saved(figure, "png", {"Software": None})))
    return Drawing(svg, pdf, png if 4 / 3 * len(png) < len(svg) else None, tuple(titles))


def _saved(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    """By the printers themselves, since ``Figure.savefig`` draws a figure that has had a layout engine twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    dpi, buffer = figure.dpi, io.BytesIO()
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    elif kind == "pdf":
        FigureCanvasPdf(figure).print_pdf(buffer, metadata=metadata)
    else:
        figure.dpi = _PNG_DPI
        FigureCanvasAgg(figure).print_png(buffer, metadata=metadata)
    figure.dpi = dpi
    return buffer.getvalue()


def _palette(png: io.BytesIO) -> bytes:
    """The picture in 256 colors, a third of the size."""
    from PIL import Image

    found = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256).save(found, format="png", optimize=True)
    return found.getvalue()


__all__ = ["Drawing", "drawing"]
