"""Points of figures that are configurations: drawn as collections, elements of their own in the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape

POINTS = "points-"
"""Begins the id of a collection of points; behind it, the numbers of their configurations."""
_BEGIN = re.compile(rf'<g id="{POINTS}([\d-]+)">')
_GROUP = re.compile(r"<g(?: [^>]*)?>|</g>")
_USE, _SHAPE = re.compile(r"<use [^>]*/>"), re.compile(r"<path [^>]*/>")


def points_id(numbers: Iterable[int]) -> str:
    """The id (``gid``) of a collection whose points are configurations of these numbers, in its order."""
    return POINTS + "-".join(map(str, numbers))


def with_points(text: str, title: Callable[[int], str] | None) -> str:
    """The SVG with each point of the collections as an element with its configuration's number and ``title``, which the
    keyboard reaches."""
    found, end = [], 0
    for begin in _BEGIN.finditer(text):
        close = _end(text, begin.start())
        found += [text[end : begin.start()], _marked(text[begin.end() : close], begin[1], title)]
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


def _marked(body: str, numbers: str, title: Callable[[int], str] | None) -> str:
    """Few points of a collection are paths, many are uses of one path."""
    own = iter(int(number) for number in numbers.split("-"))

    def point(shape: re.Match[str]) -> str:
        number = next(own)
        said = f"<title>{escape(title(number))}</title>" if title else ""
        return f'<g class="pt" data-c="{number}" tabindex="0">{said}{shape[0]}</g>'

    return f"<g>{(_USE if '<use ' in body else _SHAPE).sub(point, body)}</g>"


__all__ = ["POINTS", "points_id", "with_points"]
