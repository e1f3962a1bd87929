"""Techniques and their device code: what the general kernels of blocks are told about each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dse.numerics.block import BlockQuantizer
from dse.numerics.techniques.choices import Candidate
from dse.numerics.techniques.corrections import Correction, Eden
from dse.numerics.techniques.slopes import DGE, Sigmoid, Slope, Spline, StraightThrough
from dse.numerics.techniques.statistics import AbsMax, HardSoft, Quest, SoftSoft, Statistic
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer, TensorScale

ERRORS = {"mse": 1, "mae": 2, "max": 3}
LEVELS: dict[type[TensorScale], int] = {Current: 1, Delayed: 2, Outer: 3}


class SlopeCode(NamedTuple):
    """A slope's number in dse.kernels.device.slopes, and the technique's two."""

    kind: int
    first: float = 0.0
    second: float = 0.0


SLOPES: dict[type[Slope], Callable[[Any], SlopeCode]] = {
    StraightThrough: lambda s: SlopeCode(int(not s.is_identity)),
    DGE: lambda s: SlopeCode(2 if s.normalized else 3, 1 / s.k - 1, 1 / s.k),
    Sigmoid: lambda s: SlopeCode(4, 12 / s.temperature),
    Spline: lambda s: SlopeCode(5),
}
"""A technique's device code in the backward pass."""


class StatisticCode(NamedTuple):
    """A statistic's functions in dse.kernels.device.statistics, how many sums they take, and the technique's two."""

    terms: str
    value: str
    sums: int
    numbers: tuple[float, float] = (0.0, 0.0)


STATISTICS: dict[type[Statistic], Callable[[Any], StatisticCode]] = {
    AbsMax: lambda s: StatisticCode("absmax_terms", "absmax_value", 0),
    HardSoft: lambda s: StatisticCode("absmax_terms", "absmax_value", 0),
    SoftSoft: lambda s: StatisticCode("soft_terms", "soft_value", 1, (s.beta, 0.0)),
    Quest: lambda s: (
        StatisticCode("quest_terms", "centered_quest_value", 2, (s.clip, 0.0))
        if s.centered
        else StatisticCode("quest_terms", "quest_value", 1, (s.clip, 0.0))
    ),
}
"""A technique's device code."""


def statistic_code(q: BlockQuantizer) -> StatisticCode:
    """The device code of a quantizer's statistic."""
    return STATISTICS[type(q.statistic)](q.statistic)


class CorrectionCode(NamedTuple):
    """Of dse.kernels.device.corrections: elements of a row whose sums give one factor, random bits of a scale, and
    whether X and f(X) are divided by their block's scale first.
    """

    group: int
    bits: int
    elements: bool


CORRECTIONS: dict[type[Correction], Callable[[Any], CorrectionCode]] = {
    Eden: lambda c: CorrectionCode(c.group, c.bits, c.units == "elements"),
}
"""A technique's device code."""


def correction_code(q: BlockQuantizer) -> CorrectionCode | None:
    """The device code of a quantizer's correction, None: it has none."""
    return None if q.correction is None else CORRECTIONS[type(q.correction)](q.correction)


def undone(q: BlockQuantizer) -> float:
    """What decoded values are multiplied by in the epilogue besides tensor scales: 1 / gain, and a choice's unit."""
    return (1.0 if q.choice is None else q.choice.unit) / q.gain


def candidates(q: BlockQuantizer) -> tuple[Candidate, ...]:
    """The ways in which a block may be quantized: one without a choice."""
    c = q.element.max if q.constant is None else q.constant
    return (Candidate(q.element, c),) if q.choice is None else q.choice.candidates(q.element, c)
