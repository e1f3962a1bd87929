"""The Pareto front of two quantities that are both better when lower."""

from __future__ import annotations

import math
from collections.abc import Sequence


def front(x: Sequence[float], y: Sequence[float]) -> list[bool]:
    """Which points no other point beats: at most as high in both coordinates and lower in one.

    Equal points stand or fall together; a point with a NaN is never on the front. O(n log n).

    >>> front([0, 1, 2, 2], [5, 3, 4, 1])
    [True, True, False, True]
    """
    points = sorted(
        (a, b, i) for i, (a, b) in enumerate(zip(x, y, strict=True)) if not (math.isnan(a) or math.isnan(b))
    )
    member = [False] * len(x)
    best, best_x = math.inf, math.nan
    for a, b, i in points:
        if b < best or (b == best and a == best_x):
            member[i] = True
            best, best_x = b, a
    return member
