"""The comparison with measurements as text: constants, agreement by group, and every point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dse.cost.check.fit import Agreement, Compared, agreement
from dse.cost.check.predict import UNITS
from dse.cost.roofline.constants import FITTED, Constants

BEGIN, END = "<!-- begin check -->", "<!-- end check -->"
"""Lines of a page between which the comparison stands."""


def lines(rows: Sequence[Compared], own: Constants) -> Iterator[str]:
    """Markdown: the constants, the agreement on held-out points by group and in all, and a table of all points."""
    yield "| constant | value | |"
    yield "|---|---|---|"
    for name in type(own).model_fields:
        yield f"| `{name}` | {getattr(own, name):.4g} | {'fitted' if name in FITTED else 'assumed'} |"
    yield ""
    held = [row for row in rows if not row.point.fit]
    yield "| held-out points | number | median error | rank correlation |"
    yield "|---|---|---|---|"
    for group in dict.fromkeys(row.point.group for row in rows):
        yield _agreement(group, agreement([row for row in held if row.point.group == group]))
    yield _agreement("all", agreement(held))
    yield ""
    yield "| point | predicted | measured | unit | error | |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        state = "fitted to" if row.point.fit else ("**misses**" if abs(row.error) > MISS else "")
        values = f"{row.predicted:.4g} | {row.point.value:.4g} | {UNITS[row.point.kind]}"
        yield f"| {row.point.name} | {values} | {100 * row.error:+.0f} % | {state} |"
    yield ""
    yield "Sources:"
    yield ""
    yield from (f"- {source}" for source in dict.fromkeys(row.point.source for row in rows))


MISS = 0.3
"""An error from which a held-out point is marked."""


def _agreement(name: str, own: Agreement) -> str:
    rank = "" if math.isnan(own.rank) else f"{own.rank:.3f}"
    return f"| {name} | {own.points} | {100 * own.error:.0f} % | {rank} |"


def replaced(page: str, text: str) -> str:
    """The page with ``text`` between its two marks. Raises ValueError where it lacks them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


__all__ = ["BEGIN", "END", "lines", "replaced"]
