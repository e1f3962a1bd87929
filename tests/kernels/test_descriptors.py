"""Products by tensor descriptors, in Triton's interpreter: the bits of the kernel that goes by pointers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interpreted import interpreted

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch
from dse.kernels import descriptors, matmul
from dse.kernels.epilogue import Epilogue
from dse.kernels.tilings import MatmulTile, Tiling
from dse.kernels.split import split

print("seed 5")
g = torch.Generator().manual_seed(5)
TILE = MatmulTile(32, 32, 32, 4, 2)
cases = (
    (2, 40, 72, 56, 1, False, torch.float32),
    (2, 40, 72, 80, 2, True, torch.bfloat16),
    (1, 1, 8, 16, 1, False, torch.bfloat16),
    (2, 33, 32, 40, 2, False, torch.float32),
    (2, 40, 43, 56, 1, False, torch.bfloat16),
)
for e, m, n, k, parts, turned, dtype in cases:
    x, y = (torch.randn(e, r, k, generator=g).bfloat16() for r in (m, n))
    first, second, bias = torch.rand(e, generator=g), torch.rand(e, generator=g), torch.randn(e, n, generator=g)
    if turned:
        x, y = x.mT.contiguous().mT, y.mT.contiguous().mT
    outs = []
    for programs, by_descriptors in ((0, False), (0, True), (1, True)):
        out = torch.full((e, m, n), torch.nan, dtype=dtype)
        epilogue = Epilogue.of(first, second, bias, out)
        assert all(map(descriptors.fits, (x, y)))
        matmul.launch(x, y, epilogue, out, Tiling(TILE, parts, programs), by_descriptors)
        outs.append(out)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    exact = x.double() @ y.double().mT * (first * second)[:, None, None] + bias[:, None]
    torch.testing.assert_close(outs[0].double(), exact, rtol=2**-8, atol=1e-2)

for e, m, n, k, parts, turned in ((2, 40, 44, 71, 1, False), (1, 34, 40, 80, 2, True)):
    x, y = (torch.randn(e, r, k, generator=g) for r in (m, n))
    if turned:
        x, y = x.mT.contiguous().mT, y.mT.contiguous().mT
    for t in (x, y):
        parted = split(t).unflatten(0, (3, e))
        assert torch.equal(parted.double().sum(0), t.double())
        assert parted.stride()[-2:].index(1) == t.stride()[-2:].index(1)
    bias, exact = torch.randn(e, n, generator=g), x.double() @ y.double().mT
    bound = x.double().abs() @ y.double().abs().mT + bias[:, None].abs()
    outs = []
    for programs, inside in ((0, False), (1, False), (0, True)):
        out = torch.full((e, m, n), torch.nan)
        matmul.launch(x, y, Epilogue.of(None, None, bias, out), out, Tiling(TILE, parts, programs, inside), True)
        assert ((out - exact - bias[:, None]).abs() <= 2**-22 * bound).all()
        outs.append(out)
    assert torch.equal(*outs[:2])
    values, alpha = x.bfloat16(), torch.rand(e, 1, 1, generator=g)
    assert torch.equal(split(values, alpha), split(values.float() * alpha))
    decoded = [torch.full((e, m, n), torch.nan) for _ in range(2)]
    for out, one, scale in ((decoded[0], values.float() * alpha, None), (decoded[1], values, alpha)):
        matmul.launch(one, y, Epilogue.of(None, None, None, out), out, Tiling(TILE, parts), True, scale)
    assert torch.equal(*decoded)
    assert torch.equal(matmul.contract(values, y, decode=alpha), matmul.contract(values.float() * alpha, y))
special = torch.tensor([[[3.4e38, -3.4028234e38, torch.inf, torch.nan, 2.0**-110, -0.0]]])
assert torch.equal(split(special).double().sum(0)[0].nan_to_num(7.0), special[0, 0].double().nan_to_num(7.0))

def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.bfloat16)

assert descriptors.fits(zeros(1, 4, 16)[..., 8:])
assert descriptors.fits(zeros(1, 1, 8).as_strided((1, 1, 8), (1, 3, 1)))
wide = zeros(1, 4, 16)
odds = (zeros(1, 1, 9), zeros(2, 1, 9), zeros(2, 4, 7), zeros(4, 8).expand(2, 4, 8), wide[..., ::2], wide[..., 1:9])
for odd in odds:
    assert not descriptors.fits(odd)
print("done")
"""


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    said = interpreted("-c", SCRIPT)
    print(said)
    assert said.endswith("done")
