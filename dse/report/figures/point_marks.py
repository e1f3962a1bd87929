"""Marks of figures that say what they are: points that are configurations, and marks with texts of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape

POINTS = "points-"
"""Begins the id of a collection of points; behind it, the numbers of their configurations."""
_TITLED = "titled-"
"""Begins the id of marks with texts of their own; behind it, the texts' places among those of the figure."""
_BEGIN = re.compile(rf'<g id="({POINTS}|{_TITLED})([\d-]+)">')
_GROUP = re.compile(r"<g(?: [^>]*)?>|</g>")
_USE, _SHAPE = re.compile(r"<use [^>]*/>"), re.compile(r"<path [^>]*/>")


def points_id(numbers: Iterable[int]) -> str:
    """The id (``gid``) of a collection whose points are configurations of these numbers, in its order."""
    return POINTS + "-".join(map(str, numbers))


class MarkTitles:
    """The texts of a figure's marks that are no configurations, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def id(self, *texts: str) -> str:
        """The id (``gid``) of a line, which has one text, or of a collection with one for each of its points."""
        first = len(self.texts)
        self.texts += texts
        return _TITLED + "-".join(map(str, range(first, len(self.texts))))


def with_points(text: str, title: Callable[[int], str] | None, texts: Sequence[str] = ()) -> str:
    """The SVG with each marked shape as an element of its own, which the keyboard reaches: a point with its
    configuration's number and ``title``, a titled mark with its one of ``texts``."""
    found, end = [], 0
    for begin in _BEGIN.finditer(text):
        close = _end(text, begin.start())
        found += [text[end : begin.start()], _marked(text[begin.end() : close], begin[1], begin[2], title, texts)]
        end = close + len("</g>")
    return "".join([*found, text[end:]])


def _end(text: str, start: int) -> int:
    """Where the closing tag of the group that begins at ``start`` is."""
    depth = 0
    for tag in _GROUP.finditer(text, start):
        depth += -1 if tag[0] == "</g>" else 1
        if not depth:
            return tag.start()
    raise ValueError("a group of the SVG is not closed")


def _marked(body: str, kind: str, numbers: str, title: Callable[[int], str] | None, texts: Sequence[str]) -> str:
    """Few points of a collection are paths, many are uses of one path."""
    own = iter(int(number) for number in numbers.split("-"))

    def point(shape: re.Match[str]) -> str:
        number = next(own)
        if kind == _TITLED:
            return f'<g class="said" tabindex="0"><title>{escape(texts[number])}</title>{shape[0]}</g>'
        said = f"<title>{escape(title(number))}</title>" if title else ""
        return f'<g class="pt" data-c="{number}" tabindex="0">{said}{shape[0]}</g>'

    return f"<g>{(_USE if '<use ' in body else _SHAPE).sub(point, body)}</g>"


__all__ = ["POINTS", "MarkTitles", "points_id", "with_points"]
