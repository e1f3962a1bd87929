"""What a slope is, and where on its grid a value lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from dse.errors import OptionError
from dse.numerics.formats import Format
from dse.numerics.grid import floor_power
from dse.numerics.ops import Ops
from dse.numerics.value_formats import ValueFormat, neighbors

OUTSIDE = ("pass", "zero")


class Slope(ABC):
    """A surrogate for dQ/du, a function of the point alone. ``arithmetic``: see ``dse.numerics.registry``."""

    arithmetic: ClassVar[int] = 1

    @property
    def is_identity(self) -> bool:
        """True when the slope is 1 everywhere, so that the backward pass can skip it."""
        return False

    @abstractmethod
    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        """Q'(u), the shape of ``u`` (scaled values, before the cast)."""

    @abstractmethod
    def ops(self) -> Ops:
        """Cost in the backward pass."""


class Place(NamedTuple):
    """The grid interval [L, L + delta] that holds |u|, and the offset t in [0, 1) of |u| in it."""

    t: Tensor
    delta: Tensor


def place(u: Tensor, fmt: Format) -> Place:
    """Where each value lies between its neighbors on the grid of ``fmt``."""
    if isinstance(fmt, ValueFormat):
        return Place(*neighbors(u, fmt))
    step = floor_power(u.clamp(-fmt.max, fmt.max), fmt.emin) * 2.0**-fmt.man
    v = u.abs() / step
    return Place(v - v.floor(), step)


def bounded(slope: Tensor, u: Tensor, fmt: Format, lower: float, upper: float, outside: str) -> Tensor:
    """The slope within [lower, upper] on the format's range, and 1 ('pass') or 0 ('zero') beyond it.

    The largest value itself, where exact scales put a block's maximum, has the slope of its interval under 'pass' (the
    published DGE) and 0 under 'zero' (QuEST's trust mask is |u| < max).
    """
    if outside == "pass":
        return slope.clamp(lower, upper).where(u.abs() <= fmt.max, 1.0)
    return slope.clamp(lower, upper).where(u.abs() < fmt.max, 0.0)


def check_bounds(name: str, lower: float, upper: float, outside: str) -> None:
    """Raises OptionError unless 0 <= lower <= upper and ``outside`` is a known word."""
    if not 0 <= lower <= upper:
        raise OptionError(f"{name} needs 0 <= lower <= upper, not {lower} and {upper}")
    if outside not in OUTSIDE:
        raise OptionError(f"{name}.outside must be 'pass' or 'zero', not {outside!r}")
