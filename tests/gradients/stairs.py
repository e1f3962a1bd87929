"""Smooth stand-ins for a cast: functions whose derivative is what a slope says it is.

``cast`` rounds forward and multiplies by a slope backward, so its gradient can be measured only where forward *is* the
function that the slope belongs to. Each stair is such a function, written from the formula its paper gives for the
smoothed quantizer and from the format's list of values, not from the code under test; beyond the format's range it goes
on with slope 1 (``outside: pass``) or stays (``outside: zero``).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import dse.numerics.cast
from dse.numerics.formats import Format
from dse.numerics.ops import FREE, Ops
from dse.numerics.techniques.rounding import Rounding
from dse.numerics.techniques.slopes import DGE, Sigmoid, Slope, Spline, StraightThrough


class Interval(NamedTuple):
    """The neighbors of |u| on the grid: the lower one, the distance, and the offset of |u| as a share of it."""

    low: Tensor
    width: Tensor
    t: Tensor


def interval(u: Tensor, fmt: Format) -> Interval:
    """By search in the list of the format's values; |u| within its range."""
    grid = fmt.grid if fmt.grid[0] == 0 else torch.cat([torch.zeros(1, dtype=torch.float64), fmt.grid])
    magnitude = u.abs().clamp_max(fmt.max)
    index = torch.searchsorted(grid, magnitude, right=True).clamp_max(len(grid) - 1) - 1
    width = grid[index + 1] - grid[index]
    return Interval(grid[index], width, (magnitude - grid[index]) / width)


@dataclass(frozen=True)
class Stair(Rounding):
    """A stand-in for rounding that needs the value itself, not only its lattice coordinate."""

    outside: str = field(default="pass", kw_only=True)

    @abstractmethod
    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        """The smooth value at |u| <= max."""

    def kinks(self, t: Tensor) -> Tensor:
        """Distance of an offset ``t`` from the nearest point without a derivative, in intervals."""
        return torch.minimum(t, 1 - t)

    def value(self, u: Tensor, fmt: Format) -> Tensor:
        beyond = u if self.outside == "pass" else u.sign() * fmt.max
        return torch.where(u.abs() <= fmt.max, self.inside(u, fmt), beyond)

    def margin(self, u: Tensor, fmt: Format) -> Tensor:
        """Distance from the nearest kink, in intervals; zeros (padding) do not count."""
        found = torch.where(u.abs() < fmt.max, self.kinks(interval(u, fmt).t), (u.abs() - fmt.max) / fmt.max)
        return found.where(u != 0, 1.0)

    def span(self, u: Tensor, fmt: Format) -> Tensor:
        """Distance between kinks around |u|."""
        return interval(u, fmt).width

    def room(self, u: Tensor, fmt: Format) -> Tensor:
        """Distance from the nearest kink within the range, in spans."""
        return self.kinks(interval(u, fmt).t)

    def lattice(self, v: Tensor, bits: Tensor | None) -> Tensor:
        raise AssertionError("the fixture `stairs` replaces round_to_grid")

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class Line(Stair):
    """Q~(u) = u: what the straight-through estimator pretends."""

    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        return u.clone()

    def kinks(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class Wave(Stair):
    """Q~(u) = L + delta (t - a sin(2 pi t) / 2 pi): continuously differentiable, equal to Q on the grid."""

    a: float = 0.7

    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        low, width, t = interval(u, fmt)
        return (low + width * (t - self.a * torch.sin(2 * math.pi * t) / (2 * math.pi))).copysign(u)


@dataclass(frozen=True)
class WaveSlope(Slope):
    """1 - a cos(2 pi t), and 1 or 0 beyond the range."""

    a: float = 0.7
    outside: str = "pass"

    def __call__(self, u: Tensor, fmt: Format) -> Tensor:
        beyond = 1.0 if self.outside == "pass" else 0.0
        return torch.where(u.abs() <= fmt.max, 1 - self.a * torch.cos(2 * math.pi * interval(u, fmt).t), beyond)

    def ops(self) -> Ops:
        return FREE


@dataclass(frozen=True)
class PowerStair(Stair):
    """Q~(u) = L + (delta / 2)(1 + sign(w) |w|^(1/k)), w = 2 t - 1 (arXiv 2501.17116); or with w in units of X."""

    k: float = 5.0
    normalized: bool = True

    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        low, width, t = interval(u, fmt)
        w = (2 * t - 1) * (1 if self.normalized else width / 2)
        return (low + width / 2 * (1 + w.sign() * w.abs().pow(1 / self.k))) * u.sign()

    def kinks(self, t: Tensor) -> Tensor:
        return torch.minimum(super().kinks(t), (t - 0.5).abs() / 30)  # differences need room around the pole


@dataclass(frozen=True)
class SigmoidStair(Stair):
    """Q~(u) = L + delta sigma((12 / T)(t - 1/2)) (arXiv 2509.17791, Sec. 4)."""

    temperature: float = 0.5

    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        low, width, t = interval(u, fmt)
        return (low + width * torch.sigmoid(12 / self.temperature * (t - 0.5))).copysign(u)


@dataclass(frozen=True)
class SplineStair(Stair):
    """The straight lines between (x_j, Q(x_j)), x_j at ``points`` equal distances over [-max, max] or [0, max]."""

    points: int = 40

    def knots(self, fmt: Format) -> Tensor:
        return torch.linspace(-fmt.max if fmt.signed else 0.0, fmt.max, self.points, dtype=torch.float64)

    def inside(self, u: Tensor, fmt: Format) -> Tensor:
        x = self.knots(fmt)
        y = dse.numerics.cast.round_to_grid(x, fmt)
        j = (torch.searchsorted(x, u.detach().contiguous(), right=True) - 1).clamp(0, self.points - 2)
        return y[j] + (y[j + 1] - y[j]) * (u - x[j]) / (x[j + 1] - x[j])

    def span(self, u: Tensor, fmt: Format) -> Tensor:
        return (self.knots(fmt)[1] - self.knots(fmt)[0]).expand_as(u)

    def room(self, u: Tensor, fmt: Format) -> Tensor:
        return (u[..., None] - self.knots(fmt)).abs().amin(-1) / self.span(u, fmt)

    def margin(self, u: Tensor, fmt: Format) -> Tensor:
        return ((u[..., None] - self.knots(fmt)).abs().amin(-1) / u.abs().clamp_min(1e-9)).where(u != 0, 1.0)


PAIRS: dict[str, tuple[Stair, Slope]] = {
    "straight_through": (Line(), StraightThrough()),
    "wave": (Wave(), WaveSlope()),
    "dge": (PowerStair(), DGE(upper=math.inf)),
    "sigmoid": (SigmoidStair(), Sigmoid()),
    "spline": (SplineStair(), Spline()),
}
"""Slopes with the functions they are the derivatives of."""


def smooth(element: str = "wave", scale: str = "wave") -> dict[str, Any]:
    """Options of a BlockQuantizer that make its casts the stairs of these slopes."""
    (q, dq), (s, ds) = PAIRS[element], PAIRS[scale]
    return {"rounding": q, "slope": dq, "scale_rounding": s, "scale_slope": ds}


class _Margin:
    """Per member of a stack."""

    least: Tensor = torch.tensor(math.inf)


@contextmanager
def margins() -> Iterator[_Margin]:
    """Records the least distance from a kink, in intervals, of everything that is cast in its body: one per member."""
    record, inner = _Margin(), dse.numerics.cast.round_to_grid

    def recording(
        u: Tensor, fmt: Format, rounding: Any = dse.numerics.cast.NEAREST_EVEN, bits: Tensor | None = None
    ) -> Tensor:
        if isinstance(rounding, Stair):
            record.least = torch.minimum(record.least, rounding.margin(u, fmt).flatten(1).amin(1))
        return inner(u, fmt, rounding, bits)

    dse.numerics.cast.round_to_grid = recording
    try:
        yield record
    finally:
        dse.numerics.cast.round_to_grid = inner


@pytest.fixture
def stairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Casts with a Stair as rounding give the stair's value; all others round as they are."""
    inner = dse.numerics.cast.round_to_grid

    def cast(
        u: Tensor, fmt: Format, rounding: Any = dse.numerics.cast.NEAREST_EVEN, bits: Tensor | None = None
    ) -> Tensor:
        return rounding.value(u, fmt) if isinstance(rounding, Stair) else inner(u, fmt, rounding, bits)

    monkeypatch.setattr(dse.numerics.cast, "round_to_grid", cast)
