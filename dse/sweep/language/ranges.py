"""Ranges: axes whose values a search draws, ``{log: [1e-4, 1e-2]}``, instead of a list.

Drawn decimals are rounded to four significant digits, so that a configuration has a short text and the same value
whichever way it is written; that is finer than any seed's noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import nearest
from dse.sweep.language.source import Location

KINDS = {
    "uniform": "decimals, evenly",
    "log": "decimals, evenly in their logarithm",
    "int": "whole numbers, evenly",
    "log_int": "whole numbers, evenly in their logarithm",
}
ENDS = {"min": 0, "low": 0, "max": 1, "high": 1}
"""Other words for the ends: ``{min: 1e-4, max: 1e-2, log: true}`` is ``{log: [1e-4, 1e-2]}``."""
PARTS = {"step": "distance of neighbours, counted from the low end", "levels": "how many values a grid search takes"}

_DIGITS, _MOST_LEVELS = 4, 1000


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    - ``kind``: one of KINDS; ``log`` and ``log_int`` need low > 0;
    - ``step``: 0, or the distance of neighbours from ``low`` on (not with the logarithmic kinds);
    - ``levels``: 0, or how many values a grid search takes.
    """

    kind: str
    low: float
    high: float
    step: float = 0
    levels: int = 0

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return self.kind in ("int", "log_int")

    @property
    def log(self) -> bool:
        """Whether they are even in their logarithm."""
        return self.kind in ("log", "log_int")

    def from_unit(self, u: float) -> float:
        """The number at the share ``u`` in [0, 1) of the range; every number there is has the same share.

        >>> Range("log", 1e-4, 1e-2).from_unit(0.5)
        0.001
        """
        if self.kind == "log_int":
            low, high = math.log(self.low), math.log(self.high + 1)
            return self.snap(math.floor(math.exp(low + u * (high - low))))
        if self.log:
            return self.snap(math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low))))
        step = self.step or (1 if self.whole else 0)
        if step:
            return self.snap(self.low + math.floor(u * (self._step_count(step) + 1)) * step)
        return self.snap(self.low + u * (self.high - self.low))

    def snap(self, number: float) -> float:
        """The nearest number of the range: an int where they are whole, else rounded to four significant digits."""
        number = min(max(number, self.low), self.high)
        if self.whole:
            step = int(self.step) or 1
            return int(self.low) + min(round((number - self.low) / step), self._step_count(step)) * step
        if self.step:
            index = min(round((number - self.low) / self.step), self._step_count(self.step))
            return float(f"{self.low + index * self.step:.12g}")
        rounded = float(f"{number:.{_DIGITS}g}")
        return min(max(rounded, self.low), self.high)

    def grid_points(self) -> tuple[float, ...]:
        """What a grid search takes: ``levels`` numbers, both ends among them, or every step; empty without either."""
        if self.levels == 1:
            return (self.from_unit(0.5),)
        if self.levels:
            a, b = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
            shares = [i / (self.levels - 1) for i in range(self.levels)]
            found = [self.snap(math.exp(a + u * (b - a)) if self.log else a + u * (b - a)) for u in shares]
            return tuple(dict.fromkeys(found))
        step = self.step or (1 if self.kind == "int" else 0)
        if not step or self._step_count(step) >= _MOST_LEVELS:
            return ()
        return tuple(self.snap(self.low + i * step) for i in range(self._step_count(step) + 1))

    def _step_count(self, step: float) -> int:
        if self.whole:
            return (int(self.high) - int(self.low)) // int(step)
        return math.floor((self.high - self.low) / step * (1 + 1e-12))


def read_range(at: Location, owner: str, raw: Mapping[str, Any]) -> Range:
    """``{log: [low, high], levels: n}`` as a Range. Raises UserError with the line of what does not fit."""
    kinds = [key for key in raw if key in KINDS]
    for key in raw:
        if key not in KINDS and key not in PARTS:
            raise (at / key).error(f"{owner}: a range has no {key!r}{nearest(key, [*KINDS, *PARTS])}")
    if len(kinds) != 1:
        raise at.error(f"{owner}: a range is one of {', '.join(f'{{{kind}: [low, high]}}' for kind in KINDS)}")
    kind, inside = kinds[0], at / kinds[0]
    ends = raw[kind]
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise inside.error(f"{owner}: {kind} is [low, high], two numbers, not {_short(ends)}")
    if kind in ("int", "log_int"):
        if not all(type(end) is int for end in ends):
            raise inside.error(f"{owner}: {kind} goes between whole numbers, not {_short(ends)}")
    else:
        ends = [float(end) for end in ends]
    low, high = ends
    if not low < high:
        raise inside.error(f"{owner}: {kind} goes from the lower end to the higher one, not {_short(ends)}")
    if not math.isfinite(float(high) - float(low)):
        raise inside.error(f"{owner}: {_short(ends)} is wider than a number can tell")
    if kind.startswith("log") and low <= 0:
        raise inside.error(f"{owner}: {kind} needs a low end above 0, not {low!r}")
    step, levels = raw.get("step", 0), raw.get("levels", 0)
    if "step" in raw:
        if kind.startswith("log"):
            raise (at / "step").error(f"{owner}: {kind} has no step; steps are even, and its numbers are not")
        if not _is_number(step) or not 0 < step <= high - low or (kind == "int" and type(step) is not int):
            what = "whole number" if kind == "int" else "number"
            raise (at / "step").error(f"{owner}: step is {step!r}; valid: a {what} above 0, up to {high - low:g}")
    if "levels" in raw and (type(levels) is not int or not 1 <= levels <= _MOST_LEVELS):
        raise (at / "levels").error(f"{owner}: levels is {levels!r}; valid: from 1 to {_MOST_LEVELS}")
    return Range(kind, low, high, step, levels)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
