"""The vector-Jacobian product of every combination of options against finite differences in float64.

With smooth stand-ins for Q and q whose derivative is the slope (tests/gradients/stairs.py), f is differentiable but for
isolated kinks that the data avoid, so ``Quantizer.vjp`` can be held against the function itself: all entries of the
Jacobian, off-diagonal ones included, within 1e-6 of its largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import UE5M3
from dse.numerics.techniques.conventions import Convention, Decode, Encode
from dse.numerics.techniques.statistics import GRADIENTS, AbsMax, HardSoft, Quest, SoftSoft, Statistic
from dse.numerics.techniques.tensor_scales import Current, Outer, TensorScale
from tests.gradients.finite import found_jacobian, measure_parts, operand, relative
from tests.gradients.stairs import PAIRS, smooth, stairs  # noqa: F401

TOLERANCE = 1e-6
STATISTICS: dict[str, Statistic] = {
    "absmax": AbsMax(),
    "hard_soft": HardSoft(3.0),
    "soft_soft": SoftSoft(3.0),
    "quest": Quest(),
    "quest centered": Quest(centered=True),
}
CONVENTIONS: dict[str, Convention] = {"decode": Decode(), "encode": Encode(), "divisor": Encode(divisor=True)}
TENSOR_SCALES: dict[str, TensorScale | None] = {
    "none": None,
    "current": Current(17.3),
    "outer": Outer(2, 17.3),
}
SHAPE = (3, 10)
"""Two tiles of 2 rows and three blocks of 4 columns, the last of each half empty."""
BASE = BlockQuantizer(scale=UE5M3, block=4, tile=2, constant=4.7, **smooth())

pytestmark = pytest.mark.usefixtures("stairs")


def combinations() -> Iterator[Any]:
    """Every one; those in which every two values meet are in ``make test``."""
    factors = (STATISTICS, PAIRS, CONVENTIONS, ("quantized", "unquantized"))
    for places in product(*(range(len(factor)) for factor in factors)):
        values = [list(factor)[place] for factor, place in zip(factors, places, strict=True)]
        yield pytest.param(*values, marks=[pytest.mark.exhaustive] * (sum(places) % 3 > 0))


@pytest.mark.parametrize(("statistic", "slope", "convention", "encode_with"), combinations())
def test_every_combination(statistic: str, slope: str, convention: str, encode_with: str) -> None:
    """... of tensor scale (none, current ignored and exact, outer) and scale gradient."""
    rule = replace(CONVENTIONS[convention], encode_with=encode_with)
    q = replace(BASE, statistic=STATISTICS[statistic], convention=rule, **smooth(slope, slope))
    for name, scale in TENSOR_SCALES.items():
        if scale is None and convention == "divisor":
            continue  # the divisor is the tensor scale's
        q = replace(q, tensor_scale=scale)
        x = operand(q, *SHAPE)
        parts = measure_parts(q, x)
        torch.testing.assert_close(q.dequantized(x), parts.value, rtol=1e-12, atol=1e-12)
        for gradient, through in product(GRADIENTS, ["ignore", "exact"] if name == "current" else ["ignore"]):
            option = Current(17.3, through) if name == "current" else scale
            error = relative(
                found_jacobian(replace(q, scale_gradient=gradient, tensor_scale=option), x),
                parts.expected(gradient, through),
            )
            assert error < TOLERANCE, (name, gradient, through, error)
