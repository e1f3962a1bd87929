"""Blocks of zeros, NaN, infinities, subnormals and the largest values: their results are defined, and pinned here."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0
from dse.numerics.techniques.rounding import AwayFromZero
from tests.quantizers import KINDS, MXFP4, NVFP4, every


def beside_a_one(q: BlockQuantizer, *head: float) -> tuple[Tensor, Tensor]:
    """f of a block that starts with ``head`` and of its neighbor, which holds a single 1 (both zero elsewhere)."""
    x = torch.zeros(1, 2 * q.block)
    x[0, : len(head)] = torch.tensor(head)
    x[0, q.block] = 1
    first, second = q.dequantized(x).view(2, q.block)
    return first, second


@every
def test_zero_blocks_stay_zero_with_their_signs(q: BlockQuantizer) -> None:
    first, second = beside_a_one(q, 0.0, -0.0)
    assert not first.any()
    assert first.signbit()[:2].tolist() == [False, True]
    assert abs(float(second[0]) - 1) < 0.04
    assert not q.dequantized(torch.zeros(4, q.block)).any()  # a tensor of nothing but zeros


@every
def test_nan_spreads_over_its_block_and_with_a_tensor_scale_over_the_operand(q: BlockQuantizer) -> None:
    first, second = beside_a_one(q, nan, 1.0)
    assert first.isnan().all()
    assert bool(second.isnan().all()) == (q.tensor_scale is not None)


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8", "fp32"])
@pytest.mark.parametrize("sign", [1, -1])
def test_infinite_blocks_whose_scale_reaches_far(name: str, sign: int) -> None:
    """The scale saturates and so does the element: max * max is beyond FP32. Everything beside it underflows."""
    first, second = beside_a_one(KINDS[name], sign * inf, 1.0)
    assert first.tolist() == [sign * inf, *[0.0] * (KINDS[name].block - 1)]
    assert abs(float(second[0]) - 1) < 0.04


@pytest.mark.parametrize("name", ["nvfp4", "ue4m3", "ue5m3"])
@pytest.mark.parametrize("sign", [1, -1])
def test_infinite_blocks_whose_scale_does_not(name: str, sign: int) -> None:
    """2688 or 368640 would hide the infinity: the block is NaN, with a tensor scale the operand, as with a NaN."""
    first, second = beside_a_one(KINDS[name], sign * inf, 1.0)
    assert first.isnan().all()
    if KINDS[name].tensor_scale is None:
        assert abs(float(second[0]) - 1) < 0.04
    else:
        assert second.isnan().all()


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("mxfp4", (1e-40, -5e-41), (0.0, -0.0)),  # the scale ends at 2^-127, its smallest element is 2^-128
        ("mxfp4", (2.0**-126, 2.0**-127), (2.0**-126, 2.0**-127)),
        ("mxfp8", (2.0**-130, 0.0), (2.0**-130, 0.0)),  # E4M3 reaches 2^-9 below the scale
        ("fp32", (1e-40, 0.0), (0.0, 0.0)),  # 1 / s_q is beyond FP32, so it is clamped and the block flushes
        ("fp32", (1.5e-37, 0.0), (1.5e-37, 0.0)),
        ("ue4m3", (6 * 2.0**-10, 0.0), (0.0, 0.0)),  # the scale ties to zero: the block flushes
        ("ue4m3", (6.1 * 2.0**-10, 0.0), (3 * 2.0**-9, 0.0)),  # the smallest scale; u = 3.05 -> 3, decoded 3 * 2^-9
        ("ue5m3", (6 * 2.0**-18, 0.0), (0.0, 0.0)),
        ("nvfp4", (1e-8, 0.0), (0.0, 0.0)),
    ],
)
def test_subnormal_blocks(name: str, head: tuple[float, float], expected: tuple[float, float]) -> None:
    first, second = beside_a_one(KINDS[name], *head)
    want = torch.tensor(expected)
    assert torch.allclose(first[:2], want, rtol=1e-6, atol=0)
    assert torch.equal(first[:2].signbit(), want.signbit())
    assert abs(float(second[0]) - 1) < 0.04


def test_the_largest_finite_values() -> None:
    """MXFP4 saturates 3.3e38 to 1.5 * 2^127; rounding a scale up may carry past FP32; NVFP4's tensor scale does not."""
    assert beside_a_one(MXFP4, 3.3e38)[0][0] == 1.5 * 2.0**127
    assert beside_a_one(BlockQuantizer(E2M1, E8M0, 32, scale_rounding=AwayFromZero()), 3.3e38)[0][0] == inf
    assert abs(beside_a_one(NVFP4, 3.3e38)[0][0] / 3.3e38 - 1) < 1e-6
