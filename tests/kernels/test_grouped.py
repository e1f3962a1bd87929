"""Products with an accumulation model, in Triton's interpreter: the bits of the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch
from dse.kernels import Grouping, grouped
from dse.numerics.matmul import finished, scaled
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.accumulations import Groups

print("seed 7")
g = torch.Generator().manual_seed(7)
for (m, n, k), how, wide, turned in (
    ((5, 70, 41), Groups(), True, False),
    ((5, 7, 41), Groups(size=16), True, True),
    ((5, 7, 41), Groups(size=16, lattice=1024), False, False),
    ((1, 3, 40), Groups(size=8, rounding="nearest_even", lattice=2), True, False),
    ((2, 3, 0), Groups(), True, False),
):
    x, y = (torch.randn(2, r, k, generator=g) * torch.exp2(9 * torch.randn(2, r, k, generator=g)) for r in (m, n))
    if x.numel() and wide:
        x[0, 0, :4] = torch.tensor([1e38, 1e38, 3e38, 1.0])
        y[0, 0, :4] = 1.0
        x[1, 0, 3], x[1, -1, 4] = torch.inf, torch.nan
    if not wide:
        x, y = x.bfloat16(), y.bfloat16()
    if turned:
        x, y = x.mT.contiguous().mT, y.mT.contiguous().mT
    first, second, bias = torch.rand(2, generator=g), torch.rand(2, 1, 1, generator=g), torch.randn(2, n, generator=g)
    kept = Grouping(how.size, how.rounding == "toward_zero", how.lattice)
    assert torch.equal(grouped(x, y, kept).nan_to_num(7.0), how.product(x, y).nan_to_num(7.0))
    product = scaled(how.product(x, y), Quantized(x, first[:, None, None]), Quantized(y, second))
    got = grouped(x, y, kept, (first, second), bias, torch.bfloat16)
    assert torch.equal(got.nan_to_num(7.0), finished(product, bias, torch.bfloat16).nan_to_num(7.0))
    got = grouped(x[1:], y[1:], kept, (None, second[1:]))
    assert torch.equal(got.nan_to_num(7.0), (how.product(x, y) * second)[1:].nan_to_num(7.0))
print("done")
"""


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    said = interpreted("-c", SCRIPT)
    print(said)
    assert said.endswith("done")
